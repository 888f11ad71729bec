package keep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"howdah/backup/repo"
	"howdah/backup/stanza"
)

// A copier gives one repository what another one of the same cluster has and it
// lacks. It takes nothing away: what may go is the retention's to say. An object
// that is there is not looked at again, so that a copy that broke off goes on.
type copier struct {
	from, to *stanza.Stanza
	seen     map[string]string // directories of WAL that were copied whole, and their time then
	progress func(done, total int64)

	done, total int64
}

// CopyWAL gives one repository the other's WAL from a segment on, of every
// database that it knows, and nothing else.
func CopyWAL(ctx context.Context, from, to *stanza.Stanza, first string) error {
	c := copier{from: from, to: to}
	archive, err := from.ArchiveInfo(ctx)
	if err != nil {
		return err
	}
	theirs, err := from.BackupInfo(ctx)
	if err != nil {
		return err
	}
	if _, err := c.introduce(ctx, archive, theirs); err != nil {
		return err
	}
	for _, d := range archive.History {
		if err := c.wal(ctx, d.ArchiveID(), first); err != nil {
			return err
		}
	}
	return nil
}

// run copies WAL first: a backup counts when its WAL is there.
func (c *copier) run(ctx context.Context) error {
	archive, err := c.from.ArchiveInfo(ctx)
	if err != nil {
		return err
	}
	theirs, err := c.from.BackupInfo(ctx)
	if err != nil {
		return err
	}
	ours, err := c.introduce(ctx, archive, theirs)
	if err != nil {
		return err
	}
	for _, d := range archive.History {
		if err := c.wal(ctx, d.ArchiveID(), theirs.FirstSegment(d.ArchiveID())); err != nil {
			return err
		}
	}
	for _, d := range archive.History {
		if err := c.holes(ctx, d.ArchiveID()); err != nil {
			return err
		}
	}
	for _, b := range theirs.Backups {
		if _, ok := ours.Find(b.Label); ok {
			continue
		}
		if err := c.backup(ctx, b, ours); err != nil {
			return fmt.Errorf("backup %s: %w", b.Label, err)
		}
		ours.Add(b)
		if err := c.to.SaveBackupInfo(ctx, ours); err != nil {
			return err
		}
		if err := c.to.Latest(ctx, b.Label); err != nil {
			return err
		}
	}
	return nil
}

// introduce gives the repository the other one's info files, without backups,
// if it has none, and the other one's history, if that is longer.
func (c *copier) introduce(ctx context.Context, archive repo.ArchiveInfo, theirs repo.BackupInfo) (repo.BackupInfo, error) {
	ours, err := c.to.BackupInfo(ctx)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return ours, err
	}
	for i, d := range ours.History {
		if i >= len(theirs.History) {
			return ours, nil // it is theirs that must learn
		}
		if !d.Same(theirs.History[i]) {
			return ours, repo.Errorf(repo.BackupMismatch, "the repositories are not of one cluster: database %d has system-id %s there and %s here", d.ID, theirs.History[i].System, d.System)
		}
	}
	if len(ours.History) == len(theirs.History) {
		return ours, nil
	}
	if err := c.to.SaveArchiveInfo(ctx, archive); err != nil {
		return ours, err
	}
	ours.Cipher, ours.DB, ours.History = theirs.Cipher, theirs.DB, theirs.History
	return ours, c.to.SaveBackupInfo(ctx, ours)
}

// list is what lies in dir there, and here.
func (c *copier) list(ctx context.Context, dir string) (there, here []repo.Entry, err error) {
	if there, err = c.from.List(ctx, dir); err != nil {
		return nil, nil, err
	}
	here, err = c.to.List(ctx, dir)
	return there, here, err
}

