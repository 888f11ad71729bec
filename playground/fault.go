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
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
)

// Find gives the node of a member.
func (s State) Find(member string) (spec.Node, error) {
	nodes, err := s.Nodes()
	if err != nil {
		return spec.Node{}, err
	}
	for _, n := range nodes {
		if n.Member == member {
			return n, nil
		}
	}
	names := ""
	for i, n := range nodes {
		if i > 0 {
			names += ", "
		}
		names += n.Member
	}
	return spec.Node{}, &problem.Error{
		Code: "member-unknown", What: "there is no member " + member, Why: "the playground has " + names,
		Do: "name one of them",
	}
}

func notRunning(n spec.Node, what string) error {
	return &problem.Error{
		Code: "fault-nothing", What: "cannot kill " + what + " of " + n.Member, Why: "it does not run",
		Do: "see `howdah list`; `howdah fault start-node " + n.Member + "` starts a node that was stopped",
	}
}

// KillPostgres kills the postmaster, and only it, as the kernel would when
// memory ends.
func KillPostgres(n spec.Node) error {
	id, ok := node.Postmaster(n)
	if !ok {
		return notRunning(n, "PostgreSQL")
	}
	return id.Signal(unix.SIGKILL)
}

// KillAgent kills the agent. Its supervisor starts another.
func KillAgent(n spec.Node) error {
	id, ok := node.RoleFile(n, "agent").Read()
	if !ok {
		return notRunning(n, "the agent")
	}
	return id.Signal(unix.SIGKILL)
}

// KillNode ends a node as a power cut does: no process of it survives and none
// has a last word, its cable is dead, what it kept in memory is gone. It stays
// so until StartNode.
func (s State) KillNode(ctx context.Context, n spec.Node) error {
	if len(everything(n)) == 0 {
		return notRunning(n, "the processes")
	}
	if err := mark(n); err != nil {
		return err
	}
	if err := s.plug(n, false); err != nil { // first: a dead machine sends no FIN
		return err
	}
	if err := obliterate(ctx, n); err != nil {
		return err
	}
	// Who is dead is frozen no more; its wire stays as bad as it is.
	err := s.lay(ctx, []string{n.Member}, func(_ string, ill Ill) (Ill, error) {
		ill.Frozen, ill.Held = nil, false
		return ill, nil
	})
	return errors.Join(err, forget(n))
}

// StopNode stops a node in order and waits for it. What is frozen goes on
// first: it could not stop.
func (s State) StopNode(ctx context.Context, n spec.Node) error {
	if err := s.Thaw(ctx, []string{n.Member}, ""); err != nil {
		return err
	}
	if err := mark(n); err != nil {
		return err
	}
	return halt(ctx, n)
}

// StartNode lets a stopped node run again and waits for its supervisor.
func (s State) StartNode(ctx context.Context, n spec.Node) error {
	keeper, ok := s.keeper()
	if !ok {
		return &problem.Error{
			Code: "keeper-missing", What: "cannot start " + n.Member, Why: "the playground's keeper does not run",
			Do: "run `howdah up`",
		}
	}
	if err := s.unmark(n); err != nil {
		return err
	}
	if err := keeper.Signal(unix.SIGHUP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("the supervisor did not start in "+startTime.String()))
	defer cancel()
	return poll(ctx, func() bool { return Running(n) })
}

// mark says that the node is not meant to run.
func mark(n spec.Node) error {
	f, err := os.OpenFile(stoppedMark(n), os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("mark %s as stopped: %w", n.Member, err)
	}
	return f.Close()
}

// unmark says that it is, and gives it its cable back.
func (s State) unmark(n spec.Node) error {
	if err := s.plug(n, true); err != nil {
		return err
	}
	if err := os.Remove(stoppedMark(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mark %s as started: %w", n.Member, err)
	}
	return nil
}

// roots are the supervisor, first because it would start the others again, and
// the roles of the node, by file or by arguments: a supervisor that was killed
// may have started one without leaving a file.
func roots(n spec.Node) []process.ID {
	var ids []process.ID
	if id, ok := supervisor(n); ok {
		ids = append(ids, id)
	}
	for _, r := range slices.Backward(node.Roles(n)) {
		if id, ok := running(n, r); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func running(n spec.Node, r node.Role) (process.ID, bool) {
	return process.Job{PID: node.RoleFile(n, r.Name), Args: r.Args}.Running()
}

// everything is every running process of the node, roots first: what descends
// from them, and PostgreSQL whosever child it is now.
func everything(n spec.Node) []process.ID {
	first := roots(n)
	ids := append([]process.ID(nil), first...)
	known := map[process.ID]bool{}
	for _, id := range first {
		known[id] = true
	}
	add := func(id process.ID) {
		if !known[id] {
			known[id] = true
			ids = append(ids, id)
		}
	}
	for _, p := range process.Family(first...) {
		add(p.ID)
	}
	if server, err := postgres.Processes(n.Postgres.Data); err == nil {
		for _, p := range server {
			add(process.ID{PID: p.PID, Start: p.Ticks})
		}
	}
	return ids
}

// obliterate kills everything at once, and again until nothing is left.
func obliterate(ctx context.Context, n spec.Node) error {
	clean := 0
	return poll(ctx, func() bool {
		ids := everything(n)
		for _, id := range ids {
			id.Signal(unix.SIGKILL)
		}
		if len(ids) > 0 {
			clean = 0
			return false
		}
		// What was forked while a scan passed its place shows in the next one.
		clean++
		return clean == 2
	})
}

// forget empties the node's run directory, as the end of power does.
func forget(n spec.Node) error {
	entries, err := os.ReadDir(n.Paths.Run)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(n.Paths.Run, e.Name())
		if p == n.Paths.Sockets { // made at set-up, so only what is in it goes
			sockets, err := os.ReadDir(p)
			if err != nil {
				return err
			}
			for _, f := range sockets {
				if err := os.RemoveAll(filepath.Join(p, f.Name())); err != nil {
					return err
				}
			}
			continue
		}
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

// halt stops a node: its supervisor does it in order; what a dead supervisor
// left behind is stopped here in the same order.
func halt(ctx context.Context, n spec.Node) error {
	if id, ok := supervisor(n); ok {
		if err := end(ctx, id); err != nil {
			return fmt.Errorf("stop %s: %w", n.Member, err)
		}
	}
	for _, r := range slices.Backward(node.Roles(n)) {
		if id, ok := running(n, r); ok {
			if err := finish(ctx, id, unix.SIGTERM, r.Grace); err != nil {
				return fmt.Errorf("stop %s of %s: %w", r.Name, n.Member, err)
			}
		}
	}
	if id, ok := node.Postmaster(n); ok {
		// SIGINT is PostgreSQL's fast shutdown (pg_ctl, "fast mode").
		if err := finish(ctx, id, unix.SIGINT, time.Minute); err != nil {
			return fmt.Errorf("stop PostgreSQL of %s: %w", n.Member, err)
		}
	}
	return obliterate(ctx, n)
}

// finish asks a process to end and kills it when grace is over.
func finish(ctx context.Context, id process.ID, sig unix.Signal, grace time.Duration) error {
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := id.Signal(sig); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	if err := id.Wait(patient); err == nil || ctx.Err() != nil {
		return err
	}
	if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return id.Wait(ctx)
}
