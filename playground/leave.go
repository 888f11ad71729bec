package playground

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// Leavers is the directory of a cluster in which is kept what members had who left.
const Leavers = "removed"

// Retire ends a member's server and all that serves it, in order and for good; its
// member of the store, if it carries one, goes on. Given again it does what is left.
func (s State) Retire(ctx context.Context, n spec.Node) error {
	if err := s.Thaw(ctx, []string{n.Member}, ""); err != nil {
		return err
	}
	if n.Etcd.Member == "" {
		if err := mark(n); err != nil {
			return err
		}
		return halt(ctx, n)
	}
	return drain(ctx, n)
}

// Discard takes a retired member out of the playground. What it had is kept in the
// cluster's directory of Leavers, or deleted with purge. One that carries a member
// of the store stays with that alone.
func Discard(ctx context.Context, dir string, n spec.Node, purge bool) error {
	s, err := Load(dir)
	if err != nil {
		return err
	}
	if n.Etcd.Member != "" {
		return s.strip(ctx, n, purge)
	}
	if id, ok := s.keeper(); ok { // its successor does not know the node
		if err := end(ctx, id); err != nil {
			return err
		}
	}
	if i := s.seat(n); i >= 0 {
		s.Members = slices.Clone(s.Members)
		s.Members[i] = ""
		if err := s.save(); err != nil {
			return err
		}
	}
	// Who is killed from here on leaves a directory that Up takes away.
	if err := s.vacate(n, purge); err != nil {
		return err
	}
	return s.startKeeper(ctx)
}

// vacate takes away what a node had that is in no seat any more.
func (s State) vacate(n spec.Node, purge bool) error {
	if path := s.net(n.Member); path != "" && mounted(path) {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("network of %s: %w", n.Member, err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(n.Paths.Run); err != nil {
		return err
	}
	return SetAside(n, purge)
}

// SetAside moves the directory of a node that is no more to those of Leavers, or
// deletes it with purge.
func SetAside(n spec.Node, purge bool) error {
	to, err := leaver(n) // its directory says that there was a member here, also when nothing is kept
	if err != nil {
		return err
	}
	if purge {
		return os.RemoveAll(n.Paths.Dir)
	}
	if _, err := os.Lstat(n.Paths.Dir); errors.Is(err, os.ErrNotExist) {
		return nil // it is done
	}
	if err := os.Rename(n.Paths.Dir, to); err != nil {
		return aground(n, n.Paths.Dir, err)
	}
	return nil
}

// leaver is a new name among the leavers.
func leaver(n spec.Node) (string, error) {
	dir := filepath.Join(filepath.Dir(n.Paths.Dir), Leavers)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("directory: %w", err)
	}
	return filepath.Join(dir, n.Member+"-"+time.Now().UTC().Format("20060102T150405.000Z")), nil
}

func aground(n spec.Node, path string, err error) error {
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return &problem.Error{
		Code: "datadir-move", What: "cannot move aside what " + n.Member + " had", Why: path + " is, or has in it, a file system of its own",
		Do: "move its contents away by hand, or have them deleted with --purge", Err: err,
	}
}

// strip leaves a node its member of the store, and nothing else.
func (s State) strip(ctx context.Context, n spec.Node, purge bool) error {
	owner, err := node.Account(n.User)
	if err != nil {
		return err
	}
	// The data first: while the node is described as a member, what is left is seen.
	entries, err := os.ReadDir(n.Paths.Dir)
	if err != nil {
		return err
	}
	stay := []string{filepath.Base(n.Etcd.Data), filepath.Base(n.Paths.Log), filepath.Base(filepath.Dir(n.TLS.Cert)), nodefile.Name, "node.lock"}
	if n.Observe.On() {
		stay = append(stay, filepath.Base(n.Observe.Data), filepath.Base(n.Observe.Rules))
	}
	to := ""
	for _, e := range entries {
		path := filepath.Join(n.Paths.Dir, e.Name())
		switch {
		case slices.Contains(stay, e.Name()):
		case purge:
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		default:
			if to == "" {
				if to, err = leaver(n); err != nil {
					return err
				}
				if err := os.Mkdir(to, 0o700); err != nil {
					return fmt.Errorf("directory: %w", err)
				}
			}
			if err := os.Rename(path, filepath.Join(to, e.Name())); err != nil {
				return aground(n, path, err)
			}
		}
	}
	n.Postgres, n.Gateway, n.Pool, n.VIP, n.DNS = spec.Postgres{}, spec.Gateway{}, spec.Pool{}, spec.VIP{}, spec.DNS{}
	n.Jobs, n.Backup, n.Objects, n.Agent = spec.Jobs{}, spec.Backup{}, spec.Objects{}, spec.Agent{Timers: n.Agent.Timers}
	if _, err := nodefile.Update(n, owner.UID, owner.GID); err != nil {
		return err
	}
	// The one that ran before the change has drained its roles; the next adopts the store.
	if id, ok := supervisor(n); ok {
		if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
		if err := id.Wait(ctx); err != nil {
			return err
		}
	}
	return poll(ctx, func() bool { return Running(n) })
}

// left takes away what members had who left, where that was not finished.
func (s State) left() error {
	files, _ := filepath.Glob(filepath.Join(s.Dir, "*", "*", nodefile.Name)) // only a malformed pattern is an error
	for _, file := range files {
		n, err := nodefile.Load(filepath.Dir(file))
		if err != nil || s.seat(n) >= 0 || s.occupied(n) {
			continue
		}
		if _, err := os.Lstat(n.Postgres.Data); n.Postgres.Data == "" || err != nil {
			continue // one that was never begun, and will be made
		}
		if err := s.vacate(n, false); err != nil {
			return err
		}
	}
	return nil
}
