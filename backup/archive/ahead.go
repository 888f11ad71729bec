package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pg"
)

// An Ahead fetches segments into a spool that recovery will ask for next, so that
// it does not wait for a store's answer at every one. What lies there under a
// segment's name is whole and proven.
type Ahead struct {
	Spool   Spool
	Max     int64         // bytes that may lie there
	Workers int           // requests at once
	Idle    time.Duration // it ends when so long nobody took anything
}

const (
	asked     = "asked"              // a file with the name of the segment that was asked for last
	aheadLock = ".lock"              // held by the one who fetches
	aheadLook = 5 * time.Millisecond // how often it is looked for what was taken. The one who takes is a program that ended since.
)

// Take moves a segment out of the spool to where PostgreSQL wants it; fs.ErrNotExist
// if it is not there. One of another database is not taken, and removed. While the
// segment is being fetched, or soon will be, it waits.
func (a Ahead) Take(ctx context.Context, g Get) error {
	from := filepath.Join(a.Spool.In(), g.Name)
	tick := time.NewTicker(aheadLook)
	defer tick.Stop()
	for looks := 0; ; looks++ {
		err := a.take(g, from)
		if !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, a.Asked(g.Name))
		}
		if _, coming := os.Lstat(from + tempSuffix); coming != nil && looks > 3 || !a.Busy() {
			if _, there := os.Lstat(from); there == nil {
				continue // it came in between
			}
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a Ahead) take(g Get, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	var first [repo.WALHeaderSize]byte
	if _, err := io.ReadFull(f, first[:]); err != nil {
		return errors.Join(fs.ErrNotExist, os.Remove(from))
	}
	if h, err := repo.ParseWALHeader(first[:]); err != nil || h.System != g.DB.System || h.Version != g.DB.Version {
		return errors.Join(fs.ErrNotExist, os.Remove(from))
	}
	return move(from, g.Dest)
}

// Asked tells the one who fetches where recovery is.
func (a Ahead) Asked(name string) error {
	if err := os.MkdirAll(a.Spool.In(), 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.Spool.In(), asked), []byte(name), 0o640)
}

