package sim

import (
	"os"
	"testing"
)

// Agents hang, whatever else happens; in a cluster that is well nothing comes of it.
func TestAgentsThatHang(t *testing.T) {
	count := 12
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(count, func(i int) Options { return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Pulse: true} })
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -pulse -v", b.seed, b.what, b.seed, b.dense)
	}
	t.Logf("%d lives: %.0f cluster-hours, %d agents ended", count, all.total.Simulated.Hours(), all.total.Ended)
	if all.total.Ended == 0 {
		t.Error("no agent was ended")
	}
}
