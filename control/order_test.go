package control

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

// An order is checked before anything is done, and says what it would do and what that
// costs; a switchover that was planned is refused once somebody else leads.
func TestPlanOrder(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		order Order
		text  string // or the code of the problem
		costs string
		risky bool
	}{
		{Order{Verb: VerbSwitchover, Member: ""}, "switch over cluster demo from demo-1 to the most advanced replica", "writes wait", false},
		{Order{Verb: VerbSwitchover, Member: "demo-2"}, "switch over cluster demo from demo-1 to demo-2", "writes wait", false},
		{Order{Verb: VerbSwitchover, Member: "demo-1"}, "candidate-leads", "", false},
		{Order{Verb: VerbRestart, Member: "demo-1"}, "restart PostgreSQL of demo-1", "it leads", false},
		{Order{Verb: VerbRestart, Member: "demo-2"}, "restart PostgreSQL of demo-2", "who reads there", false},
		{Order{Verb: VerbRestart, Member: ""}, "member-unknown", "", false},
		{Order{Verb: VerbRestart, Member: "demo-9"}, "member-unknown", "", false},
		{Order{Verb: VerbReinit, Member: "demo-3"}, "give up the data of demo-3 and copy them anew from the leader", "moved aside", true},
		{Order{Verb: VerbReinit, Member: "demo-1"}, "reinit-refused", "", false},
		{Order{Verb: VerbReinit, Member: ""}, "member-unknown", "", false},
		{Order{Verb: VerbPause, Member: ""}, "pause cluster demo", "nothing is promoted", false},
		{Order{Verb: VerbResume, Member: ""}, "resume cluster demo", "failover is on", false},
		{Order{Verb: "drop", Member: "demo-1"}, "order-unknown", "", false},
	} {
		p, err := w.c.PlanOrder(t.Context(), tt.order)
		got := p.Text
		if err != nil {
			got = problem.Code(err)
		}
		if got != tt.text || !strings.Contains(p.Costs, tt.costs) || p.Risky != tt.risky {
			t.Errorf("%+v: %q, %q, %v, %v; want %q", tt.order, got, p.Costs, p.Risky, err, tt.text)
		}
	}
	p, err := w.c.PlanOrder(t.Context(), Order{Verb: VerbSwitchover, Member: "demo-2"})
	if err != nil {
		t.Fatal(err)
	}
	w.put("leader", "demo-3")
	if _, err := p.Do(t.Context()); problem.Code(err) != "change-conflict" {
		t.Errorf("an old plan: %v", err)
	}
}

// What is done is what was asked, in the name of whoever asked.
func TestOrderDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, ok, err := w.c.As("operator@10.0.0.1").Ask(t.Context(), "demo-2", cluster.Request{Kind: cluster.RequestReload}); !ok || err != nil || !strings.Contains(w.get(cluster.DirRequests+"demo-2"), `"by":"operator@10.0.0.1"`) {
			t.Errorf("%v, %v: %s", ok, err, w.get(cluster.DirRequests+"demo-2"))
		}
		p, err := w.c.As("operator@10.0.0.1").PlanOrder(t.Context(), Order{Verb: VerbPause})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second) // until the members have seen it
			for _, name := range []string{"demo-1", "demo-2", "demo-3"} {
				w.member(name, cluster.Member{State: cluster.StateRunning, Role: cluster.RoleReplica, Pause: true, Timeline: 1})
			}
		}()
		if result, err := p.Do(t.Context()); err != nil || result != "cluster demo is paused" || !strings.Contains(w.get("config"), `"pause":true`) {
			t.Errorf("%q, %v: %s", result, err, w.get("config"))
		}
	})
}
