// Package chaos breaks a running cluster at random, from a seed, while clients
// use it, and judges what it kept.
//
// Faults fall on members that are whole and on members that are not; they
// overlap; a switchover, a restart or a fresh copy may be under way. Numbered
// rows tell what was acknowledged and by which timeline, lists that clients
// append to through the services tell whether what they saw can be put in an
// order, and the time without writes after each fault makes the histogram. The
// seed fixes what is done, to whom and for how long; what comes of it depends
// on the machine.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"howdah/playground"
	"howdah/spec"
	"howdah/test/outside"
)

// Options are what a run is made of.
type Options struct {
	Seed   uint64
	For    time.Duration
	Keeps  bool // nothing acknowledged may be lost: quorum commit
	Disks  bool // every node's directory is a file system of its own, which may be filled, hang and be slow
	Away   bool // every other fault is the whole store that is away for a while, with others meanwhile
	Within time.Duration
	Log    func(format string, args ...any)
}

const (
	settled  = time.Second      // rows flow so long before service counts as back
	isWhole  = 3 * time.Minute  // until all members stream again, once nothing is laid
	together = 4                // one in so many faults is joined by another
	pause    = 8 * time.Second  // a fault lasts at most so long
	awayFor  = time.Minute      // the store is away at most so long
	calm     = 10 * time.Second // at the end, before the last look
)

// run is a run under way.
type run struct {
	Options
	*outside.Cluster
	begin   time.Time
	draw    *rand.Rand
	cut     bool // the network can be cut here
	away    bool // the store is
	writers []*outside.Writer
	lists   *lists
	report  Report
}

// Run breaks the cluster, which is whole, until the time is over and it is whole again.
func Run(ctx context.Context, c *outside.Cluster, o Options) (Report, error) {
	s, err := playground.Load(c.Dir)
	if err != nil {
		return Report{}, err
	}
	r := &run{
		Options: o, Cluster: c, begin: time.Now(), draw: rand.New(rand.NewPCG(o.Seed, 0)),
		cut: s.Ground == playground.Isolated, report: Report{Seed: o.Seed},
	}
	for i, service := range []string{"primary", "primary", "", ""} {
		w, err := c.WriteInto(ctx, fmt.Sprint("chaos_", i+1), service)
		if err != nil {
			return r.report, err
		}
		defer w.Stop()
		r.writers = append(r.writers, w)
	}
	if _, err := r.writers[0].Query(ctx, "create table if not exists lists (list bigint primary key, numbers bigint[] not null)"); err != nil {
		return r.report, err
	}
	if r.lists, err = appendLists(ctx, c); err != nil {
		return r.report, err
	}
	defer r.lists.stop()
	for time.Since(r.begin) < o.For {
		lay := r.strike
		if r.Away && r.draw.IntN(2) == 0 {
			lay = r.apart
		}
		if err := lay(ctx); err != nil {
			return r.report, err
		}
	}
	return r.report, r.judge(ctx)
}

// strike lays one fault or two, takes them off, and waits until writes flow.
func (r *run) strike(ctx context.Context) error {
	leader := r.leader(ctx)
	first := r.pick(leader)
	laid := []act{first}
	if r.draw.IntN(together) == 0 {
		laid = append(laid, r.pick(leader))
	}
	names := make([]string, 0, len(laid))
	began := time.Now()
	for i, a := range laid {
		if i > 0 {
			if err := outside.Pause(ctx, r.between(0, 2*time.Second)); err != nil {
				return err
			}
		}
		r.do(ctx, a.name, a.do)
		names = append(names, a.name)
	}
	for _, a := range laid {
		if len(a.undo) == 0 {
			continue
		}
		if err := outside.Pause(ctx, r.between(300*time.Millisecond, pause)); err != nil {
			return err
		}
		for _, undo := range a.undo {
			r.do(ctx, "end of "+a.name, undo)
		}
	}
	return r.back(ctx, began, names)
}

