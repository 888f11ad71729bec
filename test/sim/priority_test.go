package sim

import (
	"flag"
	"os"
	"testing"
)

var onRuns = flag.Int("on-runs", 6, "lives of each kind in TestPriority")

// In synchronous mode by priority nothing that was acknowledged is lost either, whoever
// is preferred, and however often somebody changes between the two modes.
func TestPriority(t *testing.T) {
	count := *onRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(2*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i >= count, On: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -on -v", b.seed, b.what, b.seed, b.dense)
	}
	t.Logf("%d lives in synchronous mode by priority: %.0f cluster-hours, %+v", 2*count, all.total.Simulated.Hours(), all.total)
	for s, n := range all.met["change-mode"] {
		t.Logf("the mode was changed %d times in a cluster that was %s", n, state(s))
	}
	if all.met["change-mode"] == nil || all.total.Promotions == 0 || all.total.Acknowledged == 0 {
		t.Errorf("nobody changed the mode, was promoted or acknowledged anything")
	}
}
