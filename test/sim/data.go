package sim

import (
	"howdah/pg"
	"howdah/spec"
)

// The data directory: made, copied, rewound.

func (s *server) empty() {
	s.data, s.control, s.signal, s.label, s.branch, s.end, s.slots, s.spare = pg.DataMissing, pg.Control{}, false, false, nil, 0, nil, nil
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
	if n == nil || !s.w.reach(s.n, n) || n.server.proc != pg.ProcessRunning || n.server.frozen || n.server.hung() {
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
	s.branch, s.end, s.newest, s.slots, s.spare = u.branch, u.end, u.newest, nil, nil
	s.w.say("%s: cloned from %s", s.n.name, from.Name)
	return ""
}

// restored is clone of what a repository has: as the source was some time ago, by its
// archive, which is there whether or not the source can be reached.
func (s *server) restored(from pg.Upstream) string {
	n := s.w.node(from.Name)
	if n == nil || n.server.data != pg.DataPresent || n.server.recovering || s.w.chance(0.2) {
		return "no backup"
	}
	u := n.server
	oldest := u.branch
	for oldest.parent != nil {
		oldest = oldest.parent
	}
	s.w.Stats.Restored++
	s.data, s.signal, s.label = pg.DataPresent, true, true
	s.position(u.branch, max(oldest.first, u.end-pg.LSN(s.w.rng.IntN(1000000))))
	s.control = pg.Control{
		State: pg.ControlInProduction, System: u.control.System, Timeline: s.branch.tl, Checkpoint: s.end, Redo: s.end,
	}
	s.newest, s.slots, s.spare = s.branch.tl, nil, nil
	s.w.say("%s: restored a backup of %s as of %s on timeline %d", s.n.name, from.Name, s.end, s.branch.tl)
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
	if u == nil || u.recovering || s.w.chance(s.w.rates.fail) { // a source that led when it began, and leads no more, was stopped meanwhile
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
	s.signal, s.label, s.slots, s.spare = true, false, nil, nil
	return ""
}

// copies is how members of this world get their data from others: in some worlds out
// of a repository first.
func (w *World) copies() []string {
	if w.Seed%4 == 2 {
		return []string{spec.CopyRepository, spec.CopyBase}
	}
	return nil
}
