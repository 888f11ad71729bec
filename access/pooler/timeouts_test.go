package pooler

import (
	"bytes"
	"testing"
	"time"

	"howdah/access/pool"
	"howdah/pgwire"
)

// Each of PgBouncer's timeouts ends who has passed it, with its words, and nobody before.
func TestTimeouts(t *testing.T) {
	const ms = time.Millisecond
	ready := func(status byte) []byte {
		return append(appendMessage(nil, 'C', "SELECT 1"), 'Z', 0, 0, 0, 5, status)
	}
	type event struct {
		at     time.Duration
		server bool
		say    []byte
	}
	says := func(at time.Duration, b []byte) event { return event{at, false, b} }
	answers := func(at time.Duration, status byte) event { return event{at, true, ready(status)} }
	ask := appendMessage(nil, 'Q', "SELECT 1")
	for _, tt := range []struct {
		name    string
		setting string // is a second
		mode    pool.Mode
		events  []event
		fine    time.Duration // it goes on
		over    time.Duration // it has ended; 0: never
		want    string
	}{
		{"a long query", "query_timeout", pool.Transaction, []event{says(0, ask)}, 1000 * ms, 1001 * ms, "query timeout"},
		{"a short one", "query_timeout", pool.Transaction, []event{says(0, ask), answers(900*ms, 'I')}, 9000 * ms, 0, ""},
		{"a short one of a long transaction", "query_timeout", pool.Transaction, []event{says(0, ask), answers(900*ms, 'T')}, 9000 * ms, 0, ""},
		{"the next one of it", "query_timeout", pool.Transaction, []event{says(0, ask), answers(0, 'T'), says(5000*ms, ask)}, 6000 * ms, 6001 * ms, "query timeout"},
		{
			"data that goes on", "query_timeout", pool.Transaction,
			[]event{says(0, appendMessage(nil, 'Q', "COPY t FROM STDIN")), {0, true, append(appendHead(nil, 'G', 3), 0, 0, 0)}, says(900*ms, append(appendHead(nil, 'd', 2), "1\n"...))},
			1900 * ms, 1901 * ms, "query timeout",
		},
		{"idle in a transaction", "idle_transaction_timeout", pool.Transaction, []event{says(0, ask), answers(500*ms, 'T')}, 1500 * ms, 1501 * ms, "idle transaction timeout"},
		{"idle in a failed one, in session mode", "idle_transaction_timeout", pool.Session, []event{says(0, ask), answers(500*ms, 'E')}, 1500 * ms, 1501 * ms, "idle transaction timeout"},
		{"busy in it", "idle_transaction_timeout", pool.Transaction, []event{says(0, ask), answers(0, 'T'), says(900*ms, ask)}, 9000 * ms, 0, ""},
		{"idle without one", "idle_transaction_timeout", pool.Session, []event{says(0, ask), answers(0, 'I')}, 9000 * ms, 0, ""},
		{"a long transaction", "transaction_timeout", pool.Transaction, []event{says(0, ask), answers(0, 'T'), says(500*ms, ask), answers(600*ms, 'T')}, 1000 * ms, 1001 * ms, "transaction timeout"},
		{"a query alone", "transaction_timeout", pool.Transaction, []event{says(0, ask)}, 1000 * ms, 1001 * ms, "transaction timeout"},
		{"one after the other", "transaction_timeout", pool.Session, []event{says(0, ask), answers(500*ms, 'I'), says(600*ms, ask), answers(1500*ms, 'I')}, 9000 * ms, 0, ""},
		{"an idle client", "client_idle_timeout", pool.Transaction, []event{says(0, ask), answers(800*ms, 'I')}, 1800 * ms, 1801 * ms, "client_idle_timeout"},
		{"one with a server", "client_idle_timeout", pool.Transaction, []event{says(0, ask), answers(0, 'T')}, 9000 * ms, 0, ""},
		{"one with a server of its own", "client_idle_timeout", pool.Session, []event{says(0, ask), answers(0, 'I')}, 9000 * ms, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.mode)
			if err := b.d.Settings.Set(tt.setting, "1"); err != nil {
				t.Fatal(err)
			}
			l := b.d.loop
			look := func(at time.Duration) {
				l.now = at
				b.d.expire(at)
				l.finish()
				b.drain()
			}
			for _, e := range tt.events {
				look(e.at)
				if !e.server {
					b.c.last = e.at // as reading does
				}
				b.feed(e.server, e.say)
			}
			look(tt.fine)
			if b.c.hup {
				t.Fatalf("ended in time: %q", b.said[0])
			}
			if tt.over == 0 {
				return
			}
			look(tt.over)
			if !b.c.hup || !bytes.HasSuffix(b.said[0], appendNotice(nil, 'E', "FATAL", "08P01", tt.want)) {
				t.Errorf("%q, want %q", b.said[0], tt.want)
			}
			if held := tt.setting != "client_idle_timeout"; held != b.s.hup {
				t.Errorf("the server is closed: %v", b.s.hup)
			}
		})
	}
}

