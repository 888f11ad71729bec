package backup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/retain"
	"howdah/backup/stanza"
)

// Expire removes from every repository what its policy does not keep, or, with
// a label, that backup and what depends on it.
func (d Desk) Expire(ctx context.Context, keep map[int]retain.Policy, label string, dry bool) error {
	locks, err := d.lock(stanza.LockBackup)
	if err != nil {
		return err
	}
	defer locks.Release()
	found := false
	var failed []error // of one repository: no reason to leave what is too old in another
	for _, s := range d.Stanzas {
		did, err := d.expireAlone(ctx, s, keep[s.Repo], label, dry)
		found = found || did
		switch {
		case err == nil:
		case len(d.Stanzas) == 1:
			return err
		default:
			failed = append(failed, fmt.Errorf("%s: %w", s, err))
		}
	}
	if len(failed) > 0 {
		return repo.Errorf(repo.CommandFailed, "expire failed on %d of %d repositories: %w", len(failed), len(d.Stanzas), errors.Join(failed...))
	}
	if label != "" && !found {
		d.Voice.Warn("backup %s does not exist\nHINT: run the info command and confirm the backup is listed", label)
	}
	return nil
}

// expireAlone keeps other hosts out of the repository meanwhile.
func (d Desk) expireAlone(ctx context.Context, s *stanza.Stanza, p retain.Policy, label string, dry bool) (bool, error) {
	ctx, release, err := s.Claim(ctx, d.Voice)
	if err != nil {
		return false, err
	}
	defer release()
	found, err := d.expire(ctx, s, p, label, dry)
	return found, because(ctx, err)
}

// expire removes from one repository; the list is shortened before what it
// lists goes, and a backup's manifest before its files.
func (d Desk) expire(ctx context.Context, s *stanza.Stanza, p retain.Policy, label string, dry bool) (found bool, err error) {
	info, err := s.BackupInfo(ctx)
	if err != nil {
		return false, err
	}
	archiveInfo, err := s.ArchiveInfo(ctx)
	if err != nil {
		return false, err
	}
	if !repo.SameHistory(archiveInfo, info) {
		return false, repo.Errorf(repo.BadFormat, "archive expiration cannot continue: archive and backup history lists do not match on %s", s)
	}
	if err := s.Reconcile(ctx, &info, d.Voice); err != nil {
		return false, err
	}
	var gone []string
	if label == "" {
		gone = retain.Expire(info.Backups, p, time.Now())
	} else if _, found = info.Find(label); found {
		if gone, err = retain.One(info.Backups, label, info.DB.ID); err != nil {
			return true, err
		}
	}
	for _, l := range gone {
		d.Voice.Info("%s: expire backup %s", s, l)
		if !dry {
			manifest := repo.BackupPath(s.Name, l, repo.ManifestName)
			if err := s.Remove(ctx, manifest, manifest+repo.Copy); err != nil {
				return found, err
			}
		}
	}
	info.Drop(gone...)
	if !dry {
		if err := s.SaveBackupInfo(ctx, info); err != nil {
			return found, err
		}
		if n := len(info.Backups); n > 0 && len(gone) > 0 {
			if err := s.Latest(ctx, info.Backups[n-1].Label); err != nil {
				return found, err
			}
		}
	}
	if err := d.directories(ctx, s, info, gone, dry); err != nil {
		return found, err
	}
	if err := d.wal(ctx, s, info, archiveInfo, p, dry); err != nil {
		return found, err
	}
	if err := d.history(ctx, s, info, p, dry); err != nil {
		return found, err
	}
	if t, ok := s.Storage.(repo.Tree); ok && !dry {
		for _, dir := range repo.Roots(s.Name) {
			if err := t.Sweep(ctx, dir); err != nil {
				d.Voice.Warn("%s: what was left half written stays: %s", s, err) // nothing depends on it
			}
		}
	}
	return found, nil
}

// directories removes those of backups that are not listed.
func (d Desk) directories(ctx context.Context, s *stanza.Stanza, info repo.BackupInfo, gone []string, dry bool) error {
	labels, err := s.Labels(ctx)
	if err != nil {
		return err
	}
	for _, l := range slices.Backward(labels) {
		if _, listed := info.Find(l); listed {
			continue
		}
		if !slices.Contains(gone, l) {
			// Not ours to remove unless it is debris: another host may be writing it.
			_, unfinished, err := s.Copies(ctx, repo.BackupPath(s.Name, l), repo.ManifestName)
			if err != nil {
				return err
			}
			if unfinished {
				continue
			}
		}
		d.Voice.Info("%s: remove expired backup %s", s, l)
		if !dry {
			if err := s.RemoveAll(ctx, repo.BackupPath(s.Name, l)); err != nil {
				return err
			}
		}
	}
	return nil
}

