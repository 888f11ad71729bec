package ha

import (
	"time"

	"howdah/problem"
)

// A Pulse is what a guard remembers of its node's agent: whether its loop turns.
//
// The story: an agent that is killed costs nothing, since the next one takes up its
// lease; one that hangs costs the lease. So the guard ends it while there is time
// for a successor. Only what was seen moving and stands still is ended: a guard that
// stood still itself (a whole machine that was paused) has seen nothing, and begins
// to count anew. Who is ended again and again hangs for a reason that ending does not
// mend: each time it has twice as long, and a person is told.
type Pulse struct {
	Beat   uint64        // which the agent moves on whenever its loop turns
	Since  time.Duration // when it was first seen where it is
	Moved  bool          // it was seen to move
	Looked time.Duration // when the guard last looked
	Ended  time.Duration // when an agent was last ended; 0: not of late
	Ends   int           // how many were, one after the other
}

const (
	// heldUp is how long a guard does not look away that is well.
	heldUp = time.Second
	// beginWithin is how long an agent may take to its first turn.
	beginWithin = 10 * time.Second
	// EndedFor is how long an end is remembered.
	EndedFor = 10 * time.Minute
	// EndsTold is how many ends a person is told of.
	EndsTold = 2
)

// Listen takes in what the guard sees now.
func (p *Pulse) Listen(now time.Duration, beat uint64) {
	moved := beat != p.Beat
	if moved || now-p.Looked > heldUp {
		p.Moved = p.Moved || moved && p.Looked > 0
		p.Beat, p.Since = beat, now
	}
	if p.Ends > 0 && now-p.Ended > EndedFor {
		p.Ends, p.Ended = 0, 0
	}
	p.Looked = now
}

// Due is when an agent whose loop turned before, and has not since, may be ended.
func (p *Pulse) Due(still time.Duration) time.Duration {
	return p.Since + still<<min(p.Ends, 5)
}

// End says that the agent which began at born is to be ended now, and counts it. One
// that is held, by a debugger or by a disk it waits for, is left alone: the first is
// meant so, and the second would not die before the disk answers, when it goes on.
func (p *Pulse) End(now, born, still time.Duration, held bool) bool {
	due := p.Due(still)
	if born > p.Since {
		due = max(due, born+beginWithin)
	}
	if !p.Moved || held || now < due {
		return false
	}
	p.Ends++
	p.Ended, p.Since = now, now
	return true
}

// Hung is what the guard said of this agent's predecessors when it began: they hung. It
// is shown for a while.
type Hung struct {
	Problem problem.Error
	Until   time.Duration
}

// hung tells of it.
func (t *turn) hung() {
	if t.Hung.Problem.Code != "" && t.Now < t.Hung.Until {
		t.problems = append(t.problems, t.Hung.Problem)
	}
}
