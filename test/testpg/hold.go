package testpg

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Hold attaches to a process as a debugger does, without stopping it, until the function
// that it returns is called. A guard leaves the agent alone that is held so, whatever else
// stops it.
func Hold(t testing.TB, pid int) (release func()) {
	t.Helper()
	seized, over, done := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: with the thread that attached the hold ends
		err := unix.PtraceSeize(pid)
		seized <- err
		if err == nil {
			<-over
		}
	}()
	if err := <-seized; err != nil {
		t.Fatalf("hold process %d: %v", pid, err)
	}
	ended := false
	release = func() {
		if !ended {
			ended = true
			close(over)
			<-done
		}
	}
	t.Cleanup(release)
	return release
}
