package sim

import (
	"flag"
	"os"
	"testing"
)

var watchRuns = flag.Int("watch-runs", 1, "lives of each kind in TestWatchdogs")

// Guard and agent of a leader hang together, and its server goes on: with a watchdog the
// machine is gone before anybody else leads, in lease mode too. No other machine is reset.
func TestWatchdogs(t *testing.T) {
	count := *watchRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i >= 2*count, Watch: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -watch -v", b.seed, b.what, b.seed, b.dense, b.seed >= *first+uint64(2*count))
	}
	t.Logf("%d lives: %.0f cluster-hours, %+v", 4*count, all.total.Simulated.Hours(), all.total)
	if s := all.total; s.Resets < s.Hung/10 || s.Hung == 0 {
		t.Errorf("guard and agent hung %d times, and %d machines were reset", s.Hung, s.Resets)
	}
	for _, note := range notWatched {
		if all.said.count[note] == 0 && (count > 4 || note == "watchdog=armed") {
			t.Errorf("nobody said %s", note)
		}
	}
}
