// Package backup is what may be asked of a cluster's repositories: the
// commands, each with its locks and in its order. How a command is asked for,
// and how its answer is printed, is the door's.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/retain"
	"howdah/backup/server"
	"howdah/backup/stanza"
	"howdah/backup/take"
	"howdah/secret"
)

// A Desk is one cluster, its repositories, and where its locks are.
type Desk struct {
	Stanza  string
	Stanzas []*Stanza // one for each repository, in order
	Server  server.Server
	Replica *server.Server // a standby of it on this machine, from which a backup copies; nil: none
	Locks   string         // directory
	Voice   stanza.Voice
}

func (d Desk) keys() []int {
	var keys []int
	for _, s := range d.Stanzas {
		keys = append(keys, s.Repo)
	}
	return keys
}

// lock keeps other commands of this machine away; while the stanza is stopped
// it fails.
func (d Desk) lock(kinds ...string) (*stanza.Locks, error) {
	if err := stanza.Stopped(d.Locks, d.Stanza); err != nil {
		return nil, err
	}
	return stanza.Lock(d.Locks, d.Stanza, d.keys(), kinds...)
}

// database says which one the stanza is of: what the server says, or, while it
// may be down, its control file.
func (d Desk) database(ctx context.Context, online bool) (repo.DB, error) {
	if !online {
		c, err := server.ReadControl(d.Server.Path)
		return c.DB, err
	}
	conn, err := d.Server.Connect(ctx)
	if err != nil {
		return repo.DB{}, err
	}
	defer conn.Close()
	return conn.Control.DB, nil
}

// Create makes the stanza in every repository.
func (d Desk) Create(ctx context.Context, online bool) error {
	return d.introduce(ctx, "stanza-create", online, (*stanza.Stanza).Create)
}

// Upgrade tells every repository that the database is another one now.
func (d Desk) Upgrade(ctx context.Context, online bool) error {
	return d.introduce(ctx, "stanza-upgrade", online, (*stanza.Stanza).Upgrade)
}

// introduce tells every repository, in its way, which database it is.
func (d Desk) introduce(ctx context.Context, command string, online bool, to func(*stanza.Stanza, context.Context, repo.DB) error) error {
	locks, err := d.lock(stanza.LockArchive, stanza.LockBackup)
	if err != nil {
		return err
	}
	defer locks.Release()
	db, err := d.database(ctx, online)
	if err != nil {
		return err
	}
	for _, s := range d.Stanzas {
		d.Voice.Info("%s for stanza '%s' on %s", command, d.Stanza, s)
		if err := to(s, ctx, db); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes the stanza from a repository. It must have been stopped: then
// nobody writes into it any more.
func (d Desk) Delete(ctx context.Context, force bool) error {
	if stanza.Stopped(d.Locks, d.Stanza) == nil {
		return repo.Errorf(repo.FileMissing, "stop file does not exist for stanza '%s'; has the pgbackrest stop command been run on this server for this stanza?", d.Stanza)
	}
	locks, err := stanza.Lock(d.Locks, d.Stanza, d.keys(), stanza.LockArchive, stanza.LockBackup)
	if err != nil {
		return err
	}
	defer locks.Release()
	if _, err := os.Stat(filepath.Join(d.Server.Path, "postmaster.pid")); err == nil && !force {
		return repo.Errorf(repo.PostmasterRunning, "unable to delete stanza '%s': postmaster.pid exists in '%s'; shut down the server, or use --force", d.Stanza, d.Server.Path)
	}
	for _, s := range d.Stanzas {
		// The lists go first: what is without them is nothing to anyone.
		archiveInfo, backupInfo := repo.ArchivePath(s.Name, repo.ArchiveInfoName), repo.BackupPath(s.Name, repo.BackupInfoName)
		if err := s.Remove(ctx, archiveInfo, archiveInfo+repo.Copy, backupInfo, backupInfo+repo.Copy); err != nil {
			return err
		}
		for _, dir := range repo.Roots(s.Name) {
			if err := s.RemoveAll(ctx, dir); err != nil {
				return err
			}
		}
	}
	_, err = stanza.Start(d.Locks, d.Stanza)
	return err
}

// Push brings one WAL file into every repository.
func (d Desk) Push(ctx context.Context, path string, coding repo.Coding, header bool) error {
	if err := stanza.Stopped(d.Locks, d.Stanza); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.Server.Path, path)
	}
	p := archive.Push{Path: path, Coding: coding, NoHeader: !header, Voice: d.Voice}
	if err := p.To(ctx, d.Stanzas...); err != nil {
		return err
	}
	d.Voice.Info("pushed WAL file '%s' to the archive", filepath.Base(path))
	return nil
}

