package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"howdah/pg"
	"howdah/problem"
)

// marker is a file beside the data directory while an initdb, a base backup
// or a rewind is at work in it: what stands there is not a database yet. Its
// text is the operation and the directory's identity, so that a directory which
// somebody put in its place is never taken for our own half work.
func (s *Server) marker() string { return s.beside("data.partial") }

// begin makes the data directory, if there is none, and marks it.
func (s *Server) begin(operation string) error {
	if _, err := os.Stat(s.node.Paths.Dir); errors.Is(err, fs.ErrNotExist) {
		if err := s.mkdir(s.node.Paths.Dir, 0o755); err != nil {
			return err
		}
	}
	if _, err := os.Stat(s.data); errors.Is(err, fs.ErrNotExist) {
		if err := s.mkdir(s.data, 0o700); err != nil {
			return err
		}
	}
	id, err := identity(s.data)
	if err != nil {
		return err
	}
	return s.write(s.marker(), operation+" "+id+"\n", 0o600)
}

// finish makes what was done durable and takes the mark away.
func (s *Server) finish() error {
	if err := syncDir(s.data); err != nil {
		return err
	}
	return remove(s.marker())
}

// unfinished returns the operation that was begun and not finished, or "".
func (s *Server) unfinished() string {
	text, err := os.ReadFile(s.marker())
	if err != nil {
		return ""
	}
	operation, id, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if now, err := identity(s.data); err != nil || now != id {
		return ""
	}
	return operation
}

