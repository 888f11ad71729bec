package sim

import (
	"flag"
	"os"
	"testing"
)

var quorumRuns = flag.Int("quorum-runs", 40, "lives of each kind in TestQuorum")

// In synchronous mode quorum, strict, nothing that was acknowledged is ever lost,
// and nobody is promoted without pledges: every fault that costs rows without it
// costs none.
func TestQuorum(t *testing.T) {
	count := *quorumRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	lives := 2 * count
	all := v.all(lives, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i >= count, Quorum: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum -v", b.seed, b.what, b.seed, b.dense)
	}
	t.Logf("%d lives in synchronous mode: %.0f cluster-hours, %+v", lives, all.total.Simulated.Hours(), all.total)
	if count < 150 { // a look at some seeds, which need not show everything
		v.demand(true, t.Logf, all.said)
		return
	}
	v.demand(true, t.Errorf, all.said)
}
