package ha

import (
	"fmt"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
)

// elect is the turn of a member of a cluster without a leader.
//
// Every member that sees the vacancy publishes where its log ends, for the epoch
// that ended; who ranks highest takes the key by compare-and-swap over that very
// epoch, so nobody can win on positions of another. A member that streamed from
// the lost leader until the end is a witness: the cluster was alive, and whoever
// does not answer within a moment is as dead as the leader. Without a witness
// (everything was down) time proves nothing: every recorded member is awaited,
// for any of them may hold what was acknowledged last; only the last leader
// itself, which holds all of its epoch, need not wait. One whose server would not
// start lets the others go first, but not for ever: who is awaited may itself wait,
// for log that only the last leader has, and can say nothing before it has it.
func (t *turn) elect() {
	after := t.State.Epoch()
	if t.unsure() || t.given() {
		return
	}
	t.vacate(after, "")
	v := &t.m.Vacancy
	t.note("leader=none after=%d", after)
	t.m.Crash, t.m.Switch, t.m.Offer = Crash{}, Switch{}, Offer{}
	t.m.Rejoin.Leader = ""
	s := t.Server
	if t.writes() && s.Process == pg.ProcessFrozen {
		// Ours, silenced at the deadline. Nobody has taken the key since if it can
		// be taken over the very epoch under which the server last wrote.
		if t.m.Under != 0 && t.m.Under == after && t.lastLeader() == t.Self.Name {
			t.note("fence=reclaim")
			t.acquire("thawed", "")
			return
		}
		t.note("fence=foreign")
		t.work(Kill{})
		return
	}
	if t.writes() && s.Process != pg.ProcessNone {
		t.note("server=writes") // the fence has spoken already
		t.lookBy(t.ServerAt + soon)
		return
	}
	if !t.standbyCluster() && t.promised() { // nobody was promised anything where nobody writes
		t.ballot(after)
		return
	}
	p, ok := t.pledge(after)
	if !ok {
		return
	}
	if t.superseded(p.Timeline) || t.override(p) {
		return
	}
	if p.NoFailover {
		t.note("candidate=no")
		return
	}
	last := t.lastLeader() == t.Self.Name
	if last && t.m.Failed.Times < startsInPlace {
		t.comeBack()
		return
	}
	if !last && t.unlisted(t.Self.Name) {
		t.note("candidate=unlisted")
		return
	}
	if !t.counted(after) {
		if at := v.Since + stuckAfter; last && t.Now >= at {
			t.comeBack()
		} else if last {
			t.wakeBy(at)
		}
		return
	}
	rank, why := t.rank(p)
	switch {
	case rank < 0:
		t.note("candidate=no(%s)", why)
	default:
		// Those below the first stand in for it one after another, in case it
		// lives but cannot act: not before a request of its that was lost was
		// found to be lost and asked again, for it may have more than they.
		at := v.Ready + time.Duration(rank)*max(4*t.Timers.Grace, 2*t.Timers.Retry+t.Timers.Grace)
		t.note("rank=%d", rank)
		if t.Now < at {
			t.wakeBy(at)
			return
		}
		t.acquire("elected", t.compared())
	}
}

// comeBack is the last leader taking the key again.
func (t *turn) comeBack() {
	t.note("last-leader=self")
	if t.Server.Control.Clean() {
		t.m.Story.Kind = cluster.KindRestart // it had been shut down, like everybody
	}
	t.acquire("returned", "")
}

// vacate opens the election after an epoch. why is for one that ended otherwise
// than with its key.
func (t *turn) vacate(after int64, why string) {
	v := &t.m.Vacancy
	if !v.Open || v.After != after {
		*v = Vacancy{Open: true, After: after, Since: t.Now, Wall: t.Wall, Witness: t.witness(after)}
		reason := "the leader key was given up"
		if _, live := t.State.Member(t.lastLeader()); !live {
			reason = "the lease of the leader has ended"
			v.Lost = true
		}
		if why != "" {
			reason = why
		}
		t.begin(cluster.KindCrash, t.lastLeader(), reason)
		if own := t.m.Silenced; t.lastLeader() == t.Self.Name && !own.IsZero() && len(t.m.Story.Phases) == 0 {
			t.m.Story.Begun = own
			t.m.Story.phase("lease ended", t.Wall)
		}
	}
}

