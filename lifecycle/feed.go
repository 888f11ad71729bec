package lifecycle

import (
	"context"
	"math/rand/v2"
	"time"
)

// Feed gives turns to whoever sends on what is kept, until ctx ends: at once while there
// is more, else once in every, and after failures later and later, up to most. told hears
// of the first failure of several, and with nil that it goes on again.
func Feed(ctx context.Context, every, most time.Duration, turn func(context.Context) (more bool, err error), told func(error)) {
	for failed := 0; ; {
		pause := every
		more, err := turn(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failed++; failed == 1 {
				told(err)
			}
			pause = min(most, time.Second<<min(failed, 10))
			pause = pause/2 + rand.N(pause/2)
		case failed > 0:
			failed = 0
			told(nil)
			continue
		case more:
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}
