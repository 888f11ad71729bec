package sim

import (
	"time"

	"howdah/ha"
)

// Disks that hang: nothing written to them, or read anew, comes back, for seconds or a
// minute. The server answers from memory and flushes nothing, so it acknowledges nothing
// and sends nothing; none of its processes ends before the disk answers, killed or not; one
// that was not killed goes on then where it stood. The agent's own writes wait, and so does
// whoever ended it.

// disks has disks of this world hang.
func (w *World) disks() { w.hanging = true }

// hungFaults are those of such a world.
var hungFaults = []fault{
	{"hung-disk", 12, true, func(w *World, n *node) { w.hang(n, w.draw(time.Second, 70*time.Second)) }},
	{"hung-disk-with-store", 8, true, func(w *World, n *node) { // a member of etcd writes to it, too
		d := w.draw(5*time.Second, 70*time.Second)
		w.hang(n, d)
		w.after(w.draw(0, time.Second), func() {
			if n.server.hung() {
				n.cutStore = true
				w.unwell(n, 0)
			}
		})
		w.after(d+w.draw(0, 2*time.Second), func() { w.mend(n) })
	}},
	{"hung-disk-killed", 8, true, func(w *World, n *node) {
		w.hang(n, w.draw(time.Second, 40*time.Second))
		w.after(w.draw(0, 2*time.Second), func() { w.killPostgres(n, w.chance(0.3)) })
	}},
	{"hung-disk-agent", 6, true, func(w *World, n *node) {
		w.hang(n, w.draw(time.Second, 40*time.Second))
		w.after(w.draw(0, 5*time.Second), n.crashAgent)
	}},
	{"held-renewal", 6, true, func(w *World, _ *node) { w.ambush.renewal = w.now + time.Minute }},
	{"slow-disk", 8, true, func(w *World, n *node) { w.stutter(n, w.now+w.draw(5*time.Second, time.Minute)) }},
}

// hang lets n's disk answer nothing for d.
func (w *World) hang(n *node, d time.Duration) {
	s := n.server
	w.say("%s: disk hangs for %s", n.name, d)
	w.unwell(n, d)
	if !s.hung() {
		s.blind = w.chance(0.3)
	}
	if at := w.now + d; at > s.hangs {
		s.hangs = at
		w.at(at, func() {
			if s.hangs == at {
				s.unhang()
			}
		})
	}
}

// stutter lets it stand still again and again, each time for less than anybody minds.
func (w *World) stutter(n *node, until time.Duration) {
	if w.now >= until || w.mended {
		return
	}
	w.hang(n, w.draw(20*time.Millisecond, 3*time.Second))
	w.after(w.draw(0, 4*time.Second), func() { w.stutter(n, until) })
}

func (s *server) hung() bool { return s.w.now < s.hangs }

// unhang is its answer to all that was asked meanwhile.
func (s *server) unhang() {
	if s.hangs == 0 {
		return
	}
	s.w.say("%s: disk answers again", s.n.name)
	s.hangs, s.blind = 0, false
	all := s.blocked
	s.blocked = nil
	for _, do := range all {
		do()
	}
	s.kick()
	s.pump()
}

// onDisk lets do happen once the disk answers.
func (s *server) onDisk(do func()) {
	if s.hung() {
		s.blocked = append(s.blocked, do)
		return
	}
	do()
}

// stuck says that work of this kind comes no further before the disk answers, and held that
// nobody can even give it up: it is the agent's own. What was written a moment ago is read
// from memory, unless the disk is one that answers nobody at all.
func (s *server) stuck(a ha.Action) (stuck, held bool) {
	switch a.(type) {
	case ha.Kill:
		return false, false
	case ha.Checkpoint, ha.Slots:
		return s.hung(), false
	case ha.Measure:
		return s.hung() && s.blind, s.hung() && s.blind
	}
	return s.hung(), s.hung()
}