// wal copies the segments of one database from first on.
func (c *copier) wal(ctx context.Context, id, first string) error {
	base := repo.ArchivePath(c.from.Name, id)
	list, here, err := c.list(ctx, base)
	if err != nil {
		return err
	}
	for _, e := range list {
		name := path.Join(base, e.Name)
		switch {
		case !e.Dir && !slices.ContainsFunc(here, func(h repo.Entry) bool { return h.Name == e.Name }):
			err = c.object(ctx, name, false)
		case !e.Dir || first != "" && len(e.Name) == 16 && e.Name < first[:16]:
			continue
		case c.seen[name] == e.Modified.String():
			continue
		default:
			if err = c.segments(ctx, name, first); err == nil && c.seen != nil {
				c.seen[name] = e.Modified.String()
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) segments(ctx context.Context, dir, first string) error {
	list, here, err := c.list(ctx, dir)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range here {
		if s, ok := repo.ParseSegment(e.Name); ok {
			have[key(s)] = true
		}
		have[e.Name] = true
	}
	for _, e := range list {
		if e.Dir || have[e.Name] || first != "" && e.Name < first {
			continue
		}
		// Of one name there must not be two contents: the first stays, here as there.
		if s, ok := repo.ParseSegment(e.Name); ok && have[key(s)] {
			continue
		}
		err := c.object(ctx, path.Join(dir, e.Name), false)
		if errors.Is(err, fs.ErrNotExist) {
			continue // expired since it was listed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holes copies the records of WAL that is missing.
func (c *copier) holes(ctx context.Context, id string) error {
	base := repo.HolePath(c.from.Name, id)
	list, here, err := c.list(ctx, base)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Dir || slices.ContainsFunc(here, func(h repo.Entry) bool { return h.Name == e.Name }) {
			continue
		}
		if err := c.object(ctx, path.Join(base, e.Name), false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// key is what there may be one of.
func key(s repo.Segment) string { return fmt.Sprintf("%s %t", s.Name, s.Partial) }

// backup copies the objects of one, and its manifest when all of them are durable.
func (c *copier) backup(ctx context.Context, b repo.Backup, ours repo.BackupInfo) error {
	for _, label := range b.Reference {
		if _, ok := ours.Find(label); label != b.Label && !ok {
			return repo.Errorf(repo.BackupSetInvalid, "it needs backup %s, which is not here", label)
		}
	}
	c.done, c.total = 0, b.RepoDelta
	base := repo.BackupPath(c.from.Name, b.Label)
	list, err := c.from.List(ctx, base)
	if err != nil {
		return err
	}
	// Objects of bundles are few; of a backup without them there is one for each
	// file, and they are made durable together.
	many := !slices.ContainsFunc(list, func(e repo.Entry) bool { return e.Name == "bundle" })
	if err := c.tree(ctx, base, many); err != nil {
		return err
	}
	if t, ok := c.to.Storage.(repo.Tree); ok && many {
		if err := t.Sync(ctx); err != nil {
			return err
		}
	}
	if err := c.object(ctx, repo.HistoryPath(c.from.Name, b.Label), false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{repo.ManifestName + repo.Copy, repo.ManifestName} {
		if err := c.object(ctx, path.Join(base, name), false); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) tree(ctx context.Context, dir string, later bool) error {
	list, here, err := c.list(ctx, dir)
	if err != nil {
		return err
	}
	if t, ok := c.to.Storage.(repo.Tree); ok {
		if err := t.MakeDir(ctx, dir); err != nil {
			return err
		}
	}
	for _, e := range list {
		name := path.Join(dir, e.Name)
		switch {
		case e.Dir:
			err = c.tree(ctx, name, later)
		case e.Name == repo.ManifestName || e.Name == repo.ManifestName+repo.Copy:
			continue
		case slices.ContainsFunc(here, func(h repo.Entry) bool { return h.Name == e.Name && h.Size == e.Size }):
			c.tell(e.Size)
		default:
			err = c.object(ctx, name, later)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object copies one as it is stored.
func (c *copier) object(ctx context.Context, name string, later bool) error {
	r, err := c.from.Get(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	fill := func(w io.Writer) error {
		n, err := io.Copy(w, r)
		c.tell(n)
		return err
	}
	if t, ok := c.to.Storage.(repo.Tree); ok && later {
		return t.PutLater(ctx, name, fill)
	}
	return c.to.Put(ctx, name, fill)
}

func (c *copier) tell(n int64) {
	if c.done += n; c.progress != nil && c.total > 0 {
		c.progress(min(c.done, c.total), c.total)
	}
}
