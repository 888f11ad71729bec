package keep

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"howdah/backup"
	"howdah/backup/repo"
	"howdah/test/linted"
)

var update = flag.Bool("update", false, "write testdata")

// What a repository has is told by the names of the incumbent's exporter.
func TestMetrics(t *testing.T) {
	wrong := true
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	full := repo.Backup{
		Label: "20261122-010000F", Type: repo.Full, DB: 1, Backrest: "2.45", ArchiveStart: "000000010000000000000002", ArchiveStop: "000000010000000000000002",
		LSNStart: "0/2000028", LSNStop: "0/2000100", Start: at.Unix() - 7200, Stop: at.Unix() - 7100, Size: 1000, Delta: 1000, RepoSize: 300, RepoDelta: 300,
		Annotation: map[string]string{"why": "schedule"},
	}
	incr := full
	incr.Label, incr.Type, incr.Prior, incr.Reference = "20261122-010000F_20261122-020000I", repo.Incr, full.Label, []string{full.Label}
	incr.Start, incr.Stop, incr.Delta, incr.RepoDelta, incr.Error, incr.Annotation = at.Unix()-3600, at.Unix()-3590, 10, 3, &wrong, nil
	db := repo.DB{ID: 1, Version: "15"}
	f := facts{
		Now: at, Stanza: "demo", Version: versionNumber("2.45"), Held: true, Done: 5, Total: 50, Build: Build{Version: "1", Revision: "r", Go: "go1"},
		View: backup.View{
			Repo: 1, Cipher: "none", Info: repo.BackupInfo{DB: db, History: []repo.DB{db}, Backups: []repo.Backup{full, incr}},
			Archives: []backup.Archive{{DB: db, Min: "000000010000000000000002", Max: "000000010000000000000009"}},
		},
	}
	got := f.metrics()
	linted.Metrics(t, got)
	text := string(got)
	// What depends on the machine that runs the test.
	_, after, _ := strings.Cut(text, "# HELP pgbackrest_exporter_build_info")
	text = strings.TrimSuffix(text, "# HELP pgbackrest_exporter_build_info"+after)
	const golden = "testdata/metrics.prom"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// A repository of which nothing can be said is told as such, by the incumbent's codes.
func TestMetricsOfNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		with facts
		want string
	}{
		{"no stanza", facts{View: backup.View{Missing: fs.ErrNotExist, NoPath: true}}, "1"},
		{"no backup", facts{}, "2"},
		{"no files", facts{View: backup.View{Missing: fs.ErrNotExist}}, "3"},
		{"damaged", facts{View: backup.View{Missing: errors.New("checksum")}}, "99"},
		{"not to be read", facts{Err: fs.ErrPermission}, "99"},
	} {
		tt.with.Stanza = "demo"
		got := tt.with.metrics()
		linted.Metrics(t, got)
		for _, line := range []string{`pgbackrest_stanza_status{stanza="demo"} ` + tt.want, `pgbackrest_repo_status{cipher="none",repo_key="1",stanza="demo"} ` + tt.want} {
			if !strings.Contains(string(got), "\n"+line+"\n") {
				t.Errorf("%s: %q is missing in\n%s", tt.name, line, got)
			}
		}
	}
}
