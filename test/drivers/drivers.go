// Package drivers runs clients of other languages against a server: for tests of what stands
// between. What each does is a program beside this file, which takes the server from libpq's
// environment (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE):
//
//	session   does once what the driver can, says "done", and fails at the first surprise
//	loop      says "ready" and writes rows in transactions, each in one of its protocol's ways,
//	          until its input ends; then says how many. Any error is its end
//
// What each writes into written has its name. Those of Python are light, and run always. The heavy
// ones run where $NIGHTLY is set (scripts/test-setup --nightly installs them), or where $DRIVERS
// names some of them.
package drivers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A Driver is a program that uses one.
type Driver struct {
	Name string
	args []string
	env  []string
}

// heavy are how each is started; of those that are built, after that.
var heavy = map[string]func(t testing.TB, dir string) Driver{
	"lib/pq": databaseSQL,
	"pgx":    databaseSQL,
	"node-postgres": func(_ testing.TB, dir string) Driver {
		modules := filepath.Join(os.Getenv("HOWDAH_PEERS"), "drivers", "node_modules")
		return Driver{args: []string{"node", "--no-deprecation", filepath.Join(dir, "session.js")}, env: []string{"NODE_PATH=" + modules}}
	},
	"JDBC": func(t testing.TB, dir string) Driver {
		classes := t.TempDir()
		const jar = "/usr/share/java/postgresql.jar"
		run(t, exec.CommandContext(t.Context(), "javac", "-cp", jar, "-d", classes, filepath.Join(dir, "Session.java")))
		return Driver{args: []string{"java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jar + ":" + classes, "Session"}}
	},
}

// databaseSQL is the program of all drivers of Go, which reads in its environment which it is to use.
func databaseSQL(t testing.TB, dir string) Driver {
	program := filepath.Join(t.TempDir(), "sql")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir, build.Env = filepath.Join(dir, "sql"), append(os.Environ(), "CGO_ENABLED=0")
	run(t, build)
	return Driver{args: []string{program}}
}

// python is the one that scripts/test-setup installs drivers for.
const python = "/usr/bin/python3"

// Light gives those that cost little, as far as they are installed. psycopg2 has to be where
// PostgreSQL has to be, and psycopg 3 by night.
func Light(t testing.TB) (all []Driver) {
	t.Helper()
	for _, d := range []struct{ name, needed string }{{"psycopg2", "REQUIRE_PG"}, {"psycopg", "NIGHTLY"}} {
		switch err := exec.CommandContext(t.Context(), python, "-c", "import "+d.name).Run(); {
		case err == nil:
			all = append(all, Driver{Name: d.name, args: []string{python, filepath.Join(here(), d.name+"_session.py")}})
		case os.Getenv(d.needed) != "":
			t.Fatalf("%s is set, and there is no %s: scripts/test-setup installs it", d.needed, d.name)
		}
	}
	return all
}

// Heavy gives the others, or those of them that are asked for; one that can not be is the end of
// the test.
func Heavy(t testing.TB) (all []Driver) {
	t.Helper()
	named := os.Getenv("DRIVERS")
	for name, prepare := range heavy {
		if named == "" && os.Getenv("NIGHTLY") == "" || named != "" && !slices.Contains(strings.Split(named, ","), name) {
			continue
		}
		d := prepare(t, here())
		d.Name = name
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Driver) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// here is where this file lies.
func here() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v (scripts/test-setup --nightly installs what is missing)\n%s", cmd.Args, err, out)
	}
}

// Command is the program in one of its ways; env are variables of libpq.
func (d Driver) Command(ctx context.Context, way string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.args[0], append(slices.Clone(d.args[1:]), way)...)
	cmd.Env = slices.Concat(os.Environ(), d.env, []string{"DRIVER=" + d.Name}, env)
	return cmd
}
