package testpg

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Suspend lets one process stand still without being stopped, as a hung one does, until
// the function that it returns is called: the freezer of a control group (v2) holds it,
// and its state tells nothing. The test is skipped where there is none.
func Suspend(t testing.TB, pid int) (resume func()) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir, err := os.MkdirTemp(root, "howdah-test-")
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.freeze")); err != nil {
			_ = os.Remove(dir)
			continue
		}
		put := func(dir, file, text string) error {
			return os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)
		}
		if err = put(dir, "cgroup.procs", strconv.Itoa(pid)); err == nil {
			err = put(dir, "cgroup.freeze", "1")
		}
		over := false
		resume = func() {
			if over {
				return
			}
			over = true
			_ = put(dir, "cgroup.freeze", "0")
			_ = put(root, "cgroup.procs", strconv.Itoa(pid))                                     // unless it is dead
			for began := time.Now(); os.Remove(dir) != nil && time.Since(began) < time.Second; { // who leaves it has left a moment later
			}
		}
		t.Cleanup(resume)
		for began := time.Now(); err == nil; {
			var events []byte
			if events, err = os.ReadFile(filepath.Join(dir, "cgroup.events")); strings.Contains(string(events), "frozen 1") {
				return resume
			}
			if time.Since(began) > 10*time.Second {
				err = errors.New("it is not frozen after 10 s")
			}
		}
		t.Fatal(err)
	}
	t.Skip("there is no freezer of control groups (v2) that this user may use")
	return nil
}
