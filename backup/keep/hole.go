package keep

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/backup/schedule"
	"howdah/backup/server"
	"howdah/backup/stanza"
	"howdah/logkey"
)

// WAL that is missing in the archive was given up, because more of it waited than
// there is room for, or its server was lost before it was archived. What comes
// after it can only be reached from a backup that is later: one is made, once, and
// then the hole is recorded in the repository.

// holeEvery is how often the archive is looked through for a gap that nobody told of.
const holeEvery = 5 * time.Minute

// gap is what a leader knows of missing WAL.
type gap struct {
	missing string      // a segment that is missing after the newest backup; "": none
	checked time.Time   // when that was last found out
	lost    []repo.Hole // that were given up, and not followed by a backup yet
	found   *repo.Hole  // another one, that is to be recorded
	again   time.Time   // when recording is tried again, if it failed
}

func (k *Keeper) spool() archive.Spool { return archive.SpoolOf(k.node.Backup.Spool, k.node.Cluster) }

// hole is a segment that is missing after the newest backup, "" if there is none.
func (k *Keeper) hole(ctx context.Context, now time.Time, newest repo.Backup) string {
	k.mu.Lock()
	g := k.state.gap
	k.mu.Unlock()
	was := g
	g.lost = slices.DeleteFunc(k.givenUp(newest), func(h repo.Hole) bool {
		return k.mend(ctx, h.First, h.Last) && k.spool().Settled(k.stanza(), h) == nil
	})
	if len(g.lost) > 0 {
		g.missing, g.checked = g.lost[0].First, now
	} else if g.missing != "" || now.Sub(g.checked) >= holeEvery {
		g.missing, g.checked = k.missing(ctx), now
		for g.missing != "" && k.mend(ctx, g.missing, g.missing) {
			g.missing = k.missing(ctx)
		}
	}
	if g.missing != was.missing && g.missing != "" {
		k.log.Warn("a segment is missing in the archive", "segment", g.missing, "given_up", len(g.lost) > 0)
		if len(g.lost) == 0 {
			g.found = &repo.Hole{
				First: g.missing, Last: g.missing, Segments: 1, At: now.UTC().Truncate(time.Second),
				Why: "it was not archived, and nobody who archives has it any more",
			}
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.state.since.IsZero() {
		k.state.gap = g
	}
	return g.missing
}

// mend brings what is missing here from another repository, and says whether all of
// it is here now. A history that was given up with it comes from the server.
func (k *Keeper) mend(ctx context.Context, first, last string) bool {
	var from []*stanza.Stanza
	for _, o := range k.all {
		if o != k {
			from = append(from, o.stanza())
		}
	}
	if len(from) == 0 {
		return false
	}
	c, err := server.ReadControl(k.node.Postgres.Data)
	if err == nil {
		m := archive.Mend{Dir: filepath.Join(k.spool().Dir, "mend", k.stanza().Mark()), DB: c.DB, Size: c.Segment, Coding: codingWAL, Voice: k.voice}
		n := 0
		if n, err = m.Into(ctx, k.stanza(), first, last, from...); n > 0 {
			k.log.Info("log that was missing brought from another repository", "first", first, "last", last, "segments", n)
			k.forget()
		}
	}
	if err == nil {
		err = archive.Histories(ctx, k.stanza(), filepath.Join(k.node.Postgres.Data, "pg_wal"), k.voice)
	}
	if err != nil && !errors.Is(err, archive.ErrAbsent) && ctx.Err() == nil {
		k.log.Warn("missing log not brought from another repository", "segment", first, logkey.Error, err)
	}
	return err == nil
}

// givenUp is what was given up behind the newest backup's beginning.
func (k *Keeper) givenUp(newest repo.Backup) (after []repo.Hole) {
	if k.node.Backup.Spool == "" {
		return nil
	}
	all, err := k.spool().GivenUp(k.stanza())
	if err != nil {
		k.log.Warn("what was given up of the log is not known", logkey.Error, err)
	}
	for _, h := range all {
		if !before(h, newest) {
			after = append(after, h)
		}
	}
	return after
}

// before says that all of a hole lies before the beginning of a backup.
func before(h repo.Hole, b repo.Backup) bool {
	return b.ArchiveStart != "" && h.Last[8:] < b.ArchiveStart[8:]
}

// missing looks through the archive. What waits to be archived is not missing; and
// several segments are stored at once, so that a later one may be there before it.
func (k *Keeper) missing(ctx context.Context) string {
	plan := func() string {
		p, err := restore.Restore{Type: restore.Default}.Plan(ctx, k.stanza())
		if err != nil {
			k.log.Warn("archive not looked through", logkey.Error, err)
		}
		return p.Missing
	}
	name := plan()
	if name == "" {
		return ""
	}
	switch _, err := os.Stat(filepath.Join(k.node.Postgres.Data, "pg_wal", "archive_status", name+".ready")); {
	case err == nil:
		return ""
	case !errors.Is(err, fs.ErrNotExist):
		k.log.Warn("archive not looked through", logkey.Error, err)
		return ""
	}
	if plan() != name { // it was stored meanwhile, which is why it waits no more
		return ""
	}
	return name
}

// settle records holes that a backup follows, and forgets them here.
func (k *Keeper) settle(ctx context.Context, now time.Time, newest repo.Backup) {
	k.mu.Lock()
	g := k.state.gap
	k.mu.Unlock()
	if newest.ArchiveStart == "" || now.Before(g.again) {
		return
	}
	var noted []repo.Hole
	if k.node.Backup.Spool != "" {
		noted, _ = k.spool().GivenUp(k.stanza()) // hole says what was wrong
	}
	err := k.record(ctx, noted, newest, func(h repo.Hole) error { return k.spool().Settled(k.stanza(), h) })
	if err == nil && g.found != nil {
		err = k.record(ctx, []repo.Hole{*g.found}, newest, func(repo.Hole) error {
			g.found = nil
			return nil
		})
	}
	if err != nil {
		k.log.Warn("missing log not recorded", logkey.Error, err, "again_in", schedule.Pause)
		g.again = now.Add(schedule.Pause)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.gap.found, k.state.gap.again = g.found, g.again
}

func (k *Keeper) record(ctx context.Context, holes []repo.Hole, newest repo.Backup, settled func(repo.Hole) error) error {
	for _, h := range holes {
		if !before(h, newest) {
			continue
		}
		info, err := k.stanza().ArchiveInfo(ctx)
		if err != nil {
			return err
		}
		// Histories were given up with the log around them, and are small.
		if err := archive.Histories(ctx, k.stanza(), filepath.Join(k.node.Postgres.Data, "pg_wal"), k.voice); err != nil {
			return err
		}
		// Who led meanwhile may have had it, and have archived it.
		_, err1 := archive.Find(ctx, k.stanza(), info.DB.ArchiveID(), h.First)
		_, err2 := archive.Find(ctx, k.stanza(), info.DB.ArchiveID(), h.Last)
		if err1 == nil && err2 == nil {
			if err := settled(h); err != nil {
				return err
			}
			continue
		}
		h.Member, h.Backup = k.node.Member, newest.Label
		if err := archive.Record(ctx, k.stanza(), info.DB.ArchiveID(), h); err != nil {
			return err
		}
		if err := settled(h); err != nil {
			return err
		}
		k.log.Warn("log is missing in the archive for good, and a backup follows", "first", h.First, "last", h.Last, "segments", h.Segments, "why", h.Why, "backup", h.Backup)
		k.forget()
	}
	return nil
}

// reachable are the holes into which a backup of the repository leads.
func reachable(holes []repo.Hole, backups []repo.Backup) (all []repo.Hole) {
	for _, h := range holes {
		for _, b := range backups {
			if b.ArchiveStop != "" && b.ArchiveStop[8:] <= h.Last[8:] {
				all = append(all, h)
				break
			}
		}
	}
	return all
}
