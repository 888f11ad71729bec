package process

import (
	"bytes"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that is started is as punctual as any, whatever the slack of the thread that starts it.
func TestPunctual(t *testing.T) {
	runtime.LockOSThread() // and not unlocked: the thread ends with its slack
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 20_000_000, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	slack := func() (*exec.Cmd, *bytes.Buffer) {
		cmd, out := exec.Command("cat", "/proc/self/timerslack_ns"), &bytes.Buffer{}
		cmd.Stdout = out
		return cmd, out
	}
	cmd, out := slack()
	if err := cmd.Run(); err != nil || out.String() != "20000000\n" {
		t.Fatalf("inherited: %q, %v", out, err)
	}
	cmd, out = slack()
	if err := Punctual(cmd.Start); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "50000\n" {
		t.Errorf("slack of what was started: %q, %v; want 50000", out, err)
	}
}
