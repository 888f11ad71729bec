package postgres

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"howdah/problem"
	"howdah/spec"
)

// Whatever the renames were interrupted at, doing it again ends with the restored
// data in place and the others kept, and doing it once more changes nothing.
func TestInstall(t *testing.T) {
	for _, tt := range []struct {
		name              string
		data, made, aside string // what is there; "": nothing
		wantData, kept    string
		code              string
	}{
		{"from the beginning", "old", "new", "", "new", "old", ""},
		{"after the first rename", "", "new", "old", "new", "old", ""},
		{"after the second", "new", "", "old", "new", "old", ""},
		{"nothing was there before", "", "new", "", "new", "", ""},
		{"what was restored is lost", "old", "", "", "old", "", "restore-lost"},
		{"and what was there is aside", "", "", "old", "", "old", "restore-lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := &Server{data: filepath.Join(dir, "data"), node: spec.Node{Paths: spec.Paths{Dir: dir}}, log: slog.New(slog.DiscardHandler)}
			for name, text := range map[string]string{"data": tt.data, "restore-x": tt.made, "kept/before-x": tt.aside} {
				if text == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Join(dir, name, "global"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name, "global", "pg_control"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				err := s.Install(t.Context(), "restore-x", "kept/before-x")
				if tt.kept == "" && tt.code == "" && err != nil && tt.data == "" {
					break // done, and nothing was kept by which that is seen
				}
				if problem.Code(err) != tt.code || (err != nil) != (tt.code != "") {
					t.Fatalf("%v, want %q", err, tt.code)
				}
				for name, want := range map[string]string{"data": tt.wantData, "kept/before-x": tt.kept} {
					if got, _ := os.ReadFile(filepath.Join(dir, name, "global", "pg_control")); string(got) != want {
						t.Errorf("%s is %q, want %q", name, got, want)
					}
				}
			}
		})
	}
	s := &Server{data: filepath.Join(t.TempDir(), "data"), log: slog.New(slog.DiscardHandler)}
	for _, bad := range [][2]string{{"../x", "kept/y"}, {"x", "/y"}, {"x", ""}} {
		if err := s.Install(t.Context(), bad[0], bad[1]); err == nil {
			t.Errorf("%q is exchanged, and %q kept", bad[0], bad[1])
		}
	}
}
