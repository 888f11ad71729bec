package pooler

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"howdah/access/login"
	"howdah/pgwire"
	"howdah/secret"
	"howdah/test/testpg"
)

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