// backdate lets the story of a lost leader begin when it fell silent, which is
// when clients had their last answer, rather than when its lease ended.
//
// Its last sign is the last commit that was replayed here, by the leader's own
// clock: under load it lies within milliseconds of the end. A commit from before
// the last renewal is no sign; the leader renewed as long ago as the lease is
// long, or, if etcd lost its leader at the same time and started every lease
// again, as long ago as that and an election. And what was frozen at its deadline
// answered until then, but no longer.
func (t *turn) backdate() {
	v, s := &t.m.Vacancy, &t.m.Story
	if !v.Lost || !v.Witness || len(s.Phases) > 0 || s.Kind != cluster.KindCrash || s.From == t.Self.Name {
		return
	}
	const election = 3 * time.Second // of etcd, with what a lease may outlive its end
	renewed := v.Wall.Add(-t.Timers.Lease)
	s.Begun, s.Reason = renewed, []string{"the lease of the leader has ended, which it renewed last about " + t.Timers.Lease.String() + " before"}
	if c := t.Server.Replaying; c.After(renewed.Add(-election)) {
		if last := v.Wall.Add(-t.Timers.Margin); c.After(last) {
			c = last
		}
		s.Begun, s.Reason = c, []string{fmt.Sprintf("the lease of the leader has ended, %s after its last commit that got here", v.Wall.Sub(c).Round(time.Millisecond))}
	}
	s.phase("lease ended", v.Wall)
}

// witness says that this server streamed from the leader that was lost, and has
// not been restarted since.
func (t *turn) witness(after int64) bool {
	s := t.Server
	return s.Process == pg.ProcessRunning && s.Recovering && t.m.Streamed == Streamed{after, s.PID}
}

func (t *turn) lastLeader() string {
	if t.State.Term != nil {
		return t.State.Term.Leader
	}
	return ""
}

// unwilling says that the server has just failed to start more than once: others
// go first until it may be tried again.
func (t *turn) unwilling() bool {
	f := t.m.Failed
	return firstWord(f.What) == "start" && f.Times >= startsInPlace && t.Now < f.Until
}

// pledge publishes this member's position for the election after the given
// epoch, and returns it once the store shows it.
func (t *turn) pledge(after int64) (cluster.Pledge, bool) {
	s := t.Server
	self, _ := t.State.Member(t.Self.Name)
	p := cluster.Pledge{
		Member: t.Self.Name, Epoch: after, Witness: t.m.Vacancy.Witness,
		NoFailover: self.Tags.NoFailover() || t.Stopping || s.Data != pg.DataPresent || t.unwilling() || t.unwatched(),
	}
	switch {
	case s.Data != pg.DataPresent:
		t.note("data=%s", s.Data)
	case s.Process == pg.ProcessNone:
		if !t.m.Rejoin.Measured {
			t.work(Measure{})
			return p, false
		}
		p.Timeline, p.LSN = s.Control.Timeline, max(t.m.Rejoin.End, s.Control.Checkpoint)
	case !s.Answers:
		t.note("server=%s", s.Process)
		t.lookBy(t.ServerAt + soon)
		return p, false
	default:
		if t.ServerAt < t.m.Vacancy.Since {
			t.note("position=old")
			t.lookBy(t.Now)
			return p, false
		}
		p.Timeline, p.LSN = s.Timeline, s.Flushed
		t.backdate()
	}
	seen, ok := t.State.Pledge(t.Self.Name)
	seen.Mod = 0
	if seen.Epoch == after && seen.Witness {
		p.Witness = true // said before this agent was restarted
	}
	if ok && seen.Epoch == after && seen.Timeline == p.Timeline && seen.LSN >= p.LSN && seen.NoFailover == p.NoFailover {
		t.m.Story.phase("pledged", t.Wall)
		return seen, true
	}
	t.note("position=%s", p.LSN)
	t.put(cluster.DirPledges+t.Self.Name, p.Encode(), -1)
	return p, false
}

// counted says that the positions of all who count are known.
func (t *turn) counted(after int64) bool {
	v := &t.m.Vacancy
	if v.Ready > 0 {
		return true
	}
	witness := false
	pledged := map[string]bool{}
	for _, p := range t.State.Pledges {
		if p.Epoch == after {
			pledged[p.Member] = true
			witness = witness || p.Witness
		}
	}
	var awaited []string
	if witness {
		for _, m := range t.State.Members {
			if !pledged[m.Name] && m.Name != t.lastLeader() {
				awaited = append(awaited, m.Name)
			}
		}
		if until := v.Since + t.Timers.Grace; len(awaited) > 0 && t.Now >= until {
			awaited = nil
		} else {
			t.wakeBy(until)
		}
	} else {
		for _, name := range t.State.Names() {
			if !pledged[name] {
				awaited = append(awaited, name)
			}
		}
	}
	if len(awaited) > 0 {
		for _, name := range awaited {
			t.note("awaits=%s", name)
		}
		return false
	}
	v.Ready = t.Now
	t.m.Story.phase("counted", t.Wall)
	return true
}

