package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"howdah/test/outside"
)

// A machine without PostgreSQL: its packages are covered
// for this command alone.
func TestPostgresMissing(t *testing.T) {
	root(t)
	w := own(t)
	script := "for d in /usr/lib/postgresql /usr/local/pgsql; do [ ! -d $d ] || mount -t tmpfs none $d; done; exec \"$0\" \"$@\""
	cmd := exec.CommandContext(w.ctx, "unshare", "-m", "sh", "-c", script, w.Program, "--dir", w.Dir, "up", "--yes")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("up without PostgreSQL succeeded\n%s", out)
	}
	w.said(string(out), "postgres-missing", "/usr/lib/postgresql")
	w.untouched()
}

func TestPostgresUnsupported(t *testing.T) {
	root(t)
	w := own(t)
	old := filepath.Join(t.TempDir(), "13", "bin")
	w.check(os.MkdirAll(old, 0o755))
	for _, program := range []string{"postgres", "initdb"} {
		w.check(os.WriteFile(filepath.Join(old, program), []byte("#!/bin/sh\necho '"+program+" (PostgreSQL) 13.23'\n"), 0o755))
	}
	w.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOWDAH_PG=" + filepath.Dir(filepath.Dir(old))}
	for _, dir := range []string{"/usr/lib/postgresql", "/usr/local/pgsql"} {
		if _, err := os.Stat(dir); err == nil {
			w.mount(dir, "")
		}
	}
	w.refused("postgres-unsupported", "14 to 18", "up", "--yes")
	w.untouched()
}

func TestPortTaken(t *testing.T) {
	w := own(t)
	for _, address := range []string{"127.10.10.12:5432", ":5432"} {
		l, err := new(net.ListenConfig).Listen(w.ctx, "tcp4", address)
		w.check(err)
		w.refused("port-taken", "pid "+strconv.Itoa(os.Getpid()), "up", "--yes")
		w.check(l.Close())
		w.untouched()
	}
	w.up()
	w.whole()
}

func TestDirectoryThatPostgresCannotEnter(t *testing.T) {
	root(t)
	w := own(t)
	w.check(os.Chmod(w.Dir, 0o700))
	closed := w.Dir
	w.Dir = filepath.Join(closed, "playground")
	w.refused("datadir-path", closed, "up", "--yes")
}

func TestLongDirectory(t *testing.T) {
	byNight(t)
	w := own(t)
	outer := w.Dir
	w.Dir = filepath.Join(outer, strings.Repeat("a-long-name/", 12), "here")
	w.up()
	w.whole()
}

// Another playground has the addresses: its store is no store of ours.
func TestAnotherPlaygroundAnswers(t *testing.T) {
	byNight(t)
	w := demo(t)
	w.howdah("down", "--yes")
	t.Cleanup(func() { w.upAgain() }) // when the other one is gone
	other, err := outside.New(howdah)
	w.check(err)
	t.Cleanup(func() { discard(other) })
	w.check(other.Up(w.ctx))
	w.refused("store-foreign", "another cluster answers", "list")
	w.refused("port-taken", "howdah (pid ", "up", "--yes")
}

func TestNodeFileBroken(t *testing.T) {
	w := demo(t)
	w.howdah("down", "--yes")
	file := filepath.Join(w.Nodes[1].Paths.Dir, "node.json")
	good, err := os.ReadFile(file)
	w.check(err)
	for _, bad := range []string{"", "{", `{"member": 1}`, strings.Replace(string(good), `"member"`, `"membre"`, 1)} {
		w.check(os.WriteFile(file, []byte(bad), 0o644))
		w.refused("node-file", file, "up", "--yes")
		if now, _ := os.ReadFile(file); string(now) != bad {
			t.Errorf("%s was changed to %q", file, now)
		}
	}
	w.check(os.WriteFile(file, good, 0o644))
	w.up()
	w.whole()
}

// root skips a test that only root can make.
func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// untouched checks that nothing was made.
func (w *world) untouched() {
	w.t.Helper()
	found, err := os.ReadDir(w.Dir)
	w.check(err)
	for _, f := range found {
		w.t.Errorf("%s was made", f.Name())
	}
}
