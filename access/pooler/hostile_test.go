package pooler

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/hba"
	"howdah/access/login"
	"howdah/access/pool"
	"howdah/pg"
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
	in []byte
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

// ask runs a statement that has to succeed, and gives the last row's column.
func (k *talker) ask(t *testing.T, sql string) string {
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

// What is no beginning of a session ends at once, with a reason where there is
// somebody to read it.
func TestGarbageBeforeASession(t *testing.T) {
	w, log := watched(t, nil)
	w.well("before")
	before := carried()
	many := []string{"user", "demo"}
	for i := range 500 {
		many = append(many, fmt.Sprint("x", i), "y")
	}
	for _, tt := range []struct {
		name, send, want string // want: part of the FATAL; "" is silence
	}{
		{"HTTP", "GET / HTTP/1.0\r\n\r\n", "bad packet header"},
		{"TLS at once, where there is none", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "bad packet header"},
		{"zeros", strings.Repeat("\x00", 64), "bad packet header"},
		{"ones", strings.Repeat("\xff", 1<<20), "bad packet header"},
		{"2^31-1 bytes", "\x7f\xff\xff\xff\x00\x03\x00\x00", "bad packet header"},
		{"a length of 7", "\x00\x00\x00\x07\x00\x03\x00", "bad packet header"},
		{"version 2", string(startup(2 << 16)), "old V2 protocol not supported"},
		{"version 9", string(startup(9<<16, "user", "demo")), "bad packet header"},
		{"more with the request for TLS", string(startup(pgwire.SSLRequest)) + string(hello), "received unencrypted data after SSL request"},
		{"more with the request for GSSAPI", string(startup(pgwire.GSSENCRequest)) + string(hello), "received unencrypted data after GSSAPI encryption request"},
		{"no user", string(startup(3<<16, "database", "demo")), "no username supplied"},
		{"an empty startup", string(startup(3 << 16)), "invalid startup packet layout"},
		{"a value that does not end", "\x00\x00\x00\x0d\x00\x03\x00\x00user\x00", "invalid startup packet layout"},
		{"bytes after the end", string(startup(3<<16, "user", "demo", "", "x")), "invalid startup packet layout"},
		{"500 parameters", string(startup(3<<16, many...)), "parameter"},
		{"a long name", string(startup(3<<16, "user", strings.Repeat("u", 200))), "username too long"},
		{"a query instead of a password", string(hello) + string(query("SELECT 1")), "bad packet"},
		{"a password of 2^31-1 bytes", string(hello) + "p\x7f\xff\xff\xff", "password too long"},
		{"a password of 3 bytes length", string(hello) + "p\x00\x00\x00\x03", "password too long"},
		{"another mechanism", string(hello) + string(pgwire.AppendMessage(nil, 'p', "PLAIN\x00\x00\x00\x00\x01x")), "client selected an invalid SASL authentication mechanism"},
		{"half of SASL", string(hello) + string(pgwire.AppendMessage(nil, 'p', "SCRAM-SHA-256\x00\x00\x00")), "SASL authentication failed"},
		{"a cancel request without a key", string(startup(pgwire.CancelRequest)), "bad packet header"},
		{"a cancel request for nobody", string(startup(pgwire.CancelRequest)[:0]) + "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01abcd", ""},
	} {
		conn := w.raw()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, tt.send) // it may be refused half-way
		k := &talker{Conn: conn}
		got := ""
		for {
			m, err := k.next()
			if err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the connection stays", tt.name)
				}
				break
			}
			if m.Type == 'N' { // the answer to a request for encryption is one byte, not a message
				continue
			}
			if m.Type == pgwire.ErrorResponse {
				r := pgwire.ReadReport(m.Body)
				got = r.Message
				if r.Severity != "FATAL" || r.Code != "08P01" {
					t.Errorf("%s: %+v", tt.name, r)
				}
			}
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if tt.want != "" && got != "" && log.count(got) == 0 && log.count(strings.ReplaceAll(got, `"`, `\"`)) == 0 {
			t.Errorf("%s: the log says nothing of %q", tt.name, got)
		}
		conn.Close()
	}
	w.well("after garbage")
	shed(t, before)
}

