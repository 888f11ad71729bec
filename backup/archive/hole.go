package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/nodefile"
)

const holeSuffix = ".json"

// lost is where notes are of WAL that was given up for a repository, a file for each
// time. They go when that is recorded in the repository, and a backup has been made.
func (s Spool) lost(at *stanza.Stanza) string { return filepath.Join(s.Dir, "lost", at.Mark()) }

// GiveUp notes it. Unlike the other notes this one is to last: nothing else tells of it.
func (s Spool) GiveUp(at *stanza.Stanza, h repo.Hole) error {
	if err := os.MkdirAll(s.lost(at), 0o750); err != nil {
		return err
	}
	return nodefile.WriteFile(filepath.Join(s.lost(at), h.First+holeSuffix), h.Bytes(), 0o640, -1, -1)
}

// GivenUp is what was noted of a repository, in the order of the log.
func (s Spool) GivenUp(at *stanza.Stanza) ([]repo.Hole, error) {
	var all []repo.Hole
	for _, dir := range []string{s.lost(at), filepath.Dir(s.lost(at))} { // until a cluster could have several they were there
		list, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range list {
			if e.IsDir() || !strings.HasSuffix(e.Name(), holeSuffix) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			h, err := repo.ParseHole(data)
			if err != nil {
				return nil, err
			}
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b repo.Hole) int { return strings.Compare(a.First, b.First) })
	return all, nil
}

// Settled removes the note of a hole that is recorded.
func (s Spool) Settled(at *stanza.Stanza, h repo.Hole) error {
	err := os.Remove(filepath.Join(s.lost(at), h.First+holeSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(filepath.Join(filepath.Dir(s.lost(at)), h.First+holeSuffix))
	}
	return err
}

// Histories pushes those of a server's timelines that were given up with the log
// around them: without them recovery does not find the way.
func Histories(ctx context.Context, s *stanza.Stanza, wal string, voice stanza.Voice) error {
	i, err := info(ctx, s)
	if err != nil {
		return err
	}
	here, err := os.ReadDir(wal)
	if err != nil {
		return err
	}
	there, err := s.List(ctx, repo.ArchivePath(s.Name, i.DB.ArchiveID()))
	if err != nil {
		return err
	}
	for _, e := range here {
		if !strings.HasSuffix(e.Name(), ".history") || !repo.IsWAL(e.Name()) || slices.ContainsFunc(there, func(t repo.Entry) bool { return t.Name == e.Name() }) {
			continue
		}
		if st, err := e.Info(); err != nil || st.Size() == 0 { // the mark of a number that somebody else may use
			continue
		}
		if err := (Push{Path: filepath.Join(wal, e.Name()), Voice: voice}).To(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// Record puts a hole into the repository.
func Record(ctx context.Context, s *stanza.Stanza, id string, h repo.Hole) error {
	_, err := s.Store(ctx, repo.HolePath(s.Name, id, h.First+holeSuffix), repo.Coding{Pass: s.Pass}, func(w io.Writer) error {
		_, err := w.Write(h.Bytes())
		return err
	})
	return err
}

// Holes are those that are recorded in the repository, in the order of the log.
func Holes(ctx context.Context, s *stanza.Stanza, id string) ([]repo.Hole, error) {
	list, err := s.List(ctx, repo.HolePath(s.Name, id))
	if err != nil {
		return nil, err
	}
	var all []repo.Hole
	for _, e := range list {
		if e.Dir || !strings.HasSuffix(e.Name, holeSuffix) {
			continue
		}
		name := repo.HolePath(s.Name, id, e.Name)
		h, err := hole(ctx, s, name)
		if err != nil { // the phrase may be another one, of which this is not written yet
			other, none := hole(ctx, s, name+stanza.Rekeyed)
			if none != nil {
				return nil, err
			}
			h = other
		}
		all = append(all, h)
	}
	return all, nil
}

func hole(ctx context.Context, s *stanza.Stanza, name string) (repo.Hole, error) {
	var data bytes.Buffer
	if _, err := s.Fetch(ctx, name, 0, -1, repo.Coding{Pass: s.Pass}, &data); err != nil {
		return repo.Hole{}, err
	}
	return repo.ParseHole(data.Bytes())
}

// ForgetHoles removes records of holes that lie before first: no backup that is
// left leads into them.
func ForgetHoles(ctx context.Context, s *stanza.Stanza, id, first string) error {
	holes, err := Holes(ctx, s, id)
	if err != nil {
		return err
	}
	var gone []string
	for _, h := range holes {
		if h.Last[8:] < first[8:] {
			gone = append(gone, repo.HolePath(s.Name, id, h.First+holeSuffix))
		}
	}
	return s.Remove(ctx, gone...)
}
