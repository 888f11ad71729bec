package ha

import "howdah/cluster"

// stray is the turn of a leader whose key somebody wrote over who is no agent.
//
// The story: an agent puts the leader key with its lease, and the term beside it in
// the same transaction. A key without a lease that is newer than the term is
// somebody's who tried etcdctl, or of a script that was meant for another cluster:
// nobody leads by it. Whoever led is silenced, as whenever the key is gone, for it
// could be removed at any moment and somebody else be elected. But as long as it
// stands nobody can be elected, and the term says that nobody has been: so who
// led last puts its own key over it, and goes on where it stood.
func (t *turn) stray() bool {
	l := t.State.Leader
	if !t.State.Stray() || t.State.Term.Leader != t.Self.Name || t.Stopping {
		return false
	}
	t.note("leader=stray(%s)", l.Name)
	if t.m.Lease.old(t.Now) {
		t.confirm()
		return true
	}
	t.ask(Retake{Lease: t.m.Lease.ID, Epoch: l.Mod, Term: t.term(cluster.TermRetaken)})
	return true
}
