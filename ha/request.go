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
			t.switchover()
			return true
		}
		if t.m.Switch.Stopped && s.Process == pg.ProcessNone {
			return false // a manual switchover goes on
		}
		if s.Process == pg.ProcessNone && s.Control.Clean() {
			t.release()
		}
	case l == nil && primary && t.State.Initialize.System == s.Control.System && t.lastLeader() == t.Self.Name:
		t.acquire("paused primary", "")
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
	case t.leading():
		// No successor: the server is down, so the key may go (law 5).
		t.release()
	case l.Resigned || t.m.Lease.ID == 0:
		l.Done = true
	case t.m.Lease.Sent > 0 && t.Now-t.m.Lease.Sent > 2*t.m.Lease.TTL:
		t.note("lease=over") // nobody was heard of for long: nothing is waited for
		l.Done = true
	default:
		t.ask(Resign{Lease: t.m.Lease.ID})
	}
	return true
}

// abandoned gives up, when the agent is to end, work on a standby that may take
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
	if !t.Stopping || !standby || t.leading() || t.maintained() {
		return false
	}
	t.note("stopping job=%s", firstWord(t.Job.Action.String()))
	t.do(Kill{})
	return true
}

// restartAsked carries out what a person asked of this member. The request is
// seen to be off the store before anything stops, so that it is carried out at
// most once whatever dies in between.
func (t *turn) restartAsked() bool {
	m := &t.m
	r, asked := t.State.Request(t.Self.Name)
	switch {
	case m.Restart != 0 && m.Restart == t.Server.PID:
		t.note("restart=asked")
		t.begin(cluster.KindRestart, t.Self.Name, "asked for")
		t.work(Stop{})
		return true
	case m.Restart != 0:
		m.Restart = 0 // another server runs by now
	case asked && r.Kind == cluster.RequestRestart:
		t.note("request=%s", r.Kind)
		m.Request = r.Mod
		if !t.quiet() {
			t.do(Drop{Key: cluster.DirRequests + t.Self.Name, Over: r.Mod})
		}
		t.wakeBy(t.Now + soon)
	case m.Request != 0:
		m.Request, m.Restart = 0, t.Server.PID
		t.wakeBy(t.Now)
	}
	return false
}
