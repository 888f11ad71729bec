package archive

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pg"
)

// A Stream brings the log into a repository while it is being written: what has
// come since the last time is a piece more of the tail. It reads pg_wal, so the
// server has nothing to do with it, keeps nothing for it and does not wait; and
// it reads only what the server says to be on disk, so that no other server of
// that timeline can have something else there.
type Stream struct {
	Path   string // data directory, of a primary or a standby
	Stanza *stanza.Stanza
	DB     repo.DB // of the server
	Coding repo.Coding
	Voice  stanza.Voice

	id   string          // of the archive; "": not begun
	pass repo.Coding     // Coding, with the archive's key
	at   Position        // up to here it is in the repository
	past map[string]bool // segments of which there may be a tail, and which are done
	buf  bytes.Buffer
}

// A Position is a place in the log, on disk.
type Position struct {
	Timeline pg.Timeline
	LSN      pg.LSN
	Size     int64 // of a segment
}

// segment is that in which the byte at p lies, and where it begins.
func (p Position) segment() (name string, begins pg.LSN) {
	return p.Timeline.Segment(p.LSN, uint64(p.Size)), p.LSN - p.LSN%pg.LSN(p.Size)
}

const (
	pieceSize = 4 << 20 // bytes of the log that are stored at once, at most
	pageSize  = 8 << 10 // of the log: XLOG_BLCKSZ
	backlog   = 16      // segments that a new stream looks back for what is not archived
)

// At is up to where the log is in the repository.
func (s *Stream) At() Position { return s.at }

// Segment is the one that is being stored; "" before the first.
func (s *Stream) Segment() string {
	if s.id == "" {
		return ""
	}
	name, _ := s.at.segment()
	return name
}

// Ship stores what is there up to to, and returns when it is durable.
func (s *Stream) Ship(ctx context.Context, to Position) error {
	if same := s.id != "" && to.Timeline == s.at.Timeline; same && to.LSN <= s.at.LSN {
		return nil // a standby that connects again begins at a segment's beginning
	} else if !same || to.LSN-s.at.LSN > backlog*pg.LSN(to.Size) {
		if err := s.begin(ctx, to); err != nil {
			return err
		}
	}
	for s.at.LSN < to.LSN {
		err := s.piece(ctx, to)
		if errors.Is(err, fs.ErrNotExist) { // the server has no use for it any more
			_, begins := to.segment()
			if s.at.LSN >= begins {
				return err
			}
			s.at.LSN = begins
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin finds where the archive ends.
func (s *Stream) begin(ctx context.Context, to Position) error {
	i, err := info(ctx, s.Stanza)
	if err != nil {
		return err
	}
	if !i.DB.Same(s.DB) {
		return repo.Errorf(repo.ArchiveMismatch, "%s is of another database", s.Stanza)
	}
	if to.Timeline > 1 { // without its history nobody comes to that timeline
		history := filepath.Join(s.Path, "pg_wal", to.Timeline.HistoryFile())
		if err := (Push{Path: history, Voice: s.Voice}).To(ctx, s.Stanza); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	at := to
	_, at.LSN = to.segment()
	for range backlog {
		before := at
		if before.LSN -= pg.LSN(to.Size); before.LSN > at.LSN || before.LSN == 0 {
			break
		}
		name, _ := before.segment()
		if _, err := os.Stat(filepath.Join(s.Path, "pg_wal", name)); err != nil {
			break
		}
		if _, err := Find(ctx, s.Stanza, i.DB.ArchiveID(), name); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			break
		}
		at = before
	}
	s.id, s.at, s.past = i.DB.ArchiveID(), at, map[string]bool{}
	s.pass = s.Coding
	s.pass.Pass = i.Cipher
	return nil
}

// piece stores what comes next, of one segment.
func (s *Stream) piece(ctx context.Context, to Position) error {
	name, begins := s.at.segment()
	from := int64(s.at.LSN - begins)
	end := min(from+pieceSize, s.at.Size, int64(to.LSN-begins))
	data, err := s.read(name, begins, from, end)
	if err != nil {
		return err
	}
	sum := sha1.Sum(data)
	p := repo.Piece{From: from, To: end, Checksum: hex.EncodeToString(sum[:]), Coding: s.pass.Compress}
	if _, err := s.Stanza.Store(ctx, repo.TailPath(s.Stanza.Name, s.id, name, p.String()), s.pass, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}); err != nil {
		return err
	}
	s.at.LSN += pg.LSN(end - from)
	if end == s.at.Size {
		s.past[name] = true
	}
	return nil
}

// read reads a part of a segment, and proves by the pages' headers that the file
// was not given to another segment meanwhile.
func (s *Stream) read(name string, begins pg.LSN, from, end int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(s.Path, "pg_wal", name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	first := from - from%pageSize
	s.buf.Reset()
	s.buf.Grow(int(end - first))
	all := s.buf.AvailableBuffer()[:end-first]
	if _, err := f.ReadAt(all, first); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for at := int64(0); at+16 <= int64(len(all)); at += pageSize {
		// XLogPageHeaderData: its own place is in bytes 8 to 15. What follows the end
		// of a segment that was switched has no headers, and is zero.
		magic, addr := binary.NativeEndian.Uint16(all[at:]), pg.LSN(binary.NativeEndian.Uint64(all[at+8:]))
		if want := begins + pg.LSN(first+at); addr != want && (magic != 0 || addr != 0) {
			return nil, fmt.Errorf("%s: %w: page %s is %s", name, fs.ErrNotExist, want, addr)
		}
	}
	return all[from-first:], nil
}

// Tidy removes the tails of segments that this stream has finished and that are
// archived since.
func (s *Stream) Tidy(ctx context.Context) error {
	for name := range s.past {
		_, err := Find(ctx, s.Stanza, s.id, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = RemoveTail(ctx, s.Stanza, s.id, name)
		}
		if err != nil {
			return err
		}
		delete(s.past, name)
	}
	return nil
}
