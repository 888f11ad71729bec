package process

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestSleepIn(t *testing.T) {
	us, _ := Of(os.Getpid())
	if err := sleepIn(us, 20*time.Millisecond); os.IsPermission(err) {
		t.Skip("only who has CAP_SYS_NICE may say so: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	slack := func(thread string) string {
		text, err := os.ReadFile("/proc/" + thread + "/timerslack_ns")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	if got := slack(threads[1]); got != "20000000" {
		t.Errorf("the watcher may wake %s ns late, want 20000000", got)
	}
	if got := slack(threads[0]); got != "50000" {
		t.Errorf("so may the first thread: %s ns", got)
	}
	// It is the one that naps: runtime.usleep is nanosleep, and nobody else calls that
	// while this test sleeps.
	told := false
	for range 1000 {
		text, err := os.ReadFile("/proc/" + threads[1] + "/wchan")
		if err != nil {
			t.Skip("nobody says where a thread waits: ", err)
		}
		if strings.Contains(string(text), "nanosleep") {
			return
		}
		told = told || string(text) != "0"
	}
	if !told {
		t.Skip("this kernel does not say where a thread waits")
	}
	t.Error("the second thread never naps: it is not the watcher")
}
