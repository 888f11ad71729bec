package keep

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"howdah/backup/repo"
	"howdah/backup/repo/mem"
	"howdah/backup/stanza"
)

var db = repo.DB{System: 7710185380771481590, Version: "15", Catalog: 202209061, Control: 1300}

func opened() *stanza.Stanza { return &stanza.Stanza{Storage: &mem.Store{}, Name: "t", Repo: 1} }

func put(t *testing.T, s *stanza.Stanza, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.Put(t.Context(), name, func(w io.Writer) error { _, err := io.WriteString(w, "of "+name); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	full = "20261121-120000F"
	incr = "20261121-120000F_20261121-130000I"
	sum  = "-da39a3ee5e6b4b0d3255bfef95601890afd80709.zst"
)

// led is a leader's repository: WAL of two timelines, a full backup and one that
// builds on it.
func led(t *testing.T) *stanza.Stanza {
	t.Helper()
	s := opened()
	if err := s.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	info, err := s.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []repo.Backup{
		{Label: full, Type: repo.Full, DB: 1, ArchiveStart: "000000010000000000000003", ArchiveStop: "000000010000000000000003", Start: 1, Stop: 2, RepoDelta: 100},
		{Label: incr, Type: repo.Incr, DB: 1, Prior: full, Reference: []string{full}, ArchiveStart: "000000020000000000000005", ArchiveStop: "000000020000000000000005", Start: 3, Stop: 4, RepoDelta: 10},
	} {
		put(t, s, "backup/t/"+b.Label+"/backup.manifest", "backup/t/"+b.Label+"/backup.manifest.copy", "backup/t/"+b.Label+"/bundle/1",
			"backup/t/"+b.Label+"/pg_data/base/5/1259.zst", repo.HistoryPath("t", b.Label))
		info.Add(b)
	}
	if err := s.SaveBackupInfo(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	put(
		t, s, "archive/t/15-1/0000000100000000/000000010000000000000002"+sum, "archive/t/15-1/0000000100000000/000000010000000000000003"+sum,
		"archive/t/15-1/0000000100000000/000000010000000000000004.partial"+sum, "archive/t/15-1/00000002.history",
		"archive/t/15-1/0000000200000000/000000020000000000000004"+sum, "archive/t/15-1/0000000200000000/000000020000000000000005"+sum,
	)
	return s
}

// names are all objects below a directory.
func names(t *testing.T, s *stanza.Stanza, dir string) (all []string) {
	t.Helper()
	list, err := s.List(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if name := strings.TrimPrefix(dir+"/"+e.Name, "/"); e.Dir {
			all = append(all, names(t, s, name)...)
		} else {
			all = append(all, name)
		}
	}
	return all
}

func TestCopy(t *testing.T) {
	from, to := led(t), opened()
	if err := (&copier{from: from, to: to}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	// All but the WAL that no backup needs.
	want := slices.DeleteFunc(names(t, from, ""), func(n string) bool { return strings.Contains(n, "000000010000000000000002-") })
	if got := names(t, to, ""); !slices.Equal(got, want) {
		t.Errorf("there is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	a, err := from.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := to.BackupInfo(t.Context())
	if err != nil || string(a.Bytes()) != string(b.Bytes()) {
		t.Errorf("backup.info is another one, %v:\n%s\n%s", err, a.Bytes(), b.Bytes())
	}
}

// What is there already stays, whoever it is from.
func TestCopyTakesNothingAway(t *testing.T) {
	from, to := led(t), led(t)
	own := "20261120-120000F"
	info, err := to.BackupInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info.Drop(incr)
	info.Add(repo.Backup{Label: own, Type: repo.Full, DB: 1})
	if err := to.SaveBackupInfo(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	const old, other = "archive/t/15-1/0000000200000000/000000020000000000000005" + sum, "archive/t/15-1/0000000200000000/000000020000000000000005-0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33.zst"
	if err := to.Remove(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	put(t, to, other)
	if err := (&copier{from: from, to: to}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err = to.BackupInfo(t.Context()); err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, b := range info.Backups {
		labels = append(labels, b.Label)
	}
	if !slices.Equal(labels, []string{own, full, incr}) {
		t.Errorf("listed are %v", labels)
	}
	if got := names(t, to, "archive/t/15-1/0000000200000000"); slices.Contains(got, old) || !slices.Contains(got, other) {
		t.Errorf("a segment came a second time: %v", got)
	}
}

// A copy that broke off goes on; until it is whole the backup is not listed.
func TestCopyGoesOn(t *testing.T) {
	from, to := led(t), opened()
	broken := &failing{Storage: from.Storage, left: 9}
	c := copier{from: &stanza.Stanza{Storage: broken, Name: "t", Repo: 1}, to: to}
	for try := 0; ; try++ {
		err := c.run(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, errBroken) || try > 20 {
			t.Fatal(err)
		}
		if info, err := to.BackupInfo(t.Context()); err == nil {
			for _, b := range info.Backups {
				if !slices.Contains(names(t, to, "backup/t/"+b.Label), "backup/t/"+b.Label+"/backup.manifest") {
					t.Errorf("%s is listed, and is not whole", b.Label)
				}
			}
		}
		broken.left = 9
	}
	if info, err := to.BackupInfo(t.Context()); err != nil || len(info.Backups) != 2 {
		t.Errorf("%d backups, %v", len(info.Backups), err)
	}
}

// Another cluster's repository is not mixed with this one's.
func TestCopyOfAnother(t *testing.T) {
	to := opened()
	other := db
	other.System++
	if err := to.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	before := names(t, to, "")
	if err := (&copier{from: led(t), to: to}).run(t.Context()); repo.ClassOf(err) != repo.BackupMismatch {
		t.Errorf("it ends with %v", err)
	}
	if after := names(t, to, ""); !slices.Equal(before, after) {
		t.Errorf("there was %v, is %v", before, after)
	}
}
