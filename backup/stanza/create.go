package stanza

import (
	"context"
	"errors"
	"io/fs"

	"howdah/backup/repo"
)

// Create makes the info files of a database that has none yet, and mends a
// missing copy. One that has them already is left alone; one that has others
// is refused.
func (s *Stanza) Create(ctx context.Context, d repo.DB) error {
	archive, err := s.ArchiveInfo(ctx)
	noArchive := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noArchive {
		return err
	}
	backup, err := s.BackupInfo(ctx)
	noBackup := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noBackup {
		return err
	}
	switch {
	case noArchive != noBackup:
		have, lacks := repo.ArchiveInfoName, repo.BackupInfoName
		if noArchive {
			have, lacks = lacks, have
		}
		return repo.Errorf(repo.FileMissing, "%s exists but %s is missing on %s; this may be a symptom of repository corruption!", have, lacks, s)
	case noArchive:
		for _, dir := range []string{repo.ArchivePath(s.Name), repo.BackupPath(s.Name)} {
			list, err := s.List(ctx, dir)
			if err != nil {
				return err
			}
			if len(list) > 0 {
				return repo.Errorf(repo.PathNotEmpty, "%s directory '%s' not empty; it is of another stanza, or its info files were lost", s, dir)
			}
		}
		d.ID = 1
		archive = repo.ArchiveInfo{Cipher: s.NewPass(), DB: d, History: []repo.DB{d}}
		backup = repo.BackupInfo{Cipher: s.NewPass(), DB: d, History: []repo.DB{d}}
		if err := s.SaveArchiveInfo(ctx, archive); err != nil {
			return err
		}
		return s.SaveBackupInfo(ctx, backup)
	}
	if !archive.DB.Same(d) || !backup.DB.Same(d) || !repo.SameHistory(archive, backup) {
		return repo.Errorf(repo.FileInvalid, "backup and archive info files exist but do not match the database; is this the correct stanza? is it stanza-upgrade that is wanted?")
	}
	// Both are there: write again what lacks its copy.
	for _, f := range []struct {
		dir, name string
		save      func() error
	}{
		{repo.ArchivePath(s.Name), repo.ArchiveInfoName, func() error { return s.SaveArchiveInfo(ctx, archive) }},
		{repo.BackupPath(s.Name), repo.BackupInfoName, func() error { return s.SaveBackupInfo(ctx, backup) }},
	} {
		main, second, err := s.Copies(ctx, f.dir, f.name)
		if err != nil {
			return err
		}
		if !main || !second {
			if err := f.save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Upgrade notes that the stanza's database is another one now: a new version,
// or a new system in its place.
func (s *Stanza) Upgrade(ctx context.Context, d repo.DB) error {
	archive, err := s.ArchiveInfo(ctx)
	if err != nil {
		return err
	}
	backup, err := s.BackupInfo(ctx)
	if err != nil {
		return err
	}
	if !repo.SameHistory(archive, backup) {
		return repo.Errorf(repo.FileInvalid, "backup info file and archive info file do not match")
	}
	if archive.DB.Same(d) {
		return nil
	}
	for _, past := range archive.History {
		d.ID = max(d.ID, past.ID+1)
	}
	archive.DB, archive.History = d, append(archive.History, d)
	backup.DB, backup.History = d, append(backup.History, d)
	if err := s.SaveArchiveInfo(ctx, archive); err != nil {
		return err
	}
	return s.SaveBackupInfo(ctx, backup)
}
