package pooler

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"howdah/access/pool"
	"howdah/test/testpg"
)

var moving = flag.Bool("moving", false, "everything moves between three loops all the time, in every test")

// loops are several between which nothing moves by itself.
func loops(n int) Spread {
	return Spread{Loops: n, Spread: pool.Spread{Every: time.Hour, Full: 1}}
}

// move has the pair go to that loop, if it can now.
func (w *world) move(k pool.Key, to int) (moved bool) {
	d := w.door.room(k)
	d.loop.call(func() { moved = w.door.room(k) == d && d.hall.index != to && d.moves(k, w.door.rooms[to]) })
	return moved
}

// moves moves every pair about until the test ends, or stop is called.
func (w *world) moves(every time.Duration) (stop func() (times int)) {
	over, times := make(chan struct{}), &w.moved
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			pairs := map[pool.Key]bool{}
			if !w.pooler.everywhere(func(h *hall) {
				for _, r := range h.rooms[0].book.Rows(h.loop.now) {
					pairs[r.Key.Pair()] = true
				}
			}) {
				return
			}
			for k := range pairs {
				if w.move(k, rand.IntN(len(w.pooler.halls))) {
					times.Add(1)
				}
			}
		}
	})
	stop = sync.OnceValue(func() int { close(over); wg.Wait(); return int(times.Load()) })
	w.t.Cleanup(func() { stop() })
	return stop
}

// users are some more than demo.
func (w *world) users(n int) (all []string) {
	for i := range n {
		name := fmt.Sprintf("u%d", i)
		w.server.Query("CREATE ROLE " + name + " LOGIN PASSWORD '" + strings.ReplaceAll(testpg.Password, "'", "''") + "'")
		w.direct("GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + name)
		all = append(all, name)
	}
	return all
}

func onLoops(t testing.TB, n int, with func(*Door)) *world {
	t.Helper()
	w := &world{t: t, server: testpg.Start(t, testpg.Primary()), spread: loops(n)}
	w.open(with)
	return w
}

// While pools move between loops all the time, in the middle of transactions and messages, no client
// notices, and no limit over several pools is ever passed.
func TestPoolsMoveBetweenLoops(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("takes half a minute: NIGHTLY")
	}
	w := onLoops(t, 3, func(d *Door) {
		d.Settings.DefaultPoolSize, d.Settings.MaxDBConnections = 3, 5
		d.Admins = []string{"demo"}
	})
	if out, err := w.pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out, err)
	}
	all := w.users(3)
	stop := w.moves(3 * time.Millisecond)
	const enough = 3
	var most, count atomic.Int64
	watched := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			n := 0
			f, _ := w.door.facts()
			for _, d := range f.Databases { // of all loops at one moment: each of them is asked at another
				if d.Name == "demo" {
					n = d.Connections
				}
			}
			most.Store(max(most.Load(), int64(n)))
		}
	}()
	var wg sync.WaitGroup
	for _, user := range all {
		for _, protocol := range []string{"simple", "prepared"} {
			wg.Go(func() {
				for w.moved.Load() < enough && !t.Failed() { // nothing moves while a server is logged in to
					out, err := w.run("pgbench", "-h", "127.0.0.1", "-p", strconv.Itoa(w.addr.Port), "-U", user, "-n", "-S", "-M", protocol, "-c", "4", "-t", "500", "demo")
					if err != nil || !strings.Contains(out, "number of failed transactions: 0") {
						t.Errorf("%s %s: %v\n%s", user, protocol, err, out)
					}
					count.Add(4 * 500)
				}
			})
		}
	}
	wg.Wait()
	close(ended)
	<-watched
	t.Logf("%d moves, %d transactions", stop(), count.Load())
	if n := most.Load(); n > 5 || n < 4 {
		t.Errorf("%d servers at most, and the limit is 5", n)
	}
	got, err := w.run("psql", "-XAtqc", "SHOW STATS_TOTALS", w.conninfo("dbname=pgbouncer"))
	if n := column(got, "demo", 2); err != nil || n < int(count.Load()) {
		t.Errorf("%d transactions are counted: %v\n%s", n, err, got)
	}
	eventuallyNobody(t, w)
}

