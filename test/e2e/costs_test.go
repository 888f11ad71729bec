package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/node/process"
)

// The whole observation of a demo of three (exporters, logs, store, rules, alerts and
// console of all nodes) costs less than 300 MB and 5 % of a core, asked every 10 s.
// Processor time hardly depends on what else the machine does; memory is what would
// be free without it (Pss: what processes share is told once).
func TestObservationCosts(t *testing.T) {
	byNight(t)
	const settles, measured = 90 * time.Second, 2 * time.Minute
	w := own(t)
	w.ctx = t.Context()
	w.check(w.Up(w.ctx, "--observe"))
	w.whole()
	parts := map[string]process.ID{}
	for _, n := range w.Nodes {
		parts["jobs of "+n.Member] = w.role(n, "jobs")
		if n.Observe.On() {
			parts["observe"] = w.role(n, "observe")
		}
	}
	w.pause(settles)
	before := map[string]time.Duration{}
	for name, id := range parts {
		before[name] = used(t, id)
	}
	began := time.Now()
	w.pause(measured)
	took := time.Since(began)
	var memory int64
	var busy time.Duration
	for name, id := range parts {
		spent, bytes := used(t, id)-before[name], pss(t, id)
		t.Logf("%s: %.0f MB, %.2f %% of a core", name, float64(bytes)/1e6, 100*spent.Seconds()/took.Seconds())
		memory, busy = memory+bytes, busy+spent
	}
	share := 100 * busy.Seconds() / took.Seconds()
	t.Logf("all of it: %.0f MB, %.2f %% of a core", float64(memory)/1e6, share)
	if memory > 300e6 || share > 5 {
		t.Errorf("it costs %d MB and %.2f %% of a core", memory/1e6, share)
	}
}

// used is the processor's time that a process has had.
func used(t *testing.T, id process.ID) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id.PID))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name, which may have anything in it
	f := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{11, 12} { // utime and stime, proc(5)
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ
}

// pss is the memory that a process takes, of what it shares with others its part.
func pss(t *testing.T, id process.ID) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", id.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("smaps_rollup is\n%s", text)
	return 0
}
