package sim

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var hangRuns = flag.Int("hang-runs", 3, "lives of each kind in TestHungDisks")

// notHung are those of ha/jammed.go, which only disks that hang come to.
var notHung = []string{"log=jammed", "jammed=overdue"}

// Disks hang, whatever else happens: who can acknowledge nothing keeps nobody else from
// leading for ever, and what goes on when the disk answers again writes by right or not at all.
func TestHungDisks(t *testing.T) {
	count := *hangRuns
	if os.Getenv("NIGHTLY") != "" {
		count *= 20
	}
	v := readVocabulary(t)
	all := v.all(4*count, func(i int) Options {
		return Options{Seed: *first + uint64(i), Dense: i%2 == 1, Quorum: i >= 2*count, Hang: true}
	})
	for _, b := range all.broken {
		t.Errorf("seed %d: %v\n  replay: go test ./test/sim -run TestReplay -seed %d -dense=%v -quorum=%v -hang -v", b.seed, b.what, b.seed, b.dense, b.seed >= *first+uint64(2*count))
	}
	t.Logf("%d lives with disks that hang: %.0f cluster-hours, %+v", 4*count, all.total.Simulated.Hours(), all.total)
	for _, f := range hungFaults {
		met := all.met[f.name]
		if met == nil {
			t.Errorf("%s: never happened", f.name)
			continue
		}
		t.Logf("%-24s met a cluster that was %s %5d times, %s %5d, %s %4d, %s %4d", f.name, whole, met[whole], hurt, met[hurt], mute, met[mute], vacant, met[vacant])
	}
	for _, note := range notHung {
		if all.said.count[note] == 0 && count > 3 {
			t.Errorf("no decision said %q", note)
		}
	}
}

// The leader's disk hangs for two minutes in a cluster that is well: somebody else leads
// before one is over, nothing that was acknowledged is lost, and it comes back by itself.
func TestALeaderWhoseDiskHangs(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		for _, quorum := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, synchronous %v", seed, quorum), func(t *testing.T) {
				w := New(Options{Seed: seed, Nodes: 3, Calm: true, Quorum: quorum, Hang: true})
				for _, n := range w.nodes {
					n.powerOn()
				}
				w.awaitWhole("founding", 2*time.Minute)
				if quorum {
					w.synchronous()
					w.awaitWhole("synchronous", 2*time.Minute)
				}
				w.Load(50 * time.Millisecond)
				w.run(w.now + w.draw(0, 10*time.Second))
				leader := w.leader()
				w.hang(leader, 2*time.Minute)
				leader.server.blind = false // docs/guarantees.md says what a disk costs of which nothing can be read
				began := w.now
				ok := w.until(time.Minute, func() bool {
					l, _ := w.Leader()
					return l != "" && l != leader.name
				})
				if !ok {
					t.Errorf("%s leads still: %s; %s", leader.name, leader.server, leader.last)
				}
				t.Logf("another led after %s", w.now-began)
				w.run(began + 2*time.Minute)
				if err := w.Settle(w.patience()); err != nil {
					t.Error(err)
				}
				if w.Stats.Lost > 0 {
					t.Errorf("%d rows were lost", w.Stats.Lost)
				}
			})
		}
	}
}
