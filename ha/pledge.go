package ha

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
)

// promised says that commits wait for standbys, and that whoever is promoted must
// therefore have the pledges of enough of them. Where a voter is not one of ours,
// which no pledge can be had from, positions decide as without it.
func (t *turn) promised() bool {
	if t.State.Unknown(cluster.KeySync) {
		return true
	}
	if names := t.unpledging(); len(names) > 0 {
		t.note("pledges=unable(%s)", names[0])
		return false
	}
	return t.State.Sync.Active()
}

// unpledging are the voters that are none of ours: one of ours has recorded itself.
func (t *turn) unpledging() (names []string) {
	for _, name := range t.State.Sync.Standby {
		if !slices.ContainsFunc(t.State.Recorded, func(r cluster.Recorded) bool { return strings.EqualFold(r.Name, name) }) {
			names = append(names, name)
		}
	}
	return names
}

// mixed tells everybody, for as long as such a voter counts, whose promises hold.
func (t *turn) mixed() {
	names := t.unpledging()
	if len(names) == 0 || t.State.Unknown(cluster.KeySync) {
		return
	}
	t.problems = append(t.problems, problem.Error{
		Code: "pledges-unable", What: "nobody is promoted by pledges while " + strings.Join(names, ", ") + " counts for commits",
		Why: "a voter that is not run by Howdah can not pledge. That at most one member writes (law 1), and that what was acknowledged is in every later primary (law 2), is promised by Patroni's rules alone: the lease and the positions",
		Do:  "replace Patroni by Howdah on its host too (docs/moving.md), or set the tag nosync there, so that commits do not wait for it",
	})
}

// ballot is the turn of a member of a synchronous cluster whose leader is lost.
//
// The story: what was acknowledged is on enough of the voters that /sync names. A
// voter first makes sure that it takes nothing more from the lost leader, and puts
// where its log ends; who has the pledges of enough of them, and the most advanced
// log among those, takes the key over term and /sync. The lost leader can not have
// its acknowledgements any more, whether or not it lives; it has everything itself,
// and may take the key back over the same term (ha/quorum, DESIGN.md).
func (t *turn) ballot(after int64) {
	s := t.Server
	if t.State.Unknown(cluster.KeySync) {
		t.note("sync=unreadable")
		return
	}
	sync := t.State.Sync
	last := t.lastLeader() == t.Self.Name
	own := max(s.Timeline, s.Control.Timeline)
	if s.Process == pg.ProcessNone && !last {
		own = max(own, t.m.Fence.At.Timeline)
	}
	voter := sync.Has(t.Self.Name) && !strings.EqualFold(sync.Leader, t.Self.Name)
	if f := t.State.Failover; t.State.Leader == nil && f.Leader == "" && f.Member != "" && f.ScheduledAt.IsZero() {
		m, live := t.State.Member(f.Member)
		switch {
		case f.Member == t.Self.Name && s.Data == pg.DataPresent && !t.unable() && !t.superseded(own):
			t.note("asked-for=self")
			t.m.Story.Kind = cluster.KindFailover
			t.acquireBy("asked for", after, cluster.Sync{Leader: t.Self.Name}.Encode())
			return
		case live && m.Running():
			t.note("asked-for=%s", f.Member)
			return
		}
	}
	switch {
	case s.Data != pg.DataPresent:
		t.note("data=%s", s.Data)
		return
	case last && t.unwilling():
		t.note("starts=%d", t.m.Failed.Times)
		t.wakeBy(t.m.Failed.Until) // nobody else may be able to
		return
	case !last && voter && !t.fenced(after):
		return
	}
	b := quorum.Ballot{
		Self: t.Self.Name, Mode: cluster.SyncQuorum, Epoch: after, Leader: t.lastLeader(), Timeline: t.State.Reserved(),
		Sync: sync, Whole: !s.Copied, At: quorum.Position{Timeline: s.Timeline, LSN: s.Flushed},
		Priority: map[string]int{},
	}
	if t.State.Config.SynchronousMode() == cluster.SyncOn {
		b.Mode = cluster.SyncOn
	}
	if s.Process == pg.ProcessNone {
		b.At = t.m.Fence.At // its log does not grow while it does not run
	}
	for _, m := range t.State.Members {
		b.Priority[m.Name] = m.Tags.FailoverPriority()
	}
	for _, p := range t.State.Pledges {
		if q, ok := quorum.Stored(p); ok {
			b.Pledges = append(b.Pledges, q)
		}
	}
	if t.superseded(max(own, b.At.Timeline)) {
		return // its pledge counts all the same: it takes nothing from the lost leader
	}
	c := quorum.Elect(b)
	t.note("ballot=%s", strings.Join(c.Trail, " "))
	v := &t.m.Vacancy
	if c.Act != nil && v.Ready == 0 {
		if _, asks := c.Act.(quorum.Ask); !asks {
			v.Ready = t.Now
			t.m.Story.phase("counted", t.Wall)
		}
	}
	// Those below the first stand in for it one after another, in case it lives but
	// cannot act.
	if at := v.Ready + time.Duration(c.Rank)*4*t.Timers.Grace; c.Rank > 0 && t.Now < at {
		t.note("rank=%d", c.Rank)
		t.wakeBy(at)
		return
	}
	switch act := c.Act.(type) {
	case quorum.Take:
		why := "elected"
		if last {
			why = "returned"
			if s.Control.Clean() {
				t.m.Story.Kind = cluster.KindRestart // it had been shut down, like everybody
			}
		} else if t.unable() {
			t.note("candidate=no")
			return
		}
		t.acquireBy(why, act.Epoch, act.Sync)
		if !last && s.Process == pg.ProcessRunning && s.Answers && s.Recovering {
			t.preset()
		}
	case quorum.Fetch:
		t.fetch(act, after)
	}
}

