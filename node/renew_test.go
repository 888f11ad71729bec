package node

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/spec"
)

// A supervisor that is to leave ends alone; the next one has all that it left begin
// anew, the agent before the store.
func TestRolesBeginAnewUnderTheNextSupervisor(t *testing.T) {
	n := testNode(t)
	first := supervisor(t, n)
	agent, _ := RoleFile(n, "agent").Read()
	etcd, _ := RoleFile(n, "etcd").Read()
	kill(t, first, Leave)
	gone(t, n)
	if !agent.Alive() || !etcd.Alive() || events(n) != "" {
		t.Fatalf("agent lives: %t, etcd lives: %t, events: %s", agent.Alive(), etcd.Alive(), events(n))
	}
	second := supervisor(t, n)
	waitFor(t, "all has begun anew", func() bool {
		_, err := os.Stat(estateFile(n.Paths.Run))
		return os.IsNotExist(err)
	})
	if got, want := events(n), "agent left, etcd stopped"; got != want {
		t.Errorf("events: %s; want %s", got, want)
	}
	for role, old := range map[string]process.ID{"agent": agent, "etcd": etcd} {
		if id, ok := RoleFile(n, role).Read(); !ok || id == old || old.Alive() {
			t.Errorf("%s is %v, was %v", role, id, old)
		}
	}
	// It is over: the death of that one changes nothing.
	agent, _ = RoleFile(n, "agent").Read()
	kill(t, second, unix.SIGKILL)
	gone(t, n)
	third := supervisor(t, n)
	if id, _ := RoleFile(n, "agent").Read(); id != agent {
		t.Errorf("agent is %v; want %v adopted", id, agent)
	}
	waitFor(t, "it heeds signals", func() bool { id, _ := SupervisorFile(n).Read(); return id == third })
	kill(t, third, unix.SIGTERM)
	waitFor(t, "all is stopped", func() bool { return !third.Alive() })
	if got, want := events(n), "agent left, etcd stopped, agent stopped, etcd stopped"; got != want {
		t.Errorf("events: %s; want %s", got, want)
	}
}

// A program that does not run gets no further than the first role; the supervisor that
// follows goes on where this one was.
func TestARoleThatDoesNotComeBackIsTheLast(t *testing.T) {
	n := testNode(t)
	first := supervisor(t, n)
	etcd, _ := RoleFile(n, "etcd").Read()
	kill(t, first, Leave)
	gone(t, n)
	behave := filepath.Join(n.Paths.Dir, "behave-agent")
	if err := os.WriteFile(behave, []byte("die"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := start(t, n)
	waitFor(t, "the new agent died four times", func() bool { return strings.Count(events(n), "agent died") >= 4 })
	kill(t, second, unix.SIGKILL)
	gone(t, n)
	if !etcd.Alive() {
		t.Error("the store began anew although the agent does not run")
	}
	if err := os.Remove(behave); err != nil {
		t.Fatal(err)
	}
	supervisor(t, n)
	waitFor(t, "the store begins anew", func() bool { return !etcd.Alive() && isReady(n, RoleFile(n, "etcd")) })
}

// Roles of a node that the machine has no more are ended: nobody would guard it.
func TestTheForsakenEnd(t *testing.T) {
	a, b := twoNodes(t)
	first := start(t, a, b)
	waitFor(t, "the roles run", func() bool {
		return isReady(a, RoleFile(a, "agent")) && isReady(a, RoleFile(a, "etcd")) && isReady(b, RoleFile(b, "agent"))
	})
	stays, _ := RoleFile(a, "agent").Read()
	goes, _ := RoleFile(b, "agent").Read()
	kill(t, first, Leave)
	gone(t, a, b)
	for _, n := range []spec.Node{a, b} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		part := Forsaken(n.Paths.Dir, []spec.Node{a}, slog.New(slog.DiscardHandler))
		go func() { done <- part.Run(ctx) }()
		if n.Member == b.Member {
			waitFor(t, "it ends", func() bool { return !goes.Alive() })
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !stays.Alive() {
		t.Error("the agent of the other one ended, too")
	}
}

// What another user put there is believed by nobody.
func TestAnEstateIsTheSupervisors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	n := testNode(t)
	e := estate{Dir: n.Paths.Dir, Run: n.Paths.Run, Roles: map[string]process.ID{"agent": {PID: 1}}}
	if err := e.write(); err != nil {
		t.Fatal(err)
	}
	if got, err := readEstate(n.Paths.Run); err != nil || got.Roles["agent"].PID != 1 {
		t.Errorf("readEstate() = %v, %v", got, err)
	}
	if err := os.Chown(estateFile(n.Paths.Run), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if got, err := readEstate(n.Paths.Run); err == nil {
		t.Errorf("readEstate() of somebody else's = %v", got)
	}
}

// A gateway that heeds the signal is waited for, and one that does not know it is not, for long.
func TestAGatewayHandsOver(t *testing.T) {
	for script, want := range map[string]bool{
		"trap '' USR2; exec sleep 60": false,
		"exec sleep 60":               true,
		"trap 'sleep 0.3; exit 0' USR2; while :; do sleep 0.05; done": true,
	} {
		cmd := exec.Command("sh", "-c", script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		id, _ := process.Of(cmd.Process.Pid)
		waitFor(t, "it is what it is to be", func() bool { return len(id.Args()) > 0 && traps(id) == strings.HasPrefix(script, "trap") })
		if got := handsOver(t.Context(), id, 500*time.Millisecond); got != want {
			t.Errorf("%s: handsOver() = %t, want %t", script, got, want)
		}
		_ = cmd.Process.Kill()
		<-ended
	}
}

// traps says that the process does something else at Leave than to end.
func traps(id process.ID) bool {
	status, _ := os.ReadFile("/proc/" + id.String() + "/status")
	for line := range strings.Lines(string(status)) {
		if name, mask, _ := strings.Cut(line, ":"); name == "SigCgt" || name == "SigIgn" {
			if bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil && bits&(1<<(Leave-1)) != 0 {
				return true
			}
		}
	}
	return false
}

// Every role has its turn, once.
func TestEveryRoleIsRenewed(t *testing.T) {
	a, b := slices.Sorted(slices.Values(stages)), slices.Sorted(slices.Values(renewed))
	if !slices.Equal(a, b) {
		t.Errorf("the stages are %v, those that begin anew %v", a, b)
	}
}
