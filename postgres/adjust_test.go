package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"howdah/pg"
	"howdah/postgres"
	"howdah/problem"
	"howdah/test/testpg"
)

// A dynamic parameter counts, or is left out and named: the server always starts again.
func TestAdjust(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	ctx := t.Context()
	if err := a.Adjust(ctx, map[string]string{"work_mem": "7MB", "max_connections": "130", "demo.x": "1"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "work_mem is new", func() bool { return a.Query("SHOW work_mem") == "7MB" })
	want := pg.Pending{Name: "max_connections", Old: a.Query("SHOW max_connections"), New: "130"}
	wait(t, "max_connections waits", func() bool { return slices.Contains(a.Look(ctx).Pending, want) })

	err := a.Adjust(ctx, map[string]string{
		"work_mem": "banana", "maintenance_work_mem": "71MB", "nosuch": "1", "shared_preload_libraries": "nowhere", "max_wal_senders": "1",
		"wal_level": "minimal", "port": "1", "primary_conninfo": "x", "restart_after_crash": "on", "a b": "x", "x\ny": "1", "max_connections": "many", "archive_mode": "perhaps",
	})
	p, ok := errors.AsType[*problem.Error](err)
	if !ok || p.Code != postgres.Refused {
		t.Fatalf("Adjust = %v", err)
	}
	for _, name := range []string{"work_mem", "nosuch", "shared_preload_libraries", "max_wal_senders", "wal_level", "port", "primary_conninfo", "restart_after_crash", "a b", "max_connections", "archive_mode"} {
		if !strings.Contains(p.Why, name+": ") {
			t.Errorf("%s is not named: %s", name, p.Why)
		}
	}
	wait(t, "the good one counts", func() bool { return a.Query("SHOW maintenance_work_mem") == "71MB" })
	if err := a.Stop(ctx, postgres.Fast); err != nil {
		t.Fatal(err)
	}
	if err := a.Server.Start(ctx, nil); err != nil {
		t.Fatalf("start: %v", err)
	}
	if err := a.Adjust(ctx, nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "it is taken back", func() bool { return a.Query("SHOW maintenance_work_mem") != "71MB" })
}

// A standby keeps what its primary had until both were restarted with less, and
// says that it waits.
func TestAStandbyWithMoreThanConfigured(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	b := testpg.Start(t, testpg.StandbyOf(a))
	ctx := t.Context()
	more := map[string]string{"max_connections": "130", "max_prepared_transactions": "5"}
	for _, s := range []*testpg.Server{b, a} { // a primary ahead of its standby would pause it
		if err := s.Adjust(ctx, more); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*testpg.Server{b, a} {
		var up *pg.Upstream
		if s == b {
			up = new(a.Upstream())
		}
		if err := s.Stop(ctx, postgres.Fast); err != nil {
			t.Fatal(err)
		}
		if err := s.Server.Start(ctx, up); err != nil {
			t.Fatal(err)
		}
	}
	want := []pg.Pending{{Name: "max_connections", Old: "130", New: "100"}, {Name: "max_prepared_transactions", Old: "5", New: "0"}}
	wait(t, "the standby has replayed that, and waits", func() bool {
		if err := b.Adjust(ctx, nil); err != nil {
			t.Fatal(err)
		}
		s := b.Look(ctx)
		return s.Restart && slices.Equal(s.Pending, want)
	})
	if got := a.Look(ctx).Pending; len(got) != 0 {
		t.Errorf("pending on the primary, which was told nothing: %v", got)
	}
}
