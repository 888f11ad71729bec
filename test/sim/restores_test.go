package sim

import (
	"flag"
	"os"
	"testing"
)

var restoreRuns = flag.Int("restore-runs", 2, "lives of each kind in TestRestores")

// Clusters that people bring back to a moment, whatever else happens to them:
// what was not taken back is not lost, and nobody who has more leads afterwards.
func TestRestores(t *testing.T) {
	count := *restoreRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i >= 2*count, Restore: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -restore -v", b.seed, b.what, b.seed, b.dense, b.seed >= *first+uint64(2*count))
	}
	t.Logf("%d lives with %d restores: %.0f cluster-hours, %+v", 4*count, all.total.Restores, all.total.Simulated.Hours(), all.total)
	for _, said := range notRestored {
		if all.said.count[said] == 0 { // in some lives, which need not show everything
			t.Logf("no decision said %q", said)
		}
	}
	if all.total.Restores < 2*count {
		t.Errorf("%d restores, too few to say anything", all.total.Restores)
	}
}
