package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Proc is one process, told from a later one with the same pid by its start
// time on the boot clock.
type Proc struct {
	PID     int
	Ticks   uint64    // field 22 of /proc/PID/stat
	Started time.Time // of a postmaster: from postmaster.pid
}

// pidFile is postmaster.pid (src/include/utils/pidfile.h).
type pidFile struct {
	pid     int // negative: a single-user server
	started time.Time
	key     uint32 // of its System V segment (sysv_shmem.c); 0: it has not said yet
	id      int    // of the same
	status  string // "starting", "stopping", "ready", "standby", or "" before the first is written
}

func readPIDFile(data string) (f pidFile, ok bool) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return f, false
	}
	lines := strings.Split(string(text), "\n")
	if f.pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil {
		return f, false
	}
	if len(lines) > 2 {
		if sec, err := strconv.ParseInt(strings.TrimSpace(lines[2]), 10, 64); err == nil {
			f.started = time.Unix(sec, 0)
		}
	}
	if len(lines) > 6 {
		_, _ = fmt.Sscan(lines[6], &f.key, &f.id) // LOCK_FILE_LINE_SHMEM_KEY; empty until it is made
	}
	if len(lines) > 7 {
		f.status = strings.TrimSpace(lines[7])
	}
	return f, true
}

// Postmaster returns the live postmaster of a data directory. The pid file
// alone proves nothing (it outlives a crash, and its pid is given out again):
// the process must be a postgres whose working directory is the data directory.
func Postmaster(data string) (Proc, bool) {
	f, ok := readPIDFile(data)
	if !ok || f.pid <= 0 {
		return Proc{}, false
	}
	dir, err := placeOf(data)
	if err != nil || !dir.heldBy(f.pid) {
		return Proc{}, false
	}
	st, ok := readStat(f.pid)
	if !ok || st.dead() {
		return Proc{}, false
	}
	return Proc{PID: f.pid, Ticks: st.ticks, Started: f.started}, true
}

// procStat is what we need of /proc/PID/stat.
type procStat struct {
	state  byte // R, S, D, T stopped, t traced, Z zombie, X dead
	parent int
	ticks  uint64
}

// goes says that this very process is there, and not stopped where it stands.
func (p Proc) goes() bool {
	if p.PID == 0 {
		return false
	}
	st, ok := readStat(p.PID)
	return ok && st.ticks == p.Ticks && !st.dead() && !st.stopped() && !doomed(p.PID)
}

func (s procStat) dead() bool    { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }
func (s procStat) stopped() bool { return s.state == 'T' || s.state == 't' }

func readStat(pid int) (s procStat, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, false
	}
	// The name in parentheses may contain anything, parentheses included.
	end := strings.LastIndexByte(string(text), ')')
	f := strings.Fields(string(text[end+1:]))
	if end < 0 || len(f) < 20 {
		return s, false
	}
	s.state = f[0][0]
	s.parent, _ = strconv.Atoi(f[1])
	s.ticks, err = strconv.ParseUint(f[19], 10, 64)
	return s, err == nil
}

// A place is a data directory as the kernel knows it to be somebody's working
// directory: the directory itself, or what is left of one that was deleted at
// that path. A server whose directory was deleted under it goes on committing
// into the files that it has open, up to a minute
// (RecheckDataDirLockFile), so it must still be found.
//
// A directory that was renamed under its server is where that server still works,
// in full: its postmaster is known by the path that it was started with.
type place struct {
	path    string        // of the data directory, as servers are started with it
	dir     os.FileInfo   // nil: nothing is there
	deleted string        // what /proc/PID/cwd of such a server says
	moved   []os.FileInfo // where servers of this path work now
}

func placeOf(data string) (p place, err error) {
	path := data
	if parent, err := filepath.EvalSymlinks(filepath.Dir(data)); err == nil {
		path = filepath.Join(parent, filepath.Base(data))
	}
	if whole, err := filepath.EvalSymlinks(data); err == nil {
		path = whole
	}
	p.path, p.deleted = filepath.Clean(data), path+" (deleted)"
	if p.dir, err = os.Stat(data); os.IsNotExist(err) {
		p.dir, err = nil, nil
	}
	return p, err
}

