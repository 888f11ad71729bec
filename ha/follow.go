package ha

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// stuckAfter is how long a standby may fail to stream from a leader that runs
// before its log is measured against the leader's history.
const stuckAfter = 10 * time.Second

// follow is the turn of a member while another one leads.
func (t *turn) follow() {
	leader := t.State.LeaderName()
	t.note("leader=" + leader)
	if t.suspected() {
		return
	}
	t.m.Crash, t.m.Switch, t.m.Vacancy = Crash{}, Switch{}, Vacancy{}
	t.m.Offer, t.m.Away = Offer{}, nil
	t.opened()
	if epoch := t.State.Epoch(); t.m.Rejoin.Leader != leader || t.m.Rejoin.Epoch != epoch {
		t.m.Rejoin = Rejoin{Leader: leader, Epoch: epoch}
	}
	s := &t.Server
	if t.writes() && s.Process != pg.ProcessNone {
		// Somebody else holds the key: whatever this server still does is void.
		t.note("server=writes")
		t.work(Kill{})
		return
	}
	if t.reinit() {
		return
	}
	if t.refused() {
		if s.Process == pg.ProcessRunning && s.Answers && !t.asked() {
			t.configure()
		}
		return
	}
	switch s.Process {
	case pg.ProcessNone:
		t.rejoin()
	case pg.ProcessStarting, pg.ProcessStopping:
		t.note("server=%s", s.Process)
		up := t.source()
		if now := (Streamed{t.State.Epoch(), s.PID}); s.Process == pg.ProcessStarting && s.Standby && up.Host != "" && t.m.Pointed != now {
			// An agent before us began it, perhaps under another leader: it may be
			// waiting for log from there, and will not say so before it has it.
			if a := (Follow{Up: up}); !t.failing(a) {
				t.m.Pointed = now
				t.work(a)
			}
		}
		t.lookBy(t.ServerAt + soon)
	case pg.ProcessRunning:
		if !s.Answers {
			t.note("server=silent")
			t.lookBy(t.ServerAt + soon)
			return
		}
		t.note("server=standby")
		if !t.offered() {
			t.expect()
			if !t.asked() && !t.configure() && !t.arm() {
				t.stream()
			}
		}
	}
}

// upstream is the leader as a server to copy or stream from; ok is false until
// it has said that it is a primary, whether or not it lets clients in.
func (t *turn) upstream() (pg.Upstream, bool) {
	m, live := t.State.Member(t.State.LeaderName())
	if !live {
		return pg.Upstream{}, false
	}
	host, text := m.Host()
	port, _ := strconv.Atoi(text)
	return pg.Upstream{Name: m.Name, Host: host, Port: port, Slot: cluster.SlotName(t.Self.Name), Epoch: t.State.Epoch()},
		m.Source()
}

// source is the server to stream from: the member that the tag replicatefrom
// names, while that streams itself, else the leader. A copy is taken from the
// leader, and whose log has forked is told by the leader's history, so only the
// stream itself is another's.
func (t *turn) source() pg.Upstream {
	up, _ := t.upstream()
	return t.insteadOf(up)
}

// insteadOf is the server to stream from where the leader is up.
func (t *turn) insteadOf(up pg.Upstream) pg.Upstream {
	if name := t.sourceOf(t.Self.Name, t.tags(t.seen())); name != "" && !t.m.Rejoin.Direct {
		m, _ := t.State.Member(name)
		host, text := m.Host()
		port, _ := strconv.Atoi(text)
		return pg.Upstream{Name: name, Host: host, Port: port, Slot: up.Slot, Epoch: up.Epoch}
	}
	return up
}

// sourceOf is the member that another one with those tags streams from; "": the
// leader. Whose own way leads back to it is none.
func (t *turn) sourceOf(name string, tags cluster.Tags) string {
	from := tags.ReplicateFrom()
	if from == "" || from == name || from == t.State.LeaderName() || name == t.State.LeaderName() {
		return ""
	}
	for next, hops := from, 0; next != "" && hops <= len(t.State.Members); hops++ {
		m, live := t.State.Member(next)
		if host, _ := m.Host(); !live || host == "" || !m.Running() || m.ReplicationState != cluster.ReplicationStreaming {
			return "" // nothing, or nothing new, comes that way
		}
		if next = m.Tags.ReplicateFrom(); next == name || hops == len(t.State.Members) {
			return ""
		}
		if next == t.State.LeaderName() {
			break
		}
	}
	return from
}

