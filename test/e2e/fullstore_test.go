package e2e

import (
	"strings"
	"testing"
	"time"

	"howdah/dcs"
	"howdah/dcs/etcd"
)

// Somebody fills the store to its quota. Nobody is demoted for it: the same server goes on
// writing, and where there is room again everything is as before.
func TestFullStore(t *testing.T) {
	byNight(t)
	w := own(t)
	w.check(w.Up(w.ctx, "--ground", "loopback"))
	for _, mode := range []string{"quorum", "lease"} {
		if mode == "lease" {
			w.leased()
		}
		writer := w.write()
		leader := w.Node(w.whole())
		server := w.role(leader, "postgres")
		other, err := etcd.OpenBase(leader, "/somebody-else/")
		w.check(err)
		began := time.Now()
		for {
			_, err = other.Do(w.ctx, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("much", strings.Repeat("x", 1_400_000), 0)}})
			if err != nil {
				break
			}
		}
		other.Close()
		if !strings.Contains(err.Error(), "database space exceeded") {
			t.Fatalf("the store is filled: %v", err)
		}
		t.Logf("%s: the store was full after %s", mode, time.Since(began).Round(time.Second))
		full := time.Now()
		w.pause(3 * leader.Agent.Timers.Lease)
		w.flowing(writer)
		longest := writer.Longest(full, time.Now())
		t.Logf("%s: %s without writes in %s with a full store", mode, longest.Round(time.Millisecond), 3*leader.Agent.Timers.Lease)
		if longest > leader.Agent.Timers.Lease/2 {
			t.Errorf("%s: %s without writes", mode, longest)
		}
		if a, err := w.Run(w.ctx, "etcd", "status"); err != nil || a.Code != 3 || !strings.Contains(a.Out, "NOSPACE") {
			t.Errorf("%s: etcd status says %q, exit %d, %v", mode, a.Out, a.Code, err)
		}
		if out := w.howdah("etcd", "defrag"); strings.Contains(out, "NOSPACE") {
			t.Errorf("%s: %s", mode, out)
		}
		w.goesOn("a full store", leader.Member, server)
		w.howdah("switchover", "--yes")
		w.whole()
		w.flowing(writer)
		w.kept(writer)
		writer.Stop()
	}
}
