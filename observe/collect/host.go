package collect

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/observe/host"
)

// A Host looks at the machine.
type Host struct {
	root string

	mu    sync.Mutex
	stuck map[string]bool // file systems that were asked and have not answered
}

// NewHost is the machine whose /proc and /sys are under root.
func NewHost(root string) *Host { return &Host{root: root, stuck: map[string]bool{}} }

// statWithin is how long all file systems may take to answer. One that hangs, as
// one over a network may for ever, is not asked again before it has answered.
const statWithin = 2 * time.Second

// Metrics is how the machine is now.
func (h *Host) Metrics(ctx context.Context) []byte {
	began := time.Now()
	f := host.Facts{Files: map[string]string{}}
	read := func(path string) {
		// What this kernel has not, or does not tell us, is left out.
		if text, err := os.ReadFile(filepath.Join(h.root, path)); err == nil {
			f.Files[path] = string(text)
		}
	}
	for _, path := range host.Proc {
		read(path)
	}
	for _, pattern := range host.Sys {
		files, _ := filepath.Glob(filepath.Join(h.root, pattern)) // only a malformed pattern is an error
		for _, file := range files {
			if path, err := filepath.Rel(h.root, file); err == nil {
				read(path)
			}
		}
	}
	if text, err := os.ReadFile(filepath.Join(h.root, "proc/self/mounts")); err == nil {
		f.Mounts = h.ask(ctx, host.Mounts(string(text)))
	}
	f.Names = names()
	f.Clock = clock()
	f.Took = time.Since(began)
	return host.Metrics(f)
}

// ask asks all of them at once; who does not answer in time has failed.
func (h *Host) ask(ctx context.Context, all []host.Mount) []host.Mount {
	ctx, cancel := context.WithTimeout(ctx, statWithin)
	defer cancel()
	answers := make([]chan host.Mount, len(all))
	for i, m := range all {
		h.mu.Lock()
		waits := h.stuck[m.Point]
		h.stuck[m.Point] = true
		h.mu.Unlock()
		if waits {
			continue
		}
		answers[i] = make(chan host.Mount, 1)
		go func() { // nobody can wait for it: the kernel may never return
			got := stat(m)
			h.mu.Lock()
			delete(h.stuck, m.Point)
			h.mu.Unlock()
			answers[i] <- got
		}()
	}
	for i, answer := range answers {
		if answer == nil {
			all[i].Failed = true
			continue
		}
		select {
		case all[i] = <-answer:
		case <-ctx.Done():
			all[i].Failed = true
		}
	}
	return all
}

func stat(m host.Mount) host.Mount {
	var s unix.Statfs_t
	if err := unix.Statfs(m.Point, &s); err != nil {
		m.Failed = true
		return m
	}
	block := float64(s.Bsize)
	m.Size, m.Free, m.Avail = float64(s.Blocks)*block, float64(s.Bfree)*block, float64(s.Bavail)*block
	m.Files, m.FilesFree = float64(s.Files), float64(s.Ffree)
	return m
}

func names() host.Names {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return host.Names{}
	}
	text := func(b [65]byte) string { return unix.ByteSliceToString(b[:]) }
	return host.Names{
		Sysname: text(u.Sysname), Release: text(u.Release), Version: text(u.Version), Machine: text(u.Machine),
		Nodename: text(u.Nodename), Domainname: text(u.Domainname),
	}
}

// clock asks the kernel without changing anything (adjtimex(2), modes 0).
func clock() *host.Clock {
	var x unix.Timex
	state, err := unix.Adjtimex(&x)
	if err != nil {
		return nil
	}
	unit := time.Microsecond
	if x.Status&unix.STA_NANO != 0 {
		unit = time.Nanosecond
	}
	return &host.Clock{
		Synced: state != unix.TIME_ERROR && x.Status&unix.STA_UNSYNC == 0, Status: int(x.Status),
		Offset: time.Duration(x.Offset) * unit, Frequency: int64(x.Freq),
	}
}
