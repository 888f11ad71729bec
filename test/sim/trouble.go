package sim

import (
	"time"

	"howdah/pg"
)

// What happens to a server from outside: to its process, its disk, its shutdown.

// hush lets the server answer nobody who asks how it is, for d. Those who write
// may be served all the same.
func (s *server) hush(d time.Duration) {
	if s.proc == pg.ProcessRunning {
		s.w.say("%s: answers nobody for %s", s.n.name, d)
		s.silentTill = max(s.silentTill, s.w.now+d)
	}
}

// bar lets the server let nobody in for d, and serve those who are.
func (s *server) bar(d time.Duration) {
	if s.writes() && s.w.now >= s.shutTill {
		s.w.say("%s: lets nobody in for %s", s.n.name, d)
		s.shutFrom, s.shutTill = s.w.now, s.w.now+d
	}
}

// fill lets the disk be full for d: a standby takes nothing more, a primary
// panics and starts when there is room.
func (s *server) fill(d time.Duration) {
	s.w.say("%s: disk full for %s", s.n.name, d)
	s.full = s.w.now + d
	switch {
	case s.writes():
		s.crash(false)
		s.n.died()
	case s.stream != nil:
		s.hangUp(0)
	}
}

// unmount takes the disk away under a server that is whole, and says whether it did.
func (s *server) unmount() bool {
	if s.data != pg.DataPresent || s.branch == nil {
		return false
	}
	s.w.say("%s: disk gone", s.n.name)
	s.crash(false)
	s.n.died()
	s.data = pg.DataUnreadable
	return true
}

// mount brings it back.
func (s *server) mount() {
	if s.data == pg.DataUnreadable {
		s.w.say("%s: disk back", s.n.name)
		s.data = pg.DataPresent
	}
}

// mend ends what troubles the server.
func (s *server) mend() {
	s.spoilt, s.clings, s.full, s.drags = 0, 0, 0, 0
	s.silentTill, s.shutTill = min(s.silentTill, s.w.now), min(s.shutTill, s.w.now)
	s.mount()
	s.unhang()
	if s.held && s.recovering && !s.n.page.Primary {
		s.thaw() // who was to write is for its agent to judge
	}
	s.held = false
}

// hold stops the server's processes where they stand, without a word to its agent.
func (s *server) hold() {
	if s.proc != pg.ProcessNone {
		s.w.say("%s: frozen from outside", s.n.name)
		s.frozen, s.held = true, true
	}
}
