// Package verify reads a repository back: every byte of every backup and of
// the archive, and whether the WAL has holes.
//
// It finds what pgBackRest's verify finds, and what that passes over: content
// of another length than the manifest says, WAL that is missing between two
// segments or within a backup. A backup that lacks WAL of its own is invalid;
// a hole that comes later only ends what can be recovered.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pg"
)

// Counts are the objects that were read, and what was wrong with them.
type Counts struct {
	Total, Valid, Missing, Checksum, Size, Other int
}

// Good says that nothing was wrong.
func (c Counts) Good() bool { return c.Total == c.Valid }

func (c *Counts) add(err error) {
	c.Total++
	switch {
	case err == nil:
		c.Valid++
	case errors.Is(err, fs.ErrNotExist):
		c.Missing++
	case errors.Is(err, stanza.ErrSize):
		c.Size++
	case repo.ClassOf(err) == repo.Checksum || repo.ClassOf(err) == repo.BadFormat || repo.ClassOf(err) == repo.Crypto:
		c.Checksum++
	default:
		c.Other++
	}
}

// An Archive is the WAL of one archive id.
type Archive struct {
	ID    string
	WAL   Counts
	Holes []Hole
}

// A Hole is WAL that is missing between two segments of a timeline.
type Hole struct {
	After, Before string      // the segments around it
	Costs         string      // what can not be done for its sake
	Known         []repo.Hole // what is recorded of it
}

// A Backup is one that was read.
type Backup struct {
	Label  string
	Status string // valid, invalid, manifest missing, in-progress
	Files  Counts
	Lacks  []string // WAL that it needs and that is missing
}

// The states of a backup.
const (
	Valid      = "valid"
	Invalid    = "invalid"
	NoManifest = "manifest missing"
	InProgress = "in-progress"
)

// A Report is what was found in one repository.
type Report struct {
	Stanza   string
	Errors   []string // about the info files
	Archives []Archive
	Backups  []Backup
}

// Good says that there is nothing to complain about.
func (r Report) Good() bool {
	return len(r.Errors) == 0 &&
		!slices.ContainsFunc(r.Archives, func(a Archive) bool { return !a.WAL.Good() || len(a.Holes) > 0 }) &&
		!slices.ContainsFunc(r.Backups, func(b Backup) bool { return b.Status == Invalid || b.Status == NoManifest })
}

// A Verify is what is asked for.
type Verify struct {
	Workers int
	Set     string // only this backup
	Voice   stanza.Voice
}

// Of reads a repository.
func (v Verify) Of(ctx context.Context, s *stanza.Stanza) (Report, error) {
	r := Report{Stanza: s.Name}
	archiveInfo, err := s.ArchiveInfo(ctx)
	if err != nil {
		return r, err
	}
	info, err := s.BackupInfo(ctx)
	if err != nil {
		return r, err
	}
	v.copies(ctx, s, &r)
	if !repo.SameHistory(archiveInfo, info) {
		r.Errors = append(r.Errors, "backup info file and archive info file do not match")
	}
	have := map[string]map[string]bool{} // archive id -> segments that are good
	ids, err := s.List(ctx, repo.ArchivePath(s.Name))
	if err != nil {
		return r, err
	}
	for _, e := range ids {
		if !e.Dir || !repo.IsArchiveID(e.Name) {
			continue
		}
		a := Archive{ID: e.Name}
		if have[e.Name], err = v.archive(ctx, s, &a, archiveInfo, info); err != nil {
			return r, err
		}
		r.Archives = append(r.Archives, a)
	}
	labels, err := s.Labels(ctx)
	if err != nil {
		return r, err
	}
	for _, b := range info.Backups {
		if !slices.Contains(labels, b.Label) {
			labels = append(labels, b.Label) // listed, and nothing of it is there
		}
	}
	slices.Sort(labels)
	for _, label := range labels {
		if v.Set != "" && v.Set != label {
			continue
		}
		b, err := v.backup(ctx, s, label, info, have)
		if err != nil {
			return r, err
		}
		r.Backups = append(r.Backups, b)
	}
	if v.Set != "" && len(r.Backups) == 0 {
		return r, repo.Errorf(repo.BackupSetInvalid, "'%s' is not a backup of this stanza", v.Set)
	}
	return r, ctx.Err()
}

