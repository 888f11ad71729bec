package ha

import (
	"slices"
	"time"

	"howdah/cluster"
)

// suspectAfter is how long a leader's machine may answer nothing at all before a
// voter says so: two beats that are lost. Only how soon rests on it, never whether anything
// is lost.
const suspectAfter = 800 * time.Millisecond

// suspected is a voter's turn while the machine of its leader is silent. It says
// whether this node stands for election instead of following.
//
// The story: a machine that has lost its power or its network answers nothing, not
// even that nobody listens, and no log comes from it. A voter that sees this says
// so in the store; once as many say it as it takes to be elected, each takes
// nothing more from that leader (ballot), and the key is taken over his epoch, whether or not its
// lease has ended. A process that was killed or stopped is not that: its machine
// still answers, and the lease decides.
func (t *turn) suspected() bool {
	l, m := t.State.Leader, &t.m.Suspicion
	voter := t.State.Sync.Active() && t.State.Sync.Has(t.Self.Name) && l != nil && l.Name != "" && l.Name == t.State.Sync.Leader
	if !voter || t.Stopping || t.State.Config.Pause() || t.writes() || !t.promised() {
		*m = Suspicion{}
		t.suspect(0)
		return false
	}
	if p, ok := t.State.Pledge(t.Self.Name); ok && p.Fenced && p.Epoch == l.Mod {
		// There is no way back from a pledge but a later epoch: this one may come of it,
		// or of the leader, who sees the pledge (doubted).
		t.note("refused=%d", p.Epoch)
		t.vacate(l.Mod, "its machine was silent")
		t.ballot(l.Mod)
		return true
	}
	switch {
	case m.Epoch != l.Mod:
		*m = Suspicion{Epoch: l.Mod, Flushed: t.Server.Flushed, Moved: t.ServerAt}
	case m.Flushed != t.Server.Flushed: // not when that was seen: when it came
		m.Flushed, m.Moved = t.Server.Flushed, max(m.Moved, t.ServerAt-t.Server.Silence)
	}
	heard := max(t.Heard, m.Moved)
	if t.Heard == 0 || t.Now-heard < suspectAfter {
		t.suspect(0)
		if t.Heard > 0 {
			t.wakeBy(heard + suspectAfter)
		}
		return false
	}
	t.note("leader=silent")
	t.suspect(l.Mod)
	if t.Now-t.m.Lease.Sent > t.m.Lease.TTL/4 {
		t.confirm() // who takes the key counts his right from there
	}
	if t.ServerAt < heard+suspectAfter {
		t.lookBy(t.Now) // log may have come since the last look
		return false
	}
	agree := 0
	for _, s := range t.State.Suspects {
		if s.Epoch == l.Mod && t.State.Sync.Has(s.Member) {
			agree++
		}
	}
	if agree <= t.State.Sync.Quorum {
		t.note("suspected=%d/%d", agree, t.State.Sync.Quorum+1)
		t.wakeBy(t.Now + 5*soon)
		return false
	}
	if t.given() {
		return false
	}
	t.vacate(l.Mod, "its machine was silent")
	if story := &t.m.Story; len(story.Phases) == 0 {
		story.Begun = t.Wall.Add(heard - t.Now)
		story.phase("suspected", t.Wall)
	}
	t.ballot(l.Mod)
	return true
}

// suspect says in the store that this voter hears nothing of the leader of epoch;
// 0: it has nothing to say.
func (t *turn) suspect(epoch int64) {
	i := slices.IndexFunc(t.State.Suspects, func(s cluster.Suspicion) bool { return s.Member == t.Self.Name })
	switch {
	case epoch == 0 && i >= 0 && !t.quiet():
		t.do(Drop{Key: cluster.DirSuspects + t.Self.Name, Over: t.State.Suspects[i].Mod})
	case epoch != 0 && (i < 0 || t.State.Suspects[i].Epoch != epoch):
		t.put(cluster.DirSuspects+t.Self.Name, cluster.Suspicion{Epoch: epoch}.Encode(), -1)
	}
}
