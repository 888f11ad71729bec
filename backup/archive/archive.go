// Package archive brings WAL into repositories and back.
//
// A segment is stored under its name and the SHA-1 of its content, so that
// pushing it again is seen to be nothing new, and pushing another content
// under its name is refused: whoever does that is a second primary. What comes
// back is proven against the name before PostgreSQL sees it, which pgBackRest
// does not do.
package archive

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A Push is one file for the archive.
type Push struct {
	Path     string // of the file; its last element is the WAL's name
	Coding   repo.Coding
	NoHeader bool // do not compare the segment's header with the stanza
	Voice    stanza.Voice

	known *catalog // of one of many; nil: nothing is
}

// To stores the file in every repository, or says in which it could not.
func (p Push) To(ctx context.Context, stanzas ...*stanza.Stanza) error {
	name := filepath.Base(p.Path)
	segment, partial := strings.CutSuffix(name, ".partial")
	if !repo.IsSegment(segment) {
		return each(stanzas, func(s *stanza.Stanza) error { return p.plain(ctx, s, name) })
	}
	h, sum, err := p.read()
	if err != nil {
		return err
	}
	return each(stanzas, func(s *stanza.Stanza) error {
		return p.segment(ctx, s, repo.Segment{Name: segment, Partial: partial, Checksum: sum}, h)
	})
}

