package logs

import (
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"howdah/observe/logbook"
	"howdah/problem"
)

// A file is a log file that is read, from where it was left.
type file struct {
	path   string
	device uint64
	inode  uint64
	f      *os.File
	at     int64 // how far it was read
	base   int64 // where its parser began
	parser logbook.Parser
	ready  []logbook.Record // read, and not taken yet
	ends   []int64          // where each of them ends
	taken  int64            // how far what was read was taken
	buf    []byte
	ended  bool
	idle   int // turns in which nothing came
}

// blockSize is how much of a file is read at a time.
const blockSize = 256 << 10

// patterns are the names of log files; a long one becomes the old one.
var patterns = []string{".log.1", ".log", ".csv", ".json"}

// find lists the log files of a directory.
func find(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, end := range patterns { // the old ones first
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), end) {
				all = append(all, filepath.Join(dir, e.Name()))
			}
		}
	}
	return all, err
}

// jobOf is who writes a file: agent.log.1 is the agent's.
func jobOf(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	if strings.HasPrefix(name, "postgres") {
		return logbook.Postgres
	}
	return name
}

// openFile opens the file at path, unless one of known is it.
func openFile(path string, s logbook.Source, known []*file) (*file, error) {
	if st, err := os.Stat(path); err == nil {
		if x := (&file{}).named(st); slices.ContainsFunc(known, x.same) {
			return nil, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s.Job = jobOf(path)
	x := (&file{path: path, f: f, parser: logbook.Parser{Source: s, Zone: time.Local}}).named(st)
	return x, nil
}

// unreadable is what a person hears of a file that can not be read.
func unreadable(path string, err error) error {
	return &problem.Error{
		Code: "logs-unreadable", What: "cannot read the log " + path, Why: err.Error(),
		Do: "see whether it is there; run as root or as the user of PostgreSQL", Err: err,
	}
}

func (x *file) named(st fs.FileInfo) *file {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		x.device, x.inode = uint64(s.Dev), s.Ino
	}
	return x
}

func (x *file) same(y *file) bool { return x.device == y.device && x.inode == y.inode }

// start has the file read from there.
func (x *file) start(at int64) {
	x.at, x.base, x.taken = at, at, at
}

// begins is the sum of the first bytes of the file, n of them at most.
func (x *file) begins(n int64) (sum uint32, of int, err error) {
	b := make([]byte, min(n, 64))
	if _, err := x.f.ReadAt(b, 0); err != nil {
		return 0, 0, err
	}
	return crc32.Checksum(b, castagnoli), len(b), nil
}

// resume has the file read from where all says that it was left; ok: it knows it.
func (x *file) resume(all []position) (ok bool) {
	i := slices.IndexFunc(all, func(p position) bool { return p.Device == x.device && p.Inode == x.inode })
	if i < 0 {
		return false
	}
	p := all[i]
	st, err := x.f.Stat()
	if err != nil || st.Size() < p.At {
		return false
	}
	if sum, of, err := x.begins(int64(p.Bytes)); err != nil || sum != p.Begins || of != p.Bytes {
		return false // the number is another file's now
	}
	x.start(p.At)
	return true
}

// position is how far what the file says was taken.
func (x *file) position() (position, error) {
	if len(x.ready) == 0 {
		x.taken = x.base + x.parser.Told()
	}
	p := position{Device: x.device, Inode: x.inode, At: x.taken}
	var err error
	p.Begins, p.Bytes, err = x.begins(p.At)
	return p, err
}

// read reads the next block; what it completes is ready. n is 0 at the end.
func (x *file) read() (n int, err error) {
	if x.buf == nil {
		x.buf = make([]byte, blockSize)
	}
	n, err = x.f.ReadAt(x.buf, x.at)
	x.at += int64(n)
	x.parser.Feed(x.buf[:n], x.keep)
	if err != nil && err != io.EOF {
		return n, unreadable(x.path, err)
	}
	return n, nil
}

// fill reads until a record is ready, or the file is at its end.
func (x *file) fill() error {
	for len(x.ready) == 0 && !x.ended {
		n, err := x.read()
		if err != nil {
			return err
		}
		x.ended = n == 0
	}
	return nil
}

func (x *file) keep(r logbook.Record) {
	x.ready, x.ends = append(x.ready, r), append(x.ends, x.base+x.parser.Told())
}

// take takes the first of those that are ready.
func (x *file) take() logbook.Record {
	r := x.ready[0]
	x.taken = x.ends[0]
	x.ready, x.ends = x.ready[1:], x.ends[1:]
	return r
}

// look prepares the next turn: it sees whether more has come. A file that became
// shorter was begun anew. Of one for which nothing came since the turn before the last
// record has ended. One that is known by no name any more has gone, once it is read.
func (x *file) look() (gone bool, err error) {
	st, err := x.f.Stat()
	if err != nil {
		return false, err
	}
	switch {
	case st.Size() < x.at:
		x.parser.Finish(x.keep)
		x.parser = logbook.Parser{Source: x.parser.Source, Zone: x.parser.Zone}
		x.at, x.base, x.idle, x.ended = 0, 0, 0, false
		return false, nil
	case st.Size() > x.at:
		x.idle, x.ended = 0, false
		return false, nil
	}
	if x.idle++; x.idle == 1 {
		x.parser.End(x.keep) // nothing more belongs to it
	}
	if named, ok := st.Sys().(*syscall.Stat_t); ok && named.Nlink == 0 && len(x.ready) == 0 {
		x.parser.Finish(x.keep)
		return len(x.ready) == 0, nil
	}
	return false, nil
}
