package sim

import (
	"slices"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
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
	{Name: "a restore that nobody but its leader knows of", Law: "restore", Quorum: true, Restores: true},
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
	Restores     bool   // people bring clusters back, and only the leader of a restore is told
}

func (m *Mutant) status(_ *node, st pg.Status) pg.Status {
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
	return r
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
