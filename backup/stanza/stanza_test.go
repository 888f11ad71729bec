package stanza

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
	"howdah/secret"
)

var db = repo.DB{System: 7710185380771481590, Version: "15", Catalog: 202209061, Control: 1300}

// created is an encrypted stanza, as stanza-create leaves it.
func created(t *testing.T) *Stanza {
	t.Helper()
	s := &Stanza{Storage: &mem.Store{}, Name: "t", Repo: 1, Pass: "topsecret"}
	if err := s.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Stanza, name, text string) {
	t.Helper()
	if err := s.Put(t.Context(), name, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
		t.Fatal(err)
	}
}

func TestCreate(t *testing.T) {
	s := created(t)
	a, err := s.ArchiveInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !repo.SameHistory(a, b) || a.Cipher == "" || a.Cipher == b.Cipher || a.Cipher == s.Pass {
		t.Errorf("archive %+v, backup %+v: keys must be nested and differ", a, b)
	}
	if err := s.Create(t.Context(), db); err != nil {
		t.Errorf("creating it again: %v", err)
	}
	if again, err := s.ArchiveInfo(t.Context()); err != nil || again.Cipher != a.Cipher {
		t.Errorf("creating it again changed the key, %v", err)
	}
	other := db
	other.System++
	if err := s.Create(t.Context(), other); repo.ClassOf(err) != repo.FileInvalid {
		t.Errorf("creating it for another system: %v", err)
	}
	if err := s.Upgrade(t.Context(), other); err != nil {
		t.Errorf("upgrade: %v", err)
	}
	if a, _ = s.ArchiveInfo(t.Context()); a.DB.ID != 2 || len(a.History) != 2 {
		t.Errorf("after an upgrade: %+v", a)
	}
	for name, text := range map[string]string{"archive/x/15-1/junk": "", "backup/x/20200101-000000F/backup.manifest": ""} {
		s := &Stanza{Storage: &mem.Store{}, Name: "x", Repo: 1}
		put(t, s, name, text)
		if err := s.Create(t.Context(), db); repo.ClassOf(err) != repo.PathNotEmpty {
			t.Errorf("creating over %s: %v", name, err)
		}
	}
}

