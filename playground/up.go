package playground

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/node"
	"howdah/node/process"
	"howdah/problem"
	"howdah/spec"
)

// startTime is what the keeper and the supervisors have to start.
const startTime = 15 * time.Second

// Up makes the playground's files and sees to it that the keeper and every
// node's supervisor run, whatever was left of them. Whether the cluster is
// healthy is for the caller to ask.
//
// What is refused from the start leaves nothing behind where no playground was,
// and touches nothing that was there.
func Up(ctx context.Context, o Options, log *slog.Logger) (s State, nodes []spec.Node, err error) {
	if err := o.complete(); err != nil {
		return s, nil, err
	}
	site := look(o)
	for _, name := range o.directories() {
		if err := site.vacant(name); err != nil {
			return s, nil, err
		}
	}
	defer func() {
		if refusal(err) {
			site.clear()
		}
	}()
	if old, err := Load(o.Dir); err == nil {
		if err := old.left(); err != nil {
			return s, nil, err
		}
	}
	built, err := Build(o)
	if s, nodes = built.State, built.Nodes; err != nil {
		return s, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("the supervisors did not start in "+startTime.String()))
	defer cancel()
	for _, n := range nodes {
		if err := s.unmark(n); err != nil {
			return s, nil, err
		}
	}
	if err := s.calm(ctx); err != nil {
		return s, nil, err
	}
	keeper, ok := s.keeper()
	if ok && (built.Grown || s.outdated(keeper)) {
		// The nodes live on and are adopted by its successor.
		if err := end(ctx, keeper); err != nil {
			return s, nil, err
		}
		ok = false
	}
	if ok {
		if err := keeper.Signal(unix.SIGHUP); err != nil && !errors.Is(err, process.ErrGone) {
			return s, nil, err
		}
	} else {
		if s.Ground == Loopback {
			for _, n := range nodes {
				if !s.occupied(n) {
					if err := free(n); err != nil {
						return s, nil, err
					}
				}
			}
		}
		if err := s.startKeeper(ctx); err != nil {
			return s, nil, err
		}
	}
	for _, n := range nodes {
		if err := s.renew(n, built.Changed[n.Member]); err != nil {
			return s, nodes, err
		}
	}
	return s, nodes, poll(ctx, func() bool {
		for _, n := range nodes {
			if id, ok := supervisor(n); !ok || s.outdated(id) {
				return false
			}
		}
		return true
	})
}

// renew replaces what runs an older program and can be replaced without
// anybody noticing: the supervisor, whose successor adopts the roles, and the
// agent, whose successor adopts PostgreSQL and the lease. Each is killed and
// not asked, because asked it would stop what it keeps. etcd changes to the
// new program when the node is started the next time. The same goes for nodes
// whose description has changed.
func (s State) renew(n spec.Node, changed bool) error {
	agent, _ := node.RoleFile(n, "agent").Read()
	old, _ := supervisor(n)
	for _, id := range []process.ID{old, agent} {
		if id.PID == 0 || !changed && !s.outdated(id) {
			continue
		}
		if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
	}
	return nil
}

// Reread has those who run know of a node's description that has changed: its
// supervisor and its agent, and the keeper, which carries the host's connections to
// it. Their successors adopt what runs.
func (s State) Reread(ctx context.Context, n spec.Node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("the supervisor did not start in "+startTime.String()))
	defer cancel()
	if keeper, ok := s.keeper(); ok {
		if err := end(ctx, keeper); err != nil {
			return err
		}
		if err := s.startKeeper(ctx); err != nil {
			return err
		}
	}
	before, _ := supervisor(n)
	if err := s.renew(n, true); err != nil || Stopped(n) {
		return err
	}
	return poll(ctx, func() bool {
		now, ok := supervisor(n)
		return ok && now != before
	})
}

// outdated reports whether the process runs another program than the copy.
func (s State) outdated(id process.ID) bool {
	now, err := os.Stat(s.Binary)
	if err != nil {
		return false
	}
	runs, err := os.Stat("/proc/" + id.String() + "/exe")
	return err == nil && !os.SameFile(now, runs)
}

// occupied reports whether anything of the node runs, which then has its ports.
func (s State) occupied(n spec.Node) bool { return len(everything(n)) > 0 }