// Whoever sends a byte at a time is served like anybody.
func TestADrippingClientIsServed(t *testing.T) {
	w := newWorld(t, nil)
	conn := w.raw()
	drip := func(b []byte) error {
		for i := range b {
			if _, err := conn.Write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
	}
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), drip)
	if err != nil {
		t.Fatal(err)
	}
	messages := slices.Concat(
		query("SELECT 'dripped'"),
		pgwire.AppendMessage(nil, 'P', "name\x00SELECT $1::text\x00", "\x00\x00"), pgwire.AppendMessage(nil, 'B', "\x00name\x00\x00\x00\x00\x01\x00\x00\x00\x07dripped\x00\x00"),
		pgwire.AppendMessage(nil, 'E', "\x00\x00\x00\x00\x00"), pgwire.AppendMessage(nil, 'S'),
	)
	if err := drip(messages); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if m, err := k.until(pgwire.DataRow); err != nil || !bytes.HasSuffix(m.Body, []byte("dripped")) {
			t.Fatalf("%q, %v", m.Body, err)
		}
		if _, err := k.until(pgwire.ReadyForQuery); err != nil {
			t.Fatal(err)
		}
	}
}

// An answer that comes in the middle of the client's next message, one that is kept until it
// can be understood, does not take the server from her.
func TestAnAnswerInTheMiddleOfAMessage(t *testing.T) {
	w := newWorld(t, small)
	conn := w.raw()
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error { _, err := conn.Write(b); return err })
	if err != nil {
		t.Fatal(err)
	}
	parse := pgwire.AppendMessage(nil, 'P', "name\x00SELECT 'understood'\x00", "\x00\x00")
	for at := 1; at < len(parse); at++ {
		rest := slices.Concat(parse[at:],
			pgwire.AppendMessage(nil, 'B', "\x00name\x00\x00\x00\x00\x00\x00\x00"), pgwire.AppendMessage(nil, 'E', "\x00\x00\x00\x00\x00"),
			pgwire.AppendMessage(nil, 'C', "Sname\x00"), pgwire.AppendMessage(nil, 'S'))
		for _, part := range [][]byte{slices.Concat(query("SELECT 'asked'"), parse[:at]), rest} {
			if _, err := conn.Write(part); err != nil {
				t.Fatal(err)
			}
			if m, err := k.until(pgwire.ReadyForQuery); err != nil {
				t.Fatalf("after %d bytes: %q, %v", at, m.Body, err)
			}
		}
	}
}

// What a client did not finish saying is never run, however the pooler parts from
// the server: the bytes of its farewell must not become the end of a query.
func TestHalfAQueryNeverRuns(t *testing.T) {
	w := newWorld(t, nil)
	decent := w.in()
	ask := func(sql string) string { t.Helper(); return decent.ask(t, sql) }
	ask("CREATE TABLE said (n int)")
	for _, missing := range []int{1, 2, 3, 4, 5, 6} {
		k := w.in()
		whole := query(fmt.Sprintf("INSERT INTO said VALUES (%d) --------", missing))
		if _, err := k.Write(whole[:len(whole)-missing]); err != nil {
			t.Fatal(err)
		}
		ask("SELECT 1") // by then the loop has seen what there is of it
		k.Close()
	}
	eventually(t, "the pool is at rest", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND state <> 'idle'") == "0"
	})
	if got := ask("SELECT coalesce(string_agg(n::text, ' '), 'none') FROM said"); got != "none" {
		t.Errorf("queries that were never finished were run: %s", got)
	}
}

// Who never reads what she asked for costs no memory but the kernel's, and
// nobody else.
func TestAClientThatNeverReads(t *testing.T) {
	w := newWorld(t, nil)
	w.well("before")
	before := carried()
	var all []*talker
	for range 5 {
		k := w.in()
		if _, err := k.Write(query("SELECT repeat('x', 1000000) FROM generate_series(1, 2000)")); err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	eventually(t, "five servers are busy", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'") == "5"
	})
	if now := carried(); now.heap > before.heap+16<<20 {
		t.Errorf("2 GB that nobody reads are %d MB here", (now.heap-before.heap)>>20)
	}
	w.well("while five do not read")
	for _, k := range all {
		k.Close()
	}
	eventually(t, "the servers end too", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'") == "0"
	})
	shed(t, before)
}

