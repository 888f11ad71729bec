package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every kind of target, reached with our restore and our archive-get, from a
// backup that either made.
func TestTargets(t *testing.T) {
	l := newLab(t, setting{compress: "zst", bundle: true})
	l.with(ours, "stanza-create")
	l.fill()
	l.with(ours, "--type=full", "backup")
	q := l.server.Query
	atBackup := q(rows)
	before := l.grow()
	q("select pg_sleep(1.1)") // the target is a whole second
	when := q("select now()")
	q("select pg_sleep(1.1)")
	q("select pg_create_restore_point('here')")
	lsn := q("select pg_current_wal_lsn()")
	xid := q("insert into t values (-1, 'x'); select txid_current()")
	_ = l.grow()
	l.archived()
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"time", []string{"--type=time", "--target=" + when}, before},
		{"name", []string{"--type=name", "--target=here", "--target-action=promote"}, before},
		{"lsn", []string{"--type=lsn", "--target=" + lsn, "--target-action=promote"}, before},
		{"immediate", []string{"--type=immediate", "--target-action=promote"}, atBackup},
		{"exclusive xid", []string{"--type=xid", "--target=" + xid, "--target-exclusive", "--target-action=promote"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := *l
			at.T = t
			r := at.restore(ours, tt.args...)
			got := r.query(rows)
			if tt.want != "" && got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	for _, args := range [][]string{
		{"--type=time"},
		{"--type=now"},
		{"--target=x"},
		{"--type=time", "--target=yesterday"},
		{"--type=immediate", "--target-exclusive"},
		{"--set=20200101-000000F"},
		{"--type=lsn", "--target=0/1"},
	} {
		dir := filepath.Join(l.dir, "never")
		l.configure(filepath.Join(l.dir, "never.conf"), dir)
		out, code := l.try(ours, append([]string{"--config=" + filepath.Join(l.dir, "never.conf"), "--stanza=t", "restore"}, args...)...)
		if code == 0 {
			t.Errorf("restore %v is taken:\n%s", args, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("restore %v was refused, and made %s", args, dir)
		}
	}
}

// A restore with delta mends what is wrong and keeps what is right; a plain
// one refuses a directory that is not empty, and any one a running server.
func TestDelta(t *testing.T) {
	l := newLab(t, setting{compress: "lz4"})
	l.with(ours, "stanza-create")
	l.fill()
	want := l.grow()
	l.with(theirs, "--type=full", "backup")
	r := l.restore(theirs)
	r.program = ours
	if got := r.query(rows); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	conf := []string{"--config=" + r.conf, "--stanza=t", "--tablespace-map=sp=" + filepath.Join(r.dir, "space"), "restore"}
	if out, code := r.try(ours, conf...); code != 40 && code != 38 {
		t.Errorf("a restore over a cluster ends with %d:\n%s", code, out)
	}
	_ = os.Remove(filepath.Join(r.data, "postmaster.pid")) // it was stopped the hard way
	if out, code := r.try(ours, conf...); code != 40 {
		t.Errorf("a restore over a cluster ends with %d:\n%s", code, out)
	}
	kept := filepath.Join(r.data, "PG_VERSION")
	st, err := os.Stat(kept)
	if err != nil {
		t.Fatal(err)
	}
	stray, lost := filepath.Join(r.data, "base", "stray"), filepath.Join(r.data, "global", "1262")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(r.data, "global", "1260"), 5000)
	r.again("--delta")
	if _, err := os.Stat(stray); err == nil {
		t.Error("what is not of the backup is still there")
	}
	if again, err := os.Stat(kept); err != nil || inode(again) != inode(st) {
		t.Errorf("what was right was written anew, %v", err)
	}
	if got := r.query(rows); got != want {
		t.Errorf("after delta: %s, want %s", got, want)
	}
}

// A restore that dies leaves no cluster that starts, and delta ends it.
func TestRestoreFails(t *testing.T) {
	l := newLab(t, setting{compress: "zst"})
	l.with(ours, "stanza-create")
	l.fill()
	want := l.grow()
	l.with(ours, "--type=full", "backup")
	label := strings.TrimSpace(l.label())
	object := filepath.Join(l.dir, "repo/backup/t", label, "pg_data/global/1262.zst")
	sound, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, object, -6)
	dir := filepath.Join(l.dir, "half")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	chown(t, dir)
	conf := filepath.Join(l.dir, "half.conf")
	l.configure(conf, dir)
	args := []string{"--config=" + conf, "--stanza=t", "--tablespace-map=sp=" + filepath.Join(l.dir, "half_space"), "restore"}
	chown(t, l.dir)
	if out, code := l.try(ours, args...); code == 0 {
		t.Errorf("a restore of a damaged backup ends with %d:\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "global/pg_control")); err == nil {
		t.Error("half a cluster has its pg_control")
	}
	if err := os.WriteFile(object, sound, 0o640); err != nil {
		t.Fatal(err)
	}
	if out, code := l.try(ours, append(args, "--delta")...); code != 0 {
		t.Errorf("delta after a restore that failed: %d\n%s", code, out)
	}
	r := &restored{lab: l, dir: filepath.Join(l.dir, "s"), data: dir, conf: conf, program: ours}
	if got := r.query(rows); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
