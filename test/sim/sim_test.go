package sim

import (
	"flag"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("seed", 1, "seed of TestReplay")
	runs  = flag.Int("runs", 50, "number of runs of TestSimulation")
	first = flag.Uint64("first", 1, "first seed of TestSimulation")
)

func TestReplay(t *testing.T) {
	w := New(Options{Seed: *seed, Verbose: true})
	w.Live()
	for _, l := range w.Log {
		t.Log(l)
	}
	t.Logf("timers %+v rates %+v", w.Timers, w.rates)
	t.Logf("%+v", w.Stats)
	if w.Failed != nil {
		t.Fatal(w.Failed)
	}
}

func TestSimulation(t *testing.T) {
	begun := time.Now()
	var total Stats
	laws := map[string]int{}
	for i := range *runs {
		w := New(Options{Seed: *first + uint64(i)})
		w.Live()
		total.Turns += w.Stats.Turns
		total.Events += w.Stats.Events
		total.Simulated += w.Stats.Simulated
		total.Promotions += w.Stats.Promotions
		total.Lost += w.Stats.Lost
		total.Acknowledged += w.Stats.Acknowledged
		total.Needless += w.Stats.Needless
		total.Rewinds += w.Stats.Rewinds
		total.Clones += w.Stats.Clones
		total.Collisions += w.Stats.Collisions
		if w.Failed != nil {
			laws[w.Failed.Law]++
			t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -v", w.Seed, w.Failed, w.Seed)
		}
	}
	t.Logf("%+v in %s; %v", total, time.Since(begun), laws)
}

// Every way of being wrong is found by a law, within a few runs.
func TestMutants(t *testing.T) {
	const within = 60
	for _, m := range Mutants {
		t.Run(m.Name, func(t *testing.T) {
			for seed := uint64(1); seed <= within; seed++ {
				w := New(Options{Seed: seed, Mutant: &m})
				w.Live()
				if w.Failed != nil {
					t.Logf("seed %d: %v", seed, w.Failed)
					if w.Failed.Law == m.Law {
						return
					}
				}
			}
			t.Errorf("not found by %s within %d runs", m.Law, within)
		})
	}
}
