package postgres_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

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

// A server on a file system of its own says what room there is; and what the disk guard
// closes to clients, it does not close to the agent.
func TestANearlyFullDisk(t *testing.T) {
	root(t)
	ctx := t.Context()
	a := testpg.Start(t)
	mkdir(t, a.Node.Postgres.Data, 0o700, a)
	const size = 300 << 20
	if err := unix.Mount("tmpfs", a.Node.Postgres.Data, "tmpfs", 0, "size=300m,mode=0700"); err != nil {
		t.Skip("cannot mount: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(a.Node.Postgres.Data, unix.MNT_DETACH) })
	own(t, a.Node.Postgres.Data, a)
	for _, do := range []func() error{func() error { return a.Init(ctx, nil) }, func() error { return a.Server.Start(ctx, nil) }} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	before := a.Look(ctx)
	if before.Size != size || before.Free <= 64<<20 || before.Free >= size {
		t.Fatalf("%d of %d bytes are free, want less than %d", before.Free, before.Size, size)
	}
	ballast, err := os.Create(filepath.Join(a.Node.Postgres.Data, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	if err := unix.Fallocate(int(ballast.Fd()), 0, 0, 50<<20); err != nil {
		t.Fatal(err)
	}
	if now := a.Look(ctx); before.Free-now.Free < 50<<20 {
		t.Errorf("%d bytes were free, and are %d with 50 MiB more in use", before.Free, now.Free)
	}
	if err := a.Adjust(ctx, map[string]string{"default_transaction_read_only": "on"}); err != nil {
		t.Fatal(err)
	}
	wait(t, "clients write nothing", func() bool {
		_, err := a.Exec(ctx, "CREATE TABLE t()")
		return err != nil && strings.Contains(err.Error(), "read-only transaction")
	})
	for _, do := range []func() error{
		func() error { return a.Probe(ctx, func(postgres.Probe) {}) },
		func() error { return a.Slots(ctx, []string{"b"}, nil) },
		func() error { return a.Checkpoint(ctx) },
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	if err := a.Adjust(ctx, nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "clients write again", func() bool {
		_, err := a.Exec(ctx, "CREATE TABLE IF NOT EXISTS t()")
		return err == nil
	})
	if err := a.Stop(ctx, postgres.Fast); err != nil { // before the mount goes
		t.Fatal(err)
	}
}
