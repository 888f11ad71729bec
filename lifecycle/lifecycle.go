// Package lifecycle runs the parts of a process: started in order, stopped in
// reverse, each one completely before the next.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Part is one piece of a process. Run blocks until ctx ends or the part
// fails, and returns when everything it started is gone. Grace is how long it
// may take to stop; after that the part is left behind and named in the error.
type Part struct {
	Name  string
	Run   func(ctx context.Context) error
	Grace time.Duration
}

// ErrStuck says that a part did not stop within its grace.
var ErrStuck = errors.New("did not stop in time")

// Run starts parts in order and waits until ctx ends or one of them returns;
// then it stops the others in reverse order, one after another. A part that
// returns without an error before it was asked to is not a failure, but it
// ends the process like one.
func Run(ctx context.Context, parts ...Part) error {
	type running struct {
		part   Part
		cancel context.CancelFunc
		done   chan error
	}
	var started []running
	ended := make(chan int, len(parts))
	for i, p := range parts {
		// Each part has a context of its own, so that it outlives those above it.
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{p, cancel, make(chan error, 1)}
		started = append(started, r)
		go func() {
			r.done <- p.Run(partCtx)
			ended <- i
		}()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	var errs []error
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		r.cancel()
		timer := time.NewTimer(r.part.Grace)
		select {
		case err := <-r.done:
			if err != nil && !errors.Is(err, context.Canceled) {
				errs = append(errs, fmt.Errorf("%s: %w", r.part.Name, err))
			}
		case <-timer.C:
			errs = append(errs, fmt.Errorf("%s: %w (%s)", r.part.Name, ErrStuck, r.part.Grace))
		}
		timer.Stop()
	}
	return errors.Join(errs...)
}

// Together is one part of several that need no order among themselves: they
// start at once and stop at once, also when one of them ends by itself.
func Together(name string, parts ...Part) Part {
	all := Part{Name: name}
	for _, p := range parts {
		all.Grace = max(all.Grace, p.Grace)
	}
	all.Run = func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		errs := make([]error, len(parts))
		var wait sync.WaitGroup
		for i, p := range parts {
			wait.Go(func() {
				defer cancel()
				if err := p.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
					errs[i] = fmt.Errorf("%s: %w", p.Name, err)
				}
			})
		}
		wait.Wait()
		return errors.Join(errs...)
	}
	return all
}
