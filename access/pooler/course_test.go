package pooler

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"howdah/access/pool"
	"howdah/spec"
	"howdah/test/testpg"
)

// A change of the primary as a pool sees it: connections to the next one are made
// ahead of time, transactions end at the old one and begin at the new one, and no
// client hears of it.
func TestAPoolMovesToAnotherServer(t *testing.T) {
	var to atomic.Pointer[string] // where the door leads
	var dialed, risen, closed atomic.Int64
	var old, next string
	reach := func(ctx context.Context, member, sockets string, port int) (Backend, error) {
		dialed.Add(1)
		b, err := Local(sockets, port)(ctx)
		b.Tag = member
		return b, err
	}
	a := testpg.Start(t, testpg.Primary(), testpg.Named("a"))
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("b"))
	old, next = "a", "b"
	at := func(n *spec.Node) func(context.Context) (Backend, error) {
		return func(ctx context.Context) (Backend, error) {
			return reach(ctx, n.Member, n.Paths.Sockets, n.Postgres.Port)
		}
	}
	nodes := map[string]func(context.Context) (Backend, error){"a": at(&a.Node), "b": at(&b.Node)}
	w := &world{t: t, server: a}
	w.open(func(d *Door) {
		d.Settings.DefaultPoolSize = 4
		d.Outlive = true
		d.Dial = func(ctx context.Context) (Backend, error) {
			member := to.Load()
			if member == nil {
				return Backend{}, errors.New("nobody")
			}
			return nodes[*member](ctx)
		}
	})
	to.Store(&old)
	w.direct("CREATE TABLE moved (n int)")

	var clients sync.WaitGroup
	var rows atomic.Int64
	stop := make(chan struct{})
	for i := range 8 {
		conn := w.connect()
		mode := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}[i%3]
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				tx, err := conn.Begin(context.Background())
				if err == nil {
					_, err = tx.Exec(context.Background(), "INSERT INTO moved VALUES ($1)", mode, i)
				}
				if err == nil {
					err = tx.Commit(context.Background())
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				rows.Add(1)
			}
		})
	}
	defer func() { clients.Wait() }()
	defer close(stop)
	until(t, "a full pool", func() (full bool) {
		w.pooler.halls[0].loop.call(func() {
			n := 0
			for state, servers := range w.door.rooms[0].book.Rows(w.pooler.halls[0].loop.now)[0].Servers {
				if pool.State(state) != pool.Login {
					n += servers
				}
			}
			full = n == 4
		})
		return full && rows.Load() > 50
	})

	warm := make(chan struct{})
	w.door.Warm(func(ctx context.Context) (Backend, error) {
		back, err := nodes[next](ctx)
		back.Tag = nil
		back.Rise = func() (func() bool, any, func(), bool) {
			if *to.Load() != next {
				return nil, nil, nil, false
			}
			risen.Add(1)
			return func() bool { return true }, next, func() { closed.Add(1) }, true
		}
		return back, err
	}, func() { close(warm) })
	<-warm
	w.pooler.halls[0].loop.call(func() {
		if n := len(w.door.rooms[0].warm); n != 4 {
			t.Errorf("%d connections were made ahead of time", n)
		}
	})
	open := make(chan int, 100)
	w.door.Follow(Course{Hold: true})
	w.door.Watch(func(tag any) bool { return tag == old }, func(n int) { open <- n })
	for n := range open {
		if n == 0 {
			break
		}
	}
	before := rows.Load()
	if n := w.direct("SELECT count(*) FROM moved"); n != strconv.FormatInt(before, 10) {
		until(t, "all that was committed is told", func() bool { before = rows.Load(); return n == strconv.FormatInt(before, 10) })
	}
	if n := a.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND application_name <> 'past' AND state <> 'idle'"); n != "0" {
		t.Errorf("%s transactions go on", n)
	}
	there := &world{t: t, server: b}
	until(t, "the standby has it all", func() bool { return there.direct("SELECT count(*) FROM moved") == strconv.FormatInt(before, 10) })
	b.Query("SELECT pg_promote()")
	logins := dialed.Load()
	to.Store(&next)
	w.door.Follow(Course{Keep: func(tag any) Verdict {
		if tag == old {
			return End
		}
		return Stay
	}})
	until(t, "rows at the other", func() bool { return rows.Load() > before+50 })
	if n := dialed.Load() - logins; n != 0 {
		t.Errorf("%d logins, and %d connections were there", n, risen.Load())
	}
	if n := a.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND application_name <> 'past'"); n != "0" {
		t.Errorf("%s connections to the old primary", n)
	}
	if n := w.direct("SELECT count(*) FROM moved"); n != strconv.FormatInt(before, 10) {
		t.Errorf("%s rows at the old primary, and %d when nothing went on there", n, before)
	}
}

