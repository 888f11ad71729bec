package lifecycle

import (
	"context"
	"fmt"
	"time"
)

// Again is p for work whose loss nobody else should feel: when p fails, ends or
// panics it runs again, after a pause that grows from a second to half a
// minute. Each end is told to say.
func Again(p Part, say func(name string, err error, pause time.Duration)) Part {
	const first, last = time.Second, 30 * time.Second
	run := p.Run
	p.Run = func(ctx context.Context) error {
		pause := first
		for ctx.Err() == nil {
			began := time.Now()
			err := survive(ctx, run)
			if ctx.Err() != nil {
				return err
			}
			if time.Since(began) > last {
				pause = first
			}
			say(p.Name, err, pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, last)
		}
		return nil
	}
	return p
}

// survive makes an error of a panic.
func survive(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return run(ctx)
}
