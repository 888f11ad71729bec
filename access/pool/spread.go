package pool

import (
	"cmp"
	"slices"
	"time"
)

// A Burden is what a loop had to do of late.
type Burden struct {
	From  time.Duration // since then
	Busy  float64       // of the time of one processor
	Parts []Part        // that live there, sorted
}

// A Part is what one user has in one database there.
type Part struct {
	Door int
	Pair Key
	Work float64 // of Busy
}

// A Shift is a part that is to go to another loop.
type Shift struct {
	Door     int
	Pair     Key
	From, To int
}

// Spread says when parts move between loops.
type Spread struct {
	Every time.Duration // how often it is looked at
	Full  float64       // a loop that is as busy gives parts away
	Slack float64       // when all of them together have less to do, parts go back to the first
}

// DefaultSpread is for loops of which each has a processor.
func DefaultSpread() Spread { return Spread{Every: time.Second, Full: 0.8, Slack: 0.4} }

// Moves are what is to move now. A loop that is full gives parts to that which has least to do, of those that
// have parts already rather than another, until both are about as busy. What is one user's in one database
// stays together: who fills a loop alone is left alone there.
func (s Spread) Moves(loops []Burden) (all []Shift) {
	sum, worst := 0.0, 0
	for i, l := range loops {
		if sum += l.Busy; l.Busy > loops[worst].Busy {
			worst = i
		}
	}
	if loops[worst].Busy < s.Full {
		if sum >= s.Slack {
			return nil
		}
		for i, l := range loops[1:] {
			for _, p := range l.Parts {
				all = append(all, Shift{p.Door, p.Pair, i + 1, 0})
			}
		}
		return all
	}
	to := s.target(loops, worst)
	if to < 0 {
		return nil
	}
	from, there := loops[worst].Busy, loops[to].Busy
	parts := slices.Clone(loops[worst].Parts)
	slices.SortStableFunc(parts, func(x, y Part) int { return cmp.Compare(y.Work, x.Work) })
	for _, p := range parts {
		if p.Work < noticeable || there+p.Work > from-p.Work { // it would only change places
			continue
		}
		from, there = from-p.Work, there+p.Work
		all = append(all, Shift{p.Door, p.Pair, worst, to})
	}
	return all
}

// target is the loop that is to get what worst gives away: one that is in use and has room, else one that
// is not in use, else whichever has least to do.
func (s Spread) target(loops []Burden, worst int) int {
	to := -1
	least := func(which func(i int) bool) {
		if to >= 0 {
			return
		}
		for i := range loops {
			if i != worst && which(i) && (to < 0 || loops[i].Busy < loops[to].Busy) {
				to = i
			}
		}
	}
	used := func(i int) bool { return i == 0 || len(loops[i].Parts) > 0 }
	least(func(i int) bool { return used(i) && loops[i].Busy < s.Full/2 })
	least(func(i int) bool { return !used(i) })
	least(func(int) bool { return true })
	return to
}

// noticeable is the least that is worth a move.
const noticeable = 0.01