// copies proves both copies of the info files: one that is damaged goes
// unnoticed as long as the other is read.
func (v Verify) copies(ctx context.Context, s *stanza.Stanza, r *Report) {
	for _, f := range []struct {
		name  string
		parse func([]byte) error
	}{
		{repo.ArchivePath(s.Name, repo.ArchiveInfoName), func(b []byte) error { _, err := repo.ParseArchiveInfo(b); return err }},
		{repo.BackupPath(s.Name, repo.BackupInfoName), func(b []byte) error { _, err := repo.ParseBackupInfo(b); return err }},
	} {
		var texts []string
		for _, name := range []string{f.name, f.name + repo.Copy} {
			var b strings.Builder
			_, err := s.Fetch(ctx, name, 0, -1, repo.Coding{Pass: s.Pass}, &b)
			if err == nil {
				err = f.parse([]byte(b.String()))
			}
			if err != nil {
				r.Errors = append(r.Errors, fmt.Sprintf("%s: %s", name, err))
				continue
			}
			texts = append(texts, b.String())
		}
		if len(texts) == 2 && texts[0] != texts[1] {
			r.Errors = append(r.Errors, f.name+" and its copy are not the same")
		}
	}
}

// each runs do for n things with so many workers.
func (v Verify) each(ctx context.Context, n int, do func(i int)) {
	work := make(chan int)
	var wait sync.WaitGroup
	for range max(v.Workers, 1) {
		wait.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		work <- i
	}
	close(work)
	wait.Wait()
}

// archive reads all segments of an archive id, and returns those that are good.
func (v Verify) archive(ctx context.Context, s *stanza.Stanza, a *Archive, info repo.ArchiveInfo, backups repo.BackupInfo) (map[string]bool, error) {
	dirs, err := s.List(ctx, repo.ArchivePath(s.Name, a.ID))
	if err != nil {
		return nil, err
	}
	var all []repo.Segment
	for _, d := range dirs {
		if !d.Dir {
			continue
		}
		list, err := s.List(ctx, repo.ArchivePath(s.Name, a.ID, d.Name))
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if seg, ok := repo.ParseSegment(e.Name); ok {
				all = append(all, seg)
			}
		}
	}
	errs, sizes := make([]error, len(all)), make([]int64, len(all))
	v.each(ctx, len(all), func(i int) { sizes[i], errs[i] = v.segment(ctx, s, a.ID, all[i], info) })
	good, names := map[string]bool{}, []string{}
	size := int64(0)
	for i, seg := range all {
		if i > 0 && errs[i] == nil && all[i-1].Name == seg.Name && all[i-1].Partial == seg.Partial {
			errs[i] = fmt.Errorf("duplicate WAL '%s' exists", seg.Name)
		}
		if a.WAL.add(errs[i]); errs[i] != nil {
			v.Voice.Warn("%s: %s", repo.WALPath(s.Name, a.ID, seg.String()), errs[i])
			continue
		}
		if !seg.Partial {
			good[seg.Name] = true
			names = append(names, seg.Name)
			size = cmp.Or(size, sizes[i])
		}
	}
	a.Holes = holes(names, size, a.ID, backups)
	known, err := archive.Holes(ctx, s, a.ID)
	if err != nil {
		v.Voice.Warn("what is recorded of missing WAL can not be read: %s", err) // that it is missing is seen
	}
	for i := range a.Holes {
		a.Holes[i].Known = explain(a.Holes[i], known)
	}
	return good, nil
}

// holes finds what is missing between segments of one timeline, from the first
// backup on: what is missing before costs nothing.
func holes(names []string, size int64, id string, info repo.BackupInfo) []Hole {
	var all []Hole
	first := info.FirstSegment(id)
	for i := 1; i < len(names) && first != ""; i++ {
		before, after := names[i], names[i-1]
		if before[:8] != after[:8] || before == repo.NextSegment(after, size) || before <= first {
			continue
		}
		h := Hole{After: after, Before: before}
		for _, b := range info.Backups {
			if info.ArchiveID(b.DB) == id && b.ArchiveStop != "" && b.ArchiveStop < before && b.ArchiveStop[:8] == before[:8] {
				h.Costs = fmt.Sprintf("from backup %s and earlier ones recovery ends at %s", b.Label, after)
			}
		}
		all = append(all, h)
	}
	return all
}

// explain are the records of what is missing.
func explain(h Hole, known []repo.Hole) (about []repo.Hole) {
	for _, k := range known {
		if k.First[:8] == h.Before[:8] && k.First < h.Before && k.Last > h.After {
			about = append(about, k)
		}
	}
	return about
}

