package sim

import (
	"slices"
	"time"

	"howdah/pg"
)

// Replication: how what a server writes comes to those who stream from it.

// cutOff ends the walsenders' streams: those who stream from here notice, unless
// their network is gone.
func (s *server) cutOff() {
	for _, n := range s.w.everyone() {
		o := n.server
		if o.stream != s {
			continue
		}
		if !s.n.up || s.n.cutPeers || n.cutPeers {
			o.lost()
			continue
		}
		link := o.link
		s.w.after(s.w.draw(0, 2*time.Millisecond), func() {
			if o.link == link {
				o.hangUp(0)
			}
		})
	}
}

// kick lets those who stream from here fetch what is new.
func (s *server) kick() {
	for _, n := range s.w.everyone() {
		if n.server.stream == s {
			n.server.pump()
		}
	}
}

// connect is the WAL receiver's next attempt.
func (s *server) connect(in time.Duration) {
	s.link++
	link, life := s.link, s.life
	s.w.after(in, func() {
		if s.link != link || s.life != life || s.stream != nil || !s.recovering || s.up.Host == "" {
			return
		}
		if !s.attach() {
			s.connect(100 * time.Millisecond)
		}
	})
}

func (s *server) attach() bool {
	n := s.w.node(s.up.Name)
	if n == nil || !s.n.up || s.frozen || s.hung() || s.w.now < s.full || s.proc != pg.ProcessRunning && s.proc != pg.ProcessStarting {
		return false
	}
	u := n.server
	if !s.w.reach(s.n, n) || u.frozen || u.proc != pg.ProcessRunning || u == s {
		return false
	}
	if s.up.Slot != "" && !slices.Contains(u.slots, s.up.Slot) {
		return false
	}
	if u.branch.system != s.branch.system {
		return false
	}
	if s.twin(u) {
		return false
	}
	if !u.branch.has(u.end, s.branch, s.end) {
		return false // "requested starting point is not in this server's history"
	}
	s.newest = max(s.newest, u.newest)
	s.stream, s.acked, s.heard, s.broken = u, s.end, s.w.now, 0
	u.spare = slices.DeleteFunc(slices.Clone(u.spare), func(slot string) bool { return slot == s.up.Slot })
	u.sends(s)
	s.position(u.branch, s.end)
	s.pump()
	return true
}

// twin says that u's history has another branch under a number of ours: the
// known hole W20, which PostgreSQL cannot see.
func (s *server) twin(u *server) bool {
	for x := u.branch; x != nil; x = x.parent {
		for y := s.branch; y != nil; y = y.parent {
			if x != y && x.tl == y.tl {
				s.w.collision(s, u)
				return true
			}
		}
	}
	return false
}

// position moves a standby to end on the history of b.
func (s *server) position(b *branch, end pg.LSN) {
	for b.parent != nil && end < b.fork {
		b = b.parent
	}
	s.branch, s.end = b, end
}

// pump carries what the upstream has now to this standby.
func (s *server) pump() {
	u := s.stream
	if u == nil || s.pumping || s.frozen || u.frozen || s.hung() || u.end == s.end && u.branch == s.branch && s.acked == s.end {
		return
	}
	if !s.w.reach(s.n, u.n) {
		s.lost()
		return
	}
	s.pumping = true
	link, b, end := s.link, u.branch, u.end
	s.w.after(s.w.draw(s.w.rates.delay/8, s.w.rates.delay/2)*s.n.slow+s.w.draw(0, s.n.lag), func() {
		s.pumping = false
		if s.link != link || s.stream != u {
			s.pump()
			return
		}
		if !s.w.reach(s.n, u.n) || !u.n.up {
			s.lost()
			return
		}
		if s.frozen || s.hung() {
			return
		}
		s.acked, s.heard = s.end, s.w.now
		s.position(b, max(end, s.end))
		u.confirm(s)
		if w := s.w; w.far != nil {
			s.kick() // those who stream from a standby, which the leader of a standby cluster is
		}
		s.w.after(0, s.pump)
	})
}

// lost notes that nothing comes any more; wal_receiver_timeout is 5 s.
func (s *server) lost() {
	if s.broken != 0 {
		return
	}
	s.broken = s.w.now
	since, life := s.broken, 0
	if s.stream != nil {
		life = s.stream.life
	}
	s.w.after(5*time.Second, func() {
		switch u := s.stream; {
		case s.broken != since || u == nil: // another connection by now
		case s.w.reach(s.n, u.n) && u.n.up && u.proc == pg.ProcessRunning && u.life == life: // one that runs anew knows nothing of the connection
			s.broken = 0
			s.pump()
		default:
			s.hangUp(0)
		}
	})
}

// hangUp ends this server's own stream and tries again.
func (s *server) hangUp(again time.Duration) {
	s.link++
	s.stream, s.broken = nil, 0
	if (s.proc == pg.ProcessRunning || s.proc == pg.ProcessStarting) && s.recovering {
		s.connect(again + 5*time.Millisecond)
	}
}

// lostAll notes the streams that a cut stops.
func (s *server) lostAll() {
	for _, n := range s.w.everyone() {
		if o := n.server; o.stream != nil && (o == s || o.stream == s) {
			o.lost()
		}
	}
}
