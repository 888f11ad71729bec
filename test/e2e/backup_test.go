package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/spec"
)

// What `howdah backups --json` says, as far as it is asked for here.
type backups struct {
	Leader  string
	Backups []struct {
		Label, Type string
		Members     []string
	}
}

func (w *world) backups() (b backups) {
	a, err := w.Run(w.ctx, "backups", "--json")
	w.check(err)
	if err := json.Unmarshal([]byte(a.Out), &b); err != nil {
		w.t.Errorf("backups: %v: %s%s", err, a.Out, a.Err)
	}
	return b
}

// The demo backs itself up, a second member has it, and a moment is looked at
// again: also one before a change of leader, from the backup of the old one.
func TestBackupAndPeek(t *testing.T) {
	w := demo(t)
	leader := w.whole()
	w.howdah("backup", "--type", "full")
	w.sql("create table if not exists moments (word text); insert into moments values ('here')")
	w.pause(1100 * time.Millisecond)
	was := time.Now().UTC().Format("2006-01-02 15:04:05.000+00")
	w.pause(1100 * time.Millisecond)
	w.sql("update moments set word = 'gone'")
	w.until("a second member has the backup", func() bool {
		b := w.backups()
		return len(b.Backups) > 0 && len(b.Backups[len(b.Backups)-1].Members) >= 2
	})
	look := func(to string) string {
		return strings.TrimSpace(w.howdah("restore", "--to", to, "--peek", "--", "psql", "-d", "demo", "-Atc", "select word from moments"))
	}
	if got := look(was); got != "here" {
		t.Errorf("then it was %q, want here", got)
	}
	if got := look("latest"); got != "gone" {
		t.Errorf("now it is %q, want gone", got)
	}
	w.refused("restore-unreachable", "future", "restore", "--to", time.Now().Add(time.Hour).Format(time.RFC3339), "--peek")
	w.refused("restore-unreachable", "oldest backup", "restore", "--to", "2001-01-01", "--peek")

	to := w.Nodes[slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Member != leader })].Member
	w.howdah("switchover", "--to", to, "--yes")
	w.whole()
	w.sql("update moments set word = 'after'")
	w.until("the new leader speaks of its repository", func() bool { return w.backups().Leader == to })
	// From the backup of the old leader, over the last segment that it did not archive.
	w.until("the backup is with the new leader", func() bool {
		b := w.backups()
		return slices.Contains(b.Backups[len(b.Backups)-1].Members, to)
	})
	if got := look("latest"); got != "after" {
		t.Errorf("after a switchover it is %q, want after", got)
	}
	w.howdah("backup", "--type", "incr")
	if b := w.backups(); b.Backups[len(b.Backups)-1].Type != "incr" {
		t.Errorf("the last backup is %+v", b)
	}
	for moment, want := range map[string]string{was: "here", "latest": "after"} {
		if got := look(moment); got != want {
			t.Errorf("%s, after a switchover: %q, want %q", moment, got, want)
		}
	}
}