// segment reads one segment.
func (v Verify) segment(ctx context.Context, s *stanza.Stanza, id string, seg repo.Segment, info repo.ArchiveInfo) (int64, error) {
	var head headOf
	sealed, err := s.Fetch(ctx, repo.WALPath(s.Name, id, seg.String()), 0, -1, repo.Coding{Compress: seg.Coding, Pass: info.Cipher}, &head)
	if err != nil {
		return 0, err
	}
	if sealed.Checksum != seg.Checksum {
		return 0, repo.Errorf(repo.Checksum, "invalid checksum")
	}
	h, err := repo.ParseWALHeader(head.b)
	if err != nil {
		return 0, err
	}
	if sealed.Size != h.Size {
		return 0, stanza.ErrSize
	}
	return h.Size, nil
}

// headOf keeps the first bytes of a stream.
type headOf struct{ b []byte }

func (h *headOf) Write(p []byte) (int, error) {
	if more := repo.WALHeaderSize - len(h.b); more > 0 {
		h.b = append(h.b, p[:min(more, len(p))]...)
	}
	return len(p), nil
}

// backup reads all files of a backup. What lies in another backup is read
// there again: each is judged by itself.
func (v Verify) backup(ctx context.Context, s *stanza.Stanza, label string, info repo.BackupInfo, have map[string]map[string]bool) (Backup, error) {
	b := Backup{Label: label, Status: Valid}
	if !listed(info, label) {
		// Without a manifest of its own it was cut off, or goes on; what it would be
		// resumed by says nothing of what it will be.
		if whole, _, err := s.Copies(ctx, repo.BackupPath(s.Name, label), repo.ManifestName); !whole || err != nil {
			b.Status = InProgress
			return b, err
		}
	}
	m, err := s.Manifest(ctx, label, info)
	if errors.Is(err, fs.ErrNotExist) {
		b.Status = NoManifest
		return b, nil
	}
	if err == nil && m.Label != label {
		err = repo.Errorf(repo.BadFormat, "the manifest is that of '%s'", m.Label)
	}
	if err != nil {
		v.Voice.Warn("backup '%s': %s", label, err)
		b.Status = Invalid
		return b, nil
	}
	if !listed(info, label) {
		// The next backup lists one whose maker died in between: it is the newest.
		v.Voice.Warn("backup '%s' is not in backup.info", label)
		if n := len(info.Backups); n > 0 && label < info.Backups[n-1].Label {
			b.Status = Invalid
		}
	}
	errs := make([]error, len(m.Files))
	v.each(ctx, len(m.Files), func(i int) { errs[i] = v.file(ctx, s, m, &m.Files[i]) })
	for i, err := range errs {
		if b.Files.add(err); err != nil {
			v.Voice.Warn("backup '%s': %s: %s", label, m.Files[i].Name, err)
			b.Status = Invalid
		}
	}
	if m.ArchiveStart != "" {
		if b.Lacks = lacks(m, have[m.DB.ArchiveID()]); len(b.Lacks) > 0 {
			b.Status = Invalid
		}
	}
	return b, nil
}

func listed(info repo.BackupInfo, label string) bool {
	_, ok := info.Find(label)
	return ok
}

// lacks are the segments without which the backup never becomes consistent.
// The size of segments follows from how many lie between the LSNs.
func lacks(m *repo.Manifest, good map[string]bool) []string {
	var all []string
	for size := int64(1 << 20); size <= 1<<30; size <<= 1 {
		names, err := repo.Segments(m.ArchiveStart, m.ArchiveStop, size)
		if err != nil || !fits(m, names, size) {
			continue
		}
		for _, n := range names {
			if !good[n] {
				all = append(all, n)
			}
		}
		return all
	}
	for _, n := range []string{m.ArchiveStart, m.ArchiveStop} { // a backup over two timelines
		if !good[n] {
			all = append(all, n)
		}
	}
	return slices.Compact(all)
}

// file reads one file of a backup.
func (v Verify) file(ctx context.Context, s *stanza.Stanza, m *repo.Manifest, f *repo.File) error {
	if f.Size == 0 {
		return nil // nothing of it is ever read
	}
	return s.FetchFile(ctx, m, f, io.Discard)
}

// fits says whether segments of a size, by these names, hold the backup's start and stop.
func fits(m *repo.Manifest, names []string, size int64) bool {
	start, err1 := pg.ParseLSN(m.LSNStart)
	stop, err2 := pg.ParseLSN(m.LSNStop)
	if err1 != nil || err2 != nil || len(names) == 0 {
		return false
	}
	timeline, err := strconv.ParseUint(m.ArchiveStart[:8], 16, 32)
	return err == nil && pg.Timeline(timeline).Segment(start, uint64(size)) == names[0] &&
		pg.Timeline(timeline).Segment(stop-1, uint64(size)) == names[len(names)-1]
}
