package ha

import (
	"fmt"
	"strings"
	"time"

	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
)

// waitsLong is how long a commit may wait for standbys before a person is told.
const waitsLong = 3 * time.Second

// patient tells a person of commits that wait in vain, and of those who do not wait
// although the mode says so: nothing here can help it.
func (t *turn) patient() {
	if !t.synchronous() {
		return
	}
	t.accepted()
	t.unprotected()
	t.mixed()
	c := t.Server.Commits
	if c.Waiting > 0 && c.Longest >= waitsLong {
		t.problems = append(t.problems, problem.Error{
			Code: "commits-waiting", What: fmt.Sprintf("%s for standbys, the first for more than %s", commitsWait(c.Waiting), coarse(c.Longest)),
			Why: t.whyWaiting(),
			Do:  "start a member that replicates; or accept for a while what may be lost: `howdah degrade`",
		})
	}
	if len(c.Lax) > 0 {
		who := make([]string, len(c.Lax))
		for i, l := range c.Lax {
			who[i] = lax(l)
		}
		t.problems = append(t.problems, problem.Error{
			Code: "commits-lax", What: "commits are acknowledged that no standby has",
			Why: "synchronous_commit is " + strings.Join(who, "; "),
			Do:  "take it back (`ALTER ROLE … RESET synchronous_commit`), unless what these write may be lost with a host",
		})
	}
}

func commitsWait(n int) string {
	if n == 1 {
		return "one commit waits"
	}
	return fmt.Sprintf("%d commits wait", n)
}

// whyWaiting is whom commits wait for, and who of them streams.
func (t *turn) whyWaiting() string {
	streams := []string{}
	for _, r := range t.Server.Replicas {
		if r.State == "streaming" {
			streams = append(streams, r.Name)
		}
	}
	names, _ := quorum.ParseNames(t.Server.SyncNames)
	if len(streams) == 0 {
		return "no replica streams"
	}
	if names.Blocks() {
		return "no replica counts yet; " + strings.Join(streams, ", ") + " streams"
	}
	return fmt.Sprintf("%d of %s must have flushed them, and of those that stream (%s) not enough have",
		names.Num, strings.Join(names.List, ", "), strings.Join(streams, ", "))
}

// lax names who does not wait.
func lax(l pg.Lax) string {
	who := "for everybody"
	switch {
	case l.Role != "" && l.Database != "":
		who = "for role " + l.Role + " in database " + l.Database
	case l.Role != "":
		who = "for role " + l.Role
	case l.Database != "":
		who = "in database " + l.Database
	}
	if l.InUse {
		who += " (sessions are there)"
	}
	return l.Value + " " + who
}

// coarse rounds down to what is worth saying anew.
func coarse(d time.Duration) string {
	for _, step := range []struct {
		long time.Duration
		text string
	}{
		{time.Hour, "an hour"},
		{10 * time.Minute, "10 min"},
		{2 * time.Minute, "2 min"},
		{30 * time.Second, "30 s"},
		{10 * time.Second, "10 s"},
	} {
		if d >= step.long {
			return step.text
		}
	}
	return "3 s" // waitsLong
}
