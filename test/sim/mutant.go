package sim

import (
	"slices"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/pg"
)

// A Mutant is a way for the agent to be wrong, made between it and the world:
// what it is told, or what it asks for, is bent. The laws must find it.
type Mutant struct {
	Name         string
	Unverified   bool // what remains of a killed server is taken for dead
	NoMargin     bool // the deadline is the end of the lease itself
	ErrorIsEmpty bool // no answer from the store is taken for "there is no leader"
	NoCompare    bool // the leader key is put whatever is there
	TwoSystems   bool // a founder asks for no claim
	LostEvent    bool // a watch loses a change of the leader key for good
	RankBlind    bool // candidates do not compare positions
}

func (m *Mutant) status(_ *node, st pg.Status) pg.Status {
	if m.Unverified && st.Process == pg.ProcessRemains {
		st.Process = pg.ProcessNone
	}
	return st
}

func (m *Mutant) state(n *node, s cluster.State) cluster.State {
	if m.ErrorIsEmpty && n.unknown {
		s.Leader = nil
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

func (m *Mutant) request(a ha.Action, r dcs.Request) dcs.Request {
	switch a.(type) {
	case ha.Acquire, ha.Take, ha.Retake, ha.Release:
		if m.NoCompare {
			r.If = nil
		}
	case ha.Found, ha.Open:
		if m.TwoSystems {
			r.If = nil
		}
	}
	return r
}

// hides says that n's watch does not bring this picture: with the mutant, the
// change of the leader key is lost, and what follows it looks as if there had been none.
func (m *Mutant) hides(w *World, n *node, p *picture) bool {
	return false
}
