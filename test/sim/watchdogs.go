package sim

import (
	"math"
	"time"

	"howdah/ha"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// Watchdogs: a device at each node that resets it when its guard does not pet it, and
// without which nobody leads (mode required).

// A dog is one of them.
type dog struct {
	armed  bool
	broken bool // it can not be armed
	fires  time.Duration
	hung   time.Duration // the guard, and the agent, do nothing until then
	tick   int
}

// watchdogs gives every node one, and has guard and agent of a node hang together, again
// and again: nobody but the device silences its server then.
func (w *World) watchdogs() {
	w.watched = true
	w.hangs()
}

func (w *World) hangs() {
	w.after(w.draw(20*time.Second, 3*time.Minute), func() {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		if l := w.leader(); l != nil && w.chance(0.7) {
			n = l
		}
		if w.chance(0.2) {
			n.dog.broken = true
			w.say("fault: the watchdog of %s can not be armed any more", n.name)
			w.after(w.draw(5*time.Second, time.Minute), func() { n.dog.broken = false })
		} else if n.up {
			d := w.draw(w.Timers.Lease/2, 3*w.Timers.Lease)
			w.say("fault: guard and agent of %s hang for %s", n.name, d)
			w.Stats.Hung++
			w.laws.excused = true
			n.dog.hung = w.now + d
			n.stallFor(d)
			w.unwell(n, d)
		}
		w.hangs()
	})
}

// timeout is after how long a device fires.
func (w *World) timeout() time.Duration {
	return (spec.Watchdog{Mode: spec.WatchdogRequired}).Timeout(w.Timers)
}

// watchdog is what the agent is told.
func (n *node) watchdog() ha.Watchdog {
	d := ha.Watchdog{Required: true, Ready: !n.dog.broken, Armed: n.dog.armed, Timeout: n.w.timeout()}
	if n.dog.broken && !n.dog.armed {
		d.Problem = problem.Error{Code: "watchdog-missing", What: n.name}
	}
	if n.w.mutant.Unwatched {
		d.Armed = true
	}
	return d
}

// vigil is the guard's look at the device: node/vigil.go in the model's terms.
func (n *node) vigil() {
	w := n.w
	if !w.watched || !n.up {
		return
	}
	n.dog.tick++
	tick := n.dog.tick
	again := w.draw(10*time.Millisecond, 450*time.Millisecond)
	defer func() {
		w.after(again, func() {
			if n.dog.tick == tick {
				n.vigil()
			}
		})
	}()
	if n.dog.hung > w.now {
		again = n.dog.hung - w.now
		return
	}
	s, p := n.server, n.page
	v := ha.Vigil{
		Now: n.boot(), Page: p, Safe: s.proc == pg.ProcessNone || s.frozen || s.signal && !p.Primary,
		Might: n.right.Primary && s.proc != pg.ProcessNone, Armed: n.dog.armed, Timeout: w.timeout(), Spare: w.Timers.Margin * 3 / 4,
	}
	if !p.Primary {
		v.Page = ha.Page{}
	}
	if w.mutant.LatePet {
		v.Spare += v.Timeout
	}
	care, next := v.Judge()
	if next > 0 {
		again = min(again, n.when(next)-w.now)
	}
	if s.frozen {
		again = min(again, 10*time.Millisecond)
	}
	switch care {
	case ha.Arm:
		if n.dog.broken {
			return
		}
		n.dog.armed = true
		w.say("%s: watchdog armed", n.name)
		n.pet()
	case ha.Pet:
		n.pet()
	case ha.Disarm:
		n.dog.armed = false
		w.say("%s: watchdog disarmed", n.name)
	}
}

func (n *node) pet() {
	w := n.w
	n.dog.fires = w.now + w.timeout()
	w.at(n.dog.fires, func() {
		if !n.dog.armed || w.now < n.dog.fires || !n.up {
			return
		}
		w.say("%s: watchdog fires", n.name)
		if n.dog.hung+w.timeout() < w.now && !w.laws.hole {
			w.fail("watchdog", "%s was reset, and its guard was well", n.name)
		}
		w.Stats.Resets++
		w.laws.excused = true // what it had not sent
		n.powerOff()
		w.after(w.draw(time.Second, 20*time.Second), n.powerOn)
	})
}

// checkWatched: nothing begins that leads to writes without a device that counts.
func (w *World) checkWatched(n *node, what string) {
	if w.watched && !n.dog.armed && n.page.Deadline != math.MaxInt64 && !w.paused() {
		w.fail("watchdog", "%s: %s begins, and no watchdog is armed", n.name, what)
	}
}
