package pgbackrest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"howdah/backup/repo"
)

// PostgreSQL waits for its archive_command, also when it shuts down: a push that
// hangs ends all the same.
func TestPushIsBounded(t *testing.T) {
	dir := t.TempDir()
	wal := filepath.Join(dir, "000000010000000000000001")
	if err := unix.Mkfifo(wal, 0o600); err != nil { // whoever opens it waits
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := Run(t.Context(), []string{
		conf(t, "[global]\nlog-level-file=off\n"), "--stanza=t", "--repo1-path=" + dir, "--pg1-path=" + dir, "--archive-timeout=0.2", "archive-push", wal,
	}, Process{Out: &out, Err: &out})
	if code != int(repo.ArchiveTimeout) || !strings.Contains(out.String(), "archive-timeout") {
		t.Errorf("exit %d: %s", code, out.String())
	}
}

// A server that shuts down is not kept by its archiver, if it is said so.
func TestPushWhileStopping(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		status, option string
		want           int
	}{
		{"ready   ", "--no-push-while-stopping", int(repo.FileMissing)}, // it goes on, and there is no such file
		{"stopping", "--push-while-stopping", int(repo.FileMissing)},
		{"stopping", "--no-push-while-stopping", 143},
	} {
		pid := "1234\n" + dir + "\n1795262400\n5432\n/tmp\n\n 1 2\n" + tt.status + "\n"
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(pid), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		code := Run(t.Context(), []string{
			conf(t, "[global]\nlog-level-file=off\n"), "--stanza=t", "--repo1-path=" + dir, "--pg1-path=" + dir, tt.option, "archive-push", filepath.Join(dir, "000000010000000000000001"),
		}, Process{Out: &out, Err: &out})
		if code != tt.want {
			t.Errorf("%s, %s: exit %d, want %d: %s", tt.status, tt.option, code, tt.want, out.String())
		}
	}
}
