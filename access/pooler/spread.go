package pooler

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/pool"
)

// recent is what a loop had done when it was last told.
type recent struct {
	since time.Duration // when it was last told
	spent time.Duration // of the processor, until then
	work  map[*stats]uint64
}

// Spread says how many loops a pooler may have, and when what moves.
type Spread struct {
	Loops int
	pool.Spread
}

// weigh tells what this loop had to do for a second, and the first one decides what is to move.
func (h *hall) weigh(now time.Duration) {
	p, b := h.pooler, &h.burden
	if len(p.halls) == 1 || now-b.since < p.spread.Every {
		return
	}
	var spent time.Duration
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) == nil {
		spent = time.Duration(t.Nano())
	}
	is := pool.Burden{From: b.since, Busy: float64(spent-b.spent) / float64(now-b.since)}
	b.since, b.spent = now, spent
	sum := 0.0
	work := map[*stats]uint64{}
	for i, d := range h.rooms {
		for pair, n := range d.counts {
			work[n] = n.queries + (n.received+n.sent)/bytesOfQuery
			w := float64(work[n] - b.work[n])
			if sum += w; d.Door.room(pair) == d {
				is.Parts = append(is.Parts, pool.Part{Door: i, Pair: pair, Work: w})
			}
		}
	}
	b.work = work
	for i := range is.Parts {
		if sum > 0 {
			is.Parts[i].Work *= is.Busy / sum
		}
	}
	slices.SortFunc(is.Parts, func(x, y pool.Part) int {
		return cmp.Or(cmp.Compare(x.Door, y.Door), cmp.Compare(x.Pair.Database, y.Pair.Database), cmp.Compare(x.Pair.User, y.Pair.User))
	})
	p.mu.Lock()
	p.burdens[h.index] = is
	burdens := slices.Clone(p.burdens)
	p.mu.Unlock()
	if h.index > 0 {
		return
	}
	for _, x := range burdens {
		if x.From < p.moved { // it knows nothing of the last move
			return
		}
	}
	moves := p.spread.Moves(burdens)
	if len(moves) > 0 {
		p.moved = now
	}
	for _, m := range moves {
		from, to := p.halls[m.From], p.halls[m.To]
		from.loop.post(func() {
			d := from.rooms[m.Door]
			if d.Door.room(m.Pair) == d && d.moves(m.Pair, to.rooms[m.Door]) {
				d.log.Info("a user's pools have moved to another loop", "database", m.Pair.Database, "user", m.Pair.User, "from", m.From, "to", m.To)
			}
		})
	}
}

// bytesOfQuery are about as much work as a query is.
const bytesOfQuery = 16 << 10
