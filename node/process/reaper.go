package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Reaper starts processes and is the only one in its process that waits for
// children: for those it started, whose status it hands out, and for orphans
// that came to us because we are their subreaper, which it only buries. A
// process with a Reaper must not start children in any other way.
type Reaper struct {
	mu   sync.Mutex // held over fork and registration, and over wait and hand-out
	mine map[int]chan syscall.WaitStatus
}

// NewReaper makes this process the parent of its descendants' orphans.
func NewReaper() (*Reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	return &Reaper{mine: map[int]chan syscall.WaitStatus{}}, nil
}

// Run buries the dead until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, unix.SIGCHLD)
	defer signal.Stop(dead)
	for {
		r.reap()
		select {
		case <-dead:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c := r.mine[pid]; c != nil {
			c <- status
			delete(r.mine, pid)
		}
	}
}

// Start starts path in the network namespace of netns ("": ours) and returns
// who it is, and a channel that gets its status when it has ended.
func (r *Reaper) Start(path string, args []string, attr *syscall.ProcAttr, netns string) (id ID, done <-chan syscall.WaitStatus, err error) {
	start := func() error {
		id, done, err = r.fork(path, args, attr)
		return err
	}
	if netns == "" {
		err = start()
		return id, done, err
	}
	err = InNet(netns, start) // a child inherits the namespace of the thread that forks
	return id, done, err
}

func (r *Reaper) fork(path string, args []string, attr *syscall.ProcAttr) (ID, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, append([]string{path}, args...), attr)
	if err != nil {
		return ID{}, nil, fmt.Errorf("start %s: %w", path, err)
	}
	c := make(chan syscall.WaitStatus, 1)
	r.mine[pid] = c
	s, _ := Look(pid) // it cannot be reaped before we let go of the lock
	return s.ID, c, nil
}
