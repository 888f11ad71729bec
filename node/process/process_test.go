package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is a process that does nothing until it is told to end.
func sleeper(t *testing.T) (ID, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	id, ok := Of(cmd.Process.Pid)
	if !ok {
		t.Fatal("a process that was just started is not there")
	}
	return id, cmd
}

func TestAProcessIsMoreThanItsNumber(t *testing.T) {
	id, _ := sleeper(t)
	other := ID{id.PID, id.Start + 1} // an earlier owner of the number
	if other.Alive() || !id.Alive() {
		t.Errorf("alive: %v, %v; want the second only", other.Alive(), id.Alive())
	}
	if err := other.Signal(unix.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal to an earlier owner of the number = %v; want ErrGone", err)
	}
	if err := other.Wait(t.Context()); err != nil {
		t.Errorf("wait for an earlier owner of the number = %v; want nil at once", err)
	}
	if !id.Alive() {
		t.Error("the later owner was killed")
	}
	if (ID{}).Alive() {
		t.Error("nobody lives")
	}
}

func TestWaitSeesTheEndAndOnlyIt(t *testing.T) {
	id, _ := sleeper(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := id.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for one that lives = %v; want the end of ctx", err)
	}
	done := make(chan error, 1)
	go func() { done <- id.Wait(t.Context()) }()
	if err := id.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil { // nobody has reaped it yet: a zombie is gone
		t.Errorf("Wait = %v; want nil", err)
	}
	if id.Alive() {
		t.Error("a zombie counts as alive")
	}
}

func TestAPIDFileOfTheDeadNamesNobody(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "x.pid"))
	if _, ok := f.Read(); ok {
		t.Error("a missing file names somebody")
	}
	id, _ := sleeper(t)
	if err := f.Write(id); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Read(); !ok || got != id {
		t.Errorf("Read = %v, %v; want %v", got, ok, id)
	}
	if err := f.Write(ID{id.PID, id.Start - 1}); err != nil {
		t.Fatal(err)
	}
	if got, ok := f.Read(); ok {
		t.Errorf("a file of an earlier owner of the number names %v", got)
	}
}

func TestALongLogIsPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, logLimit+1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f, err := openLog(path, [2]int{-1, -1})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	now, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.Stat(path + ".1")
	if err != nil || old.Size() != logLimit+1 || now.Size() != 0 {
		t.Errorf("sizes %d and %d (%v); want 0 and %d", now.Size(), old.Size(), err, logLimit+1)
	}
	if err := os.Symlink(path, path+".link"); err != nil {
		t.Fatal(err)
	}
	if f, err := openLog(path+".link", [2]int{-1, -1}); err == nil {
		f.Close()
		t.Error("a log that is a link was followed")
	}
}
