package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/nodefile"
	"howdah/spec"
)

// twoNodes are those of one machine, which has one member of the store. They note in
// one file what happens to them.
func twoNodes(t *testing.T) (a, b spec.Node) {
	t.Helper()
	a, b = testNode(t), testNode(t)
	b.Member, b.Etcd = "demo-2", spec.Etcd{}
	if err := nodefile.Write(b, -1, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(a.Paths.Dir, "events"), filepath.Join(b.Paths.Dir, "events")); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// Two servers of a machine have one supervisor, and the store of both is the last to go.
func TestTwoNodesHaveOneSupervisor(t *testing.T) {
	a, b := twoNodes(t)
	s := start(t, a, b)
	waitFor(t, "the roles run", func() bool {
		return isReady(a, RoleFile(a, "agent")) && isReady(a, RoleFile(a, "etcd")) && isReady(b, RoleFile(b, "agent"))
	})
	for _, n := range []spec.Node{a, b} {
		if id, ok := SupervisorFile(n).Read(); !ok || id != s {
			t.Errorf("the supervisor of %s is %v, want %v", n.Member, id, s)
		}
	}
	second := start(t, b)
	waitFor(t, "another one gives up", func() bool { return !second.Alive() })
	log, _ := os.ReadFile(filepath.Join(b.Paths.Log, "node.log"))
	if !strings.Contains(string(log), "node-running") {
		t.Errorf("the second one says\n%s", log)
	}
	kill(t, s, unix.SIGTERM)
	waitFor(t, "all is stopped", func() bool { return !s.Alive() })
	if got, want := events(a), "agent stopped, agent stopped, etcd stopped"; got != want {
		t.Errorf("events: %s; want %s", got, want)
	}
}

// One of two leaves, and the other does not notice; what its supervisor left behind
// ends with the next one, which does not begin it again.
func TestOneOfTwoNodesLeaves(t *testing.T) {
	a, b := twoNodes(t)
	first := start(t, a, b)
	runs := func() bool {
		return isReady(a, RoleFile(a, "agent")) && isReady(a, RoleFile(a, "etcd")) && isReady(b, RoleFile(b, "agent"))
	}
	waitFor(t, "the roles run", runs)
	stays, _ := RoleFile(a, "agent").Read()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Retire(ctx, b); err != nil {
		t.Fatal(err)
	}
	if _, ok := RoleFile(b, "agent").Read(); ok || !first.Alive() {
		t.Errorf("the agent of the one that left runs: %t; the supervisor: %t", ok, first.Alive())
	}
	if err := Rejoin(b); err != nil {
		t.Fatal(err)
	}
	kill(t, first, unix.SIGKILL)
	gone(t, a, b)
	second := start(t, a, b)
	waitFor(t, "it is back", runs)

	kill(t, second, unix.SIGKILL)
	gone(t, a, b)
	left, _ := RoleFile(b, "agent").Read()
	retired := make(chan error, 1)
	go func() { retired <- Retire(ctx, b) }()
	waitFor(t, "it is marked", func() bool { _, err := os.Stat(mark(b)); return err == nil })
	start(t, a, b)
	if err := <-retired; err != nil || left.Alive() {
		t.Errorf("it was to leave: %v; what was left behind lives: %t", err, left.Alive())
	}
	if id, _ := RoleFile(a, "agent").Read(); id != stays {
		t.Errorf("the other's agent is %v, and was %v", id, stays)
	}
	if got := events(a); strings.Count(got, "agent stopped") != 2 || strings.Contains(got, "etcd") {
		t.Errorf("events: %s", got)
	}
}

// gone waits until nobody supervises the nodes: of a process that was killed the locks
// are held until its last thread has ended.
func gone(t *testing.T, nodes ...spec.Node) {
	t.Helper()
	waitFor(t, "the supervisor is gone", func() bool {
		unlock, err := lock(nodes)
		if err != nil {
			return false
		}
		unlock()
		return true
	})
}
