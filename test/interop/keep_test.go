package interop

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func inode(st fs.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Ino }

// label is that of the newest backup.
func (l *lab) label() string {
	l.Helper()
	var all []struct {
		Backup []struct {
			Label string
			Error bool
		}
	}
	if err := json.Unmarshal([]byte(l.with(ours, "info", "--output=json")), &all); err != nil || len(all) != 1 || len(all[0].Backup) == 0 {
		l.Fatalf("%+v, %v", all, err)
	}
	return all[0].Backup[len(all[0].Backup)-1].Label
}

// names lists a directory, for comparison.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// litter puts what a process of ours was writing, and has beside, where the real
// one must not mind it.
func (l *lab) litter() {
	l.Helper()
	segments, err := filepath.Glob(filepath.Join(l.dir, "repo", "archive", "t", "*", "*", "*.zst"))
	if err != nil || len(segments) == 0 {
		l.Fatalf("%v, %v", segments, err)
	}
	last := filepath.Base(segments[len(segments)-1])[:24]
	for _, path := range []string{
		segments[len(segments)-1] + ".ABCDEFGH.pgbackrest.tmp", filepath.Join(l.dir, "repo", "backup", "t", "backup.info.ABCDEFGH.pgbackrest.tmp"),
		filepath.Join(l.dir, "repo", "backup", "t", l.label(), "bundle", "1.ABCDEFGH.pgbackrest.tmp"), filepath.Join(l.dir, "repo", "wal-holes", "t", "15-1", last+".json"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			l.Fatal(err)
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"first":%q,"last":%q}`, last, last), 0o644); err != nil {
			l.Fatal(err)
		}
	}
}

// Of the same repository both keep the same, whatever the policy.
func TestRetention(t *testing.T) {
	l := newLab(t, setting{compress: "zst", bundle: true, lines: "expire-auto=n\n"})
	l.with(ours, "stanza-create")
	l.fill()
	for _, b := range []string{"full", "incr", "diff", "incr", "full", "diff", "incr", "diff"} {
		l.grow()
		l.with(ours, "--type="+b, "backup")
		l.archived()
	}
	l.clean()
	l.litter()
	if out, code := l.try(theirs, "--config="+l.conf, "--stanza=t", "verify"); code != 0 {
		l.Errorf("verify of theirs ends with %d:\n%s", code, out)
	}
	policies := []string{
		"--repo1-retention-full=1", "--repo1-retention-full=1 --repo1-retention-diff=1", "--repo1-retention-diff=1",
		"--repo1-retention-full=2 --repo1-retention-archive=1", "--repo1-retention-full=1 --repo1-retention-archive-type=diff --repo1-retention-archive=1 --repo1-retention-diff=1",
		"--repo1-retention-full=1 --repo1-retention-full-type=time", "--repo1-retention-archive-type=incr --repo1-retention-archive=1",
	}
	for i, policy := range policies {
		t.Run(strings.ReplaceAll(policy, "--repo1-retention-", ""), func(t *testing.T) {
			var left [2][]string
			for n, program := range []string{ours, theirs} {
				copied := filepath.Join(l.dir, fmt.Sprintf("copy%d%d", i, n))
				if out, err := exec.Command("cp", "-a", filepath.Join(l.dir, "repo"), copied).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				args := append([]string{"--config=" + l.conf, "--stanza=t", "--repo1-path=" + copied, "expire"}, strings.Fields(policy)...)
				if !strings.Contains(policy, "retention-full=") {
					args = append(args, "--reset-repo1-retention-full")
				}
				if out, code := l.try(program, args...); code != 0 {
					t.Fatalf("%s %v: %d\n%s", program, args, code, out)
				}
				left[n] = names(t, copied)
			}
			if !slices.Equal(left[0], left[1]) {
				t.Errorf("ours keeps %d files, theirs %d; only one has %v", len(left[0]), len(left[1]), differ(left[0], left[1]))
			}
		})
	}
	// A backup that is asked for goes with all that need it; the last full one stays.
	l.with(ours, "--set="+l.label()[:16], "expire")
	l.sameInfo()
	l.clean()
	if _, code := l.code(ours, "--set="+l.label()[:16], "expire"); code != 75 {
		t.Errorf("the only full backup is expired: %d", code)
	}
}

func differ(a, b []string) []string {
	var all []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			all = append(all, "ours:"+x)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			all = append(all, "theirs:"+x)
		}
	}
	return all[:min(len(all), 12)]
}

// Whatever is broken in a repository, verify says so and ends with a code.
func TestInjuries(t *testing.T) {
	l := newLab(t, setting{compress: "zst"})
	l.with(ours, "stanza-create")
	l.fill()
	l.with(ours, "--type=full", "backup")
	for range 3 {
		l.grow()
		l.archived()
	}
	l.clean()
	label := l.label()
	glob := func(pattern string) []string {
		found, err := filepath.Glob(filepath.Join(l.dir, "repo", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		return found
	}
	wal := glob("archive/t/15-1/*/*-*.zst")
	for _, tt := range []struct {
		name string
		hurt func() string // which file it changed
		says string
	}{
		{"a bit in a data file", func() string {
			p := glob("backup/t/" + label + "/pg_data/global/1262.zst")[0]
			flip(t, p, 20)
			return p
		}, "checksum invalid: 1"},
		{"a data file cut short", func() string { p := glob("backup/t/" + label + "/pg_data/global/1262.zst")[0]; cut(t, p); return p }, "status: invalid"},
		{"a data file gone", func() string { p := glob("backup/t/" + label + "/pg_data/global/1262.zst")[0]; remove(t, p); return p }, "missing: 1"},
		{"a bit in a segment", func() string { flip(t, wal[1], -50); return wal[1] }, "checksum invalid: 1"},
		{"a segment of the backup gone", func() string { remove(t, wal[0]); return wal[0] }, "WAL is missing"},
		{"a segment in between gone", func() string { remove(t, wal[len(wal)-2]); return wal[len(wal)-2] }, "WAL is missing between"},
		{"a bit in backup.info", func() string { p := glob("backup/t/backup.info")[0]; flip(t, p, 300); return p }, "backup.info"},
		{"a bit in archive.info's copy", func() string { p := glob("archive/t/archive.info.copy")[0]; flip(t, p, 60); return p }, "archive.info.copy"},
		{"a manifest gone", func() string {
			p := glob("backup/t/" + label + "/backup.manifest")[0]
			remove(t, p)
			remove(t, p+".copy")
			return p
		}, "manifest missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			saved := filepath.Join(l.dir, "saved")
			if out, err := exec.Command("cp", "-a", filepath.Join(l.dir, "repo"), saved).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			tt.hurt()
			out, code := l.code(ours, "verify", "--output=text", "--verbose")
			if code == 0 || !strings.Contains(out, tt.says) {
				t.Errorf("verify ends with %d, and does not say %q:\n%s", code, tt.says, out)
			}
			if _, code := l.code(ours, "verify", "--compat-exit"); code != 0 {
				t.Errorf("with --compat-exit it ends with %d", code)
			}
			if err := os.RemoveAll(filepath.Join(l.dir, "repo")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(saved, filepath.Join(l.dir, "repo")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func cut(t *testing.T, path string) {
	t.Helper()
	st, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, st.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// A page with a wrong checksum is found, named, and no reason to stop; both
// find the same.
func TestPageChecksums(t *testing.T) {
	l := newLab(t, setting{compress: "gz"})
	if l.server.Query("show data_checksums") != "on" {
		t.Fatal("the test's cluster has no checksums")
	}
	l.with(ours, "stanza-create")
	l.fill()
	l.server.Query("checkpoint")
	path := filepath.Join(l.server.Node.Postgres.Data, l.server.Query("select pg_relation_filepath('t')"))
	flip(t, path, 3*8192+100)
	flip(t, path, 4*8192+100)
	var said [2]string
	for i, program := range []string{ours, theirs} {
		out := l.with(program, "--type=full", "backup")
		if !strings.Contains(out, "invalid page checksum") {
			t.Errorf("%s says nothing of the pages:\n%s", program, out)
		}
		manifest, err := os.ReadFile(filepath.Join(l.dir, "repo/backup/t", l.label(), "backup.manifest"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(manifest)) {
			if _, rest, ok := strings.Cut(line, "checksum-page-error"); ok {
				said[i], _, _ = strings.Cut(rest, "repo-size")
				said[i], _, _ = strings.Cut(said[i], `"rck"`)
			}
		}
	}
	if said[0] == "" || said[0] != said[1] {
		t.Errorf("ours notes %s, theirs %s", said[0], said[1])
	}
	l.sameInfo()
}
