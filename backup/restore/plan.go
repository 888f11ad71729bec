package restore

import (
	"bytes"
	"context"
	"strconv"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/stanza"
	"howdah/pg"
)

// A Plan is what a restore will use, found out before anything is written.
type Plan struct {
	Stanza   *stanza.Stanza // of the repository that has it
	Backup   repo.Backup
	Manifest *repo.Manifest
	Timeline pg.Timeline // on which recovery will end, if it goes on as far as there is WAL
	First    string      // segment from which the log is replayed
	Last     string      // up to which there is one after the other; "": not even the first is there
	Missing  string      // the first that is not there although later ones are; "": none is missing
	Segments int         // from First to Last
	End      pg.LSN      // where the log ends inside Last; 0: at its end

	chain []string                // their names, as recovery goes
	tails map[string]archive.Tail // those of the chain that are not archived yet
	size  int64                   // of a segment
}

// Whole says that the WAL without which the backup is never consistent is there.
func (p Plan) Whole() bool { return p.Missing == "" && p.Last != "" || p.Manifest.ArchiveStart == "" }

// Plan finds the backup that From would restore, and how far its WAL leads.
func (r Restore) Plan(ctx context.Context, stanzas ...*stanza.Stanza) (Plan, error) {
	s, m, err := r.choose(ctx, stanzas)
	if err != nil {
		return Plan{}, err
	}
	return planOf(ctx, s, m)
}

func planOf(ctx context.Context, s *stanza.Stanza, m *repo.Manifest) (Plan, error) {
	p := Plan{Stanza: s, Manifest: m, Backup: m.Backup(), First: m.ArchiveStart}
	if m.ArchiveStart == "" {
		return p, nil
	}
	have, newest, err := archived(ctx, s, m.DB.ArchiveID(), m.ArchiveStart)
	if err != nil {
		return p, err
	}
	tails, err := archive.Tails(ctx, s, m.DB.ArchiveID(), m.ArchiveStart)
	if err != nil {
		return p, err
	}
	size := SegmentSize(m.LSNStart, m.ArchiveStart)
	p.size = size
	begin, err := timelineOf(m.ArchiveStart)
	if err != nil {
		return p, err
	}
	p.Timeline = begin
	var history pg.History
	if newest > begin {
		i, err := s.ArchiveInfo(ctx)
		if err != nil {
			return p, err
		}
		var text bytes.Buffer
		if _, err := s.Fetch(ctx, repo.WALPath(s.Name, m.DB.ArchiveID(), newest.HistoryFile()), 0, -1, repo.Coding{Pass: i.Cipher}, &text); err != nil {
			return p, err
		}
		if history, err = pg.ParseHistory(text.String()); err != nil {
			return p, err
		}
		// A backup of a timeline that is none of its ancestors stays on its own.
		if _, ok := history.Left(begin); ok {
			p.Timeline = newest
		} else {
			history = nil
		}
	}
	start, err := pg.ParseLSN(m.LSNStart)
	if err != nil {
		return p, repo.Errorf(repo.BadFormat, "backup '%s' begins at '%s', which is no LSN", m.Label, m.LSNStart)
	}
	for at := start / pg.LSN(size) * pg.LSN(size); ; at += pg.LSN(size) {
		name, wanted := next(func(name string) bool { _, ok := tails[name]; return ok || have[name] }, history, p.Timeline, begin, at, size)
		if tail, ok := tails[name]; ok && !have[name] {
			if t, err := timelineOf(name); err == nil {
				// Behind where the timeline was left there may be what nobody followed.
				if left, ok := history.Left(t); ok {
					tail = tail.Upto(max(int64(left)-int64(at), 0))
				}
			}
			if tail.End > 0 {
				if p.tails == nil {
					p.tails = map[string]archive.Tail{}
				}
				p.Last, p.Segments, p.chain, p.tails[name] = name, p.Segments+1, append(p.chain, name), tail
			}
			if tail.End == size {
				continue
			}
			if tail.End > 0 {
				p.End = at + pg.LSN(tail.End)
				wanted = name
			}
			name = ""
		}
		if name == "" {
			if later(have, p.Timeline, wanted) {
				p.Missing = wanted
			}
			return p, nil
		}
		p.Last, p.Segments, p.chain = name, p.Segments+1, append(p.chain, name)
	}
}

