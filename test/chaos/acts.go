package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/test/outside"
	"howdah/test/volume"
)

// A step is one command, or one signal.
type step func(context.Context, *outside.Cluster) error

// An act is one way to break a cluster, or to change it while it is broken.
type act struct {
	name string
	do   step
	undo []step // what it takes until nothing of it is left
}

// need is what an act needs.
type need int

const (
	nothing need = iota
	network      // one that can be cut
	disks        // every node has its own
)

// kinds are the acts that may be drawn.
var kinds = []struct {
	name  string
	needs need
	make  func(r *run, member string) (do step, undo []step)
}{
	{"kill-postgres", nothing, fault("kill-postgres", "")},
	{"kill-agent", nothing, fault("kill-agent", "")},
	{"kill-gateway", nothing, signal("gateway", unix.SIGKILL)},
	{"kill-etcd", nothing, signal("etcd", unix.SIGKILL)},
	{"kill-supervisor", nothing, signal("node", unix.SIGKILL)},
	{"stop-postgres", nothing, signal("postgres", unix.SIGINT)},
	{"kill-node", nothing, fault("kill-node", "start-node")},
	{"stop-node", nothing, fault("stop-node", "start-node")},
	{"freeze-node", nothing, fault("freeze", "thaw")},
	{"freeze-agent", nothing, fault("freeze", "thaw", "--role", "agent")},
	{"freeze-postgres", nothing, fault("freeze", "thaw", "--role", "postgres")},
	{"freeze-etcd", nothing, fault("freeze", "thaw", "--role", "etcd")},
	{"freeze-store", nothing, func(*run, string) (step, []step) { return store("freeze"), []step{store("thaw")} }},
	{"freeze-gateway", nothing, fault("freeze", "thaw", "--role", "gateway")},
	{"kill-jobs", nothing, signal("jobs", unix.SIGKILL)},
	{"freeze-jobs", nothing, func(r *run, m string) (step, []step) {
		stop, _ := signal("jobs", unix.SIGSTOP)(r, m)
		cont, _ := signal("jobs", unix.SIGCONT)(r, m)
		return stop, []step{cont}
	}},
	{"fill-disk", disks, fill},
	{"hang-disk", disks, hang},
	{"slow-disk", disks, slow},
	{"partition", network, fault("partition", "heal")},
	{"partition-from-members", network, func(r *run, m string) (step, []step) {
		var others []string
		for _, n := range r.Nodes {
			if n.Member != m {
				others = append(others, n.Member)
			}
		}
		return fault("partition", "heal", "--from", strings.Join(others, ","))(r, m)
	}},
	{"cannot-send", network, fault("one-way", "heal", "--to", "all")},
	{"cannot-hear", network, fault("one-way", "heal", "--from", "all")},
	{"slow", network, fault("slow", "heal", "--delay", "5ms", "--loss", "2%")},
	{"switchover", nothing, func(*run, string) (step, []step) { return howdah("switchover", "--yes"), nil }},
	{"restart", nothing, func(_ *run, m string) (step, []step) { return howdah("restart", m, "--yes"), nil }},
	{"reinit", nothing, func(_ *run, m string) (step, []step) { return howdah("reinit", m, "--yes"), nil }},
}

// store freezes or thaws all of etcd.
func store(verb string) step {
	return func(ctx context.Context, c *outside.Cluster) error {
		var failed error
		for _, n := range c.Nodes {
			_, err := c.Howdah(ctx, "fault", verb, n.Member, "--role", "etcd")
			failed = errors.Join(failed, err)
		}
		return failed
	}
}

// pick draws an act, half of them on the leader.
func (r *run) pick(leader string) act {
	for {
		k := kinds[r.draw.IntN(len(kinds))]
		member := r.Nodes[r.draw.IntN(len(r.Nodes))].Member
		if r.draw.IntN(2) == 0 {
			member = leader
		}
		if k.needs == network && !r.cut || k.needs == disks && !r.Disks || k.name == "reinit" && member == leader {
			continue // it would be refused
		}
		if r.away && (strings.HasSuffix(k.name, "-etcd") || strings.HasSuffix(k.name, "-store")) {
			continue // it would bring it back
		}
		whom := member
		if member == leader {
			whom += " (leader)"
		}
		do, undo := k.make(r, member)
		return act{name: k.name + " " + whom, do: do, undo: undo}
	}
}

func howdah(args ...string) step {
	return func(ctx context.Context, c *outside.Cluster) error {
		_, err := c.Howdah(ctx, args...)
		return err
	}
}

func fault(verb, back string, flags ...string) func(*run, string) (step, []step) {
	return func(_ *run, member string) (step, []step) {
		var undo []step
		switch back {
		case "":
		case "heal": // of all: there is one network
			undo = []step{howdah("fault", back)}
		default:
			undo = []step{howdah("fault", back, member)}
		}
		return howdah(slices.Concat([]string{"fault", verb, member}, flags)...), undo
	}
}

// fill leaves no byte free on the file system of a node.
func fill(_ *run, member string) (step, []step) {
	ballast := func(c *outside.Cluster) string { return filepath.Join(c.Node(member).Paths.Dir, "ballast") }
	full := func(_ context.Context, c *outside.Cluster) error {
		f, err := os.Create(ballast(c))
		if err != nil {
			return err
		}
		defer f.Close()
		for size := int64(64 << 20); size >= 4096; {
			at, err := f.Seek(0, io.SeekEnd)
			if err != nil {
				return err
			}
			if err := unix.Fallocate(int(f.Fd()), 0, at, size); err != nil {
				size /= 2 // as much as there is, and then the rest
			}
		}
		return nil
	}
	room := func(_ context.Context, c *outside.Cluster) error { return os.Remove(ballast(c)) }
	return full, []step{room}
}

// hang lets nothing be written or flushed on the file system of a node, etcd's
// files and the logs included.
func hang(_ *run, member string) (step, []step) {
	begin := func(_ context.Context, c *outside.Cluster) error { return volume.Hang(c.Node(member).Paths.Dir) }
	end := func(_ context.Context, c *outside.Cluster) error { return volume.Resume(c.Node(member).Paths.Dir) }
	return begin, []step{end}
}

// slow makes every flush of a node take up to a fifth of a second.
func slow(_ *run, member string) (step, []step) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	begin := func(_ context.Context, c *outside.Cluster) error {
		go func() { ended <- volume.Slow(ctx, c.Node(member).Paths.Dir, 200*time.Millisecond, 20*time.Millisecond) }()
		return nil
	}
	end := func(context.Context, *outside.Cluster) error {
		cancel()
		return <-ended
	}
	return begin, []step{end}
}

func signal(role string, sig unix.Signal) func(*run, string) (step, []step) {
	return func(_ *run, member string) (step, []step) {
		return func(_ context.Context, c *outside.Cluster) error {
			id, ok := outside.Process(c.Node(member), role)
			if !ok {
				return fmt.Errorf("there is no %s of %s", role, member)
			}
			return id.Signal(sig)
		}, nil
	}
}
