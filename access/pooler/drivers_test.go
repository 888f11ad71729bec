package pooler

import (
	"strconv"
	"testing"

	"howdah/test/drivers"
	"howdah/test/testpg"
)

// Drivers of other languages do through a pool of one server what they do with a
// server of their own; the scripts say what.
func TestDrivers(t *testing.T) {
	t.Parallel()
	all := drivers.Light(t)
	if len(all) == 0 {
		t.Skip("neither psycopg2 nor psycopg is installed")
	}
	w := newWorld(t, small)
	for _, d := range all {
		w.drive(d)
	}
}

// Drivers of languages that are heavier: lib/pq, pgx, node-postgres and JDBC, each in its ways to
// prepare, pipeline, copy, walk and cancel, through a pool of two servers.
func TestHeavyDrivers(t *testing.T) {
	all := drivers.Heavy(t)
	if len(all) == 0 {
		t.Skip("neither NIGHTLY nor DRIVERS is set")
	}
	w := newWorld(t, func(d *Door) { d.Settings.DefaultPoolSize = 2 })
	for _, d := range all {
		w.drive(d)
	}
}

// drive has the driver do once what it can.
func (w *world) drive(d drivers.Driver) {
	w.t.Helper()
	cmd := d.Command(w.t.Context(), "session",
		"PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(w.addr.Port), "PGUSER=demo", "PGDATABASE=demo", "PGPASSWORD="+testpg.Password, "PGSSLMODE=disable")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "done\n" {
		w.t.Errorf("%s: %v\n%s", d.Name, err, out)
	}
}