// next is the stored segment in which recovery to end goes on at at, as
// PostgreSQL looks for it (XLogFileReadAnyTLI): of the newest timeline that had
// begun by then. wanted is the one that it would ask for first.
func next(have func(name string) bool, h pg.History, end, first pg.Timeline, at pg.LSN, size int64) (name, wanted string) {
	began := pg.LSN(0)
	if n := len(h); n > 0 {
		began = h[n-1].At
	}
	for n, t := len(h)-1, end; ; n-- {
		if began/pg.LSN(size) <= at/pg.LSN(size) {
			name := t.Segment(at, uint64(size))
			if wanted == "" {
				wanted = name
			}
			if have(name) {
				return name, wanted
			}
		}
		if n < 0 || t <= first {
			return "", wanted
		}
		t, began = h[n].Timeline, 0
		if n > 0 {
			began = h[n-1].At
		}
	}
}

// later says that the archive has segments behind name.
func later(have map[string]bool, end pg.Timeline, name string) bool {
	for other := range have {
		if t, err := timelineOf(other); err == nil && t <= end && len(other) == 24 && other[8:] > name[8:] && (t == end || other[:8] == name[:8]) {
			return true
		}
	}
	return false
}

// archived lists the segments from first on, whatever their timeline, and finds
// the newest timeline that the archive knows the history of.
func archived(ctx context.Context, s *stanza.Stanza, id, first string) (map[string]bool, pg.Timeline, error) {
	begin, err := timelineOf(first)
	if err != nil {
		return nil, 0, err
	}
	newest := begin
	dirs, err := s.List(ctx, repo.ArchivePath(s.Name, id))
	if err != nil {
		return nil, 0, err
	}
	have := map[string]bool{}
	for _, d := range dirs {
		t, err := timelineOf(d.Name)
		if err != nil || t < begin {
			continue
		}
		if !d.Dir {
			if d.Name == t.HistoryFile() {
				newest = max(newest, t)
			}
			continue
		}
		if len(d.Name) != 16 || d.Name[8:] < first[8:16] {
			continue
		}
		list, err := s.List(ctx, repo.ArchivePath(s.Name, id, d.Name))
		if err != nil {
			return nil, 0, err
		}
		for _, e := range list {
			if seg, ok := repo.ParseSegment(e.Name); ok && !seg.Partial && seg.Name[8:] >= first[8:] {
				have[seg.Name] = true
			}
		}
	}
	return have, newest, nil
}

func timelineOf(name string) (pg.Timeline, error) {
	if len(name) < 8 {
		return 0, repo.Errorf(repo.BadFormat, "'%s' is of no timeline", name)
	}
	t, err := strconv.ParseUint(name[:8], 16, 32)
	if err != nil {
		return 0, repo.Errorf(repo.BadFormat, "'%s' is of no timeline", name)
	}
	return pg.Timeline(t), nil
}

// SegmentSize is that with which the byte lies in the segment.
func SegmentSize(lsn, segment string) int64 {
	const common = 16 << 20
	at, err1 := pg.ParseLSN(lsn)
	t, err2 := timelineOf(segment)
	if err1 != nil || err2 != nil {
		return common
	}
	for _, size := range []int64{common, 1 << 20, 2 << 20, 4 << 20, 8 << 20, 32 << 20, 64 << 20, 128 << 20, 256 << 20, 512 << 20, 1 << 30} {
		if t.Segment(at, uint64(size)) == segment {
			return size
		}
	}
	return common
}
