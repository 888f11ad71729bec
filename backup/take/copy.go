package take

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
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
	primary disk
	standby Standby // copies what it can, if it is not nil
	pages   bool    // prove page checksums
	workers int
	bundle  bool
	size    int64 // of a bundle, before compression
	limit   int64 // larger files are stored alone
	voice   stanza.Voice
	again   bool // compare with the prior by content
	pace    *pace
	brake   *brake

	progress func(done, total int64)
	done     atomic.Int64 // bytes of total that were read
	total    int64

	resumed resumed
	every   int64                   // bytes that are stored until it is noted how far it is
	save    func(data []byte) error // notes it; nil: nobody does
	saving  sync.Mutex

	unsaved int64
	mu      sync.Mutex      // of what is noted in the manifest's files, too
	gone    map[string]bool // dropped since they were listed
}

// batches parts files into what one worker stores at a time: a file, or a
// bundle of small ones. The largest come first, so that the end is even.
func (c *copier) batches(files []*repo.File) [][]*repo.File {
	slices.SortStableFunc(files, func(a, b *repo.File) int { return cmp.Compare(b.Size, a.Size) })
	var all [][]*repo.File
	open, sum := map[bool][]*repo.File{}, map[bool]int64{}
	for _, f := range files {
		if !c.bundle || f.Size > c.limit {
			all = append(all, []*repo.File{f})
			continue
		}
		from := c.fromStandby(f)
		open[from], sum[from] = append(open[from], f), sum[from]+f.Size
		if sum[from] >= c.size {
			all, open[from], sum[from] = append(all, open[from]), nil, 0
		}
	}
	for _, rest := range [][]*repo.File{open[true], open[false]} {
		if len(rest) > 0 {
			all = append(all, rest)
		}
	}
	return all
}

func (c *copier) fromStandby(f *repo.File) bool { return c.standby != nil && Replicated(f.Name) }

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
	bundles := c.resumed.bundles
	for _, b := range c.batches(files) {
		if ctx.Err() != nil {
			break
		}
		n := int64(0)
		if c.bundle && b[0].Size <= c.limit {
			bundles++
			n = bundles
		}
		work <- func(ctx context.Context) error { return c.store(ctx, n, b) }
	}
	close(work)
	wait.Wait()
	if t, ok := c.s.Storage.(repo.Tree); ok && !c.bundle && ctx.Err() == nil {
		return t.Sync(ctx)
	}
	return context.Cause(ctx)
}