// heldBy says whether pid is a PostgreSQL server process in the place. Every
// child has a session, group and environment of its own, and parent 1 once the
// postmaster is gone: the working directory is what they all keep.
func (p place) heldBy(pid int) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	cwd, err := os.Stat(proc + "/cwd")
	if err != nil {
		return false
	}
	same := func(dir os.FileInfo) bool { return os.SameFile(cwd, dir) }
	if (p.dir == nil || !same(p.dir)) && !slices.ContainsFunc(p.moved, same) {
		if st, ok := cwd.Sys().(*syscall.Stat_t); !ok || st.Nlink > 0 {
			return false
		}
		if link, err := os.Readlink(proc + "/cwd"); err != nil || link != p.deleted {
			return false
		}
	}
	exe, err := os.Readlink(proc + "/exe")
	if err != nil {
		return true // it is dying: its memory is gone, its files are not yet (do_exit)
	}
	// A child of ours between fork and exec is about to be one.
	self, _ := os.Readlink("/proc/self/exe")
	return exe == self || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == "postgres"
}

// strayed returns where the process works if it is a postmaster that was started
// on this data directory and is elsewhere now. Its own mount namespace may call
// another directory by the same path: one of a container is none of ours.
func (p place) strayed(pid int) (os.FileInfo, bool) {
	proc := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(proc + "/exe")
	if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
		return nil, false
	}
	line, _ := os.ReadFile(proc + "/cmdline")
	if !strings.Contains(string(line), "\x00-D\x00"+p.path+"\x00") {
		return nil, false
	}
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	if theirs, err := os.Readlink(proc + "/ns/mnt"); err != nil || theirs != ours {
		return nil, false
	}
	cwd, err := os.Stat(proc + "/cwd")
	if err != nil || p.dir != nil && os.SameFile(cwd, p.dir) {
		return nil, false
	}
	return cwd, true
}

// holder is a live process that holds the data directory.
type holder struct {
	Proc
	procStat
}

// holders returns every live process that holds the data directory.
func holders(data string) ([]holder, error) {
	dir, err := placeOf(data)
	if err != nil {
		return nil, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
			if at, ok := dir.strayed(pid); ok {
				dir.moved = append(dir.moved, at)
			}
		}
	}
	var found []holder
	for _, pid := range pids {
		if !dir.heldBy(pid) {
			continue
		}
		if st, ok := readStat(pid); ok && !st.dead() {
			found = append(found, holder{Proc{PID: pid, Ticks: st.ticks}, st})
		}
	}
	return found, nil
}

// alive says whether p itself still runs; a zombie does not.
func (p Proc) alive() bool {
	st, ok := readStat(p.PID)
	return ok && st.ticks == p.Ticks && !st.dead()
}

// doomed says that pid never again does anything that somebody could see: it was
// killed, and waits in the kernel for a disk that does not answer. A task with SIGKILL
// pending ends before it returns to its program (kernel/signal.c, get_signal), so it
// sends nothing and acknowledges nothing. What it had the kernel write may still be
// written, and its lock on the data directory is held: nobody else may work there.
func doomed(pid int) bool {
	if st, ok := readStat(pid); !ok || st.state != 'D' {
		return false // as good as always, and cheaper to see
	}
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		var waits, killed bool
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch key {
			case "State":
				waits = strings.HasPrefix(value, "D")
			case "SigPnd":
				mask, err := strconv.ParseUint(value, 16, 64)
				killed = err == nil && mask&(1<<(uint(unix.SIGKILL)-1)) != 0
			}
		}
		if !waits || !killed {
			return false
		}
	}
	return err == nil && len(tasks) > 0
}

// waitExit returns nil when p has died, however it was related to us, and the
// error of ctx when that ends first. A pidfd tells within a millisecond and
// cannot be fooled by a zombie or a pid given out again.
func (p Proc) waitExit(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return p.pollExit(ctx) // the process is gone, or the kernel is older than 5.10
	}
	file := os.NewFile(uintptr(fd), "pidfd") // in the runtime's poller: no thread waits
	defer file.Close()
	if !p.alive() {
		p.reap()
		return nil
	}
	stop := context.AfterFunc(ctx, func() { file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := file.SyscallConn()
	if err != nil {
		return p.pollExit(ctx)
	}
	// Looked at after the poller was armed, which forgets what it heard before: who has
	// died by then would be waited for without end.
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || p.alive() {
		return p.pollExit(ctx)
	}
	p.reap()
	return nil
}

func (p Proc) pollExit(ctx context.Context) error {
	return until(ctx, 20*time.Millisecond, func() (bool, error) {
		if p.alive() {
			return false, nil
		}
		p.reap()
		return true, nil
	})
}

// reap frees the entry of a dead child of ours; of any other process nothing.
func (p Proc) reap() {
	if st, ok := readStat(p.PID); ok && st.ticks == p.Ticks && st.parent == os.Getpid() {
		unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
	}
}

// until asks done every pause, at once first, until it says so, fails, or ctx ends.
func until(ctx context.Context, pause time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
