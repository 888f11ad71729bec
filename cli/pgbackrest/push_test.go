package pgbackrest

import (
	"bytes"
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
