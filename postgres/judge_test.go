package postgres_test

import (
	"slices"
	"strings"
	"testing"

	"howdah/postgres"
	"howdah/test/testpg"
)

// A real installation says what it does not take: names and values in one answer.
func TestRefuses(t *testing.T) {
	testpg.Majors(t) // or there is none
	for _, p := range postgres.FindAll() {
		bad, err := p.Refuses(t.Context(), map[string]string{
			"work_mem": "8MB", "shared_bufers": "1GB", "no_such": "1", "jit": "perhaps", "Max_Connections": "0", "search_path": "a, b",
			"myapp.any": "x", "include": "/etc/passwd", "role": "somebody", "lc_messages": "C", "log_line_prefix": "%m '\\",
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"shared_bufers": "unrecognized configuration parameter", "no_such": "unrecognized", "jit": "Boolean", "max_connections": "outside the valid range",
		} {
			if !strings.Contains(bad[name], want) {
				t.Errorf("PostgreSQL %d: %s is refused by %q, want %q", p.Major, name, bad[name], want)
			}
		}
		if len(bad) != 4 {
			t.Errorf("PostgreSQL %d refuses %q", p.Major, bad)
		}
		if bad, err := p.Refuses(t.Context(), map[string]string{"work_mem": "8MB"}); err != nil || len(bad) != 0 {
			t.Errorf("PostgreSQL %d refuses %q, %v", p.Major, bad, err)
		}
		if names := p.Extensions(t.Context()); !slices.Contains(names, "plpgsql") {
			t.Errorf("PostgreSQL %d has the extensions %q", p.Major, names)
		}
	}
}
