package sim

import (
	"slices"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/pg"
)

// Mutants are the ways that the laws must find.
var Mutants = []Mutant{
	{Name: "release before a verified kill", Law: "law 5", Unverified: true},
	{Name: "no margin before the end of the lease", Law: "law 3", NoMargin: true},
	{Name: "an error of the store taken for no leader", Law: "law 6", ErrorIsEmpty: true},
	{Name: "a swap without revision", Law: "law 5", NoCompare: true},
	{Name: "two initdb", Law: "law 7", TwoSystems: true},
	{Name: "a lost watch event", Law: "liveness", LostEvent: true},
	{Name: "a candidate behind but chosen", Law: "election", RankBlind: true},
	{Name: "a smart shutdown that is waited for", Law: "liveness", Patient: true},
	{Name: "a pledge without a refusal", Law: "law 4", Quorum: true, Unrefused: true},
	{Name: "a promotion without pledges", Law: "law 4", Quorum: true, Uncounted: true},
	{Name: "clients let in to whatever a crash left", Law: "law 2", Quorum: true, Ungated: true},
	{Name: "an offer taken without its log", Law: "loss", TakesBehind: true},
	{Name: "a word that is forgotten", Law: "law 3", Forgets: true},
	{Name: "a word that counts from when it was heard", Law: "law 3", Receipt: true},
	{Name: "a refusal that the next agent knows nothing of", Law: "law 4", Quorum: true, Undurable: true},
	{Name: "a watchdog that is petted until the deadline", Law: "law 3", Watch: true, LatePet: true},
	{Name: "a promotion whose watchdog is not armed", Law: "watchdog", Watch: true, Unwatched: true},
	{Name: "a login that is answered again and not heard of", Law: "logins", Deaf: true},
	{Name: "an agent that hangs and is left alone", Law: "stillness", Forbears: true},
	{Name: "a restore that nobody but its leader knows of", Law: "restore", Quorum: true, Restores: true},
	{Name: "what a disk holds up taken for dead, killed or not", Law: "law 5", Hang: true, Undead: true},
	{Name: "a verdict of the guard that waits for the disk", Law: "law 3", Hang: true, Awaits: true},
	{Name: "a right that counts from when its renewal was answered", Law: "law 3", Hang: true, FromAnswer: true},
	{Name: "a pledge whose WAL receiver goes on", Law: "law 4", Quorum: true, Receiving: true},
	{Name: "a timeline that was reserved and is taken again", Law: "timelines", Quorum: true, Reused: true},
	{Name: "a frozen server let go without a look at what happened", Law: "law 3", LetsGo: true},
	{Name: "a candidate with less than another has pledged", Law: "law 2", Quorum: true, RankBlind: true},
	{Name: "as many pledges as the quorum, instead of one more", Law: "law 4", Quorum: true, OneShort: true},
	{Name: "a primary whose first commits wait for nobody", Law: "law 2", Quorum: true, SettingLate: true},
	{Name: "a setting taken for proven once it is written", Law: "law 2", On: true, Unproven: true},
	{Name: "a setting in force before /sync covers it", Law: "law 2", On: true, SettingFirst: true},
	{Name: "priorities that nobody looks at", Law: "liveness", On: true, Equal: true},
}

// A Mutant is a way for the agent to be wrong, made between it and the world:
// what it is told, or what it asks for, is bent. The laws must find it.
type Mutant struct {
	Name         string
	Law          string // that finds it, among others
	Unverified   bool   // what remains of a killed server is taken for dead
	NoMargin     bool   // the deadline is the end of the lease itself
	ErrorIsEmpty bool   // no answer from the store is taken for "there is no leader"
	NoCompare    bool   // the leader key is put whatever is there
	TwoSystems   bool   // a founder looks at nobody's claim, and opens over whatever there is
	LostEvent    bool   // a watch loses a change of the leader key for good
	RankBlind    bool   // candidates do not compare positions
	Patient      bool   // a server that waits for its clients to leave is taken for one that runs
	Quorum       bool   // it is one of synchronous mode
	Unrefused    bool   // a voter says where its log ends, and goes on taking more
	Uncounted    bool   // whoever has not pledged is taken to have pledged next to nothing
	Ungated      bool   // a server is taken to be shut when it is started, and open once it runs
	TakesBehind  bool   // whoever is offered the key takes it, whatever it has
	Forgets      bool   // a member gives its word, and stands for election all the same
	Receipt      bool   // a leader counts its right from when the others answered, not from before it asked
	Undurable    bool   // a refusal is gone with the agent that made it
	Watch        bool   // it is one of machines with watchdogs
	LatePet      bool   // the device is petted as long as the right lives, whenever its timeout ends
	Unwatched    bool   // a device is taken to be armed
	Hang         bool   // it is one of disks that hang
	Undead       bool   // a server whose processes wait for the disk counts as gone
	Awaits       bool   // guard and agent freeze nothing before the disk answers
	On           bool   // it is one of synchronous mode by priority
	Equal        bool   // everybody has the same priority
	FromAnswer   bool   // a renewal counts from its answer, not from before it was sent
	Receiving    bool   // a voter refuses, and its WAL receiver takes and confirms more
	Reused       bool   // a server is promoted to the next timeline that it knows of, whatever was reserved
	LetsGo       bool   // the guard thaws what it froze, after a while
	OneShort     bool   // /sync is taken to ask for one pledge fewer
	SettingLate  bool   // the checkpointer's word comes after the promotion
	Unproven     bool   // every probe is taken for answered at once, and everybody for having flushed it
	SettingFirst bool   // the server goes by the new setting while /sync is still to be published
	Forbears     bool   // the guard leaves an agent alone whose loop stands still
	Deaf         bool   // once a login was not answered none is
	Restores     bool   // people bring clusters back, and only the leader of a restore is told
}

