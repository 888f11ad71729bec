package ha

import (
	"math"
	"slices"
	"time"

	"howdah/pg"
)

// fence silences a server that may acknowledge writes while its right to do so
// is not provable: frozen, not stopped, because most such moments pass (an
// election of the store, a stalled disk) and a frozen server goes on where it
// stood. What happens to it is decided once the store can be seen again: the
// same epoch and it thaws, another and it is killed.
//
// The guard in the supervisor does the same from the page alone, whether or not
// this agent lives.
func (t *turn) fence() {
	s := &t.Server
	if !t.writes() || t.private() {
		if s.Process == pg.ProcessNone {
			t.m.Under, t.m.Silenced = 0, time.Time{}
		}
		return
	}
	if t.maintained() {
		return
	}
	if !t.leading() && t.m.Silenced.IsZero() {
		t.m.Silenced = t.Wall
	}
	if t.leading() {
		t.wakeBy(t.deadline())
		if s.Process != pg.ProcessFrozen {
			t.m.Under, t.m.Silenced = t.m.Right.Epoch, time.Time{}
		}
		return
	}
	if s.Process == pg.ProcessFrozen && t.ServerAt > t.m.Let {
		t.note("fence=frozen")
		return
	}
	// What was seen before the page last let it write does not count: the guard
	// thaws without a word. Under keeps the epoch under which it last wrote by right.
	t.note("fence=deadline")
	t.do(Freeze{})
	t.lookBy(t.Now)
}

// writes says that the server may acknowledge writes, or may begin to at any
// moment: a promotion that was asked for cannot be taken back, whatever became
// of the work that asked.
func (t *turn) writes() bool {
	return t.Server.MayWrite() || t.m.Promoting && t.Server.Process != pg.ProcessNone
}

// private says that what runs on the data directory is our own work, which
// serves nobody.
func (t *turn) private() bool {
	switch t.Job.Action.(type) {
	case Initdb, Clone, Rewind, Recover, Measure:
		return true
	}
	return false
}

// forever is the deadline of a server under maintenance.
const forever = time.Duration(math.MaxInt64)

// maintained says that the cluster is under maintenance, as far as is known.
func (t *turn) maintained() bool {
	if !t.Known {
		return t.m.Paused
	}
	// From here on the store says it. One that ended while no agent ran leaves a
	// server without a right that can be proven, though its key may still be there:
	// it is frozen until the renewal proves it, for the lease may end before that.
	t.m.Paused = false
	return t.State.Config.Pause()
}

// page is what guard and gateway may rely on until the next turn.
func (t *turn) page() Page {
	writes := t.writes() && !t.private() || t.promoting()
	if t.maintained() || t.leading() {
		t.m.Let = t.Now
	}
	switch {
	case t.maintained() && writes:
		// Maintenance: nothing is fenced, as under Patroni.
		return Page{Primary: true, Epoch: max(t.m.Right.Epoch, t.m.Under), Deadline: forever}
	case t.leading() && (writes || !t.standbyCluster()):
		return Page{Primary: true, Epoch: t.m.Right.Epoch, Deadline: t.deadline()}
	case writes:
		return Page{Primary: true, Epoch: t.m.Under, Deadline: min(t.Now, t.deadline())}
	default:
		return Page{}
	}
}

// promoting says that the server is, or is about to be, on its way to write.
func (t *turn) promoting() bool {
	return t.Job.Action != nil && Opens(t.Job.Action) || slices.ContainsFunc(t.d.Actions, Opens)
}

// room says that enough of the lease is left to begin something that writes.
func (t *turn) room() bool {
	need := min(time.Second, t.Timers.Lease/4)
	if t.leading() && t.deadline()-t.Now >= need {
		return true
	}
	t.note("right=short")
	return false
}

// working says that work on the server is under way, which is left alone but
// for a server that was frozen meanwhile and may go on, one on its way to write
// whose node may lead no more, and a start that can come to no end.
func (t *turn) working() bool {
	if t.Job.Action == nil {
		return false
	}
	if t.Job.Total > 0 {
		t.note("job=%s(%d%%)", firstWord(t.Job.Action.String()), min(100, 100*t.Job.Done/t.Job.Total))
	} else {
		t.note("job=%s", firstWord(t.Job.Action.String()))
	}
	if t.Stopping && t.hopeless() {
		t.note("job=given-up")
		t.do(Kill{})
		return true
	}
	switch t.Job.Action.(type) {
	case Start, Promote:
		t.lookBy(t.ServerAt + soon)
	case Stop:
		t.lookBy(t.ServerAt + soon)
		t.closed()
	case Kill:
		t.lookBy(t.ServerAt + soon)
		return true
	}
	if t.promoting() && t.Known && t.State.LeaderName() != t.Self.Name && !t.leading() && t.State.Revision >= t.m.Under {
		t.note("right=lost")
		t.do(Kill{})
		return true
	}
	if t.Server.Process == pg.ProcessFrozen && t.leading() {
		t.thaw() // a frozen server never ends what it was asked to do
		return true
	}
	if a, ok := t.Job.Action.(Start); ok {
		took := t.Now - t.Job.Since
		switch {
		case took > t.Timers.Start && (!a.Standby || t.leading() && !t.standbyCluster()):
			t.note("start=overdue")
			t.do(Kill{})
		case a.Up.Name != "" && took > stuckAfter && t.State.LeaderName() != "" && (t.State.Epoch() != t.m.Rejoin.Epoch || t.beyond()):
			// It may be waiting for log that only a leader before had.
			t.note("start=stale")
			t.do(Kill{})
		case took > stuckAfter && !t.leading() && (t.Server.Process == pg.ProcessFrozen || t.Server.Process == pg.ProcessRemains):
			// Silenced at the deadline before it said who it is: it never will.
			t.note("start=silenced")
			t.do(Kill{})
		}
	}
	return true
}

// beyond says that what this server must replay before it is consistent lies beyond
// where the cluster's history left its timeline, or on one that the leader never
// heard of: nobody will ever send it.
func (t *turn) beyond() bool {
	tl := t.Server.Timeline
	if at, forked := t.fork(tl); forked {
		return t.Server.Flushed > at
	}
	now := t.clusterTimeline()
	return tl < now && t.gap(now)
}

// hopeless says that an agent that is leaving need not wait for the work under
// way: a copy that is not finished is worth nothing, and a start that takes long
// (recovery, or waiting for log) may take for ever. But what a crashed primary
// recovers nobody else may have: that is waited for as long as an agent can.
func (t *turn) hopeless() bool {
	switch a := t.Job.Action.(type) {
	case Clone:
		return true
	case Start:
		if !a.Standby && t.leading() {
			return !t.recovers()
		}
		return t.Now-t.Job.Since > farewellFor
	}
	return false
}