func eventuallyNobody(t *testing.T, w *world) {
	t.Helper()
	until(t, "nobody is left", func() bool {
		n, _ := w.pooler.inside()
		return n == 0
	})
	w.pooler.everywhere(func(h *hall) {
		if len(h.keys) > 0 || h.rooms[0].book.At("") > 0 {
			t.Errorf("loop %d: %d keys, %d clients are counted", h.index, len(h.keys), h.rooms[0].book.At(""))
		}
	})
}

// What is said on the console counts on all loops, and adds up over them; cancel requests find their
// session on whichever it is.
func TestOrdersReachAllLoops(t *testing.T) {
	w := onLoops(t, 2, func(d *Door) { d.Admins = []string{"demo"} })
	w.users(2)
	console := func(sql string) string {
		t.Helper()
		out, err := w.run("psql", "-XAtqc", sql, w.conninfo("dbname=pgbouncer"))
		if err != nil {
			t.Fatalf("%s: %s", sql, out)
		}
		return out
	}
	here, there := w.connect("user=u0"), w.connect("user=u1")
	for _, sql := range []string{"SET application_name = 'a'", "BEGIN", "SELECT 1"} { // it moves in the middle of a transaction
		if _, err := there.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	one(t, here, "SELECT 'seen'")
	u1 := pool.Key{Database: "demo", User: "u1"}
	until(t, "it moves", func() bool { return w.move(u1, 1) })
	if _, err := there.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if got := one(t, there, "SHOW application_name"); got != "a" {
		t.Errorf("application_name %q after a move", got)
	}
	later := w.connect("user=u1") // comes to where its pool is
	one(t, later, "SELECT 'seen'")
	if n := len(w.door.rooms[1].clientsOf()); n != 2 {
		t.Errorf("%d clients on the second loop, want 2", n)
	}
	pools := console("SHOW POOLS")
	if !strings.Contains(pools, "demo|u0|1|0|") || !strings.Contains(pools, "demo|u1|2|0|") || strings.Count(pools, "u1") != 1 {
		t.Errorf("pools:\n%s", pools)
	}
	if got := console("SHOW CLIENTS"); strings.Count(got, "\nC|")+1 < 3 {
		t.Errorf("clients:\n%s", got)
	}
	if got := console("SHOW DATABASES"); strings.Count(got, "demo|") < 1 || strings.Count(got, "\ndemo|") > 1 {
		t.Errorf("databases:\n%s", got)
	}
	// Cancel.
	ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	cancelled := make(chan error, 1)
	go func() { _, err := there.Exec(ctx, "SELECT pg_sleep(30)"); cancelled <- err }()
	until(t, "it sleeps", func() bool { return w.sleepers() == "1" })
	if err := there.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-cancelled; code(err) != "57014" {
		t.Errorf("cancelled: %v", err)
	}
	// PAUSE waits for a transaction on the other loop, and RESUME lets both go on.
	if _, err := there.Exec(ctx, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	paused := make(chan string, 1)
	go func() { paused <- console("PAUSE") }()
	until(t, "both loops pause", func() bool {
		all := true
		w.pooler.everywhere(func(h *hall) { all = all && h.rooms[0].book.Paused("") })
		return all
	})
	select {
	case <-paused:
		t.Error("a pause is complete while a transaction goes on")
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := there.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	<-paused
	if n := w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename IN ('u0', 'u1')"); n != "0" {
		t.Errorf("%s servers after a pause", n)
	}
	console("RESUME")
	one(t, here, "SELECT 'on'")
	one(t, there, "SELECT 'on'")
	console("SET query_timeout = 7")
	w.pooler.everywhere(func(h *hall) {
		if got := h.rooms[0].Settings.QueryTimeout; got != 7*time.Second {
			t.Errorf("loop %d: query_timeout %v", h.index, got)
		}
	})
	before := one(t, there, "SELECT pg_backend_pid()::text")
	console("RECONNECT")
	if after := one(t, there, "SELECT pg_backend_pid()::text"); after == before {
		t.Error("RECONNECT has not reached the second loop")
	}
	console("KILL demo")
	for name, conn := range map[string]interface {
		Ping(context.Context) error
	}{"here": here, "there": there, "later": later} {
		if conn.Ping(ctx) == nil {
			t.Errorf("%s lives after KILL", name)
		}
	}
	console("RESUME demo")
	eventuallyNobody(t, w)
}

func (d *room) clientsOf() (all []*client) {
	d.loop.call(func() {
		for _, c := range d.clients {
			if c != nil {
				all = append(all, c)
			}
		}
	})
	return all
}

// A hold counts on all loops: what is open is told of all of them together, nothing moves meanwhile, and
// clients that are handed to another process come from all.
func TestAHoldAndAHandoverOfSeveralLoops(t *testing.T) {
	w := onLoops(t, 2, nil)
	w.users(2)
	here, there := w.connect("user=u0"), w.connect("user=u1")
	one(t, here, "SELECT 'seen'")
	one(t, there, "SELECT 'seen'")
	u1 := pool.Key{Database: "demo", User: "u1"}
	until(t, "it moves", func() bool { return w.move(u1, 1) })
	for _, c := range []interface {
		Ping(context.Context) error
	}{here, there} {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{"BEGIN", "SELECT 1"} {
		if _, err := here.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		if _, err := there.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	open := make(chan int, 100)
	w.door.Follow(Course{Hold: true})
	w.door.Watch(func(any) bool { return true }, func(n int) { open <- n })
	if n := <-open; n != 2 {
		t.Fatalf("%d transactions go on, want 2", n)
	}
	if w.move(u1, 0) {
		t.Error("a pool moves during a hold")
	}
	if _, err := there.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if n := <-open; n != 1 {
		t.Fatalf("%d transactions go on, want 1", n)
	}
	held := make(chan error, 2)
	go func() { _, err := there.Exec(context.WithoutCancel(t.Context()), "SELECT 1"); held <- err }()
	until(t, "it waits", func() bool { return w.door.Load().Waiting == 1 })
	if _, err := here.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if n := <-open; n != 0 {
		t.Fatalf("%d transactions go on, want 0", n)
	}
	w.door.Watch(nil, nil)
	w.door.Follow(Course{})
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	until(t, "it moves again", func() bool { return w.move(u1, 0) })
	until(t, "and back", func() bool { return w.move(u1, 1) })
	next := w.successor(nil)
	if sent, ended := w.goTo(t.Context(), next); sent != 2 || ended != 0 {
		t.Fatalf("%d sent, %d ended; want 2 and 0", sent, ended)
	}
	one(t, here, "SELECT 'there'")
	one(t, there, "SELECT 'there'")
}

// A second loop opens when the first has much to do, and closes when there is little.
func TestALoopOpensAndCloses(t *testing.T) {
	w := &world{t: t, server: testpg.Start(t, testpg.Primary()), spread: Spread{Loops: 2, Spread: pool.Spread{Every: 400 * time.Millisecond, Full: 0.02, Slack: 0.01}}}
	w.open(nil)
	all := w.users(3)
	stay := w.connect("user=u0")
	one(t, stay, "SELECT 'seen'")
	away := func() (n int) {
		w.pooler.mu.Lock()
		defer w.pooler.mu.Unlock()
		return len(w.door.homes)
	}
	if away() != 0 {
		t.Fatal("a loop is open from the beginning")
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, user := range all {
		for range 2 {
			conn := w.connect("user=" + user)
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
						t.Errorf("%s: %v", user, err)
						return
					}
				}
			})
		}
	}
	until(t, "a second loop is open", func() bool { return away() > 0 })
	stop()
	wg.Wait()
	until(t, "it is closed again", func() bool { return away() == 0 })
	one(t, stay, "SELECT 'seen'")
}