// unable says that this member does not want to lead, or can not just now.
func (t *turn) unable() bool {
	self, _ := t.State.Member(t.Self.Name)
	return self.Tags.NoFailover() || t.Stopping || t.unwilling() || t.unwatched()
}

// acquireBy takes the key of the epoch that ended, or that is to end, with /sync.
func (t *turn) acquireBy(why string, after int64, sync string) {
	t.acquireOver(why, Acquire{After: after, Held: t.State.Leader != nil, Sync: sync, SyncOver: t.State.Sync.Mod})
}

// fenced says that this voter has pledged for the epoch, as the store shows.
func (t *turn) fenced(epoch int64) bool {
	s := t.Server
	p, ok := t.State.Pledge(t.Self.Name)
	if ok && p.Fenced && p.Epoch == epoch {
		t.m.Story.phase("pledged", t.Wall)
		if s.Process == pg.ProcessNone && t.m.Fence.Refusal != quorum.Refusal(epoch) {
			t.m.Fence = quorum.Fence{Refusal: quorum.Refusal(epoch), At: quorum.Position{Timeline: p.Timeline, LSN: p.LSN}}
		}
		return true
	}
	f := t.m.Fence
	switch {
	case f.Refusal == quorum.Refusal(epoch) && f.Member != "":
		f.NoFailover = t.unable()
		pledge, missing := quorum.Promise(f)
		if missing != "" {
			t.note("pledge=no(%s)", missing)
			return false
		}
		t.note("pledge=%s", f.At.LSN)
		t.put(cluster.DirPledges+t.Self.Name, pledge.Stored().Encode(), -1)
	case s.Process == pg.ProcessNone, s.Process == pg.ProcessRunning && s.Answers && s.Recovering:
		t.work(Fence{Epoch: epoch})
	default:
		t.note("server=%s", s.Process)
		t.lookBy(t.ServerAt + soon)
	}
	return false
}

// fetch streams what is missing here from a voter who has pledged and does not act.
func (t *turn) fetch(act quorum.Fetch, after int64) {
	m, live := t.State.Member(act.From)
	host, text := m.Host()
	port, _ := strconv.Atoi(text)
	// It takes nothing of that epoch any more either.
	up := pg.Upstream{Name: act.From, Host: host, Port: port, Epoch: after + 1}
	switch s := t.Server; {
	case !live || host == "" || s.Process != pg.ProcessRunning || !s.Answers:
		t.note("fetch=unable")
	case s.Upstream != up.Addr():
		t.note("fetch=%s", act.From)
		t.work(Follow{Up: up})
	default:
		t.note("fetch=%s", act.From)
		t.lookBy(t.ServerAt + soon)
	}
}

// refused says that this member has pledged to take nothing from the leader there
// is. It follows again once that one has a later epoch: it sees the pledge, and
// takes its own key anew (doubted).
func (t *turn) refused() bool {
	p, ok := t.State.Pledge(t.Self.Name)
	switch epoch := t.State.Epoch(); {
	case ok && (p.Fenced || p.Refused) && p.Epoch >= epoch:
		t.note("refused=%d", p.Epoch)
	case epoch > 0 && t.Server.Refused == epoch:
		// The leader came back before the pledge was told: of a refusal that is only on
		// disk he would never learn, and this server could follow nobody.
		t.note("refused=%d(untold)", epoch)
		if s := &t.Server; s.Process == pg.ProcessRunning && s.Recovering && !s.Copied {
			t.fenced(epoch)
			break
		}
		// One that does not run, or whose data are a copy or gone, pledges nothing; it
		// waits for a later epoch all the same.
		told := cluster.Pledge{Member: t.Self.Name, Epoch: epoch, NoFailover: true, Refused: true}
		t.put(cluster.DirPledges+t.Self.Name, told.Encode(), -1)
	default:
		return false
	}
	return true
}

// doubted is the leader whom a member has given up for lost, and who lives: under a
// later epoch that one follows again. The candidate whom it has pledged to may
// still take the key; of the two, one does.
func (t *turn) doubted() bool {
	epoch := t.m.Right.Epoch
	doubt := slices.ContainsFunc(t.State.Pledges, func(p cluster.Pledge) bool { return (p.Fenced || p.Refused) && p.Epoch == epoch })
	if !doubt {
		t.m.Doubted = 0
		return false
	}
	if t.m.Doubted == 0 {
		t.m.Doubted = t.Now
	}
	if at := t.m.Doubted + 4*t.Timers.Grace; t.Now < at {
		t.wakeBy(at)
		return false
	}
	t.note("doubted=%d", epoch)
	if t.lockDue(t.Timers.Renew / 4) {
		t.ask(Retake{Lease: t.m.Lease.ID, Epoch: epoch, Term: t.term(cluster.TermRetaken)})
	}
	return false
}

// whole notes that the data of this standby, which were copied, hold everything
// that it had confirmed before: it streams from the leader, past where that one
// was when it began to.
func (t *turn) whole() bool {
	m := &t.m.Copied
	l := t.State.Leader
	if !t.Server.Copied || !t.Server.Streaming || l == nil {
		*m = Copied{}
		return false
	}
	if m.Epoch != l.Mod {
		*m = Copied{Epoch: l.Mod, Revision: t.State.Revision}
		return false
	}
	if at := t.State.Status.Optime; t.State.Revision == m.Revision || at == 0 || t.Server.Flushed < at {
		t.lookBy(t.ServerAt + 10*soon)
		return false
	}
	t.note("copy=whole")
	t.work(Whole{})
	return true
}
