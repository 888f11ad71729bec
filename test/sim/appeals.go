package sim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"howdah/ha"
	"howdah/pg"
)

// What the members say to each other when the store is out of reach.

// appeals lets the store be away for longer than leases last, again and again; when it
// is back, or before, the leader may be cut off from it, or from the others, or both.
func (w *World) appeals() {
	w.aways, w.mended = true, true
	w.after(w.draw(10*time.Second, 90*time.Second), func() {
		if !w.store.outage && !w.mended {
			w.away(w.draw(w.Timers.Lease/2, 3*w.Timers.Lease))
		}
		w.appeals()
	})
}

// silence is such a time in which nothing else happens.
func (w *World) silence() {
	w.mended, w.laws.excused = false, true
	d := w.draw(w.Timers.Lease, 3*w.Timers.Lease)
	w.away(d)
	w.run(w.now + d + w.draw(0, 2*w.Timers.Lease))
	w.heal()
}

func (w *World) away(d time.Duration) {
	w.Stats.Away++
	leader := w.leader()
	if w.chance(0.5) {
		w.ambush.appeal = w.now + d
	}
	store, peers := w.chance(0.5), w.chance(0.4)
	if w.chance(0.5) {
		// It is the network to the store, which goes on by itself: leases end there.
		w.say("nobody reaches the store")
		for _, n := range w.nodes {
			n.cutStore = true
			n.absent()
			w.unwell(n, 0)
			back := d
			if n == leader && store && !peers {
				back += w.draw(0, 2*w.Timers.Lease) // longer than for the others
			}
			w.after(back, func() { w.mend(n) })
		}
	} else {
		w.store.setOutage(true)
		for _, n := range w.nodes {
			w.unwell(n, 0)
		}
		w.after(d, func() { w.store.setOutage(false) })
	}
	if leader != nil && peers {
		w.after(w.draw(d/2, d), func() {
			if !w.mended {
				w.cut(leader, store, peers)
			}
		})
	}
}

// appealFor is how long a leader waits for the word of the others.
const appealFor = 2 * time.Second

// Appeal implements agent.Hands.
func (n *node) Appeal(a ha.Appeal) {
	w, gen := n.w, n.agentGen
	r := &ha.Round{Epoch: a.Epoch, Sent: n.boot(), For: a.For}
	asked := strings.Split(a.To, "\n")
	open := len(asked)
	over := func() {
		if open = -1; n.agentGen == gen {
			n.deliver(func() {
				if w.mutant.Receipt {
					r.Sent = n.boot()
				}
				n.loop.Rounded(*r)
			})
		}
	}
	w.appealed(n)
	for _, name := range asked {
		o := w.node(name)
		w.after(w.message(), func() {
			said := o != nil && w.reach(n, o) && o.gives(ha.Plea{Name: n.name, Epoch: a.Epoch, For: a.For})
			w.after(w.message(), func() {
				if open < 0 || !said || !w.reach(n, o) {
					return // nobody answers, or too late
				}
				r.Granted = append(r.Granted, name)
				if open--; open == 0 {
					over()
				}
			})
		})
	}
	w.after(appealFor, func() {
		if open > 0 {
			over()
		}
	})
	w.wrote(n, "Appeal/sent")
}

// appealed is told that n has asked the others for their word. Held up from before it hears
// them until its right is nearly over, and out of their reach from then on, it has to
// know by itself for how long they keep it.
func (w *World) appealed(n *node) {
	if w.ambush.appeal < w.now {
		return
	}
	w.ambush.appeal = 0
	left := n.when(n.page.Deadline) - w.now
	held := w.draw(left/2, left)
	w.say("fault: %s is held up for %s while it asks", n.name, held)
	n.stallFor(held)
	w.unwell(n, held)
	gen, again := n.agentGen, w.chance(0.5)
	w.after(held+time.Microsecond, func() {
		switch {
		case n.agentGen != gen || w.mended:
		case again:
			n.stallFor(w.draw(w.Timers.Lease, 3*w.Timers.Lease))
			w.unwell(n, 0)
		default:
			w.cut(n, true, true)
		}
	})
}

// gives asks this member for its word. One that sees the store gives none.
func (n *node) gives(p ha.Plea) bool {
	if n.loop == nil || n.stall > n.w.now || !n.cutStore && !n.w.store.outage {
		return false
	}
	g, err := n.loop.Agree(p)
	if err == nil && n.w.chance(n.w.rates.fail) {
		err = errors.New("no space left on device")
	}
	if err != nil {
		n.w.say("%s: gives %s no word: %v", n.name, p.Name, err)
		return false
	}
	if n.given = g; n.w.mutant.Forgets {
		n.loop.Grant = ha.Grant{}
	}
	n.w.Stats.Given++
	if n.w.wrote(n, "Agree/kept"); n.loop == nil {
		return false // it never said so
	}
	n.w.say("%s: gives %s its word for epoch %d until %s", n.name, p.Name, p.Epoch, n.given.Until)
	return true
}

// message is how long one takes from one member to another.
func (w *World) message() time.Duration {
	if w.chance(w.rates.slow) {
		return w.draw(w.rates.delay, 3*time.Second)
	}
	return w.draw(0, w.rates.delay) + time.Microsecond
}

// backed says that nobody else can take over from the leader of that epoch, by the word of the others.
func (w *World) backed(n *node, epoch int64) bool {
	kept := func(o *node) bool {
		return o.given.Epoch == epoch && (!o.up || o.boot() < o.given.Until)
	}
	st := w.store.newest.read()
	if st.Sync.Active() && len(st.Sync.Standby) > 0 {
		given := 0
		for _, name := range st.Sync.Standby {
			if o := w.node(name); o != n && kept(o) {
				given++
			}
		}
		return given >= max(len(st.Sync.Standby)-st.Sync.Quorum, 1)
	}
	return !slices.ContainsFunc(w.nodes, func(o *node) bool {
		_, recorded := st.Member(o.name)
		recorded = recorded || slices.Contains(st.Names(), o.name)
		return o != n && recorded && o.server.data == pg.DataPresent && !kept(o)
	})
}