// Outbox is what pushes the files that the server has ready in wal, its directory
// of WAL, before its archiver comes to them.
func (d Desk) Outbox(spool, wal string, coding repo.Coding, header bool) archive.Outbox {
	return archive.Outbox{Spool: archive.SpoolOf(spool, d.Stanza), Into: d.Stanzas, WAL: wal, Push: archive.Push{Coding: coding, NoHeader: !header, Voice: d.Voice}}
}

// Allowed is an error while the stanza is stopped.
func (d Desk) Allowed() error { return stanza.Stopped(d.Locks, d.Stanza) }

// Idle says that nobody works on the archive.
func (d Desk) Idle() bool {
	_, held := stanza.Held(d.Locks, d.Stanza, stanza.LockArchive)
	return !held
}

// Drain pushes what the server has ready until nothing more has come for a while.
// Only one process does at a time: of another the error is of class LockAcquire.
// A repository that takes nothing ends it when no other has anything to do; until
// then it is tried again.
func (d Desk) Drain(ctx context.Context, o archive.Outbox, idle time.Duration) error {
	locks, err := d.lock(stanza.LockArchive)
	if err != nil {
		return err
	}
	defer locks.Release()
	r := &drain{lanes: make([]lane, len(o.Into)), idle: idle, over: o.Over}
	var all sync.WaitGroup
	for i, s := range o.Into {
		r.lanes[i].worked = time.Now()
		all.Go(func() {
			for r.goes(ctx) {
				n, err := 0, error(nil)
				if r.turn(i) {
					if n, err = o.To(ctx, s); n > 0 {
						d.Voice.Detail("pushed %d WAL file(s) to the archive asynchronously", n)
					}
					r.worked(i, n, err)
				}
				if n > 0 && err == nil {
					continue
				}
				select {
				case <-time.After(drainLook):
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
	return errors.Join(r.failed(), ctx.Err())
}

// A drain is how far those are who push, one for each repository.
type drain struct {
	idle time.Duration
	over func() bool

	mu    sync.Mutex
	lanes []lane
	ended bool
}

// A lane is one repository of them.
type lane struct {
	busy   bool
	worked time.Time // when it last had something to do
	failed error     // of the last attempt; nil: it takes what comes
	again  time.Time // when it is tried again then
}

// goes says that somebody has something to do, or had a moment ago.
func (r *drain) goes(ctx context.Context) bool {
	if ctx.Err() != nil || r.over != nil && r.over() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = r.ended || !slices.ContainsFunc(r.lanes, func(l lane) bool {
		return l.busy || l.failed == nil && time.Since(l.worked) < r.idle
	})
	return !r.ended
}

// turn begins an attempt, unless it is too early for one.
func (r *drain) turn(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lanes[i].busy = r.lanes[i].failed == nil || !time.Now().Before(r.lanes[i].again)
	return r.lanes[i].busy
}

func (r *drain) worked(i, n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.lanes[i]
	l.busy, l.failed, l.again = false, err, time.Now().Add(drainAgain)
	if n > 0 {
		l.worked = time.Now()
	}
	if repo.ClassOf(err) == repo.RepoInvalid { // whoever prepares the repository waits for this lock
		r.ended = true
	}
}

func (r *drain) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, l := range r.lanes {
		errs = append(errs, l.failed)
	}
	return errors.Join(errs...)
}

// drainAgain is what lies between two attempts at a repository that took nothing.
const drainAgain = 5 * time.Second

// drainLook is how often it is looked for more to push.
const drainLook = 20 * time.Millisecond

// Stopping says that the server was told to shut down, as its postmaster notes
// (miscinit.h, LOCK_FILE_LINE_PM_STATUS).
func (d Desk) Stopping() bool {
	text, err := os.ReadFile(filepath.Join(d.Server.Path, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	return len(lines) >= 8 && strings.TrimSpace(lines[7]) == "stopping"
}

// Standby says that the server was told to follow another one: what it has is that
// one's to archive.
func (d Desk) Standby() bool {
	_, err := os.Stat(filepath.Join(d.Server.Path, "standby.signal"))
	return err == nil
}

// Pending is how much WAL waits to be archived. A segment of unknown size
// counts as 16 MiB.
func (d Desk) Pending() (int64, error) {
	list, err := os.ReadDir(filepath.Join(d.Server.Path, "pg_wal", "archive_status"))
	if err != nil {
		return 0, err
	}
	size := int64(16 << 20)
	if c, err := server.ReadControl(d.Server.Path); err == nil {
		size = c.Segment
	}
	n := int64(0)
	for _, e := range list {
		if name, ok := strings.CutSuffix(e.Name(), ".ready"); ok && repo.IsSegment(name) {
			n++
		}
	}
	return n * size, nil
}

// Get brings one WAL file back; archive.ErrAbsent if no repository has it.
func (d Desk) Get(ctx context.Context, name, dest string) error {
	g, _, err := d.get(name, dest)
	if err == nil {
		err = g.From(ctx, d.Stanzas...)
	}
	if err == nil {
		d.Voice.Info("found %s in the archive", name)
	}
	return err
}

func (d Desk) get(name, dest string) (archive.Get, int64, error) {
	control, err := server.ReadControl(d.Server.Path)
	if !filepath.IsAbs(dest) {
		dest = filepath.Join(d.Server.Path, dest)
	}
	return archive.Get{Name: name, Dest: dest, DB: control.DB, Voice: d.Voice}, control.Segment, err
}

// GetAhead is Get for a server that will ask for the next segments: they are
// fetched by another process, which more begins unless it is there. What is not
// fetched yet comes from the repository at once.
func (d Desk) GetAhead(ctx context.Context, a archive.Ahead, name, dest string, more func(from string) error) error {
	if !repo.IsSegment(name) {
		return d.Get(ctx, name, dest)
	}
	g, size, err := d.get(name, dest)
	if err != nil {
		return err
	}
	switch err = a.Take(ctx, g); {
	case err == nil:
		d.Voice.Info("found %s in the archive asynchronously", name)
	case errors.Is(err, fs.ErrNotExist):
		if err = g.From(ctx, d.Stanzas...); err != nil {
			return err
		}
		d.Voice.Info("found %s in the archive", name)
		err = a.Asked(name)
	}
	if err != nil {
		return err
	}
	if next := archive.After(name, size); next != "" && a.Low(size) && !a.Busy() {
		if err := more(next); err != nil {
			d.Voice.Warn("segments are not fetched ahead: %s", err)
		}
	}
	return nil
}

// Ahead fetches segments from one on into a spool, until nobody takes them.
func (d Desk) Ahead(ctx context.Context, a archive.Ahead, from string) error {
	g, size, err := d.get(from, "")
	if err != nil {
		return err
	}
	return a.Run(ctx, g, size, d.Stanzas...)
}

// Check proves that archiving works: a segment is ended and must arrive.
func (d Desk) Check(ctx context.Context, command bool, wait time.Duration) error {
	if err := stanza.Stopped(d.Locks, d.Stanza); err != nil {
		return err
	}
	conn, err := d.Server.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ids := map[*stanza.Stanza]string{}
	for _, s := range d.Stanzas {
		a, err := s.ArchiveInfo(ctx)
		if err != nil {
			return err
		}
		b, err := s.BackupInfo(ctx)
		if err != nil {
			return err
		}
		if !repo.SameHistory(a, b) || !a.DB.Same(conn.Control.DB) {
			return repo.Errorf(repo.FileInvalid, "backup and archive info files exist but do not match the database; is this the correct stanza? (%s)", s)
		}
		ids[s] = a.DB.ArchiveID()
	}
	if conn.Standby {
		d.Voice.Info("the server is a standby: its archive was not tried")
		return nil
	}
	if err := conn.CanArchive(command); err != nil {
		return err
	}
	segment, err := conn.Switch(ctx, "pgBackRest Archive Check")
	if err != nil {
		return err
	}
	for _, s := range d.Stanzas {
		d.Voice.Info("check %s archive for WAL (primary)", s)
		if err := archive.Wait(ctx, s, ids[s], []string{segment}, wait); err != nil {
			return err
		}
		found, err := archive.Find(ctx, s, ids[s], segment)
		if err != nil {
			return err
		}
		d.Voice.Info("WAL segment %s successfully archived to '%s' on %s", segment, repo.WALPath(s.Name, ids[s], found.String()), s)
	}
	return nil
}

// Backup makes a backup in the first repository, and afterwards removes what
// retention says, unless keep is nil.
func (d Desk) Backup(ctx context.Context, b take.Backup, keep *retain.Policy) (repo.Backup, error) {
	locks, err := d.lock(stanza.LockBackup)
	if err != nil {
		return repo.Backup{}, err
	}
	defer locks.Release()
	b.Stanza, b.Server, b.Voice = d.Stanzas[0], d.Server, d.Voice
	if d.Replica != nil {
		conn, err := d.Replica.Connect(ctx)
		switch {
		case err == nil:
			defer conn.Close()
			b.Standby = take.Local{Conn: conn, Path: d.Replica.Path}
		case b.PreferStandby:
			d.Voice.Warn("the standby at %s is not used, the backup is made from the primary: %s", d.Replica.Path, err)
		default:
			return repo.Backup{}, err
		}
	}
	ctx, release, err := b.Stanza.Claim(ctx, d.Voice)
	if err != nil {
		return repo.Backup{}, err
	}
	defer release()
	done, err := b.Take(ctx)
	if err != nil || keep == nil {
		return done, because(ctx, err)
	}
	if _, err := d.expire(ctx, d.Stanzas[0], *keep, "", false); err != nil {
		return done, repo.Errorf(repo.CommandFailed, "the backup is complete, but what it replaces could not be removed: %w", because(ctx, err))
	}
	return done, nil
}

// because is what ended ctx, if that is why err came about.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Rekey changes the pass phrase of a repository in two halves: with a phrase it has that
// one open everything, beside the one that the configuration has; without, it ends the
// change to the configuration's phrase, whichever of both that is.
func (d Desk) Rekey(ctx context.Context, pass secret.Text) error {
	if len(d.Stanzas) != 1 {
		return repo.Errorf(repo.OptionRequired, "rekey is about one repository of the %d: say which with --repo", len(d.Stanzas))
	}
	locks, err := d.lock(stanza.LockBackup)
	if err != nil {
		return err
	}
	defer locks.Release()
	s := d.Stanzas[0]
	ctx, release, err := s.Claim(ctx, d.Voice)
	if err != nil {
		return err
	}
	defer release()
	if pass != "" {
		if err := s.PrepareRekey(ctx, pass); err != nil {
			return because(ctx, err)
		}
		d.Voice.Info("both pass phrases open %s now: give the new one to every configuration in place of the old one, and run rekey once more; until then make no backup with the old one", s)
		return nil
	}
	n, err := s.SettleRekey(ctx)
	switch {
	case err != nil:
		return because(ctx, err)
	case n == 0:
		d.Voice.Info("everything in %s is open to the pass phrase of the configuration: nothing is to be changed", s)
	default:
		d.Voice.Info("the pass phrase of the configuration is the only one that opens %s (%d files rewritten)", s, n)
	}
	return nil
}

// Annotate changes the notes of a backup: an empty text takes one away.
func (d Desk) Annotate(ctx context.Context, label string, notes map[string]string) error {
	locks, err := d.lock(stanza.LockBackup)
	if err != nil {
		return err
	}
	defer locks.Release()
	found := false
	for _, s := range d.Stanzas {
		info, err := s.BackupInfo(ctx)
		if err != nil {
			return err
		}
		b, ok := info.Find(label)
		if !ok {
			continue
		}
		found = true
		all := map[string]string{}
		for k, v := range b.Annotation {
			all[k] = v
		}
		for k, v := range notes {
			if all[k] = v; v == "" {
				delete(all, k)
			}
		}
		b.Annotation = all
		info.Add(b)
		d.Voice.Info("backup set '%s' to annotate on %s", label, s)
		if err := s.SaveBackupInfo(ctx, info); err != nil {
			return err
		}
	}
	if !found {
		return repo.Errorf(repo.BackupSetInvalid, "no backup set to annotate found: '%s'", label)
	}
	return nil
}

// Stop forbids commands on the stanza, or on all if it has no name; force
// also ends those that run.
func (d Desk) Stop(force bool, end func(pid int) error) error {
	if stanza.Stopped(d.Locks, d.Stanza) != nil {
		d.Voice.Warn("stop file already exists for %s", d.name())
		return nil
	}
	if err := stanza.Stop(d.Locks, d.Stanza); err != nil {
		return err
	}
	if !force {
		return nil
	}
	for _, pid := range stanza.Holders(d.Locks, d.Stanza) {
		d.Voice.Info("sent term signal to process %d", pid)
		if err := end(pid); err != nil {
			d.Voice.Warn("unable to send term signal to process %d: %s", pid, err)
		}
	}
	return nil
}

func (d Desk) name() string {
	if d.Stanza == "" {
		return "all stanzas"
	}
	return fmt.Sprintf("stanza %s", d.Stanza)
}

// Start allows them again.
func (d Desk) Start() error {
	was, err := stanza.Start(d.Locks, d.Stanza)
	if err == nil && !was {
		d.Voice.Warn("stop file does not exist for %s", d.name())
	}
	return err
}
