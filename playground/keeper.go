package playground

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/netport"
	"howdah/node"
	"howdah/node/process"
	"howdah/problem"
	"howdah/spec"
)

// word is what the keeper tells whoever started it: DIR's run/keeper.ready.
type word struct {
	PID     int            `json:"pid"`
	Problem *problem.Error `json:"problem,omitempty"`
	Error   string         `json:"error,omitempty"`
}

func (s State) wordFile() string { return filepath.Join(s.Run, "keeper.ready") }

func (s State) say(err error) {
	w := word{PID: os.Getpid()}
	if err != nil {
		w.Error = err.Error()
		if p := problem.Plain(err); p.Code != "" {
			w.Problem = &p
		}
	}
	b, err := json.Marshal(w)
	if err != nil {
		return
	}
	aside := s.wordFile() + ".new"
	if os.WriteFile(aside, b, 0o600) == nil {
		os.Rename(aside, s.wordFile())
	}
}

// heard reads the keeper's word; false when it has said nothing yet.
func (s State) heard(pid int) (error, bool) {
	var w word
	b, err := os.ReadFile(s.wordFile())
	if err != nil || json.Unmarshal(b, &w) != nil || w.PID != pid {
		return nil, false
	}
	switch {
	case w.Problem != nil:
		return w.Problem, true
	case w.Error != "":
		return errors.New(w.Error), true
	}
	return nil, true
}

// Keep is the keeper: it raises the ground, opens the doors, and keeps the
// supervisor of every node running that is not marked as stopped. SIGHUP makes
// it look at the marks at once. When it ends, however it ends, the nodes live
// on, and the next keeper adopts them.
func Keep(ctx context.Context, dir string, log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	s, err := Load(dir)
	if err != nil {
		return err
	}
	nodes, err := s.Nodes()
	if err != nil {
		return err
	}
	lock, err := node.Lock(filepath.Join(s.Dir, "keeper.lock"))
	if errors.Is(err, node.ErrLocked) {
		return &problem.Error{
			Code: "keeper-running", What: "cannot keep the playground in " + s.Dir, Why: "another keeper runs",
			Do: "nothing needs to be done; `howdah down` stops it",
		}
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	self, _ := process.Of(os.Getpid())
	if err := s.keeperFile().Write(self); err != nil {
		return err
	}
	defer os.Remove(string(s.keeperFile()))

	err = s.keep(ctx, nodes, log)
	if err != nil {
		s.say(err)
	}
	return err
}

func (s State) keep(ctx context.Context, nodes []spec.Node, log *slog.Logger) error {
	var doors []*door
	var powers []*power
	if s.Ground == Isolated {
		if err := s.raise(nodes); err != nil {
			return &problem.Error{
				Code: "ground-broken", What: "cannot raise the isolated ground", Err: err,
				Do: "run `howdah down` and `howdah up` again, or use --ground loopback with another --dir",
			}
		}
		var err error
		if doors, powers, err = s.openDoors(ctx, nodes, log); err != nil {
			return err
		}
	}
	reaper, err := process.NewReaper()
	if err != nil {
		return err
	}
	root, err := node.Account("")
	if err != nil {
		return err
	}
	var marks signalTower
	parts := []lifecycle.Part{
		{Name: "reaper", Run: reaper.Run, Grace: time.Second},
		{Name: "marks", Run: marks.Run, Grace: time.Second},
	}
	if s.Ground == Isolated {
		s.quiet()
		network := &network{state: s, nodes: nodes, marks: &marks, log: log}
		parts = append(parts, lifecycle.Part{Name: "network", Run: network.Run, Grace: time.Second})
	}
	for _, w := range powers {
		parts = append(parts, lifecycle.Part{Name: "power of " + w.node.Member, Run: w.Run, Grace: time.Second})
	}
	for _, d := range doors {
		parts = append(parts, lifecycle.Part{Name: "door to " + d.target, Run: d.Run, Grace: time.Second})
	}
	for _, n := range nodes {
		keeper := process.Keeper{Reaper: reaper, Log: log.With(logkey.Member, n.Member)}
		readers := [2]int{-1, -1} // of its log: root's, and those of whoever keeps logs
		if a, err := node.Account(n.User); err == nil && a.Credential != nil {
			readers = [2]int{os.Geteuid(), a.GID}
		}
		job := process.Job{
			Name: "supervisor", Path: n.Paths.Binary, Args: node.SupervisorArgs(n.Paths.Dir), Env: append(root.Env(), "GOMEMLIMIT=32MiB"),
			Dir: n.Paths.Dir, Log: filepath.Join(n.Paths.Log, "node.log"), Owner: readers,
			PID: node.SupervisorFile(n), NetNS: s.net(n.Member), Leave: true,
			Await: func(ctx context.Context) { marks.await(ctx, func() bool { return !Stopped(n) }) },
		}
		parts = append(parts, lifecycle.Part{
			Name: n.Member, Grace: time.Second,
			Run: func(ctx context.Context) error { return keeper.Keep(ctx, job) },
		})
	}
	log.Info("keeper started", "ground", string(s.Ground), logkey.Path, s.Dir)
	s.say(nil)
	return lifecycle.Run(ctx, parts...)
}

// A signalTower wakes everyone who waits when SIGHUP arrives.
type signalTower struct {
	mu   sync.Mutex
	wake chan struct{}
}

func (t *signalTower) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wake == nil {
		t.wake = make(chan struct{})
	}
	return t.wake
}

// Run passes signals on until ctx ends.
func (t *signalTower) Run(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return nil
		}
		t.mu.Lock()
		if t.wake != nil {
			close(t.wake)
			t.wake = nil
		}
		t.mu.Unlock()
	}
}

// await returns when so holds or ctx ends: it asks at every SIGHUP, and now
// and then in case one was lost.
func (t *signalTower) await(ctx context.Context, so func() bool) {
	slow := time.NewTicker(time.Second)
	defer slow.Stop()
	for {
		wake := t.next()
		if so() {
			return
		}
		select {
		case <-wake:
		case <-slow.C:
		case <-ctx.Done():
			return
		}
	}
}

// free checks that nobody has a port that the node's roles will want.
func free(n spec.Node) error {
	ports := doorPorts(n)
	if m, ok := n.Etcd.Self(); ok {
		ports = append(ports, portIn(m.Peer))
	}
	for _, port := range ports {
		if err := netport.Check(n.Address, port); err != nil {
			return err
		}
	}
	return nil
}
