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

// Into pushes what is missing, and returns the names.
func (f Fill) Into(ctx context.Context, s *stanza.Stanza) ([]string, error) {
	control, err := server.ReadControl(f.Path)
	if err != nil {
		return nil, err
	}
	// The control file may still name the timeline that was left: the newest
	// history in pg_wal is that of the server's own.
	list, err := os.ReadDir(filepath.Join(f.Path, "pg_wal"))
	if err != nil {
		return nil, err
	}
	newest := ""
	for _, e := range list {
		if name := e.Name(); len(name) == len("00000002.history") && repo.IsWAL(name) {
			newest = name
		}
	}
	if newest == "" {
		return nil, nil // never promoted
	}
	text, err := os.ReadFile(filepath.Join(f.Path, "pg_wal", newest))
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
	var pushed []string
	for _, e := range list {
		name := e.Name()
		if !repo.IsSegment(name) || !left(name, history, control.Segment) {
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
