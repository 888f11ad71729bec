package node

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/node/process"
	"howdah/nodefile"
)

// An agent whose loop stands still is ended, however it stands still; one that turns is
// not, nor one that a debugger holds, nor one that is to stop.
func TestTheGuardEndsAnAgentThatHangs(t *testing.T) {
	n := testNode(t)
	page, err := lease.Create(n.Paths.Page)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	agent := func() process.ID {
		t.Helper()
		log, err := os.Create(filepath.Join(n.Paths.Log, "agent.log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd := exec.Command(n.Paths.Binary, "agent", "--node", n.Paths.Dir)
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		id, _ := process.Of(cmd.Process.Pid)
		if err := RoleFile(n, "agent").Write(id); err != nil {
			t.Fatal(err)
		}
		go cmd.Wait()
		t.Cleanup(func() { _ = id.Signal(unix.SIGKILL) })
		return id
	}
	keeps := true
	g := &Guard{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Page: n.Paths.Page, Pulse: newPulse(n, func() bool { return keeps })}
	now := lease.Now()
	look := func() {
		_, beat, _ := lease.Look(n.Paths.Page)
		now += 450 * time.Millisecond
		g.listen(now, beat, now+time.Second)
	}
	// pass lets the guard look for so long, at an agent that turns or does not.
	pass := func(long time.Duration, turns bool) {
		for end := now + long; now < end; {
			if turns {
				page.Beat()
			}
			look()
		}
	}
	gone := func(id process.ID) func() bool { return func() bool { return !id.Alive() } }

	first := agent()
	now += 20 * time.Second // it began long ago
	look()
	pass(20*time.Second, true)
	if !first.Alive() {
		t.Fatal("an agent that turns was ended")
	}
	release := debug(t, first)
	pass(20*time.Second, false)
	if !first.Alive() {
		t.Fatal("an agent that a debugger holds was ended")
	}
	release()
	waitFor(t, "nobody debugs it", func() bool { return holding(first) == "" })
	keeps = false
	pass(20*time.Second, false)
	if !first.Alive() {
		t.Fatal("an agent that is to stop was ended")
	}
	keeps = true
	kill(t, first, unix.SIGSTOP)
	look()
	waitFor(t, "the agent that hangs is gone", gone(first))
	if h := nodefile.ReadHangs(n); h.Problem.Code != "" {
		t.Errorf("a person is told of one agent that hung: %v", &h.Problem)
	}

	second := agent()
	pass(time.Second, true)
	pass(time.Second, false)
	if !second.Alive() {
		t.Error("the second has no more time than the first")
	}
	pass(20*time.Second, false)
	waitFor(t, "the second that hangs is gone", gone(second))
	if h := nodefile.ReadHangs(n); h.Problem.Code != "agent-hangs" {
		t.Errorf("nobody is told of two agents that hung: %v", &h.Problem)
	}
	agent()
	pass(11*time.Minute, true)
	if h := nodefile.ReadHangs(n); h.Problem.Code != "" {
		t.Errorf("a person is told of agents that hung eleven minutes ago: %v", &h.Problem)
	}
}

// debug attaches to a process as a debugger does, until the function that it returns is
// called. Nobody is to signal it meanwhile: its tracer does not pass signals on.
func debug(t *testing.T, id process.ID) (release func()) {
	t.Helper()
	tracer := exec.Command(os.Args[0], "tracer", id.String())
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	release = func() { _ = tracer.Process.Kill(); _ = tracer.Wait() } // with the tracer its hold ends
	t.Cleanup(release)
	waitFor(t, "it is debugged", func() bool { return holding(id) != "" })
	return release
}

// trace is the debugger.
func trace(pid string) {
	runtime.LockOSThread()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = unix.PtraceSeize(n)
	}
	if err != nil {
		panic(err)
	}
	idle()
}
