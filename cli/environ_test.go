package cli

import (
	"slices"
	"testing"
)

// exec(3) finds the first of two variables of one name: a shell's own would win.
func TestAShellForAnotherServer(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGHOSTADDR", "PGUSER", "PGSERVICE", "PGPASSWORD", "PGSSLMODE", "PGTARGETSESSIONATTRS"} {
		t.Setenv(name, "another")
	}
	t.Setenv("PGOPTIONS", "-c work_mem=1MB")
	t.Setenv("PG_COLOR", "always")
	got := environ([]string{"PGHOST=ours", "PGPORT=5433"})
	var pg []string
	for _, v := range got {
		if len(v) > 2 && v[:2] == "PG" {
			pg = append(pg, v)
		}
	}
	slices.Sort(pg)
	if want := []string{"PGHOST=ours", "PGOPTIONS=-c work_mem=1MB", "PGPORT=5433", "PG_COLOR=always"}; !slices.Equal(pg, want) {
		t.Errorf("psql finds %q, not %q", pg, want)
	}
}
