package sim

import (
	"time"

	"howdah/ha"
	"howdah/pg"
)

// The process: how a server begins, ends, and is stopped where it stands.

// begin makes a new life of the server; whatever was under way for the old one is void.
func (s *server) begin(p pg.Process) int {
	s.life++
	s.proc, s.begun, s.shutFrom, s.shutTill = p, s.w.now, 0, 0
	s.leftover, s.smart = false, false
	s.forget()
	s.flag = !s.names.Async()
	if p == pg.ProcessNone || p == pg.ProcessRemains {
		s.cutOff()
		s.hangUp(time.Millisecond)
	}
	if p == pg.ProcessNone {
		s.frozen, s.waits = false, nil
	}
	return s.life
}

// later carries out what the running server does by itself after d; a frozen
// one does it when it is let go on.
func (s *server) later(d time.Duration, do func()) {
	life := s.life
	s.w.after(s.n.slowed(d), func() {
		switch {
		case s.life != life || !s.n.up:
		case s.frozen:
			s.waits = append(s.waits, do)
		case s.hung():
			s.blocked = append(s.blocked, func() {
				if s.life == life && s.n.up {
					s.later(0, do)
				}
			})
		default:
			do()
		}
	})
}

func (s *server) freeze() {
	if s.proc != pg.ProcessNone && !s.frozen {
		s.frozen = true
		s.w.Stats.Frozen++
		s.w.say("%s: frozen", s.n.name)
		s.w.checkFence(s.n)
	}
}

func (s *server) thaw() {
	if !s.frozen {
		return
	}
	s.frozen = false
	s.w.Stats.Thawed++
	s.w.say("%s: thawed", s.n.name)
	waits := s.waits
	s.waits = nil
	for _, do := range waits {
		s.later(0, do)
	}
	s.kick()
	s.pump()
}

// crash is the death of the postmaster. Its children are gone a moment later,
// but for a backend that is busy.
func (s *server) crash(leftover bool) {
	if s.proc == pg.ProcessNone {
		return
	}
	primary := !s.recovering && s.serves()
	s.w.say("%s: postmaster killed (leftover=%v)", s.n.name, leftover)
	life := s.begin(pg.ProcessRemains)
	s.recovering = false
	s.leftover = leftover && primary
	if !s.leftover && !s.frozen {
		s.w.after(s.w.draw(0, 30*time.Millisecond), func() {
			s.onDisk(func() {
				if s.life == life {
					s.begin(pg.ProcessNone)
				}
			})
		})
	}
	s.restartpoint(0.3)
}

// start launches the server; the job ends when it accepts connections.
func (s *server) start(a ha.Start, end func(string)) string {
	w := s.w
	switch {
	case s.data != pg.DataPresent || s.proc != pg.ProcessNone:
		return "not stopped"
	case !a.Standby && (s.label || !s.control.WasPrimary()):
		return "not the data of a primary"
	case a.Standby && s.refuses(a.Up):
		return "refused"
	}
	if !a.Standby {
		w.checkRight(s.n, "start of a primary")
	}
	d := w.draw(80*time.Millisecond, 400*time.Millisecond)
	if !s.control.Clean() {
		d = w.draw(150*time.Millisecond, 3*time.Second)
		if w.chance(0.05) {
			d = w.draw(3*time.Second, 40*time.Second)
		}
	}
	d = max(d, s.drags-w.now)
	w.pids++
	s.pid = w.pids
	s.begin(pg.ProcessStarting)
	life := s.life
	s.signal, s.recovering = a.Standby, a.Standby
	s.up = pg.Upstream{}
	s.recovered = 0
	if a.Standby {
		s.up, s.shut = a.Up, false
	} else {
		s.control.State = pg.ControlInCrashRecovery
	}
	s.watch(life, end)
	if w.chance(w.rates.fail) || w.now < max(s.spoilt, s.full) {
		s.later(d/2, func() { s.begin(pg.ProcessNone); end("start failed") })
		return ""
	}
	var ready func()
	ready = func() {
		if a.Standby && s.end < s.control.MinEnd {
			s.later(20*time.Millisecond, ready) // not consistent yet: the log that it needs is still to come
			return
		}
		s.proc = pg.ProcessRunning
		s.silentTill = w.now + w.draw(0, 5*time.Millisecond)
		if a.Standby {
			s.control.State = pg.ControlInArchiveRecovery
			s.label = false
		} else {
			s.control.State = pg.ControlInProduction
			s.recovered = s.end
			s.checkpoint()
		}
		w.say("%s: started %s", s.n.name, a)
		var answers func()
		answers = func() {
			switch {
			case s.life != life:
				end("the server has died")
			case s.frozen || w.now < s.silentTill:
				w.after(5*time.Millisecond, answers)
			default:
				end("")
			}
		}
		w.at(s.silentTill, answers)
	}
	s.later(d, func() {
		if a.Standby {
			if in := w.draw(0, 20*time.Millisecond); s.stream == nil { // it may have been pointed elsewhere meanwhile, and have connected
				s.connect(in)
			}
		}
		ready()
	})
	return ""
}

