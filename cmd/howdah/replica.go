package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"howdah/backup/keep"
	"howdah/cli"
	"howdah/nodefile"
)

// makeReplica fills the data directory of a node from a repository, for its agent,
// which reads what is printed (postgres.Restore).
func makeReplica(ctx context.Context, r cli.Replica, out io.Writer) error {
	n, err := nodefile.Load(r.Node)
	if err != nil {
		return err
	}
	from, err := keep.PlanReplica(ctx, n, r.System)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "takes", from)
	if r.Dry {
		return nil
	}
	told := time.Time{}
	return from.Make(ctx, func(done, total int64) {
		if now := time.Now(); now.Sub(told) > time.Second/4 || done == total {
			told = now
			fmt.Fprintf(out, "%d/%d kB (%d%%)\n", done>>10, total>>10, done*100/max(total, 1))
		}
	})
}
