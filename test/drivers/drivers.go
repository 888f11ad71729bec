// Package drivers runs clients of other languages against a server: for tests of what stands
// between. What each does is a program beside this file, which takes the server from libpq's
// environment (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE):
//
//	session   does once what the driver can, says "done", and fails at the first surprise
//	loop      says "ready" and writes rows in transactions, each in one of its protocol's ways,
//	          until its input ends; then says how many. Any error is its end
//
// They are heavy, and run where $NIGHTLY is set (scripts/test-setup --nightly installs them), or
// where $DRIVERS names some of them.
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

// makes are how each is started; of those that are built, after that.
var makes = map[string]func(t testing.TB, dir string) Driver{
	"lib/pq": func(t testing.TB, dir string) Driver {
		program := filepath.Join(t.TempDir(), "pq")
		build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".")
		build.Dir, build.Env = filepath.Join(dir, "pq"), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
		run(t, build)
		return Driver{args: []string{program}}
	},
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

// Find gives those that are to be run; one that can not be is the end of the test.
func Find(t testing.TB) (all []Driver) {
	t.Helper()
	named := strings.Split(os.Getenv("DRIVERS"), ",")
	if os.Getenv("NIGHTLY") == "" && os.Getenv("DRIVERS") == "" {
		t.Skip("neither NIGHTLY nor DRIVERS is set")
	}
	_, file, _, _ := runtime.Caller(0)
	for name, prepare := range makes {
		if named[0] != "" && !slices.Contains(named, name) {
			continue
		}
		d := prepare(t, filepath.Dir(file))
		d.Name = name
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Driver) int { return strings.Compare(a.Name, b.Name) })
	return all
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
	cmd.Env = slices.Concat(os.Environ(), d.env, env)
	return cmd
}