// A long message passes through without being kept; a name or a statement that
// has to be kept may not be long.
func TestLongMessages(t *testing.T) {
	w := newWorld(t, nil)
	w.well("before")
	before := carried()
	var peak atomic.Uint64
	stream := func(k *talker, head []byte, size int) error {
		if _, err := k.Write(head); err != nil {
			return err
		}
		chunk := bytes.Repeat([]byte("-"), 1<<20)
		for left := size; left > 0; {
			n, err := k.Write(chunk[:min(left, len(chunk))])
			if err != nil {
				return err
			}
			left -= n
			if left%(8<<20) == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapAlloc))
			}
		}
		return nil
	}
	head := func(kind byte, size int) []byte { return binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+size)) }

	// A query of 64 MB, a comment but for its end.
	k := w.in()
	const size = 64 << 20
	if err := stream(k, append(head('Q', size), "/*"...), size-2-len("*/SELECT 'end'\x00")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write([]byte("*/SELECT 'end'\x00")); err != nil {
		t.Fatal(err)
	}
	if m, err := k.until('T'); err != nil {
		t.Fatalf("a query of 64 MB: %q, %v", m.Body, err)
	}
	if p := peak.Load(); p > before.heap+16<<20 {
		t.Errorf("a query of 64 MB took %d MB", (p-before.heap)>>20)
	}
	k.Close()

	for _, tt := range []struct {
		name string
		kind byte
		body string
		size int
	}{
		{"a statement's name of 200 MB", 'P', "", 200 << 20},
		{"a statement of 200 MB, by name", 'P', "name\x00", 200 << 20},
		{"a portal's name of 200 MB", 'B', "", 200 << 20},
		{"a description of 200 MB", 'D', "S", 200 << 20},
		{"a close of 200 MB", 'C', "S", 200 << 20},
	} {
		k := w.in()
		peak.Store(0)
		err := stream(k, append(head(tt.kind, tt.size), tt.body...), tt.size-len(tt.body))
		if err == nil {
			_, err = k.until(pgwire.ReadyForQuery)
		}
		if err == nil {
			t.Errorf("%s was taken", tt.name)
		}
		if p := peak.Load(); p > before.heap+48<<20 {
			t.Errorf("%s took %d MB", tt.name, (p-before.heap)>>20)
		}
		k.Close()
	}
	w.well("after long messages")
	shed(t, before)
}

// A length that no message has ends the session, whatever type it stands with.
func TestImpossibleLengths(t *testing.T) {
	w := newWorld(t, nil)
	w.well("before")
	before := carried()
	for _, kind := range []byte("QPBEDCSHFdcfp\x00Z") {
		for _, length := range []string{"\x7f\xff\xff\xff", "\xff\xff\xff\xff", "\x80\x00\x00\x00", "\x00\x00\x00\x03", "\x00\x00\x00\x00"} {
			k := w.in()
			_ = k.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = k.Write(append([]byte{kind}, length...))
			_, err := k.until(pgwire.ReadyForQuery)
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%q with length %x: %v", kind, length, err)
			}
			k.Close()
		}
	}
	w.well("after impossible lengths")
	shed(t, before)
}

// Thousands who connect and say nothing, or half of something, keep nobody out.
func TestHalfOpenHandshakes(t *testing.T) {
	w := newWorld(t, nil)
	w.well("before")
	before := carried()
	// More than are greeted at once, if there are descriptors for both ends.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := min(greetAtOnce+1000, (int(limit.Cur)-1000)/2)
	half := []string{"", "\x00\x00", string(hello[:20]), string(startup(pgwire.SSLRequest)), string(hello), string(hello) + "p\x00\x00\x00"}
	conns := make([]net.Conn, 0, n)
	for i := range n {
		conn, err := net.Dial("tcp", w.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, half[i%len(half)]); err != nil {
			t.Fatal(err)
		}
	}
	w.well("with thousands of half-open handshakes")
	now := carried()
	if each := (now.heap - before.heap) / uint64(n); each > 24<<10 {
		t.Errorf("each takes %d bytes of heap", each)
	}
	for _, c := range conns {
		c.Close()
	}
	clear(conns)
	shed(t, before)
	w.well("after")
}