// Busy says that somebody fetches.
func (a Ahead) Busy() bool {
	f, err := os.Open(filepath.Join(a.Spool.In(), aheadLock))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// Low says that there is room for as much as there is.
func (a Ahead) Low(size int64) bool {
	list, _ := os.ReadDir(a.Spool.In()) // none: it is not there yet
	n := int64(0)
	for _, e := range list {
		if repo.IsSegment(e.Name()) {
			n++
		}
	}
	return n*size <= a.Max/2
}

// Run fetches the segment of g and what follows it on its timeline, as recovery
// goes on, until the archive ends, something fails, or nobody asks any more: whoever
// asks then hears it from the repository. Only one process does at a time; another
// returns at once.
func (a Ahead) Run(ctx context.Context, g Get, size int64, stanzas ...*stanza.Stanza) error {
	if err := os.MkdirAll(a.Spool.In(), 0o750); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(a.Spool.In(), aheadLock), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // another one is at it
	}
	g.known = newCatalog()
	r := run{Ahead: a, get: g, size: size, next: g.Name, most: int(max(a.Max/size, 1)), has: map[string]bool{}, coming: map[string]bool{}, came: make(chan fetched)}
	r.window = min(max(a.Workers, 1), r.most)
	if err := os.Remove(filepath.Join(a.Spool.In(), asked)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.sweep(nil); err != nil {
		return err
	}
	return r.until(ctx, stanzas)
}

// A run is what one who fetches knows.
type run struct {
	Ahead
	get    Get
	size   int64
	next   string // that recovery will ask for
	window int    // segments that are fetched ahead: more when recovery had to wait
	most   int
	has    map[string]bool // fetched, and not taken
	coming map[string]bool
	came   chan fetched
}

type fetched struct {
	name string
	err  error
}

func (r *run) until(ctx context.Context, stanzas []*stanza.Stanza) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for range len(r.coming) {
			<-r.came
		}
	}()
	tick := time.NewTicker(aheadLook)
	defer tick.Stop()
	last := time.Now()
	ends := false
	for {
		if !ends {
			for _, name := range following(r.next, r.size, r.window) {
				if len(r.coming) < max(r.Workers, 1) && !r.has[name] && !r.coming[name] && r.room() {
					r.coming[name] = true
					go r.fetch(ctx, name, stanzas)
				}
			}
		} else if len(r.coming) == 0 {
			return err
		}
		select {
		case f := <-r.came:
			delete(r.coming, f.name)
			switch {
			case f.err == nil && slices.Contains(following(r.next, r.size, r.window), f.name):
				r.has[f.name] = true
			case f.err == nil: // recovery has gone on without it
				if err := os.Remove(filepath.Join(r.Spool.In(), f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			case errors.Is(f.err, ErrAbsent):
				ends = true
			default:
				ends, err = true, errors.Join(err, f.err)
			}
			continue // to the next one
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, err := os.Lstat(filepath.Join(r.Spool.In(), aheadLock)); err != nil {
			return nil // the spool was removed
		}
		switch moved, err := r.follow(); {
		case err != nil:
			return err
		case moved:
			last = time.Now()
		case time.Since(last) > r.Idle:
			return nil
		}
	}
}

// room says that the volume has it. What is fetched ahead is not worth a full one.
func (r *run) room() bool {
	var st unix.Statfs_t
	return unix.Statfs(r.Spool.In(), &st) != nil || int64(st.Bavail)*st.Bsize > int64(len(r.coming)+4)*r.size
}

func (r *run) fetch(ctx context.Context, name string, stanzas []*stanza.Stanza) {
	g := r.get
	g.Name, g.Dest = name, filepath.Join(r.Spool.In(), name)
	// From here on whoever wants it waits for it, also while the store is silent.
	err := os.WriteFile(g.Dest+tempSuffix, nil, 0o600)
	if err == nil {
		err = g.From(ctx, stanzas...)
	}
	if err != nil {
		_ = os.Remove(g.Dest + tempSuffix)
	}
	r.came <- fetched{name, err}
}

// follow sees where recovery is: what it took, and what it was given by others.
func (r *run) follow() (moved bool, err error) {
	at := ""
	for name := range r.has {
		if _, err := os.Lstat(filepath.Join(r.Spool.In(), name)); errors.Is(err, fs.ErrNotExist) {
			delete(r.has, name)
			at = max(at, name)
		}
	}
	path := filepath.Join(r.Spool.In(), asked)
	if text, err := os.ReadFile(path); err == nil && repo.IsSegment(string(text)) {
		// It may be older than what was taken since; another timeline is news.
		if now := string(text); at == "" || at[:8] != now[:8] || at < now {
			at = now
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	if at == "" {
		return false, nil
	}
	after := following(at, r.size, 2)
	if len(after) < 2 || after[1] == r.next {
		return true, nil
	}
	if r.next = after[1]; !r.has[r.next] { // recovery waits
		r.window = min(2*r.window, r.most)
	}
	return true, r.sweep(following(r.next, r.size, r.window))
}

// sweep removes what nobody will ask for.
func (r *run) sweep(keep []string) error {
	list, err := os.ReadDir(r.Spool.In())
	if err != nil {
		return err
	}
	for _, e := range list {
		name := strings.TrimSuffix(e.Name(), tempSuffix)
		if base, _, _ := strings.Cut(name, "."); !repo.IsSegment(base) || r.coming[name] || slices.Contains(keep, name) {
			continue
		}
		delete(r.has, name)
		if err := os.Remove(filepath.Join(r.Spool.In(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// following are the names of n segments from one on, on its timeline.
func following(name string, size int64, n int) []string {
	tl, at, err := pg.ParseSegment(name, uint64(size))
	if err != nil {
		return nil
	}
	var all []string
	for range n {
		all = append(all, tl.Segment(at, uint64(size)))
		at += pg.LSN(size)
	}
	return all
}

// After is the segment that follows one on its timeline; "" if the name is none.
func After(name string, size int64) string {
	if all := following(name, size, 2); len(all) == 2 {
		return all[1]
	}
	return ""
}
