package postgres

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// freezeTime bounds a freeze: a process in an uninterruptible wait stops only
// when it ends, and the guard must hear about it.
const freezeTime = time.Second

// Freeze stops every process that holds the data directory, the postmaster
// first so that it starts no more, then its children as the kernel lists them, and
// returns nil only when all were seen stopped. Signals are used because a cgroup
// is not there everywhere; the scan, which also finds what has no postmaster any
// more, repeats until nothing new appears. Nothing frozen can acknowledge.
func Freeze(data string) error {
	ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
	defer cancel()
	running := 0
	err := until(ctx, 2*time.Millisecond, func() (bool, error) {
		// Before the scan, which takes milliseconds in which it could fork, and
		// every child go on.
		if p, ok := Postmaster(data); ok {
			p.stop()
		}
		all, err := holders(data)
		if err != nil {
			return false, err
		}
		running = 0
		for _, h := range all {
			if !h.stopped() {
				running++
				unix.Kill(h.PID, unix.SIGSTOP)
			}
		}
		return running == 0, nil
	})
	if err != nil && running > 0 {
		return fmt.Errorf("freeze %s: %d processes still run: %w", data, running, err)
	}
	return err
}

// stop stops a postmaster and then every child that it has. Nobody reaps a child
// of a stopped postmaster, so no pid in the list is given to another process.
// A kernel without the list (CONFIG_PROC_CHILDREN) leaves the children to the scan.
func (p Proc) stop() {
	unix.Kill(p.PID, unix.SIGSTOP)
	pid := strconv.Itoa(p.PID)
	list, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		return
	}
	for _, child := range strings.Fields(string(list)) {
		if pid, err := strconv.Atoi(child); err == nil {
			unix.Kill(pid, unix.SIGSTOP)
		}
	}
}

// Thaw lets frozen processes go on, the postmaster last, so that it finds its
// children awake.
func Thaw(data string) error {
	all, err := holders(data)
	if err != nil {
		return err
	}
	master, _ := Postmaster(data)
	slices.SortFunc(all, func(a, b holder) int {
		return boolInt(a.PID == master.PID) - boolInt(b.PID == master.PID)
	})
	for _, h := range all {
		if err := unix.Kill(h.PID, unix.SIGCONT); err != nil && err != unix.ESRCH {
			return fmt.Errorf("thaw process %d: %w", h.PID, err)
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// soonDead is for how long processes may be on their way out.
const soonDead = time.Second

// Kill ends every process that holds the data directory, frozen ones too, and
// returns nil only when it saw that none is left, or that all that are left are
// doomed: then a disk does not let them end. A backend in a loop outlives
// its postmaster, so the postmaster's death alone proves nothing.
func Kill(ctx context.Context, data string) error {
	master, had := Postmaster(data)
	began := time.Now()
	alive := func(p Proc) bool { return p.alive() && (time.Since(began) < soonDead || !doomed(p.PID)) }
	killed := map[Proc]bool{}
	clean := 0
	return until(ctx, 2*time.Millisecond, func() (bool, error) {
		if had {
			unix.Kill(master.PID, unix.SIGKILL)
			had = false
		}
		all, err := holders(data)
		if err != nil {
			return false, err
		}
		for _, h := range all {
			if err := unix.Kill(h.PID, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return false, fmt.Errorf("kill process %d: %w", h.PID, err)
			}
			killed[h.Proc] = true
		}
		// The last thing a dying process lets go of is its working directory, and
		// even then it has not quite ended.
		for p := range killed {
			if alive(p) {
				return false, nil
			}
		}
		if slices.ContainsFunc(all, func(h holder) bool { return alive(h.Proc) }) {
			clean = 0
			return false, nil
		}
		// A child forked while the scan passed its pid shows in the next one.
		clean++
		master.reap()
		if clean < 2 {
			return false, nil
		}
		if len(all) == 0 {
			releaseSegment(data)
		}
		return true, nil
	})
}
