package sim

import (
	"slices"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/pg"
)

// People who bring the whole cluster back to a moment. How the data are made is
// not modelled: they are there when the leader is asked to turn to them.

// restores lets one come now and then.
func (w *World) restores() {
	w.after(w.draw(20*time.Second, 5*time.Minute), func() {
		w.bringBack()
		w.restores()
	})
}

// bringBack asks the leader to turn to what its log was up to some row.
func (w *World) bringBack() {
	n := w.leader()
	if n == nil || w.store.outage || !n.server.writes() || n.server.branch == nil || w.paused() {
		return
	}
	s, st := n.server, w.store.newest.read()
	if r := st.Restore; r != nil && r.Phase != cluster.RestoreDone && r.Member == n.name && st.Timeline() < r.Timeline {
		return // one is under way
	} else if r.Turned() && r.Phase != cluster.RestoreDone {
		return
	}
	b, to := s.branch, s.end
	if b.parent != nil && w.chance(0.3) {
		b, to = b.parent, b.fork // the log of before is in the archive
	}
	rows := slices.DeleteFunc(slices.Clone(b.rows), func(r row) bool { return r.end > to })
	if len(rows) > 0 {
		to = rows[w.rng.IntN(len(rows))].end
	}
	if to < max(b.first, b.fork) {
		return // before the backup
	}
	w.branches++
	n.made = &branch{id: w.branches, system: b.system, tl: st.Reserved() + 1, parent: b, fork: to, first: to + 200}
	w.Stats.Restores++
	w.say("%s: is to go back to %d/%s, on timeline %d", n.name, b.tl, to, n.made.tl)
	w.store.put(cluster.KeyRestore, cluster.Restore{
		ID: "x", Member: n.name, To: "then", Timeline: n.made.tl, Phase: cluster.RestoreAsked, Made: "restore-x", Aside: "kept/before-x", By: "sim", At: w.wall(),
	}.Encode())
}

// install exchanges the data for what a restore has made.
func (s *server) install(ha.Install) string {
	w := s.w
	switch b := s.n.made; {
	case s.proc != pg.ProcessNone || s.data == pg.DataUnreadable:
		return "runs"
	case b == nil || s.data == pg.DataPresent && s.branch == b:
		return "" // done before
	default:
		if s.data == pg.DataPresent {
			s.kept = append(s.kept, span{s.branch, 0, s.end})
		}
		w.say("%s: goes on from timeline %d instead of %s", s.n.name, b.tl, s)
		s.n.made = nil
		s.empty()
		s.data, s.branch, s.end, s.newest = pg.DataPresent, b, b.first+100, b.tl
		s.control = pg.Control{State: pg.ControlShutDown, System: b.system, Timeline: b.tl, Checkpoint: b.first, Redo: b.first}
		s.copied = false
		return ""
	}
}

// restoring is told every new revision: what a restore was to take back is lost
// by no fault of anybody, and from its turn on nobody leads without it.
func (w *World) restoring(before, after *picture) {
	old, now := before.Keys[cluster.KeyRestore], after.Keys[cluster.KeyRestore]
	if old.Mod == now.Mod {
		return
	}
	r := after.read().Restore
	if r == nil || r.Phase != cluster.RestoreTurned {
		return
	}
	n := w.node(r.Member)
	if holder := after.holder; holder != n || n.server.proc != pg.ProcessNone {
		w.fail("law 5", "%s turned while the leader key was %s's and its server %s", n.name, name(holder), n.server)
	}
	w.laws.floor = n.made
	w.say("%s: turned", n.name)
	w.laws.acks = slices.DeleteFunc(w.laws.acks, func(a ack) bool { return !n.made.has(n.made.fork, a.b, a.end) })
}

// restored is the law of restores: nobody leads, but to exchange its data first,
// whose log is not one of after the last of them.
func (w *World) restored(n *node, kv dcs.KV) {
	b := w.laws.floor
	if b == nil || n.made == b || n.server.branch == nil || n.server.branch.has(n.server.end, b, b.fork) {
		return
	}
	w.fail("restore", "%s took the leader key at epoch %d with %s, a log of before the restore to timeline %d", n.name, kv.Mod, n.server, b.tl)
}
