package pooler

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/access/login"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
	"howdah/test/testpg"
)

// A journal is a log that a test can read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) count(part string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), part)
}

// watched is a world whose door's log can be read.
func watched(t *testing.T, with func(*Door)) (*world, *journal) {
	j := &journal{}
	w := newWorld(t, func(d *Door) {
		d.Log = slog.New(slog.NewTextHandler(j, nil))
		if with != nil {
			with(d)
		}
	})
	return w, j
}

// A burden is what the process carries.
type burden struct {
	heap       uint64
	goroutines int
	files      int
}

func carried() burden {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	return burden{m.HeapAlloc, runtime.NumGoroutine(), len(files)}
}

// eventually waits for what must come true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

// shed waits until the process carries no more than before.
func shed(t *testing.T, before burden) {
	t.Helper()
	var now burden
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now = carried()
		if now.heap < before.heap+6<<20 && now.goroutines <= before.goroutines+2 && now.files <= before.files+2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it still carries %+v, before %+v", now, before)
		}
		<-tick.C
	}
}

// raw is a connection without manners.
func (w *world) raw() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func startup(code uint32, fields ...string) []byte {
	var body []byte
	for _, f := range fields {
		body = append(append(body, f...), 0)
	}
	if len(fields) > 0 {
		body = append(body, 0)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

var hello = startup(3<<16, "user", "demo", "database", "demo")

// A talker reads messages from a connection.
type talker struct {
	net.Conn
	in  []byte
	key [8]byte // by which what it runs is cancelled
}

func (k *talker) next() (pgwire.Message, error) {
	for {
		m, n, err := pgwire.ReadMessage(k.in, 64<<20)
		if err != nil {
			return m, err
		}
		if n > 0 {
			m.Body = bytes.Clone(m.Body)
			k.in = k.in[n:]
			if m.Type == pgwire.BackendKeyData {
				copy(k.key[:], m.Body)
			}
			return m, nil
		}
		b := make([]byte, 8192)
		got, err := k.Read(b)
		if k.in = append(k.in, b[:got]...); got == 0 {
			return m, err
		}
	}
}

// until reads up to a message of a type, or the end.
func (k *talker) until(kind byte) (pgwire.Message, error) {
	for {
		m, err := k.next()
		if err != nil || m.Type == kind {
			return m, err
		}
		if m.Type == pgwire.ErrorResponse {
			r := pgwire.ReadReport(m.Body)
			return m, errors.New(r.Code + " " + r.Message)
		}
	}
}

// enter logs in over conn with what write does to each message.
func enter(conn net.Conn, c login.Credential, write func([]byte) error) (*talker, error) {
	k := &talker{Conn: conn}
	if err := write(hello); err != nil {
		return nil, err
	}
	random := make([]byte, scram.NonceSize)
	_, _ = rand.Read(random)
	client := login.NewClient("demo", c, random)
	for {
		m, err := k.next()
		if err != nil {
			return nil, err
		}
		out, v, err := client.Feed(m, nil)
		if err != nil {
			return nil, err
		}
		if v == login.Proven {
			_, err := k.until(pgwire.ReadyForQuery)
			return k, err
		}
		if len(out) == 0 {
			continue
		}
		if err := write(out); err != nil {
			return nil, err
		}
	}
}

// in is a client that is logged in, without manners from now on.
func (w *world) in() *talker {
	w.t.Helper()
	conn := w.raw()
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error { _, err := conn.Write(b); return err })
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// cancels asks at the other end of conn for what k runs to be cancelled, and waits until that
// has been dealt with.
func (k *talker) cancels(conn net.Conn) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := conn.Write(slices.Concat([]byte{0, 0, 0, 16}, startup(pgwire.CancelRequest)[4:], k.key[:])); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("a cancel request is answered: %v", err)
	}
	return nil
}

// ask runs a statement that has to succeed, and gives the last row's column.
func (k *talker) ask(t testing.TB, sql string) string {
	t.Helper()
	if _, err := k.Write(query(sql)); err != nil {
		t.Fatal(err)
	}
	answer := ""
	for {
		m, err := k.next()
		if err != nil || m.Type == pgwire.ErrorResponse {
			t.Fatalf("%s: %q, %v", sql, m.Body, err)
		}
		if m.Type == pgwire.DataRow {
			answer = string(m.Body[6:])
		}
		if m.Type == pgwire.ReadyForQuery {
			return answer
		}
	}
}

func query(sql string) []byte { return pgwire.AppendMessage(nil, pgwire.Query, sql, "\x00") }

// well checks that a decent client is served, soon.
func (w *world) well(when string) {
	w.t.Helper()
	began := time.Now()
	conn := w.raw()
	_ = conn.SetDeadline(began.Add(5 * time.Second))
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error { _, err := conn.Write(b); return err })
	if err != nil {
		w.t.Fatalf("%s: a decent client cannot log in: %v", when, err)
	}
	defer k.Close()
	if _, err := k.Write(query("SELECT 'well'")); err != nil {
		w.t.Fatalf("%s: %v", when, err)
	}
	if m, err := k.until(pgwire.DataRow); err != nil || !bytes.HasSuffix(m.Body, []byte("well")) {
		w.t.Fatalf("%s: a decent client is not served: %q, %v", when, m.Body, err)
	}
	if d := time.Since(began); d > 3*time.Second {
		w.t.Errorf("%s: a decent client waited %s", when, d)
	}
}
