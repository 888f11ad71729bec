package postgres_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"howdah/pg"
	"howdah/postgres"
	"howdah/test/testpg"
)

// Placeholders of reserved timelines: what a candidate left that was killed before it was
// promoted goes at its next start, and what a timeline was begun over stays.
func TestPlaceholders(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			a := testpg.Start(t, testpg.Major(major), testpg.Primary(), testpg.Named("a"), testpg.TCP())
			c := testpg.Start(t, testpg.Major(major), testpg.StandbyOf(a), testpg.Named("c"), testpg.TCP())
			wait(t, "c streams", func() bool { return c.Look(ctx).Streaming })
			histories := func() (all []string) {
				entries, err := os.ReadDir(filepath.Join(c.Node.Postgres.Data, "pg_wal"))
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if st, err := e.Info(); strings.HasSuffix(e.Name(), ".history") && err == nil {
						all = append(all, e.Name()[7:8]+map[bool]string{true: "-", false: "+"}[st.Size() == 0])
					}
				}
				return all
			}
			want := func(when, names string) {
				t.Helper()
				if got := strings.Join(histories(), " "); got != names {
					t.Fatalf("%s: histories %q, want %q (+: with text)", when, got, names)
				}
			}
			up := a.Upstream()
			if err := c.Stop(ctx, postgres.Fast); err != nil {
				t.Fatal(err)
			}
			for tl := pg.Timeline(2); tl < 4; tl++ {
				if err := os.WriteFile(filepath.Join(c.Node.Postgres.Data, "pg_wal", tl.HistoryFile()), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want("a candidate was killed", "2- 3-")
			if err := c.Start(ctx, &up); err != nil {
				t.Fatal(err)
			}
			want("it starts again", "")
			wait(t, "c streams again", func() bool { return c.Look(ctx).Streaming })
			if err := c.Promote(ctx, 4); err != nil {
				t.Fatal(err)
			}
			want("promoted", "2- 3- 4+")
			if tl := c.Look(ctx).Timeline; tl != 4 {
				t.Fatalf("promoted to timeline %d, want 4", tl)
			}
			if err := c.Kill(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(ctx, nil); err != nil {
				t.Fatal(err)
			}
			want("started after a crash", "2- 3- 4+")
			if tl := c.Look(ctx).Timeline; tl != 4 {
				t.Fatalf("after a crash on timeline %d, want 4", tl)
			}
		})
	}
}
