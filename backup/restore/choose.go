package restore

import (
	"context"
	"slices"
	"strings"
	"time"

	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pg"
)

// Kinds of targets, by pgBackRest's names.
const (
	Default   = "default"   // to the end of the archive
	Immediate = "immediate" // as soon as the cluster is consistent
	LSN       = "lsn"
	Name      = "name"
	None      = "none"
	Preserve  = "preserve" // as the recovery files say that are there
	Standby   = "standby"
	Time      = "time"
	XID       = "xid"
)

// choose finds the backup to restore: the one that is asked for, or the newest
// from which the target can be reached.
func (r Restore) choose(ctx context.Context, stanzas []*stanza.Stanza) (*stanza.Stanza, *repo.Manifest, error) {
	var first error
	for _, s := range stanzas {
		info, err := s.BackupInfo(ctx)
		if err != nil {
			r.Voice.Warn("%s: %s", s, err)
			if first == nil {
				first = err
			}
			continue
		}
		label, err := r.pick(info.Backups)
		if err != nil {
			return nil, nil, err
		}
		if label == "" {
			continue
		}
		m, err := s.Manifest(ctx, label, info)
		if err != nil {
			r.Voice.Warn("%s: %s", s, err)
			first = err
			continue
		}
		if m.Label != label {
			return nil, nil, repo.Errorf(repo.BadFormat, "requested backup '%s' and manifest label '%s' do not match; this indicates some sort of corruption", label, m.Label)
		}
		return s, m, nil
	}
	switch {
	case r.Set != "":
		return nil, nil, repo.Errorf(repo.BackupSetInvalid, "backup set %s is not valid", r.Set)
	case first != nil:
		return nil, nil, repo.Errorf(repo.BackupSetInvalid, "no backup set found to restore: %w", first)
	case r.Type == Time || r.Type == LSN:
		return nil, nil, repo.Errorf(repo.BackupSetInvalid, "unable to find backup set to restore to %s '%s'", r.Type, r.Target)
	}
	return nil, nil, repo.Errorf(repo.BackupSetInvalid, "no backup set found to restore")
}

// pick returns a label, or "" if no backup will do.
func (r Restore) pick(backups []repo.Backup) (string, error) {
	if r.Set != "" {
		for _, b := range backups {
			if b.Label == r.Set {
				return r.Set, nil
			}
		}
		return "", nil
	}
	reaches := func(repo.Backup) bool { return true }
	switch r.Type {
	case Time:
		at, err := ParseTime(r.Target)
		if err != nil {
			return "", err
		}
		reaches = func(b repo.Backup) bool { return b.Stop < at.Unix() }
	case LSN:
		at, err := pg.ParseLSN(r.Target)
		if err != nil {
			return "", repo.Errorf(repo.OptionInvalidValue, "'%s' is no LSN", r.Target)
		}
		reaches = func(b repo.Backup) bool {
			stop, err := pg.ParseLSN(b.LSNStop)
			return err == nil && stop <= at
		}
	}
	for _, b := range slices.Backward(backups) {
		if reaches(b) {
			return b.Label, nil
		}
	}
	return "", nil
}

// ParseTime reads a moment as PostgreSQL would in the forms that people use:
// 2026-11-21 12:00:00, with parts of a second or without, and a zone or the
// one of this machine.
func ParseTime(text string) (time.Time, error) {
	if text = strings.TrimSpace(text); len(text) > 10 && text[10] == 'T' {
		text = text[:10] + " " + text[11:]
	}
	for _, zone := range []string{"Z07:00", "-07:00", "-0700", "-07", " Z07:00", " -07:00", " -0700", " -07", " MST", ""} {
		for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} { // a fraction is taken anyway
			if zone == " MST" && !strings.HasSuffix(text, " UTC") && !strings.HasSuffix(text, " GMT") {
				continue // of other names nobody knows the offset
			}
			if t, err := time.ParseInLocation(form+zone, text, time.Local); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, repo.Errorf(repo.OptionInvalidValue, "automatic backup set selection cannot be performed with provided time '%s'; time format must be YYYY-MM-DD HH:MM:SS with optional fraction and timezone (+/-HH, +/-HHMM or +/-HH:MM)", text)
}
