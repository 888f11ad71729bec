package backup

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/repo/posix"
	"howdah/backup/repo/s3"
	"howdah/backup/restore"
	"howdah/backup/server"
	"howdah/backup/stanza"
	"howdah/backup/take"
	"howdah/backup/verify"
	"howdah/secret"
)

// The words of this wing, for its doors.
type (
	Server  = server.Server
	Stanza  = stanza.Stanza
	Voice   = stanza.Voice
	Take    = take.Backup
	Restore = restore.Restore
	Verify  = verify.Verify
	Report  = verify.Report
	Bucket  = s3.Config
	Spool   = archive.Spool
	Ahead   = archive.Ahead
)

// ErrAbsent says that no repository has a WAL file.
var ErrAbsent = archive.ErrAbsent

// SpoolOf is a stanza's spool below spool-path.
func SpoolOf(path, stanza string) Spool { return archive.SpoolOf(path, stanza) }

// Dropped is what is said of a WAL file that was given up because more than limit waited.
func Dropped(name string, limit int64) string { return archive.Dropped(name, limit) }

// Posix opens a stanza of a repository in a directory.
func Posix(key int, path, name string, pass secret.Text) *Stanza {
	return &Stanza{Storage: posix.Store{Root: path}, Name: name, Repo: key, Pass: pass, Place: filepath.Clean(path)}
}

// S3 opens a stanza of a repository in a bucket.
func S3(key int, b Bucket, name string, pass secret.Text) (*Stanza, error) {
	store, err := s3.Open(b)
	if err != nil {
		return nil, fmt.Errorf("repo%d: %w", key, err)
	}
	return &Stanza{Storage: store, Name: name, Repo: key, Pass: pass, Place: "s3 " + b.Endpoint + " " + b.Bucket + " " + strings.Trim(b.Path, "/")}, nil
}

// A View is what one repository has of one stanza.
type View struct {
	Repo     int
	Cipher   string
	Missing  error // why there is nothing to see: no directory, no info files
	NoPath   bool  // the stanza has no directory at all
	Info     repo.BackupInfo
	Archives []Archive
}

// An Archive is the WAL of one database system in one repository.
type Archive struct {
	DB       repo.DB
	Min, Max string // segments; "" if there are none
}

// Names lists the stanzas of repositories.
func Names(ctx context.Context, stanzas ...*Stanza) ([]string, error) {
	var all []string
	for _, s := range stanzas {
		for _, dir := range []string{"archive", "backup"} {
			list, err := s.List(ctx, dir)
			if err != nil {
				return nil, err
			}
			for _, e := range list {
				if e.Dir {
					all = append(all, e.Name)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Look reads what a repository has of a stanza.
func Look(ctx context.Context, s *Stanza) (View, error) {
	v := View{Repo: s.Repo, Cipher: s.Cipher()}
	there := 0
	for _, dir := range []string{repo.ArchivePath(s.Name), repo.BackupPath(s.Name)} {
		list, err := s.List(ctx, dir)
		if err != nil {
			return v, err
		}
		there += len(list)
	}
	archiveInfo, err := s.ArchiveInfo(ctx)
	if err == nil {
		v.Info, err = s.BackupInfo(ctx)
	}
	if err != nil {
		v.Missing, v.NoPath = err, there == 0
		return v, nil
	}
	for _, d := range archiveInfo.History {
		a := Archive{DB: d}
		dirs, err := s.List(ctx, repo.ArchivePath(s.Name, d.ArchiveID()))
		if err != nil {
			return v, err
		}
		if a.Min, err = edge(ctx, s, d, dirs, 1); err != nil {
			return v, err
		}
		slices.Reverse(dirs)
		if a.Max, err = edge(ctx, s, d, dirs, -1); err != nil {
			return v, err
		}
		v.Archives = append(v.Archives, a)
	}
	return v, nil
}

// edge is the first segment in the first of the directories that has one; with
// order -1 the last.
func edge(ctx context.Context, s *Stanza, d repo.DB, dirs []repo.Entry, order int) (string, error) {
	for _, dir := range dirs {
		if !dir.Dir {
			continue
		}
		list, err := s.List(ctx, repo.ArchivePath(s.Name, d.ArchiveID(), dir.Name))
		if err != nil {
			return "", err
		}
		best := ""
		for _, e := range list {
			if seg, ok := repo.ParseSegment(e.Name); ok && !seg.Partial && (best == "" || order*cmp.Compare(seg.Name, best) < 0) {
				best = seg.Name
			}
		}
		if best != "" {
			return best, nil
		}
	}
	return "", nil
}

// Held says whether a backup of the stanza is being made on this machine.
func (d Desk) Held() bool {
	_, held := stanza.Held(d.Locks, d.Stanza, stanza.LockBackup)
	return held
}

// Restore brings the cluster back.
func (d Desk) Restore(ctx context.Context, r Restore) (string, error) {
	if err := stanza.Stopped(d.Locks, d.Stanza); err != nil {
		return "", err
	}
	locks, err := stanza.Lock(d.Locks, d.Stanza, d.keys(), stanza.LockRestore)
	if err != nil {
		return "", err
	}
	defer locks.Release()
	r.Path, r.Voice = d.Server.Path, d.Voice
	return r.From(ctx, d.Stanzas...)
}

// Verify reads the repositories back.
func (d Desk) Verify(ctx context.Context, v Verify) ([]Report, error) {
	var all []Report
	v.Voice = d.Voice
	for _, s := range d.Stanzas {
		r, err := v.Of(ctx, s)
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}
