// Package quorum holds the thinking behind two promises: a commit that was
// acknowledged is in every later primary, and at most one server acknowledges.
//
// Two settings keep them. PostgreSQL's synchronous_standby_names says who must
// have flushed a commit before it is acknowledged; the key /sync says whose
// pledges a candidate needs before it is promoted. Every set of the one kind
// must meet every set of the other, at every instant. Next moves the two, one
// step at a time, from what they are to what they should be (Aim); Elect says
// what a candidate may do with the pledges it has; Promise is the only way to
// make a pledge.
//
// All of it is pure: facts in, plain values and the trail of reasons out. It
// never reads a clock, talks to anybody, or trusts that a step it asked for was
// taken. The invariants are those of Patroni's patroni/quorum.py; where we
// differ from it, DESIGN.md beside this file says why, with the whole argument.
// An exhaustive model in the tests of this package tries the argument.
package quorum

import (
	"howdah/cluster"
)

// voters are the members of /sync whose pledges count; its leader never does.
func voters(s cluster.Sync) set { return newSet(s.Standby...).without(s.Leader) }

// Holds says that whoever may be promoted by s meets whoever may acknowledge a
// commit by rule, which is the first of three invariants (patroni/quorum.py,
// check_invariants):
//
//  1. |voters ∪ standbys| ≤ quorum + acknowledgements, the leader counted nowhere;
//  2. one of the two sets holds the other;
//  3. quorum is 0 or less than the number of voters.
//
// Without voters nobody but the leader itself may be promoted, which meets every rule.
func Holds(s cluster.Sync, rule Names) bool {
	v, of := voters(s), rule.set().without(s.Leader)
	switch {
	case len(v) == 0:
		return s.Quorum == 0
	case s.Quorum < 0 || s.Quorum >= len(v):
		return false
	case rule.Async() || rule.Wild():
		return false
	}
	return (of.within(v) || v.within(of)) && len(v.or(of)) <= s.Quorum+rule.Num
}

// Succeed is what /sync becomes in the transaction in which leader takes the key
// from the leader that s names, and by which rule its server must acknowledge
// from its first commit on. The old leader takes the place of the new one: it,
// too, has everything that was acknowledged (DESIGN.md, "Succession").
func Succeed(s cluster.Sync, leader string) (cluster.Sync, Names) {
	if fold(s.Leader) == fold(leader) {
		v := voters(s)
		if len(v) == 0 {
			return s, Nobody()
		}
		return s, Any(len(v)-s.Quorum, v...)
	}
	v := voters(s)
	if len(v) == 0 {
		// Only the old leader could be promoted, yet somebody else was: by a person.
		return cluster.Sync{Mod: s.Mod, Leader: leader}, Nobody()
	}
	v = v.or(newSet(s.Leader)).without(leader)
	return cluster.Sync{Mod: s.Mod, Leader: leader, Quorum: s.Quorum, Standby: v}, Any(len(v)-s.Quorum, v...)
}