// elsewhere says that a member that runs streams from another one than the leader.
func (t *turn) elsewhere(name string) bool {
	m, live := t.State.Member(name)
	return live && m.Running() && t.sourceOf(name, m.Tags) != ""
}

// followers are the slots of the members that stream from the named one.
func (t *turn) followers(of string) []string {
	var slots []string
	for _, m := range t.State.Members {
		if m.Name != of && t.sourceOf(m.Name, m.Tags) == of {
			slots = append(slots, cluster.SlotName(m.Name))
		}
	}
	return slots
}

// cascade keeps the slots of those who stream from this standby. Once in every
// reign the others go: slots from when this server led would hold its log for ever.
// It says whether that is work on the server.
func (t *turn) cascade() bool {
	want := t.followers(t.Self.Name)
	if kept := t.kept(); len(kept) > 0 {
		want = append(want, kept...)
		slices.Sort(want)
		want = slices.Compact(want)
	}
	missing := slices.ContainsFunc(want, func(slot string) bool { return !slices.Contains(t.Server.Slots, slot) })
	t.others(func(slot string) {
		missing = missing || !slices.Contains(t.Server.Slots, slot)
	})
	epoch := t.State.Leader.Mod
	orphans := strings.Join(t.orphans(), ",")
	left := orphans != "" && orphans != t.m.Left
	t.m.Left = orphans
	old := left || t.m.Swept != epoch && slices.ContainsFunc(t.Server.Slots, func(slot string) bool {
		return !slices.Contains(want, slot) && !slices.Contains(t.Server.Spare, slot)
	})
	switch {
	case old:
		t.note("slots=old")
		t.m.Swept = epoch
	case missing:
		t.note("slots=missing")
	default:
		return false
	}
	var spare []string
	t.others(func(slot string) {
		if !slices.Contains(want, slot) {
			spare = append(spare, slot)
		}
	})
	slices.Sort(want)
	slices.Sort(spare)
	a := Slots{Names: strings.Join(want, ","), Spare: strings.Join(slices.Compact(spare), ",")}
	if t.failing(a) {
		return false
	}
	t.work(a)
	return true
}

// others are the slots that this standby has ready, in synchronous mode, for those
// who will stream from it should it be promoted: until the first of them does, no
// commit is acknowledged, and who finds no slot comes again only after a while.
func (t *turn) others(each func(slot string)) {
	ttl, limited := t.State.Config.MemberSlotsTTL()
	if !t.synchronous() || t.tags(t.seen()).NoFailover() || limited && ttl == 0 {
		return
	}
	for i := range t.State.Members { // large: not copied to be passed over
		if name := t.State.Members[i].Name; name != t.Self.Name && !t.elsewhere(name) {
			each(cluster.SlotName(name))
		}
	}
	for _, r := range t.State.Recorded {
		if r.Name != t.Self.Name && !t.elsewhere(r.Name) {
			each(cluster.SlotName(r.Name))
		}
	}
}

