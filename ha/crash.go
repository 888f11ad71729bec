package ha

import (
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// offerFor is how long the key of a crashed primary is held out. A candidate
// that has everything answers within a few milliseconds of the watch; whoever
// needs longer would be later than a start in place.
const offerFor = 80 * time.Millisecond

// worthOffering is how far behind a replica may have been at the last look for
// an offer to be worth the time it costs.
const worthOffering = 1 << 20

// startsInPlace is how often a crashed primary is started before its node gives
// the key up for good.
const startsInPlace = 2

// leadDown is the leader whose server does not run (verified: no process holds
// the data directory).
//
// The story: the postmaster dies; what is left of it is killed; the end of its
// log is measured. Everything it can have acknowledged lies before that end, so
// a standby that has all of it may take over at once without losing a commit:
// the key is offered to it. If nobody takes it in time the offer is withdrawn
// by compare-and-swap, and the server starts in place, which replays its own
// log and loses nothing either.
func (t *turn) leadDown() {
	s := t.Server
	if t.m.Taken != t.m.Right.Epoch {
		// Our predecessor may have given the key up, and its request may still be on
		// its way: under an epoch of our own it comes to nothing.
		t.note("right=inherited")
		if t.lockDue(t.Timers.Renew / 4) {
			t.ask(Retake{Lease: t.m.Lease.ID, Epoch: t.m.Right.Epoch, Term: t.term(cluster.TermRetaken)})
		}
		return
	}
	if s.Data != pg.DataPresent {
		// The data is gone under us. Give the key to those who have it.
		t.note("data=%s", s.Data)
		t.release()
		return
	}
	if t.m.Switch.Stopped {
		t.handOver()
		return
	}
	if t.lowered() {
		return
	}
	if old := t.outdated(); old || s.Standby || !s.Control.WasPrimary() {
		if old {
			t.note("timeline=%d<%d", s.Control.Timeline, t.State.History.Timeline())
		}
		t.note("server=down(standby)")
		if t.unwatched() {
			t.release() // elected, and its watchdog was lost meanwhile
			return
		}
		a := Start{Standby: true}
		switch failing := t.failing(a); {
		case failing && t.m.Failed.Times >= startsInPlace:
			t.release()
		case !failing: // what was elected because it may be tried again is tried again
			t.work(a)
		}
		return
	}
	t.note("server=down")
	if t.m.Restart != 0 && t.m.Crash.Starts == 0 {
		t.m.Story.phase("stopped", t.Wall)
		t.inPlace()
		return
	}
	if s.Control.Clean() && t.m.Crash.At == 0 {
		// It was shut down by somebody, or never ran: nothing to offer, nothing lost.
		t.note("shutdown=clean")
		if t.m.Story.over() {
			t.begin(cluster.KindRestart, t.Self.Name, "PostgreSQL was found shut down")
		}
		t.m.Story.phase("stopped", t.Wall)
		t.inPlace()
		return
	}
	if t.m.Crash.At == 0 {
		t.m.Crash = Crash{At: t.Now}
		t.begin("crash", t.Self.Name, "the postmaster died")
		if t.m.Story.Begun.Equal(t.Wall) && s.Gone > 0 {
			t.m.Story.Begun = t.Wall.Add(t.ServerAt - t.Now - s.Gone)
		}
	}
	c := &t.m.Crash
	switch {
	case c.Starts >= startsInPlace:
		t.note("starts=%d", c.Starts)
		t.release()
	case c.Offered:
		t.inPlace()
	case !t.candidates():
		t.note("candidates=none")
		c.Offered = true
		t.inPlace()
	case !c.Measured:
		t.work(Measure{})
	case c.End == 0:
		t.note("end=unknown")
		c.Offered = true
		t.inPlace()
	default:
		t.offer("", c.End, offerFor)
	}
}

// outdated says that another has led on a later timeline since this server wrote,
// and that a person named it all the same. Started in place it would write on a
// timeline that the others have left: whatever it wrote they would take for
// diverged, and no copy of it would follow. A standby promotes to a timeline of its own.
//
// A control file names the timeline before until the first checkpoint on the new
// one, so a server that the history names itself is none of these.
func (t *turn) outdated() bool {
	h, c := t.State.History, t.Server.Control
	return len(h) > 0 && c.WasPrimary() && c.Timeline < h.Timeline() && h[len(h)-1].Leader != t.Self.Name
}

// candidates says that some replica that lives was close enough to have everything.
func (t *turn) candidates() bool {
	var top pg.LSN
	for _, r := range t.m.Replicas {
		top = max(top, r.Flushed)
	}
	for _, r := range t.m.Replicas {
		m, live := t.State.Member(r.Name)
		// A base backup streams under its member's name, too: only a server that runs counts.
		if live && m.Running() && !m.Tags.NoFailover() && !t.barred(r.Name) && r.State == "streaming" && r.Flushed.Behind(top) <= worthOffering {
			return true
		}
	}
	return false
}

// offer holds the key out to a member (or to anyone) who has the log up to lsn,
// and takes it back after the given time.
//
// The handover key is never deleted: an offer and its withdrawal are both puts
// over the revision that was seen before. So an offer whose answer was lost, and
// which may still be on its way, cannot come true after its withdrawal has.
func (t *turn) offer(to string, lsn pg.LSN, wait time.Duration) {
	o := &t.m.Offer
	mod, open := t.handover()
	if !o.Wanted {
		*o = Offer{Wanted: true, Since: t.Now, Over: mod}
	}
	switch {
	case t.Now-o.Since >= wait && mod > o.Over && !open:
		// Withdrawn, while the key is still ours: nobody can take it any more.
		t.note("offer=withdrawn")
		*o = Offer{Closed: true}
		t.m.Crash.Offered = true
		t.m.Switch = Switch{}
		t.wakeBy(t.Now)
	case t.Now-o.Since >= wait:
		t.note("offer=expired")
		t.closeOffer(mod)
	case mod == o.Over:
		t.note("offer=made")
		s := t.m.Story
		t.put(cluster.KeyHandover, cluster.Handover{
			To: to, From: t.Self.Name, Epoch: t.m.Right.Epoch,
			Timeline: t.offeredTimeline(), LSN: lsn,
			Story: &cluster.Story{Kind: s.Kind, Reason: s.Reason, At: s.Begun, Phases: s.Phases},
		}.Encode(), mod)
		t.wakeBy(o.Since + wait)
	default:
		t.note("offer=open")
		t.wakeBy(o.Since + wait)
	}
}

// handover returns the handover key's revision (0: it does not exist) and
// whether it holds an open offer of ours.
func (t *turn) handover() (mod int64, open bool) {
	h := t.State.Handover
	if h == nil {
		return 0, false
	}
	return h.Mod, h.From == t.Self.Name && h.Epoch == t.m.Right.Epoch
}

// offeredTimeline is the timeline that an offer is of: a server that runs knows better
// than its control file, which names that of the last checkpoint.
func (t *turn) offeredTimeline() pg.Timeline {
	if s := &t.Server; s.Answers && s.Recovering {
		return s.Timeline
	}
	return t.Server.Control.Timeline
}

func (t *turn) closeOffer(mod int64) {
	t.put(cluster.KeyHandover, cluster.Handover{}.Encode(), mod)
	t.wakeBy(t.Now + soon)
}

// withdraw takes back an offer of a server that writes again.
func (t *turn) withdraw() bool {
	mod, open := t.handover()
	if !open {
		t.m.Offer = Offer{}
		return false
	}
	t.note("offer=stale")
	t.closeOffer(mod)
	return true
}

// inPlace starts the server again where it stopped, once it is certain that no
// offer of the key is open or on its way.
func (t *turn) inPlace() {
	o := &t.m.Offer
	if !o.Closed {
		mod, open := t.handover()
		if !o.Wanted {
			*o = Offer{Wanted: true, Since: t.Now, Over: mod}
		}
		if mod == o.Over || open {
			t.note("offer=closing")
			t.closeOffer(mod)
			return
		}
		*o = Offer{Closed: true}
	}
	if t.room() {
		t.m.Story.phase("offer closed", t.Wall)
		t.work(Start{})
	}
}

// release gives the key up: the server is verifiably dead, and not coming back here.
func (t *turn) release() {
	if t.Server.Process != pg.ProcessNone {
		t.note("release=refused")
		return
	}
	if t.ask(Release{Epoch: t.m.Right.Epoch}) {
		t.m.Giving = t.m.Right.Epoch
	}
}
