package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/pg"
)

// A branch is the log of one timeline as one server wrote it. Two branches may
// carry the same number; nothing in PostgreSQL tells them apart then, and the
// model does.
type branch struct {
	id     int
	system pg.SystemID
	tl     pg.Timeline
	parent *branch
	fork   pg.LSN // where it left its parent
	first  pg.LSN // end of the first checkpoint on it; 0: none yet
	rows   []row
}

// A row is a numbered commit, and where its record ends.
type row struct {
	end pg.LSN
	id  int
}

// has says that a log on b up to end contains what lies on other up to at.
func (b *branch) has(end pg.LSN, other *branch, at pg.LSN) bool {
	for ; b != nil; b = b.parent {
		if b == other {
			return at <= end
		}
		end = min(end, b.fork)
	}
	return false
}

// common returns how far the logs (b, end) and (other, at) are the same.
func common(b *branch, end pg.LSN, other *branch, at pg.LSN) (*branch, pg.LSN) {
	for x, lx := b, end; x != nil; x = x.parent {
		for y, ly := other, at; y != nil; y = y.parent {
			if x == y {
				return x, min(lx, ly)
			}
			ly = min(ly, y.fork)
		}
		lx = min(lx, x.fork)
	}
	return nil, 0
}

// history is what the branch's history file says.
func (b *branch) history() pg.History {
	var h pg.History
	for ; b.parent != nil; b = b.parent {
		h = append(h, pg.Switch{Timeline: b.parent.tl, At: b.fork, Reason: "no recovery target specified"})
	}
	slices.Reverse(h)
	return h
}

// server is PostgreSQL on one node: what is on disk, and what runs.
type server struct {
	w *World
	n *node

	data    pg.DataState
	control pg.Control
	signal  bool // standby.signal
	label   bool // backup_label: a fresh copy
	branch  *branch
	end     pg.LSN
	newest  pg.Timeline // highest number among its history files
	kept    []span      // put aside before it was discarded
	slots   []string

	proc       pg.Process // what runs, frozen or not
	frozen     bool
	recovering bool
	silentTill time.Duration // it does not answer until then
	leftover   bool          // a backend outlived the postmaster, and still commits
	smart      bool          // it stops once its clients have left, who still commit
	pid        int
	life       int // changes with everything that ends or begins a server
	waits      []func()
	spoilt     time.Duration // no start comes to a good end before

	up      pg.Upstream
	link    int // changes with every connection
	stream  *server
	pumping bool
	acked   pg.LSN // what the upstream has heard of end
	broken  time.Duration
}

type span struct {
	b        *branch
	from, to pg.LSN
}

// writes says that the server acknowledges commits at this moment.
func (s *server) writes() bool {
	return !s.frozen && s.n.up && (s.serves() && !s.recovering || s.proc == pg.ProcessRemains && s.leftover)
}

// serves says that those who are connected get answers.
func (s *server) serves() bool {
	return s.proc == pg.ProcessRunning || s.proc == pg.ProcessStopping && s.smart
}

// look is pg.Status as postgres.Server.Look would give it.
func (s *server) look() pg.Status {
	st := pg.Status{Data: s.data, Process: s.proc, Standby: s.signal}
	if s.data == pg.DataPresent {
		st.Control = s.control
		st.Timeline, st.Flushed = s.control.Timeline, s.control.Checkpoint
		if s.control.MinEnd > st.Flushed {
			st.Timeline, st.Flushed = s.control.MinEndTL, s.control.MinEnd
		}
	}
	if s.proc == pg.ProcessNone || s.proc == pg.ProcessRemains {
		return st
	}
	st.PID = s.pid
	if s.frozen {
		st.Process = pg.ProcessFrozen
		return st
	}
	if !s.serves() || s.w.now < s.silentTill {
		return st
	}
	st.Answers, st.Recovering, st.Version = true, s.recovering, 180001
	st.Flushed, st.Timeline = s.end, s.branch.tl
	st.Slots = s.slots
	for _, n := range s.w.nodes {
		if o := n.server; o.stream == s {
			st.Replicas = append(st.Replicas, pg.Replica{Name: n.name, State: "streaming", Flushed: o.acked, Replayed: o.acked, SyncState: "async"})
		}
	}
	if s.recovering {
		st.Replayed, st.Streaming, st.Upstream, st.Slot = s.end, s.stream != nil, s.up.Addr(), s.up.Slot
	} else {
		st.History = s.branch.history()
	}
	return st
}

