package take

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // the format's checksum
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A Batch is what is stored as one object: a file, or a bundle of small ones.
type Batch struct {
	Files  []Wanted
	Coding repo.Coding
	Bundle bool
	Pages  bool // prove page checksums
}

// A Wanted is a file to be copied.
type Wanted struct {
	Name string // in the manifest
	Size int64  // with which it was listed: nothing beyond it is read, for what PostgreSQL appends since comes back from the log
	// Prior, if not nil, is its checksum in the prior backup; a file that still has
	// this size and checksum is not stored again.
	Prior *string
}

// A Copied says what became of one.
type Copied struct {
	Gone   bool // there is no such file any more
	Same   bool // it is as it was in the prior backup
	Sealed repo.Sealed
	Offset int64
	Pages  bool     // it consists of pages
	Wrong  []uint32 // whose checksums are wrong
	Off    bool     // its size is no multiple of a page
}

func (c Copied) stored(b Batch) bool {
	return !c.Gone && !c.Same && (c.Sealed.Size > 0 || !b.Bundle)
}

// A disk is a data directory from which files are copied.
type disk struct {
	root    string
	sources map[string]string // name in the manifest -> path, where that is known
}

func (d disk) path(name string) string {
	if p := d.sources[name]; p != "" {
		return p
	}
	return filepath.Join(d.root, strings.TrimPrefix(name, "pg_data/"))
}

// copy writes the files of b to w, each a stream of its own. read hears of every
// byte that was read, and may take its time.
func (d disk) copy(ctx context.Context, b Batch, w io.Writer, read func(n int) error) ([]Copied, error) {
	all := make([]Copied, len(b.Files))
	at := int64(0)
	for i, f := range b.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := probe{f: f, pages: b.Pages && paged(f.Name), at: d.path(f.Name), read: read}
		p.found.Pages = p.pages
		if err := p.copy(b, w); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if p.found.stored(b) {
			p.found.Offset = at
			at += p.found.Sealed.Stored
		}
		all[i] = p.found
	}
	return all, nil
}

// paged says whether a file of the manifest consists of pages.
func paged(name string) bool {
	w := walker{}
	return relation.MatchString(path.Base(name)) && w.relations(path.Dir(name))
}

// probe reads one file.
type probe struct {
	f     Wanted
	at    string
	pages bool
	first uint32 // number of the file's first page in the relation
	read  func(n int) error
	found Copied
}

func (p *probe) copy(b Batch, w io.Writer) error {
	if p.pages {
		segment, _ := strconv.ParseUint(cmp.Or(relation.FindStringSubmatch(path.Base(p.f.Name))[3], "0"), 10, 32)
		p.first = uint32(segment) * repo.SegmentPages
	}
	if p.f.Prior != nil && p.f.Size == 0 && *p.f.Prior == "" {
		p.found.Same = true
		return nil
	}
	source, err := os.Open(p.at)
	if errors.Is(err, fs.ErrNotExist) {
		p.found.Gone = true
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	if p.f.Prior != nil {
		if p.found.Same, err = p.unchanged(source); err != nil || p.found.Same {
			return err
		}
		if _, err := source.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if p.f.Size == 0 && b.Bundle { // has no object
		return nil
	}
	p.found.Sealed, err = stanza.Seal(w, b.Coding, func(w io.Writer) error { return p.pass(source, w) })
	return err
}

// unchanged says that the prior backup's copy has the same content.
func (p *probe) unchanged(source io.Reader) (bool, error) {
	h := sha1.New()
	n, err := io.Copy(h, io.LimitReader(told{source, p.read}, p.f.Size))
	return err == nil && n == p.f.Size && hex.EncodeToString(h.Sum(nil)) == *p.f.Prior, err
}

// told is a reader that says what it has read.
type told struct {
	io.Reader
	read func(n int) error
}

func (t told) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	if late := t.read(n); late != nil {
		return n, late
	}
	return n, err
}

// pass hands the file to w, page by page where there are pages.
func (p *probe) pass(source *os.File, w io.Writer) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	left, at := p.f.Size, int64(0)
	for left > 0 {
		n, err := io.ReadFull(source, (*buffer)[:min(left, int64(len(*buffer)))])
		if p.pages {
			p.check(source, (*buffer)[:n], at)
		}
		if late := p.read(n); late != nil {
			return late
		}
		if _, err := w.Write((*buffer)[:n]); err != nil {
			return err
		}
		at, left = at+int64(n), left-int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // shorter than it was
		}
		if err != nil {
			return err
		}
	}
	p.found.Off = p.pages && at%repo.PageSize != 0
	return nil
}

// buffers hold whole pages.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128*repo.PageSize); return &b }}

// check proves the pages of data, which stands at byte at of the file.
func (p *probe) check(source *os.File, data []byte, at int64) {
	for i := 0; i+repo.PageSize <= len(data); i += repo.PageSize {
		page := data[i : i+repo.PageSize]
		number := p.first + uint32((at+int64(i))/repo.PageSize)
		if repo.PageGood(page, number) {
			continue
		}
		// PostgreSQL may have been writing it: then it is another one now, and
		// the log has it whole.
		again := make([]byte, repo.PageSize)
		if _, err := source.ReadAt(again, at+int64(i)); err != nil || repo.PageGood(again, number) || !bytes.Equal(again, page) {
			continue
		}
		p.found.Wrong = append(p.found.Wrong, number)
	}
}