// store stores one file as an object, or several as a bundle of that number, each a
// stream of its own.
func (c *copier) store(ctx context.Context, bundle int64, files []*repo.File) error {
	if err := c.brake.wait(ctx); err != nil {
		return err
	}
	b := Batch{Coding: c.coding, Bundle: bundle > 0, Pages: c.pages}
	for _, f := range files {
		w := Wanted{Name: f.Name, Size: f.Size}
		if c.again && f.Reference != "" || c.resumed.has[f.Name] {
			sum := f.Checksum
			w.Prior = &sum
		}
		b.Files = append(b.Files, w)
	}
	name := repo.BackupPath(c.s.Name, c.m.Label, "bundle", strconv.FormatInt(bundle, 10))
	if !b.Bundle {
		f := *files[0]
		f.Reference, f.Bundle, f.Offset = "", 0, 0
		name, _, _ = c.m.Object(c.s.Name, &f)
	}
	var found []Copied
	err := c.put(ctx, name, func(w io.Writer) (err error) {
		if found, err = c.read(ctx, b, w, c.fromStandby(files[0])); err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(d Copied) bool { return d.stored(b) }) {
			return errEmpty
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEmpty) {
		return err
	}
	if stale := c.took(bundle, b, files, found); len(stale) > 0 {
		if err := c.s.Remove(ctx, stale...); err != nil {
			return err
		}
	}
	return c.saved()
}

// took notes what was found of files, and says which objects are of no use any more.
func (c *copier) took(bundle int64, b Batch, files []*repo.File, found []Copied) (stale []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, d := range found {
		f := files[i]
		switch {
		case d.Gone:
			c.gone[f.Name] = true
			if c.resumed.has[f.Name] && f.Bundle == 0 {
				object, _, _ := c.m.Object(c.s.Name, f)
				stale = append(stale, object)
			}
		case d.Same:
			if c.resumed.has[f.Name] {
				c.voice.Detail("checksum resumed file %s (%s)", c.primary.path(f.Name), repo.Size(f.Size))
			}
		default:
			c.unsaved += d.Sealed.Size
			f.Reference, f.Bundle, f.Offset = "", 0, 0
			if d.stored(b) {
				f.Bundle, f.Offset = bundle, d.Offset
			}
			c.note(f, d.Sealed)
			c.report(f, d)
		}
	}
	return stale
}

// saved notes how far the backup is, if enough was stored since: with that it can be
// gone on with.
func (c *copier) saved() error {
	c.mu.Lock()
	due := c.save != nil && c.unsaved >= max(c.every, c.total/100, 1)
	c.mu.Unlock()
	if !due || !c.saving.TryLock() {
		return nil
	}
	defer c.saving.Unlock()
	c.mu.Lock()
	c.unsaved = 0
	data := c.m.Bytes()
	c.mu.Unlock()
	return c.save(data)
}

// read has the files of b copied to w.
func (c *copier) read(ctx context.Context, b Batch, w io.Writer, standby bool) ([]Copied, error) {
	read := func(n int) error {
		if done := c.done.Add(int64(n)); c.progress != nil {
			c.progress(min(done, c.total), c.total)
		}
		return c.pace.take(ctx, int64(n))
	}
	if !standby {
		return c.primary.copy(ctx, b, w, read)
	}
	into := &listener{Writer: w}
	found, err := c.standby.Copy(ctx, b, into, read)
	if err != nil && into.failed == nil && ctx.Err() == nil {
		return nil, &standbyError{err}
	}
	return found, err
}

// listener is a writer that remembers that it failed.
type listener struct {
	io.Writer
	failed error
}

func (l *listener) Write(b []byte) (int, error) {
	n, err := l.Writer.Write(b)
	if err != nil {
		l.failed = err
	}
	return n, err
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

// errEmpty keeps an object of nothing from being stored.
var errEmpty = errors.New("nothing to store")

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

// report notes in the manifest what the pages were like.
func (c *copier) report(f *repo.File, d Copied) {
	f.PageOK, f.PageError = nil, ""
	if !d.Pages {
		return
	}
	good := !d.Off && len(d.Wrong) == 0
	if f.PageOK = &good; good {
		return
	}
	at := c.primary.path(f.Name)
	if c.fromStandby(f) {
		at = fmt.Sprintf("%s (%s)", filepath.Join(c.primary.root, strings.TrimPrefix(f.Name, "pg_data/")), c.standby)
	}
	if d.Off {
		c.voice.Warn("page misalignment in file %s: file size %d is not divisible by page size %d", at, f.Size, repo.PageSize)
		return
	}
	var ranges []string
	for i := 0; i < len(d.Wrong); {
		j := i
		for j+1 < len(d.Wrong) && d.Wrong[j+1] == d.Wrong[j]+1 {
			j++
		}
		if i == j {
			ranges = append(ranges, strconv.FormatUint(uint64(d.Wrong[i]), 10))
		} else {
			ranges = append(ranges, fmt.Sprintf("[%d,%d]", d.Wrong[i], d.Wrong[j]))
		}
		i = j + 1
	}
	f.PageError = "[" + strings.Join(ranges, ",") + "]"
	c.voice.Warn("invalid page checksum(s) found in file %s at page(s) %s", at, strings.Join(ranges, ", "))
}
