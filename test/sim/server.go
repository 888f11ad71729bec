package sim

import (
	"fmt"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
)

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
	spare   []string // of these, those that nobody has used yet

	proc       pg.Process // what runs, frozen or not
	frozen     bool
	recovering bool
	silentTill time.Duration // it does not answer until then
	begun      time.Duration // when it began
	shutFrom   time.Duration // nobody new is let in from then …
	shutTill   time.Duration // … until then
	leftover   bool          // a backend outlived the postmaster, and still commits
	smart      bool          // it stops once its clients have left, who still commit
	pid        int
	life       int // changes with everything that ends or begins a server
	waits      []func()
	spoilt     time.Duration // no start comes to a good end before
	clings     time.Duration // no shutdown comes to its end before
	full       time.Duration // its disk is, until then
	drags      time.Duration // no start and no promotion comes to its end before
	held       bool          // it was frozen by nobody of ours
	hangs      time.Duration // its disk answers nothing until then
	blind      bool          // … and who looks at the server waits for it, too
	blocked    []func()      // what waits for it

	names     quorum.Names // synchronous_standby_names, as in its file
	note      string       // and what stands beside it
	flag      bool         // backends wait: the checkpointer has said so
	senders   []*sender
	waiting   []waiting // commits that were not acknowledged yet
	shut      bool      // whoever starts it as a primary lets nobody in
	recovered pg.LSN    // where the log ended that this primary was started with; 0: somebody has seen it since
	refused   int64     // the epoch up to which no log is taken, on disk
	copied    bool      // the data are a copy that has not caught up
	fenced    func(quorum.Fence)
	met       pg.Elsewhere // what a server of another cluster said last

	up      pg.Upstream
	link    int // changes with every connection
	stream  *server
	pumping bool
	acked   pg.LSN        // what the upstream has heard of end
	heard   time.Duration // when the upstream last said something
	broken  time.Duration
}

// writes says that the server acknowledges commits at this moment.
func (s *server) writes() bool {
	return !s.frozen && s.n.up && !s.hung() && (s.serves() && !s.recovering || s.proc == pg.ProcessRemains && s.leftover)
}

// serves says that those who are connected get answers.
func (s *server) serves() bool {
	return s.proc == pg.ProcessRunning || s.proc == pg.ProcessStopping && s.smart
}

// look is pg.Status as postgres.Server.Look would give it.
func (s *server) look() pg.Status {
	st := pg.Status{Data: s.data, Process: s.proc, Standby: s.signal, Copied: s.copied, Shut: s.shut, Refused: s.refused}
	if s.w.now < s.full {
		st.Problem = problem.Error{Code: "disk-full"}
	}
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
	st.Unflushed = s.hung() && !s.recovering && s.w.client.on
	st.Slots, st.Spare, st.SyncNames = s.slots, s.spare, s.names.String()
	for _, n := range s.w.everyone() {
		if o := n.server; o.stream == s {
			r := pg.Replica{Name: n.name, State: "streaming", Flushed: o.acked, Replayed: o.acked, SyncState: "async"}
			for _, x := range s.senders {
				if x.of == o && x.link == o.link {
					r.Flushed, r.SyncPriority = x.flushed, x.priority()
				}
			}
			st.Replicas = append(st.Replicas, r)
		}
	}
	if s.recovering {
		if s.stream != nil {
			st.Silence = s.w.now - s.heard
		}
		st.Replayed, st.Streaming, st.Upstream, st.Slot = s.end, s.stream != nil, s.up.Addr(), s.up.Slot
	} else {
		st.Logins = s.logins()
	}
	st.History = s.branch.history()
	return st
}

// logins is how logins fare at a primary, one of which is tried every few seconds.
func (s *server) logins() pg.Logins {
	const every, again = 10 * time.Second, 9 * time.Second
	if s.w.now >= s.shutTill && (!s.w.mutant.Deaf || s.shutFrom == 0) {
		return pg.Logins{Answered: int((s.w.now - s.begun) / every)}
	}
	l := pg.Logins{Answered: int((s.shutFrom - s.begun) / every)}
	if long := s.w.now - s.shutFrom; long >= again {
		l.Silent, l.Since = int(long/again), long
	}
	return l
}

// restartpoint may bring a standby's control file up to what it has replayed.
func (s *server) restartpoint(p float64) {
	if !s.signal || s.data != pg.DataPresent || s.branch == nil || s.hung() {
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
	if !s.recovering {
		s.control.MinEnd, s.control.MinEndTL = 0, 0
	}
	if s.branch.first == 0 {
		s.branch.first = s.end
	}
}

// String is for the log.
func (s *server) String() string {
	if s.branch == nil {
		return fmt.Sprintf("%s %s", s.data, s.proc)
	}
	return fmt.Sprintf("%s frozen=%v recovering=%v streaming=%v timeline=%d(#%d) end=%s control=%q/%d slot=%s",
		s.proc, s.frozen, s.recovering, s.stream != nil, s.branch.tl, s.branch.id, s.end, s.control.State, s.control.Timeline, cluster.SlotName(s.n.name))
}
