package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Report is what a run did and what came of it.
type Report struct {
	Seed       uint64
	Faults     []Fault
	Refused    int // commands
	Rows       int // acknowledged
	Lost       int // of them, not there afterwards
	Overlap    int // acknowledged by an old primary after a new one's first
	Operations int // on lists
	Ordered    Order
}

// A Fault is one, or two that overlap.
type Fault struct {
	At     time.Duration
	Names  []string
	Outage time.Duration // longest time without an acknowledged row, of the worst writer
}

func (f Fault) String() string { return strings.Join(f.Names, " + ") }

// kind is the fault without its victim.
func (f Fault) kind() string {
	var kinds []string
	for _, name := range f.Names {
		kind, whom, _ := strings.Cut(name, " ")
		if strings.HasSuffix(whom, "(leader)") {
			kind += " (leader)"
		}
		kinds = append(kinds, kind)
	}
	switch {
	case len(kinds) > 1 && kinds[0] == "store-away":
		return "store-away and others"
	case len(kinds) > 1:
		return "two at once"
	}
	return kinds[0]
}

// String is a table of the times without writes, by fault, and the verdict's facts.
func (r Report) String() string {
	by := map[string][]time.Duration{}
	for _, f := range r.Faults {
		by[f.kind()] = append(by[f.kind()], f.Outage)
	}
	kinds := make([]string, 0, len(by))
	for kind := range by {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	var b strings.Builder
	b.WriteString("| fault | n | median ms | worst ms |\n|---|--:|--:|--:|\n")
	for _, kind := range kinds {
		d := by[kind]
		slices.Sort(d)
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", kind, len(d), d[len(d)/2].Milliseconds(), d[len(d)-1].Milliseconds())
	}
	fmt.Fprintf(&b, "\nseed %d: %d faults; %d rows acknowledged, %d lost; overlap %d; %d operations on lists, %s; %d commands refused\n",
		r.Seed, len(r.Faults), r.Rows, r.Lost, r.Overlap, r.Operations, r.Ordered, r.Refused)
	return b.String()
}

// Timeline lists what was done, and how long writes stood still for it.
func (r Report) Timeline() string {
	var b strings.Builder
	b.WriteString("\n| at s | fault | ms without writes |\n|--:|---|--:|\n")
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "| %.1f | %s | %d |\n", f.At.Seconds(), f, f.Outage.Milliseconds())
	}
	return b.String()
}
