package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What one pushes the other gets, under the same name; what is pushed twice is
// pushed once; another content under a name is refused; damage is not delivered.
func TestWAL(t *testing.T) {
	l := newLab(t, setting{compress: "zst", cipher: "pass"})
	l.with(ours, "stanza-create")
	wal := filepath.Join(l.server.Node.Postgres.Data, "pg_wal")
	var names []string
	for range 2 {
		l.server.Query("create table if not exists x as select 1; insert into x select generate_series(1, 10000)")
		names = append(names, l.server.Query("select pg_walfile_name(pg_current_wal_lsn())"))
		l.archived()
	}
	// The archiver has pushed them, as ours. Again by either is nothing new.
	for _, program := range []string{ours, theirs} {
		out := l.with(program, "archive-push", filepath.Join(wal, names[0]))
		if !strings.Contains(out, "already exists") {
			t.Errorf("%s pushed it again: %q", program, out)
		}
	}
	get := func(program, name string) ([]byte, int) {
		dest := filepath.Join(l.dir, "spool", "got")
		_ = os.Remove(dest)
		_, code := l.code(program, "archive-get", name, dest)
		data, _ := os.ReadFile(dest)
		return data, code
	}
	want, err := os.ReadFile(filepath.Join(wal, names[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{ours, theirs} {
		if data, code := get(program, names[0]); code != 0 || !bytes.Equal(data, want) {
			t.Errorf("%s gets %d bytes, exit %d", program, len(data), code)
		}
		for _, absent := range []string{"0000000100000000000000FF", "00000009.history", "0000000100000000000000FF.partial"} {
			if _, code := get(program, absent); code != 1 {
				t.Errorf("%s asked for %s ends with %d", program, absent, code)
			}
		}
	}
	// Another content under the name: a second primary.
	other := bytes.Clone(want)
	other[len(other)-1] ^= 1
	forged := filepath.Join(l.dir, "spool", names[0])
	if err := os.WriteFile(forged, other, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{ours, theirs} {
		if out, code := l.code(program, "archive-push", forged); code != 45 {
			t.Errorf("%s pushed another content: %d\n%s", program, code, out)
		}
	}
	// A segment of another cluster.
	foreign := bytes.Clone(want)
	foreign[24] ^= 1
	stranger := filepath.Join(l.dir, "spool", "0000000100000000000000EE")
	if err := os.WriteFile(stranger, foreign, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{ours, theirs} {
		if out, code := l.code(program, "archive-push", stranger); code != 44 {
			t.Errorf("%s pushed WAL of another system: %d\n%s", program, code, out)
		}
	}
	// Their way round: they push, we get. A history file, too.
	history := filepath.Join(l.dir, "spool", "00000002.history")
	if err := os.WriteFile(history, []byte("1\t0/3000148\tno recovery target specified\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.with(theirs, "archive-push", history)
	if data, code := get(ours, "00000002.history"); code != 0 || !strings.Contains(string(data), "no recovery target") {
		t.Errorf("their history file: %q, %d", data, code)
	}
	// Damage: one bit of the stored segment.
	stored, err := filepath.Glob(filepath.Join(l.dir, "repo/archive/t/15-1/*", names[0]+"-*"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("%v, %v", stored, err)
	}
	flip(t, stored[0], -100)
	if data, code := get(ours, names[0]); code == 0 || code == 1 || data != nil {
		t.Errorf("damaged WAL: exit %d, and %d bytes for PostgreSQL", code, len(data))
	}
	// Refused while stopped, by both and for both.
	l.with(ours, "stop")
	for _, program := range []string{ours, theirs} {
		if _, code := l.code(program, "archive-push", filepath.Join(wal, names[1])); code != 62 {
			t.Errorf("%s pushes while stopped: %d", program, code)
		}
	}
	l.with(theirs, "start")
	l.with(ours, "archive-push", filepath.Join(wal, names[1]))
}

// flip turns one bit of a file, at a byte that counts from its end if negative.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 4
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
}

// With archive-async ours pushes ahead of the archiver and fetches ahead of recovery:
// nothing is missing, whoever of the two begins, and the other finds all of it good.
func TestAsynchronous(t *testing.T) {
	if !*wide && os.Getenv("NIGHTLY") == "" {
		t.Skip("the same chain with both programs takes longer than there is time by day: -interop")
	}
	l := newLab(t, setting{compress: "zst", cipher: "pass", lines: "archive-async=y\nprocess-max=3\n"})
	l.with(ours, "stanza-create")
	l.fill()
	l.with(ours, "--type=full", "backup")
	var segments []string
	for range 6 {
		l.grow()
		segments = append(segments, l.server.Query("select pg_walfile_name(pg_switch_wal())"))
	}
	want := l.grow()
	l.archived()
	l.with(theirs, "verify")
	l.sameInfo()
	for _, name := range segments {
		if stored, _ := filepath.Glob(filepath.Join(l.dir, "repo/archive/t/15-1/*", name+"-*.zst")); len(stored) != 1 {
			t.Errorf("of %s there are %v", name, stored)
		}
	}
	if status := l.server.Query("select failed_count from pg_stat_archiver"); status != "0" {
		t.Errorf("the archiver has failed %s times", status)
	}
	if got := l.restore(ours).query(rows); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
	if got := l.restore(theirs).query(rows); got != want {
		t.Errorf("restored by the other %s, want %s", got, want)
	}
}
