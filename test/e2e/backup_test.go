package e2e

import (
	"bufio"
	"encoding/json"
	"os/exec"
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

	// The whole cluster is brought back to before the switchover. The command is
	// killed in the middle, where nothing has changed yet, and given again.
	w.killedAt("Replaying", "restore", "--to", was, "--yes")
	if got := w.sql("select word from moments"); got != "after" {
		t.Errorf("while it is being restored it is %q, want after", got)
	}
	w.howdah("restore", "--to", was, "--yes")
	if got := w.whole(); got != second {
		t.Errorf("%s leads after the restore, want %s", got, second)
	}
	if got := w.sql("select word from moments"); got != "here" {
		t.Errorf("after the restore it is %q, want here", got)
	}
	members, err := w.List(w.ctx)
	w.check(err)
	for _, m := range members {
		if m.Timeline != members[0].Timeline || m.Timeline < 3 {
			t.Errorf("%s is on timeline %d, and %s on %d; want a later one than 2, and the same", m.Member, m.Timeline, members[0].Member, members[0].Timeline)
		}
	}
	w.sql("update moments set word = 'anew'")
	if got := look("latest"); got != "anew" {
		t.Errorf("from the archive after the restore it is %q, want anew", got)
	}
	w.refused("restore-unconfirmed", "still kept", "restore", "--to", was, "--yes")
	w.howdah("restore", "--confirm", "--yes")
	w.refused("restore-none", "nothing is kept", "restore", "--undo", "--yes")
}

// killedAt begins a command, and kills it as soon as it has said something.
func (w *world) killedAt(words string, args ...string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.ctx, w.Program, append([]string{"--dir", w.Dir}, args...)...)
	cmd.Env = w.Env
	out, err := cmd.StdoutPipe()
	w.check(err)
	w.check(cmd.Start())
	lines := bufio.NewScanner(out)
	said := false
	for !said && lines.Scan() {
		said = strings.Contains(lines.Text(), words)
	}
	_ = cmd.Process.Kill()
	if _ = cmd.Wait(); !said {
		w.t.Errorf("howdah %s has not said %q", strings.Join(args, " "), words)
	}
}