// each tries all repositories: that one fails is no reason to keep WAL from another.
func each(stanzas []*stanza.Stanza, do func(*stanza.Stanza) error) error {
	var errs []error
	for _, s := range stanzas {
		if err := do(s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// read hashes the file and reads its header.
func (p Push) read() (h repo.WALHeader, sum string, err error) {
	f, err := os.Open(p.Path)
	if err != nil {
		return h, "", err
	}
	defer f.Close()
	var first [repo.WALHeaderSize]byte
	n, err := io.ReadFull(f, first[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return h, "", err
	}
	if !p.NoHeader {
		if h, err = repo.ParseWALHeader(first[:n]); err != nil {
			return h, "", fmt.Errorf("%s: %w", p.Path, err)
		}
	}
	all := sha1.New()
	all.Write(first[:n])
	if _, err := io.Copy(all, f); err != nil {
		return h, "", err
	}
	return h, hex.EncodeToString(all.Sum(nil)), nil
}

// info reads archive.info; without it nobody knows where WAL belongs.
func info(ctx context.Context, s *stanza.Stanza) (repo.ArchiveInfo, error) {
	i, err := s.ArchiveInfo(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = repo.Errorf(repo.RepoInvalid, "archive.info is missing on %s; has a stanza-create been performed? (%w)", s, err)
	}
	return i, err
}

func (p Push) segment(ctx context.Context, s *stanza.Stanza, want repo.Segment, h repo.WALHeader) error {
	i, err := p.known.info(ctx, s)
	if err != nil {
		return err
	}
	if !p.NoHeader && (h.Version != i.DB.Version || h.System != i.DB.System) {
		return repo.Errorf(repo.ArchiveMismatch,
			"WAL file '%s' version %s, system-id %s do not match stanza version %s, system-id %s; is this the correct stanza?",
			p.Path, h.Version, h.System, i.DB.Version, i.DB.System)
	}
	found, err := find(ctx, s, i.DB.ArchiveID(), want.Name, want.Partial)
	if err != nil {
		return err
	}
	for _, have := range found {
		if have.Checksum != want.Checksum {
			return repo.Errorf(repo.ArchiveDuplicate,
				"WAL file '%s' already exists in the %s archive with a different checksum; this is valid in some recovery scenarios but may also indicate a problem, like two primaries that archive to one stanza",
				want.Name, s)
		}
	}
	if len(found) > 0 {
		p.Voice.Warn("WAL file '%s' already exists in the %s archive with the same checksum; this is valid in some recovery scenarios but may also indicate a problem", want.Name, s)
		return nil
	}
	c := p.Coding
	c.Pass, want.Coding = i.Cipher, c.Compress
	if want.Coding == "" {
		want.Coding = repo.None
	}
	return p.store(ctx, s, repo.WALPath(s.Name, i.DB.ArchiveID(), want.String()), c, want.Checksum)
}

// plain stores a history or label file as it is.
func (p Push) plain(ctx context.Context, s *stanza.Stanza, name string) error {
	i, err := p.known.info(ctx, s)
	if err != nil {
		return err
	}
	return p.store(ctx, s, repo.WALPath(s.Name, i.DB.ArchiveID(), name), repo.Coding{Pass: i.Cipher}, "")
}

func (p Push) store(ctx context.Context, s *stanza.Stanza, name string, c repo.Coding, sum string) error {
	_, err := s.Store(ctx, name, c, func(w io.Writer) error {
		f, err := os.Open(p.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		// What went in is summed up anyway (stanza.Seal).
		if z, ok := w.(*repo.Sealer); sum != "" && (!ok || z.Sealed().Checksum != sum) {
			return repo.Errorf(repo.FileInvalid, "'%s' changed while it was read", p.Path)
		}
		return nil
	})
	return err
}

// find lists what is stored of a segment: nothing, or one, or what should not be.
func find(ctx context.Context, s *stanza.Stanza, id, name string, partial bool) ([]repo.Segment, error) {
	list, err := s.List(ctx, repo.ArchivePath(s.Name, id, name[:16]))
	var all []repo.Segment
	for _, e := range list {
		if have, ok := repo.ParseSegment(e.Name); ok && have.Name == name && have.Partial == partial {
			all = append(all, have)
		}
	}
	return all, err
}

// Find returns the one stored segment of a name; fs.ErrNotExist if there is none.
func Find(ctx context.Context, s *stanza.Stanza, id, name string) (repo.Segment, error) {
	found, err := find(ctx, s, id, name, false)
	switch {
	case err != nil:
		return repo.Segment{}, err
	case len(found) == 0:
		return repo.Segment{}, fs.ErrNotExist
	}
	for _, other := range found[1:] {
		if other.Checksum != found[0].Checksum {
			return repo.Segment{}, repo.Errorf(repo.ArchiveDuplicate, "duplicates found in the %s archive for WAL segment %s: %s, %s; are multiple primaries archiving to this stanza?", s, name, found[0], other)
		}
	}
	return found[0], nil
}

// poll is how often the archive is looked at for a segment that is awaited.
// Nobody tells: it is PostgreSQL's archiver that pushes.
const poll = 100 * time.Millisecond

// Wait returns when all segments are archived; it stands for whoever makes a
// backup, that is worth nothing without them.
func Wait(ctx context.Context, s *stanza.Stanza, id string, segments []string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for _, name := range segments {
		for {
			_, err := Find(ctx, s, id, name)
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return repo.Errorf(repo.ArchiveTimeout, "WAL segment %s was not archived before the %dms timeout; check the archive_command, the server's log and that %s is writable", name, limit.Milliseconds(), s)
			}
		}
	}
	return nil
}

// ErrAbsent says that no repository has the file, which is how PostgreSQL
// learns that the archive ends.
var ErrAbsent = errors.New("unable to find in the archive")

// A Get is one file from the archive.
type Get struct {
	Name  string  // of the segment or history file
	Dest  string  // where to write it
	DB    repo.DB // whose: version and system
	Voice stanza.Voice

	known *catalog // of one of many; nil: nothing is
}

// From writes the file from the first repository that has it undamaged.
func (g Get) From(ctx context.Context, stanzas ...*stanza.Stanza) error {
	if !repo.IsWAL(g.Name) {
		return ErrAbsent
	}
	var errs []error
	for _, s := range stanzas {
		err := g.from(ctx, s)
		if err == nil {
			for _, e := range errs {
				g.Voice.Warn("%s", e)
			}
			return nil
		}
		if !errors.Is(err, ErrAbsent) {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return ErrAbsent
}

func (g Get) from(ctx context.Context, s *stanza.Stanza) error {
	i, err := g.known.info(ctx, s)
	if err != nil {
		return err
	}
	known := false
	for n := len(i.History) - 1; n >= 0; n-- { // the newest first
		d := i.History[n]
		if !d.Same(g.DB) {
			continue
		}
		known = true
		err := g.one(ctx, s, d, i)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !known {
		return repo.Errorf(repo.ArchiveMismatch, "unable to retrieve the archive id for database version '%s' and system-id '%s'", g.DB.Version, g.DB.System)
	}
	return ErrAbsent
}

func (g Get) one(ctx context.Context, s *stanza.Stanza, d repo.DB, i repo.ArchiveInfo) error {
	segment, partial := strings.CutSuffix(g.Name, ".partial")
	stored, c, sum := g.Name, repo.Coding{Pass: i.Cipher}, ""
	if repo.IsSegment(segment) {
		found, err := g.known.find(ctx, s, d.ArchiveID(), segment, partial)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fs.ErrNotExist
		}
		for _, other := range found[1:] {
			if other.Checksum != found[0].Checksum {
				return repo.Errorf(repo.ArchiveDuplicate, "duplicates found in archive for WAL segment %s: %s, %s", segment, found[0], other)
			}
		}
		stored, c.Compress, sum = found[0].String(), found[0].Coding, found[0].Checksum
	}
	return g.write(ctx, s, repo.WALPath(s.Name, d.ArchiveID(), stored), c, sum)
}

// write puts the file where PostgreSQL wants it, whole or not at all. It need
// not be synced: PostgreSQL asks again after a crash.
func (g Get) write(ctx context.Context, s *stanza.Stanza, name string, c repo.Coding, sum string) error {
	temp := g.Dest + tempSuffix
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	var head headOf
	sealed, err := s.Fetch(ctx, name, 0, -1, c, io.MultiWriter(f, &head))
	if err = errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fs.ErrNotExist // gone since it was listed
		}
		return err
	}
	if sum != "" {
		if sealed.Checksum != sum {
			return repo.Errorf(repo.Checksum, "'%s' is damaged: its content has checksum %s", name, sealed.Checksum)
		}
		h, err := repo.ParseWALHeader(head.Bytes())
		if err == nil && (h.System != g.DB.System || h.Version != g.DB.Version) {
			err = repo.Errorf(repo.ArchiveMismatch, "'%s' is of version %s, system-id %s", name, h.Version, h.System)
		}
		if err != nil {
			return err
		}
	}
	return os.Rename(temp, g.Dest)
}

// headOf keeps the first bytes of a stream.
type headOf struct{ bytes.Buffer }

func (h *headOf) Write(p []byte) (int, error) {
	if more := repo.WALHeaderSize - h.Len(); more > 0 {
		h.Buffer.Write(p[:min(more, len(p))])
	}
	return len(p), nil
}