// Ten thousand wrong passwords: each is refused, each is told to the log, none
// reaches a server, and nothing is left of them.
func TestTenThousandWrongPasswords(t *testing.T) {
	w, log := watched(t, nil)
	w.well("before")
	backends := func() string { return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'") }
	eventually(t, "the pool is at rest", func() bool { return backends() == "1" })
	before := carried()
	wrong := login.Credential{Kind: login.Verifier, Keys: &scram.Keys{}} // a guess without its derivation, which would be the guesser's work
	n, workers := int64(10000), 16
	if testing.Short() {
		n = 1000
	}
	var left, refused, others atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	var odd atomic.Value
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				conn, err := net.Dial("tcp", w.addr.String())
				if err != nil {
					odd.Store(err.Error())
					others.Add(1)
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				_, err = enter(conn, wrong, func(b []byte) error { _, err := conn.Write(b); return err })
				if r, ok := errors.AsType[*login.Rejection](err); ok && r.Message == "SASL authentication failed" && r.Code == "08P01" {
					refused.Add(1)
				} else {
					odd.Store(fmt.Sprint(err))
					others.Add(1)
				}
				conn.Close()
			}
		})
	}
	w.well("while passwords are guessed")
	wg.Wait()
	if refused.Load() != n {
		t.Errorf("%d of %d refused, %d otherwise: %v", refused.Load(), n, others.Load(), odd.Load())
	}
	if lines := log.count("wrong password"); lines == 0 || int64(lines) > n {
		t.Errorf("%d lines of wrong passwords in the log", lines)
	}
	if b := backends(); b != "1" && b != "2" {
		t.Errorf("%s servers were opened", b)
	}
	w.well("after")
	log.mu.Lock() // the log is the test's burden
	log.text.Reset()
	log.text = bytes.Buffer{}
	log.mu.Unlock()
	shed(t, before)
}

// tlsDoor gives a door a certificate of its own.
func tlsDoor(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12, NextProtos: []string{"postgresql"}}
}

// Trouble with TLS is the trouble of whoever makes it.
func TestTroubleWithTLS(t *testing.T) {
	w, log := watched(t, func(d *Door) { d.TLS = tlsDoor(t) })
	w.well("before")
	before := carried()
	asked := func() net.Conn {
		conn := w.raw()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(startup(pgwire.SSLRequest)); err != nil {
			t.Fatal(err)
		}
		yes := make([]byte, 1)
		if _, err := io.ReadFull(conn, yes); err != nil || yes[0] != 'S' {
			t.Fatalf("%q, %v", yes, err)
		}
		return conn
	}
	for name, do := range map[string]func(net.Conn){
		"garbage":                    func(c net.Conn) { _, _ = io.WriteString(c, strings.Repeat("garbage", 10000)) },
		"a startup in clear":         func(c net.Conn) { _, _ = c.Write(hello) },
		"a record of 64 kB":          func(c net.Conn) { _, _ = io.WriteString(c, "\x16\x03\x03\xff\xff"+strings.Repeat("x", 0xffff)) },
		"an alert":                   func(c net.Conn) { _, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28") },
		"a client that knows us not": func(c net.Conn) { _ = tls.Client(c, &tls.Config{ServerName: "elsewhere"}).Handshake() },
		"TLS 1.0": func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
		},
	} {
		conn := asked()
		do(conn)
		_, err := io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays", name)
		}
		conn.Close()
	}
	if log.count("TLS handshake failed") < 5 {
		t.Error("the log does not say what was wrong with TLS")
	}
	// TLS inside of TLS, and a cancel of nobody inside.
	conn := tls.Client(asked(), &tls.Config{InsecureSkipVerify: true})
	if _, err := conn.Write(startup(pgwire.SSLRequest)); err != nil {
		t.Fatal(err)
	}
	no := make([]byte, 1)
	if _, err := io.ReadFull(conn, no); err != nil || no[0] != 'N' {
		t.Errorf("TLS inside of TLS: %q, %v", no, err)
	}
	conn.Close()
	// Records of one byte, and no end of the session.
	whole := tls.Client(asked(), &tls.Config{InsecureSkipVerify: true})
	k, err := enter(whole, login.Parse(secret.Text(testpg.Password)), func(b []byte) error {
		for i := range b {
			if _, err := whole.Write(b[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("a record for each byte: %v", err)
	}
	if _, err := k.Write(query("SELECT 'encrypted'")); err != nil {
		t.Fatal(err)
	}
	if m, err := k.until(pgwire.DataRow); err != nil || !bytes.HasSuffix(m.Body, []byte("encrypted")) {
		t.Errorf("%q, %v", m.Body, err)
	}
	whole.NetConn().Close() // without a word
	w.well("after trouble with TLS")
	shed(t, before)
}

// A liar is a server that says what a test wants it to.
type liar struct {
	t      *testing.T
	l      net.Listener
	answer func(n int, q string) string // to the nth query of a connection; "close" ends it
	opened atomic.Int64
	wg     sync.WaitGroup
}

func lie(t *testing.T, answer func(n int, q string) string) *liar {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &liar{t: t, l: l, answer: answer}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.opened.Add(1)
			s.wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); s.wg.Wait() })
	return s
}

