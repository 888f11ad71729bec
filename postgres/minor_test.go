package postgres

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"howdah/pg"
)

// Another minor version beside a server waits for its restart; another major is not
// for a restart to bring, and what is no release says nothing.
func TestMinor(t *testing.T) {
	for _, tt := range []struct {
		running int
		there   string
		want    pg.Pending
	}{
		{150013, "15.13", pg.Pending{}},
		{150013, "15.14", pg.Pending{Name: "server_version", Old: "15.13", New: "15.14"}},
		{180002, "18.0", pg.Pending{Name: "server_version", Old: "18.2", New: "18.0"}},
		{150013, "16.4", pg.Pending{}},
		{180000, "18beta1", pg.Pending{}},
		{0, "15.14", pg.Pending{}},
		{150013, "", pg.Pending{}},
	} {
		if got, ok := minor(tt.running, tt.there); got != tt.want || ok != (tt.want != pg.Pending{}) {
			t.Errorf("minor(%d, %q) = %v, %t; want %v", tt.running, tt.there, got, ok, tt.want)
		}
	}
}

func TestWithPendingKeepsTheOrder(t *testing.T) {
	all := []pg.Pending{{Name: "max_connections"}, {Name: "wal_level"}}
	got := withPending(all, pg.Pending{Name: "server_version"})
	if want := []pg.Pending{{Name: "max_connections"}, {Name: "server_version"}, {Name: "wal_level"}}; !slices.Equal(got, want) || len(all) != 2 {
		t.Errorf("withPending() = %v, and %v; want %v", got, all, want)
	}
}

// Programs are asked who they are when another file is there, and only then; while a
// package is being replaced nothing is said.
func TestInstalled(t *testing.T) {
	bin := t.TempDir()
	put := func(version string) {
		t.Helper()
		for _, name := range []string{"postgres", "initdb"} {
			text := "#!/bin/sh\necho asked >>" + bin + "/asked\necho 'postgres (PostgreSQL) " + version + " (Debian " + version + "-1)'\n"
			file := filepath.Join(bin, name)
			if err := os.WriteFile(file+".new", []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Fatal(err)
			}
		}
	}
	asked := func() int {
		b, _ := os.ReadFile(filepath.Join(bin, "asked"))
		return len(b) / len("asked\n")
	}
	var i installed
	look := func(want string, times int) {
		t.Helper()
		for range 3 {
			if got := i.look(bin); got != want {
				t.Errorf("installed is %q, want %q", got, want)
			}
		}
		if got := asked(); got != times {
			t.Errorf("the programs were asked %d times, want %d", got, times)
		}
	}
	put("15.13")
	look("15.13", 1)
	put("15.14")
	look("15.14", 2)
	if err := os.Remove(filepath.Join(bin, "postgres")); err != nil {
		t.Fatal(err)
	}
	look("15.14", 2)
}