// stream keeps a running standby on its leader, or on the member it is to
// stream from.
func (t *turn) stream() {
	s := &t.Server
	leader, ready := t.upstream()
	up := t.insteadOf(leader)
	r := &t.m.Rejoin
	if up.Host == "" {
		t.note("leader=unpublished")
		return
	}
	at, left := t.fork(s.Timeline)
	switch {
	case s.Upstream != up.Addr() || s.Slot != up.Slot:
		t.note("upstream=%s", s.Upstream)
		if !t.ahead(at, left) {
			t.work(Follow{Up: up})
			return
		}
	case s.Streaming:
		r.Stuck, r.Tries, r.Asked, r.Refused = 0, 0, 0, ""
		t.m.Streamed = Streamed{t.State.Leader.Mod, s.PID}
		t.m.Story = Story{}
		if !t.cascade() && !t.whole() {
			t.standing()
		}
		return
	default:
		t.note("streaming=no")
	}
	t.lookBy(t.ServerAt + 10*soon)
	if ready && left && s.Flushed > at {
		t.forked(at)
		return
	}
	if ready && !left && s.Timeline < t.State.Floor() {
		// Brought back, and back again: this timeline is none of the leader's ancestors.
		t.note("restore=undone")
		r.End, r.Measured, r.Forked = s.Flushed, false, true
		t.work(Stop{})
		return
	}
	if s.Problem.Code == codeDiskFull {
		t.note("disk=full") // it streams again when there is room; a fresh copy would need more
		r.Stuck = 0
		return
	}
	if !ready {
		r.Stuck = 0
		return
	}
	if r.Stuck == 0 {
		r.Stuck = t.Now
	}
	if t.Now-r.Stuck < stuckAfter {
		return
	}
	if up.Name != t.State.LeaderName() {
		t.note("source=%s(silent)", up.Name)
		r.Stuck, r.Direct = 0, true
		return
	}
	if !t.lets(up) {
		return
	}
	// Nothing forked, and still nothing arrives: look at the whole log; a second
	// time round only a fresh copy can help (the leader no longer has what we need).
	t.note("stuck=%s", (t.Now - r.Stuck).Round(time.Second))
	r.Tries++
	r.Stuck, r.Measured, r.Forked = 0, false, true
	r.Aside = r.Tries > 1
	t.work(Stop{})
}

// lets says that the leader lets this member in to stream from it, which is asked before a server that is well
// is stopped for it, let alone put aside: whoever is refused can copy nothing either.
func (t *turn) lets(up pg.Upstream) bool {
	r := &t.m.Rejoin
	if r.Refused != "" {
		t.note("source=refuses")
		t.problems = append(t.problems, problem.Error{
			Code: "source-refuses", What: t.Self.Name + " does not stream: " + up.Name + " does not let it in", Why: r.Refused,
			Do: "see that the replicator may log in there (NOLOGIN, its password, pg_hba.conf; `SET synchronous_commit = local` first, for a commit waits for who is refused); " +
				"its data stay, and it goes on by itself then",
		})
	}
	switch due := r.Asked + stuckAfter; {
	case r.Asked == 0 || t.Now > due:
		t.note("stuck=%s", (t.Now - r.Stuck).Round(time.Second))
		t.work(Identify{Up: up, Timeline: t.Server.Timeline})
		return false
	case r.Refused != "":
		t.wakeBy(due + time.Nanosecond)
		return false
	}
	r.Asked = 0 // the next time it is asked anew
	return true
}

// ahead says that this server has more than its new leader, or may have: more than he
// had when he took the key, and his history, where left is, does not tell yet. It does
// not go to him then. What it reports to have flushed is on the old timeline, and he
// might take it for a confirmation of what he writes at the same positions on his own
// (walreceiver.c begins to report from where replay is). A history may never tell: of a
// timeline that is none of his ancestors it has no row. Who waits long is stuck, and measured.
func (t *turn) ahead(at pg.LSN, left bool) bool {
	s, term := &t.Server, t.State.Term
	if left {
		return s.Flushed > at
	}
	if term == nil || term.Standby || term.Leader != t.State.LeaderName() || s.Timeline >= term.Reserved || s.Flushed <= term.LSN {
		return false
	}
	if m, ok := t.State.Member(term.Leader); ok && m.Source() && m.Timeline <= s.Timeline {
		return false // he began none: all of it is his
	}
	t.note("ahead=%d", term.LSN.Behind(s.Flushed))
	return true
}

// forked ends a server whose log goes on beyond where the leader's timeline left it.
func (t *turn) forked(at pg.LSN) {
	s, r := &t.Server, &t.m.Rejoin
	t.note("forked=%d", at.Behind(s.Flushed))
	r.End, r.Measured, r.Forked = s.Flushed, false, true
	t.work(Stop{})
}

// fork returns where the cluster's history left the given timeline, and whether
// it did. The leader publishes the history after its promotion.
func (t *turn) fork(tl pg.Timeline) (pg.LSN, bool) {
	for _, row := range t.State.History {
		if row.Timeline == tl {
			return row.LSN, true
		}
	}
	return 0, false
}
