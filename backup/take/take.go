// Package take makes a backup of a running cluster.
//
// It lists the data directory between PostgreSQL's start and stop of a backup,
// stores what the prior backup does not have, proves page checksums on the way,
// and calls the backup complete only when every segment of WAL from start to
// stop is in the repository (law 9). What was begun and not finished is left as
// a directory without a manifest, which the next backup goes on with, or removes.
package take

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/server"
	"howdah/backup/stanza"
)

// A Backup is what is asked for.
type Backup struct {
	Stanza *stanza.Stanza
	Server server.Server
	Voice  stanza.Voice

	Standby       Standby // from which is copied what it has; nil: all comes from the primary
	PreferStandby bool    // a standby that will not do, or breaks, is made up for by the primary

	Type       repo.Type
	Coding     repo.Coding // without a pass phrase
	Workers    int
	Rate       int64 // bytes of the cluster that are read in a second, by all workers together; 0: as many as come
	Lag        int64 // bytes that a standby may be behind, of the log, before the backup waits for it; 0: it waits for none
	Delta      bool  // find what changed by content
	Pages      *bool // prove page checksums; nil: if the cluster has them
	Fast       bool  // an immediate checkpoint
	Annotation map[string]string
	Exclude    []string

	Bundle      bool
	BundleSize  int64
	BundleLimit int64

	Resume    bool  // go on with one that was interrupted, if it is of the same kind
	SaveEvery int64 // bytes that are stored before it is noted again how far it is, or a hundredth of all

	ArchiveCheck   bool // wait for the WAL
	ArchiveCommand bool // prove that PostgreSQL archives by pgbackrest
	Wait           time.Duration

	// Progress, if not nil, hears how much of what is to be stored was read. It
	// is called by several workers at once, and must not wait.
	Progress func(done, total int64)
	// Waits, if not nil, hears for what the backup waits; "": it goes on.
	Waits func(what string)
}

// Take makes the backup, and returns its line of backup.info, which it has added there.
func (b Backup) Take(ctx context.Context) (repo.Backup, error) {
	s, began := b.Stanza, time.Now()
	info, err := s.BackupInfo(ctx)
	if err != nil {
		return repo.Backup{}, err
	}
	conn, err := b.Server.Connect(ctx)
	if err != nil {
		return repo.Backup{}, err
	}
	defer conn.Close()
	if conn.Standby {
		return repo.Backup{}, repo.Errorf(repo.DBMismatch, "the server is a standby: a backup is begun on the primary")
	}
	if !info.DB.Same(conn.Control.DB) {
		return repo.Backup{}, repo.Errorf(repo.BackupMismatch, "PostgreSQL version %s, system-id %s do not match stanza version %s, system-id %s; is this the correct stanza?", conn.Control.DB.Version, conn.Control.DB.System, info.DB.Version, info.DB.System)
	}
	if err := conn.Exclude(ctx); err != nil {
		return repo.Backup{}, err
	}
	if b.ArchiveCheck {
		if err := conn.CanArchive(b.ArchiveCommand); err != nil {
			return repo.Backup{}, err
		}
	}
	if err := s.Reconcile(ctx, &info, b.Voice); err != nil {
		return repo.Backup{}, err
	}
	m, prior, left, err := b.begin(ctx, info, conn, began)
	if err != nil {
		return repo.Backup{}, err
	}
	end, err := b.copy(ctx, m, prior, left, info, conn)
	if err != nil {
		return repo.Backup{}, err
	}
	if err := b.archived(ctx, m, end, conn); err != nil {
		return repo.Backup{}, err
	}
	m.Stop = max(time.Now().Unix(), m.Start)
	refer(m)
	if err := s.FinishManifest(ctx, m, info); err != nil {
		return repo.Backup{}, err
	}
	line := m.Backup()
	info.Add(line)
	if err := s.SaveBackupInfo(ctx, info); err != nil {
		return repo.Backup{}, err
	}
	b.Voice.Info("new backup label = %s", m.Label)
	b.Voice.Info("%s backup size = %s, file total = %d", m.Type, repo.Size(line.Delta), len(m.Files))
	return line, nil
}

