package pooler

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"howdah/access/pool"
	"howdah/test/testpg"
)

// Sessions are spread over two servers by who comes, not by which connections are
// free; they stay where they are, and go on elsewhere when that is no place any more
// or does not answer.
func TestSessionsAreSpread(t *testing.T) {
	a := testpg.Start(t, testpg.Primary(), testpg.Named("a"))
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("b"))
	sockets := map[string]string{"a": a.Node.Paths.Sockets, "b": b.Node.Paths.Sockets}
	ports := map[string]int{"a": a.Node.Postgres.Port, "b": b.Node.Postgres.Port}
	var down, none atomic.Bool // a takes no new connections; is no place
	var refused atomic.Int64
	turn := 0 // the loop's
	w := &world{t: t, server: a}
	w.open(func(d *Door) {
		d.Outlive = true
		d.Dial = func(context.Context) (Backend, error) { return Backend{}, errors.New("everybody has a place") }
		d.DialAt = func(ctx context.Context, place string) (Backend, error) {
			if place == "a" && down.Load() {
				refused.Add(1)
				return Backend{}, errors.New("down")
			}
			back, err := Local(sockets[place], ports[place])(ctx)
			back.Tag, back.Reads = place, true
			return back, err
		}
		d.Place = func(_ netip.Addr, count func(string) int64) string {
			switch x, y := count("a"), count("b"); {
			case none.Load():
				return "b"
			case y < 0 || x >= 0 && x < y:
				return "a"
			case x < 0 || y < x:
				return "b"
			}
			turn++
			return []string{"b", "a"}[turn%2]
		}
	})
	where := func(conn *pgx.Conn) string {
		t.Helper()
		return map[string]string{"f": "a", "t": "b"}[one(t, conn, "SELECT left(pg_is_in_recovery()::text, 1)")]
	}
	at := func(place string) (n int) {
		w.pooler.halls[0].loop.call(func() { n = w.door.rooms[0].book.At(place) })
		return n
	}
	all := func(conns []*pgx.Conn) string {
		t.Helper()
		var places []string
		for _, c := range conns {
			places = append(places, where(c))
		}
		return strings.Join(places, "")
	}

	// One after another they take turns, although each leaves a connection behind.
	var seen strings.Builder
	for range 6 {
		conn := w.connect()
		seen.WriteString(where(conn))
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "it has left", func() bool { return at("a")+at("b") == 0 })
	}
	if got := seen.String(); got != "ababab" {
		t.Errorf("one after another they came to %s", got)
	}
	var rows []pool.Row
	w.pooler.halls[0].loop.call(func() { rows = w.door.rooms[0].book.Rows(w.pooler.halls[0].loop.now) })
	if len(rows) != 1 || rows[0].Key.Place != "" || rows[0].Servers[pool.Idle] != 2 {
		t.Errorf("the pools of both places are shown as %+v", rows)
	}

	// At once they are halves, and whoever has a place keeps it.
	var conns []*pgx.Conn
	for range 6 {
		conns = append(conns, w.connect())
	}
	first := all(conns)
	if strings.Count(first, "a") != 3 || at("a") != 3 || at("b") != 3 {
		t.Errorf("six came to %s", first)
	}
	for range 3 {
		if again := all(conns); again != first {
			t.Errorf("they were at %s, and are at %s", first, again)
		}
	}

	// In the middle of a transaction nobody moves; between two everybody does.
	inside := conns[strings.Index(first, "a")]
	run := func(sql string) {
		t.Helper()
		if _, err := inside.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	run("BEGIN")
	retire := func(place string) func(any) Verdict {
		return func(tag any) Verdict {
			if tag == place {
				return Retire
			}
			return Stay
		}
	}
	none.Store(true)
	w.door.Follow(Course{Places: []string{"b"}, Keep: retire("a")})
	if got := where(inside); got != "a" {
		t.Errorf("a transaction goes on at %s", got)
	}
	run("COMMIT")
	if got := all(conns); got != "bbbbbb" {
		t.Errorf("with one place left they are at %s", got)
	}

	// When it is back, whoever comes new evens it out.
	none.Store(false)
	w.door.Follow(Course{Places: []string{"a", "b"}})
	at("a") // by now it has been heard
	more := []*pgx.Conn{w.connect(), w.connect()}
	if got := all(more) + all(conns); got != "aabbbbbb" {
		t.Errorf("after it came back they are at %s", got)
	}

	// A place that is still said to be one, and does not answer.
	down.Store(true)
	w.door.Follow(Course{Places: []string{"a", "b"}, Keep: func(tag any) Verdict {
		if tag == "a" {
			return End
		}
		return Stay
	}})
	if got := all(more); got != "bb" || refused.Load() == 0 {
		t.Errorf("when it did not answer (%d times) they came to %s", refused.Load(), got)
	}
	if got := where(w.connect()); got != "b" {
		t.Errorf("who comes new is sent to %s, which has just not answered", got)
	}
}

// A query that is lost with its server is asked at another place.
func TestALostPlaceIsLeft(t *testing.T) {
	a := testpg.Start(t, testpg.Primary(), testpg.Named("a"))
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("b"))
	w := &world{t: t, server: a}
	w.open(func(d *Door) {
		d.Outlive = true
		d.DialAt = func(ctx context.Context, place string) (Backend, error) {
			n := a.Node
			if place == "b" {
				n = b.Node
			}
			back, err := Local(n.Paths.Sockets, n.Postgres.Port)(ctx)
			back.Tag, back.Reads = place, true
			return back, err
		}
		d.Place = func(_ netip.Addr, count func(string) int64) string {
			if count("b") < 0 {
				return "a"
			}
			return "b"
		}
	})
	conn := w.connect()
	got := make(chan string, 1)
	go func() {
		var text string
		err := conn.QueryRow(context.WithoutCancel(t.Context()), "SELECT pg_is_in_recovery()::text FROM (SELECT pg_sleep(CASE WHEN pg_is_in_recovery() THEN 60 ELSE 0 END)) x", pgx.QueryExecModeSimpleProtocol).Scan(&text)
		if err != nil {
			text = err.Error()
		}
		got <- text
	}()
	until(t, "it sleeps", func() bool {
		return b.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND wait_event = 'PgSleep'") == "1"
	})
	b.Query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'demo' AND wait_event = 'PgSleep'")
	if text := <-got; text != "false" {
		t.Errorf("the query that was lost is answered %q; want the other server's false", text)
	}
}