// A user's own time counts for her and for nobody else, also where all have one.
func TestTimesOfOneUser(t *testing.T) {
	second, none := time.Second, time.Duration(0)
	idle := append(appendMessage(nil, 'C', "SELECT 1"), 'Z', 0, 0, 0, 5, 'I')
	open := append(appendMessage(nil, 'C', "BEGIN"), 'Z', 0, 0, 0, 5, 'T')
	for _, tt := range []struct {
		name   string
		user   string
		own    pool.Override
		all    string // setting of all, a second
		answer []byte
		want   string
	}{
		{"a query", "u", pool.Override{QueryTimeout: &second}, "", nil, "query timeout"},
		{"another's query", "x", pool.Override{QueryTimeout: &second}, "", nil, ""},
		{"who has none where all have", "u", pool.Override{QueryTimeout: &none}, "query_timeout", nil, ""},
		{"idle in a transaction", "u", pool.Override{IdleTransactionTimeout: &second}, "", open, "idle transaction timeout"},
		{"a transaction", "u", pool.Override{TransactionTimeout: &second}, "", open, "transaction timeout"},
		{"idle", "u", pool.Override{ClientIdleTimeout: &second}, "", idle, "client_idle_timeout"},
		{"another is idle", "x", pool.Override{ClientIdleTimeout: &second}, "", idle, ""},
		{"idle, and may be", "u", pool.Override{ClientIdleTimeout: &none}, "client_idle_timeout", idle, ""},
	} {
		b := newBench(t, pool.Transaction)
		b.d.Users = map[string]pool.Override{tt.user: tt.own}
		set := b.d.Settings
		if tt.all != "" {
			if err := set.Set(tt.all, "1"); err != nil {
				t.Fatal(err)
			}
		}
		b.d.configure(set)
		b.feed(false, appendMessage(nil, 'Q', "SELECT 1"))
		b.feed(true, tt.answer)
		l := b.d.loop
		for _, at := range []time.Duration{900 * time.Millisecond, 1100 * time.Millisecond} {
			l.now = at
			b.d.expire(at)
			l.finish()
			b.drain()
			if at < second && b.c.hup {
				t.Errorf("%s: ended in time", tt.name)
			}
		}
		if b.c.hup != (tt.want != "") || !bytes.Contains(b.said[0], []byte(tt.want)) {
			t.Errorf("%s: ended %v, %q; want %q", tt.name, b.c.hup, b.said[0], tt.want)
		}
	}
}

// On a real server: the transaction that was cut is rolled back, and who says nothing
// does not stay.
func TestTimeoutsOfRealSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(d *Door) { d.Admins = []string{"demo"} })
	slow, idle, quiet := w.in(), w.in(), w.in()
	idle.ask(t, "CREATE TABLE t (n int)")
	idle.ask(t, "BEGIN")
	idle.ask(t, "INSERT INTO t VALUES (1)")
	quiet.ask(t, "SELECT 1")
	if _, err := slow.Write(query("SELECT pg_sleep(60)")); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"query_timeout = '0.1'", "idle_transaction_timeout TO '0.1'", "client_idle_timeout = '0.1'"} {
		if out, err := w.run("psql", "-XAtqc", "SET "+setting, w.conninfo("dbname=pgbouncer")); err != nil {
			t.Fatal(out)
		}
	}
	hears := func(k *talker, want string) {
		t.Helper()
		m, err := k.until(pgwire.ReadyForQuery)
		if err == nil || err.Error() != want || pgwire.ReadReport(m.Body).Severity != "FATAL" {
			t.Errorf("%q, %v; want %s", m.Body, err, want)
		}
		if _, err := k.next(); err == nil {
			t.Errorf("after %s it goes on", want)
		}
	}
	hears(slow, "08P01 query timeout")
	hears(idle, "08P01 idle transaction timeout")
	hears(quiet, "08P01 client_idle_timeout")
	until(t, "the transaction is rolled back", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL") == "0"
	})
	if n := w.direct("SELECT count(*) FROM t"); n != "0" {
		t.Errorf("%s rows", n)
	}
	w.pooler.halls[0].loop.call(func() {
		s := w.door.Settings
		if err := s.Set("client_login_timeout", "0.05"); err != nil {
			t.Error(err)
		}
		w.door.rooms[0].configure(s)
	})
	hears(&talker{Conn: w.raw()}, "08P01 client_login_timeout")
}
