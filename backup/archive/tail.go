package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A Tail is what a repository has of a segment that is not archived: pieces of
// it, in the order in which they were written.
type Tail struct {
	Segment string
	End     int64 // so many bytes from its beginning are there
	id      string
	pieces  []repo.Piece
}

// Tails finds those of segments that are not before first, whatever their
// timeline; first may be "".
func Tails(ctx context.Context, s *stanza.Stanza, id, first string) (map[string]Tail, error) {
	dirs, err := s.List(ctx, repo.TailPath(s.Name, id))
	all := map[string]Tail{}
	for _, d := range dirs {
		if !d.Dir || !repo.IsSegment(d.Name) || first != "" && d.Name[8:] < first[8:] {
			continue
		}
		list, err := s.List(ctx, repo.TailPath(s.Name, id, d.Name))
		if err != nil {
			return nil, err
		}
		var pieces []repo.Piece
		for _, e := range list {
			if p, ok := repo.ParsePiece(e.Name); ok {
				pieces = append(pieces, p)
			}
		}
		t := Tail{Segment: d.Name, id: id}
		if t.pieces, t.End = repo.Lead(pieces); t.End > 0 {
			all[d.Name] = t
		}
	}
	return all, err
}

// Upto is the tail without what lies behind end.
func (t Tail) Upto(end int64) Tail {
	t.End = min(t.End, end)
	return t
}

// Into writes the segment to path, with zeros behind what there is of it: to
// PostgreSQL the log ends there. A piece whose content has another checksum is an
// error.
func (t Tail) Into(ctx context.Context, s *stanza.Stanza, path string, size int64) (err error) {
	i, err := info(ctx, s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	// They are small, and what takes time is to wait for them.
	errs, next := make([]error, fetchers), make(chan repo.Piece)
	var all sync.WaitGroup
	for n := range fetchers {
		all.Go(func() {
			for p := range next {
				if errs[n] == nil {
					errs[n] = t.piece(ctx, s, p, repo.Coding{Compress: p.Coding, Pass: i.Cipher}, f)
				}
			}
		})
	}
	for _, p := range t.pieces {
		next <- p
	}
	close(next)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// Whatever a piece had beyond the end is taken back.
	if err := f.Truncate(min(t.End, size)); err != nil {
		return err
	}
	return f.Truncate(size)
}

// fetchers read pieces at once.
const fetchers = 8

// piece writes one to where it belongs.
func (t Tail) piece(ctx context.Context, s *stanza.Stanza, p repo.Piece, c repo.Coding, to io.WriterAt) error {
	name := repo.TailPath(s.Name, t.id, t.Segment, p.String())
	sealed, err := s.Fetch(ctx, name, 0, -1, c, io.NewOffsetWriter(to, p.From))
	if err == nil && sealed.Checksum != p.Checksum {
		err = repo.Errorf(repo.Checksum, "'%s' is damaged: its content has checksum %s", name, sealed.Checksum)
	}
	return err
}

// RemoveTail removes what there is of a segment.
func RemoveTail(ctx context.Context, s *stanza.Stanza, id, segment string) error {
	return s.RemoveAll(ctx, repo.TailPath(s.Name, id, segment))
}

// SweepTails removes tails whose segments are archived, and those that are older
// than all that a backup needs. What a timeline had that was left stays as long
// as its log would: nothing else may have it. keep is being written.
func SweepTails(ctx context.Context, s *stanza.Stanza, keep string) error {
	backups, err := s.BackupInfo(ctx)
	if err != nil {
		return err
	}
	ids, err := s.List(ctx, repo.TailPath(s.Name))
	if err != nil {
		return err
	}
	for _, id := range ids {
		dirs, err := s.List(ctx, repo.TailPath(s.Name, id.Name))
		if err != nil {
			return err
		}
		first := backups.FirstSegment(id.Name)
		for _, d := range dirs {
			if !d.Dir || !repo.IsSegment(d.Name) || d.Name == keep {
				continue
			}
			if first == "" || d.Name[8:] >= first[8:] {
				_, err := Find(ctx, s, id.Name, d.Name)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return fmt.Errorf("tail of %s: %w", d.Name, err)
				}
			}
			if err := RemoveTail(ctx, s, id.Name, d.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