// startKeeper starts the keeper in a session of its own and waits for its word.
func (s State) startKeeper(ctx context.Context) error {
	out, err := os.OpenFile(filepath.Join(s.Dir, "keeper.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(s.Binary, KeeperArgs(s.Dir)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What our own parent left open (a shell's lock, a pipe) is not for a daemon to hold.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("start the keeper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // it outlives us; while it does not, this tells
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if err, ok := s.heard(cmd.Process.Pid); ok {
			if err != nil {
				<-ended // its files are its own until then
			}
			return err
		}
		select {
		case err := <-ended:
			if said, ok := s.heard(cmd.Process.Pid); ok && said != nil {
				return said
			}
			return &problem.Error{
				Code: "keeper-died", What: "the playground's keeper ended at once", Why: "see " + out.Name(),
				Do: "remove the cause and run `howdah up` again", Err: err,
			}
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Down stops every node and then the keeper, and takes the ground away. Data
// stays. say, if not nil, hears of each step.
func Down(ctx context.Context, dir string, say func(string)) error {
	if say == nil {
		say = func(string) {}
	}
	s, err := Load(dir)
	if problem.Code(err) == "playground-none" {
		return nil
	}
	if err != nil {
		return err
	}
	nodes, err := s.Nodes()
	if err != nil {
		return err
	}
	if err := s.calm(ctx); err != nil { // who is frozen or cut off can not leave in order
		return err
	}
	for _, n := range nodes {
		if err := mark(n); err != nil {
			return err
		}
	}
	// Replicas leave first, so that none is promoted; the stores leave last, so
	// that the primary can let go of its key.
	var replicas, primaries []spec.Node
	for _, n := range nodes {
		if p, ok := lease.Read(n.Paths.Page); ok && p.Role == lease.Primary {
			primaries = append(primaries, n)
		} else {
			replicas = append(replicas, n)
		}
	}
	for _, group := range [][]spec.Node{replicas, primaries} {
		if err := each(group, func(n spec.Node) error {
			if !n.Alone() {
				say("stopping PostgreSQL of " + n.Member)
			}
			return drain(ctx, n)
		}); err != nil {
			return err
		}
	}
	if err := each(nodes, func(n spec.Node) error {
		say("stopping " + n.Member)
		return halt(ctx, n)
	}); err != nil {
		return err
	}
	if keeper, ok := s.keeper(); ok {
		if err := end(ctx, keeper); err != nil {
			return err
		}
	}
	return s.raze()
}

// Purge deletes what the playground made, and refuses while it runs.
func Purge(dir string) error {
	s, err := Load(dir)
	if problem.Code(err) == "playground-none" {
		return nil
	}
	if err != nil {
		return err
	}
	nodes, err := s.Nodes()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if s.occupied(n) {
			return &problem.Error{
				Code: "playground-running", What: "cannot delete the playground in " + dir,
				Why: n.Member + " still runs", Do: "run `howdah down` first",
			}
		}
	}
	clusters := map[string]bool{}
	for _, n := range nodes {
		if c := filepath.Dir(n.Paths.Dir); filepath.Dir(c) == s.Dir {
			clusters[c] = true
		}
	}
	if err := s.erase(slices.Sorted(maps.Keys(clusters))...); err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	os.Remove(s.Dir) // if nothing of somebody else is in it
	return nil
}

// erase deletes the ground and all files but the directory itself.
func (s State) erase(clusters ...string) error {
	if err := s.raze(); err != nil {
		return err
	}
	for _, p := range slices.Concat(clusters, []string{s.Run, s.Binary, s.authority()}, s.files()) { // the state file last: what broke off can be repeated
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	os.Remove(filepath.Dir(s.Binary)) // if nothing of somebody else is in it
	return nil
}

// each runs f for all nodes at once.
func each(nodes []spec.Node, f func(spec.Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// drain stops all of a node but its store.
func drain(ctx context.Context, n spec.Node) error {
	id, ok := supervisor(n)
	if !ok {
		for _, r := range node.Roles(n) {
			if left, runs := running(n, r); runs && r.Name != "etcd" {
				if err := finish(ctx, left, unix.SIGTERM, r.Grace); err != nil {
					return fmt.Errorf("stop %s of %s: %w", r.Name, n.Member, err)
				}
			}
		}
		return nil // halt finds what is left
	}
	if err := id.Signal(node.Drain); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return poll(ctx, func() bool {
		if !id.Alive() {
			return true
		}
		for _, r := range node.Roles(n) {
			if _, runs := running(n, r); runs && r.Name != "etcd" {
				return false
			}
		}
		return true
	})
}

// end stops a process by SIGTERM and waits for it.
func end(ctx context.Context, id process.ID) error {
	if err := id.Signal(unix.SIGTERM); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return id.Wait(ctx)
}

// poll asks until so holds.
func poll(ctx context.Context, so func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
