package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inventory writes a file.
func (w *world) inventory(text string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "inventory.yml")
	w.check(os.WriteFile(file, []byte(text), 0o600))
	return file
}

// in asks one of several clusters.
func (w *world) in(cluster, sql string) string {
	w.t.Helper()
	return strings.TrimSpace(w.howdah("psql", cluster, "--", "-AtX", "-v", "ON_ERROR_STOP=1", "-c", sql))
}

// A moment of a cluster becomes a cluster of its own: with its own timeline,
// archive and backups, while the other one goes on and hears nothing of it.
func TestRestoreAs(t *testing.T) {
	w := own(t)
	w.check(w.Up(w.ctx, w.inventory(`cluster: one
hosts: [10.10.10.11]
users: [{ name: demo }]
databases:
  - { name: demo, owner: demo }
  - { name: postgres, pgbouncer: false, schemas: [monitor], extensions: [{ name: pg_stat_statements, schema: monitor }] }
template: tiny
libs: pg_stat_statements
`)))
	w.in("one", "create table moments (word text); insert into moments values ('here')")
	w.howdah("backup", "one", "--type", "full")
	w.pause(1100 * time.Millisecond) // backups know their end to the second
	was := time.Now().UTC().Format("2006-01-02 15:04:05.000+00")
	w.pause(100 * time.Millisecond)
	w.in("one", "update moments set word = 'gone'")
	w.refused("restore-refused", "no cluster two", "restore", "one", "--to", was, "--as", "two", "--inventory", w.inventory("cluster: three\nhosts: [10.10.10.12]\n"))
	if out := w.howdah("restore", "one", "--to", was, "--as", "two", "--dry-run"); !strings.Contains(out, "make cluster two (two-1 on 10.10.10.12)") {
		t.Errorf("it would %s", out)
	}
	if _, err := os.Stat(filepath.Join(w.Dir, "two")); err == nil {
		t.Error("a preview has made something")
	}

	w.killedAt("Replaying", "restore", "one", "--to", was, "--as", "two", "--yes")
	w.howdah("restore", "one", "--to", was, "--as", "two", "--yes")
	if got := w.in("two", "select word from moments"); got != "here" {
		t.Errorf("the new cluster has %q, want here", got)
	}
	if got := w.in("one", "select word from moments"); got != "gone" {
		t.Errorf("the other has %q, want gone", got)
	}
	if got := w.in("two", "select timeline_id from pg_control_checkpoint()"); got != "2" {
		t.Errorf("the new cluster is on timeline %s, want 2", got)
	}
	var b backups
	if out := w.howdah("backups", "two", "--json"); json.Unmarshal([]byte(out), &b) != nil || len(b.Backups) != 1 || b.Leader != "two-1" {
		t.Errorf("it backs itself up: %s", out)
	}
	w.in("two", "update moments set word = 'anew'")
	if len(archived(w, "two", "00000002*/0000000200*")) == 0 { // a backup is complete with its WAL
		t.Error("its archive has nothing of its timeline")
	}
	if strange := archived(w, "one", "00000002*"); len(strange) > 0 {
		t.Errorf("the other's archive has %v", strange)
	}
	w.refused("restore-refused", "there is a cluster two already", "restore", "one", "--to", "latest", "--as", "two", "--yes")
}

// archived is what the archives of a cluster's members on their disks have.
func archived(w *world, cluster, pattern string) []string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.Dir, cluster, "*/backup/archive", cluster, "*", pattern))
	w.check(err)
	return found
}
