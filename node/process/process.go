// Package process knows processes by more than a number: who runs, since when,
// and when it ends.
//
// A pid alone is a name that the kernel gives away again; here a process is its
// pid and its start time, it is signalled and awaited through a pidfd, and it
// is found by its exact arguments or its parents. An ended process that nobody
// has reaped yet counts as gone.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An ID is one process for as long as the machine runs. The zero ID is nobody.
type ID struct {
	PID   int
	Start uint64 // field 22 of /proc/PID/stat, clock ticks since boot
}

// String gives the pid.
func (id ID) String() string { return strconv.Itoa(id.PID) }

// A Stat is what /proc/PID/stat says of a process.
type Stat struct {
	ID
	Parent int
	State  byte // R, S, D, T, Z …
}

// Frozen reports whether the process can do nothing: stopped, or gone.
func (s Stat) Frozen() bool { return strings.IndexByte("TtZX", s.State) >= 0 }

// Look reads the state of pid; false when there is no such process. A zombie
// is still there to look at.
func Look(pid int) (Stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, false
	}
	// The second field is a name in parentheses that may hold anything.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return Stat{}, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return Stat{}, false
	}
	s := Stat{ID: ID{PID: pid}, State: f[0][0]}
	s.Parent, _ = strconv.Atoi(f[1])
	s.Start, _ = strconv.ParseUint(f[19], 10, 64)
	return s, s.Start > 0
}

// Of gives the ID of a running process.
func Of(pid int) (ID, bool) {
	s, ok := Look(pid)
	return s.ID, ok && s.State != 'Z' && s.State != 'X'
}

// Alive reports whether the process still runs.
func (id ID) Alive() bool {
	now, ok := Of(id.PID)
	return ok && now == id && id.PID > 0
}

// Args are the process's arguments.
func (id ID) Args() []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(id.PID) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// ErrGone says that the process has ended.
var ErrGone = errors.New("the process has ended")

// open returns a pidfd that certainly is id.
func (id ID) open() (int, error) {
	if id.PID <= 0 {
		return -1, ErrGone
	}
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return -1, ErrGone
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd of %d: %w", id.PID, err)
	}
	if !id.Alive() { // asked after opening: now the pidfd can be nobody else
		unix.Close(fd)
		return -1, ErrGone
	}
	return fd, nil
}

// Signal sends sig, or returns ErrGone.
func (id ID) Signal(sig unix.Signal) error {
	fd, err := id.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("signal %s to %d: %w", unix.SignalName(sig), id.PID, err)
	}
	return nil
}

// SignalAll sends sig to all, as nearly at the same moment as can be. Who is
// gone is left out.
func SignalAll(sig unix.Signal, ids ...ID) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, id := range ids {
		fd, err := id.open()
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	var errs []error
	for _, fd := range fds {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal %s: %w", unix.SignalName(sig), err))
		}
	}
	return errors.Join(errs...)
}

// Wait returns nil when the process has ended, or the cause of ctx's end.
func (id ID) Wait(ctx context.Context) error {
	fd, err := id.open()
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	// The file is pollable, so that waiting costs no thread.
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, _ := unix.Poll(p, 0)
		return n > 0
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("wait for %d: %w", id.PID, err)
	}
	return nil
}

// All are the processes of the machine, by pid.
func All() []Stat {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var all []Stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, ok := Look(pid); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Stat) int { return a.PID - b.PID })
	return all
}

// Family are the running processes among roots and all their descendants.
func Family(roots ...ID) []Stat {
	all := All()
	in := map[int]bool{}
	for _, r := range roots {
		if r.Alive() {
			in[r.PID] = true
		}
	}
	for again := true; again; {
		again = false
		for _, s := range all {
			if !in[s.PID] && in[s.Parent] {
				in[s.PID], again = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(s Stat) bool { return !in[s.PID] || s.State == 'Z' || s.State == 'X' })
}

// WithArgs is the oldest running process whose arguments after the program's
// name are exactly args, if there is one.
func WithArgs(args ...string) (ID, bool) {
	var oldest ID
	for _, s := range All() {
		if s.State == 'Z' || s.State == 'X' || (oldest.PID != 0 && s.Start >= oldest.Start) {
			continue
		}
		if a := s.Args(); len(a) > 0 && slices.Equal(a[1:], args) && s.PID != os.Getpid() {
			oldest = s.ID
		}
	}
	return oldest, oldest.PID != 0
}

// A File holds the ID of one process: "pid start" on one line.
type File string

// Write replaces the file; what a role could have put in its place is not
// followed.
func (f File) Write(id ID) error {
	aside, err := os.CreateTemp(filepath.Dir(string(f)), ".pid-")
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name())
	defer aside.Close()
	if err := aside.Chmod(0o644); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(aside, "%d %d\n", id.PID, id.Start); err != nil {
		return err
	}
	return os.Rename(aside.Name(), string(f))
}

// Read gives the process in the file if it still runs.
func (f File) Read() (ID, bool) {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return ID{}, false
	}
	var id ID
	if n, _ := fmt.Sscanf(string(b), "%d %d", &id.PID, &id.Start); n != 2 {
		return ID{}, false
	}
	return id, id.Alive()
}
