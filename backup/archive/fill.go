package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/backup/stanza"
	"howdah/pg"
)

// A Fill gives the archive what a former primary did not get to: whole segments
// of timelines that the server's own came from. A standby has them in pg_wal,
// but does not archive, and PostgreSQL marks them there as done.
type Fill struct {
	Path   string // the data directory of the server, which was promoted
	Coding repo.Coding
	Voice  stanza.Voice
}

// Timeline is the one that a server writes whose data directory this is, once
// it is promoted: the newest whose history is in pg_wal, which the control file
// may not name yet. While a promotion is under way it is still the former one.
func Timeline(data string) (pg.Timeline, error) {
	list, err := os.ReadDir(filepath.Join(data, "pg_wal"))
	return newest(list), err
}

// newest is the newest timeline with a history; the first one has none, and an
// empty one is the mark of a number that somebody else may use.
func newest(list []os.DirEntry) pg.Timeline {
	last := pg.Timeline(1)
	for _, e := range list {
		if name := e.Name(); len(name) != len(last.HistoryFile()) || !repo.IsWAL(name) {
			continue
		}
		t, err := strconv.ParseUint(e.Name()[:8], 16, 32)
		if st, unread := e.Info(); err == nil && unread == nil && st.Size() > 0 {
			last = max(last, pg.Timeline(t))
		}
	}
	return last
}

// Into pushes what is missing, and returns the names. The timeline is the
// server's: what belongs to those before it is archived then.
func (f Fill) Into(ctx context.Context, s *stanza.Stanza) (pushed []string, of pg.Timeline, err error) {
	control, err := server.ReadControl(f.Path)
	if err != nil {
		return nil, 0, err
	}
	list, err := os.ReadDir(filepath.Join(f.Path, "pg_wal"))
	if err != nil {
		return nil, 0, err
	}
	if of = newest(list); of == 1 {
		return nil, of, nil // never promoted
	}
	pushed, err = f.missing(ctx, s, list, of, control.Segment)
	return pushed, of, err
}

// missing pushes the segments of the list that belong to timelines before of.
func (f Fill) missing(ctx context.Context, s *stanza.Stanza, list []os.DirEntry, of pg.Timeline, size int64) (pushed []string, err error) {
	text, err := os.ReadFile(filepath.Join(f.Path, "pg_wal", of.HistoryFile()))
	if err != nil {
		return nil, err
	}
	history, err := pg.ParseHistory(string(text))
	if err != nil {
		return nil, err
	}
	info, err := info(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		name := e.Name()
		if !repo.IsSegment(name) || !left(name, history, size) {
			continue
		}
		_, err := Find(ctx, s, info.DB.ArchiveID(), name)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return pushed, err
		}
		err = Push{Path: filepath.Join(f.Path, "pg_wal", name), Coding: f.Coding, Voice: f.Voice}.To(ctx, s)
		if errors.Is(err, fs.ErrNotExist) {
			continue // recycled since it was listed
		}
		if err != nil {
			return pushed, err
		}
		pushed = append(pushed, name)
	}
	return pushed, nil
}

// left says that a segment lies whole before the point where its timeline was
// left for another one.
func left(name string, history pg.History, size int64) bool {
	timeline, err := strconv.ParseUint(name[:8], 16, 32)
	if err != nil {
		return false
	}
	at, ok := history.Left(pg.Timeline(timeline))
	return ok && name < pg.Timeline(timeline).Segment(at, uint64(size))
}

// A Mend gives an archive what another repository of the cluster has and it has not.
type Mend struct {
	Dir    string // where a segment lies on its way
	DB     repo.DB
	Size   int64 // of a segment
	Coding repo.Coding
	Voice  stanza.Voice
}

// Into brings the segments from first to last, which are of one timeline; whatever is
// there already stays. It ends at the first that nobody has: ErrAbsent.
func (m Mend) Into(ctx context.Context, to *stanza.Stanza, first, last string, from ...*stanza.Stanza) (n int, err error) {
	i, err := info(ctx, to)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(m.Dir, 0o750); err != nil {
		return 0, err
	}
	for name := first; name != "" && name <= last; name = After(name, m.Size) {
		_, err := Find(ctx, to, i.DB.ArchiveID(), name)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		path := filepath.Join(m.Dir, name)
		if err = (Get{Name: name, Dest: path, DB: m.DB, Voice: m.Voice}).From(ctx, from...); err == nil {
			err = Push{Path: path, Coding: m.Coding, Voice: m.Voice}.To(ctx, to)
		}
		if left := os.Remove(path); left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
