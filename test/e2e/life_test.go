package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/spec"
)

var everyone = []string{"node", "etcd", "agent", "gateway", "postgres"}

func TestRowsReachReplicas(t *testing.T) {
	w := demo(t)
	w.sql("create table if not exists greetings (word text); insert into greetings values ('salve')")
	w.until("the replica has the row", func() bool {
		return strings.Contains(w.howdah("psql", "--service", "replica", "--", "-Atc", "select word, pg_is_in_recovery() from greetings"), "salve|t")
	})
}

func TestUpAgainChangesNothing(t *testing.T) {
	w := demo(t)
	before := w.roles(everyone...)
	w.up()
	if after := w.roles(everyone...); !maps.Equal(before, after) {
		t.Errorf("processes were %v, are %v", before, after)
	}
}

func TestDownAndUp(t *testing.T) {
	w := demo(t)
	writer := w.write()
	writer.Stop()
	w.howdah("down", "--yes")
	for _, verb := range []string{"list", "status", "psql", "why", "history", "switchover"} {
		a, err := w.Run(w.ctx, verb)
		w.check(err)
		if a.Code != 3 {
			t.Errorf("%s of a stopped cluster: exit %d, want 3", verb, a.Code)
		}
		w.said(a.Err, "cluster-stopped", "no process")
	}
	if said := w.howdah("down", "--yes"); !strings.Contains(said, "nothing was running") {
		t.Errorf("the second down says %q", said)
	}
	w.up()
	w.whole()
	w.kept(writer)
}

func TestRestart(t *testing.T) {
	w := demo(t)
	before := w.roles("postgres")
	for _, n := range w.Nodes {
		w.howdah("restart", "demo", n.Member, "--yes")
		w.whole()
	}
	for name, id := range w.roles("postgres") {
		if before[name] == id {
			t.Errorf("%s is the same as before", name)
		}
	}
}

func TestSwitchoverAndFailoverTo(t *testing.T) {
	w := demo(t)
	writer := w.write()
	for _, verb := range []string{"switchover", "failover"} {
		from := w.whole()
		to := w.Nodes[slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Member != from })].Member
		w.howdah(verb, "--to", to, "--yes")
		if leader := w.whole(); leader != to {
			t.Errorf("%s --to %s: %s leads", verb, to, leader)
		}
		w.flowing(writer)
		page, err := w.Page(w.ctx)
		w.check(err)
		if page.Kind != verb || page.From != from || page.To != to {
			t.Errorf("why tells of a %s from %s to %s, want %s from %s to %s", page.Kind, page.From, page.To, verb, from, to)
		}
	}
	w.kept(writer)
}

func TestPause(t *testing.T) {
	w := demo(t)
	leader := w.Node(w.whole())
	w.howdah("pause", "--wait", "--yes")
	dead := w.role(leader, "postgres")
	w.kill(dead, unix.SIGKILL)
	w.until("the death is seen", func() bool { return w.state(leader.Member) != "running" })
	// Longer than any failover, and than the lease.
	w.pause(leader.Agent.Timers.Lease + time.Second)
	if id, ok := node.Postmaster(leader); ok {
		t.Errorf("in pause the postmaster was started again, as %s", id)
	}
	w.howdah("resume", "--yes")
	w.whole()
}

func (w *world) state(member string) string {
	members, err := w.List(w.ctx)
	if err != nil {
		return "unknown"
	}
	for _, m := range members {
		if m.Member == member {
			return m.State
		}
	}
	return ""
}

func TestListJSON(t *testing.T) {
	w := demo(t)
	var rows []map[string]any
	w.check(json.Unmarshal([]byte(w.howdah("list", "--json")), &rows))
	roles := map[any]int{}
	for _, r := range rows {
		roles[r["Role"]]++
	}
	if roles["Leader"] != 1 || roles["Quorum Standby"] != 2 || len(rows) != 3 {
		t.Errorf("roles are %v", roles)
	}
}
