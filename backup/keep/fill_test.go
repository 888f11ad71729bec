package keep

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/backup/repo"
	"howdah/backup/schedule"
	"howdah/backup/server"
	"howdah/spec"
	"howdah/test/testpg"
)

// keeperOf is a keeper of a server, with a repository in a directory.
func keeperOf(t *testing.T, s *testpg.Server) *Keeper {
	t.Helper()
	n := s.Node
	n.Cluster, n.Backup = "t", spec.Backup{Repo: filepath.Join(t.TempDir(), "repo"), Copies: 1}
	k, err := New(n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	k.leads = func() bool { return true }
	return k
}

// replayed returns when a standby has the log up to there.
func replayed(t *testing.T, standby *testpg.Server, lsn string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for standby.Query("select pg_last_wal_replay_lsn() >= '"+lsn+"'") != "t" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the standby does not come to %s", lsn)
		}
	}
}

// A member leads before its promotion is done. What its predecessor owes to the
// archive is known only afterwards, and asked for again then.
func TestFilledOnceMoreAfterThePromotion(t *testing.T) {
	primary := testpg.Start(t, testpg.Primary())
	standby := testpg.Start(t, testpg.StandbyOf(primary))
	primary.Query("create table t (n int)")
	owed := primary.Query("select pg_walfile_name(pg_switch_wal())")
	primary.Query("insert into t values (1)")
	end := primary.Query("select pg_current_wal_flush_lsn()")
	replayed(t, standby, end)

	k := keeperOf(t, standby)
	if step := k.next(t.Context()); step.Do != schedule.Introduce {
		t.Fatalf("%+v, want introduce", step)
	}
	k.do(t.Context(), schedule.Step{Do: schedule.Introduce})
	if step := k.next(t.Context()); step.Do != schedule.Fill {
		t.Fatalf("%+v, want fill", step)
	}
	k.do(t.Context(), schedule.Step{Do: schedule.Fill})
	if step := k.next(t.Context()); step.Do == schedule.Fill {
		t.Fatalf("%+v: nothing has changed", step)
	}

	standby.Query("select pg_promote()")
	if step := k.next(t.Context()); step.Do != schedule.Fill {
		t.Errorf("after the promotion: %+v, want fill", step)
	}
	k.do(t.Context(), schedule.Step{Do: schedule.Fill})
	control, err := server.ReadControl(k.node.Postgres.Data)
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(filepath.Join(k.node.Backup.Repo, filepath.FromSlash(repo.ArchivePath("t", control.DB.Version+"-1", owed[:16]))))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), owed+"-") {
			return
		}
	}
	t.Errorf("%s is not in the archive, which has %v", owed, list)
}
