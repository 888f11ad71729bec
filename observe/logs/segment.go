package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/problem"
	"howdah/spec"
)

const (
	suffix      = ".hlog"
	segmentSize = 16 << 20       // of a segment; the last one is never expired
	segmentAge  = 24 * time.Hour // from its first block to its last
	freeShare   = 20             // of the disk's bytes one in so many stays free of logs
)

// A reference is where a block is.
type reference struct {
	head
	path string
	at   int64
	size int64
}

// segments are the files of a directory, the oldest first.
func segments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries { // sorted by name
		if strings.HasSuffix(e.Name(), suffix) {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all, err
}

// scan lists the blocks of a segment, as far as they are whole: its writer may be
// at work, or was cut off. Only the last one is looked at as a whole.
func scan(path string) (all []reference, end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	buf := make([]byte, preamble)
	for end < st.Size() {
		if _, err := f.ReadAt(buf[:preamble], end); err != nil {
			break
		}
		n, body, err := lengths(buf)
		size := preamble + n + body
		if err != nil || end+size > st.Size() {
			break
		}
		buf = slices.Grow(buf[:0], int(preamble+n))[:preamble+n]
		r := reference{path: path, at: end, size: size}
		if _, err := f.ReadAt(buf, end); err != nil || json.Unmarshal(buf[preamble:], &r.head) != nil {
			break
		}
		all = append(all, r)
		end += size
	}
	for len(all) > 0 {
		last := all[len(all)-1]
		if b, err := last.read(); err == nil && whole(b) {
			break
		}
		all, end = all[:len(all)-1], last.at
	}
	return all, end, nil
}

// read returns the bytes of the block.
func (r reference) read() ([]byte, error) {
	f, err := os.Open(r.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, r.size)
	_, err = f.ReadAt(b, r.at)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// A store appends blocks to the segments of a directory. It has one writer.
type store struct {
	own   spec.Logs
	files []string // segments, the last one is written to
	f     *os.File
	size  int64
	began time.Time
	read  []position // as the last block has it
}

// open finds where the last block ends; what stands behind it is cut off.
func open(own spec.Logs) (*store, error) {
	s := &store{own: own}
	if err := os.MkdirAll(own.Data, 0o700); err != nil {
		return nil, s.problem(err)
	}
	var err error
	if s.files, err = segments(own.Data); err != nil {
		return nil, s.problem(err)
	}
	if len(s.files) == 0 {
		return s, nil
	}
	// The newest block says how far files were read; the last segment may have none yet.
	for i := len(s.files) - 1; i >= 0; i-- {
		all, end, err := scan(s.files[i])
		if err != nil {
			return nil, s.problem(err)
		}
		if i == len(s.files)-1 {
			if s.f, err = os.OpenFile(s.files[i], os.O_WRONLY, 0); err == nil {
				err = s.f.Truncate(end)
			}
			if err != nil {
				return nil, errors.Join(s.problem(err), s.close())
			}
			s.size = end
			if len(all) > 0 {
				s.began = time.UnixMicro(all[0].From)
			}
		}
		if len(all) > 0 {
			s.read = all[len(all)-1].Files
			break
		}
	}
	return s, nil
}

func (s *store) close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

func (s *store) problem(err error) error {
	return &problem.Error{
		Code: "logs-store", What: "cannot keep logs in " + s.own.Data, Why: err.Error(),
		Do: "see that the user of PostgreSQL may write there, and that the disk has space; what was not kept yet is read again from the log files", Err: err,
	}
}

// append adds a block that was made of records of now, and lets go of what is too old
// or too much.
func (s *store) append(block []byte, read []position, now time.Time) error {
	if s.f != nil && (s.size+int64(len(block)) > s.segment() || now.Sub(s.began) > segmentAge) {
		if err := errors.Join(s.f.Sync(), s.close()); err != nil {
			return s.problem(err)
		}
	}
	if err := s.limit(int64(len(block)), now); err != nil {
		return err
	}
	if s.f == nil {
		number := 1
		if len(s.files) > 0 {
			_, _ = fmt.Sscanf(filepath.Base(s.files[len(s.files)-1]), "%d", &number) // else it begins with 2
			number++
		}
		path := filepath.Join(s.own.Data, fmt.Sprintf("%010d%s", number, suffix))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return s.problem(err)
		}
		s.f, s.size, s.began, s.files = f, 0, now, append(s.files, path)
	}
	if _, err := s.f.WriteAt(block, s.size); err != nil {
		return s.problem(err) // the next one begins at the same place
	}
	s.size += int64(len(block))
	s.read = read
	return nil
}

// segment is how large one may become: of few bytes in all no great part goes at once.
func (s *store) segment() int64 { return min(segmentSize, max(s.own.Size/8, 64<<10)) }

// limit removes the oldest segments until there is room for so many bytes more.
func (s *store) limit(more int64, now time.Time) error {
	total := more
	var sizes []int64
	for _, path := range s.files {
		st, err := os.Stat(path)
		if err != nil {
			sizes = append(sizes, 0)
			continue // somebody removed it
		}
		total, sizes = total+st.Size(), append(sizes, st.Size())
	}
	for len(s.files) > 1 || len(s.files) == 1 && s.f == nil {
		st, err := os.Stat(s.files[0])
		old := err != nil || now.Sub(st.ModTime()) > s.own.Keep
		if !old && total <= s.own.Size && s.room(more) {
			return nil
		}
		if err := os.Remove(s.files[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.problem(err)
		}
		total -= sizes[0]
		s.files, sizes = s.files[1:], sizes[1:]
	}
	if !s.room(more) {
		return s.problem(fmt.Errorf("less than one %dth of its disk is free, which logs leave to the database", freeShare))
	}
	return nil
}

// room says that the disk keeps enough for what matters more than logs.
func (s *store) room(more int64) bool {
	var st unix.Statfs_t
	if unix.Statfs(s.own.Data, &st) != nil {
		return true // whoever writes will see
	}
	return int64(st.Bavail)*st.Bsize-more > int64(st.Blocks)*st.Bsize/freeShare
}
