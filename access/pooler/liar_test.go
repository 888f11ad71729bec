package pooler

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"howdah/access/login"
	"howdah/access/pool"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
	"howdah/test/testpg"
)

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
