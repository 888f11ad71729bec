package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/spec"
)

// An estate is what a supervisor that ended at Leave left of one node: who of its
// roles is still to begin anew. It is in the run directory, so that it does not
// outlive the machine's next start.
type estate struct {
	Dir   string                `json:"dir"` // the node's
	Run   string                `json:"-"`
	Roles map[string]process.ID `json:"roles"`
}

func estateFile(run string) string { return filepath.Join(run, "left.json") }

// left is what the share's supervisor would leave now.
func (s *share) left() estate {
	e := estate{Dir: s.node.Paths.Dir, Run: s.node.Paths.Run, Roles: map[string]process.ID{}}
	for _, r := range s.roles {
		if id, runs := r.job(s.node, s.account).Running(); runs {
			e.Roles[r.Name] = id
		}
	}
	return e
}

func (e estate) write() error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return nodefile.WriteFile(estateFile(e.Run), b, 0o600, -1, -1)
}

func readEstate(run string) (estate, error) {
	e := estate{Run: run}
	f, err := os.OpenFile(estateFile(run), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return e, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return e, err
	}
	if st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) { // the directory is the roles'
		return e, fmt.Errorf("%s is not this supervisor's", f.Name())
	}
	const most = 1 << 16
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return e, nil
}

// renewed are the roles in the order in which they begin anew: those first of which
// least depends, so that a program that does not run is seen before the agent has it.
// The store comes after the agent, which then holds its lease.
var renewed = []string{"jobs", "observe", "dns", "vip", gateway, "agent", "etcd"}

const (
	// leaveWithin is how long an agent is waited for that has work. It goes when that
	// has ended, and its keeper has the next one begin.
	leaveWithin = time.Minute
	// bearWithin is how long a gateway may take to start a process that follows it.
	bearWithin = 10 * time.Second
	// handOverWithin is how long its sessions may take to go over, and more.
	handOverWithin = 2 * time.Minute
	// backWithin is how long a role may take to run again.
	backWithin = 30 * time.Second
)

// renew has the roles that a predecessor left begin anew, one after the other: each
// ends as it should, and its keeper starts it. A role that does not come back is the
// last one: the others stay what they are.
func renew(ctx context.Context, all []*share, log *slog.Logger) error {
	left := map[*share]estate{}
	for _, s := range all {
		e, err := readEstate(s.node.Paths.Run)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			log.Warn("roles that a predecessor left stay as they are", logkey.Member, s.node.Member, logkey.Error, err)
			continue
		}
		left[s] = e
	}
	for _, name := range renewed {
		for _, s := range all {
			old, ok := left[s].Roles[name]
			i := slices.IndexFunc(s.roles, func(r Role) bool { return r.Name == name })
			if !ok || i < 0 || !old.Alive() {
				continue
			}
			if err := s.renew(ctx, s.roles[i], old); err != nil {
				if ctx.Err() == nil {
					s.log.Error("roles that a predecessor left stay as they are", logkey.Role, name, logkey.Error, err)
				}
				return nil
			}
		}
	}
	for s, e := range left {
		for name, id := range e.Roles {
			if !slices.ContainsFunc(s.roles, func(r Role) bool { return r.Name == name }) && id.Alive() {
				s.log.Info("role is not the node's any more", logkey.Role, name, logkey.PID, id.PID)
				if err := stopRole(ctx, id, unix.SIGTERM, roleGrace(name)); err != nil {
					return err
				}
			}
		}
		if err := os.Remove(estateFile(e.Run)); err != nil {
			return err
		}
	}
	return nil
}

// renew has one role begin anew, whose process is old.
func (s *share) renew(ctx context.Context, r Role, old process.ID) error {
	began := time.Now()
	how, grace := unix.SIGTERM, r.Grace
	switch r.Name {
	case "agent":
		how, grace = Leave, leaveWithin
	case gateway:
		if !handsOver(ctx, old, bearWithin) && ctx.Err() == nil {
			s.log.Warn("gateway of a version that leaves nothing to a successor: its sessions end", logkey.PID, old.PID)
		}
	case "vip":
		how = unix.SIGKILL // asked to end it would take the address away, which the kernel keeps for the next one
	}
	if err := stopRole(ctx, old, how, grace); errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		s.log.Warn("role is busy: it begins anew when it has ended what it does", logkey.Role, r.Name, logkey.PID, old.PID)
		return nil
	} else if err != nil {
		return err
	}
	job := r.job(s.node, s.account)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(backWithin)
	var now process.ID
	var since time.Time
	for {
		if id, runs := job.Running(); !runs {
			now = process.ID{}
		} else if id != now {
			now, since = id, time.Now()
		}
		if now != (process.ID{}) && time.Since(since) > settled {
			s.log.Info("role began anew", logkey.Role, r.Name, logkey.PID, now.PID, logkey.Took, time.Since(began))
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("%s does not run again, see %s", r.Name, job.Log)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// handsOver has a gateway start its successor and end when its sessions have gone over to
// that one (access/gateway/succession.go), and says that it has ended.
func handsOver(ctx context.Context, old process.ID, bear time.Duration) bool {
	if err := old.Signal(Leave); err != nil {
		return errors.Is(err, process.ErrGone)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(bear)
	for len(process.Family(old)) == 1 {
		select {
		case <-tick.C:
		case <-late:
			return false
		case <-ctx.Done():
			return false
		}
	}
	soon, cancel := context.WithTimeout(ctx, handOverWithin)
	defer cancel()
	return old.Wait(soon) == nil
}

// settled is how old a role is of which one may say that it runs.
const settled = time.Second

// stopRole signals a process and waits until it is gone. Who was asked to end and
// does not within grace is killed; of one that was asked to leave, it is an error.
func stopRole(ctx context.Context, id process.ID, how unix.Signal, grace time.Duration) error {
	if err := id.Signal(how); errors.Is(err, process.ErrGone) {
		return nil
	} else if err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := id.Wait(soon)
	if err == nil || ctx.Err() != nil || how == Leave {
		return err
	}
	if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return id.Wait(ctx)
}

// roleGrace is how long a role of that name has to end.
func roleGrace(name string) time.Duration {
	if name == "agent" {
		return agentGrace
	}
	return 10 * time.Second
}

// Forsaken ends what a predecessor left of nodes that are none of ours any more,
// although nobody pruned them: nobody would guard them. Their data stay.
func Forsaken(run string, ours []spec.Node, log *slog.Logger) lifecycle.Part {
	return lifecycle.Part{Name: "forsaken", Grace: time.Second, Run: func(ctx context.Context) error {
		files, _ := filepath.Glob(estateFile(filepath.Join(run, "*"))) // only a malformed pattern is an error
		for _, file := range files {
			e, err := readEstate(filepath.Dir(file))
			if err != nil || slices.ContainsFunc(ours, func(n spec.Node) bool { return n.Paths.Dir == e.Dir }) {
				continue
			}
			for _, name := range slices.Backward(stages) {
				id, ok := e.Roles[name]
				if !ok || !id.Alive() {
					continue
				}
				log.Warn("role of a node that this machine has no more", logkey.Path, e.Dir, logkey.Role, name, logkey.PID, id.PID)
				if err := stopRole(ctx, id, unix.SIGTERM, roleGrace(name)); err != nil {
					log.Error("it does not end", logkey.Role, name, logkey.Error, err)
				}
			}
			if ctx.Err() == nil {
				_ = os.Remove(file) // it would be looked at again
			}
		}
		<-ctx.Done()
		return nil
	}}
}
