package control

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"howdah/backup"
	"howdah/backup/restore"
	"howdah/problem"
)

// A Commit is a transaction at the edge of what a restore brings back.
type Commit struct {
	XID string    `json:"xid"`
	LSN string    `json:"lsn"`
	At  time.Time `json:"at"`
}

// String is when, and which.
func (c Commit) String() string {
	return c.At.Local().Format("2006-01-02 15:04:05.000") + " (transaction " + c.XID + ")"
}

func commitOf(m *restore.Mark) *Commit {
	if m == nil || m.XID == "" {
		return nil
	}
	return &Commit{m.XID, m.LSN.String(), m.At}
}

// waldump is the program that reads the log, where it is installed.
func (p *Peek) waldump() (string, bool) {
	path := filepath.Join(p.node.Postgres.Bin, "pg_waldump")
	_, err := os.Stat(path)
	return path, err == nil
}

// seek finds in the log what the moment names, and the backup to begin with: the
// newest before it. A name that nobody called one must be there.
func (p *Peek) seek(ctx context.Context, r restore.Restore, from *backup.Stanza) error {
	unknown := func(why string) error {
		if !p.To.guessed {
			return nil // recovery will see
		}
		return &problem.Error{
			Code: "restore-target", What: fmt.Sprintf("cannot restore to %q", p.To.Value), Why: why,
			Do: "give a time like '2026-11-21 14:30:00' or '10 minutes ago', an LSN, a transaction's number, latest or immediate; or name:" + p.To.Value + " if you know it to be a restore point",
		}
	}
	program, ok := p.waldump()
	if !ok {
		return unknown("it is no time, and without pg_waldump nobody can see whether it is a restore point")
	}
	dir, err := os.MkdirTemp("", "howdah-log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	label, found, err := r.Seek(ctx, from, program, dir)
	switch {
	case err != nil:
		return err
	case found == nil:
		return unknown("it is no time, and no restore point of that name is in the log that the backups lead through")
	case label == "":
		return &problem.Error{
			Code: "restore-unreachable", What: p.what,
			Why: fmt.Sprintf("it is at %s, before the end of %s", found.LSN, cmp.Or(r.Set, "the oldest backup")), Do: "see `howdah backups " + p.Cluster + "`",
		}
	}
	r.Set, p.found = label, found
	p.plan, err = r.Plan(ctx, from)
	return err
}

// around finds the commits at the edge of the moment. What cannot be found is
// said, and stops nobody.
func (p *Peek) around(ctx context.Context) {
	if p.found != nil {
		p.Before = commitOf(p.found)
		return
	}
	if p.To.Kind != restore.Time {
		return
	}
	program, ok := p.waldump()
	if !ok {
		p.Notes = append(p.Notes, "pg_waldump is not installed: which commits are nearest is not known")
		return
	}
	dir, err := os.MkdirTemp("", "howdah-log-")
	if err == nil {
		defer os.RemoveAll(dir)
		l := restore.Log{Plan: p.plan, Waldump: program, Dir: dir}
		var before, after *restore.Mark
		before, after, err = l.Around(ctx, p.To.At)
		p.Before, p.After = commitOf(before), commitOf(after)
	}
	switch {
	case err != nil:
		p.Notes = append(p.Notes, "which commits are nearest is not known: "+err.Error())
	case p.Before != nil && p.After != nil:
		p.Notes = append(p.Notes, fmt.Sprintf("the last commit that will be there is of %s, the first that will not of %s", p.Before, p.After))
	case p.Before != nil:
		p.Notes = append(p.Notes, fmt.Sprintf("the last commit in the archive is of %s: recovery may not find where to stop (then give latest)", p.Before))
	case p.After != nil:
		p.Notes = append(p.Notes, fmt.Sprintf("no commit after the backup will be there: the first is of %s", p.After))
	}
}
