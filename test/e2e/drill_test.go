package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What `howdah drill --json` says, as far as it is asked for here.
type drill struct {
	Verdict, Why, Backup, From string
	Restored                   int64 `json:"restored_ns"`
	Replayed                   int64 `json:"replayed_ns"`
	Checks                     []struct{ What, Said string }
}

func (w *world) drill() (d drill, code int) {
	w.t.Helper()
	a, err := w.Run(w.ctx, "drill", "--json", "--yes")
	w.check(err)
	if err := json.NewDecoder(strings.NewReader(a.Out)).Decode(&d); err != nil {
		w.t.Fatalf("drill: %v: %s%s", err, a.Out, a.Err)
	}
	return d, a.Code
}

// A restore is rehearsed, and a backup that was damaged is found out. Then all
// nodes are lost at once, the leader's with its disk: what is left leads to the
// last second.
func TestDrillAndWhatIsLeft(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("restores take longer than there is time by day: NIGHTLY=1")
	}
	w := demo(t)
	leader := w.Node(w.whole())
	w.howdah("backup", "--type", "full")
	second := ""
	w.until("a second member has the backup", func() bool {
		b := w.backups()
		for _, name := range b.Backups[len(b.Backups)-1].Members {
			if name != leader.Member {
				second = name
			}
		}
		return second != ""
	})
	d, code := w.drill()
	if d.Verdict != "passed" || code != 0 || d.From != leader.Member || d.Restored <= 0 || d.Replayed <= 0 || len(d.Checks) != 2 {
		t.Errorf("%+v, with %d", d, code)
	}
	if text := w.howdah("status"); !strings.Contains(text, "\ndrill ") {
		t.Errorf("status does not speak of it:\n%s", text)
	}

	// One byte in the middle of the largest object.
	largest, size := "", int64(0)
	w.check(filepath.WalkDir(filepath.Join(leader.Backup.Repo, "backup", "demo", d.Backup), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if st, err := e.Info(); err == nil && st.Size() > size {
			largest, size = path, st.Size()
		}
		return nil
	}))
	flip := func() {
		f, err := os.OpenFile(largest, os.O_RDWR, 0)
		w.check(err)
		defer f.Close()
		var b [1]byte
		_, err = f.ReadAt(b[:], size/2)
		w.check(err)
		b[0] ^= 0xff
		_, err = f.WriteAt(b[:], size/2)
		w.check(err)
	}
	flip()
	if d, code := w.drill(); d.Verdict != "failed" || code != 3 || d.Why == "" {
		t.Errorf("of a damaged backup: %+v, with %d", d, code)
	}
	if a, err := w.Run(w.ctx, "status"); err != nil || !strings.Contains(a.Out+a.Err, "drill-failed") {
		t.Errorf("status does not say that it failed: %s%s", a.Out, a.Err)
	}
	flip()
	if d, code := w.drill(); d.Verdict != "passed" || code != 0 {
		t.Errorf("of the backup as it was: %+v, with %d", d, code)
	}

	w.sql("create table if not exists seconds (n int); truncate seconds")
	w.sql("insert into seconds values (1)")
	w.pause(time.Second)        // what is promised
	for _, n := range w.Nodes { // the leader last: nobody shall follow it
		if n.Member != leader.Member {
			w.howdah("fault", "kill-node", "demo", n.Member)
		}
	}
	w.howdah("fault", "kill-node", "demo", leader.Member)
	for _, dir := range []string{leader.Postgres.Data, leader.Backup.Repo} {
		w.check(os.Rename(dir, dir+".lost"))
	}
	got := strings.TrimSpace(w.howdah("restore", "--to", "latest", "--peek", "--", "psql", "-d", "demo", "-Atc", "select n from seconds"))
	if got != "1" {
		t.Errorf("from what is left: %q, want 1", got)
	}
	for _, dir := range []string{leader.Postgres.Data, leader.Backup.Repo} {
		w.check(os.Rename(dir+".lost", dir))
	}
	for _, n := range w.Nodes {
		w.howdah("fault", "start-node", "demo", n.Member)
	}
	w.whole()
}

// Where the inventory wants it, restores are rehearsed by themselves: beside one
// member, which does not lead, from what is in its own repository; nothing stays.
func TestDrillsByThemselves(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("it waits for the full minute: NIGHTLY=1")
	}
	w := own(t)
	w.check(w.Up(w.ctx, w.inventory("cluster: one\nhosts: [10.10.10.11, 10.10.10.12, 10.10.10.13]\ntemplate: tiny\nlibs: ''\ndrill: '* * * * *'\n")))
	leader := w.whole()
	type member struct {
		Member   string
		Leads    bool
		Drilling time.Time
		Drill    *struct {
			Verdict, Why, From, LSN string
			Unasked                 bool
			Missing                 int64 `json:"exposure_bytes"`
			Checks                  []struct{ What, Said string }
		}
	}
	var all []member
	w.until("a restore was rehearsed", func() bool {
		a, err := w.Run(w.ctx, "backups", "--json")
		w.check(err)
		var b struct{ Members []member }
		if json.Unmarshal([]byte(a.Out), &b) != nil {
			return false
		}
		all = b.Members
		making := 0
		for _, m := range all {
			if !m.Drilling.IsZero() {
				making++
			}
		}
		if making > 1 {
			t.Errorf("%d are made at once", making)
		}
		for _, m := range all {
			if m.Drill != nil && m.Drilling.IsZero() {
				return true
			}
		}
		return false
	})
	for _, m := range all {
		d := m.Drill
		if d == nil {
			continue
		}
		if m.Member == leader || d.Verdict != "passed" || !d.Unasked || d.From != m.Member || d.LSN == "" || len(d.Checks) != 2 || d.Missing > 1<<20 {
			t.Errorf("beside %s, while %s leads: %+v", m.Member, leader, *d)
		}
	}
	for _, n := range w.Nodes {
		if left, _ := filepath.Glob(filepath.Join(n.Paths.Dir, "peek-*")); len(left) > 0 {
			t.Errorf("%s has %v left", n.Member, left)
		}
	}
	if text := w.howdah("backups"); !strings.Contains(text, "drill      passed") || !strings.Contains(text, "the next is due") {
		t.Errorf("backups does not speak of it:\n%s", text)
	}
}
