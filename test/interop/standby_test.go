package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"howdah/test/testpg"
)

// A chain of backups whose files both programs copy from a standby in turn: each
// extends what the other made, and both verify and restore it.
func TestFromStandby(t *testing.T) {
	ways := []bool{true}
	if *wide {
		ways = []bool{false, true}
	}
	for _, bundle := range ways {
		t.Run(fmt.Sprintf("bundle=%t", bundle), func(t *testing.T) {
			l := newLab(t, setting{compress: "zst", bundle: bundle, lines: "archive-timeout=20\n"})
			s := l.standby()
			l.with(ours, "stanza-create")
			l.with(ours, "check")
			l.fill()
			l.mark(s, "first")
			both := map[string]string{"ours": ours, "theirs": theirs}
			by := []string{"ours", "theirs", "ours"}
			if bundle {
				by = []string{"theirs", "ours", "theirs"}
			}
			for i, who := range by {
				l.grow()
				out := l.with(both[who], "--type="+[]string{"full", "incr", "diff"}[i], "--backup-standby", "--log-level-console=info", "--process-max=2", "backup")
				if !strings.Contains(out, "replay on the standby reached") {
					t.Errorf("%s waited for no standby:\n%s", who, out)
				}
				l.standbyIs("true")
				l.sameInfo()
				l.clean()
			}
			want := l.grow()
			l.archived()
			for name, program := range both {
				r := l.restore(program)
				if got := r.query(rows); got != want {
					t.Errorf("restored by %s: %s, want %s", name, got, want)
				}
				if text, err := os.ReadFile(filepath.Join(r.data, "base/1/first")); string(text) != "standby" {
					t.Errorf("restored by %s: the file is from the %s, %v", name, text, err)
				}
			}
		})
	}
}

// A standby that does not get on: an error, or with prefer the primary in its place.
func TestStandbyThatWillNotDo(t *testing.T) {
	if !*wide {
		t.Skip("a standby that is waited for in vain takes longer than there is time by day: -interop")
	}
	l := newLab(t, setting{compress: "zst", bundle: true, lines: "archive-timeout=20\n"})
	s := l.standby()
	l.with(ours, "stanza-create")
	l.fill()
	l.mark(s, "first")
	s.Query("select pg_wal_replay_pause()")
	l.await("pause", func() bool { return s.Query("select pg_get_wal_replay_pause_state()") == "paused" })
	out, code := l.code(ours, "--type=full", "--backup-standby", "--archive-timeout=2", "backup")
	if code != 82 || !strings.Contains(out, "timeout before standby replay reached") {
		t.Errorf("a standby that does not replay: %d\n%s", code, out)
	}
	out = l.with(ours, "--type=full", "--backup-standby=prefer", "--archive-timeout=2", "backup")
	if !strings.Contains(out, "the backup is made from the primary") {
		t.Errorf("nothing is said of the standby:\n%s", out)
	}
	l.standbyIs("false")
	s.Query("select pg_wal_replay_resume()")
	if err := s.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, code := l.code(ours, "--type=full", "--backup-standby", "backup"); code != 56 || !strings.Contains(out, "unable to find standby") {
		t.Errorf("without a standby: %d\n%s", code, out)
	}
	l.with(ours, "--type=incr", "--backup-standby=prefer", "backup")
	want := l.grow()
	l.archived()
	r := l.restore(theirs)
	if got := r.query(rows); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
	if text, err := os.ReadFile(filepath.Join(r.data, "base/1/first")); string(text) != "primary" {
		t.Errorf("the file is from the %s, %v", text, err)
	}
}

// standby gives the lab one, and names it in its configuration.
func (l *lab) standby() *testpg.Server {
	l.Helper()
	s := testpg.Start(l.T, testpg.StandbyOf(l.server))
	text, err := os.ReadFile(l.conf)
	if err != nil {
		l.Fatal(err)
	}
	// The standby is named first: who is what the servers say themselves. The archiver
	// goes on with a file of its own.
	l.conf = filepath.Join(l.dir, "both.conf")
	both := strings.NewReplacer("pg1-", "pg2-").Replace(string(text)) + fmt.Sprintf("pg1-path=%s\npg1-socket-path=%s\n", s.Node.Postgres.Data, s.Node.Paths.Sockets)
	if err := os.WriteFile(l.conf, []byte(both), 0o644); err != nil {
		l.Fatal(err)
	}
	return s
}

// mark puts a file of that name beside the relations of both servers, which says whose it is.
func (l *lab) mark(s *testpg.Server, name string) {
	l.Helper()
	for whose, data := range map[string]string{"primary": l.server.Node.Postgres.Data, "standby": s.Node.Postgres.Data} {
		path := filepath.Join(data, "base/1", name)
		if err := os.WriteFile(path, []byte(whose), 0o600); err != nil {
			l.Fatal(err)
		}
		chown(l, path)
	}
}

// standbyIs says what the newest backup records.
func (l *lab) standbyIs(want string) {
	l.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "repo/backup/t", l.label(), "backup.manifest"))
	if err != nil || !strings.Contains(string(text), "option-backup-standby="+want+"\n") {
		l.Errorf("the manifest does not say option-backup-standby=%s: %v", want, err)
	}
}
