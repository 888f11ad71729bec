package sim

import (
	"flag"
	"os"
	"testing"
)

var strayRuns = flag.Int("stray-runs", 2, "lives of each kind in TestStrays")

// Somebody who is no agent writes over the leader key, whatever else happens: nobody
// leads by it, nothing that was acknowledged is lost, and who led leads on.
func TestStrays(t *testing.T) {
	count := *strayRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i >= 2*count, Stray: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -stray -v", b.seed, b.what, b.seed, b.dense, b.seed >= *first+uint64(2*count))
	}
	t.Logf("%d lives: %.0f cluster-hours, %+v", 4*count, all.total.Simulated.Hours(), all.total)
	if s, r := all.total.Strays, all.total.Righted; s < 2*count || r < s/2 {
		t.Errorf("%d times somebody wrote over the leader key, and %d times it was a member's again", s, r)
	}
}
