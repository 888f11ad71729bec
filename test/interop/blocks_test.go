package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newer is a pgBackRest since 2.46, which scripts/getpeers fetches.
func newer(t *testing.T) string {
	t.Helper()
	program := filepath.Join(os.Getenv("HOWDAH_PEERS"), "pgbackrest/bin/pgbackrest")
	if _, err := os.Stat(program); os.Getenv("HOWDAH_PEERS") == "" || err != nil {
		t.Skip("no pgBackRest since 2.46: scripts/getpeers fetches one, and HOWDAH_PEERS says where to")
	}
	return program
}

// What a newer one stored in blocks and bundles we read, verify and restore;
// and we go on with what it made without them, and it with ours.
func TestNewer(t *testing.T) {
	newest := newer(t)
	compressions := []string{"zst"}
	if *wide {
		compressions = []string{"zst", "lz4", "gz", "bz2", "none"}
	}
	for _, compress := range compressions {
		for _, cipher := range []string{"secret", ""} {
			if cipher == "" && !*wide {
				continue
			}
			t.Run("blocks_"+compress+"_"+cipher, func(t *testing.T) {
				l := newLab(t, setting{compress: compress, cipher: cipher, bundle: true, archiver: newest, lines: "repo1-block=y\nrepo1-bundle-limit=100KiB\n"})
				l.with(newest, "stanza-create")
				l.fill()
				l.with(newest, "--type=full", "backup")
				for range 2 {
					l.server.Query("update t set m = 'changed' where g % 5000 = 0")
					l.with(newest, "--type=incr", "backup")
				}
				l.sized()
				want := l.grow()
				l.archived()
				if out := l.with(ours, "verify", "--output=text", "--verbose"); !strings.Contains(out, "status: ok") {
					t.Error(out)
				}
				r := l.restore(ours)
				if got := r.query(rows); got != want {
					t.Errorf("restored %s, want %s", got, want)
				}
				_ = os.Remove(filepath.Join(r.data, "postmaster.pid"))
				r.again("--delta")
				if got := r.query(rows); got != want {
					t.Errorf("restored again %s, want %s", got, want)
				}
				if out, code := l.code(ours, "--type=incr", "backup"); code != 67 {
					t.Errorf("ours builds on blocks: %d\n%s", code, out)
				}
			})
		}
	}
	t.Run("chain", func(t *testing.T) {
		l := newLab(t, setting{compress: "zst", cipher: "secret", bundle: true})
		l.with(ours, "stanza-create")
		l.with(newest, "check")
		l.fill()
		for i, program := range []string{ours, newest, ours} {
			l.grow()
			l.with(program, "--type="+[]string{"full", "incr", "incr"}[i], "backup")
			for _, reader := range []string{ours, newest} {
				if out := l.with(reader, "verify", "--output=text", "--verbose"); !strings.Contains(out, "status: ok") {
					t.Errorf("%s:\n%s", reader, out)
				}
			}
		}
		want := l.grow()
		l.archived()
		for _, program := range []string{ours, newest} {
			if got := l.restore(program).query(rows); got != want {
				t.Errorf("restored by %s: %s, want %s", program, got, want)
			}
		}
	})
}

// sized says that there are blocks in the repository at all, or the test would
// prove nothing.
func (l *lab) sized() {
	l.Helper()
	if out := l.with(ours, "info", "--output=json"); !strings.Contains(out, `"size-map"`) {
		l.Errorf("no backup has blocks: %s", out)
	}
}
