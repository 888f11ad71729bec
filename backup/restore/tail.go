package restore

import (
	"context"
	"os"
	"path/filepath"

	"howdah/backup/archive"
)

// fetch brings a segment of the plan to path.
func (p Plan) fetch(ctx context.Context, name, path string) error {
	if t, ok := p.tails[name]; ok {
		return t.Into(ctx, p.Stanza, path, p.size)
	}
	return archive.Get{Name: name, Dest: path, DB: p.Manifest.DB}.From(ctx, p.Stanza)
}

// wantsTail says that recovery goes on as far as it needs, or can.
func (r Restore) wantsTail() bool {
	switch r.Type {
	case "", Default, LSN, Name, Time, XID:
		return true
	}
	return false
}

// tail puts what the archive does not have yet into pg_wal, where recovery looks
// when restore_command has nothing. Damage there costs what lies behind it, not
// the restore.
func (j *job) tail(ctx context.Context) error {
	if !j.wantsTail() || j.m.ArchiveStart == "" {
		return nil
	}
	tails, err := archive.Tails(ctx, j.s, j.m.DB.ArchiveID(), j.m.ArchiveStart)
	if err == nil && len(tails) == 0 {
		return nil
	}
	p, err := planOf(ctx, j.s, j.m)
	if err != nil {
		j.Voice.Warn("the end of the log was not looked for: %s", err)
		return nil
	}
	for _, name := range p.chain {
		if _, ok := p.tails[name]; !ok {
			continue
		}
		path := filepath.Join(j.Path, "pg_wal", name)
		if err := p.fetch(ctx, name, path); err != nil {
			j.Voice.Warn("the log ends before %s: %s", name, err)
			return os.RemoveAll(path)
		}
		if err := j.own(path); err != nil {
			return err
		}
		j.Voice.Info("restore %s from what was streamed", name)
	}
	return nil
}