func (m *Mutant) status(n *node, st pg.Status) pg.Status {
	if m.Undead && n.server.hung() && st.Process != pg.ProcessNone {
		st.Process, st.Answers, st.Unflushed = pg.ProcessNone, false, false
	}
	if m.Unproven && st.Answers && !st.Recovering {
		names, _ := quorum.ParseNames(st.SyncNames)
		st.Replicas = slices.Clone(st.Replicas)
		for i := range st.Replicas {
			r := &st.Replicas[i]
			r.Flushed, r.SyncPriority = st.Flushed, 0
			if slices.Contains(names.List, r.Name) {
				r.SyncPriority = 1
			}
		}
	}
	if n.early != "" {
		st.SyncNames = n.early
	}
	if m.Unverified && st.Process == pg.ProcessRemains {
		st.Process = pg.ProcessNone
	}
	if m.Patient && st.Process == pg.ProcessStopping && st.Answers {
		st.Process = pg.ProcessRunning
	}
	if m.Ungated {
		st.Shut = st.Process == pg.ProcessNone
	}
	return st
}

func (m *Mutant) state(n *node, seen *cluster.State) cluster.State {
	s := *seen
	if m.ErrorIsEmpty && n.unknown {
		s.Leader = nil
	}
	if m.TwoSystems && !n.opened && n.w.Stats.Clones == 0 {
		s.Initialize = cluster.Initialize{Present: true, Mod: 1}
		s.Claim = &cluster.Claim{Mod: 1, Leader: n.name}
		s.Leader, s.Term = nil, nil
	}
	if m.OneShort && s.Sync.Quorum > 0 && s.LeaderName() != n.name {
		s.Sync.Quorum--
	}
	if m.Equal {
		s.Members = slices.Clone(s.Members)
		for i, o := range s.Members {
			if !o.Tags.NoSync() {
				s.Members[i].Tags = nil
			}
		}
	}
	if n.lost != nil {
		s.Leader = n.lost.leader
	}
	if m.Restores && s.Restore != nil && s.Restore.Member != n.name {
		s.Restore = nil
	}
	if m.TakesBehind && s.Handover != nil {
		h := *s.Handover
		h.LSN = min(h.LSN, 1)
		s.Handover = &h
	}
	if m.Uncounted && s.Sync.Active() && s.Leader == nil {
		s.Pledges = slices.Clone(s.Pledges)
		for _, name := range s.Sync.Standby {
			if p, ok := s.Pledge(name); !ok || p.Epoch != s.Epoch() {
				s.Pledges = append(slices.DeleteFunc(s.Pledges, func(p cluster.Pledge) bool { return p.Member == name }),
					cluster.Pledge{Member: name, Epoch: s.Epoch(), Timeline: 1, LSN: 1, Fenced: true})
			}
		}
	}
	if m.RankBlind {
		s.Pledges = slices.Clone(s.Pledges)
		for i, p := range s.Pledges {
			if p.Member != n.name {
				s.Pledges[i].LSN = 1
			}
		}
	}
	return s
}

func (m *Mutant) request(n *node, a ha.Action, r dcs.Request) dcs.Request {
	switch a.(type) {
	case ha.Acquire, ha.Take, ha.Retake, ha.Release:
		if m.NoCompare {
			r.If = nil
		}
	case ha.Open:
		if m.TwoSystems {
			r.If, n.opened = nil, true
		}
	}
	if m.SettingFirst {
		m.first(n, r)
	}
	return r
}

// first has n's server go by the loosest setting that the /sync of r is to cover, and its
// agent none the wiser.
func (m *Mutant) first(n *node, r dcs.Request) {
	for _, op := range r.Ops {
		sync, err := cluster.ParseSync([]byte(op.Value))
		s := n.server
		if op.Key != cluster.KeySync || err != nil || !s.writes() || s.names.Async() {
			continue
		}
		to := quorum.Any(len(sync.Standby)-sync.Quorum, sync.Standby...)
		if len(sync.Standby) == 0 { // nobody else may lead: it covers whatever comes
			var others []string
			for _, o := range n.w.nodes {
				if o != n {
					others = append(others, o.name)
				}
			}
			to = quorum.Any(1, others...)
		}
		if n.early == "" {
			n.early = s.names.String()
		}
		s.synchronize(ha.Synchronize{Names: to.String(), Memory: s.note})
	}
}

// held is how long such a request is held up.
func (m *Mutant) held(n *node, r dcs.Request) time.Duration {
	if m.SettingFirst && slices.ContainsFunc(r.Ops, func(op dcs.Op) bool { return op.Key == cluster.KeySync }) {
		return n.w.draw(0, n.w.Timers.Retry)
	}
	return 0
}

// watched is told every picture that n's watch is about to bring. With a watch
// that is built from changes and loses one, the leader key stays what it was
// there until it changes again.
func (m *Mutant) watched(n *node, p *picture) {
	if !m.LostEvent {
		return
	}
	now := p.read().Leader
	if same(now, n.leaderWas) {
		return
	}
	n.lost = nil
	if n.w.chance(0.1) {
		n.lost = &lostEvent{n.leaderWas}
	}
	n.leaderWas = now
}

// lostEvent is the leader as a watch still shows it.
type lostEvent struct{ leader *cluster.Leader }

func same(a, b *cluster.Leader) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}
