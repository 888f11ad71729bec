package ha

import (
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// paused leaves the server to a person (maintenance mode): nothing is started,
// stopped, promoted, fenced or elected. The key is kept while its server is a
// running primary and given back when it is not; a running primary without a
// key may take a free one.
func (t *turn) paused() bool {
	if !t.State.Config.Pause() {
		return false
	}
	t.note("paused")
	s := t.Server
	primary := s.Primary()
	l := t.State.Leader
	switch {
	case t.askedInPause():
		return !t.m.Reinit.Asked // a fresh copy goes the way of every other one
	case s.Process == pg.ProcessFrozen:
		// Silenced before the pause began. It goes on if nobody else led since.
		if t.leading() {
			t.thaw()
		} else if s.MayWrite() && l == nil && t.m.Under != 0 && t.m.Under == t.State.Epoch() {
			t.note("fence=over")
			t.do(Thaw{})
			t.lookBy(t.Now + soon)
		}
	case l != nil && l.Name == t.Self.Name && t.leading():
		t.m.Under = t.m.Right.Epoch
		if primary {
			t.m.Replicas = s.Replicas
			if !t.switchover() {
				if !t.undrain() {
					t.admit()
				}
			}
			return true
		}
		if t.m.Switch.Stopped && s.Process == pg.ProcessNone {
			return false // a manual switchover goes on
		}
		if s.Process == pg.ProcessNone && s.Control.Clean() {
			t.release()
		}
	case l == nil && primary && t.State.Initialize.System == s.Control.System && t.lastLeader() == t.Self.Name:
		if !t.superseded(max(s.Timeline, s.Control.Timeline)) {
			t.acquire("paused primary", "")
		}
	case l != nil && s.Process == pg.ProcessRunning && s.Recovering && t.offered():
		t.note("switchover=mine")
	case t.leading() && s.Process == pg.ProcessRunning && s.Recovering:
		return false // taken by a manual switchover: promote
	}
	return true
}

// farewellFor is how long an agent whose server is down tries to hand over, to
// give its key up and to end its lease: longer than a handover takes.
const farewellFor = handoverFor + 2*time.Second

// recoveryFor is how long an agent that is to end waits for a crash recovery: with
// the shutdown and the handover that follow it ends within the minute it is given.
const recoveryFor = 45 * time.Second

// recovers says that an agent that is to end leads a crashed primary for a while
// yet, as if it were to stay: what was acknowledged last, nobody else may have.
func (t *turn) recovers() bool {
	l := &t.m.Leaving
	if l.Asked == 0 {
		l.Asked = t.Now
	}
	if t.Now-l.Asked >= recoveryFor {
		return false
	}
	t.wakeBy(l.Asked + recoveryFor)
	return true
}

// stopping is the end of the agent: a leader hands over first; the server is
// stopped; the lease ends, and with it what this node published. Under pause
// the server is left running and the keys to expire.
func (t *turn) stopping() bool {
	l := &t.m.Leaving
	if !t.Stopping {
		return false
	}
	t.note("stopping")
	if t.Known && t.State.Config.Pause() || !t.Known && t.m.Paused {
		t.note("paused")
		l.Done = true
		return true
	}
	s := t.Server
	switch {
	case s.Process != pg.ProcessNone:
		l.Down = 0
	case l.Down == 0:
		l.Down = t.Now
	}
	if l.Down > 0 {
		t.wakeBy(l.Down + farewellFor)
	}
	switch {
	case l.Down > 0 && t.Now-l.Down > farewellFor && t.Job.Action == nil:
		// The store does not hear us. It finds out by itself when the lease ends.
		t.note("store=silent")
		l.Done = true
	case !t.Known:
		// Nothing can be handed over, and no lease of ours is known.
		t.note("store=unseen")
		switch s.Process {
		case pg.ProcessNone:
			l.Done = true
		case pg.ProcessFrozen, pg.ProcessRemains:
			t.work(Kill{})
		default:
			t.work(Stop{})
		}
	case t.leading() && s.Process != pg.ProcessNone || t.leading() && t.m.Switch.To != "" && t.m.Switch.Stopped:
		return false // lead: switchover, then handOver
	case s.Process == pg.ProcessFrozen || s.Process == pg.ProcessRemains:
		t.work(Kill{})
	case s.Process != pg.ProcessNone:
		t.work(Stop{})
	case t.leading() && s.Data == pg.DataPresent && s.Control.WasPrimary() && !s.Control.Clean() && t.m.Crash.Starts == 0 && t.recovers():
		return false // lead: offer the key to whoever has everything, or start in place, and then leave
	case t.leading():
		// No successor: the server is down, so the key may go (law 5).
		t.release()
	case l.Resigned || t.m.Lease.ID == 0:
		l.Done = true
	case t.m.Lease.heard() > 0 && t.Now-t.m.Lease.heard() > 2*t.m.Lease.TTL:
		t.note("lease=over") // nobody was heard of for long: nothing is waited for
		l.Done = true
	default:
		t.ask(Resign{Lease: t.m.Lease.ID})
	}
	return true
}

// abandoned gives up, when the agent is to end or a person insists on a fresh
// copy, work on a standby that may take
// hours: a copy, and a start that waits for log which may never come. Neither
// loses anything by it.
func (t *turn) abandoned() bool {
	standby := false
	switch a := t.Job.Action.(type) {
	case Clone:
		standby = true
	case Start:
		standby = a.Standby
	}
	if !standby || t.leading() {
		return false
	}
	r, asked := t.State.Request(t.Self.Name)
	switch {
	case t.Stopping && !t.maintained():
		t.note("stopping job=%s", firstWord(t.Job.Action.String()))
	case asked && r.Kind == cluster.RequestReinit && r.Force:
		t.note("request=%s job=%s", r.Kind, firstWord(t.Job.Action.String()))
	default:
		return false
	}
	t.do(Kill{})
	return true
}