// One of two copies is enough, and of both gone or damaged the first says why.
func TestCopies(t *testing.T) {
	name := repo.ArchivePath("t", repo.ArchiveInfoName)
	for _, tt := range []struct {
		what        string
		main, copy_ string // put in its place; "-" removes it, "" leaves it
		want        repo.Class
	}{
		{"both", "", "", 0},
		{"the first is gone", "-", "", 0},
		{"the first is damaged", "junk", "", 0},
		{"the copy is gone", "", "-", 0},
		{"both are gone", "-", "-", repo.FileMissing},
		{"the first is gone, the copy damaged", "-", "junk", repo.Crypto},
		{"both are damaged", "junk", "junk", repo.Crypto},
	} {
		s := created(t)
		for n, text := range map[string]string{name: tt.main, name + repo.Copy: tt.copy_} {
			switch text {
			case "":
			case "-":
				if err := s.Remove(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			default:
				put(t, s, n, text)
			}
		}
		_, err := s.ArchiveInfo(t.Context())
		if err == nil != (tt.want == 0) || err != nil && repo.ClassOf(err) != tt.want {
			t.Errorf("%s: %v", tt.what, err)
		}
		if tt.want == 0 {
			if err := s.Create(t.Context(), db); err != nil { // mends
				t.Errorf("%s: create: %v", tt.what, err)
			}
			if main, second, err := s.Copies(t.Context(), "archive/t", repo.ArchiveInfoName); !main || !second || err != nil {
				t.Errorf("%s: after create there are %t, %t, %v", tt.what, main, second, err)
			}
		}
	}
	s := created(t)
	s.Pass = "wrong"
	if _, err := s.ArchiveInfo(t.Context()); err == nil {
		t.Error("a wrong pass phrase opens it")
	}
}

func manifest(label, prior string) *repo.Manifest {
	m := &repo.Manifest{
		Backrest: repo.Version, Label: label, Type: repo.Full, Prior: prior, DB: db, Cipher: secret.Text("x"),
		Targets: []repo.Target{{Name: "pg_data", Type: "path", Path: "/x"}},
	}
	if m.DB.ID = 1; prior != "" {
		m.Type = repo.Incr
	}
	return m
}

// Backups whose list or whose manifest was not written to the end.
func TestReconcile(t *testing.T) {
	s := created(t)
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const full, incr, lost, child, begun = "20261101-000000F", "20261101-000000F_20261102-000000I", "20261103-000000F", "20261103-000000F_20261104-000000I", "20261105-000000F"
	for _, m := range []*repo.Manifest{manifest(full, ""), manifest(incr, full), manifest(child, lost)} {
		if err := s.FinishManifest(t.Context(), m, info); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveManifestCopy(t.Context(), begun, manifest(begun, "").Bytes(), info); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*repo.Manifest{manifest(full, ""), manifest(lost, ""), manifest(child, lost)} {
		info.Add(m.Backup()) // incr's maker died before it was listed; lost has no manifest
	}
	if err := s.Reconcile(t.Context(), &info, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range info.Backups {
		got = append(got, b.Label)
	}
	if len(got) != 2 || got[0] != full || got[1] != incr {
		t.Errorf("listed are %v", got)
	}
	if err := s.RemoveUnfinished(t.Context(), info, "", nil); err != nil {
		t.Fatal(err)
	}
	if labels, _ := s.Labels(t.Context()); len(labels) != 3 { // full, incr, and child, whose manifest is whole
		t.Errorf("left are %v", labels)
	}
	if last, err := s.LastLabel(t.Context()); last != child || err != nil {
		t.Errorf("the last label is %s, %v", last, err)
	}
}

func TestFetchSeesWhatFollows(t *testing.T) {
	s := created(t)
	c := repo.Coding{Compress: repo.Gzip, Level: 6}
	sealed, err := s.Store(t.Context(), "x", c, func(w io.Writer) error { _, err := io.WriteString(w, "text"); return err })
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	got, err := s.Fetch(t.Context(), "x", 0, -1, c, &b)
	if err != nil || got != sealed || b.String() != "text" {
		t.Errorf("%+v, %v; want %+v", got, err, sealed)
	}
	if _, err := s.Fetch(t.Context(), "y", 0, -1, c, io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestLocks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lock")
	l, err := Lock(dir, "t", []int{1, 2}, LockBackup)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"t-backup.lock", "t-backup-1.lock", "t-backup-2.lock"} { // before 2.53, and since
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Lock(dir, "t", []int{2}, LockBackup); repo.ClassOf(err) != repo.LockAcquire {
		t.Errorf("a second lock: %v", err)
	}
	if pid, held := Held(dir, "t", LockBackup); !held || pid != os.Getpid() {
		t.Errorf("held by %d, %t", pid, held)
	}
	if pids := Holders(dir, ""); len(pids) != 1 || pids[0] != os.Getpid() {
		t.Errorf("holders %v", pids)
	}
	if other, err := Lock(dir, "other", []int{1}, LockBackup, LockArchive); err != nil {
		t.Errorf("another stanza: %v", err)
	} else {
		other.Release()
	}
	l.Release()
	if _, held := Held(dir, "t", LockBackup); held {
		t.Error("still held")
	}
	if err := Stopped(dir, "t"); err != nil {
		t.Errorf("stopped by nobody: %v", err)
	}
	for _, stanza := range []string{"t", ""} {
		if err := Stop(dir, stanza); err != nil {
			t.Fatal(err)
		}
		if err := Stopped(dir, "t"); repo.ClassOf(err) != repo.Stopped {
			t.Errorf("stop of %q: %v", stanza, err)
		}
		if was, err := Start(dir, stanza); !was || err != nil {
			t.Errorf("start of %q: %t, %v", stanza, was, err)
		}
	}
	if was, err := Start(dir, "t"); was || err != nil {
		t.Errorf("start of what runs: %t, %v", was, err)
	}
}
