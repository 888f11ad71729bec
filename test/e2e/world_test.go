// Package e2e tests the program as it is shipped: it is built once, started
// as a person starts it, broken as machines break, and judged by what it
// prints and by the rows that it keeps.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/postgres"
	"howdah/spec"
	"howdah/test/outside"
)

var fences = flag.Int("fences", 2, "how often an agent is kept from coming back")

// forTest is what a test has in all. No test judges by it: on a busy machine
// everything takes longer.
const forTest = 4 * time.Minute

// howdah is the program under test.
var howdah string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(outside.Main(m, &howdah, func() {
		if common != nil {
			discard(common)
		}
	}))
}

// common is the cluster that tests share.
var common *outside.Cluster

// A world is a cluster in the hands of one test, which ends when it errs.
type world struct {
	*outside.Cluster
	t     *testing.T
	ctx   context.Context
	fired map[string]bool // alerts that were seen to fire
}

// demo gives the shared cluster, whole, as it is by default: commits wait for one
// of two replicas, and both count. A test that fails takes it along.
func demo(t *testing.T) *world {
	t.Helper()
	w := &world{Cluster: common, t: t}
	if common == nil {
		w = empty(t)
		w.up()
		common = w.Cluster
	}
	w.begin()
	t.Cleanup(func() {
		if t.Failed() {
			w.logs()
			discard(common)
			common = nil
		}
	})
	w.whole()
	w.voters(len(w.Nodes) - 1)
	return w
}

// own gives a cluster of its own, not started, that ends with the test.
func own(t *testing.T) *world {
	t.Helper()
	if common != nil { // one at a time: they would have the same addresses
		discard(common)
		common = nil
	}
	w := empty(t)
	dir := w.Dir // a test may move below it
	t.Cleanup(func() {
		if t.Failed() {
			w.logs()
		}
		discard(w.Cluster)
		os.RemoveAll(dir)
	})
	return w
}

func empty(t *testing.T) *world {
	t.Helper()
	if len(postgres.FindAll()) == 0 {
		if os.Getenv("REQUIRE_PG") != "" {
			t.Fatal("REQUIRE_PG is set, and there is no PostgreSQL")
		}
		t.Skip("there is no PostgreSQL")
	}
	c, err := outside.New(howdah)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Cluster: c, t: t}
	w.begin()
	return w
}

// byDay says that there is no time for what is tried at night besides.
func byDay() bool { return os.Getenv("NIGHTLY") == "" }

// byNight leaves a test to the night: what it tries is rare, or tried by others in part.
func byNight(t *testing.T) {
	t.Helper()
	if byDay() {
		t.Skip("takes longer than there is time by day: NIGHTLY=1")
	}
}

func (w *world) begin() {
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeoutCause(w.t.Context(), forTest, fmt.Errorf("not within %s", forTest))
	w.t.Cleanup(cancel)
}

func discard(c *outside.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Purge(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "purge:", err)
	}
}

// logs prints the end of every log.
func (w *world) logs() {
	files, _ := filepath.Glob(filepath.Join(w.Dir, "*", "*", "log", "*.log"))
	for _, file := range append(files, filepath.Join(w.Dir, "keeper.log")) {
		text, _ := os.ReadFile(file)
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		w.t.Logf("%s:\n%s", file, bytes.Join(lines[max(0, len(lines)-12):], []byte("\n")))
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) up() {
	w.t.Helper()
	w.check(w.Up(w.ctx))
}

// upAgain is for the end of a test, when its own time is over.
func (w *world) upAgain() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), forTest)
	defer cancel()
	w.check(w.Up(ctx))
}

// howdah runs a command that has to succeed.
func (w *world) howdah(args ...string) string {
	w.t.Helper()
	out, err := w.Howdah(w.ctx, args...)
	w.check(err)
	return out
}

// refused runs a command that has to fail, and to say what, why, what to do and
// the code; why has to hold the given words.
func (w *world) refused(code, why string, args ...string) {
	w.t.Helper()
	a, err := w.Run(w.ctx, args...)
	w.check(err)
	if a.Code != 1 {
		w.t.Errorf("howdah %s: exit %d, want 1\n%s%s", strings.Join(args, " "), a.Code, a.Out, a.Err)
	}
	w.said(a.Err, code, why)
}

func (w *world) said(text, code, why string) {
	w.t.Helper()
	for _, part := range []string{"[" + code + "]", "why:", "do:", why} {
		if !strings.Contains(text, part) {
			w.t.Errorf("got %q, want it to say %q", text, part)
		}
	}
}

func (w *world) sql(sql string) string {
	w.t.Helper()
	return strings.TrimSpace(w.howdah("psql", "--", "-AtX", "-v", "ON_ERROR_STOP=1", "-c", sql))
}

// whole waits until all is well, and names the leader.
func (w *world) whole() string {
	w.t.Helper()
	leader, err := w.Whole(w.ctx)
	if err != nil {
		list, _ := w.Run(context.Background(), "list")
		w.t.Fatalf("the cluster is not whole: %v\n%s%s", err, list.Out, list.Err)
	}
	return leader
}

func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	if err := outside.Until(w.ctx, so); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

// write begins to write rows, and waits until they flow.
func (w *world) write() *outside.Writer {
	w.t.Helper()
	writer, err := w.Write(w.ctx)
	w.check(err)
	w.t.Cleanup(writer.Stop)
	w.flowing(writer)
	return writer
}

func (w *world) flowing(writer *outside.Writer) {
	w.t.Helper()
	if err := writer.Flowing(w.ctx, time.Now(), 500*time.Millisecond); err != nil {
		w.t.Fatalf("rows are not acknowledged: %v", err)
	}
}

// kept checks that every row is there that was acknowledged.
func (w *world) kept(writer *outside.Writer) {
	w.t.Helper()
	rows, lost, err := writer.Check(w.ctx)
	w.check(err)
	if lost > 0 || rows == 0 {
		w.t.Errorf("%d of %d acknowledged rows are lost", lost, rows)
	}
}

// role is the process of a role; "node" is the supervisor, "postgres" the
// postmaster.
func (w *world) role(n spec.Node, name string) process.ID {
	w.t.Helper()
	var id process.ID
	w.until("there is no "+name+" of "+n.Member, func() (ok bool) {
		id, ok = outside.Process(n, name)
		return ok
	})
	return id
}

// roles are all processes of all nodes.
func (w *world) roles(names ...string) map[string]process.ID {
	w.t.Helper()
	all := map[string]process.ID{}
	for _, n := range w.Nodes {
		for _, name := range names {
			all[n.Member+" "+name] = w.role(n, name)
		}
	}
	return all
}

func (w *world) kill(id process.ID, sig unix.Signal) {
	w.t.Helper()
	w.check(id.Signal(sig))
}

// everything is every process of the playground, whatever it descends from.
func (w *world) everything() []process.ID {
	var all []process.ID
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		dir, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if !strings.Contains(string(line), w.Dir) && !strings.HasPrefix(dir, w.Dir) {
			continue
		}
		if id, ok := process.Of(pid); ok {
			all = append(all, id)
		}
	}
	return all
}

// silent says that the node's PostgreSQL cannot answer anybody.
func silent(n spec.Node) bool {
	all, err := postgres.Processes(n.Postgres.Data)
	return err == nil && len(all) == 0 || postgres.Frozen(n.Postgres.Data)
}

func standby(n spec.Node) bool {
	_, err := os.Stat(filepath.Join(n.Postgres.Data, "standby.signal"))
	return err == nil
}

func (w *world) pause(d time.Duration) {
	w.t.Helper()
	w.check(outside.Pause(w.ctx, d))
}