// watch ends the job of a server that died meanwhile.
func (s *server) watch(life int, end func(string)) {
	s.w.after(10*time.Millisecond, func() {
		if s.life != life {
			end("the server has died")
			return
		}
		if s.proc == pg.ProcessStarting || s.proc == pg.ProcessStopping {
			s.w.after(40*time.Millisecond, func() { s.watch(life, end) })
		}
	})
}

func (s *server) promote(a ha.Promote, end func(string)) string {
	w := s.w
	if s.proc != pg.ProcessRunning || s.frozen || !s.recovering {
		return "not a running standby"
	}
	w.checkRight(s.n, "promotion")
	if a.Timeline > 0 && !w.mutant.Reused {
		s.newest = max(s.newest, a.Timeline-1) // placeholders
	}
	life := s.life
	s.link++
	s.stream = nil
	promoting := s.end
	s.later(max(w.draw(30*time.Millisecond, 600*time.Millisecond), s.drags-w.now), func() {
		if !s.recovering || s.life != life {
			return
		}
		w.branches++
		w.Stats.Promotions++
		tl := max(s.newest, s.branch.tl) + 1
		s.branch = &branch{id: w.branches, system: s.branch.system, tl: tl, parent: s.branch, fork: promoting}
		s.end, s.newest = promoting, tl
		s.recovering, s.signal = false, false
		s.control.State = pg.ControlInProduction
		if w.mutant.SettingLate {
			s.flag = false
			s.later(w.draw(time.Second, 3*time.Second), s.defined)
		}
		s.write(64)
		s.control.MinEnd, s.control.MinEndTL = s.end, tl // CreateEndOfRecoveryRecord
		w.say("%s: promoted to timeline %d at %s", s.n.name, tl, promoting)
		w.begun(s.branch)
		s.later(w.draw(500*time.Millisecond, 10*time.Second), func() {
			if s.branch.first == 0 && s.proc == pg.ProcessRunning {
				s.checkpoint() // PostgreSQL's own, after every promotion
			}
		})
		end("")
	})
	s.w.after(10*time.Second, func() {
		if s.life != life {
			end("the server has died")
		}
	})
	return ""
}

// stop is a fast shutdown: clients are cut off at once; the shutdown checkpoint
// is the last record, and everyone who streams gets it before the end.
func (s *server) stop(end func(string)) {
	w := s.w
	switch {
	case s.proc == pg.ProcessNone:
		w.after(time.Millisecond, func() { end("") })
		return
	case s.proc == pg.ProcessRemains || s.frozen:
		w.after(time.Millisecond, func() { end("cannot be stopped") })
		return
	case s.proc == pg.ProcessStopping && !s.smart:
		s.join(end)
		return
	}
	primary := s.serves() && !s.recovering
	life := s.begin(pg.ProcessStopping)
	s.watch(life, end)
	if !primary {
		s.link++
		s.stream = nil
		s.later(max(w.draw(20*time.Millisecond, 300*time.Millisecond), s.clings-w.now), func() {
			s.restartpoint(0.8)
			if s.signal {
				s.control.State = pg.ControlShutDownInRecovery
			}
			s.recovering = false
			s.begin(pg.ProcessNone)
			end("")
		})
		return
	}
	s.control.State = pg.ControlShuttingDown
	s.later(max(w.draw(10*time.Millisecond, 800*time.Millisecond), s.clings-w.now), func() {
		s.checkpoint()
		s.control.State = pg.ControlShutDown
		w.wrote(s.n, "Stop/closed")
		until := w.now + 5*time.Second // wal_sender_timeout
		var wait func()
		wait = func() {
			for _, n := range w.everyone() {
				if o := n.server; o.stream == s && o.end < s.end && w.now < until {
					s.later(5*time.Millisecond, wait)
					return
				}
			}
			w.say("%s: shut down, last record ends at %s", s.n.name, s.end)
			s.later(w.draw(0, 300*time.Millisecond), func() { // the archiver ends
				s.begin(pg.ProcessNone)
				end("")
			})
		}
		wait()
	})
}

// join waits for the end of a shutdown that is under way.
func (s *server) join(end func(string)) {
	s.w.after(5*time.Millisecond, func() {
		switch s.proc {
		case pg.ProcessNone:
			end("")
		case pg.ProcessStopping:
			s.join(end)
		default:
			end("cannot be stopped")
		}
	})
}

// stopSmart is what SIGTERM does: no new clients, and the end when the last of
// the present ones has left, after d.
func (s *server) stopSmart(d time.Duration) {
	if s.proc != pg.ProcessRunning || s.frozen {
		return
	}
	s.w.say("%s: smart shutdown, for %s", s.n.name, d)
	s.proc, s.smart = pg.ProcessStopping, true
	s.later(d, func() {
		if s.smart {
			s.stop(func(string) { s.n.died() })
		}
	})
}
