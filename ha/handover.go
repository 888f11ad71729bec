package ha

import (
	"slices"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

const (
	switchFor    = 30 * time.Second // a planned change that has not come to the stop by then is given up
	handoverFor  = 3 * time.Second  // how long a cleanly shut down leader waits for its successor
	switchMaxLag = 16 << 20         // a candidate further behind is waited for before anything stops
)

// switchover carries out a planned change of leader, asked for by a person (the
// failover key, as Patroni's clients write it) or by the end of this agent.
//
// The story: a checkpoint first, so that the shutdown's own is short, and meanwhile
// the gateways log in at the candidate; a second one, of what was written during the
// first and until they had, with the log near the end of a segment (postgres/fill.go); the gateways
// hold their clients, and the candidate gets ready (drain.go, heir.go); the server
// shuts down, which sends the candidate everything down to the last record; the
// key is offered to that candidate alone, as soon as that record is written, and it
// takes it in one transaction. There is no moment without a leader, and none with
// two servers that write.
func (t *turn) switchover() bool {
	f := t.State.Failover
	sw := &t.m.Switch
	asked := f.Mod
	switch {
	case t.Stopping:
		asked = -1
	case !f.Asked():
		*sw = Switch{}
		return false
	}
	if sw.Key != asked {
		*sw = Switch{Key: asked, Since: t.Now}
	}
	if t.scheduled(f) {
		return false
	}
	to, why := t.candidate(f)
	switch {
	case to.Name == "" && t.Stopping && (why != waits || t.Now-sw.Since > handoverFor):
		// Nobody can take over: shut down, then give the key up.
		t.note("candidate=none")
		sw.Stopped = true
		t.work(Stop{})
	case to.Name == "" && (why != waits || t.Now-sw.Since > switchFor/3):
		t.note("switchover=refused(%s)", why)
		t.clearFailover()
	case to.Name == "":
		t.note("candidate=awaited")
		if t.undrain() {
			sw.Checkpoints = 0 // nobody is held while nothing can happen
		}
		t.lookBy(t.ServerAt + 5*soon)
	case sw.Checkpoints == 0:
		t.note("switchover=%s", to.Name)
		sw.To = to.Name
		t.begin(t.switchKind(), t.Self.Name, "asked for")
		t.work(Checkpoint{})
		t.announce(to.Name)
	case !t.prepared(to.Name):
	case sw.Checkpoints == 1:
		t.note("switchover=%s", to.Name)
		t.work(Checkpoint{Stop: true})
	default:
		t.note("switchover=%s", to.Name)
		sw.To = to.Name
		t.m.Story.phase(cluster.PhaseCheckpointed, t.Wall)
		if t.drain(to.Name) {
			sw.Stopped = true
			t.work(Stop{})
		}
	}
	return true
}

// scheduled says that a switchover is not due, or is not to be carried out any
// more: one that nobody could carry out in time is called off rather than done when
// nobody expects it. Patroni's should_run_scheduled_action, with its patience; during
// a pause it waits, and is called off at the end of the pause if that came too late.
func (t *turn) scheduled(f cluster.Failover) bool {
	sw := &t.m.Switch
	if t.Stopping || f.ScheduledAt.IsZero() || sw.To != "" {
		return false // or under way, however long that takes
	}
	late := t.Wall.Sub(f.ScheduledAt)
	switch {
	case t.State.Config.Pause() || late < 0:
		t.note("switchover=scheduled")
		if late < 0 {
			t.wakeBy(t.Now + min(-late, time.Hour))
		}
		sw.Since = t.Now
	case late > t.State.Config.LoopWait()*3/2:
		t.note("switchover=missed")
		t.clearFailover()
	default:
		return false
	}
	return true
}

func (t *turn) switchKind() string {
	if t.Stopping || t.State.Failover.Switchover() {
		return cluster.KindSwitchover
	}
	return cluster.KindFailover
}

const waits = "candidate-behind"

// candidate picks the standby that a planned change goes to, or says why none will do.
func (t *turn) candidate(f cluster.Failover) (pg.Replica, string) {
	if t.Stopping {
		f = cluster.Failover{}
	}
	if f.Leader != "" && f.Leader != t.Self.Name {
		return pg.Replica{}, "not-leader"
	}
	if t.State.Unknown(cluster.KeySync) {
		return pg.Replica{}, "sync-unreadable" // nobody would take the key
	}
	if f.Member == t.Self.Name {
		return pg.Replica{}, "is-leader"
	}
	var best pg.Replica
	why := "no-candidate"
	for _, r := range t.Server.Replicas {
		m, live := t.State.Member(r.Name)
		if f.Member != "" && r.Name != f.Member || !live || m.Tags.NoFailover() || m.State == cluster.StateStopping || t.barred(r.Name) {
			continue
		}
		// A base backup streams under its member's name, too: only a server that runs counts.
		if !m.Running() || r.State != "streaming" || r.Flushed.Behind(t.Server.Flushed) > switchMaxLag {
			why = waits
			continue
		}
		if r.Name == t.m.Switch.To { // gateways have been told
			return r, ""
		}
		if best.Name == "" || r.Flushed > best.Flushed {
			best = r
		}
	}
	if best.Name == "" && why != waits && slices.ContainsFunc(t.State.Members, func(m cluster.Member) bool {
		anybody := f.Member == "" && m.Name != t.Self.Name && m.Running() && !m.Tags.NoFailover() && !t.barred(m.Name)
		return anybody || f.Member != "" && m.Name == f.Member
	}) {
		why = waits // it lives, and may stream in a moment
	}
	return best, why
}

// clearFailover answers a request that can not be carried out.
func (t *turn) clearFailover() {
	if t.State.Failover.Asked() {
		t.put(cluster.KeyFailover, cluster.Failover{}.Encode(), t.State.Failover.Mod)
	}
	t.m.Switch = Switch{}
}

// handOver is the leader after its planned shutdown.
func (t *turn) handOver() {
	s := t.Server
	sw := t.m.Switch
	t.note("server=down(planned)")
	t.m.Story.phase("stopped", t.Wall)
	switch {
	case s.Control.State != pg.ControlShutDown:
		// It did not end cleanly: an ordinary crash from here on.
		t.note("shutdown=unclean")
		t.m.Switch = Switch{}
	case sw.To == "":
		t.release()
	case t.m.Offer.Closed:
		t.note("handover=refused")
		t.m.Switch = Switch{}
	default:
		// The shutdown checkpoint begins there and is the last record: who has
		// flushed anything beyond its beginning has all of it.
		t.offer(sw.To, s.Control.Checkpoint+1, handoverFor)
	}
}

// closed offers the key as soon as a planned shutdown has written the last record,
// which may be long before the last process is gone: WAL senders wait for their
// standbys, and the archiver for its repository.
func (t *turn) closed() {
	sw := t.m.Switch
	if sw.Stopped && sw.To != "" && t.leading() && t.m.Taken == t.m.Right.Epoch && t.Server.Closed() {
		t.handOver()
	}
}

// offered is a follower's look at an offer: it takes the key if it has
// everything the old leader can have acknowledged.
func (t *turn) offered() bool {
	h, l, s := t.State.Handover, t.State.Leader, &t.Server
	if h == nil || !h.Open() || l == nil || h.Epoch != l.Mod || h.From != l.Name {
		return false
	}
	if h.To != "" && h.To != t.Self.Name || t.Stopping || t.m.Lease.ID == 0 {
		return false
	}
	self, _ := t.State.Member(t.Self.Name)
	switch {
	case s.Process != pg.ProcessRunning || !s.Answers || !s.Recovering || self.Tags.NoFailover() || t.unwatched():
		return false
	case t.State.Unknown(cluster.KeySync):
		t.note("sync=unreadable")
		return false
	case t.superseded(s.Timeline):
		return false
	case s.Timeline != h.Timeline:
		t.note("handover=other-timeline")
		return false
	case s.Flushed < h.LSN:
		t.note("handover=behind(%d)", s.Flushed.Behind(h.LSN))
		t.lookBy(t.ServerAt + soon/4)
		return false
	case t.Now-t.m.Lease.Sent > t.Timers.Lease/2:
		t.note("lease=old")
		t.confirm()
		return false
	}
	kind := cluster.KindCrash
	if t.m.Story.Kind == "" && h.Story != nil {
		kind = h.Story.Kind
		t.m.Story = Story{Kind: kind, From: h.From, Reason: h.Story.Reason, Begun: h.Story.At, Phases: h.Story.Phases}
	}
	t.note("handover=mine")
	sync, over := t.succeed()
	t.ask(Take{
		Lease: t.m.Lease.ID, Epoch: l.Mod, Handover: h.Mod,
		Term: t.term(kind), Failover: t.State.Failover.Mod, Sync: sync, SyncOver: over,
	})
	t.preset()
	return true
}
