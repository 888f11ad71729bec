package sim

import (
	"fmt"
	"os"
	"testing"
	"time"

	"howdah/spec"
)

// Three machines stop one after the other under load, each with another end of its log, and are
// started in another order, with all of them or with one missing for ever. Who leads then has
// every row that was acknowledged; where only who is missing can have them, nobody leads.
func TestTotalOutage(t *testing.T) {
	orders := [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	seeds := uint64(1)
	if os.Getenv("NIGHTLY") != "" {
		seeds = 20
	}
	for _, quorum := range []bool{true, false} {
		lives, without, awaited := 0, 0, 0
		for _, stops := range orders {
			for _, starts := range orders {
				for missing := -1; missing < 3; missing++ {
					for range seeds {
						seed := uint64(lives + 1)
						timers := spec.Safe()
						w := New(Options{Seed: seed, Nodes: 3, Timers: &timers, Calm: true, Verbose: testing.Verbose()})
						led, err := w.totalOutage(quorum, stops, starts, missing)
						lives++
						switch {
						case err != nil:
							t.Errorf("quorum %v, seed %d, stopped %v, started %v, missing %d: %v\n%s", quorum, seed, stops, starts, missing, err, w.Why(150))
							return
						case !led:
							awaited++
						case missing >= 0:
							without++
						}
					}
				}
			}
		}
		t.Logf("quorum %v: %d outages; with one missing for ever %d times somebody leads, and %d times nobody, who may not have all", quorum, lives, without, awaited)
		if without == 0 || awaited == 0 { // in quorum mode, where a leader that is left alone may go on
			t.Error("one of both never happened")
		}
	}
}

// totalOutage says whether somebody leads in the end.
func (w *World) totalOutage(quorum bool, stops, starts [3]int, missing int) (bool, error) {
	if err := w.Found(); err != nil {
		return false, err
	}
	if quorum {
		w.synchronous()
		w.awaitWhole("synchronous", 2*time.Minute)
	}
	w.Load(20 * time.Millisecond)
	w.run(w.now + w.draw(5*time.Second, 10*time.Second))
	w.laws.excused = true
	last := w.leader()
	for _, i := range stops {
		n := w.nodes[i]
		w.say("script: %s stops", n.name)
		if w.chance(0.3) {
			n.stopAgent()
			w.run(w.now + w.draw(0, 5*time.Second))
		}
		n.powerOff()
		w.run(w.now + w.draw(0, 12*time.Second)) // who is left may elect meanwhile, or not
		if l := w.leader(); l != nil {
			last = l
		}
	}
	w.client.stop()
	for _, i := range starts {
		if i == missing {
			continue
		}
		w.say("script: %s starts", w.nodes[i].name)
		w.nodes[i].powerOn()
		w.nodes[i].start()
		w.run(w.now + w.draw(0, 20*time.Second))
	}
	if missing < 0 {
		w.awaitWhole("after all stopped", w.patience())
		return true, w.err()
	}
	w.run(w.now + w.patience())
	if w.Failed != nil {
		return false, w.err()
	}
	ok, why := w.settled()
	switch {
	case ok:
		w.settle()
		return true, w.err()
	case last == nil || w.nodes[missing] != last:
		return false, fmt.Errorf("%s is missing, who was not the last to lead, and %s", w.nodes[missing].name, why)
	case quorum && w.store.newest.read().Config.Data["synchronous_mode_strict"] == true:
		return false, fmt.Errorf("%s is missing, without whom nothing can have been acknowledged, and %s", w.nodes[missing].name, why)
	}
	if l := w.leader(); l != nil {
		return false, fmt.Errorf("%s is missing, %s leads, and %s", w.nodes[missing].name, l.name, why)
	}
	return false, nil
}
