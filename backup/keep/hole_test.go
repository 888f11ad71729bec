package keep

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/backup"
	"howdah/backup/archive"
	"howdah/backup/repo"
	"howdah/backup/restore"
	"howdah/backup/schedule"
	"howdah/backup/verify"
	"howdah/spec"
	"howdah/test/testpg"
)

// Log that was given up is noted, told of, and followed by a backup, once, which
// leads to what comes after it. Then it is recorded in the repository, which says
// why it is missing, and copied with it.
func TestGivenUp(t *testing.T) {
	s := testpg.Start(t, testpg.Primary(), testpg.With(func(n *spec.Node) {
		n.Postgres.Parameters["archive_mode"] = "on"
		n.Postgres.Parameters["archive_command"] = "false # pgbackrest: what is ready stays so, and the test pushes it"
	}))
	k := keeperOf(t, s)
	k.node.Backup.Spool = filepath.Join(beside(t, s), "spool")
	if err := k.introduce(t.Context()); err != nil {
		t.Fatal(err)
	}
	box := k.desk.Outbox(k.node.Backup.Spool, filepath.Join(s.Node.Postgres.Data, "pg_wal"), codingWAL, true)
	box.Workers = 2
	// What pushes what is ready while something goes on.
	pushing := func(do func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if _, err := box.Pass(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		}()
		do()
		cancel()
		<-ended
	}
	k.state.since, k.state.looked, k.state.filled = time.Now().Add(-time.Minute), true, 1
	pushing(func() { k.do(t.Context(), schedule.Step{Do: schedule.Take, Type: repo.Full, Why: "the first"}) })
	if k.state.failed != nil {
		t.Fatal(k.state.failed.Error)
	}
	if step := k.next(t.Context()); step.Do != schedule.Rest {
		t.Fatalf("after the first backup: %+v", step)
	}

	// Three segments wait, which is more than may.
	s.Query("create table t as select 1 as n")
	var lost []string
	for range 3 {
		lost = append(lost, s.Query("select pg_walfile_name(pg_switch_wal()) from txid_current()"))
		s.Query("insert into t values (2)")
	}
	ready := func(name string) bool {
		_, err := os.Stat(filepath.Join(box.WAL, "archive_status", name+".ready"))
		return err == nil
	}
	until(t, "they are ready", func() bool { return !slices.ContainsFunc(lost, func(name string) bool { return !ready(name) }) })
	if step := k.next(t.Context()); step.Do != schedule.Rest || k.State(t.Context()).Hole != "" {
		t.Errorf("what waits is taken for missing: %+v", step)
	}
	box.Max = 16 << 20
	if _, err := box.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	box.Max = 0
	told := k.State(t.Context())
	if len(told.Lost) != 1 || told.Lost[0].First != lost[0] || told.Lost[0].Last != lost[2] || told.Lost[0].Segments != 3 {
		t.Errorf("it tells of %+v, want %v", told.Lost, lost)
	}
	step := k.next(t.Context())
	if step.Do != schedule.Take || step.Type != repo.Incr || !strings.Contains(step.Why, lost[0]) {
		t.Fatalf("with a hole: %+v", step)
	}
	pushing(func() {
		k.do(t.Context(), step)
		// The next turn finds nothing to do but to record it.
		for range 2 {
			if step := k.next(t.Context()); step.Do != schedule.Rest {
				t.Errorf("after the backup: %+v", step)
			}
		}
	})
	if k.state.failed != nil {
		t.Fatal(k.state.failed.Error)
	}
	told = k.State(t.Context())
	newest := told.Backups[len(told.Backups)-1]
	if len(told.Backups) != 2 || told.Hole != "" || len(told.Lost) != 0 || len(told.Holes) != 1 || told.Holes[0].Backup != newest.Label || told.Holes[0].First != lost[0] {
		t.Errorf("there are %d backups; %+v", len(told.Backups), told)
	}
	if left, err := k.spool().GivenUp(k.stanza()); err != nil || len(left) != 0 {
		t.Errorf("still noted: %+v, %v", left, err)
	}
	plan, err := restore.Restore{Type: restore.Default}.Plan(t.Context(), k.stanza())
	if err != nil || plan.Missing != "" || plan.Backup.Label != newest.Label {
		t.Errorf("a restore begins with %s, and misses %q, %v", plan.Backup.Label, plan.Missing, err)
	}

	second := backup.Posix(1, filepath.Join(beside(t, s), "second"), "t", "")
	if err := (&copier{from: k.stanza(), to: second}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, at := range []*backup.Stanza{k.stanza(), second} {
		r, err := verify.Verify{Workers: 2}.Of(t.Context(), at)
		if err != nil || len(r.Archives) != 1 || len(r.Archives[0].Holes) != 1 {
			t.Fatalf("verify finds %+v, %v", r.Archives, err)
		}
		if h := r.Archives[0].Holes[0]; len(h.Known) != 1 || !strings.Contains(h.Known[0].Why, "exceeded 16MB") || h.Known[0].Backup != newest.Label {
			t.Errorf("it explains %+v", h)
		}
	}
	// What nobody has told of is found, unless it waits to be archived.
	id := archiveOf(t, k)
	var more []string
	pushing(func() {
		for range 2 {
			s.Query("insert into t values (3)") // the end of an empty segment is named otherwise from 17 on
			more = append(more, s.Query("select pg_walfile_name(pg_switch_wal()) from txid_current()"))
		}
		if err := archive.Wait(t.Context(), k.stanza(), id, more, time.Minute); err != nil {
			t.Error(err)
		}
	})
	stored, err := archive.Find(t.Context(), k.stanza(), id, more[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := k.stanza().Remove(t.Context(), repo.WALPath("t", id, stored.String())); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(box.WAL, "archive_status", more[0]+".ready")
	k.state.gap.checked = time.Time{}
	if step := k.next(t.Context()); step.Do != schedule.Rest {
		t.Errorf("what waits, while a later one is there: %+v", step)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	k.state.gap.checked = time.Time{}
	if step := k.next(t.Context()); step.Do != schedule.Take || !strings.Contains(step.Why, more[0]) {
		t.Errorf("what nobody has any more: %+v", step)
	}
	if err := k.spool().GiveUp(k.stanza(), repo.Hole{First: more[1], Last: more[1], Segments: 1}); err != nil { // which somebody has archived all the same
		t.Fatal(err)
	}
	k.settle(t.Context(), time.Now(), repo.Backup{Label: "the next", ArchiveStart: "0000000100000000000000FF"})
	if left, err := k.spool().GivenUp(k.stanza()); err != nil || len(left) != 0 {
		t.Errorf("still noted: %+v, %v", left, err)
	}
	if all, err := archive.Holes(t.Context(), k.stanza(), id); err != nil || len(all) != 2 || all[1].First != more[0] || all[1].Backup != "the next" || k.state.gap.found != nil {
		t.Errorf("there are recorded %+v, %v", all, err)
	}

	// A list of the archive that cannot be read is no sign of another database.
	list := repo.ArchivePath("t", repo.ArchiveInfoName)
	if err := k.stanza().Remove(t.Context(), list, list+repo.Copy); err != nil {
		t.Fatal(err)
	}
	if err := k.introduce(t.Context()); err == nil || !strings.Contains(err.Error(), "archive.info is missing") {
		t.Errorf("without archive.info: %v", err)
	}

	// A record goes when no backup leads into its hole any more.
	if err := archive.ForgetHoles(t.Context(), second, id, lost[2]); err != nil {
		t.Fatal(err)
	}
	if left, err := archive.Holes(t.Context(), second, id); err != nil || len(left) != 1 {
		t.Errorf("of a backup that still leads there: %+v, %v", left, err)
	}
	if err := archive.ForgetHoles(t.Context(), second, id, newest.Segments[0]); err != nil {
		t.Fatal(err)
	}
	if left, err := archive.Holes(t.Context(), second, id); err != nil || len(left) != 0 {
		t.Errorf("of none: %+v, %v", left, err)
	}
}

// archiveOf is the archive's id.
func archiveOf(t *testing.T, k *Keeper) string {
	t.Helper()
	info, err := k.stanza().ArchiveInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.DB.ArchiveID()
}
