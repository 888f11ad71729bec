package ha

import (
	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// A person brings the cluster back to a moment.
//
// The story: what is to be is made beside the leader's data while the cluster goes
// on, up to a server of its own that has ended on a timeline nobody else begins
// (Reserved counts it). Then the leader is asked to turn. It ends its server, and in
// one transaction over its own epoch says that it has turned: from there on nobody
// leads whose log is of a timeline before, however long that log is. Only then are
// the data exchanged, by two renames, and the server started under the key that was
// never let go. The others find that the cluster left their timeline before the end
// of their log, and rejoin like anybody who has diverged: what they have is kept.
//
// Whoever dies in between: before the transaction the leader starts what it had,
// and is asked again; after it the leader alone can go on, and exchanges first.

// turns is the leader's part in a restore. It says whether that was all for now.
func (t *turn) turns() bool {
	r := t.State.Restore
	if r == nil || r.Member != t.Self.Name || r.Phase != cluster.RestoreAsked {
		return false
	}
	s := &t.Server
	switch {
	case t.State.Unknown(cluster.KeySync) || t.m.Switch.Stopped || t.m.Offer.Wanted && !t.m.Offer.Closed:
		t.note("restore=waits") // for a change of leader that has begun
		return false
	case max(t.State.Timeline(), s.Timeline, s.Control.Timeline) >= r.Timeline:
		t.note("restore=stale") // somebody led on that timeline since it was made
		return false
	}
	t.note("restore=asked")
	switch s.Process {
	case pg.ProcessRunning, pg.ProcessStarting:
		t.begin(cluster.KindRestore, t.Self.Name, "brought back to "+r.To)
		t.m.Restart = 0
		t.work(Stop{})
	case pg.ProcessNone:
		t.begin(cluster.KindRestore, t.Self.Name, "brought back to "+r.To)
		t.m.Story.phase("stopped", t.Wall)
		if t.State.Revision < t.m.Wrote {
			t.note("store=behind")
			break
		}
		next, term := *r, t.reign(cluster.KindRestore)
		next.Phase = cluster.RestoreTurned
		term.Timeline = r.Timeline
		if t.lockDue(t.Timers.Renew / 4) {
			t.ask(Revert{Lease: t.m.Lease.ID, Epoch: t.m.Right.Epoch, Over: r.Mod, Record: next.Encode(), Term: term.Encode()})
		}
	default:
		t.lookBy(t.ServerAt + soon)
	}
	return true
}

// installs puts the data of a restore in place, if this member has turned and not
// done that. It comes before all that could start what was there.
func (t *turn) installs() bool {
	r, s := t.State.Restore, &t.Server
	if r == nil || r.Member != t.Self.Name || r.Phase != cluster.RestoreTurned || t.Stopping {
		return false
	}
	if s.Data == pg.DataPresent && s.Control.Timeline >= r.Timeline || s.Data == pg.DataUnreadable {
		return false
	}
	t.note("restore=turned")
	switch s.Process {
	case pg.ProcessNone:
		a := Install{Made: r.Made, Aside: r.Aside}
		if t.failing(a) {
			t.problems = append(t.problems, problem.Error{
				Code: "restore-stuck", What: "the data that the cluster was to be brought back to are not in place", Why: t.m.Failed.Err,
				Do: "remove the cause, and it goes on by itself; nobody else can lead meanwhile",
			})
			return true
		}
		t.m.Crash, t.m.Replicas, t.m.Rejoin = Crash{}, nil, Rejoin{}
		t.work(a)
	default:
		t.work(Kill{}) // nobody started it by right
	}
	return true
}

// restored says that the restore is done: somebody writes on its timeline, or on
// one that came of it.
func (t *turn) restored() {
	r := t.State.Restore
	if r == nil || r.Phase != cluster.RestoreTurned || t.Server.Timeline < r.Timeline || t.quiet() {
		return
	}
	next := *r
	next.Phase = cluster.RestoreDone
	t.do(Put{Key: cluster.KeyRestore, Value: next.Encode(), Guard: t.m.Right.Epoch, Over: r.Mod})
}

// superseded says that a log which ends on that timeline is of before a restore:
// whoever has it does not lead, however much it has. Of a restore that can not be
// read nothing is known.
func (t *turn) superseded(tl pg.Timeline) bool {
	switch floor := t.State.Floor(); {
	case t.State.Unknown(cluster.KeyRestore):
		t.note("restore=unreadable")
	case tl < floor:
		t.note("candidate=no(before the restore: %d<%d)", tl, floor)
		t.problems = append(t.problems, problem.Error{
			Code: "restore-stuck", What: t.Self.Name + " cannot lead, whose log is of before the restore to " + t.State.Restore.To,
			Why: "nobody has taken over what was restored from " + t.State.Restore.Member + ", who does not lead",
			Do:  "bring " + t.State.Restore.Member + " back",
		})
	default:
		return false
	}
	return true
}