// begin decides what the backup builds on, and which interrupted one it goes on with, and
// makes its manifest's head.
func (b Backup) begin(ctx context.Context, info repo.BackupInfo, conn *server.Conn, began time.Time) (m, prior, left *repo.Manifest, err error) {
	s := b.Stanza
	m = &repo.Manifest{
		Backrest: repo.Version, Type: b.Type, Start: began.Unix(), DB: conn.Control.DB, Annotation: b.Annotation, Bundle: b.Bundle,
	}
	m.DB.ID = info.DB.ID
	workers, level, pages, no := int64(b.Workers), int64(b.Coding.Level), conn.Control.Checksums, false
	if b.Pages != nil {
		if pages = *b.Pages; pages && !conn.Control.Checksums {
			b.Voice.Warn("checksum-page option set to true but checksums are not enabled on the cluster, resetting to false")
			pages = false
		}
	}
	delta, network, buffer := b.Delta, int64(3), int64(1<<20)
	m.Options = repo.Options{
		ArchiveCheck: b.ArchiveCheck, Compress: !(repo.Coding{Compress: b.Coding.Compress}).Plain(), Online: true,
		Standby: &no, ChecksumPage: &pages, Delta: &delta, Level: &level, LevelNetwork: &network, BufferSize: &buffer, ProcessMax: &workers,
		CompressType: string(cmp.Or(b.Coding.Compress, repo.None)),
	}
	if b.Type != repo.Full {
		if prior, err = b.prior(ctx, info); err != nil {
			return nil, nil, nil, err
		}
	}
	label := ""
	if prior == nil {
		m.Type, m.Cipher = repo.Full, s.NewPass()
	} else {
		label = prior.Label
		m.Prior, m.Cipher = prior.Label, prior.Cipher
		b.Voice.Info("last backup label = %s, version = %s", prior.Label, prior.Backrest)
		b.inherit(m, prior)
	}
	last, err := s.LastLabel(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if left, err = b.interrupted(ctx, m, last, info); err != nil {
		return nil, nil, nil, err
	}
	if left != nil {
		b.Voice.Warn("resumable backup %s of same type exists -- invalid files will be removed then the backup will resume", left.Label)
		m.Label, m.Cipher = left.Label, left.Cipher
		return m, prior, left, s.RemoveUnfinished(ctx, info, left.Label, b.Voice)
	}
	if m.Label, err = repo.Label(m.Type, began, label, last); err != nil {
		return nil, nil, nil, err
	}
	return m, prior, nil, s.RemoveUnfinished(ctx, info, "", b.Voice)
}

// prior is the newest backup that the new one may build on; nil if there is none.
func (b Backup) prior(ctx context.Context, info repo.BackupInfo) (*repo.Manifest, error) {
	for _, p := range slices.Backward(info.Backups) {
		if p.DB != info.DB.ID || b.Type == repo.Diff && p.Type != repo.Full {
			continue
		}
		prior, err := b.Stanza.Manifest(ctx, p.Label, info)
		if err != nil {
			return nil, err
		}
		if prior.BlockIncr {
			return nil, repo.Errorf(repo.FeatureUnsupported, "backup '%s' is stored in blocks, on which this program can not build; make a full backup (--type=full), or go on with pgBackRest", p.Label)
		}
		return prior, nil
	}
	b.Voice.Warn("no prior backup exists, %s backup has been changed to full", b.Type)
	return nil, nil
}

// inherit takes over what must be equal along a chain.
func (b Backup) inherit(m, prior *repo.Manifest) {
	if was, is := cmp.Or(prior.Options.CompressType, string(repo.None)), m.Options.CompressType; was != is {
		b.Voice.Warn("%s backup cannot alter compress-type option to '%s', reset to value in %s", m.Type, is, prior.Label)
		level := repo.Compression(was).Level()
		m.Options.CompressType, m.Options.Compress, m.Options.Level = was, prior.Options.Compress, &level
		if prior.Options.Level != nil {
			m.Options.Level = prior.Options.Level
		}
	}
	if was := prior.Options.ChecksumPage; was != nil && *was != *m.Options.ChecksumPage {
		b.Voice.Warn("%s backup cannot alter 'checksum-page' option to '%t', reset to '%t' from %s", m.Type, *m.Options.ChecksumPage, *was, prior.Label)
		m.Options.ChecksumPage = was
	}
}

// copy runs from the server's start of the backup to its stop.
func (b Backup) copy(ctx context.Context, m, prior, left *repo.Manifest, info repo.BackupInfo, conn *server.Conn) (server.End, error) {
	s := b.Stanza
	if b.Fast {
		b.Voice.Info("execute non-exclusive backup start: backup begins after the requested immediate checkpoint completes")
	} else {
		b.Voice.Info("execute non-exclusive backup start: backup begins after the next regular checkpoint completes")
	}
	begin, before, err := conn.Start(ctx, "pgBackRest backup started at "+time.Unix(m.Start, 0).Format("2006-01-02 15:04:05"), b.Fast)
	if err != nil {
		return server.End{}, err
	}
	m.ArchiveStart, m.LSNStart = begin.Segment, begin.LSN.String()
	b.Voice.Info("backup start archive = %s, lsn = %s", m.ArchiveStart, m.LSNStart)
	control, err := server.ReadControl(b.Server.Path)
	if err != nil {
		return server.End{}, err
	}
	if control.Checkpoint < begin.LSN {
		return server.End{}, repo.Errorf(repo.DBMismatch, "pg_control has checkpoint %s, before the start of the backup at %s: is '%s' the server's data directory?", control.Checkpoint, begin.LSN, b.Server.Path)
	}
	if b.Standby != nil {
		good, err := b.ready(ctx, server.Begin{LSN: begin.LSN, Checkpoint: control.Checkpoint, Timeline: control.Timeline, DB: conn.Control.DB, Wait: b.Wait})
		if err != nil {
			return server.End{}, err
		}
		m.Options.Standby = &good
	}
	if b.ArchiveCheck {
		b.Voice.Info("check archive for prior segment %s", before)
		if err := archive.Wait(ctx, s, m.DB.ArchiveID(), []string{before}, b.Wait); err != nil {
			return server.End{}, err
		}
	}
	if m.Databases, err = conn.Databases(ctx); err != nil {
		return server.End{}, err
	}
	spaces, err := conn.Tablespaces(ctx)
	if err != nil {
		return server.End{}, err
	}
	w := walker{m: m, root: b.Server.Path, online: true, exclude: b.Exclude, spaces: spaces, voice: b.Voice, system: fmt.Sprintf("PG_%s_%d", m.DB.Version, m.DB.Catalog)}
	if err := w.walk(); err != nil {
		return server.End{}, err
	}
	if m.CopyStart, err = nextSecond(ctx); err != nil {
		return server.End{}, err
	}
	again := b.merge(m, prior)
	listed := slices.Clone(m.Files) // as they were before anything was copied
	found, err := b.resume(ctx, m, left)
	if err != nil {
		return server.End{}, err
	}
	if err := b.prepare(ctx, m, info); err != nil {
		return server.End{}, err
	}
	c := &copier{
		s: s, m: m, primary: disk{b.Server.Path, w.sources}, pages: *m.Options.ChecksumPage, workers: b.Workers, bundle: m.Bundle, size: b.BundleSize,
		limit: b.BundleLimit, voice: b.Voice, again: again, pace: newPace(b.Rate), progress: b.Progress,
		coding:  repo.Coding{Compress: repo.Compression(m.Options.CompressType), Level: int(*m.Options.Level), Pass: m.Cipher},
		resumed: found, every: b.SaveEvery, save: func(data []byte) error { return s.SaveManifestCopy(ctx, m.Label, data, info) },
	}
	if *m.Options.Standby {
		c.standby = b.Standby
	}
	err = b.all(ctx, c, conn)
	if ofStandby(err) {
		if err := b.instead(ctx, err); err != nil {
			return server.End{}, err
		}
		// Nothing that came from there can be told from what is right.
		c.resumed = resumed{}
		if m.Files, c.standby = listed, nil; *m.Options.Standby {
			no := false
			m.Options.Standby = &no
		}
		if err = s.RemoveAll(ctx, repo.BackupPath(s.Name, m.Label)); err == nil {
			if err = b.prepare(ctx, m, info); err == nil {
				err = b.all(ctx, c, conn)
			}
		}
	}
	if err != nil {
		return server.End{}, err
	}
	m.Files = slices.DeleteFunc(m.Files, func(f repo.File) bool { return c.gone[f.Name] })
	b.Voice.Info("execute non-exclusive backup stop and wait for all WAL segments to archive")
	end, err := conn.Stop(ctx)
	if err != nil {
		return server.End{}, err
	}
	m.ArchiveStop, m.LSNStop = end.Segment, end.LSN.String()
	b.Voice.Info("backup stop archive = %s, lsn = %s", m.ArchiveStop, m.LSNStop)
	for name, content := range map[string]string{"backup_label": end.Label, "tablespace_map": end.Map} {
		if content == "" {
			continue
		}
		f := repo.File{Name: "pg_data/" + name, Owner: m.FileDefault, Timestamp: end.Time}
		object, _, _ := m.Object(s.Name, &f)
		sealed, err := s.Store(ctx, object, c.coding, func(w io.Writer) error { _, err := io.WriteString(w, content); return err })
		if err != nil {
			return server.End{}, err
		}
		c.note(&f, sealed)
		m.Files = append(m.Files, f)
	}
	m.Sort()
	return end, nil
}

// prepare makes the backup's directory.
func (b Backup) prepare(ctx context.Context, m *repo.Manifest, info repo.BackupInfo) error {
	if err := b.Stanza.SaveManifestCopy(ctx, m.Label, m.Bytes(), info); err != nil {
		return err
	}
	if t, ok := b.Stanza.Storage.(repo.Tree); ok && !m.Bundle {
		return b.directories(ctx, t, m)
	}
	return nil
}

// all copies what the prior backup has not.
func (b Backup) all(ctx context.Context, c *copier, conn *server.Conn) error {
	var changed []*repo.File
	c.total = 0
	c.done.Store(0)
	for i := range c.m.Files {
		if f := &c.m.Files[i]; f.Reference == "" || c.again {
			changed = append(changed, f)
			c.total += f.Size
		}
	}
	release := b.brake(ctx, c, conn)
	err := c.copy(ctx, changed)
	release()
	if err != nil || c.standby == nil {
		return err
	}
	return b.followed(ctx, conn)
}

// brake has the copying wait for standbys that fall behind; release ends that, and
// leaves the session to others.
func (b Backup) brake(ctx context.Context, c *copier, conn *server.Conn) (release func()) {
	if b.Lag <= 0 {
		return func() {}
	}
	c.brake = &brake{most: b.Lag, behind: conn.Behind, voice: b.Voice, tell: b.Waits, every: brakeEvery, limit: brakeLimit}
	if f, ok := c.standby.(interface{ Follower() string }); ok {
		c.brake.from = f.Follower()
	}
	c.brake.look(ctx)
	quit := make(chan struct{})
	var looks sync.WaitGroup
	looks.Go(func() { c.brake.run(ctx, quit) })
	return func() { close(quit); looks.Wait() }
}

// directories makes those of the cluster in the repository, the empty ones
// too, and the links to tablespaces: so does pgBackRest where there are some.
func (b Backup) directories(ctx context.Context, t repo.Tree, m *repo.Manifest) error {
	for _, p := range m.Paths {
		if err := t.MakeDir(ctx, repo.BackupPath(b.Stanza.Name, m.Label, p.Name)); err != nil {
			return err
		}
	}
	for _, target := range m.Targets {
		if target.Tablespace != "" {
			if err := t.Link(ctx, repo.BackupPath(b.Stanza.Name, m.Label, "pg_data", target.Name), "../../"+target.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextSecond waits until the clock's second is another one, and returns it: a
// file that changes after it was listed then has another time, and the next
// backup sees that.
func nextSecond(ctx context.Context) (int64, error) {
	now := time.Now()
	select {
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
		return now.Unix() + 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// merge notes which files the prior backup has already. By time and size,
// unless that can not be trusted: then again is true, and they are read.
func (b Backup) merge(m, prior *repo.Manifest) (again bool) {
	if prior == nil {
		return false
	}
	if again = b.Delta; !again {
		if why := untrusted(m, prior); why != "" {
			b.Voice.Warn("%s, enabling delta checksum", why)
			again = true
		}
	}
	*m.Options.Delta = again
	for i := range m.Files {
		f := &m.Files[i]
		was := prior.Find(f.Name)
		if was == nil || was.Size != f.Size || !again && was.Timestamp != f.Timestamp || slices.Contains(always, f.Name) {
			continue
		}
		f.Checksum, f.RepoChecksum, f.Bundle, f.Offset = was.Checksum, was.RepoChecksum, was.Bundle, was.Offset
		f.PageOK, f.PageError = was.PageOK, was.PageError
		f.SetStored(was.Stored())
		f.Reference = cmp.Or(was.Reference, prior.Label)
	}
	return again
}

// always are files that are copied whatever their time says.
var always = []string{"pg_data/global/pg_control", "pg_data/backup_label", "pg_data/tablespace_map"}

// untrusted says why times of files tell nothing, "" if they do.
func untrusted(m, prior *repo.Manifest) string {
	if len(prior.ArchiveStop) >= 8 && prior.ArchiveStop[:8] != m.ArchiveStart[:8] {
		return "a timeline switch has occurred since the " + prior.Label + " backup"
	}
	if prior.Options.Online != m.Options.Online {
		return "the online option has changed since the " + prior.Label + " backup"
	}
	for i := range m.Files {
		f := &m.Files[i]
		if f.Timestamp > m.CopyStart {
			return fmt.Sprintf("file '%s' has timestamp (%d) in the future (relative to copy start %d)", f.Name, f.Timestamp, m.CopyStart)
		}
		if was := prior.Find(f.Name); was != nil {
			switch {
			case f.Timestamp < was.Timestamp:
				return fmt.Sprintf("file '%s' has timestamp earlier than prior backup (prior %d, current %d)", f.Name, was.Timestamp, f.Timestamp)
			case f.Timestamp == was.Timestamp && f.Size != was.Size:
				return fmt.Sprintf("file '%s' has same timestamp (%d) as prior but different size (prior %d, current %d)", f.Name, f.Timestamp, was.Size, f.Size)
			}
		}
	}
	return ""
}

// refer lists the backups that the manifest's files lie in, itself last.
func refer(m *repo.Manifest) {
	m.Reference = nil
	for i := range m.Files {
		if r := m.Files[i].Reference; r != "" && !slices.Contains(m.Reference, r) {
			m.Reference = append(m.Reference, r)
		}
	}
	slices.SortFunc(m.Reference, repo.Later)
	m.Reference = append(m.Reference, m.Label)
}

// archived waits for the WAL without which the backup is none.
func (b Backup) archived(ctx context.Context, m *repo.Manifest, end server.End, conn *server.Conn) error {
	if !b.ArchiveCheck {
		return nil
	}
	b.Voice.Info("check archive for segment(s) %s:%s", m.ArchiveStart, m.ArchiveStop)
	all, err := repo.Segments(m.ArchiveStart, end.Segment, conn.Segment)
	if err != nil {
		return err
	}
	return archive.Wait(ctx, b.Stanza, m.DB.ArchiveID(), all, b.Wait)
}
