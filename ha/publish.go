package ha

import (
	"fmt"
	"slices"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// keptPages is how many failover pages stay in the store.
const keptPages = 50

// publish compares what the store shows of this node with what is true, and
// puts the difference. Nothing is remembered of what was sent: a put that was
// lost is a difference still.
func (t *turn) publish() {
	if !t.Known || t.ServerAt == 0 || t.m.Lease.ID == 0 || t.m.Lease.Sent == 0 || t.m.Leaving.Resigned {
		return
	}
	t.member()
	t.recorded()
	t.list()
	t.lostBytes()
	t.why()
}

// quiet says that nothing may be published now: a publication is under way, or
// the newest snapshot does not show the last one yet.
func (t *turn) quiet() bool {
	if t.Now < t.m.NoteAfter {
		t.wakeBy(t.m.NoteAfter)
		return true
	}
	return t.NoteBusy || t.State.Revision < t.m.Wrote
}

// put sets a key over the revision seen (-1: any; 0: only if it is absent). A
// leader's puts hold only while it is one.
func (t *turn) put(key, value string, over int64) {
	if t.quiet() {
		t.wakeBy(t.Now + soon)
		return
	}
	t.do(Put{Key: key, Value: value, Over: over, Guard: t.m.Right.Epoch})
}

// member publishes this member. Positions alone go out once per renewal, so that
// there is one put in that time; what others decide by goes out at once.
func (t *turn) member() {
	want := t.self()
	seen, ok := t.State.Member(t.Self.Name)
	same := ok && seen.Lease == t.m.Lease.ID
	if same && seen.Equal(&want) {
		return
	}
	urgent := !same || seen.State != want.State || seen.Role != want.Role || seen.Timeline != want.Timeline ||
		seen.ReplicationState != want.ReplicationState || seen.Pause != want.Pause ||
		seen.RewindSource() != want.RewindSource() // who is to be rewound waits for it
	every := t.Timers.Renew
	if t.leading() && t.Server.Primary() {
		every *= 10 // its position goes out with each renewal, as the status
	}
	if at := t.m.LastNote + every; !urgent && t.Now < at {
		t.wakeBy(at)
		return
	}
	if t.quiet() {
		return
	}
	t.m.LastNote = t.Now
	t.do(Put{Key: cluster.DirMembers + t.Self.Name, Value: want.Encode(), Lease: t.m.Lease.ID, Over: -1})
}

// seen is this member as the store shows it.
func (t *turn) seen() cluster.Member {
	m, _ := t.State.Member(t.Self.Name)
	return m
}

// tags are the member's own, or whatever it had published.
func (t *turn) tags(seen cluster.Member) cluster.Tags {
	if t.Self.Tags != nil {
		return t.Self.Tags
	}
	return seen.Tags
}

// self is this member as Patroni's readers expect it.
func (t *turn) self() cluster.Member {
	s := &t.Server
	seen, _ := t.State.Member(t.Self.Name)
	m := cluster.Member{
		ConnURL: t.Self.ConnURL, APIURL: t.Self.APIURL, Version: t.Self.Version,
		State: t.state(), Role: cluster.RoleReplica, Tags: t.tags(seen),
		Pause: t.State.Config.Pause(), PendingRestart: s.Restart, Name: t.Self.Name,
	}
	switch {
	case s.Data != pg.DataPresent:
		m.Role = cluster.RoleUninitialized
	case s.MayWrite() && s.Process == pg.ProcessRunning:
		m.Role = cluster.RolePrimary
	case t.leading() && t.standbyCluster() && s.Process == pg.ProcessRunning:
		m.Role = cluster.RoleStandbyLeader
	case t.leading() && !s.Answers && s.Process != pg.ProcessNone && !s.Standby:
		m.Role = cluster.RolePrimary
	}
	if s.Primary() && s.Control.Timeline != s.Timeline {
		m.CheckpointAfterPromote = new(false)
	}
	if r, ok := t.State.Schedule(t.Self.Name); ok {
		m.ScheduledRestart = r.Restart()
	}
	if s.Restart && s.Answers {
		m.PendingRestartReason = make(map[string]cluster.PendingChange, len(s.Pending))
		for _, p := range s.Pending {
			m.PendingRestartReason[p.Name] = cluster.PendingChange{Old: p.Old, New: p.New}
		}
	}
	if s.Answers {
		m.Timeline, m.XlogLocation = s.Timeline, s.Flushed
		if s.Recovering {
			m.ReceiveLSN, m.ReplayLSN = s.Flushed, s.Replayed
			m.ReplicationState = cluster.ReplicationInRecovery
			if s.Streaming {
				m.ReplicationState = cluster.ReplicationStreaming
			}
		}
	}
	return m
}

// state is the member's state in Patroni's words.
func (t *turn) state() string {
	s := &t.Server
	if t.m.Reinit.Asked {
		return cluster.StateCreatingReplica // from the first step on: who waits for it looks at this
	}
	switch t.Job.Action.(type) {
	case Initdb:
		return cluster.StateInitializing
	case Clone:
		return cluster.StateCreatingReplica
	case Stop:
		return cluster.StateStopping
	case Start:
		return cluster.StateStarting
	}
	switch s.Process {
	case pg.ProcessNone, pg.ProcessRemains:
		switch {
		case t.Stopping:
			return cluster.StateStopping
		case s.Data == pg.DataMissing || s.Data == pg.DataPartial:
			return cluster.StateStopped
		case t.m.Failed.Times > 0 && firstWord(t.m.Failed.What) == "start":
			return cluster.StateStartFailed
		case s.Control.Clean() || s.Standby:
			return cluster.StateStopped
		default:
			return cluster.StateCrashed
		}
	case pg.ProcessStarting:
		return cluster.StateStarting
	case pg.ProcessStopping:
		return cluster.StateStopping
	}
	switch {
	case t.Stopping:
		return cluster.StateStopping
	case s.Shut && s.MayWrite():
		return cluster.StateStarting // for clients it is
	}
	return cluster.StateRunning
}

// recorded enters this member in the list that outlives its lease, once it has
// data of this cluster.
func (t *turn) recorded() {
	s := t.Server
	if s.Data != pg.DataPresent || s.Control.System != t.State.Initialize.System || t.State.Initialize.System == 0 || t.quiet() {
		return
	}
	for _, r := range t.State.Recorded {
		if r.Name == t.Self.Name {
			return
		}
	}
	t.do(Put{Key: cluster.DirRecorded + t.Self.Name, Value: cluster.Recorded{Host: t.Self.Host, Joined: t.Wall}.Encode(), Over: -1})
}

// status is the leader's position, as readers of the store know it.
func (t *turn) status() string {
	st := cluster.Status{Optime: t.Server.Flushed, Slots: map[string]pg.LSN{}, RetainSlots: t.State.Status.RetainSlots}
	for _, r := range t.Server.Replicas {
		if m, ok := t.State.Member(r.Name); ok {
			st.Slots[cluster.SlotName(m.Name)] = r.Flushed
		}
	}
	st.Slots[cluster.SlotName(t.Self.Name)] = t.Server.Flushed
	t.positions(&st)
	if st.Equal(t.State.Status) {
		return ""
	}
	return st.Encode()
}

// term is the value that begins a reign.
func (t *turn) term(kind string) string { return t.reign(kind).Encode() }

func (t *turn) reign(kind string) cluster.Term {
	over := int64(0)
	if t.State.Term != nil {
		over = t.State.Term.Mod
	}
	s := t.Server
	term := cluster.Term{
		Leader: t.Self.Name, Over: over, Timeline: max(s.Timeline, s.Control.Timeline),
		LSN: s.Flushed, Kind: kind,
	}
	// Whatever becomes of this reign, no other begins its timeline: two servers
	// that wrote under one number could not be told apart.
	term.Standby = t.follows(kind)
	term.Reserved = t.State.Reserved()
	if t.Before != nil {
		term.Reserved = max(term.Reserved, t.Before.Reserved())
	}
	if (s.Standby || !s.Control.WasPrimary() || t.outdated()) && !term.Standby {
		term.Reserved = max(term.Reserved, term.Timeline) + 1 // it is to be promoted
	}
	return term
}

// history publishes where each timeline was left, which tells the others
// whether their own log forked.
func (t *turn) history() {
	h := t.Server.History
	if t.Server.Timeline == 0 || len(h) == 0 && t.State.History != nil {
		return
	}
	if t.State.History != nil && slices.EqualFunc(h, t.State.History, func(s pg.Switch, row cluster.HistoryRow) bool {
		return row.Timeline == s.Timeline && row.LSN == s.At && row.Reason == s.Reason && row.At != ""
	}) {
		return // as nearly always
	}
	rows := make(cluster.History, 0, len(h))
	for i, s := range h {
		row := cluster.HistoryRow{Timeline: s.Timeline, LSN: s.At, Reason: s.Reason}
		for _, old := range t.State.History {
			if old.Timeline == s.Timeline && old.LSN == s.At {
				row.At, row.Leader = old.At, old.Leader
			}
		}
		if i == len(h)-1 && row.At == "" {
			row.At, row.Leader = t.Wall.Format("2006-01-02T15:04:05.999999-07:00"), t.Self.Name
		}
		rows = append(rows, row)
	}
	if t.State.History == nil || !slices.Equal(rows, t.State.History) {
		t.put(cluster.KeyHistory, rows.Encode(), -1)
	}
}

// begin opens the story of a change of leader, unless one of that kind is open.
func (t *turn) begin(kind, from, reason string) {
	s := &t.m.Story
	if s.Kind != "" && s.From == from && !s.reached(cluster.PhaseWrites) {
		return
	}
	*s = Story{Kind: kind, From: from, Reason: []string{reason}, Begun: t.Wall}
}

// told publishes the story as a page, now that the new primary writes.
func (t *turn) told() {
	s := &t.m.Story
	planned := (s.Kind == cluster.KindSwitchover || s.Kind == cluster.KindFailover) && s.From == t.Self.Name
	switch {
	case s.Kind == "" || t.quiet() || t.m.Restart != 0 || planned && t.m.Switch.Key != 0:
		return // nothing to tell, or it is not over
	case planned && !s.reached("stopped"):
		*s = Story{} // called off before anybody noticed
		return
	}
	if !s.reached(cluster.PhaseWrites) && !t.acknowledges() {
		return
	}
	if !s.reached(cluster.PhaseWrites) {
		s.phase(cluster.PhaseWrites, t.Wall)
		s.Wrote = t.Now
	}
	waited := t.Now < s.Wrote+routedIn
	for _, g := range t.State.Gateways {
		if waited && g.Served == t.m.Right.Epoch && g.ServedAt.After(s.Begun) { // by the clock of its own node
			at := g.ServedAt
			if at.After(t.Wall) {
				at = t.Wall
			}
			s.phase(cluster.PhaseRouted, at)
		}
	}
	next := int64(1)
	for _, p := range t.State.Failovers {
		if p.Epoch == t.m.Right.Epoch && p.To == t.Self.Name && p.At.Equal(s.Begun) {
			switch {
			case len(p.Phases) < len(s.Phases):
				p.Phases = s.Phases
				t.put(cluster.PageKey(p.Number), p.Encode(), p.Mod)
			case waited && len(t.State.Gateways) > 0 && !s.reached(cluster.PhaseRouted):
				t.wakeBy(s.Wrote + routedIn)
			default:
				*s = Story{} // seen: only now it is told for certain
			}
			return
		}
		next = max(next, p.Number+1)
	}
	page := cluster.FailoverPage{
		Epoch: t.m.Right.Epoch, Kind: s.Kind, From: s.From, To: t.Self.Name, Timeline: t.Server.Timeline,
		At: s.Begun, Reason: s.Reason, Phases: s.Phases,
	}
	if (s.From == t.Self.Name || s.Whole) && s.Kind != cluster.KindRestore {
		page.LostBytes = new(int64) // its own log was replayed to the end, or it had all of the other's
	}
	t.put(cluster.PageKey(next), page.Encode(), 0)
	if n := len(t.State.Failovers) - keptPages; n > 0 {
		t.do(Drop{Key: cluster.PageKey(t.State.Failovers[0].Number), Over: t.State.Failovers[0].Mod})
	}
}

// routedIn is how long after the new primary writes a gateway may say that its
// clients hear it. One that says it later had nobody who waited.
const routedIn = time.Second

// pageWaits is how long the page of a change waits for standbys.
const pageWaits = 10 * time.Second

// acknowledges says that the new primary can acknowledge commits: in synchronous
// mode not before enough standbys stream from it. The page does not wait for them
// for ever: a person wants to know who leads.
func (t *turn) acknowledges() bool {
	s := &t.m.Story
	if s.Served == 0 {
		s.Served, s.End = t.Now, t.Server.Flushed
	}
	if enough, _ := t.confirmed(s.End); enough || t.Now >= s.Served+pageWaits {
		return true
	}
	t.lookBy(t.ServerAt + soon)
	return false
}

// lostBytes adds to the page of the change that deposed this node what its log
// had and no later primary has.
func (t *turn) lostBytes() {
	r := t.m.Rejoin
	if !r.Measured || r.Leader == "" || t.quiet() {
		return
	}
	at, left := t.fork(t.Server.Control.Timeline)
	if !left {
		return
	}
	for _, p := range slices.Backward(t.State.Failovers) {
		if p.From != t.Self.Name || p.To == t.Self.Name {
			continue
		}
		if p.LostBytes != nil {
			return // known, and older changes had another log
		}
		lost := at.Behind(r.End)
		p.LostBytes = &lost
		t.do(Put{Key: cluster.PageKey(p.Number), Value: p.Encode(), Over: p.Mod})
		return
	}
}

// why publishes the decision itself, at most once per renewal and when it changed.
func (t *turn) why() {
	acts := []string{}
	for _, a := range t.d.Actions {
		switch a.(type) {
		case Renew, Put:
		default:
			acts = append(acts, a.String())
		}
	}
	w := cluster.Why{At: t.Wall, Epoch: t.State.Epoch(), Trail: t.d.Trail, Actions: acts}
	w.Problems = t.problems
	if t.VIP.Held {
		w.VIP = t.VIP.Address
	}
	if p := t.m.Refused; p.Code != "" {
		w.Problems = append(w.Problems, p)
	}
	if p := t.Server.Problem; p.Code != "" {
		w.Problems = append(w.Problems, p)
	}
	if f := t.m.Failed; f.Times > 0 {
		said := f.Err
		if p := f.Problem; p.Code != "" {
			said = p.Code
			known := func(q problem.Error) bool { return q.Code == p.Code }
			w.Problems = append(slices.DeleteFunc(w.Problems, known), p)
		}
		w.Waiting = append(w.Waiting, fmt.Sprintf("%s failed %s: %s", f.What, times(f.Times), said))
	}
	seen, ok := t.State.Why(t.Self.Name)
	if ok && slices.Equal(seen.Trail, w.Trail) && slices.Equal(seen.Actions, w.Actions) && slices.Equal(seen.Waiting, w.Waiting) &&
		slices.Equal(seen.Problems, w.Problems) && seen.VIP == w.VIP {
		return
	}
	if at := t.m.Told + t.Timers.Renew; t.Now < at || t.quiet() {
		t.wakeBy(max(at, t.Now+soon))
		return
	}
	t.m.Told = t.Now
	t.do(Put{Key: cluster.DirWhy + t.Self.Name, Value: w.Encode(), Over: -1})
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
