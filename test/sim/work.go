package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/ha"
	"howdah/pg"
)

// Work, as the agent asks for it.

// work carries out a; progress is told how far a copy is, done its end. What it
// returns gives it up.
func (s *server) work(a ha.Action, progress func(done, total int64), done func(lsn pg.LSN, path, err string)) (giveUp func()) {
	ended := false
	end := func(err string) {
		if !ended {
			ended = true
			done(0, "", err)
		}
	}
	stopped := false // given up: the agent's own programs end, the server's doings do not
	giveUp = func() {
		stopped = true
		s.w.after(s.w.draw(0, 3*time.Millisecond), func() {
			if _, held := s.stuck(a); held {
				s.onDisk(func() { end("given up") })
			} else {
				end("given up")
			}
		})
	}
	refuse := func(err string) { s.w.after(s.w.draw(time.Millisecond, 5*time.Millisecond), func() { end(err) }) }
	in := func(d time.Duration, do func()) {
		step := func() {
			if !ended && !stopped && s.n.up {
				do()
				if !ended {
					s.w.wrote(s.n, typeOf(a)+"/step")
				}
			}
		}
		s.w.after(s.n.slowed(d), func() {
			if stuck, _ := s.stuck(a); stuck {
				s.onDisk(step)
			} else {
				step()
			}
		})
	}
	w := s.w
	switch a := a.(type) {
	case ha.Initdb:
		if s.data == pg.DataPresent || s.data == pg.DataUnreadable {
			refuse("data is present")
			break
		}
		s.data = pg.DataPartial
		in(w.draw(time.Second, 3*time.Second), func() { s.initdb(); end("") })
	case ha.Clone:
		if s.data == pg.DataPresent || s.data == pg.DataUnreadable || s.proc != pg.ProcessNone || !a.Repository && s.refuses(a.From) {
			refuse("data is present, or refused")
			break
		}
		s.copied = true
		s.data = pg.DataPartial
		d := w.draw(500*time.Millisecond, 8*time.Second)
		if u := s.source(a.From); u != nil {
			in(d/2, func() { progress(int64(u.end/2), int64(u.end)) })
		}
		in(d, func() {
			if a.Repository {
				end(s.restored(a.From))
			} else {
				end(s.clone(a.From))
			}
		})
	case ha.Rewind:
		err := s.rewindable(a.From)
		if s.refuses(a.From) {
			err = "refused"
		}
		if err != "" {
			refuse(err)
			break
		}
		s.data = pg.DataPartial
		in(w.draw(200*time.Millisecond, 3*time.Second), func() { end(s.rewind(a.From)) })
	case ha.Recover:
		if s.data != pg.DataPresent || s.proc != pg.ProcessNone {
			refuse("not stopped")
			break
		}
		in(w.draw(100*time.Millisecond, 2*time.Second), func() {
			if s.proc == pg.ProcessNone && s.control.WasPrimary() && !s.control.Clean() && !s.label {
				s.signal = false
				s.checkpoint()
				s.control.State = pg.ControlShutDown
			}
			end("")
		})
	case ha.Start:
		if err := s.start(a, end); err != "" {
			refuse(err)
		}
	case ha.Promote:
		if err := s.promote(a, end); err != "" {
			refuse(err)
		}
	case ha.Stop:
		s.stop(end)
	case ha.Kill:
		life := s.life
		in(w.draw(2*time.Millisecond, 40*time.Millisecond), func() {
			if s.proc != pg.ProcessNone {
				if s.life == life && s.proc == pg.ProcessRunning {
					s.restartpoint(0.3)
				}
				w.say("%s: killed", s.n.name)
				s.begin(pg.ProcessNone)
				s.recovering = false
			}
			end("")
		})
	case ha.Follow:
		if s.proc != pg.ProcessRunning && s.proc != pg.ProcessStarting || !s.signal || !s.recovering || s.refuses(a.Up) {
			refuse("not a standby, or refused")
			break
		}
		in(w.draw(2*time.Millisecond, 30*time.Millisecond), func() {
			if s.proc == pg.ProcessNone || !s.recovering {
				end("not running")
				return
			}
			s.up = a.Up
			s.hangUp(0)
			end("")
		})
	case ha.Slots:
		if strings.ContainsFunc(a.Names, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != ',' }) {
			refuse("no name for a slot")
			break
		}
		in(w.draw(time.Millisecond, 10*time.Millisecond), func() {
			if s.proc != pg.ProcessRunning || s.frozen {
				end("no answer")
				return
			}
			want, spare := split(a.Names), split(a.Spare)
			used := func(slot string) bool {
				return slices.ContainsFunc(w.nodes, func(n *node) bool { return n.server.stream == s && n.server.up.Slot == slot })
			}
			for _, old := range s.slots {
				if used(old) && !slices.Contains(want, old) {
					want = append(want, old)
				}
			}
			s.spare = slices.DeleteFunc(spare, func(slot string) bool { return slices.Contains(want, slot) })
			s.slots = slices.Concat(want, s.spare)
			slices.Sort(s.slots)
			end("")
		})
	case ha.Configure:
		in(w.draw(5*time.Millisecond, 50*time.Millisecond), func() { end("") })
	case ha.Fence:
		s.fence(a, in, end)
	case ha.Shut:
		in(w.draw(time.Millisecond, 5*time.Millisecond), func() {
			if s.proc != pg.ProcessNone {
				end("runs")
				return
			}
			s.shut = true
			end("")
		})
	case ha.Admit:
		in(w.draw(5*time.Millisecond, 40*time.Millisecond), func() {
			if s.proc != pg.ProcessNone && (s.proc != pg.ProcessRunning || s.frozen) {
				end("no answer")
				return
			}
			s.shut = false
			in(w.draw(0, 5*time.Millisecond), func() { end("") })
		})
	case ha.Whole:
		in(w.draw(time.Millisecond, 5*time.Millisecond), func() { s.copied = false; end("") })
	case ha.Synchronize:
		in(w.draw(time.Millisecond, 20*time.Millisecond), func() {
			if s.frozen {
				end("no answer")
				return
			}
			s.synchronize(a)
			s.n.early = ""
			in(w.draw(time.Millisecond, 20*time.Millisecond), func() { end("") })
		})
	case ha.Checkpoint:
		in(w.draw(5*time.Millisecond, 500*time.Millisecond), func() {
			if s.proc != pg.ProcessRunning || s.frozen {
				end("no answer")
				return
			}
			if !s.recovering {
				s.checkpoint()
			}
			end("")
		})
	case ha.Measure:
		in(w.draw(2*time.Millisecond, 60*time.Millisecond), func() {
			if s.data != pg.DataPresent || s.proc != pg.ProcessNone || w.chance(w.rates.fail) {
				end("cannot measure")
				return
			}
			ended = true
			done(max(s.end, s.control.MinEnd), "", "")
		})
	case ha.Identify:
		s.met = pg.Elsewhere{}
		in(w.draw(time.Millisecond, 20*time.Millisecond), func() {
			u := s.source(a.Up)
			if u == nil || w.chance(w.rates.fail) {
				end("no connection")
				return
			}
			s.met = u.elsewhere(a.Timeline)
			end("")
		})
	case ha.Keep:
		in(w.draw(10*time.Millisecond, 500*time.Millisecond), func() {
			if s.data != pg.DataPresent || s.proc != pg.ProcessNone || w.chance(w.rates.fail) {
				end("cannot keep")
				return
			}
			path := ""
			if s.end > a.From {
				s.kept = append(s.kept, span{s.branch, a.From, s.end})
				path = fmt.Sprintf("/kept/%d", len(s.kept))
			}
			ended = true
			done(0, path, "")
		})
	case ha.Install:
		in(w.draw(time.Millisecond, 5*time.Millisecond), func() { end(s.install(a)) })
	case ha.MoveAside:
		in(w.draw(time.Millisecond, 5*time.Millisecond), func() {
			if s.proc != pg.ProcessNone || s.data == pg.DataUnreadable {
				end("runs")
				return
			}
			w.Stats.Aside++
			path := ""
			if s.data != pg.DataMissing {
				path = fmt.Sprintf("/kept/data-%d", w.Stats.Aside)
			}
			if s.data == pg.DataPresent {
				s.kept = append(s.kept, span{s.branch, 0, s.end})
			}
			s.empty()
			ended = true
			done(0, path, "")
		})
	default:
		panic("no work is called " + a.String())
	}
	return giveUp
}

func split(names string) []string {
	var out []string
	for i := 0; i < len(names); {
		j := i
		for j < len(names) && names[j] != ',' {
			j++
		}
		out = append(out, names[i:j])
		i = j + 1
	}
	return out
}
