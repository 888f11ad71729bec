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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// copier stores the files of a backup.
type copier struct {
	s       *stanza.Stanza
	m       *repo.Manifest
	coding  repo.Coding
	sources map[string]string
	pages   bool // prove page checksums
	workers int
	bundle  bool
	size    int64 // of a bundle, before compression
	limit   int64 // larger files are stored alone
	voice   stanza.Voice
	again   bool // compare with the prior by content
	pace    *pace

	progress func(done, total int64)
	done     atomic.Int64 // bytes of total that were read
	total    int64

	mu   sync.Mutex
	gone map[string]bool // dropped since they were listed
}

// batches parts files into what one worker stores at a time: a file, or a
// bundle of small ones. The largest come first, so that the end is even.
func (c *copier) batches(files []*repo.File) [][]*repo.File {
	slices.SortStableFunc(files, func(a, b *repo.File) int { return cmp.Compare(b.Size, a.Size) })
	var all [][]*repo.File
	var open []*repo.File
	sum := int64(0)
	for _, f := range files {
		if !c.bundle || f.Size > c.limit {
			all = append(all, []*repo.File{f})
			continue
		}
		if open = append(open, f); sum+f.Size >= c.size {
			all, open, sum = append(all, open), nil, 0
			continue
		}
		sum += f.Size
	}
	if len(open) > 0 {
		all = append(all, open)
	}
	return all
}

// copy stores files; what is found of them is noted in them.
func (c *copier) copy(ctx context.Context, files []*repo.File) error {
	c.gone = map[string]bool{}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan func(context.Context) error)
	var wait sync.WaitGroup
	for range max(c.workers, 1) {
		wait.Go(func() {
			for do := range work {
				if err := do(ctx); err != nil {
					cancel(err)
				}
			}
		})
	}
	bundles := int64(0)
	for _, b := range c.batches(files) {
		if ctx.Err() != nil {
			break
		}
		do := func(ctx context.Context) error { return c.alone(ctx, b[0]) }
		if c.bundle && b[0].Size <= c.limit {
			bundles++
			n := bundles
			do = func(ctx context.Context) error { return c.together(ctx, n, b) }
		}
		work <- do
	}
	close(work)
	wait.Wait()
	if t, ok := c.s.Storage.(repo.Tree); ok && !c.bundle && ctx.Err() == nil {
		return t.Sync(ctx)
	}
	return context.Cause(ctx)
}