const end = "Z\x00\x00\x00\x05I"

func (s *liar) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 4096)
	if _, err := conn.Read(b); err != nil {
		return
	}
	welcome := pgwire.AppendAuth(nil, pgwire.AuthOK)
	welcome = pgwire.AppendStatus(welcome, "server_version", "15.0")
	welcome = pgwire.AppendMessage(welcome, pgwire.BackendKeyData, "\x00\x00\x00\x01keys")
	if _, err := conn.Write(pgwire.AppendReady(welcome, 'I')); err != nil {
		return
	}
	k := &talker{Conn: conn}
	for n := 0; ; n++ {
		m, err := k.next()
		if err != nil || m.Type == pgwire.Terminate {
			return
		}
		text := s.answer(n, strings.TrimSuffix(string(m.Body), "\x00"))
		if text == "close" {
			return
		}
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

// result is an answer of one row.
func result(value string) string {
	b := pgwire.AppendColumns(nil, []pgwire.Column{{Name: "v", Type: pgwire.Text}})
	b = pgwire.AppendRow(b, []pgwire.Value{{Text: value}})
	return string(pgwire.AppendReady(pgwire.AppendComplete(b, "SELECT 1"), 'I'))
}

// before makes a pooler in front of a liar, of one server for all.
func (s *liar) before(t *testing.T) *world {
	w := &world{t: t}
	secretText, err := scram.New(testpg.Password, make([]byte, scram.SaltSize), scram.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	d := &Door{Name: "test", Settings: poolOfOne(), ResetQuery: "DISCARD ALL", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	dial := func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", s.l.Addr().String())
	}
	d.Dial = func(ctx context.Context) (Backend, error) {
		c, err := dial(ctx)
		return Backend{Conn: c, Again: dial}, err
	}
	d.Secret = func(_ context.Context, user string) (string, bool, error) {
		return secretText.Text(), user == "demo", nil
	}
	w.door = d
	if w.pooler, err = New(d.Log, d); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().(*net.TCPAddr)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.pooler.Serve(ctx, l, d) })
	wg.Go(func() { _ = w.pooler.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return w
}

// Whatever a server says out of turn, the client who asked hears an answer or an
// end, and the next one hears nothing of it.
func TestServersThatAnswerOutOfOrder(t *testing.T) {
	row := string(pgwire.AppendRow(nil, []pgwire.Value{{Text: "of another"}}))
	for _, tt := range []struct {
		name, says string
		fails      bool // the client must not take it for an answer
	}{
		{"an honest answer", result("mine"), false},
		{"an end without an answer", end, false},
		{"an answer, and one more after it", result("mine") + result("of another"), false},
		{"an answer, and a row after it", result("mine") + row, false},
		{"an answer, and two ends", result("mine") + end, false},
		{"a type that there is not", "\x01\x00\x00\x00\x04" + end, true},
		{"2^31-1 bytes", "D\x7f\xff\xff\xff", true},
		{"a length of 3", "D\x00\x00\x00\x03" + end, true},
		{"a length of 2^31", "D\x80\x00\x00\x00" + end, true},
		{"an end of 9 bytes", "Z\x00\x00\x00\x09IIIII", true},
		{"an end without a status", "Z\x00\x00\x00\x04", true},
		{"an end in no known status", "Z\x00\x00\x00\x05?", true},
		{"a request for a password", "R\x00\x00\x00\x08\x00\x00\x00\x03" + end, true},
		{"a new key", "K\x00\x00\x00\x0c\x00\x00\x00\x02more" + end, true},
		{"answers to what was not asked", "1\x00\x00\x00\x042\x00\x00\x00\x043\x00\x00\x00\x04" + end, true},
		{"half an answer", result("mine")[:20] + "", true},
		{"nothing", "close", true},
		{"an error without fields", "E\x00\x00\x00\x05\x00" + end, true},
		{"an error without an end", "E\x00\x00\x00\x06Cx", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var lied atomic.Bool
			s := lie(t, func(_ int, q string) string {
				switch {
				case q == "SELECT 'lie'" && lied.CompareAndSwap(false, true):
					return tt.says
				case strings.HasPrefix(q, "SELECT"):
					return result("mine")
				}
				return string(pgwire.AppendComplete(nil, "SET")) + end
			})
			w := s.before(t)
			k := w.in()
			_ = k.SetDeadline(time.Now().Add(3 * time.Second))
			if _, err := k.Write(query("SELECT 'lie'")); err != nil {
				t.Fatal(err)
			}
			_, err := k.until(pgwire.ReadyForQuery)
			if tt.fails && err == nil {
				t.Error("the client heard an end as if all were well")
			}
			if !tt.fails && err != nil {
				t.Errorf("the client was cut off: %v", err)
			}
			k.Close()
			other := w.in()
			_ = other.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := other.Write(query("SELECT 'mine'")); err != nil {
				t.Fatal(err)
			}
			m, err := other.until(pgwire.DataRow)
			if err != nil || !bytes.HasSuffix(m.Body, []byte("mine")) {
				t.Fatalf("the next client hears %q, %v", m.Body, err)
			}
			if _, err := other.until(pgwire.ReadyForQuery); err != nil {
				t.Errorf("the next client: %v", err)
			}
			_ = other.SetDeadline(time.Now().Add(100 * time.Millisecond))
			if m, err := other.next(); err == nil {
				t.Errorf("the next client hears %q out of turn", m)
			}
		})
	}
}

// A server that lies while it is logged in to is not used, and the client is told.
func TestServersThatLieAtTheBeginning(t *testing.T) {
	// The liar's welcome is honest; here the listener speaks itself.
	for name, says := range map[string]string{
		"silence and an end":      "",
		"garbage":                 strings.Repeat("garbage", 1000),
		"2^31-1 bytes":            "R\x7f\xff\xff\xff",
		"it goes on speaking":     string(pgwire.AppendReady(pgwire.AppendAuth(nil, pgwire.AuthOK), 'I')) + result("before it was asked"),
		"ready before it is":      string(pgwire.AppendReady(nil, 'I')),
		"an error without fields": "E\x00\x00\x00\x05\x00",
		"SCRAM without a proof":   string(pgwire.AppendAuth(pgwire.AppendAuth(nil, pgwire.AuthSASL, scram.Mechanism+"\x00\x00"), pgwire.AuthOK)),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := &liar{t: t, l: l}
			s.wg.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
					_, _ = conn.Read(make([]byte, 1000))
					_, _ = io.WriteString(conn, says)
					_, _ = io.Copy(io.Discard, conn)
					conn.Close()
				}
			})
			t.Cleanup(func() { l.Close(); s.wg.Wait() })
			w := s.before(t)
			conn := w.raw()
			_ = conn.SetDeadline(time.Now().Add(4 * time.Second))
			k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error { _, err := conn.Write(b); return err })
			if err == nil {
				k.Close()
				t.Error("a client was let in to a server that is none")
			}
		})
	}
}

