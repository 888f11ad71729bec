package ha

import (
	"fmt"
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// Whom a planned change would go to is what the leader's turn does when it is asked.
func TestCandidates(t *testing.T) {
	t.Parallel()
	replica := func(name string, at pg.LSN) cluster.Member {
		return cluster.Member{
			Name: name, ConnURL: "postgres://10.0.0.1:5432/postgres", State: cluster.StateRunning, Role: cluster.RoleReplica,
			ReplicationState: cluster.ReplicationStreaming, XlogLocation: at, Timeline: 2,
		}
	}
	tag := func(v *View, i int, tag string, value any) {
		v.State.Members[i].Tags = cluster.Tags{tag: value}
	}
	const far = 100 << 20
	for _, tt := range []struct {
		name string
		with func(*View)
		to   string
		want string
	}{
		{"the longest log", func(*View) {}, "", "c: b 200; c 0"},
		{"of equals the first by name", func(v *View) { v.State.Members[1].XlogLocation = far }, "", "b: b 0; c 0"},
		{"who was named", func(*View) {}, "b", "b: b 200; c 0 no(another one was named)"},
		{"what the leader heard last counts", func(v *View) { v.State.Status.Slots = map[string]pg.LSN{"b": far + 50} }, "", "b: b 0; c 50"},
		{"a tag", func(v *View) { tag(v, 2, cluster.TagNoFailover, true) }, "", "b: b 200; c 0 no(its tag nofailover)"},
		{"a cascade", func(v *View) { tag(v, 2, cluster.TagReplicateFrom, "b") }, "", "b: b 200; c 0 no(it streams from b, not from the leader)"},
		{"one that is stopped", func(v *View) { v.State.Members[2].State = cluster.StateStopped }, "", "b: b 200; c 0 no(it is stopped)"},
		{"one that stops", func(v *View) { v.State.Members[2].State = cluster.StateStopping }, "", "b: b 200; c 0 no(it is being stopped)"},
		{"one that does not stream", func(v *View) { v.State.Members[2].ReplicationState = "" }, "", "b: b 200; c 0 no(it does not stream)"},
		{"one that is far behind", func(v *View) { v.State.Members[1].XlogLocation = far - 20<<20 }, "", "c: b 20971520 no(it is more than 16 MB behind); c 0"},
		{"one that is gone", func(v *View) { v.State.Members = v.State.Members[:2] }, "", "b: b 200; c 0 no(it does not show itself)"},
		{"a watchdog that is missing", func(v *View) {
			v.State.Whys = []cluster.Why{{Member: "c", Problems: []problem.Error{{Code: codeWatchdog}}}}
		}, "", "b: b 200; c 0 no(its watchdog is required and missing)"},
		{"nobody", func(v *View) {
			tag(v, 1, cluster.TagNoFailover, true)
			tag(v, 2, cluster.TagNoFailover, true)
		}, "", ": b 200 no(its tag nofailover); c 0 no(its tag nofailover)"},
	} {
		v := leader()
		v.State.Members = []cluster.Member{replica("a", far), replica("b", far-200), replica("c", far)}
		v.State.Members[0].ReplicationState, v.State.Members[0].Role = "", cluster.RolePrimary
		v.State.Recorded = []cluster.Recorded{{Name: "a"}, {Name: "b"}, {Name: "c"}}
		v.State.Status = cluster.Status{Optime: far}
		tt.with(&v)
		first, all := Candidates(v.State, tt.to)
		var got []string
		for _, c := range all {
			text := fmt.Sprintf("%s %d", c.Member, c.Behind)
			if c.No != "" {
				text += " no(" + c.No + ")"
			}
			got = append(got, text)
		}
		if text := first + ": " + strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, text, tt.want)
		}

		// The same facts in the leader's turn.
		v.State.Failover = cluster.Failover{Leader: "a", Member: tt.to, Mod: 90}
		v.Server.Flushed = far + 50
		v.Server.Replicas = nil
		for _, c := range all {
			if c.At != 0 && c.No != "it streams from b, not from the leader" {
				v.Server.Replicas = append(v.Server.Replicas, pg.Replica{Name: c.Member, State: "streaming", Flushed: c.At})
			}
		}
		d := Decide(v)
		if first != "" && d.Memory.Switch.To != first || first == "" && d.Memory.Switch.To != "" {
			t.Errorf("%s: told %q, the turn takes %q (%s)", tt.name, first, d.Memory.Switch.To, d)
		}
	}
}
