package postgres_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"howdah/test/testpg"
)

// A server that is killed leaves nothing in shared memory.
func TestKillReleasesMemory(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			a := testpg.Start(t, testpg.Primary(), testpg.Major(major))
			segments := func(pid int) (all []string) {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(text)) {
					if i := strings.Index(line, "/dev/shm/PostgreSQL."); i >= 0 {
						all = append(all, strings.TrimSpace(line[i:]))
					}
				}
				return all
			}
			conn := dial(t, a)
			if _, err := conn.Exec(t.Context(), "SELECT count(*) FROM pg_class").ReadAll(); err != nil {
				t.Fatal(err)
			}
			st := a.Look(t.Context())
			all := append(segments(st.PID), segments(int(conn.PID()))...)
			if len(all) == 0 {
				t.Fatal("the server uses no shared memory: this tests nothing")
			}
			if err := a.Kill(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, path := range all {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("%s is left", path)
				}
			}
		})
	}
}