// wal removes what no backup left needs.
func (d Desk) wal(ctx context.Context, s *stanza.Stanza, info repo.BackupInfo, archiveInfo repo.ArchiveInfo, p retain.Policy, dry bool) error {
	ids, err := s.List(ctx, repo.ArchivePath(s.Name))
	if err != nil {
		return err
	}
	for _, e := range ids {
		if !e.Dir || !repo.IsArchiveID(e.Name) {
			continue
		}
		db, _ := strconv.Atoi(e.Name[strings.LastIndexByte(e.Name, '-')+1:])
		keep, limited := retain.WAL(info.Backups, p, db, time.Now())
		switch {
		case !limited:
			continue
		case len(keep) > 0:
			if err = d.segments(ctx, s, e.Name, keep, dry); err == nil && !dry {
				if left := archive.ForgetHoles(ctx, s, e.Name, keep[0].Start); left != nil {
					d.Voice.Warn("%s: records of missing WAL stay: %s", s, left) // nothing depends on them
				}
			}
		case db != archiveInfo.DB.ID:
			d.Voice.Info("%s: %s no longer has a backup: remove its archive", s, e.Name)
			if !dry {
				err = errors.Join(s.RemoveAll(ctx, repo.ArchivePath(s.Name, e.Name)), s.RemoveAll(ctx, repo.HolePath(s.Name, e.Name)))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d Desk) segments(ctx context.Context, s *stanza.Stanza, id string, keep []retain.Range, dry bool) error {
	needed := func(segment string) bool {
		return slices.ContainsFunc(keep, func(r retain.Range) bool { return r.Has(segment) })
	}
	dirs, err := s.List(ctx, repo.ArchivePath(s.Name, id))
	if err != nil {
		return err
	}
	first, last, n := "", "", 0
	for _, dir := range dirs {
		if !dir.Dir {
			if history, ok := strings.CutSuffix(dir.Name, ".history"); ok && repo.IsWAL(dir.Name) && history < keep[0].Start[:8] && !dry {
				if err := s.Remove(ctx, repo.ArchivePath(s.Name, id, dir.Name)); err != nil {
					return err
				}
			}
			continue
		}
		if dir.Name > keep[0].Start[:16] {
			break
		}
		list, err := s.List(ctx, repo.ArchivePath(s.Name, id, dir.Name))
		if err != nil {
			return err
		}
		var names []string
		left := false
		for _, e := range list {
			if len(e.Name) < 24 || !repo.IsSegment(e.Name[:24]) {
				continue
			}
			if needed(e.Name[:24]) {
				left = true
				continue
			}
			if first == "" {
				first = e.Name[:24]
			}
			last = e.Name[:24]
			names = append(names, path.Join(repo.ArchivePath(s.Name, id, dir.Name), e.Name))
		}
		n += len(names)
		if dry || len(names) == 0 {
			continue
		}
		if left {
			err = s.Remove(ctx, names...)
		} else {
			err = s.RemoveAll(ctx, repo.ArchivePath(s.Name, id, dir.Name))
		}
		if err != nil {
			return err
		}
	}
	if n == 0 {
		d.Voice.Info("%s: %s no archive to remove", s, id)
	} else {
		d.Voice.Info("%s: %s remove archive, start = %s, stop = %s", s, id, first, last)
	}
	return nil
}

// history removes old manifests of backups that are gone.
func (d Desk) history(ctx context.Context, s *stanza.Stanza, info repo.BackupInfo, p retain.Policy, dry bool) error {
	if p.History < 0 {
		return nil
	}
	limit := time.Now().AddDate(0, 0, -p.History).Format("20060102-150405F")
	base := repo.BackupPath(s.Name, "backup.history")
	years, err := s.List(ctx, base)
	if err != nil {
		return err
	}
	for _, y := range years {
		list, err := s.List(ctx, path.Join(base, y.Name))
		if err != nil {
			return err
		}
		for _, e := range list {
			label, ok := strings.CutSuffix(e.Name, ".manifest.gz")
			_, listed := info.Find(label)
			if !ok || listed || !repo.IsLabel(label) || repo.Later(label, limit) >= 0 || dry {
				continue
			}
			if err := s.Remove(ctx, path.Join(base, y.Name, e.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}
