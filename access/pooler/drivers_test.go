package pooler

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"howdah/test/drivers"
	"howdah/test/testpg"
)

// Drivers of other languages do through a pool of one server what they do with a
// server of their own; the scripts say what. Those that are not installed are left
// out (scripts/test-setup installs psycopg2).
func TestDrivers(t *testing.T) {
	t.Parallel()
	var scripts []string
	for module, script := range map[string]string{"psycopg2": "testdata/psycopg2_session.py", "psycopg": "testdata/psycopg_session.py"} {
		if exec.Command("/usr/bin/python3", "-c", "import "+module).Run() == nil {
			scripts = append(scripts, script)
		} else if module == "psycopg2" && os.Getenv("REQUIRE_PG") != "" {
			t.Fatal("there is no psycopg2: scripts/test-setup installs it")
		}
	}
	if len(scripts) == 0 {
		t.Skip("neither psycopg2 nor psycopg is installed")
	}
	w := newWorld(t, small)
	for _, script := range scripts {
		cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", script, w.conninfo())
		cmd.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "done\n" {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

// Drivers of languages that are heavier: lib/pq, node-postgres and JDBC, each in its ways to
// prepare, pipeline, copy, walk and cancel, through a pool of two servers.
func TestHeavyDrivers(t *testing.T) {
	all := drivers.Find(t)
	w := newWorld(t, func(d *Door) { d.Settings.DefaultPoolSize = 2 })
	for _, d := range all {
		t.Run(d.Name, func(t *testing.T) {
			cmd := d.Command(t.Context(), "session",
				"PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(w.addr.Port), "PGUSER=demo", "PGDATABASE=demo", "PGPASSWORD="+testpg.Password)
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "done\n" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