// apart takes the store away. Up to three other faults come and go meanwhile; who is started
// then finds no store either.
func (r *run) apart(ctx context.Context) error {
	leader := r.leader(ctx)
	began := time.Now()
	over := r.between(10*time.Second, awayFor)
	names := []string{"store-away"}
	r.do(ctx, names[0], store("freeze"))
	r.away = true
	for range r.draw.IntN(4) {
		if err := outside.Pause(ctx, r.between(0, awayFor/4)); err != nil {
			return err
		}
		if time.Since(began) > over-pause {
			break
		}
		a := r.pick(leader)
		r.do(ctx, a.name, a.do)
		names = append(names, a.name)
		for _, undo := range a.undo {
			if err := outside.Pause(ctx, r.between(300*time.Millisecond, pause)); err != nil {
				return err
			}
			r.do(ctx, "end of "+a.name, undo)
			r.keepAway(ctx)
		}
	}
	if err := outside.Pause(ctx, over-time.Since(began)); err != nil {
		return err
	}
	r.do(ctx, "end of "+names[0], store("thaw"))
	r.away = false
	return r.back(ctx, began, names)
}

// keepAway freezes what a machine that goes on, or is started, brought back of the store.
func (r *run) keepAway(ctx context.Context) {
	started, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	_ = outside.Until(started, func() bool {
		return !slices.ContainsFunc(r.Nodes, func(n spec.Node) bool { _, ok := outside.Process(n, "etcd"); return !ok })
	})
	r.do(ctx, "store-away", store("freeze"))
}

// back waits until writes flow once nothing is laid any more.
func (r *run) back(ctx context.Context, began time.Time, names []string) error {
	healed := time.Now()
	f := Fault{At: began.Sub(r.begin), Names: names}
	back, cancel := context.WithTimeoutCause(ctx, r.Within, fmt.Errorf("no writes for %s after %s ended", r.Within, strings.Join(names, " and ")))
	defer cancel()
	for _, w := range r.writers {
		if err := w.Flowing(back, healed, settled); err != nil {
			return err
		}
	}
	for _, w := range r.writers {
		f.Outage = max(f.Outage, w.Longest(began, time.Now()))
	}
	r.report.Faults = append(r.report.Faults, f)
	r.Log("%6.1fs  %-60s %6d ms without writes", f.At.Seconds(), f, f.Outage.Milliseconds())
	if r.draw.IntN(2) == 0 {
		return r.whole(ctx)
	}
	return nil
}

// do runs what a fault is made of. What a command refuses is refused for a
// reason that it gives, and is no fault of the run.
func (r *run) do(ctx context.Context, name string, do step) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := do(ctx, r.Cluster); err != nil {
		r.Log("%6.1fs  %s: %s", time.Since(r.begin).Seconds(), name, firstLine(err))
		r.report.Refused++
	}
}

func firstLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return strings.Join(lines[:min(2, len(lines))], " ")
}

// leader names who leads, or anybody.
func (r *run) leader(ctx context.Context) string {
	members, err := r.List(ctx)
	i := slices.IndexFunc(members, func(m outside.Member) bool { return m.Role == "Leader" })
	if err != nil || i < 0 {
		return r.Nodes[0].Member
	}
	return members[i].Member
}

func (r *run) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, isWhole, fmt.Errorf("not every member streams after %s", isWhole))
	defer cancel()
	if _, err := r.Whole(ctx); err != nil {
		list, _ := r.Run(context.WithoutCancel(ctx), "list")
		return fmt.Errorf("%w\n%s", err, list.Out)
	}
	return nil
}

func (r *run) between(from, to time.Duration) time.Duration {
	return from + time.Duration(r.draw.Int64N(int64(to-from)))
}

// judge looks at everything that was kept.
func (r *run) judge(ctx context.Context) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	if err := outside.Pause(ctx, calm); err != nil {
		return err
	}
	r.lists.stop()
	for _, w := range r.writers {
		w.Stop()
	}
	for _, w := range r.writers {
		rows, lost, err := w.Check(ctx)
		if err != nil {
			return err
		}
		r.report.Rows += rows
		r.report.Lost += lost
	}
	r.report.Overlap = outside.Overlap(r.writers...)
	r.report.Operations, r.report.Ordered = r.lists.ordered(r.Log)
	var broken []error
	say := func(format string, args ...any) { broken = append(broken, fmt.Errorf(format, args...)) }
	if r.report.Rows == 0 || r.report.Operations == 0 {
		say("nothing was acknowledged: nothing was tried")
	}
	if r.report.Overlap > 0 {
		say("%d rows were acknowledged by an old primary after a new one's first", r.report.Overlap)
	}
	if r.Keeps && r.report.Lost > 0 {
		say("%d of %d acknowledged rows are lost", r.report.Lost, r.report.Rows)
	}
	if r.Keeps && r.report.Ordered == Violated {
		say("what clients saw through the services can not be put in an order")
	}
	return errors.Join(broken...)
}
