// Package compat asks the product with the incumbents' own clients: Patroni's
// patronictl, old and new, and HAProxy with the options that Pigsty gives it.
// scripts/getpeers fetches them; nothing of theirs is imitated here.
package compat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/postgres"
	"howdah/test/outside"
)

// program is howdah, as it is shipped.
var program string

func TestMain(m *testing.M) { os.Exit(outside.Main(m, &program, nil)) }

// peer is the path of an incumbent's program.
func peer(t *testing.T, suite, name string) string {
	t.Helper()
	dir := os.Getenv("HOWDAH_PEERS")
	if dir == "" {
		dir, _ = filepath.Abs("../../.peers")
	}
	path := filepath.Join(dir, suite, "bin", name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if os.Getenv("REQUIRE_PG") != "" && exec.Command("../../scripts/getpg", "--mirror").Run() == nil {
		t.Fatalf("there is no %s of Debian %s in %s: scripts/getpeers fetches it", name, suite, dir)
	}
	t.Skipf("there is no %s of Debian %s: scripts/getpeers fetches it", name, suite)
	return ""
}

// A world is a cluster in the hands of one test.
type world struct {
	*outside.Cluster
	t   *testing.T
	ctx context.Context
}

// demo gives a cluster on the loopback ground, where every member's address can be reached from here.
func demo(t *testing.T, patience time.Duration) *world {
	t.Helper()
	if len(postgres.FindAll()) == 0 {
		if os.Getenv("REQUIRE_PG") != "" {
			t.Fatal("REQUIRE_PG is set, and there is no PostgreSQL")
		}
		t.Skip("there is no PostgreSQL")
	}
	c, err := outside.New(program)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("not within %s", patience))
	w := &world{c, t, ctx}
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			w.logs()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Purge(ctx); err != nil {
			t.Errorf("purge: %v", err)
		}
	})
	w.check(c.Up(ctx, "--ground", "loopback"))
	w.whole()
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) whole() string {
	w.t.Helper()
	leader, err := w.Whole(w.ctx)
	w.check(err)
	return leader
}

func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	if err := outside.Until(w.ctx, so); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// other is a member that does not lead.
func (w *world) other() string {
	leader := w.whole()
	for _, n := range w.Nodes {
		if n.Member != leader {
			return n.Member
		}
	}
	return ""
}

func (w *world) logs() {
	files, _ := filepath.Glob(filepath.Join(w.Dir, "*", "*", "log", "agent.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		w.t.Logf("%s:\n%s", file, bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
	}
}

// run runs a program and returns what it says.
func (w *world) run(name string, args ...string) (string, error) {
	cmd := exec.CommandContext(w.ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), err
}
