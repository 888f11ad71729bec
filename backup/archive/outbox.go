package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// An Outbox pushes what PostgreSQL has ready before its archiver comes to it, many
// files at once, and notes what lies in every repository. The archiver asks for
// one file after the other, and is told of that alone. Of several repositories each
// has what waits in its own time: of a file that lies in some it is noted in which,
// so that one that takes nothing holds up no other, and what is too much for it is
// given up for it alone.
type Outbox struct {
	Spool   Spool
	Into    []*stanza.Stanza // all repositories
	WAL     string           // pg_wal of the server
	Push    Push             // how; of which file the outbox says
	Workers int
	Max     int64       // bytes that may wait; beyond that all are given up, as PostgreSQL is told. 0: any
	Room    bool        // nor more than is free beside them, once they have waited for a while: the volume must not fill
	Over    func() bool // says that no other file is to be begun, because it is not this server's to archive any more; nil: never
}

// ready suffixes a file's mark in archive_status.
const ready = ".ready"

// marked are the files that PostgreSQL wants archived, the next first: histories
// before all, as its archiver takes them.
func (o Outbox) marked() ([]string, error) {
	marks, err := os.ReadDir(filepath.Join(o.WAL, "archive_status"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range marks {
		if name, ok := strings.CutSuffix(m.Name(), ready); ok {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if first := strings.HasSuffix(a, ".history"); first != strings.HasSuffix(b, ".history") {
			if first {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names, nil
}

// waiting are those of them that do not lie in a repository. Notes of files that
// are not marked any more go.
func (o Outbox) waiting(s *stanza.Stanza) ([]string, error) {
	marked, err := o.marked()
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range marked {
		wanted[name] = true
	}
	dirs := []string{o.Spool.Out()}
	if o.several() {
		dirs = append(dirs, o.Spool.part(s))
	}
	for _, dir := range dirs {
		if err := tidy(dir, wanted); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, name := range marked {
		path := filepath.Join(o.WAL, name)
		if done, _, _ := o.Spool.Pushed(path); done {
			continue
		}
		if done, _, _ := noted(o.Spool.part(s), path); o.several() && done {
			if err := o.everywhere(name); err != nil { // whoever noted it last may have been killed before it was seen
				return nil, err
			}
			continue
		}
		names = append(names, name)
	}
	return names, nil
}

// tidy removes notes of files that nobody waits for.
func tidy(dir string, wanted map[string]bool) error {
	notes, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, n := range notes {
		name, ok := strings.CutSuffix(n.Name(), noteOK)
		if !ok || wanted[name] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, n.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (o Outbox) several() bool { return len(o.Into) > 1 }

// Pass pushes whatever waits into every repository, and returns how many times a
// file was noted.
func (o Outbox) Pass(ctx context.Context) (int, error) {
	n, errs := make([]int, len(o.Into)), make([]error, len(o.Into))
	var all sync.WaitGroup
	for i, s := range o.Into {
		all.Go(func() { n[i], errs[i] = o.To(ctx, s) })
	}
	all.Wait()
	total := 0
	for _, n := range n {
		total += n
	}
	return total, errors.Join(errs...)
}

// To pushes whatever waits into one repository, and returns how many files it has
// noted. After a failure it begins no other: it is noted of that file, and tried
// when the archiver asks again.
func (o Outbox) To(ctx context.Context, s *stanza.Stanza) (int, error) {
	names, err := o.waiting(s)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	if dropped, err := o.drop(s, names); dropped || err != nil {
		return len(names), err
	}
	o.Push.known = newCatalog()
	var (
		mu     sync.Mutex
		failed error
		done   int
	)
	next := func() string {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || len(names) == 0 || ctx.Err() != nil || o.over() {
			return ""
		}
		name := names[0]
		names = names[1:]
		return name
	}
	var all sync.WaitGroup
	for range max(o.Workers, 1) {
		all.Go(func() {
			for name := next(); name != ""; name = next() {
				err := o.one(ctx, name, s)
				mu.Lock()
				if err == nil {
					done++
				} else {
					failed = errors.Join(failed, err)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return done, errors.Join(failed, ctx.Err())
}

func (o Outbox) over() bool { return o.Over != nil && o.Over() }

// one pushes a file and notes what came of it.
func (o Outbox) one(ctx context.Context, name string, s *stanza.Stanza) error {
	p := o.Push
	p.Path = filepath.Join(o.WAL, name)
	var warnings []string
	p.Voice = func(level slog.Level, text string) {
		if level >= slog.LevelWarn {
			warnings = append(warnings, text)
		}
	}
	err := p.To(ctx, s)
	if err == nil {
		return o.done(s, name, strings.Join(warnings, "\n"))
	}
	if o.several() && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w", s, err)
	}
	if ctx.Err() != nil {
		return err
	}
	if _, gone := os.Stat(filepath.Join(o.WAL, "archive_status", name+ready)); errors.Is(gone, fs.ErrNotExist) {
		return nil // nobody wants it any more
	}
	return errors.Join(err, o.Spool.Failed(name, err))
}

// done notes that a file lies in a repository, or is not to.
func (o Outbox) done(s *stanza.Stanza, name, warning string) error {
	if !o.several() {
		return o.Spool.noted(name, warning)
	}
	if err := note(o.Spool.part(s), name+noteOK, okText(warning)); err != nil {
		return err
	}
	return o.everywhere(name)
}

// everywhere notes that a file lies in every repository, if it does.
func (o Outbox) everywhere(name string) error {
	var warnings []string
	for _, s := range o.Into {
		done, warning, err := noted(o.Spool.part(s), filepath.Join(o.WAL, name))
		if !done || err != nil {
			return err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	return o.Spool.noted(name, strings.Join(warnings, "\n"))
}

// What waits is not given up for want of room while it is little, or has only just
// come: a volume that is full of other things has nothing of that.
const (
	roomLeast = 256 << 20
	roomAfter = 2 * time.Minute
)

// limit is how many bytes may wait; 0: any.
func (o Outbox) limit(oldest time.Time) int64 {
	if !o.Room || time.Since(oldest) < roomAfter {
		return o.Max
	}
	var st unix.Statfs_t
	if err := unix.Statfs(o.WAL, &st); err != nil {
		return o.Max
	}
	room := max(int64(st.Bavail)*st.Bsize, roomLeast)
	if o.Max > 0 {
		return min(o.Max, room)
	}
	return room
}

// drop gives up all that waits for a repository, if that is too much: the volume of
// the server must not fill. What is given up is noted first, for whoever has to tell.
func (o Outbox) drop(s *stanza.Stanza, names []string) (bool, error) {
	total, oldest := int64(0), time.Now()
	for _, name := range names {
		if st, err := os.Stat(filepath.Join(o.WAL, name)); err == nil {
			total += st.Size()
		}
		if st, err := os.Stat(filepath.Join(o.WAL, "archive_status", name+ready)); err == nil && st.ModTime().Before(oldest) {
			oldest = st.ModTime()
		}
	}
	limit := o.limit(oldest)
	if limit == 0 || total <= limit {
		return false, nil
	}
	for _, h := range lost(names) {
		h.At, h.Why = time.Now().UTC(), "given up, because the archive queue exceeded "+repo.Size(limit)
		if err := o.Spool.GiveUp(s, h); err != nil {
			return true, err
		}
	}
	for _, name := range names {
		if err := o.done(s, name, Dropped(name, limit)); err != nil {
			return true, err
		}
	}
	return true, nil
}

// lost are the holes that segments leave, one for each timeline; names are sorted.
func lost(names []string) (all []repo.Hole) {
	for _, name := range names {
		if !repo.IsSegment(name) {
			continue
		}
		if n := len(all); n > 0 && all[n-1].First[:8] == name[:8] {
			all[n-1].Last, all[n-1].Segments = name, all[n-1].Segments+1
			continue
		}
		all = append(all, repo.Hole{First: name, Last: name, Segments: 1})
	}
	return all
}

// Dropped is what is said of a file that was given up.
func Dropped(name string, limit int64) string {
	return "dropped WAL file '" + name + "' because archive queue exceeded " + repo.Size(limit)
}
