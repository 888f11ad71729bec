package sim

import (
	"flag"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

var quorumRuns = flag.Int("quorum-runs", 20, "lives of each kind in TestQuorum")

// In synchronous mode quorum, strict, nothing that was acknowledged is ever lost,
// and nobody is promoted without pledges: every fault that costs rows without it
// costs none.
func TestQuorum(t *testing.T) {
	count := *quorumRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	var listeners []*said
	worlds := make([]*World, 2*count)
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		heard := v.listen()
		listeners = append(listeners, heard)
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(worlds)); i = next.Add(1) - 1 {
				w := New(Options{Seed: *first + uint64(i), Dense: i >= int64(count), Quorum: true, Heard: heard.hear})
				w.Live()
				worlds[i] = &World{Seed: w.Seed, Stats: w.Stats}
				if w.Failed != nil {
					t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum -v", w.Seed, w.Failed, w.Seed, i >= int64(count))
				}
			}
		})
	}
	all.Wait()
	var total Stats
	for _, w := range worlds {
		total.add(w.Stats)
	}
	t.Logf("%d lives in synchronous mode: %.0f cluster-hours, %+v", len(worlds), total.Simulated.Hours(), total)
	if count < 150 { // a look at some seeds, which need not show everything
		v.demand(true, t.Logf, listeners)
		return
	}
	v.demand(true, t.Errorf, listeners)
}
