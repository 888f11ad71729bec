package collect

import (
	"context"
	"fmt"
	"sync"
	"time"

	"howdah/observe/collector"
)

// Of a server with many databases PostgreSQL takes longer to tell everything than
// a scrape should last. So what the next scrape would find too old is asked
// before it comes, one query at a time, spread over the seconds until then. No
// answer is told for longer than its ttl because of that, and nothing is asked
// ahead of a scrape that did not come: after the last one there is one round.
const (
	lead = 5 * time.Second  // before the next scrape
	pace = 10 * time.Second // between two, until two have come
	hope = time.Minute      // after the start, that there will be a first one
	slow = time.Minute      // a ttl from which on a cluster-wide answer is asked ahead too
)

// A rhythm is when scrapes come.
type rhythm struct {
	mu    sync.Mutex
	last  time.Time
	every time.Duration
	again chan struct{} // one came
}

func (r *rhythm) came(at time.Time) {
	r.mu.Lock()
	if !r.last.IsZero() {
		r.every = at.Sub(r.last)
	}
	r.last = at
	r.mu.Unlock()
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// next is when the next scrape is expected; none was seen: the zero time.
func (r *rhythm) next() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.last.IsZero():
		return time.Time{}
	case r.every == 0:
		return r.last.Add(pace)
	}
	return r.last.Add(r.every)
}

// ahead prepares the first scrape, then each next one, until ctx ends.
func (e *Exporter) ahead(ctx context.Context) {
	e.prepare(ctx)
	began := time.Now()
	for ctx.Err() == nil {
		next := e.rhythm.next()
		if next.IsZero() && time.Since(began) < hope {
			e.round(ctx, time.Now().Add(lead))
			continue
		}
		if next.IsZero() || next.Before(time.Now()) {
			select {
			case <-e.rhythm.again:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case <-time.After(time.Until(next.Add(-lead))):
			e.round(ctx, next)
			continue
		case <-e.rhythm.again:
		case <-ctx.Done():
		}
	}
}

// prepare asks everything for the first time. Who scrapes meanwhile waits for it.
func (e *Exporter) prepare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if e.take(ctx) {
		e.gather(ctx, time.Now())
		e.give()
	}
}

// round asks what a scrape at next would find too old, and ends at next.
func (e *Exporter) round(ctx context.Context, next time.Time) {
	ctx, cancel := context.WithDeadline(ctx, next)
	defer cancel()
	type step struct {
		d *database
		c collector.Collector
	}
	var steps []step
	if !e.take(ctx) {
		return
	}
	for _, d := range e.databases() {
		if !d.known {
			continue // a scrape finds out whether it is there
		}
		for _, c := range d.plan() {
			s := d.slots[c.Branch]
			if c.Why == "" && s != nil && !s.asked.IsZero() && c.TTL >= lead && next.Sub(s.asked) > c.TTL && (c.TTL >= slow || !c.Has("cluster")) {
				steps = append(steps, step{d, c.Collector})
			}
		}
	}
	e.give()
	began := time.Now()
	spread := max(time.Until(next)*4/5, 0)
	for i, s := range steps {
		select {
		case <-time.After(time.Until(began.Add(spread * time.Duration(i) / time.Duration(len(steps))))):
		case <-ctx.Done():
		}
		if !e.take(ctx) {
			return
		}
		e.step(ctx, s.d, s.c)
		e.give()
	}
	<-ctx.Done()
}

// step asks one collector, unless the database went or a scrape was first.
func (e *Exporter) step(ctx context.Context, d *database, c collector.Collector) {
	defer func() {
		if v := recover(); v != nil {
			d.failed(c.Branch, fmt.Errorf("panic: %v", v))
		}
	}()
	now := time.Now()
	s := d.slots[c.Branch]
	if s == nil || d != e.main && e.others[d.name] != d || now.Sub(s.asked) < lead {
		return
	}
	d.retire()
	// Its own timeout ends it, not the scrape that is near: cut off for that, a
	// query would cost the connection.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	if s.run(within, d, c, now); s.err != nil {
		d.failed(c.Branch, s.err)
	}
}
