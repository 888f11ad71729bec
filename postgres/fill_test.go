package postgres_test

import (
	"os"
	"strconv"
	"testing"

	"howdah/pg"
	"howdah/postgres"
	"howdah/spec"
	"howdah/test/testpg"
)

// A stop of a primary that archives leaves little of its segment to be written: the rest
// was, ahead of time. Where a stop ends no segment, or somebody would read it, nothing is.
func TestFill(t *testing.T) {
	majors := testpg.Majors(t)
	if os.Getenv("NIGHTLY") == "" {
		majors = majors[max(0, len(majors)-1):]
	}
	for _, major := range majors {
		t.Run(strconv.Itoa(major), func(t *testing.T) { filled(t, major) })
	}
}

func filled(t *testing.T, major int) {
	ctx := t.Context()
	archives := func(n *spec.Node) {
		n.Postgres.Parameters["archive_mode"], n.Postgres.Parameters["archive_command"] = "on", "true"
	}
	end := func(s *testpg.Server) int64 {
		t.Helper()
		n, err := strconv.ParseInt(s.Query("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const segment, little = 16 << 20, 512 << 10
	a := testpg.Start(t, testpg.Major(major), testpg.Primary(), testpg.With(archives))
	a.Query("SELECT pg_switch_wal(); CREATE TABLE something (n int)")
	a.Fill(ctx)
	last := end(a)
	if left := segment - last%segment; left > segment/8+little || left < segment/16 {
		t.Errorf("%d bytes are left of the segment", left)
	}
	a.Fill(ctx)
	if more := end(a) - last; more > little {
		t.Errorf("filled again: %d bytes", more)
	}
	if err := a.Stop(ctx, postgres.Fast); err != nil {
		t.Fatal(err)
	}
	if at := a.Look(ctx).Control.Checkpoint; int64(at)/segment != last/segment+1 {
		t.Errorf("the last record is at %s, the log was filled up to %s", at, pg.LSN(last))
	}

	b := testpg.Start(t, testpg.Major(major), testpg.Primary(), testpg.With(func(n *spec.Node) { n.Postgres.Parameters["archive_mode"] = "off" }))
	c := testpg.Start(t, testpg.Major(major), testpg.Primary(), testpg.With(archives), testpg.With(decodes))
	c.Query("SELECT pg_create_logical_replication_slot('reader', 'test_decoding')")
	for name, s := range map[string]*testpg.Server{"does not archive": b, "is read": c} {
		s.Query("SELECT pg_switch_wal(); CREATE TABLE something (n int)")
		before := end(s)
		s.Fill(ctx)
		if grown := end(s) - before; grown > little {
			t.Errorf("one that %s was filled by %d bytes", name, grown)
		}
	}
}
