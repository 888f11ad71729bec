package sim

import "time"

// Agents that hang: their loop stands still, and their guard, who is well, ends them so
// that another takes up the lease (ha/pulse.go). One that merely stalls (stallFor) is held by
// what its guard leaves alone.

// hangFor lets the agent's loop stand still for d.
func (n *node) hangFor(d time.Duration) {
	if n.loop == nil {
		return
	}
	n.w.say("%s: agent hangs for %s", n.name, d)
	n.stallFor(d)
	if n.w.mutant.Forbears {
		return
	}
	n.pulse.Looked = n.w.now - n.w.draw(0, glance) // its guard has looked all the time
	n.pulse.Beat, n.pulse.Since, n.pulse.Moved = n.pulse.Beat+1, n.pulse.Looked+glance, true
	n.listen(n.agentGen)
}

// glance is how often the guard looks.
const glance = 450 * time.Millisecond

func (n *node) listen(gen int) {
	w := n.w
	w.after(glance, func() {
		if n.agentGen != gen || n.stall <= w.now {
			return
		}
		if n.dog.hung <= w.now {
			n.pulse.Listen(w.now, n.pulse.Beat)
			if n.pulse.End(w.now, 0, w.Timers.Still(), false) {
				w.say("%s: guard: agent hangs", n.name)
				w.Stats.Ended++
				n.crashAgent()
				return
			}
		}
		n.listen(gen)
	})
}

// stillness is how a cluster is to which nothing may happen.
type stillness struct {
	leader  *node
	epoch   int64
	life    int
	frozen  int
	befell  int // what may come to the store, or be asked for by a person, at any time
	expects bool
}

func (w *World) still() (s stillness) {
	holder, key := w.holder()
	if holder == nil {
		return s
	}
	s = stillness{holder, key.Mod, holder.server.life, w.Stats.Frozen, w.Stats.Strays + w.Stats.Wiped + w.Stats.Away + w.Stats.Asked, true}
	t := w.Timers
	roomy := t.Lease-t.Margin > t.Renew+glance+t.Still()+glance+2*t.Retry // what begins and confirms anew has time
	for _, n := range w.nodes {
		s.expects = s.expects && n.up && n.pulse.Ends == 0 && n.wellSince < w.now
	}
	s.expects = s.expects && roomy && w.mended && w.state() == whole && !w.watched && !w.aways && !w.paused()
	return s
}

// hangAgent lets an agent hang. In a cluster that is well nothing comes of it.
func (w *World) hangAgent(n *node) {
	before := w.still()
	n.hangFor(10 * time.Second)
	if !before.expects {
		w.unwell(n, 10*time.Second)
		return
	}
	w.run(w.now + 10*time.Second + w.Timers.Lease)
	if after := w.still(); after.befell == before.befell && (after.leader != before.leader || after.epoch != before.epoch || after.life != before.life || after.frozen != before.frozen) {
		w.fail("stillness", "the agent of %s hung for 10 s, and %s leads at epoch %d, in life %d of its server, %d were frozen: before, %s at epoch %d, in life %d",
			n.name, name(after.leader), after.epoch, after.life, after.frozen-before.frozen, before.leader.name, before.epoch, before.life)
	}
}
