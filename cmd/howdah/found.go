package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"howdah/cli/pgbackrest"
	"howdah/control"
	"howdah/nodefile"
)

// makeFirst fills the data directory of a node with what its new cluster begins with,
// for its agent, which reads what is printed (postgres, originate).
func makeFirst(ctx context.Context, dir string, dry bool, out io.Writer) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	from, err := pgbackrest.Open(n.Postgres.Origin.Config, n.Postgres.Origin.Stanza, os.Environ())
	if err != nil {
		return err
	}
	f, err := control.PlanFound(ctx, n, from)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "takes", f)
	if dry {
		return nil
	}
	told := time.Time{}
	return f.Make(ctx, func(s control.RestoreStep) {
		switch now := time.Now(); {
		case s.Total == 0:
			fmt.Fprintln(out, s.Does)
		case now.Sub(told) > time.Second/4 || s.Done == s.Total:
			told = now
			fmt.Fprintf(out, "%d/%d kB (%d%%)\n", s.Done>>10, s.Total>>10, s.Done*100/s.Total)
		}
	})
}
