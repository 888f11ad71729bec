package sim

import (
	"time"

	"howdah/cluster"
	"howdah/dcs"
)

// Stores that lose everything while those live who knew what stood in them.

// wipes lets that happen now and then.
func (w *World) wipes() {
	w.after(w.draw(20*time.Second, 5*time.Minute), func() {
		w.wipe()
		w.wipes()
	})
}

// wipe takes every key and every lease. Who can put them back does; what nobody
// who lives can be certain of, a person decides after a while.
func (w *World) wipe() {
	st := w.store.newest.read()
	if st.Initialize.System == 0 || w.store.outage || w.quorum != w.promises {
		return
	}
	if holder, key := w.store.newest.holder, w.store.newest.leader; holder != nil {
		due, _ := w.store.state.Due(dcs.LeaseID(key.Lease))
		w.laws.former = former{holder, key, due}
	}
	w.say("etcd: everything is lost")
	w.Stats.Wiped++
	w.wiping = true
	w.store.state.Lose()
	w.wiping = false
	w.decide(w.Stats.Wiped, 40*time.Second)
}

// decide lets a person who sees everything name who goes on, once nobody has put
// the store back for d.
func (w *World) decide(wiped int, d time.Duration) {
	w.after(d, func() {
		st := w.store.newest.read()
		if w.Stats.Wiped != wiped {
			return
		}
		if st.Initialize.System != 0 {
			if st.Config.Data == nil {
				w.decide(wiped, d) // not all of it is back
				return
			}
			if w.promises && st.Config.SynchronousMode() == cluster.SyncOff {
				w.synchronous() // nobody who was left remembered the configuration
			}
			if w.mended && st.Config.Pause() {
				w.pause(false) // put back as it was during a pause, which lasts until somebody ends it
			}
			return
		}
		w.decide(wiped, d)
		if f := st.Failover; f.Leader == "" && f.Member != "" || w.store.outage {
			return // named already; what was asked of the old cluster is no answer
		}
		var best *node
		for _, n := range w.nodes {
			if s := n.server; s.branch == nil || s.control.System != w.laws.system {
				continue
			}
			if best == nil || n.server.branch.tl > best.server.branch.tl || n.server.branch.tl == best.server.branch.tl && n.server.end > best.server.end {
				best = n
			}
		}
		if _, live := st.Member(name(best)); live {
			w.Stats.Decided++
			w.failover(best.name)
		}
	})
}
