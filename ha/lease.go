package ha

import (
	"cmp"
	"time"

	"howdah/cluster"
)

// deadline is until when this node's right to lead is certain: the lease's
// length after the confirmed renewal was *sent*, less the margin in which the
// server is silenced. The store lets the key go no earlier than the lease's
// length after that, so the holder always lets go first (law 3).
func (t *turn) deadline() time.Duration {
	if t.m.Right.Epoch == 0 {
		return 0
	}
	return t.m.Right.Sent + t.m.Right.TTL - t.Timers.Margin
}

// leading says that the key is certainly ours at this moment.
func (t *turn) leading() bool { return t.m.Right.Epoch > 0 && t.Now < t.deadline() }

// claimed is the epoch of a key that carries our name, confirmed or not.
func (t *turn) claimed() int64 {
	if t.anew() {
		return 0 // a right may go on, but there is no key to keep
	}
	if t.m.Right.Epoch > 0 {
		return t.m.Right.Epoch
	}
	if t.State.LeaderName() == t.Self.Name {
		return t.State.Leader.Mod
	}
	return 0
}

// lease keeps the lease alive, and with it the key while it is ours. An agent
// that finds the leader key its own adopts its lease: that is how PostgreSQL
// outlives its agent without a change of leader.
func (t *turn) lease() {
	m := &t.m
	if t.LockBusy || m.Leaving.Resigned {
		return
	}
	if m.Lease.ID == 0 {
		if !t.Known {
			return
		}
		m.Lease = Lease{ID: t.inherited(), TTL: t.Timers.Lease}
		if m.Lease.ID == 0 {
			if t.lockDue(t.Timers.Renew / 4) {
				t.ask(GrantLease{TTL: t.Timers.Lease})
			}
			return
		}
	}
	if l := m.Lease; l.Sent > 0 && seconds(cmp.Or(l.For, l.TTL)) != seconds(t.Timers.Lease) && t.lockDue(t.Timers.Renew/4) {
		// The timers are others now, and a lease keeps its length: keys move to a new one.
		t.ask(GrantLease{TTL: t.Timers.Lease})
		return
	}
	epoch := t.claimed()
	if l := t.State.Leader; epoch > 0 && l != nil && l.Mod == epoch && l.Lease != m.Lease.ID {
		// The key hangs on a lease that we have lost; hang it on the present one.
		if t.lockDue(t.Timers.Renew / 4) {
			t.ask(Retake{Lease: m.Lease.ID, Epoch: epoch, Term: t.term(cluster.TermRetaken)})
		}
		return
	}
	// While another leads, no right is taken soon: nobody needs to confirm that the
	// lease lives, which takes a majority of the store. It is kept three times over at least.
	bare := epoch == 0 && t.Known && t.State.Leader != nil && !t.State.Stray() && !t.heir()
	every, last := t.Timers.Renew, m.Lease.Sent
	if bare {
		every, last = max(every, min(every+every/2, t.Timers.Lease*3/10)), m.Lease.heard()
	}
	if last == 0 || t.Now-last > every+every/4 || (epoch > 0 && m.Right.Epoch == 0) {
		every /= 4 // behind, or not confirmed yet: hurry
	}
	if !t.lockDue(every) {
		return
	}
	r := Renew{Lease: m.Lease.ID, Epoch: epoch, Bare: bare}
	if epoch > 0 && (t.Server.Primary() || t.Server.Answers && t.standbyCluster()) {
		r.Status = t.status()
	}
	t.ask(r)
}

// confirm renews the lease so that a right may be counted from it.
func (t *turn) confirm() {
	if t.m.Lease.ID != 0 && t.lockDue(t.Timers.Renew/16) {
		t.ask(Renew{Lease: t.m.Lease.ID})
	}
}

// seconds rounds up to what the store's leases are long.
func seconds(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }

// inherited is the lease that the leader key hangs on, if that is ours. (What
// hangs there else is soon put anew, and the end of a lease that a predecessor
// asked for may still be on its way; one that led did not ask for it.)
func (t *turn) inherited() int64 {
	if l := t.State.Leader; l != nil && l.Name == t.Self.Name && l.Lease != 0 {
		return l.Lease
	}
	return 0
}

// lockDue says that the last request of the lock lane began at least every ago.
func (t *turn) lockDue(every time.Duration) bool {
	at := t.m.LastLock + every
	if t.m.LastLock == 0 || t.Now >= at {
		return true
	}
	t.wakeBy(at)
	return false
}

// ask begins a request of the lock lane, one a turn.
func (t *turn) ask(a Action) bool {
	if t.LockBusy {
		return false
	}
	if _, renew := a.(Renew); !renew && t.Now < t.m.LockAfter {
		t.wakeBy(t.m.LockAfter)
		return false
	}
	t.LockBusy = true
	t.m.LastLock = t.Now
	t.do(a)
	return true
}
