package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"howdah/test/outside"
)

// A load is pgbench, straight at the primary, started again wherever that is
// whenever it ends.
type load struct{ stop func() }

func startLoad(ctx context.Context, c *cluster) (*load, error) {
	fill, err := c.pgbench(ctx, "-i", "-q", "-s", "10")
	if err != nil {
		return nil, err
	}
	if out, err := fill.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pgbench -i: %w\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			// It ends when the primary does; a frozen one is left within a minute.
			if run, err := c.pgbench(ctx, "-n", "-c", "4", "-j", "1", "-T", "60"); err == nil {
				_ = run.Run()
			}
			_ = outside.Pause(ctx, 100*time.Millisecond)
		}
	})
	return &load{stop: func() { cancel(); done.Wait() }}, nil
}