// poolOfOne has one server for everybody.
func poolOfOne() pool.Settings {
	s := pool.Defaults()
	s.DefaultPoolSize = 1
	return s
}

// Nobody reaches a database as a user whose secret she did not prove: neither by
// going on as if she had, nor with what another one said.
func TestOnlyAProofOpensADatabase(t *testing.T) {
	w := newWorld(t, nil)
	decent := w.in()
	run := func(sql string) string { t.Helper(); return decent.ask(t, sql) }
	run("CREATE TABLE reached (how text)")
	// What a real client said, byte for byte.
	conn := w.raw()
	var said [][]byte
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error {
		said = append(said, bytes.Clone(b))
		_, err := conn.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	random := make([]byte, scram.NonceSize)
	first := login.NewClient("demo", login.Parse("wrong"), random)
	offer := pgwire.AppendAuth(nil, pgwire.AuthSASL, scram.Mechanism+"\x00\x00")
	guess, _, err := first.Feed(pgwire.Message{Type: 'R', Body: offer[5:]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string][][]byte{
		"she does not log in":               {hello},
		"she skips the proof":               {hello, guess},
		"she repeats another's words":       said,
		"she repeats another's proof":       {hello, guess, said[len(said)-1]},
		"she says the server's words":       {hello, offer, pgwire.AppendReady(pgwire.AppendAuth(nil, pgwire.AuthOK), 'I')},
		"she sends an empty password":       {hello, pgwire.AppendMessage(nil, 'p', "\x00")},
		"she sends the password in clear":   {hello, pgwire.AppendMessage(nil, 'p', testpg.Password, "\x00")},
		"she sends the verifier":            {hello, pgwire.AppendMessage(nil, 'p', w.server.Query("SELECT rolpassword FROM pg_authid WHERE rolname = 'demo'"), "\x00")},
		"she begins twice":                  {hello, hello},
		"she begins again as another":       {hello, startup(3<<16, "user", "postgres", "database", "demo")},
		"she has no name":                   {startup(3<<16, "database", "demo")},
		"her name goes on after a zero":     {startup(3<<16, "user", "demo\x00database", "demo")},
		"her database is a name and more":   {startup(3<<16, "user", "nobody", "database", "demo user=demo")},
		"she is the superuser":              {startup(3<<16, "user", "postgres", "database", "demo"), guess},
		"she asks for replication":          {startup(3<<16, "user", "demo", "database", "demo", "replication", "true")},
		"she sets the session's user":       {startup(3<<16, "user", "nobody", "database", "demo", "options", "-c session_authorization=demo")},
		"she sets the role as a parameter":  {startup(3<<16, "user", "nobody", "database", "demo", "role", "demo")},
		"a parameter that ends a statement": {startup(3<<16, "user", "nobody", "database", "demo", "application_name", "';INSERT INTO reached VALUES ('parameter');--")},
	} {
		for _, pause := range []bool{false, true} { // all at once, or each after an answer
			conn := w.raw()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			k := &talker{Conn: conn}
			for _, b := range script {
				_, _ = k.Write(b)
				if pause {
					_, _ = k.next()
				}
			}
			_, _ = k.Write(query("INSERT INTO reached VALUES ('" + strings.ReplaceAll(name, "'", "''") + "')"))
			for {
				m, err := k.next()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the connection stays", name)
				}
				if err != nil {
					break
				}
				if m.Type == pgwire.ReadyForQuery || m.Type == pgwire.Authentication && bytes.Equal(m.Body, []byte{0, 0, 0, 0}) {
					t.Errorf("%s: she is in", name)
				}
			}
			k.Close()
		}
	}
	if got := run("SELECT coalesce(string_agg(how, ', '), 'nobody') FROM reached"); got != "nobody" {
		t.Errorf("the database was reached: %s", got)
	}
}

// Whoever is let in on trust uses what a proof gave, and does not take it away.
func TestTrustTakesNoKeysAway(t *testing.T) {
	rules, problems := hba.Parse("host demo demo 127.0.0.1/32 scram-sha-256\nhost postgres demo 127.0.0.1/32 trust\n", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	server := testpg.Start(t, testpg.Primary(), testpg.TCP())
	w := &world{t: t, server: server}
	w.open(func(d *Door) {
		d.Rules = rules
		again := func(ctx context.Context) (net.Conn, error) { // by TCP, where the server wants a proof
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", net.JoinHostPort(server.Node.Address, strconv.Itoa(server.Node.Postgres.Port)))
		}
		d.Dial = func(ctx context.Context) (Backend, error) {
			conn, err := again(ctx)
			return Backend{Conn: conn, Again: again}, err
		}
	})
	w.well("with a proof")
	for _, database := range []string{"postgres", "demo"} {
		server.Query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'demo'")
		eventually(t, "her servers are gone", func() bool {
			return server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'") == "0"
		})
		password := map[string]string{"postgres": "none is asked for", "demo": testpg.Password}[database]
		got, err := w.run("psql", "-XAtqc", "SELECT current_user", w.conninfo("dbname="+database, pg.DSN{{"password", password}}.String()))
		if err != nil || got != "demo" {
			t.Errorf("to %s: %q, %v", database, got, err)
		}
	}
}
