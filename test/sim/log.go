package sim

import (
	"slices"

	"howdah/pg"
)

// The log: branches of it, and what they have in common.

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

	told pg.History // what its history file says, once it was asked for
}

// A row is a numbered commit, and where its record ends.
type row struct {
	end pg.LSN
	id  int
}

type span struct {
	b        *branch
	from, to pg.LSN
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
	if b.told == nil && b.parent != nil {
		b.told = append(slices.Clip(b.parent.history()), pg.Switch{Timeline: b.parent.tl, At: b.fork, Reason: "no recovery target specified"})
	}
	return b.told
}
