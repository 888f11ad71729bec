package pooler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/login"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
	"howdah/test/testpg"
)

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
