package restore

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
	"howdah/backup/stanza"
)

// stored is a stanza with one full backup of a few files, one of them behind a
// link.
func stored(t *testing.T) *stanza.Stanza {
	t.Helper()
	s := &stanza.Stanza{Storage: &mem.Store{}, Name: "t", Repo: 1}
	db := repo.DB{System: 7710185380771481590, Version: "15", Catalog: 202209061, Control: 1300}
	if err := s.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &repo.Manifest{Backrest: repo.Version, Label: "20261121-120000F", Type: repo.Full, DB: info.DB, Stop: 1795262400, Reference: []string{"20261121-120000F"}}
	m.Options.CompressType = "zst"
	m.FileDefault, m.PathDefault = repo.Owner{Mode: "0600"}, repo.Owner{Mode: "0700"}
	m.Targets = []repo.Target{{Name: "pg_data", Type: "path", Path: "/was"}, {Name: "pg_data/x.conf", Type: "link", Path: "/was", File: "x.conf"}}
	m.Links = []repo.Link{{Name: "pg_data/x.conf", Destination: "/was/x.conf"}}
	for _, p := range []string{"pg_data", "pg_data/global"} {
		m.Paths = append(m.Paths, repo.Path{Name: p, Owner: m.PathDefault})
	}
	for name, text := range map[string]string{"PG_VERSION": "15\n", "global/pg_control": "control", "postgresql.auto.conf": "recovery_target_time = 'then'\nwork_mem = '1MB'", "x.conf": "linked", "empty": ""} {
		f := repo.File{Name: "pg_data/" + name, Owner: m.FileDefault, Size: int64(len(text)), Timestamp: 1795262000}
		object, _, _ := m.Object("t", &f)
		sealed, err := s.Store(t.Context(), object, repo.Coding{Compress: repo.Zstd, Level: 3}, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
		if err != nil {
			t.Fatal(err)
		}
		if f.SetStored(sealed.Stored); text != "" {
			f.Checksum, f.RepoChecksum = sealed.Checksum, sealed.RepoSum
		}
		m.Files = append(m.Files, f)
	}
	m.Sort()
	if err := s.FinishManifest(t.Context(), m, info); err != nil {
		t.Fatal(err)
	}
	info.Add(m.Backup())
	if err := s.SaveBackupInfo(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRestoreWritesWhatWasStored(t *testing.T) {
	s, dir := stored(t), filepath.Join(t.TempDir(), "data")
	r := Restore{Path: dir, Type: Time, Target: "2026-11-21 12:00:01+00", Action: "promote", Command: "get %f '%p'", Workers: 2, Options: map[string]string{"primary-conninfo": "host=x"}}
	label, err := r.From(t.Context(), s)
	if err != nil || label != "20261121-120000F" {
		t.Fatalf("%s, %v", label, err)
	}
	for name, want := range map[string]string{"PG_VERSION": "15\n", "global/pg_control": "control", "x.conf": "linked", "empty": "", "recovery.signal": ""} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	conf, err := os.ReadFile(filepath.Join(dir, "postgresql.auto.conf"))
	for _, want := range []string{"# recovery_target_time = 'then'\nwork_mem", "\nprimary_conninfo = 'host=x'\n", "\nrestore_command = 'get %f ''%p'''\n", "\nrecovery_target_time = '2026-11-21 12:00:01+00'\nrecovery_target_action = 'promote'\n"} {
		if !strings.Contains(string(conf), want) {
			t.Errorf("postgresql.auto.conf has no %q, %v:\n%s", want, err, conf)
		}
	}
	for _, gone := range []string{manifestInData, "global/pg_control.pgbackrest.tmp"} {
		if exists(filepath.Join(dir, gone)) {
			t.Errorf("%s is left", gone)
		}
	}
	st, err := os.Stat(filepath.Join(dir, "PG_VERSION"))
	if err != nil || st.Mode().Perm() != 0o600 || st.ModTime().Unix() != 1795262000 {
		t.Errorf("PG_VERSION: %v, %v", st, err)
	}
}

// What is there already is overwritten only by who says so.
func TestRestoreRefuses(t *testing.T) {
	s := stored(t)
	full := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "mine.conf")
	for _, name := range []string{filepath.Join(full, "mine"), elsewhere} {
		if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running := t.TempDir()
	if err := os.WriteFile(filepath.Join(running, "postmaster.pid"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		r    Restore
		want repo.Class
	}{
		{"a directory with files", Restore{Path: full, Type: Default}, repo.PathNotEmpty},
		{"with delta, but no cluster", Restore{Path: full, Type: Default, Delta: true}, repo.PathNotEmpty},
		{"a running server", Restore{Path: running, Type: Default, Delta: true}, repo.PostmasterRunning},
		{"a link to a file that is there", Restore{Path: filepath.Join(t.TempDir(), "new"), Type: Default, Links: map[string]string{"x.conf": elsewhere}}, repo.FileExists},
		{"a link that the backup has not", Restore{Path: filepath.Join(t.TempDir(), "new"), Type: Default, Links: map[string]string{"y.conf": elsewhere}}, repo.LinkMap},
		{"a tablespace that it has not", Restore{Path: filepath.Join(t.TempDir(), "new"), Type: Default, Spaces: map[string]string{"sp": "/x"}}, repo.TablespaceMap},
		{"a time before the backup", Restore{Path: filepath.Join(t.TempDir(), "new"), Type: Time, Target: "2026-11-21 11:59:00+00"}, repo.BackupSetInvalid},
		{"no such backup", Restore{Path: filepath.Join(t.TempDir(), "new"), Type: Default, Set: "20200101-000000F"}, repo.BackupSetInvalid},
	} {
		if _, err := tt.r.From(t.Context(), s); repo.ClassOf(err) != tt.want {
			t.Errorf("%s: %v, want class %d", tt.name, err, tt.want)
		}
		if exists(filepath.Join(tt.r.Path, "global")) {
			t.Errorf("%s was refused, and wrote into %s", tt.name, tt.r.Path)
		}
	}
	for _, name := range []string{filepath.Join(full, "mine"), elsewhere} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, []byte("mine")) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	want := time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)
	for _, text := range []string{"2026-11-21 12:30:00+00", "2026-11-21 12:30:00.5+00:00", "2026-11-21T12:30:00Z", "2026-11-21 14:30:00+02", "2026-11-21 12:30:00 UTC", "2026-11-21 10:00:00 -0230"} {
		got, err := ParseTime(text)
		if err != nil || got.Unix() != want.Unix() {
			t.Errorf("%s is %s, %v", text, got.UTC(), err)
		}
	}
	if got, err := ParseTime("2026-11-21 12:30:00"); err != nil || fmt.Sprint(got.Location()) != fmt.Sprint(time.Local) {
		t.Errorf("without a zone: %s, %v", got, err)
	}
	for _, bad := range []string{"", "yesterday", "12:30", "2026-13-01 00:00:00", "2026-11-21 12:30:00 CEST"} {
		if got, err := ParseTime(bad); err == nil {
			t.Errorf("%q is %s", bad, got)
		}
	}
}
