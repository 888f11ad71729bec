package node

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"howdah/node/process"
	"howdah/postgres"
	"howdah/spec"
)

// Postmaster returns the live postmaster of n.
func Postmaster(n spec.Node) (process.ID, bool) { return postmaster(n.Postgres.Data) }

func postmaster(data string) (process.ID, bool) {
	p, ok := postgres.Postmaster(data)
	return process.ID{PID: p.PID, Start: p.Ticks}, ok
}

// standby reports whether the server cannot write yet: PostgreSQL removes the
// file for good when a promotion ends, before it accepts the first write.
func standby(data string) bool {
	for _, name := range []string{"standby.signal", "recovery.signal"} {
		if _, err := os.Stat(filepath.Join(data, name)); err == nil {
			return true
		}
	}
	return false
}

// orphaned names a server whose postmaster is gone while others of its
// processes live: still known, else by the first of them.
func orphaned(data string, known process.ID) process.ID {
	all, err := postgres.Processes(data)
	if err != nil || len(all) == 0 {
		return process.ID{}
	}
	if known.PID != 0 {
		return known
	}
	return process.ID{PID: all[0].PID, Start: all[0].Ticks}
}

// killTime bounds a kill: a process in an uninterruptible wait dies only when
// that ends.
const killTime = 5 * time.Second

func killServer(data string) error {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	return postgres.Kill(ctx, data)
}