// alone stores one file as an object.
func (c *copier) alone(ctx context.Context, f *repo.File) error {
	p := c.probe(f)
	if done, err := p.unchanged(ctx); done || err != nil {
		return err
	}
	source, err := c.open(f)
	if source == nil || err != nil {
		return err
	}
	defer source.Close()
	f.Reference, f.Bundle, f.Offset = "", 0, 0
	name, _, _ := c.m.Object(c.s.Name, f)
	var sealed repo.Sealed
	err = c.put(ctx, name, func(w io.Writer) (err error) {
		sealed, err = stanza.Seal(w, c.coding, func(w io.Writer) error { return p.read(c.pace.reader(ctx, source), source, w) })
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	c.note(f, sealed)
	p.report()
	return nil
}

// together stores files as one object, each a stream of its own.
func (c *copier) together(ctx context.Context, n int64, files []*repo.File) error {
	type done struct {
		p      *probe
		sealed repo.Sealed
		offset int64
	}
	var all []done
	fill := func(w io.Writer) error {
		at := int64(0)
		for _, f := range files {
			p := c.probe(f)
			if skip, err := p.unchanged(ctx); err != nil {
				return err
			} else if skip {
				continue
			}
			source, err := c.open(f)
			if err != nil {
				return err
			}
			if source == nil {
				continue
			}
			if f.Size == 0 { // has no object
				source.Close()
				f.Reference, f.Bundle, f.Offset = "", 0, 0
				c.note(f, repo.Sealed{})
				p.empty()
				continue
			}
			sealed, err := stanza.Seal(w, c.coding, func(w io.Writer) error { return p.read(c.pace.reader(ctx, source), source, w) })
			source.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
			all = append(all, done{p, sealed, at})
			at += sealed.Stored
		}
		if at == 0 {
			return errEmpty
		}
		return ctx.Err()
	}
	err := c.put(ctx, repo.BackupPath(c.s.Name, c.m.Label, "bundle", strconv.FormatInt(n, 10)), fill)
	if err != nil && !errors.Is(err, errEmpty) {
		return err
	}
	for _, d := range all {
		f := d.p.f
		f.Reference, f.Bundle, f.Offset = "", n, d.offset
		c.note(f, d.sealed)
		d.p.report()
	}
	return nil
}

// put stores one object. Many are made durable together; in bundles there are
// few, and each is: whatever else of the file system has not been written yet
// need not be waited for, least of all by others.
func (c *copier) put(ctx context.Context, name string, fill func(io.Writer) error) error {
	if t, ok := c.s.Storage.(repo.Tree); ok && !c.bundle {
		return t.PutLater(ctx, name, fill)
	}
	return c.s.Put(ctx, name, fill)
}

// errEmpty keeps a bundle of nothing from being stored.
var errEmpty = errors.New("nothing to store")

// open opens a file of the cluster; nil if it was dropped since.
func (c *copier) open(f *repo.File) (*os.File, error) {
	source, err := os.Open(c.sources[f.Name])
	if errors.Is(err, fs.ErrNotExist) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gone[f.Name] = true
		return nil, nil
	}
	return source, err
}

// note writes into the manifest what was stored.
func (c *copier) note(f *repo.File, sealed repo.Sealed) {
	f.Size, f.Checksum, f.RepoChecksum = sealed.Size, sealed.Checksum, ""
	f.SetStored(sealed.Stored)
	if sealed.Size == 0 {
		f.Checksum = ""
	}
	if !c.coding.Plain() && sealed.Stored > 0 {
		f.RepoChecksum = sealed.RepoSum
	}
}

// probe reads one file: not beyond the size it was listed with, for what
// PostgreSQL appends since then comes back from the log.
type probe struct {
	c     *copier
	f     *repo.File
	pages bool
	first uint32 // number of the file's first page in the relation
	wrong []uint32
	off   bool // the size is no multiple of a page
}

func (c *copier) probe(f *repo.File) *probe {
	p := &probe{c: c, f: f}
	w := walker{}
	m := relation.FindStringSubmatch(path.Base(f.Name))
	if c.pages && m != nil && w.relations(path.Dir(f.Name)) {
		p.pages = true
		segment, _ := strconv.ParseUint(cmp.Or(m[3], "0"), 10, 32)
		p.first = uint32(segment) * repo.SegmentPages
	}
	return p
}

// unchanged says that the prior backup's copy has the same content, where
// that is to be found out by reading.
func (p *probe) unchanged(ctx context.Context) (bool, error) {
	if !p.c.again || p.f.Reference == "" {
		return false, nil
	}
	if p.f.Size == 0 {
		return p.f.Checksum == "", nil
	}
	source, err := p.c.open(p.f)
	if source == nil || err != nil {
		return source == nil && err == nil, err
	}
	defer source.Close()
	h := sha1.New()
	n, err := io.Copy(h, io.LimitReader(p.c.pace.reader(ctx, source), p.f.Size))
	return err == nil && n == p.f.Size && hex.EncodeToString(h.Sum(nil)) == p.f.Checksum, err
}

// read hands what in reads of the file source to w, page by page where there are pages.
func (p *probe) read(in io.Reader, source *os.File, w io.Writer) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	left, at := p.f.Size, int64(0)
	for left > 0 {
		n, err := io.ReadFull(in, (*buffer)[:min(left, int64(len(*buffer)))])
		if p.pages {
			p.check(source, (*buffer)[:n], at)
		}
		if _, err := w.Write((*buffer)[:n]); err != nil {
			return err
		}
		at, left = at+int64(n), left-int64(n)
		if done := p.c.done.Add(int64(n)); p.c.progress != nil {
			p.c.progress(done, p.c.total)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // shorter than it was
		}
		if err != nil {
			return err
		}
	}
	p.off = p.pages && at%repo.PageSize != 0
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
		p.wrong = append(p.wrong, number)
	}
}

// empty notes what is true of a file without pages.
func (p *probe) empty() {
	if p.f.PageOK, p.f.PageError = nil, ""; p.pages {
		good := true
		p.f.PageOK = &good
	}
}

// report notes in the manifest what the pages were like.
func (p *probe) report() {
	p.empty()
	if !p.pages || !p.off && len(p.wrong) == 0 {
		return
	}
	*p.f.PageOK = false
	if p.off {
		p.c.voice.Warn("page misalignment in file %s: file size %d is not divisible by page size %d", p.c.sources[p.f.Name], p.f.Size, repo.PageSize)
		return
	}
	var ranges []string
	for i := 0; i < len(p.wrong); {
		j := i
		for j+1 < len(p.wrong) && p.wrong[j+1] == p.wrong[j]+1 {
			j++
		}
		if i == j {
			ranges = append(ranges, strconv.FormatUint(uint64(p.wrong[i]), 10))
		} else {
			ranges = append(ranges, fmt.Sprintf("[%d,%d]", p.wrong[i], p.wrong[j]))
		}
		i = j + 1
	}
	p.f.PageError = "[" + strings.Join(ranges, ",") + "]"
	p.c.voice.Warn("invalid page checksum(s) found in file %s at page(s) %s", p.c.sources[p.f.Name], strings.Join(ranges, ", "))
}
