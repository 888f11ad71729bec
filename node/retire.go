package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/spec"
)

// A machine of several servers has one supervisor, which one of them can leave: a
// mark in its node's directory says so. It goes with the directory when that is put
// aside, and when the inventory has the member again.
func mark(n spec.Node) string { return filepath.Join(n.Paths.Dir, "retired") }

func retired(n spec.Node) bool {
	_, err := os.Lstat(mark(n))
	return err == nil
}

// Retire ends all roles of n but its member of the store, now and at every start of
// its supervisor, and waits until they and its server are gone. What else the
// supervisor keeps runs on. Given again it does what is left.
func Retire(ctx context.Context, n spec.Node) error {
	f, err := os.OpenFile(mark(n), os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("mark %s as retired: %w", n.Member, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if id, ok := SupervisorFile(n).Read(); ok {
		if err := id.Signal(unix.SIGHUP); err != nil && !errors.Is(err, process.ErrGone) {
			return fmt.Errorf("supervisor of %s: %w", n.Member, err)
		}
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for serving(n) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Rejoin takes the mark away, of a node that is to run.
func Rejoin(n spec.Node) error {
	if err := os.Remove(mark(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mark of %s: %w", n.Member, err)
	}
	return nil
}

// serving says that a role of n runs that is to end, or its server.
func serving(n spec.Node) bool {
	for _, r := range Roles(n) {
		if r.Name == "etcd" {
			continue
		}
		if _, ok := r.job(n, User{}).Running(); ok {
			return true
		}
	}
	_, runs := Postmaster(n)
	return runs
}
