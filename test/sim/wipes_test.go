package sim

import (
	"flag"
	"os"
	"testing"
)

var wipeRuns = flag.Int("wipe-runs", 2, "lives of each kind in TestWipes")

// The store loses everything, whatever else happens: who leads goes on, nothing that
// was acknowledged is lost, and where nobody can be certain a person is asked.
func TestWipes(t *testing.T) {
	count := *wipeRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i >= 2*count, Wipe: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -wipe -v", b.seed, b.what, b.seed, b.dense, b.seed >= *first+uint64(2*count))
	}
	t.Logf("%d lives: the store was lost %d times, and a person had to decide %d times; %.0f cluster-hours, %+v",
		4*count, all.total.Wiped, all.total.Decided, all.total.Simulated.Hours(), all.total)
	for _, said := range notWiped {
		if all.said.count[said] == 0 { // in some lives, which need not show everything
			t.Logf("no decision said %q", said)
		}
	}
	if w, d := all.total.Wiped, all.total.Decided; w < 2*count || d > w/2 {
		t.Errorf("the store was lost %d times, and a person had to decide %d times", w, d)
	}
}
