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
	bound   time.Duration
	mayLose bool
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

// table is Markdown.
func table(results []Result) string {
	var b strings.Builder
	b.WriteString("| fault | n | median ms | p90 ms | max ms | bound ms | rows acknowledged | rows lost |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range results {
		if len(r.Tries) == 0 {
			continue
		}
		all := r.outages()
		rows, lost := r.rows()
		bound := "–"
		if r.bound > 0 {
			bound = fmt.Sprint(r.bound.Milliseconds())
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s | %d | %d |\n", r.Fault, len(all),
			quantile(all, 0.5).Milliseconds(), quantile(all, 0.9).Milliseconds(), quantile(all, 1).Milliseconds(), bound, rows, lost)
	}
	return b.String()
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
		if median := quantile(f.outages(), 0.5); f.bound > 0 && median > f.bound {
			say("%s: writes stopped for %s in the median, more than %s", f.Fault, median, f.bound)
		}
		for i, t := range f.Tries {
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
