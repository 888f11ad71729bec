package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/spec"
)

// server is the PostgreSQL of one data directory, as the guard sees it: from
// outside, by its processes.
type server struct{ data string }

// Postmaster returns the live postmaster. The pid file alone proves nothing:
// the process must also work in the data directory.
func (s server) Postmaster() (process.ID, bool) {
	b, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return process.ID{}, false
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		return process.ID{}, false
	}
	dir, err := os.Stat(s.data)
	if err != nil || !(process.ID{PID: pid}).In(dir) {
		return process.ID{}, false
	}
	return process.Of(pid)
}

// Orphaned names a server whose postmaster is gone while others of its processes
// live: still known, else by the first of them.
func (s server) Orphaned(known process.ID) process.ID {
	all, err := process.WorkingIn(s.data)
	if err != nil || len(all) == 0 {
		return process.ID{}
	}
	if known.PID != 0 {
		return known
	}
	return all[0].ID
}

// Standby reports whether the server cannot write yet: PostgreSQL removes the
// file for good when a promotion ends, before it accepts the first write.
func (s server) Standby() bool {
	for _, name := range []string{"standby.signal", "recovery.signal"} {
		if _, err := os.Stat(filepath.Join(s.data, name)); err == nil {
			return true
		}
	}
	return false
}

// Frozen reports whether all its processes are stopped.
func (s server) Frozen() bool {
	all, err := process.WorkingIn(s.data)
	for _, p := range all {
		if !p.Frozen() {
			return false
		}
	}
	return err == nil && len(all) > 0
}

// freezeTime bounds a freeze: a process in an uninterruptible wait stops only
// when that ends.
const freezeTime = 2 * time.Second

// Freeze stops the postmaster, so that no process is added, then all others,
// and returns when every one was seen stopped.
func (s server) Freeze() error {
	if master, ok := s.Postmaster(); ok {
		if err := master.Signal(unix.SIGSTOP); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
	}
	for end := time.Now().Add(freezeTime); ; time.Sleep(500 * time.Microsecond) {
		all, err := process.WorkingIn(s.data)
		if err != nil {
			return err
		}
		running := 0
		for _, p := range all {
			if !p.Frozen() {
				running++
				if err := p.Signal(unix.SIGSTOP); err != nil && !errors.Is(err, process.ErrGone) {
					return err
				}
			}
		}
		if running == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("freeze %s: %d of %d processes still run", s.data, running, len(all))
		}
	}
}

// Thaw lets all go on, the postmaster last.
func (s server) Thaw() error {
	all, err := process.WorkingIn(s.data)
	if err != nil {
		return err
	}
	master, _ := s.Postmaster()
	for _, p := range all {
		if p.ID == master {
			continue
		}
		if err := p.Signal(unix.SIGCONT); err != nil && !errors.Is(err, process.ErrGone) {
			return err
		}
	}
	if err := master.Signal(unix.SIGCONT); err != nil && !errors.Is(err, process.ErrGone) {
		return err
	}
	return nil
}

// Kill ends every process of the server and returns when none is left.
func (s server) Kill() error {
	if master, ok := s.Postmaster(); ok {
		master.Signal(unix.SIGKILL)
	}
	for end := time.Now().Add(freezeTime); ; time.Sleep(time.Millisecond) {
		all, err := process.WorkingIn(s.data)
		if err != nil || len(all) == 0 {
			return err
		}
		for _, p := range all {
			p.Signal(unix.SIGKILL)
		}
		if time.Now().After(end) {
			return fmt.Errorf("kill %s: %d processes remain", s.data, len(all))
		}
	}
}

// Postmaster returns the live postmaster of n.
func Postmaster(n spec.Node) (process.ID, bool) { return server{n.Postgres.Data}.Postmaster() }
