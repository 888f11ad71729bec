package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
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
// again; after a change of leader from what the old one had, over the segment
// that it did not archive any more.
func TestBackupAndPeek(t *testing.T) {
	w := demo(t)
	leader := w.whole()
	w.howdah("backup", "--type", "full")
	w.sql("create table if not exists moments (word text); insert into moments values ('here')")
	w.pause(1100 * time.Millisecond) // backups know their end to the second
	was := time.Now().UTC().Format("2006-01-02 15:04:05.000+00")
	w.pause(100 * time.Millisecond)
	w.sql("update moments set word = 'gone'")
	look := func(to string) string {
		return strings.TrimSpace(w.howdah("restore", "--to", to, "--peek", "--", "psql", "-d", "demo", "-Atc", "select word from moments"))
	}
	if got := look(was); got != "here" {
		t.Errorf("then it was %q, want here", got)
	}
	var dry struct {
		Plan struct{ Before, After struct{ At time.Time } }
	}
	then, _ := time.Parse("2006-01-02 15:04:05.000-07", was)
	if out := w.howdah("restore", "--to", was, "--peek", "--dry-run", "--json"); json.Unmarshal([]byte(out), &dry) != nil ||
		dry.Plan.Before.At.IsZero() || dry.Plan.Before.At.After(then) || !dry.Plan.After.At.After(then) {
		t.Errorf("the commits around %s are said to be these: %s", was, out)
	}
	w.refused("restore-target", "no restore point", "restore", "--to", "yesterday-ish", "--peek")
	w.refused("restore-unreachable", "future", "restore", "--to", time.Now().Add(time.Hour).Format(time.RFC3339), "--peek")
	w.refused("restore-unreachable", "oldest backup", "restore", "--to", "2001-01-01", "--peek")

	second := ""
	w.until("a second member has the backup", func() bool {
		b := w.backups()
		for _, name := range b.Backups[len(b.Backups)-1].Members {
			if name != leader {
				second = name
			}
		}
		return second != ""
	})
	w.howdah("switchover", "--to", second, "--yes")
	w.whole()
	w.sql("update moments set word = 'after'")
	w.until("the new leader speaks of its repository", func() bool { return w.backups().Leader == second })
	if got := look("latest"); got != "after" {
		t.Errorf("after a switchover it is %q, want after", got)
	}
}
