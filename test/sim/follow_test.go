package sim

import (
	"flag"
	"os"
	"testing"
)

var followRuns = flag.Int("follow-runs", 4, "lives of each kind in TestStandbyClusters")

// Clusters that follow another one: nobody in them ever writes, whatever happens and
// whatever stands in the store, until a person says so; then they are as any other.
func TestStandbyClusters(t *testing.T) {
	count := *followRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(2*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Follow: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -follow -v", b.seed, b.what, b.seed, b.dense)
	}
	t.Logf("%d lives: %.0f cluster-hours, %+v", 2*count, all.total.Simulated.Hours(), all.total)
	for _, said := range notFollowing {
		if all.said.count[said] == 0 { // in some lives, which need not show everything
			t.Logf("no decision said %q", said)
		}
	}
	if all.said.count["Lift"] == 0 || all.total.Promotions == 0 {
		t.Errorf("%d promotions of the whole, %d promotions", all.said.count["Lift"], all.total.Promotions)
	}
}

// Two clusters change places, with and without trouble: whatever the one acknowledged is in the other before
// that may be promoted, and nobody writes in the first one any more.
func TestSwaps(t *testing.T) {
	count := *followRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i%4 > 1, Swap: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -swap -v", b.seed, b.what, b.seed, b.dense, (b.seed-*first)%4 > 1)
	}
	t.Logf("%d lives: %.0f cluster-hours, %d swaps, %+v", 4*count, all.total.Simulated.Hours(), all.total.Swaps, all.total)
	if all.total.Swaps < 2*count || all.said.count["Subject"] == 0 || all.said.count["Lift"] == 0 {
		t.Errorf("%d swaps, %d demotions of the whole, %d promotions", all.total.Swaps, all.said.count["Subject"], all.said.count["Lift"])
	}
}
