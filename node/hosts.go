package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/names"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/spec"
)

// hosts keeps names in a file as /etc/hosts is one. The role that asks the stores says
// what they are; only the supervisor may write there, and it believes no more of that
// than the inventory has.
type hosts struct {
	node spec.Node
	log  *slog.Logger
	said string // what went wrong last
	// leaves, if set, says at the end that a successor keeps them true.
	leaves func() bool
}

// Run does so until ctx ends, and takes the names away then: nobody would keep them true.
func (h *hosts) Run(ctx context.Context) error {
	const look = 200 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	var seen os.FileInfo
	for {
		st, err := os.Lstat(nodefile.Names(h.node))
		if err == nil && (seen == nil || !os.SameFile(st, seen) || !st.ModTime().Equal(seen.ModTime())) {
			if h.say(h.follow()) {
				seen = st
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if h.leaves != nil && h.leaves() {
				return nil
			}
			h.say(putHosts(h.node.DNS.Hosts, nil))
			_ = os.Remove(nodefile.Names(h.node)) // the next begins with what is then
			return nil
		}
	}
}

// say tells once what went wrong.
func (h *hosts) say(err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != h.said && err != nil {
		h.log.Error("hosts file not written", logkey.Path, h.node.DNS.Hosts, logkey.Error, err)
	}
	h.said = text
	return err == nil
}

func (h *hosts) follow() error {
	const most = 1 << 20
	f, err := os.OpenFile(nodefile.Names(h.node), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err
	}
	lines := names.Known(strings.Split(string(text), "\n"), h.node.DNS.Zones)
	if len(lines) == 0 {
		return nil // it was not understood
	}
	return putHosts(h.node.DNS.Hosts, lines)
}

// errMoved says that somebody else wrote the file meanwhile.
var errMoved = errors.New("somebody else writes it at the same time")

// putHosts writes the file aside and puts it in the place of the old one, with that
// one's owner and permissions.
func putHosts(path string, lines []string) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	const times = 3
	for range times {
		if err = exchange(path, lines); !errors.Is(err, errMoved) {
			return err
		}
	}
	return err
}

func exchange(path string, lines []string) error {
	was, err := os.Stat(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	now, err := names.Merge(string(text), lines)
	if err != nil || now == string(text) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".hosts-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	owner := was.Sys().(*syscall.Stat_t)
	if err := errors.Join(f.Chmod(was.Mode().Perm()), f.Chown(int(owner.Uid), int(owner.Gid))); err != nil {
		return err
	}
	label := make([]byte, 256) // SELinux's, where there is one; else it has its directory's
	if n, err := unix.Getxattr(path, "security.selinux", label); err == nil {
		_ = unix.Fsetxattr(int(f.Fd()), "security.selinux", label[:n], 0)
	}
	if _, err := f.WriteString(now); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if st, err := os.Stat(path); err != nil || !os.SameFile(st, was) || !st.ModTime().Equal(was.ModTime()) || st.Size() != was.Size() {
		return errMoved
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("put it in place: %w", err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