// identity tells a directory from one that was put in its place.
func identity(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// dataState says what stands in the data directory; the error says why it is
// DataUnreadable.
func (s *Server) dataState() (pg.DataState, error) {
	names, err := readSome(s.data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.reachable("the data directory", filepath.Dir(s.data)); err != nil {
			return pg.DataUnreadable, err
		}
		return pg.DataMissing, nil
	case err != nil:
		if err := s.Check(); err != nil {
			return pg.DataUnreadable, err
		}
		return pg.DataUnreadable, s.unreadable(err)
	case s.unfinished() != "":
		return pg.DataPartial, nil
	case len(names) == 0:
		return pg.DataMissing, nil
	}
	if _, err := os.Stat(s.in("PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		return pg.DataUnreadable, &problem.Error{
			Code: "datadir-foreign", What: "cannot use the data directory " + s.data,
			Why: fmt.Sprintf("it holds %s, which is no database system", strings.Join(names, ", ")),
			Do:  "move that away or set another data directory; nothing was touched",
		}
	}
	if _, err := readControl(s.data); err != nil {
		return pg.DataUnreadable, s.unreadable(err)
	}
	return pg.DataPresent, nil
}

func (s *Server) unreadable(err error) error {
	return &problem.Error{
		Code: "datadir-unreadable", What: "cannot read the data directory " + s.data, Err: err,
		Do: "see whether the file system is mounted and whole; nothing was touched",
	}
}

// readSome returns a few names of a directory's entries.
func readSome(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(3)
	if err != nil && len(names) == 0 && err.Error() != "EOF" {
		return nil, err
	}
	return names, nil
}

// Check returns the first thing that would keep PostgreSQL from running here:
// a path its user cannot enter, a wrong owner, permissions that its server
// refuses, a socket path that is too long.
func (s *Server) Check() error {
	socket := filepath.Join(s.node.Paths.Sockets, fmt.Sprintf(".s.PGSQL.%d", s.node.Postgres.Port))
	if limit := len(unix.RawSockaddrUnix{}.Path) - 1; len(socket) > limit {
		return &problem.Error{
			Code: "socket-path-long", What: "cannot listen on " + socket,
			Why: fmt.Sprintf("the path of a socket has at most %d bytes and this one %d", limit, len(socket)),
			Do:  "choose a shorter directory",
		}
	}
	for _, way := range [][2]string{
		{"the data directory", filepath.Dir(s.data)},
		{"its programs", s.programs.Bin},
		{"the directory of its socket", filepath.Dir(s.node.Paths.Sockets)},
	} {
		if err := s.reachable(way[0], way[1]); err != nil {
			return err
		}
	}
	st, err := os.Stat(s.data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return s.unreadable(err)
	}
	if stat, ok := st.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != s.account.uid {
		return &problem.Error{
			Code: "datadir-owner", What: "cannot use the data directory " + s.data,
			Why: fmt.Sprintf("it belongs to user id %d, and PostgreSQL runs as %s (%d)", stat.Uid, s.account.name, s.account.uid),
			Do:  fmt.Sprintf("`chown -R %s: %s`", s.account.name, s.data),
		}
	}
	if mode := st.Mode().Perm(); mode != 0o700 && mode != 0o750 {
		names, _ := readSome(s.data)
		if len(names) > 0 { // an empty one gets its permissions from initdb
			return &problem.Error{
				Code: "datadir-permissions", What: "cannot use the data directory " + s.data,
				Why: fmt.Sprintf("its permissions are %04o and PostgreSQL wants 0700 or 0750", mode),
				Do:  "`chmod 0700 " + s.data + "`",
			}
		}
	}
	return nil
}

// reachable names the first directory on the way that PostgreSQL's user cannot enter.
func (s *Server) reachable(what, dir string) error {
	var way []string
	for d := dir; ; d = filepath.Dir(d) {
		way = append([]string{d}, way...)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range way {
		st, err := os.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // what is missing will be made
		}
		if err != nil || !s.account.mayEnter(st) {
			return &problem.Error{
				Code: "datadir-path", What: "PostgreSQL cannot reach " + what + " under " + dir,
				Why: fmt.Sprintf("user %s cannot enter %s", s.account.name, d), Err: err,
				Do: "`chmod o+x " + d + "`, or choose a directory that PostgreSQL's user can reach",
			}
		}
	}
	return nil
}

// mayEnter asks the permission bits, which is all that another user's rights
// can be told from.
func (a account) mayEnter(st os.FileInfo) bool {
	stat, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	mode := st.Mode().Perm()
	if int(stat.Uid) == a.uid {
		return mode&0o100 != 0
	}
	for _, g := range append([]uint32{uint32(a.gid)}, a.groups...) {
		if g == stat.Gid {
			return mode&0o010 != 0
		}
	}
	return mode&0o001 != 0
}

// full is the problem of a full file system, with its name and numbers.
func (s *Server) full(what string, err error) error {
	dir, free, size := s.tightest()
	mount, of := mountPoint(dir), ""
	if mount != dir {
		of = " of " + dir
	}
	return &problem.Error{
		Code: "disk-full", What: what + ": no space left",
		Why: fmt.Sprintf("the file system %s%s has %d of %d bytes free", mount, of, free, size),
		Do:  "free some space or enlarge it; it is tried again by itself", Err: err,
	}
}

// tightest is the directory of data or log whose file system has the least
// room, in bytes.
func (s *Server) tightest() (dir string, free, size int64) {
	free = math.MaxInt64
	for _, d := range []string{s.data, s.in("pg_wal")} {
		var st unix.Statfs_t
		for unix.Statfs(d, &st) != nil && d != "/" {
			d = filepath.Dir(d)
		}
		if here := int64(st.Bavail) * st.Bsize; here < free {
			dir, free, size = d, here, int64(st.Blocks)*st.Bsize
		}
	}
	return dir, free, size
}

// crowded returns the problem of a server that has no room for another segment
// of log: it ends with the next one that it needs.
func (s *Server) crowded(segment int64) error {
	if _, free, _ := s.tightest(); free >= segment {
		return nil
	}
	return s.full("PostgreSQL cannot go on", nil)
}

// mountPoint is the directory at which dir's file system is mounted.
func mountPoint(dir string) string {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return dir
	}
	for dir != "/" {
		var here, up unix.Stat_t
		if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Dir(dir), &up) != nil || here.Dev != up.Dev {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return dir
}
