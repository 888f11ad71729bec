package pooler

import (
	"context"
	"strconv"
	"strings"
	"testing"
)

func TestTheConsole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(d *Door) { small(d); d.Admins = []string{"demo"} })
	busy, idle := w.connect("application_name=busy"), w.connect()
	one(t, idle, "SELECT 'seen'")
	console := func(sql string) string {
		t.Helper()
		out, err := w.run("psql", "-XAtqc", sql, w.conninfo("dbname=pgbouncer"))
		if err != nil {
			t.Fatalf("%s: %s", sql, out)
		}
		return out
	}
	if got := console("SHOW VERSION"); !strings.HasPrefix(got, "PgBouncer 1.") {
		t.Errorf("version %q", got)
	}
	if _, err := busy.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if got := console("SHOW POOLS"); !strings.Contains(got, "demo|demo|2|0|0|0|1|0|0|0|0|0|0|0|0|transaction") {
		t.Errorf("pools:\n%s", got)
	}
	if got := console("SHOW CLIENTS"); !strings.Contains(got, "busy") || strings.Count(got, "\nC|")+1 < 2 {
		t.Errorf("clients:\n%s", got)
	}
	if got := console("SHOW STATS"); !strings.Contains(got, "demo|3|3|3|") {
		t.Errorf("stats:\n%s", got)
	}
	// A pause waits for the transaction, and holds who comes after it.
	paused := make(chan string, 1)
	go func() { paused <- console("PAUSE") }()
	until(t, "it pauses", func() bool {
		is := false
		w.pooler.halls[0].loop.call(func() { is = w.door.rooms[0].book.Paused("") })
		return is
	})
	if _, err := busy.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	<-paused
	if got := w.states(); got != "" {
		t.Errorf("servers %q", got)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := idle.Exec(context.WithoutCancel(t.Context()), "SELECT 1")
		answered <- err
	}()
	until(t, "it waits", func() bool { return strings.Contains(console("SHOW POOLS"), "demo|demo|1|1|") })
	console("RESUME")
	if err := <-answered; err != nil {
		t.Error(err)
	}
	w.orders(console)
	if out, err := w.run("psql", "-XAtqc", "RELOAD", w.conninfo("dbname=pgbouncer")); err == nil || !strings.Contains(out, "not supported") {
		t.Errorf("%s", out)
	}
	if out, err := w.run("psql", "-XAtqc", "SHOW POOLS", w.conninfo("dbname=pgbouncer", "password=wrong")); err == nil {
		t.Errorf("in without a proof: %s", out)
	}
}

// orders gives those of the console that change something.
func (w *world) orders(console func(string) string) {
	t := w.t
	t.Helper()
	fails := func(want, sql string, more ...string) {
		t.Helper()
		if out, err := w.run("psql", "-XAtqc", sql, w.conninfo(more...)); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s %v: %q, want %q", sql, more, out, want)
		}
	}
	// Times: what a query took, what its transaction did, what was waited for.
	slow, waits := w.in(), w.in()
	slow.ask(t, "BEGIN")
	slow.ask(t, "SELECT pg_sleep(0.2)")
	if _, err := waits.Write(query("SELECT 1")); err != nil {
		t.Fatal(err)
	}
	until(t, "it waits", func() bool { return strings.Contains(console("SHOW POOLS"), "|1|0|0|1|") })
	time0 := column(console("SHOW STATS_TOTALS"), "demo", 7)
	if clients := console("SHOW CLIENTS"); !strings.Contains(clients, "|waiting|") {
		t.Errorf("clients:\n%s", clients)
	}
	slow.ask(t, "COMMIT")
	if _, err := waits.until('Z'); err != nil {
		t.Fatal(err)
	}
	got := console("SHOW STATS_TOTALS")
	xact, query, wait := column(got, "demo", 6), column(got, "demo", 7), column(got, "demo", 8)
	if query < 200_000 || query > xact || xact < 200_000 || wait < 1 || time0 < 200_000 {
		t.Errorf("xact %d, query %d (%d before), wait %d µs", xact, query, time0, wait)
	}
	w.pooler.halls[0].loop.call(func() { w.door.rooms[0].turn(w.pooler.halls[0].loop.now + w.door.rooms[0].Settings.StatsPeriod) })
	if average := column(console("SHOW STATS_AVERAGES"), "demo", 7); average < 1 || average > query {
		t.Errorf("a query took %d µs on average, all %d", average, query)
	}
	if got := console("SHOW TOTALS"); !strings.Contains(got, "total_query_time|") {
		t.Errorf("totals:\n%s", got)
	}

	// Settings.
	console("SET default_pool_size = 7")
	if got := console("SHOW CONFIG"); !strings.Contains(got, "\ndefault_pool_size|7|20|yes\n") || !strings.Contains(got, "query_wait_timeout|120|120|yes") {
		t.Errorf("config:\n%s", got)
	}
	fails("SET failed", "SET default_pool_size = many", "dbname=pgbouncer")
	fails("SET failed", "SET listen_port = 1", "dbname=pgbouncer")

	// Who is in may stay when a database is disabled, and nobody else comes.
	console("DISABLE demo")
	fails(`database "demo" is disabled`, "SELECT 1")
	fails("SASL authentication failed", "SELECT 1", "password=wrong") // before it is told
	slow.ask(t, "SELECT 1")
	if got := console("SHOW DATABASES"); !strings.HasSuffix(line(got, "demo"), "|0|1") {
		t.Errorf("databases:\n%s", got)
	}
	console("ENABLE demo")
	if out, err := w.run("psql", "-XAtqc", "SELECT 1", w.conninfo()); out != "1" || err != nil {
		t.Error(out, err)
	}

	// KILL ends everybody, also in a transaction, and leaves a pause.
	slow.ask(t, "BEGIN")
	console("KILL demo")
	for _, k := range []*talker{slow, waits} {
		if _, err := k.until('Z'); err == nil || err.Error() != "08P01 database removed" {
			t.Errorf("killed: %v", err)
		}
	}
	until(t, "no server is left", func() bool { return w.states() == "" })
	if got := console("SHOW DATABASES"); !strings.HasSuffix(line(got, "demo"), "|1|0") {
		t.Errorf("databases:\n%s", got)
	}
	console("RESUME demo")
	console("RECONNECT")
	console("WAIT_CLOSE")
	if out, err := w.run("psql", "-XAtqc", "SELECT 1", w.conninfo()); out != "1" || err != nil {
		t.Error(out, err)
	}
	if got := console("SHOW USERS"); line(got, "demo") == "" {
		t.Errorf("users:\n%s", got)
	}
}

// line is the row that begins with name.
func line(rows, name string) string {
	for l := range strings.Lines(rows) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, name+"|") {
			return l
		}
	}
	return ""
}

// column is a number of that row.
func column(rows, name string, i int) int {
	fields := strings.Split(line(rows, name), "|")
	if i >= len(fields) {
		return -1
	}
	n, err := strconv.Atoi(fields[i])
	if err != nil {
		return -1
	}
	return n
}
