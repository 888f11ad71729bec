package pooler

import (
	"context"
	"strings"
	"testing"
)

func TestTheConsole(t *testing.T) {
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
		w.pooler.loop.call(func() { is = w.door.book.Paused("") })
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
	if out, err := w.run("psql", "-XAtqc", "RELOAD", w.conninfo("dbname=pgbouncer")); err == nil || !strings.Contains(out, "not supported") {
		t.Errorf("%s", out)
	}
	if out, err := w.run("psql", "-XAtqc", "SHOW POOLS", w.conninfo("dbname=pgbouncer", "password=wrong")); err == nil {
		t.Errorf("in without a proof: %s", out)
	}
}
