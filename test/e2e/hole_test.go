package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A repository that takes no log makes it wait; what is more than may wait is given
// up and told. Once the repository takes it again a backup follows by itself, and
// the hole is recorded where verify finds it.
func TestLogGivenUp(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("backup/keep has this with less around it: NIGHTLY=1")
	}
	w := own(t)
	w.check(w.Up(w.ctx, w.inventory("cluster: one\nhosts: [10.10.10.11]\nusers: [{ name: demo }]\ndatabases: [{ name: demo, owner: demo }]\ntemplate: tiny\nlibs: ''\nqueue_max: 48MB\n")))
	n := w.Node(w.whole())
	type hole struct{ First, Last, Why, Backup string }
	type state struct {
		Hole        string
		Lost, Holes []hole
		Backups     []struct{ Label, Type string }
	}
	look := func() (s state) {
		a, err := w.Run(w.ctx, "backups", "--json")
		w.check(err)
		var b struct{ Members []state }
		if json.Unmarshal([]byte(a.Out), &b) == nil && len(b.Members) == 1 {
			s = b.Members[0]
		}
		return s
	}
	w.until("there is a first backup", func() bool { return len(look().Backups) == 1 })
	archive := filepath.Join(n.Backup.Repo, "archive")
	w.check(os.Rename(archive, archive+".away"))
	w.check(os.WriteFile(archive, nil, 0o644)) // no directory, so nothing is stored in it
	w.in("one", "create table fill as select g, md5(random()::text) from generate_series(1, 1200000) g")
	var lost []hole
	w.until("log is given up", func() bool { lost = look().Lost; return len(lost) > 0 })
	if !strings.Contains(lost[0].Why, "exceeded 48MB") {
		t.Errorf("%+v", lost)
	}
	if a, err := w.Run(w.ctx, "status"); err != nil || !strings.Contains(a.Out+a.Err, "archive-hole") || !strings.Contains(a.Out+a.Err, lost[0].First) {
		t.Errorf("status does not speak of it: %s%s", a.Out, a.Err)
	}
	w.check(os.Remove(archive))
	w.check(os.Rename(archive+".away", archive))
	var s state
	w.until("a backup follows, and the hole is recorded", func() bool {
		s = look()
		return len(s.Backups) > 1 && s.Hole == "" && len(s.Lost) == 0 && len(s.Holes) > 0
	})
	if last := s.Holes[len(s.Holes)-1]; last.Backup != s.Backups[1].Label || s.Backups[1].Type != "incr" || s.Holes[0].First != lost[0].First || len(s.Backups) != 2 {
		t.Errorf("given up was %+v, and there is %+v", lost, s)
	}
	verify, err := exec.CommandContext(w.ctx, w.Program, "pgbackrest", "--config="+n.Backup.Config, "--stanza=one", "verify").CombinedOutput()
	if err == nil || !strings.Contains(string(verify), "recorded: "+lost[0].First) {
		t.Errorf("verify ends with %v: %s", err, verify)
	}
	if got := strings.TrimSpace(w.howdah("restore", "--to", "latest", "--peek", "--", "psql", "-d", "demo", "-Atc", "select count(*) from fill")); got != "1200000" {
		t.Errorf("from the backup after it: %q", got)
	}
}
