package interop

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A repository gets another pass phrase without a moment in which the real one can not
// use it: prepared it is open to both, settled to the new one alone, and in either state
// the real one lists, verifies, adds to and restores it.
func TestRekey(t *testing.T) {
	programs := []string{theirs, ours}
	if newest := filepath.Join(os.Getenv("HOWDAH_PEERS"), "pgbackrest/bin/pgbackrest"); os.Getenv("HOWDAH_PEERS") != "" {
		if _, err := os.Stat(newest); err == nil {
			programs = append(programs, newest)
		}
	}
	l := newLab(t, setting{compress: "zst", cipher: "first", bundle: true})
	l.with(theirs, "stanza-create")
	l.fill()
	l.with(theirs, "--type=full", "backup")
	l.grow()
	l.with(ours, "--type=incr", "backup")
	old := l.extra
	phrase := filepath.Join(l.dir, "phrase")
	if err := os.WriteFile(phrase, []byte("second\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	with := func(pass string) {
		l.extra = strings.Replace(old, "repo1-cipher-pass=first", "repo1-cipher-pass="+pass, 1)
		l.configure(l.conf, l.server.Node.Postgres.Data)
	}
	good := func(state string) {
		t.Helper()
		for _, program := range programs {
			if out := l.with(program, "info"); !strings.Contains(out, "status: ok") || !strings.Contains(out, "incr backup: ") {
				t.Errorf("%s: %s says\n%s", state, program, out)
			}
			// Of what is not settled ours says that one of two files is not to be read.
			out, _ := l.code(program, "verify", "--output=text", "--verbose")
			if strings.Count(out, "status: valid") < 2 || strings.Contains(out, "status: invalid") || !strings.Contains(out, "checksum invalid: 0") {
				t.Errorf("%s: %s says\n%s", state, program, out)
			}
		}
	}
	l.with(ours, "--new-cipher-pass-file="+phrase, "rekey")
	good("prepared, old phrase")
	with("second")
	good("prepared, new phrase")
	l.grow()
	l.with(theirs, "--type=incr", "backup") // in between, with the new one
	l.with(ours, "rekey")
	good("settled")
	if out := l.with(ours, "rekey", "--log-level-console=info"); !strings.Contains(out, "nothing is to be changed") {
		t.Errorf("settled twice:\n%s", out)
	}
	for _, program := range programs {
		if out := l.with(program, "verify", "--output=text", "--verbose"); !strings.Contains(out, "status: ok") {
			t.Errorf("%s: %s", program, out)
		}
	}
	l.with(programs[len(programs)-1], "--type=incr", "backup")
	l.with(theirs, "--type=full", "--repo1-retention-full=1", "backup")
	want := l.grow()
	l.archived()
	for _, program := range programs {
		if got := l.restore(program).query(rows); got != want {
			t.Errorf("%s restores %s, want %s", program, got, want)
		}
	}
	with("first")
	for _, program := range programs {
		if out, code := l.code(program, "verify", "--output=text"); code == 0 && strings.Contains(out, "status: ok") {
			t.Errorf("%s opens it with the old phrase:\n%s", program, out)
		}
	}
	with("second") // for what the server archives until it is stopped
}
