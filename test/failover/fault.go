package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/spec"
	"howdah/test/outside"
)

// A fault is one way to take the primary away, and what it may cost.
type fault struct {
	name    string
	does    []string      // arguments of howdah; none: nothing is done
	beside  string        // a fault that is tried as often, turn by turn
	mend    string        // what makes the node one again: nobody is a client of it until then
	mayLose bool          // rows that no replica had received
	watch   time.Duration // look so long, even if all seems well
	bound   func(spec.Timers) bound
	leased  func(spec.Timers) bound // instead, where commits wait for nobody; rows may be lost then
}

// settled is how long rows must have flowed again before a try is over.
const settled = time.Second

// calm is the fault that is none. What it measures is the writer's own pace and
// the noise of the machine, through all that a try does besides.
const calm = "nothing"

// A leader whose agent stays away would be lost only when its lease ends.
const beyondTheLease = 7 * time.Second

var faults = []fault{
	{name: "kill-postgres", does: []string{"fault", "kill-postgres"}, bound: median(1500 * time.Millisecond)},
	{name: calm, watch: beyondTheLease, bound: free},
	{name: "kill-agent", does: []string{"fault", "kill-agent"}, beside: calm, watch: beyondTheLease, bound: none},
	{name: "stop-node", does: []string{"fault", "stop-node"}, mend: "start-node", bound: free},
	{name: "switchover", does: []string{"switchover", "--yes"}, bound: median(1500 * time.Millisecond)},
	{
		name: "kill-node", does: []string{"fault", "kill-node"}, mend: "start-node",
		bound: lost, leased: lostByLease,
	},
	{
		name: "cut-node", does: []string{"fault", "partition"}, mend: "heal",
		bound: lost, leased: lostByLease,
	},
}

func lost(spec.Timers) bound          { return bound{most: 2 * time.Second} }
func lostByLease(t spec.Timers) bound { return bound{most: t.Lease + 2*time.Second} }

func median(d time.Duration) func(spec.Timers) bound {
	return func(spec.Timers) bound { return bound{median: d} }
}

func free(spec.Timers) bound { return bound{} }
func none(spec.Timers) bound { return bound{none: true} }

func pick(names string, waiting bool) ([]fault, error) {
	var picked []fault
	for name := range strings.SplitSeq(names, ",") {
		if name == "" {
			continue
		}
		i := slices.IndexFunc(faults, func(f fault) bool { return f.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-faults: there is no %q", name)
		}
		f := faults[i]
		if !waiting && f.leased != nil {
			f.bound, f.mayLose = f.leased, true
		}
		picked = append(picked, f)
	}
	return picked, nil
}

// turnByTurn puts a fault into one group with the one that it is tried beside,
// whether or not that was picked.
func turnByTurn(picked []fault) [][]fault {
	var groups [][]fault
	for _, f := range picked {
		group := []fault{f}
		if f.beside != "" {
			i := slices.IndexFunc(faults, func(b fault) bool { return b.name == f.beside })
			group = []fault{faults[i], f}
		}
		groups = append(groups, group)
	}
	return groups
}

// A Try is one fault and what it cost.
type Try struct {
	At        time.Time     `json:"at"`
	Outage    time.Duration `json:"outage_ns"`  // longest time between two acknowledged rows
	Usual     time.Duration `json:"usual_ns"`   // the same in the second before the fault
	Whole     time.Duration `json:"whole_ns"`   // until every member ran and streamed again
	Rows      int           `json:"rows"`       // acknowledged since the try before
	Lost      int           `json:"lost"`       // of them, not there afterwards
	LostBytes *int64        `json:"lost_bytes"` // what howdah why says
	Told      []string      `json:"told"`       // the page's reasons
	Page      time.Duration `json:"page_ns"`    // time without writes by howdah why; 0: nothing changed
	Leaders   [2]string     `json:"leaders"`    // before and after
}

func (t Try) String() string {
	s := fmt.Sprintf("outage %4d ms, whole after %5d ms, %s -> %s, lost %d of %d rows",
		t.Outage.Milliseconds(), t.Whole.Milliseconds(), t.Leaders[0], t.Leaders[1], t.Lost, t.Rows)
	if t.LostBytes != nil {
		s += fmt.Sprintf(" (%d bytes)", *t.LostBytes)
	}
	return s
}

// try breaks the primary once, waits until the cluster is whole again, and
// reads back every row.
func try(ctx context.Context, c *cluster, w *outside.Writer, f fault, through string) (Try, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("the cluster was not whole again in 2m; its directory is %s", c.Dir))
	defer cancel()
	before, err := c.Whole(ctx)
	if err != nil {
		return Try{}, err
	}
	if f.mend != "" && through != "" {
		w.Shun(c.Door(before)) // a client there would have to be lost with it
		defer w.Shun("")
	}
	if err := w.Flowing(ctx, time.Now(), settled); err != nil {
		return Try{}, err
	}
	t := Try{At: time.Now(), Leaders: [2]string{before}}
	t.Usual = w.Longest(t.At.Add(-settled), t.At)
	if len(f.does) > 0 {
		if _, err := c.Howdah(ctx, f.does...); err != nil {
			return t, err
		}
	}
	if err := w.Flowing(ctx, t.At.Add(f.watch), settled); err != nil {
		return t, err
	}
	if f.mend != "" {
		if _, err := c.Howdah(ctx, "fault", f.mend, before); err != nil {
			return t, err
		}
	}
	if t.Leaders[1], err = c.Whole(ctx); err != nil {
		return t, err
	}
	t.Whole = time.Since(t.At)
	if err := w.Flowing(ctx, time.Now(), settled); err != nil {
		return t, err
	}
	t.Outage = w.Longest(t.At, time.Now())
	if t.Rows, t.Lost, err = w.Check(ctx); err != nil {
		return t, err
	}
	c.told(ctx, &t)
	return t, nil
}
