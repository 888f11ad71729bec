package gateway

import (
	"net/netip"
	"testing"

	"howdah/cluster"
	"howdah/spec"
)

// The place of a session of a pooled service: the member with the fewest for its
// weight, equals in turn; none where only the leader will do.
func TestWhereASessionIsPlaced(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) {
		n.Gateway.Fronts[0].Members = []spec.Instance{
			{Name: "a", Vars: map[string]any{"pg_role": "primary"}},
			{Name: "b", Vars: map[string]any{"pg_role": "replica"}},
			{Name: "c", Vars: map[string]any{"pg_role": "replica", "pg_weight": 50}},
		}
	})
	w.lead("127.0.0.1:1", 0)
	w.member("b", "127.0.0.1:2", nil)
	w.member("c", "127.0.0.1:3", nil)
	w.see()
	sessions := map[string]int64{}
	place := func(service string) string {
		t.Helper()
		for _, p := range w.g.ports {
			if p.service.Name == service {
				return (&way{port: p}).place(netip.MustParseAddr("10.0.0.1"), func(member string) int64 { return sessions[member] })
			}
		}
		t.Fatalf("there is no service %s", service)
		return ""
	}
	if got := place("primary"); got != "" {
		t.Errorf("a session of the primary has the place %q", got)
	}
	for range 30 {
		sessions[place("replica")]++
	}
	if sessions["b"] != 20 || sessions["c"] != 10 {
		t.Errorf("30 sessions, at weights 100 and 50: %v", sessions)
	}
	clear(sessions)
	turns := map[string]int{}
	for range 30 { // each has left before the next one comes
		turns[place("replica")]++
	}
	if turns["b"] != 20 || turns["c"] != 10 {
		t.Errorf("30 sessions one after another: %v", turns)
	}
	sessions["b"], sessions["c"] = 1, 1000
	if got := place("replica"); got != "b" {
		t.Errorf("the next one comes to %s of %v", got, sessions)
	}
	sessions["b"] = -1
	if got := place("replica"); got != "c" {
		t.Errorf("with b silent the next one comes to %s", got)
	}
	sessions["c"] = -1
	if got := place("replica"); got == "" {
		t.Error("with both silent there is no place")
	}
	for _, m := range []string{"b", "c"} {
		w.member(m, "127.0.0.1:2", func(m *cluster.PictureMember) { m.Running, m.State = false, cluster.StateStopped })
	}
	w.see()
	clear(sessions)
	if got := place("replica"); got != "a" {
		t.Errorf("without a replica the place is %q, want the primary", got)
	}
}