// begin makes a new life of the server; whatever was under way for the old one is void.
func (s *server) begin(p pg.Process) int {
	s.life++
	s.proc = p
	s.leftover, s.smart = false, false
	if p == pg.ProcessNone || p == pg.ProcessRemains {
		s.cutOff()
		s.hangUp(time.Millisecond)
	}
	if p == pg.ProcessNone {
		s.frozen, s.waits = false, nil
	}
	return s.life
}

// cutOff ends the walsenders' streams: those who stream from here notice, unless
// their network is gone.
func (s *server) cutOff() {
	for _, n := range s.w.nodes {
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

// later carries out what the running server does by itself after d; a frozen
// one does it when it is let go on.
func (s *server) later(d time.Duration, do func()) {
	life := s.life
	s.w.after(s.n.slowed(d), func() {
		switch {
		case s.life != life || !s.n.up:
		case s.frozen:
			s.waits = append(s.waits, do)
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
			if s.life == life {
				s.begin(pg.ProcessNone)
			}
		})
	}
	s.restartpoint(0.3)
}

// restartpoint may bring a standby's control file up to what it has replayed.
func (s *server) restartpoint(p float64) {
	if !s.signal || s.data != pg.DataPresent || s.branch == nil {
		return
	}
	s.control.MinEnd, s.control.MinEndTL = s.end, s.branch.tl
	if s.branch.first > 0 && s.end >= s.branch.first && s.w.chance(p) {
		s.control.Timeline, s.control.Checkpoint, s.control.Redo = s.branch.tl, s.end, s.end
	}
}

// write appends to the log.
func (s *server) write(bytes pg.LSN) {
	s.end += bytes
	s.kick()
}

// commit acknowledges a numbered row.
func (s *server) commit(id int, bytes pg.LSN) {
	s.end += bytes
	s.branch.rows = append(s.branch.rows, row{s.end, id})
	s.kick()
}

// checkpoint writes one, and brings the control file to the present timeline.
func (s *server) checkpoint() {
	s.control.Checkpoint = s.end
	s.control.Redo = s.end
	s.write(112)
	s.control.Timeline = s.branch.tl
	if s.branch.first == 0 {
		s.branch.first = s.end
	}
}

// Replication.

// kick lets those who stream from here fetch what is new.
func (s *server) kick() {
	for _, n := range s.w.nodes {
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
	if n == nil || !s.n.up || s.frozen || s.proc != pg.ProcessRunning && s.proc != pg.ProcessStarting {
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
	s.stream, s.acked, s.broken = u, s.end, 0
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
	if u == nil || s.pumping || s.frozen || u.frozen || u.end == s.end && u.branch == s.branch && s.acked == s.end {
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
		if s.frozen {
			return
		}
		s.acked = s.end
		s.position(b, max(end, s.end))
		s.w.after(0, s.pump)
	})
}

// lost notes that nothing comes any more; wal_receiver_timeout is 5 s.
func (s *server) lost() {
	if s.broken != 0 {
		return
	}
	s.broken = s.w.now
	link := s.link
	s.w.after(5*time.Second, func() {
		switch u := s.stream; {
		case s.link != link || u == nil:
		case s.w.reach(s.n, u.n) && u.n.up && u.proc == pg.ProcessRunning:
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
		s.w.after(s.w.draw(0, 3*time.Millisecond), func() { end("given up") })
	}
	refuse := func(err string) { s.w.after(s.w.draw(time.Millisecond, 5*time.Millisecond), func() { end(err) }) }
	in := func(d time.Duration, do func()) {
		s.w.after(s.n.slowed(d), func() {
			if !ended && !stopped && s.n.up {
				do()
			}
		})
	}
	w := s.w
	switch a := a.(type) {
	case ha.Initdb:
		if s.data == pg.DataPresent {
			refuse("data is present")
			break
		}
		s.data = pg.DataPartial
		in(w.draw(time.Second, 3*time.Second), func() { s.initdb(); end("") })
	case ha.Clone:
		if s.data == pg.DataPresent || s.proc != pg.ProcessNone {
			refuse("data is present")
			break
		}
		s.data = pg.DataPartial
		d := w.draw(500*time.Millisecond, 8*time.Second)
		if u := s.source(a.From); u != nil {
			in(d/2, func() { progress(int64(u.end/2), int64(u.end)) })
		}
		in(d, func() { end(s.clone(a.From)) })
	case ha.Rewind:
		if err := s.rewindable(a.From); err != "" {
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
		if err := s.promote(end); err != "" {
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
		if s.proc != pg.ProcessRunning && s.proc != pg.ProcessStarting || !s.signal || !s.recovering {
			refuse("not a standby")
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
			want := split(a.Names)
			for _, old := range s.slots {
				for _, n := range w.nodes {
					if n.server.stream == s && n.server.up.Slot == old && !slices.Contains(want, old) {
						want = append(want, old)
					}
				}
			}
			slices.Sort(want)
			s.slots = want
			end("")
		})
	case ha.Configure:
		in(w.draw(5*time.Millisecond, 50*time.Millisecond), func() { end("") })
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
	case ha.MoveAside:
		in(w.draw(time.Millisecond, 5*time.Millisecond), func() {
			if s.proc != pg.ProcessNone {
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

func (s *server) empty() {
	s.data, s.control, s.signal, s.label, s.branch, s.end, s.slots = pg.DataMissing, pg.Control{}, false, false, nil, 0, nil
}

func (s *server) initdb() {
	w := s.w
	w.systems++
	w.branches++
	s.branch = &branch{id: w.branches, system: pg.SystemID(7400000000000000000 + w.systems), tl: 1}
	s.end, s.newest = 0x1000028, 1
	s.data, s.signal, s.label = pg.DataPresent, false, false
	s.control = pg.Control{State: pg.ControlShutDown, System: s.branch.system, Timeline: 1, Checkpoint: s.end - 112, Redo: s.end - 112}
	s.branch.first = s.end
	w.say("%s: initdb made system %s", s.n.name, s.branch.system)
}

// source is the server behind an upstream, if it can be reached and answers.
func (s *server) source(up pg.Upstream) *server {
	n := s.w.node(up.Name)
	if n == nil || !s.w.reach(s.n, n) || n.server.proc != pg.ProcessRunning || n.server.frozen {
		return nil
	}
	return n.server
}

func (s *server) clone(from pg.Upstream) string {
	u := s.source(from)
	if u == nil || s.w.chance(s.w.rates.fail) {
		return "no connection"
	}
	s.w.Stats.Clones++
	s.data, s.signal, s.label = pg.DataPresent, true, true
	s.control = u.control
	s.control.MinEnd, s.control.MinEndTL = u.end, u.branch.tl
	s.branch, s.end, s.newest, s.slots = u.branch, u.end, u.newest, nil
	s.w.say("%s: cloned from %s", s.n.name, from.Name)
	return ""
}

func (s *server) rewindable(from pg.Upstream) string {
	u := s.source(from)
	switch {
	case s.data != pg.DataPresent || s.proc != pg.ProcessNone:
		return "not stopped"
	case u == nil || u.recovering:
		return "no connection"
	case s.label && !s.control.Clean():
		return "a copy that never started"
	}
	return ""
}

func (s *server) rewind(from pg.Upstream) string {
	u := s.source(from)
	if u == nil || s.w.chance(s.w.rates.fail) {
		if s.w.chance(0.7) {
			s.data = pg.DataPresent // it had changed nothing yet
		}
		return "rewind failed"
	}
	s.data = pg.DataPresent
	u.checkpoint() // postgres.Rewind has it write one: only then its control file tells the timeline
	if u.control.Timeline == s.control.Timeline {
		s.signal = true
		s.w.say("%s: pg_rewind: no rewind required", s.n.name)
		return ""
	}
	s.w.Stats.Rewinds++
	b, at := common(s.branch, s.end, u.branch, u.end)
	if b == nil {
		return "no common ancestor"
	}
	if at == s.end && b == s.branch {
		s.w.Stats.Needless++
		s.w.say("%s: NEEDLESS rewind of %s", s.n.name, s)
	}
	s.w.checkDiscard(s, b, at)
	s.w.say("%s: rewound to %s from timeline %d at %s", s.n.name, from.Name, s.branch.tl, at)
	s.branch, s.newest = u.branch, max(s.newest, u.newest)
	if s.end = u.end; s.w.chance(0.3) {
		s.end = max(u.branch.fork, s.end-pg.LSN(s.w.rng.IntN(100000))) // the last of it was not yet in the files
		s.position(u.branch, s.end)
	}
	s.control = pg.Control{
		State: pg.ControlInArchiveRecovery, System: s.control.System, Timeline: u.control.Timeline,
		Checkpoint: u.control.Checkpoint, Redo: u.control.Redo, MinEnd: u.end, MinEndTL: u.branch.tl,
	}
	s.signal, s.label, s.slots = true, false, nil
	return ""
}

// start launches the server; the job ends when it accepts connections.
func (s *server) start(a ha.Start, end func(string)) string {
	w := s.w
	switch {
	case s.data != pg.DataPresent || s.proc != pg.ProcessNone:
		return "not stopped"
	case !a.Standby && (s.label || !s.control.WasPrimary()):
		return "not the data of a primary"
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
	w.pids++
	s.pid = w.pids
	s.begin(pg.ProcessStarting)
	life := s.life
	s.signal, s.recovering = a.Standby, a.Standby
	s.up = pg.Upstream{}
	if a.Standby {
		s.up = a.Up
	} else {
		s.control.State = pg.ControlInCrashRecovery
	}
	s.watch(life, end)
	if w.chance(w.rates.fail) || w.now < s.spoilt {
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
			s.connect(w.draw(0, 20*time.Millisecond))
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

func (s *server) promote(end func(string)) string {
	w := s.w
	if s.proc != pg.ProcessRunning || s.frozen || !s.recovering {
		return "not a running standby"
	}
	w.checkRight(s.n, "promotion")
	life := s.life
	s.link++
	s.stream = nil
	promoting := s.end
	s.later(w.draw(30*time.Millisecond, 600*time.Millisecond), func() {
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
		s.control.MinEnd, s.control.MinEndTL = 0, 0
		s.write(64)
		w.say("%s: promoted to timeline %d at %s", s.n.name, tl, promoting)
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
		s.later(w.draw(20*time.Millisecond, 300*time.Millisecond), func() {
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
	s.later(w.draw(10*time.Millisecond, 800*time.Millisecond), func() {
		s.checkpoint()
		s.control.State = pg.ControlShutDown
		until := w.now + 5*time.Second // wal_sender_timeout
		var wait func()
		wait = func() {
			for _, n := range w.nodes {
				if o := n.server; o.stream == s && o.end < s.end && w.now < until {
					s.later(5*time.Millisecond, wait)
					return
				}
			}
			w.say("%s: shut down, last record ends at %s", s.n.name, s.end)
			s.begin(pg.ProcessNone)
			end("")
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

// String is for the log.
func (s *server) String() string {
	if s.branch == nil {
		return fmt.Sprintf("%s %s", s.data, s.proc)
	}
	return fmt.Sprintf("%s frozen=%v recovering=%v streaming=%v timeline=%d(#%d) end=%s control=%q/%d slot=%s",
		s.proc, s.frozen, s.recovering, s.stream != nil, s.branch.tl, s.branch.id, s.end, s.control.State, s.control.Timeline, cluster.SlotName(s.n.name))
}
