package pooler

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
)

// A cancel request that comes to another gateway than its session reaches it, and is
// passed on once.
func TestACancelFromElsewhere(t *testing.T) {
	t.Parallel()
	var here, there *world
	var passed atomic.Int64
	tell := func(to **world) func(context.Context, [8]byte) {
		return func(_ context.Context, key [8]byte) {
			passed.Add(1)
			if tag := binary.LittleEndian.Uint16(key[2:]); tag != 7 {
				t.Errorf("the key names %d", tag)
			}
			(*to).request(key)
		}
	}
	here = newWorld(t, func(d *Door) { small(d); d.Tag, d.Elsewhere = 7, tell(&there) })
	there = &world{t: t, server: here.server}
	there.open(func(d *Door) { d.Tag, d.Elsewhere = 8, tell(&here) })

	k := here.in()
	if _, err := k.Write(query("SELECT pg_sleep(60)")); err != nil {
		t.Fatal(err)
	}
	until(t, "it sleeps", func() bool {
		return here.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
	})
	var key cancelKey
	here.pooler.halls[0].loop.call(func() {
		for k := range here.pooler.halls[0].keys {
			key = k
		}
	})
	there.request(key)
	if _, err := k.until('Z'); err == nil || err.Error() != "57014 canceling statement due to user request" {
		t.Errorf("%v", err)
	}
	if n := passed.Load(); n != 1 {
		t.Errorf("it was passed on %d times", n)
	}
	// A key that nobody has goes to the other and no further.
	key[0]++
	there.request(key)
	if n := passed.Load(); n != 2 {
		t.Errorf("passed on %d times, want 2", n)
	}
	// Who is idle has nothing to cancel, and is not looked for.
	if _, err := k.until('Z'); err != nil {
		t.Fatal(err)
	}
	key[0]--
	here.request(key)
	k.ask(t, "SELECT 1")
	if n := passed.Load(); n != 2 {
		t.Errorf("passed on %d times, want 2", n)
	}
}

// request sends a cancel request, and waits until it has been dealt with.
func (w *world) request(key [8]byte) {
	conn, err := net.Dial("tcp", w.addr.String())
	if err != nil {
		w.t.Error(err)
		return
	}
	defer conn.Close()
	_, _ = conn.Write(append([]byte{0, 0, 0, 16, 4, 210, 22, 46}, key[:]...)) // 1234, 5678
	_, _ = conn.Read(make([]byte, 1))
}
