package postgres_test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"

	"howdah/pg"
	"howdah/postgres"
	"howdah/spec"
	"howdah/test/testpg"
)

// held is a slot as a look at the server shows it.
func held(t *testing.T, s *testpg.Server, name string) (pg.Slot, bool) {
	t.Helper()
	st := s.Look(t.Context())
	i := slices.IndexFunc(st.Held, func(h pg.Slot) bool { return h.Name == name })
	if i < 0 {
		return pg.Slot{}, false
	}
	return st.Held[i], true
}

// decodes lets a server have logical slots, as the dynamic configuration would.
func decodes(n *spec.Node) {
	n.Postgres.Parameters["wal_level"], n.Postgres.Parameters["hot_standby_feedback"] = "logical", "on"
}

// The reader of a logical slot goes on at a promoted standby where it was at the primary:
// every row once, on each version that copies slots as files.
func TestLogicalSlotsAreCopied(t *testing.T) {
	majors := slices.DeleteFunc(testpg.Majors(t), func(major int) bool { return major >= pg.SyncsSlots }) // from there on the server does it by itself
	if os.Getenv("NIGHTLY") == "" {
		majors = majors[max(0, len(majors)-1):]
	}
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) { copied(t, major) })
	}
}

func copied(t *testing.T, major int) {
	ctx := t.Context()
	a := testpg.Start(t, testpg.Major(major), testpg.Primary(), testpg.TCP(), testpg.With(decodes))
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.TCP(), testpg.With(decodes))
	want := []pg.Slot{{Name: "reader", Logical: true, Database: "postgres", Plugin: "test_decoding"}}
	if err := a.Logical(ctx, want, nil); err != nil {
		t.Fatal(err)
	}
	if h, ok := held(t, a, "reader"); !ok || !h.Logical || h.Plugin != "test_decoding" || h.Database != "postgres" || h.At == 0 || h.Xmin == 0 {
		t.Fatalf("on the primary: %+v, %v", h, ok)
	}
	if ours := a.Look(ctx).Ours; !slices.Equal(ours, []string{"reader"}) {
		t.Fatalf("ours are %v", ours)
	}
	read := func(s *testpg.Server) string {
		t.Helper()
		return s.Query("SELECT coalesce(string_agg(substring(data from '\\d+$'), ',' ORDER BY lsn), '') FROM pg_logical_slot_get_changes('reader', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1') WHERE data LIKE 'table%'")
	}
	a.Query("CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r VALUES (1); INSERT INTO r VALUES (2)")
	if got := read(a); got != "1,2" {
		t.Fatalf("the reader got %q", got)
	}
	up := a.Upstream()
	if err := b.Adopt(ctx, up, []string{"nobody"}); err == nil {
		t.Error("a slot that is not there was copied")
	}
	if st := b.Look(ctx); st.Process != pg.ProcessRunning {
		t.Fatalf("after a copy that could not be made the standby is %s", st.Process)
	}
	if err := b.Adopt(ctx, up, []string{"reader"}); err != nil {
		t.Fatal(err)
	}
	if st := b.Look(ctx); st.Process != pg.ProcessNone || !slices.Equal(st.Ours, []string{"reader"}) {
		t.Fatalf("after the copy: %s, ours %v", st.Process, st.Ours)
	}
	if err := b.Start(ctx, &up); err != nil {
		t.Fatal(err)
	}
	if _, ok := held(t, b, "reader"); !ok {
		t.Fatal("the copy is not taken up")
	}
	a.Query("INSERT INTO r VALUES (3); INSERT INTO r VALUES (4)")
	if got := read(a); got != "3,4" {
		t.Fatalf("the reader got %q", got)
	}
	a.Query("INSERT INTO r SELECT generate_series(5, 6)")
	to, _ := held(t, a, "reader")
	wait(t, "the standby has what the reader has", func() bool { return b.Look(ctx).Replayed >= to.At })
	if stuck, err := b.Advance(ctx, []pg.Slot{to}); err != nil {
		t.Fatalf("advance: %v (stuck %q)", err, stuck)
	}
	if h, _ := held(t, b, "reader"); h.At != to.At {
		t.Fatalf("the copy is at %s, want %s", h.At, to.At)
	}
	wait(t, "the standby has all rows", func() bool { return b.Look(ctx).Replayed >= a.Look(ctx).Flushed })
	if err := a.Stop(ctx, postgres.Fast); err != nil {
		t.Fatal(err)
	}
	if err := b.Promote(ctx, 0); err != nil {
		t.Fatal(err)
	}
	b.Query("INSERT INTO r VALUES (7)")
	if got := read(b); got != "5,6,7" {
		t.Errorf("from the promoted standby the reader got %q, want 5,6,7: each row once", got)
	}
	if err := b.Logical(ctx, nil, []string{"reader"}); err != nil {
		t.Fatal(err)
	}
	if st := b.Look(ctx); len(st.Ours) > 0 || len(st.Held) > 0 {
		t.Errorf("after the drop: ours %v, held %+v", st.Ours, st.Held)
	}
}

// A slot that can not be made says why; one whose log is gone is not brought to where it
// would be of no use, and one that can not move says so.
func TestLogicalSlotsThatCanNotBe(t *testing.T) {
	ctx := t.Context()
	a := testpg.Start(t, testpg.Primary(), testpg.TCP())
	err := a.Logical(ctx, []pg.Slot{{Name: "s", Logical: true, Database: "postgres", Plugin: "test_decoding"}}, nil)
	if err == nil {
		t.Fatal("a logical slot was made where wal_level is replica")
	}
	if a.Query("SELECT count(*) FROM pg_replication_slots") != "0" {
		t.Error("there is a slot")
	}
	if _, err := a.Advance(ctx, []pg.Slot{{Name: "s", Logical: true, Database: "postgres", At: 1 << 24}}); !errors.Is(err, postgres.ErrStuck) {
		t.Errorf("advance of no slot: %v, want ErrStuck", err)
	}
	if err := a.Adopt(ctx, a.Upstream(), []string{"s"}); !errors.Is(err, postgres.ErrNotStandby) {
		t.Errorf("adopt on a primary: %v, want ErrNotStandby", err)
	}
}
