package pooler

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"howdah/access/pool"
)

// successor is a pooler of another process, before the same server.
func (w *world) successor(with func(*Door)) *world {
	w.t.Helper()
	next := &world{t: w.t, server: w.server, spread: w.spread}
	next.open(with)
	return next
}

// goTo hands the clients of w over to next as a process would: as text, and a descriptor.
func (w *world) goTo(ctx context.Context, next *world) (sent, ended int) {
	w.t.Helper()
	sent, ended, err := w.pooler.HandOver(ctx, func(s Session, fd int) error {
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		var came Session
		if err := json.Unmarshal(text, &came); err != nil {
			return err
		}
		other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return err
		}
		return next.pooler.Take(came, other)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sent, ended
}

func withTLS(t *testing.T) func(*Door) {
	config := tlsDoor(t)
	return func(d *Door) { d.TLS, d.Settings.DefaultPoolSize = config, 4 }
}

// Whoever is between two transactions goes over, with what it prepared and set; whoever is in
// one goes when that has ended. Over TLS 1.3 too, and twice.
func TestClientsGoOver(t *testing.T) {
	door := withTLS(t)
	first := newWorld(t, door)
	var all []*pgx.Conn
	for _, more := range []string{"sslmode=disable", "sslmode=require"} {
		for range 3 {
			conn := first.connect(more, "timezone=Asia/Tokyo")
			if _, err := conn.Prepare(t.Context(), "mine", "SELECT $1::text || current_setting('TimeZone')"); err != nil {
				t.Fatal(err)
			}
			all = append(all, conn)
		}
	}
	busy, err := all[5].Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := first
	for _, round := range []string{"first", "second"} {
		next := at.successor(door)
		done := make(chan [2]int)
		go func() {
			sent, ended := at.goTo(t.Context(), next)
			done <- [2]int{sent, ended}
		}()
		until(t, "they go over", func() bool { n := 0; n, _ = next.pooler.inside(); return n >= 5 })
		if busy != nil { // its server is where it was
			if _, err := busy.Exec(t.Context(), "SELECT 1"); err != nil {
				t.Fatal(err)
			}
			if err := busy.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			busy = nil
		}
		if n := <-done; n != [2]int{6, 0} {
			t.Fatalf("%s time: %d sent, %d ended; want 6 and 0", round, n[0], n[1])
		}
		for i, conn := range all {
			if got := one(t, conn, "mine", round); got != round+"Asia/Tokyo" {
				t.Errorf("client %d, %s time: %q", i, round, got)
			}
			if got := one(t, conn, "SELECT repeat('x', 100000)"); got != strings.Repeat("x", 100000) { // of many records
				t.Errorf("client %d, %s time: %d bytes", i, round, len(got))
			}
			if got := one(t, conn, "SELECT length($1::text)::text", strings.Repeat("x", 100000)); got != "100000" {
				t.Errorf("client %d, %s time: %s bytes", i, round, got)
			}
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		cancelled := make(chan error)
		go func() { _, err := all[4].Exec(ctx, "SELECT pg_sleep(30)"); cancelled <- err }()
		until(t, "it sleeps", func() bool { return next.sleepers() == "1" })
		key := cancelKey(append(binary.BigEndian.AppendUint32(nil, all[4].PgConn().PID()), all[4].PgConn().SecretKey()...))
		next.pooler.cancel(ctx, next.door, key)
		if err := <-cancelled; code(err) != "57014" {
			t.Errorf("cancelled, %s time: %v", round, err)
		}
		stop()
		until(t, "the servers of who served before are gone", func() bool {
			gone := true
			at.pooler.halls[0].loop.call(func() {
				for _, s := range at.door.rooms[0].servers {
					gone = gone && s == nil
				}
			})
			return gone
		})
		at = next
	}
}

// sleepers are how many sleep.
func (w *world) sleepers() string {
	return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
}

// pgbench goes on through it without an error, with and without TLS.
func TestPgbenchGoesOver(t *testing.T) {
	encrypted := withTLS(t)
	door := func(d *Door) {
		encrypted(d)
		d.Settings.DefaultPoolSize = 20 // with fewer than clients pgbench waits for ever (TestPgbench)
	}
	first := newWorld(t, door)
	if out, err := first.pgbench("-i", "-q"); err != nil {
		t.Fatal(out, err)
	}
	look := first.connect()
	for _, mode := range []string{"disable", "require"} {
		t.Setenv("PGSSLMODE", mode)
		if _, err := look.Exec(t.Context(), "TRUNCATE pgbench_history"); err != nil {
			t.Fatal(err)
		}
		at := first.successor(door)
		type result struct {
			out string
			err error
		}
		ended := make(chan result)
		go func() {
			out, err := at.pgbench("-n", "-N", "-M", "prepared", "-c", "8", "-T", "4")
			ended <- result{out, err}
		}()
		until(t, "it writes", func() bool {
			return one(t, look, "SELECT (count(*) >= 100)::text FROM pgbench_history") == "true"
		})
		for range 3 {
			next := at.successor(door)
			if sent, lost := at.goTo(t.Context(), next); sent == 0 || lost != 0 {
				t.Errorf("%s: %d sent, %d ended", mode, sent, lost)
			}
			at = next
		}
		r := <-ended
		if r.err != nil || !strings.Contains(r.out, "number of failed transactions: 0") {
			t.Errorf("%s: %v\n%s", mode, r.err, r.out)
		}
	}
}

// Whoever is busy for too long, holds a server for good, or has a TLS that can not be handed
// over, hears that it has to connect again.
func TestWhoStaysHearsWhy(t *testing.T) {
	door := withTLS(t)
	w := newWorld(t, func(d *Door) {
		door(d)
		d.TLS.MaxVersion = tls.VersionTLS12
		d.Databases = map[string]pool.Override{"postgres": {PoolMode: pool.Session}}
	})
	goes, busy, old, kept := w.connect(), w.connect(), w.connect("sslmode=require"), w.connect("dbname=postgres")
	tx, err := busy.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one(t, kept, "SELECT 'x'")
	next := w.successor(door)
	ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer stop()
	if sent, ended := w.goTo(ctx, next); sent != 1 || ended != 3 {
		t.Errorf("%d sent, %d ended; want 1 and 3", sent, ended)
	}
	one(t, goes, "SELECT 'x'")
	_, err = tx.Exec(t.Context(), "SELECT 1")
	for who, err := range map[string]error{"busy": err, "TLS 1.2": old.Ping(t.Context()), "session mode": kept.Ping(t.Context())} {
		if code(err) != adminShutdown {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// A successor that does not take them in costs nobody anything.
func TestWhoCanNotGoStays(t *testing.T) {
	w := newWorld(t, nil)
	conn := w.connect()
	boom := errors.New("boom")
	if _, _, err := w.pooler.HandOver(t.Context(), func(Session, int) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("it says %v", err)
	}
	one(t, conn, "SELECT 'x'")
}

// records are both ends of a connection whose handshake is over.
func records(t *testing.T, suite uint16, secretLen int) (a, b *record) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	half := func(c byte) SealedHalf { return SealedHalf{bytes.Repeat([]byte{c}, secretLen), 7} }
	end := func(fd int, in, out byte) *record {
		r, err := newRecord(&socket{fd: fd, loop: &loop{in: make([]byte, chunk)}}, Sealed{Suite: suite, In: half(in), Out: half(out)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return end(fds[0], 1, 2), end(fds[1], 2, 1)
}

func TestRecords(t *testing.T) {
	for suite, n := range map[uint16]int{tls.TLS_AES_128_GCM_SHA256: 32, tls.TLS_AES_256_GCM_SHA384: 48, tls.TLS_CHACHA20_POLY1305_SHA256: 32} {
		a, b := records(t, suite, n)
		buf := make([]byte, 100)
		hears := func(r *record, want string) {
			t.Helper()
			if n, err := r.Read(buf); err != nil || string(buf[:n]) != want {
				t.Fatalf("%#x: %q, %v; want %q", suite, buf[:n], err, want)
			}
		}
		_, _ = a.Write([]byte("one"))
		_, _ = a.Write([]byte("two"))
		hears(b, "one")
		hears(b, "two")
		if _, err := b.Read(buf); !errors.As(err, &wouldBlock{}) {
			t.Errorf("%#x: nothing to read: %v", suite, err)
		}
		a.send(typeHandshake, []byte{keyUpdate, 0, 0, 1, 1}) // it goes on under another key, and wants the same of the other
		if err := a.out.update(); err != nil {
			t.Fatal(err)
		}
		_, _ = a.Write([]byte("three"))
		hears(b, "three")
		_, _ = b.Write([]byte("four"))
		hears(a, "four")
		_ = a.CloseWrite()
		if _, err := b.Read(buf); err != io.EOF {
			t.Errorf("%#x: the end: %v", suite, err)
		}
		_, _ = b.Write([]byte("five"))
		hears(a, "five")
	}
}

// What was changed on its way ends the connection, and so does whatever is no record.
func TestBadRecords(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"a bit of what is sealed": func(b []byte) []byte { b[8] ^= 1; return b },
		"a bit of the seal":       func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"twice":                   func(b []byte) []byte { return append(b, b...) },
		"in clear":                func([]byte) []byte { return []byte{typeAlert, 3, 3, 0, 2, 1, 0} },
		"too long":                func([]byte) []byte { return []byte{typeData, 3, 3, 0xff, 0xff} },
		"nothing":                 func([]byte) []byte { return []byte{typeData, 3, 3, 0, 0} },
		"shorter than a seal":     func([]byte) []byte { return []byte{typeData, 3, 3, 0, 3, 1, 2, 3} },
	} {
		a, b := records(t, tls.TLS_AES_128_GCM_SHA256, 32)
		_, _ = a.Write([]byte("hello"))
		sent := make([]byte, 100)
		n, err := unix.Read(b.socket.fd, sent)
		if err != nil {
			t.Fatal(err)
		}
		b.raw = spoil(sent[:n:n])
		buf := make([]byte, 100)
		_, err = b.Read(buf)
		if name == "twice" {
			_, err = b.Read(buf)
		}
		if err != errRecord {
			t.Errorf("%s: %v", name, err)
		}
		if _, again := b.Read(buf); again != errRecord {
			t.Errorf("%s, and on: %v", name, again)
		}
	}
	a, b := records(t, tls.TLS_AES_128_GCM_SHA256, 32)
	for range 2 * idleMost {
		a.send(typeData, nil)
	}
	if _, err := b.Read(make([]byte, 1)); err != errRecord {
		t.Errorf("records without data: %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{typeData, 3, 3, 0, 1, 0})
	half := SealedHalf{Secret: bytes.Repeat([]byte{1}, 32)}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := newRecord(&socket{fd: -1, loop: &loop{in: make([]byte, 64)}}, Sealed{Suite: tls.TLS_AES_128_GCM_SHA256, In: half, Out: half, Raw: b})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("%d bytes without the key", n)
		}
	})
}
