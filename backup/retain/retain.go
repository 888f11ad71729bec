// Package retain says which backups and which WAL may go.
//
// It is a pure function of what is there and of a policy; it deletes nothing
// itself. Rules and their order are those of pgBackRest's expire: first a
// backup that is asked for, or full backups by count or age and differential
// ones by count, each with all that depend on it; then the WAL that no backup
// left needs.
package retain

import (
	"cmp"
	"slices"
	"time"

	"howdah/backup/repo"
)

// A Policy says what must be kept. A zero number keeps everything.
type Policy struct {
	Full      int       // full backups: so many, or of so many days
	ByTime    bool      // Full is days
	Diff      int       // differential backups; full ones count too
	Archive   int       // backups for which WAL is kept; 0: derived from the above
	ArchiveOf repo.Type // whose: full, diff or incr ones
	History   int       // days that manifests of removed backups are kept; -1: for ever
}

// Expire returns the labels of the backups that may go, newest first, so that
// none is ever left without one that it needs.
func Expire(backups []repo.Backup, p Policy, now time.Time) []string {
	gone := map[string]bool{}
	expire := func(label string) {
		gone[label] = true
		for _, d := range (repo.BackupInfo{Backups: backups}).Dependents(label) {
			gone[d] = true
		}
	}
	var full []repo.Backup
	for _, b := range backups {
		if b.Type == repo.Full {
			full = append(full, b)
		}
	}
	switch {
	case p.Full <= 0:
	case p.ByTime:
		limit := now.AddDate(0, 0, -p.Full).Unix()
		for i := len(full) - 1; i >= 0; i-- {
			if full[i].Stop < limit { // the newest that is old enough to restore to the limit
				for _, b := range full[:i] {
					expire(b.Label)
				}
				break
			}
		}
	default:
		for _, b := range full[:max(len(full)-p.Full, 0)] {
			expire(b.Label)
		}
	}
	if p.Diff > 0 {
		var list []repo.Backup
		for _, b := range backups {
			if !gone[b.Label] && (b.Type == repo.Full || b.Type == repo.Diff) {
				list = append(list, b)
			}
		}
		for _, b := range list[:max(len(list)-p.Diff, 0)] {
			if b.Type == repo.Diff {
				expire(b.Label)
			}
		}
	}
	return newestFirst(backups, gone)
}

// One returns what goes with a backup that is asked to go, or says why it must stay.
func One(backups []repo.Backup, label string, current int) ([]string, error) {
	info := repo.BackupInfo{Backups: backups}
	b, ok := info.Find(label)
	if !ok {
		return nil, repo.Errorf(repo.BackupSetInvalid, "'%s' is not a valid backup label", label)
	}
	if b.Type == repo.Full && b.DB == current {
		only := !slices.ContainsFunc(backups, func(o repo.Backup) bool {
			return o.Type == repo.Full && o.DB == current && o.Label != label
		})
		if only {
			return nil, repo.Errorf(repo.BackupSetInvalid, "full backup %s cannot be expired until another full backup has been created", label)
		}
	}
	gone := map[string]bool{label: true}
	for _, d := range info.Dependents(label) {
		gone[d] = true
	}
	return newestFirst(backups, gone), nil
}

func newestFirst(backups []repo.Backup, gone map[string]bool) []string {
	var all []string
	for _, b := range slices.Backward(backups) {
		if gone[b.Label] {
			all = append(all, b.Label)
		}
	}
	return all
}

// A Range of segments that must be kept; an empty Stop has no end.
type Range struct{ Start, Stop string }

// Has says whether a WAL file's segment is in the range.
func (r Range) Has(segment string) bool {
	return segment >= r.Start && (r.Stop == "" || segment <= r.Stop)
}

// WAL returns the ranges of one archive id that must be kept, and whether
// anything of it may go at all. Names are compared, and the
// timeline comes first in them, as pgBackRest does it.
func WAL(backups []repo.Backup, p Policy, db int, now time.Time) (keep []Range, limited bool) {
	n, of := p.Archive, cmp.Or(p.ArchiveOf, repo.Full)
	if n <= 0 {
		switch {
		case of == repo.Full && p.ByTime:
			// Only once a full backup is old enough that the limit can be reached from it.
			if limit := now.AddDate(0, 0, -p.Full).Unix(); slices.ContainsFunc(backups, func(b repo.Backup) bool { return b.Type == repo.Full && b.Stop < limit }) {
				n = count(backups, repo.Full)
			}
		case of == repo.Full:
			n = p.Full
		case of == repo.Diff:
			n = p.Diff
		}
	}
	if n <= 0 {
		return nil, false
	}
	var list, here []repo.Backup
	for _, b := range backups {
		if b.ArchiveStart == "" {
			continue
		}
		if b.DB == db {
			here = append(here, b)
		}
		if b.Type == repo.Full || of == repo.Diff && b.Type == repo.Diff || of == repo.Incr {
			list = append(list, b)
		}
	}
	if len(here) == 0 {
		return nil, true
	}
	list = list[max(len(list)-n, 0):]
	oldest := here[len(here)-1]
	for _, b := range slices.Backward(list) {
		if b.DB == db {
			oldest = b
		}
	}
	keep = append(keep, Range{Start: oldest.ArchiveStart})
	for _, b := range here {
		if b.Label < oldest.Label {
			keep = append(keep, Range{b.ArchiveStart, b.ArchiveStop})
		}
	}
	return keep, true
}

func count(backups []repo.Backup, t repo.Type) int {
	n := 0
	for _, b := range backups {
		if b.Type == t {
			n++
		}
	}
	return max(n, 1)
}
