package restore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"howdah/backup/stanza"
	"howdah/pg"
)

// A Mark is a place in the log that a person may have meant: a commit, or a
// restore point.
type Mark struct {
	LSN  pg.LSN    `json:"lsn"`           // where its record begins
	XID  string    `json:"xid,omitempty"` // of a commit
	At   time.Time `json:"at,omitzero"`
	Name string    `json:"name,omitempty"` // of a restore point
}

// A Log reads the WAL of a plan for marks, one segment at a time, with
// PostgreSQL's own pg_waldump. A record that crosses from one segment into the
// next is not seen: what is found is for people, and recovery goes by itself.
type Log struct {
	Plan    Plan
	Waldump string // the program, of the server's major version
	Dir     string // an empty directory, for a segment

	seen map[int][]Mark // commits, by place in the chain
}

// Managers of records, as pg_waldump calls them.
const (
	transactions = "Transaction"
	controls     = "XLOG"
)

// Around finds the commits between which recovery to a time stops: before is the
// last one that will be there, after the first that will not. Nil: there is none
// in the WAL of the plan.
func (l *Log) Around(ctx context.Context, at time.Time) (before, after *Mark, err error) {
	return around(len(l.Plan.chain), at, func(i int) ([]Mark, error) { return l.commits(ctx, i) })
}

// around searches n segments, whose commits are in the order of the log and
// nearly in that of time.
func around(n int, at time.Time, read func(i int) ([]Mark, error)) (before, after *Mark, err error) {
	// later is the first segment from i on, and before end, that has a commit; and
	// whether one of it came after the time.
	later := func(i, end int) (int, bool, error) {
		for ; i < end; i++ {
			marks, err := read(i)
			if err != nil {
				return i, false, err
			}
			for _, m := range marks {
				if m.At.After(at) {
					return i, true, nil
				}
			}
			if len(marks) > 0 {
				return i, false, nil
			}
		}
		return i, true, nil // nothing there: what is looked for is not behind it
	}
	first, end := 0, n
	for first < end {
		mid := (first + end) / 2
		i, is, err := later(mid, end)
		switch {
		case err != nil:
			return nil, nil, err
		case is:
			end = mid
		default:
			first = i + 1
		}
	}
	for i := first; i < n && after == nil; i++ { // segments without a commit come before it
		marks, err := read(i)
		if err != nil {
			return nil, nil, err
		}
		for j := range marks {
			if marks[j].At.After(at) {
				after = &marks[j]
				break
			}
			before = &marks[j]
		}
	}
	for i := first - 1; i >= 0 && before == nil; i-- {
		marks, err := read(i)
		if err != nil {
			return nil, nil, err
		}
		if k := len(marks); k > 0 {
			before = &marks[k-1]
		}
	}
	return before, after, nil
}

// Seek finds what a target names, a restore point or a transaction's commit, and
// the newest backup from which it can be reached (r.Set: no other). Nil: it is
// not in the WAL of the backups.
func (r Restore) Seek(ctx context.Context, s *stanza.Stanza, waldump, dir string) (label string, found *Mark, err error) {
	info, err := s.BackupInfo(ctx)
	if err != nil {
		return "", nil, err
	}
	manager, is := transactions, func(m Mark) bool { return m.XID == r.Target }
	if r.Type == Name {
		manager, is = controls, func(m Mark) bool { return m.Name == r.Target }
	}
	read := map[string]bool{}
	for _, b := range slices.Backward(info.Backups) {
		if r.Set != "" && b.Label != r.Set {
			continue
		}
		if found == nil {
			plan, err := Restore{Set: b.Label, Type: Default}.Plan(ctx, s)
			if err != nil {
				return "", nil, err
			}
			l := Log{Plan: plan, Waldump: waldump, Dir: dir}
			if found, err = l.last(ctx, manager, read, is); err != nil {
				return "", nil, err
			}
		}
		if found == nil {
			continue
		}
		if stop, err := pg.ParseLSN(b.LSNStop); err == nil && stop <= found.LSN {
			return b.Label, found, nil
		}
	}
	return "", found, nil
}

// last is the last mark that is meant, in segments that were not read yet.
func (l *Log) last(ctx context.Context, manager string, read map[string]bool, is func(Mark) bool) (*Mark, error) {
	for i, name := range slices.Backward(l.Plan.chain) {
		if read[name] {
			continue
		}
		marks, err := l.read(ctx, i, manager)
		if err != nil {
			return nil, err
		}
		read[name] = true
		for j := range slices.Backward(marks) {
			if is(marks[j]) {
				return &marks[j], nil
			}
		}
	}
	return nil, nil
}

func (l *Log) commits(ctx context.Context, i int) ([]Mark, error) {
	if marks, ok := l.seen[i]; ok {
		return marks, nil
	}
	marks, err := l.read(ctx, i, transactions)
	if err != nil {
		return nil, err
	}
	if l.seen == nil {
		l.seen = map[int][]Mark{}
	}
	l.seen[i] = marks
	return marks, nil
}

func (l *Log) read(ctx context.Context, i int, manager string) ([]Mark, error) {
	path := filepath.Join(l.Dir, l.Plan.chain[i])
	err := l.Plan.fetch(ctx, l.Plan.chain[i], path)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	dump := exec.CommandContext(ctx, l.Waldump, "--rmgr="+manager, path)
	dump.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	var out, said bytes.Buffer
	dump.Stdout, dump.Stderr = &out, &said
	err = dump.Run()
	// That the log ends in the segment, or that its last record goes on in the
	// next, is an error to pg_waldump.
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", l.Waldump, cmp.Or(ctx.Err(), err))
	}
	return marks(out.Bytes()), nil
}

var (
	commitLine = regexp.MustCompile(`, tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: COMMIT (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC`)
	pointLine  = regexp.MustCompile(`, lsn: ([0-9A-F]+/[0-9A-F]+), .*desc: RESTORE_POINT (.*)$`)
)

// marks reads what pg_waldump prints.
func marks(text []byte) []Mark {
	var all []Mark
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\n")
		if m := commitLine.FindSubmatch(line); m != nil {
			lsn, err1 := pg.ParseLSN(string(m[2]))
			at, err2 := time.Parse("2006-01-02 15:04:05.999999", string(m[3]))
			if err1 == nil && err2 == nil {
				all = append(all, Mark{LSN: lsn, XID: string(m[1]), At: at})
			}
		} else if m := pointLine.FindSubmatch(line); m != nil {
			if lsn, err := pg.ParseLSN(string(m[1])); err == nil {
				all = append(all, Mark{LSN: lsn, Name: string(m[2])})
			}
		}
	}
	return all
}
