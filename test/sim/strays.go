package sim

import (
	"time"

	"howdah/cluster"
	"howdah/dcs"
)

// Leader keys that no agent wrote.

// strays has somebody write one over the leader's, now and then. What nobody puts
// right is removed after a while, as `howdah status` says it has to be.
func (w *World) strays() {
	w.after(w.draw(10*time.Second, 2*time.Minute), func() {
		w.stray()
		w.strays()
	})
}

func (w *World) stray() {
	n, key := w.holder()
	if n == nil || w.store.outage {
		return
	}
	value := "stranger"
	if w.chance(0.3) {
		value = w.nodes[w.rng.IntN(len(w.nodes))].name // who does not know of its luck
	}
	w.say("etcd: somebody writes %q over the leader key of %s", value, n.name)
	w.Stats.Strays++
	due, _ := w.store.state.Due(dcs.LeaseID(key.Lease))
	w.laws.former = former{n, key, due}
	w.straying = true
	resp, err := w.store.apply(dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ModIs(cluster.KeyLeader, key.Mod)}, Ops: []dcs.Op{dcs.Put(cluster.KeyLeader, value, 0)}})
	w.straying = false
	if err != nil || !resp.OK {
		return
	}
	mod := resp.Revision
	// Not before a leader who cannot see the store has given up.
	w.after(max(due-w.now, 0)+w.draw(5*time.Second, 40*time.Second), func() {
		if now := w.store.newest.leader; now.Mod == mod {
			w.straying = true
			_, _ = w.store.apply(dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ModIs(cluster.KeyLeader, mod)}, Ops: []dcs.Op{dcs.Delete(cluster.KeyLeader)}})
			w.straying = false
		} else if now.Mod > mod {
			w.Stats.Righted++
		}
	})
}
