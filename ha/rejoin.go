package ha

import (
	"howdah/cluster"
	"howdah/pg"
)

// rewindTries is how often a rewind may fail before a fresh copy is taken.
const rewindTries = 2

// rejoin brings a server that does not run back behind the leader.
//
// Where its log ends is compared with where the cluster's history left its
// timeline. What lies beyond that point no later primary has: it is copied aside
// (law 7), then taken back by pg_rewind; where that is impossible the whole data
// directory is moved aside and a fresh copy taken.
func (t *turn) rejoin() {
	s := t.Server
	r := &t.m.Rejoin
	up, ready := t.upstream()
	from := t.source()
	switch {
	case s.Data == pg.DataMissing || s.Data == pg.DataPartial:
		t.note("data=%s", s.Data)
		if !ready {
			t.note("awaits=%s", t.State.LeaderName())
			return
		}
		t.copy(up)
		return
	case up.Host == "":
		t.note("leader=unpublished")
		return
	case r.Aside:
		t.note("copy=fresh")
		t.work(MoveAside{})
		return
	case !r.Measured:
		t.work(Measure{})
		return
	}
	tl := s.Control.Last()
	now := t.clusterTimeline()
	at, left := t.fork(tl)
	switch {
	case now == 0:
		t.note("history=unknown")
		return
	case tl == now && !(s.Control.WasPrimary() && !s.Standby):
		t.note("timeline=%d", tl)
		t.work(Start{Standby: true, Up: from})
	case s.Standby && (s.Copied || !s.Control.WasPrimary()) && !r.Forked && t.m.Failed.What != (Start{Standby: true, Up: from}).String():
		// It wrote nothing of its own, and its control file names the timeline of its
		// last restartpoint, not that of its log: once it runs, it can say more. A
		// backup's names that of the primary that it was made of.
		t.note("timeline=%d?", tl)
		t.work(Start{Standby: true, Up: from})
	case left && r.End != 0 && r.End <= at:
		t.note("timeline=%d<%d", tl, now)
		t.work(Start{Standby: true, Up: from})
	case tl < now && !left && t.State.History.Timeline() < now && !t.gap(now) && tl >= t.State.Floor():
		t.note("history=awaited")
	case t.standbyCluster():
		// Its leader is no primary, and pg_rewind wants one.
		t.note("copy=needed")
		if r.Aside = ready; ready {
			t.wakeBy(t.Now)
		}
	case !ready || !t.rewindable():
		// The leader has not said yet that it writes: its history is still to come.
		t.note("awaits=%s", t.State.LeaderName())
	case tl == now:
		// Two servers wrote under one number: pg_rewind would see no difference.
		t.note("timeline=twin")
		r.Aside = true
		t.wakeBy(t.Now)
	default:
		t.diverged(up, at, left)
	}
}

// diverged takes back what this server has and the cluster does not.
func (t *turn) diverged(up pg.Upstream, at pg.LSN, left bool) {
	r := &t.m.Rejoin
	tl := t.Server.Control.Last()
	if left && r.End > at {
		r.Lost = at.Behind(r.End)
	}
	if !left || r.End == 0 {
		t.note("diverged=unknown") // all of it may be ours alone
	} else {
		t.note("diverged=%d", r.Lost)
	}
	switch {
	case (!left || r.End == 0 || r.Lost > 0) && !r.Kept:
		t.work(Keep{From: at, Timeline: tl})
	case r.Failures >= rewindTries:
		r.Aside = true
		t.wakeBy(t.Now)
	case !t.Server.Control.Clean() && !r.Recovered:
		// pg_rewind wants a server that was shut down. The end of its log is measured
		// and kept by now: recovery would write beyond it.
		t.work(Recover{})
	default:
		t.work(Rewind{From: up})
	}
}

// gap says that the history is the leader's, though it ends before his timeline:
// between the two are ids that were reserved for others.
func (t *turn) gap(now pg.Timeline) bool {
	term := t.State.Term
	return term != nil && term.Reserved >= now && t.rewindable()
}

// clusterTimeline is the timeline the leader writes on.
func (t *turn) clusterTimeline() pg.Timeline {
	tl := t.State.History.Timeline()
	if m, ok := t.State.Member(t.State.LeaderName()); ok && (m.Role == cluster.RolePrimary || m.Role == cluster.RoleStandbyLeader) {
		tl = max(tl, m.Timeline)
	}
	return tl
}

// rewindable says that the leader has made its checkpoint after the promotion.
func (t *turn) rewindable() bool {
	m, ok := t.State.Member(t.State.LeaderName())
	return ok && m.RewindSource()
}