// rank is this member's place among those who may lead, 0 the first; negative
// with a reason if it may not.
func (t *turn) rank(own cluster.Pledge) (int, string) {
	if own.Timeline < t.State.Timeline() && t.lastLeader() != t.Self.Name {
		return -1, "old-timeline"
	}
	if lag := own.LSN.Behind(t.State.Status.Optime); lag > t.Timers.MaxLag {
		return -1, "lag"
	}
	rank := 0
	for _, p := range t.State.Pledges {
		// One that is not (yet) published counts too: it may have more than anybody,
		// and if it is dead the next stands in for it.
		m, _ := t.State.Member(p.Member)
		if p.Epoch != own.Epoch || p.Member == own.Member || p.NoFailover || t.unlisted(p.Member) {
			continue
		}
		if t.before(p, m, own) {
			rank++
		}
	}
	return rank, ""
}

// compared are the positions that this election rests on, by their revisions.
func (t *turn) compared() string {
	var b strings.Builder
	for _, name := range t.State.Names() {
		if name != t.Self.Name {
			p, _ := t.State.Pledge(name)
			fmt.Fprintf(&b, "%s=%d\n", name, p.Mod)
		}
	}
	return b.String()
}

// before says that p goes before own: the later timeline, the longer log, the
// higher priority, the name.
func (t *turn) before(p cluster.Pledge, m cluster.Member, own cluster.Pledge) bool {
	self, _ := t.State.Member(own.Member)
	switch a, b := m.Tags.FailoverPriority(), self.Tags.FailoverPriority(); {
	case p.Timeline != own.Timeline:
		return p.Timeline > own.Timeline
	case p.LSN != own.LSN:
		return p.LSN > own.LSN
	case a != b:
		return a > b
	default:
		return p.Member < own.Member
	}
}

// override follows a person who named the next leader, whatever its position.
func (t *turn) override(own cluster.Pledge) bool {
	f := t.State.Failover
	if f.Leader != "" || f.Member == "" || !f.ScheduledAt.IsZero() {
		return false
	}
	if f.Member == t.Self.Name && own.NoFailover {
		return false // a person can ask for a position that is behind, not for one that is none
	}
	if f.Member != t.Self.Name {
		if p, ok := t.State.Pledge(f.Member); ok && p.Epoch == own.Epoch && !p.NoFailover {
			t.note("asked-for=%s", f.Member)
			return true
		}
		return false
	}
	t.note("asked-for=self")
	t.m.Story.Kind = cluster.KindFailover
	t.acquire("asked for", "")
	return true
}

// acquire takes the free key over the epoch that ended.
func (t *turn) acquire(why, compared string) {
	a := Acquire{Compared: compared}
	if t.State.Term != nil {
		a.After = t.State.Term.Mod
	}
	a.Sync, a.SyncOver = t.succeed()
	t.acquireOver(why, a)
}

// succeed is /sync as it becomes with the key, and what it is put over; "" if
// nothing is promised.
func (t *turn) succeed() (string, int64) {
	if !t.State.Sync.Active() {
		return "", 0
	}
	next, _ := quorum.Succeed(t.State.Sync, t.Self.Name)
	return next.Encode(), t.State.Sync.Mod
}

// acquireOver takes the key as a says, whose lease and term are still to be filled in.
func (t *turn) acquireOver(why string, a Acquire) {
	switch {
	case t.Stopping:
		t.note("stopping")
	case t.unwatched():
	case t.m.Lease.old(t.Now):
		t.note("lease=old")
		t.confirm()
	case t.State.Revision < t.m.Wrote:
		t.note("store=behind")
	default:
		if r := t.m.Story.Reason; len(r) == 0 || r[len(r)-1] != why {
			t.m.Story.Reason = append(r[:len(r):len(r)], why)
		}
		if f := t.State.Failover; f.Asked() && f.Member == t.Self.Name {
			a.ClearFailover = f.Mod
		}
		a.Lease, a.Term = t.m.Lease.ID, t.term(t.m.Story.Kind)
		t.ask(a)
	}
}
