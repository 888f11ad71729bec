package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Report is everything that was measured.
type Report struct {
	Environment string        `json:"environment"`
	Up          time.Duration `json:"up_ns"`
	List        time.Duration `json:"list_ns"`
	Idle        Idle          `json:"idle,omitzero"`
	Faults      []Result      `json:"faults"`
}

// A Result is all tries of one fault.
type Result struct {
	Fault   string `json:"fault"`
	Tries   []Try  `json:"tries"`
	bound   bound
	mayLose bool
}

// A bound is how long writes may stop: in the median of all tries, at most, or
// not at all. The zero bound allows anything.
type bound struct {
	median time.Duration
	most   time.Duration
	none   bool
}

// Between any two rows lies some time. An outage of none is one that cannot be
// told from that: no longer than noisy times the longest time between two rows
// in as many, equally long and equally busy tries of no fault at all, made turn
// by turn with those of the fault. A pause that nobody would call an outage is
// none anyway. A machine on which even that much proves nothing (a server that
// is started anew is back in less) cannot answer the question, which counts as no.
const (
	noisy   = 2
	nothing = 50 * time.Millisecond
	deaf    = 250 * time.Millisecond
)

// allowed is the most that an outage of none may take, by what was measured
// without a fault; false if that was too much, or nothing.
func allowed(without []time.Duration) (time.Duration, bool) {
	if len(without) == 0 {
		return 0, false
	}
	most := max(nothing, noisy*quantile(without, 1))
	return most, most <= deaf
}

func (r Result) outages() []time.Duration {
	var all []time.Duration
	for _, t := range r.Tries {
		all = append(all, t.Outage)
	}
	return all
}

func (r Result) rows() (rows, lost int) {
	for _, t := range r.Tries {
		rows, lost = rows+t.Rows, lost+t.Lost
	}
	return rows, lost
}

// astray is how far a page may be from what the writer saw: it begins by what
// the members saw, and ends when the new primary does.
const astray = 100 * time.Millisecond

// off is by how much the page differs from what the writer saw.
func (t Try) off() time.Duration { return (t.Page - t.Outage).Abs() }

// differs is the greatest difference of those with a page.
func (r Result) differs() string {
	var worst time.Duration
	pages := false
	for _, t := range r.Tries {
		if t.Page > 0 {
			worst, pages = max(worst, t.off()), true
		}
	}
	if !pages {
		return "–"
	}
	return fmt.Sprint(worst.Milliseconds())
}

// table is Markdown.
func table(results []Result) string {
	var b strings.Builder
	b.WriteString("| fault | n | median ms | p90 ms | max ms | at most ms | `why` differs by at most ms | rows acknowledged | rows lost |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range results {
		if len(r.Tries) == 0 {
			continue
		}
		all := r.outages()
		rows, lost := r.rows()
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s | %s | %d | %d |\n", r.Fault, len(all),
			quantile(all, 0.5).Milliseconds(), quantile(all, 0.9).Milliseconds(), quantile(all, 1).Milliseconds(),
			r.bound.text(without(results)), r.differs(), rows, lost)
	}
	return b.String()
}

// text is the bound as the table shows it.
func (b bound) text(without []time.Duration) string {
	most, ok := allowed(without)
	switch {
	case b.median > 0:
		return fmt.Sprintf("%d in the median", b.median.Milliseconds())
	case b.most > 0:
		return fmt.Sprint(b.most.Milliseconds())
	case b.none && ok:
		return fmt.Sprintf("%d (none)", most.Milliseconds())
	case b.none:
		return "none: cannot be told"
	}
	return "–"
}

// without is what was measured while nothing was broken.
func without(results []Result) []time.Duration {
	var all []time.Duration
	for _, r := range results {
		if r.Fault == calm {
			all = append(all, r.outages()...)
		}
	}
	return all
}

// quantile is the smallest of all that is not below the share q of them.
func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// broken names every bound that was not kept.
func (r Report) broken() []string {
	var broken []string
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if r.Up > 15*time.Second {
		say("up took %s, more than 15s", r.Up)
	}
	if r.List > 100*time.Millisecond {
		say("list took %s, more than 100ms", r.List)
	}
	broken = append(broken, r.Idle.broken()...)
	for _, f := range r.Faults {
		if len(f.Tries) == 0 {
			continue
		}
		median, longest := quantile(f.outages(), 0.5), quantile(f.outages(), 1)
		if f.bound.median > 0 && median > f.bound.median {
			say("%s: writes stopped for %s in the median, more than %s", f.Fault, median, f.bound.median)
		}
		if f.bound.most > 0 && longest > f.bound.most {
			say("%s: writes stopped for %s at worst, more than %s", f.Fault, longest, f.bound.most)
		}
		if f.bound.none {
			switch most, ok := allowed(without(r.Faults)); {
			case !ok:
				say("%s: whether writes stopped at all cannot be told: without a fault they did for up to %s", f.Fault, most/noisy)
			case longest > most:
				say("%s: writes stopped for %s at worst, more than %s, which is none on this machine", f.Fault, longest, most)
			}
		}
		for i, t := range f.Tries {
			if t.Page > 0 && t.off() > astray {
				say("%s, try %d at %s: writes stopped for %s, and howdah why says %s", f.Fault, i+1, t.At.Format(time.TimeOnly), t.Outage, t.Page)
			}
			switch {
			case t.Lost > 0 && !f.mayLose:
				say("%s, try %d at %s: %d acknowledged rows are lost", f.Fault, i+1, t.At.Format(time.TimeOnly), t.Lost)
			case t.Lost > 0 && (t.LostBytes == nil || *t.LostBytes == 0):
				say("%s, try %d at %s: %d acknowledged rows are lost, and howdah why does not say so", f.Fault, i+1, t.At.Format(time.TimeOnly), t.Lost)
			}
		}
	}
	return broken
}