// A hold that comes to nothing costs nobody a connection.
func TestAHoldIsTakenBack(t *testing.T) {
	w := newWorld(t, small)
	conn := w.connect()
	pid := one(t, conn, "SELECT pg_backend_pid()::text")
	w.door.Follow(Course{Hold: true})
	got := make(chan string, 1)
	go func() {
		var v string
		_ = conn.QueryRow(context.Background(), "SELECT pg_backend_pid()::text").Scan(&v)
		got <- v
	}()
	until(t, "it waits", func() (waits bool) {
		w.pooler.halls[0].loop.call(func() { waits = w.door.rooms[0].book.Rows(w.pooler.halls[0].loop.now)[0].Waiting == 1 })
		return waits
	})
	w.door.Follow(Course{})
	if v := <-got; v != pid {
		t.Errorf("server %s, want %s", v, pid)
	}
}

// A login under way goes on whatever is said of the service, as long as the server that it leads to
// is one; when it is none any more, the next one begins elsewhere.
func TestALoginGoesOnWhereItLeads(t *testing.T) {
	type dial struct {
		to  string
		ctx context.Context
	}
	var to atomic.Pointer[string]
	lead := func(member string) { to.Store(&member) }
	lead("a")
	began := make(chan dial, 8)
	slow := make(chan struct{}) // who chose c says so when this is closed
	w := newWorld(t, func(d *Door) {
		d.Dial = func(ctx context.Context) (Backend, error) {
			member := *to.Load()
			if member == "c" {
				began <- dial{member, ctx}
				<-slow
			}
			Aim(ctx, member)
			if member != "c" {
				began <- dial{member, ctx}
			}
			<-ctx.Done()
			return Backend{}, ctx.Err()
		}
	})
	config, err := pgx.ParseConfig(w.conninfo())
	if err != nil {
		t.Fatal(err)
	}
	config.Password = testpg.Password
	ctx, stop := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		if conn, err := pgx.ConnectConfig(ctx, config); err == nil {
			_ = conn.Close(context.Background())
		}
	}()
	defer func() { stop(); <-left }()
	only := func(members ...string) func(any) Verdict {
		return func(tag any) Verdict {
			if slices.Contains(members, tag.(string)) {
				return Stay
			}
			return End
		}
	}
	follow := func(c Course) {
		w.door.Follow(c)
		w.pooler.halls[0].loop.call(func() {}) // by now it has been heard
	}
	goesOn := func(d dial, why string) {
		t.Helper()
		if d.ctx.Err() != nil {
			t.Errorf("the login to %s ended: %s", d.to, why)
		}
	}
	ended := func(d dial) {
		t.Helper()
		select {
		case <-d.ctx.Done():
		case <-time.After(time.Minute):
			t.Fatalf("the login to %s goes on", d.to)
		}
	}
	first := <-began
	follow(Course{Keep: only("a", "b")})
	goesOn(first, "its server is still one")
	follow(Course{Keep: only("a"), Hold: true})
	goesOn(first, "clients are held")
	follow(Course{})
	goesOn(first, "everything stays")
	lead("b")
	follow(Course{Keep: only("b")})
	ended(first)
	second := <-began
	if second.to != "b" {
		t.Errorf("the next one leads to %s", second.to)
	}
	lead("c")
	follow(Course{Keep: only("c")})
	ended(second)
	third := <-began
	lead("b")
	follow(Course{Keep: only("b")}) // before the door knows where that one leads
	goesOn(third, "nobody knows where it leads")
	close(slow)
	ended(third)
	fourth := <-began
	w.pooler.halls[0].loop.call(func() {})
	goesOn(fourth, "it leads where it should")
}
