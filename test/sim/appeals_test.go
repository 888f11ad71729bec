package sim

import (
	"flag"
	"os"
	"testing"
)

var awayRuns = flag.Int("away-runs", 2, "lives of each kind in TestAppeals")

// The store is away for longer than leases last, and the leader goes on by the word of
// the others, whatever else happens.
func TestAppeals(t *testing.T) {
	count := *awayRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i >= 2*count, Away: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -away -v", b.seed, b.what, b.seed, b.dense, b.seed >= *first+uint64(2*count))
	}
	t.Logf("%d lives: %.0f cluster-hours, %+v", 4*count, all.total.Simulated.Hours(), all.total)
	if s := all.total; s.Given < s.Away/4 { // some are short, or fall among other faults
		t.Errorf("the store was away %d times, and %d words were given", s.Away, s.Given)
	}
}
