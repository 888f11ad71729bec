package sim

import (
	"math"
	"time"
)

// An ambush waits for somebody to begin something, for that is when most of
// what can go wrong still can.
type ambush struct {
	change  time.Duration // until when a change of leader is waited for
	work    time.Duration // until when work on a server is
	renewal time.Duration // until when a renewal of the leader is
	appeal  time.Duration // until when a leader that asks the others for their word is
}

// ambushed is told that the leader key has changed hands.
func (w *World) ambushed(winner, loser *node) {
	if w.ambush.change < w.now {
		return
	}
	w.ambush.change = 0
	n := winner
	if loser != nil && w.chance(0.25) {
		n = loser
	}
	drags := func() {
		n.slow = 10
		n.server.drags = w.now + w.draw(0, 2*w.Timers.Lease)
		w.unwell(n, 0)
	}
	kinds := []func(){
		func() { drags(); w.cut(n, true, false) },
		func() { drags(); n.stallFor(w.draw(w.Timers.Lease/2, 3*w.Timers.Lease)) },
		func() { drags(); n.crashAgent() },
		func() { drags(); n.crashAgent(); w.cut(n, true, true) },
		func() { w.killPostgres(n, w.chance(0.3)) },
		func() {
			n.powerOff()
			w.after(w.draw(500*time.Millisecond, 10*time.Second), n.powerOn)
		},
		n.stopAgent,
	}
	kind := w.rng.IntN(len(kinds))
	w.say("fault: ambush %d of %s", kind, n.name)
	w.after(w.draw(0, scale(w, 20*time.Millisecond, 2*time.Second)), kinds[kind])
	w.after(w.draw(5*time.Second, 30*time.Second), n.start)
}

// renews is told that n asks the store to renew its right. Held up until that is nearly
// over, and out of the store's reach from then on, it has to know from when the answer counts.
func (w *World) renews(n *node) {
	if w.ambush.renewal < w.now || n.page.Deadline == math.MaxInt64 {
		return
	}
	left := n.when(n.page.Deadline) - w.now
	if left <= 0 {
		return
	}
	w.ambush.renewal = 0
	held := w.draw(left/2, left)
	w.say("fault: %s is held up for %s while it renews", n.name, held)
	n.stallFor(held)
	w.unwell(n, held)
	w.after(held+time.Microsecond, func() {
		if !w.mended {
			w.cut(n, true, false)
		}
	})
}

// surprised is told that work on a server has begun.
func (w *World) surprised(n *node) {
	if w.ambush.work < w.now {
		return
	}
	w.ambush.work = 0
	kinds := []func(){
		n.stopAgent, n.stopAgent, n.crashAgent,
		func() { w.cut(n, true, true) },
		func() {
			n.powerOff()
			w.after(w.draw(500*time.Millisecond, 10*time.Second), n.powerOn)
		},
	}
	kind := w.rng.IntN(len(kinds))
	w.say("fault: surprise %d of %s", kind, n.name)
	w.after(w.draw(0, scale(w, 10*time.Millisecond, 5*time.Second)), kinds[kind])
	w.after(w.draw(10*time.Second, 30*time.Second), n.start)
}
