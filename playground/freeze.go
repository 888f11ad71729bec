package playground

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
)

// freezeTime bounds a freeze: whoever is in an uninterruptible wait stops when
// it ends.
const freezeTime = 5 * time.Second

// Freezable are the names that Freeze takes for n.
func Freezable(n spec.Node) []string {
	names := []string{WholeNode, "postgres"}
	for _, r := range node.Roles(n) {
		names = append(names, r.Name)
	}
	return names
}

// members of a freeze: the processes of a role.
func frozenBy(n spec.Node, role string) []process.ID {
	switch role {
	case WholeNode:
		return everything(n)
	case "postgres":
		return server(n)
	}
	for _, r := range node.Roles(n) {
		if r.Name == role {
			if id, ok := running(n, r); ok {
				return []process.ID{id}
			}
		}
	}
	return nil
}

// server is the postmaster and all that it started.
func server(n spec.Node) []process.ID {
	var ids []process.ID
	all, _ := postgres.Processes(n.Postgres.Data)
	for _, p := range all {
		ids = append(ids, process.ID{PID: p.PID, Start: p.Ticks})
	}
	return ids
}

// stands reports whether the role has processes, and every one is stopped.
func stands(n spec.Node, role string) bool {
	ids := frozenBy(n, role)
	return len(ids) > 0 && !slices.ContainsFunc(ids, runs)
}

func runs(id process.ID) bool {
	s, ok := process.Look(id.PID)
	return ok && s.ID == id && !s.Frozen()
}

// Freeze stops a role of the members where it stands: "agent", "etcd",
// "postgres" (the postmaster and every backend), or the whole node, as a
// hypervisor pauses a virtual machine: every process at once and, on the
// isolated ground, its network, which then neither sends nor confirms.
//
// Whoever else may thaw does: an agent that leads lets its own PostgreSQL go on.
func (s State) Freeze(ctx context.Context, members []string, role string) error {
	return s.lay(ctx, members, func(m string, ill Ill) (Ill, error) {
		n, err := s.Find(m)
		if err != nil {
			return ill, err
		}
		if !slices.Contains(Freezable(n), role) {
			return ill, &problem.Error{
				Code: "fault-role", What: "cannot freeze " + role + " of " + m, Why: "the node runs no such role",
				Do: "give --role " + strings.Join(Freezable(n), ", --role "),
			}
		}
		if slices.Contains(ill.Frozen, WholeNode) || slices.Contains(ill.Frozen, role) {
			return ill, nil
		}
		if len(frozenBy(n, role)) == 0 {
			return ill, &problem.Error{
				Code: "fault-nothing", What: "cannot freeze " + role + " of " + m, Why: "it does not run",
				Do: "see `howdah list`; `howdah fault start-node " + m + "` starts a node that was stopped",
			}
		}
		held := postgres.Frozen(n.Postgres.Data) && !slices.Contains(ill.Frozen, "postgres")
		if role == "postgres" && held {
			return ill, &problem.Error{
				Code: "fault-held", What: "cannot freeze PostgreSQL of " + m, Why: "its guard or agent has frozen it, because its lease is over",
				Do: "wait until it goes on: `howdah status`",
			}
		}
		ctx, cancel := context.WithTimeoutCause(ctx, freezeTime, errors.New("some processes did not stop in "+freezeTime.String()))
		defer cancel()
		clean := 0
		err = poll(ctx, func() bool {
			stopped := true
			for _, id := range frozenBy(n, role) {
				if runs(id) {
					id.Signal(unix.SIGSTOP)
					stopped = false
				}
			}
			// What was forked while a scan passed its place shows in the next one.
			clean++
			if !stopped {
				clean = 0
			}
			return clean == 2
		})
		if err != nil {
			return ill, err
		}
		if role == WholeNode {
			ill.Frozen, ill.Held = []string{WholeNode}, held
		} else {
			ill.Frozen = append(ill.Frozen, role)
			slices.Sort(ill.Frozen)
		}
		return ill, nil
	})
}

// Thaw lets go on what Freeze stopped: a role, or with "" whatever it was. What
// is not frozen is left alone.
func (s State) Thaw(ctx context.Context, members []string, role string) error {
	awake := map[string]Ill{}
	// The network first: a machine that goes on finds its wire as it was.
	err := s.lay(ctx, members, func(m string, ill Ill) (Ill, error) {
		if role != "" && role != WholeNode && slices.Contains(ill.Frozen, WholeNode) {
			return ill, &problem.Error{
				Code: "fault-frozen", What: "cannot thaw only " + role + " of " + m, Why: "the whole node is frozen",
				Do: "`howdah fault thaw " + m + "`",
			}
		}
		keep := slices.DeleteFunc(slices.Clone(ill.Frozen), func(r string) bool { return role == "" || r == role })
		was := ill
		was.Frozen = slices.DeleteFunc(slices.Clone(ill.Frozen), func(r string) bool { return slices.Contains(keep, r) })
		if len(was.Frozen) > 0 {
			awake[m] = was
		}
		ill.Frozen, ill.Held = keep, false
		return ill, nil
	})
	if err != nil {
		return err
	}
	for m, was := range awake {
		n, err := s.Find(m)
		if err != nil {
			return err
		}
		for _, r := range was.Frozen {
			ids := frozenBy(n, r)
			if was.Held {
				held := server(n)
				ids = slices.DeleteFunc(ids, func(id process.ID) bool { return slices.Contains(held, id) })
			}
			// In one stroke, as a machine goes on, and PostgreSQL before those who watch
			// it: no order of a real machine is worse for them.
			slices.Reverse(ids)
			if err := process.SignalAll(unix.SIGCONT, ids...); err != nil {
				return err
			}
		}
	}
	return nil
}
