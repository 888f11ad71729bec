package main

import (
	"strings"
	"testing"
	"time"

	"howdah/spec"
)

// tries are outages in milliseconds.
func tries(ms ...int) []Try {
	var all []Try
	for _, n := range ms {
		all = append(all, Try{Outage: time.Duration(n) * time.Millisecond, Rows: 1000})
	}
	return all
}

// kept is a report without a complaint.
func kept() Report {
	return Report{
		Up: 9 * time.Second, List: 60 * time.Millisecond,
		Idle: Idle{Over: time.Minute, Roles: map[string]Role{"agent": {RSS: 50 << 20}}, Node: Role{RSS: 120 << 20, CPU: 0.015}},
		Faults: []Result{
			{Fault: "kill-postgres", Tries: tries(300, 500, 9000), bound: bound{median: 1500 * time.Millisecond}},
			{Fault: calm, Tries: tries(9, 12, 30)},
			{Fault: "kill-agent", Tries: tries(9, 11, 55), bound: bound{none: true}},
			{Fault: "stop-node", Tries: tries(900, 4000)},
			{Fault: "kill-node", Tries: tries(6000, 6900), bound: bound{most: 7 * time.Second}, mayLose: true},
		},
	}
}

func TestBroken(t *testing.T) {
	bytes := int64(800)
	for _, tt := range []struct {
		name string
		with func(*Report) // how this case differs from a report that is well
		want string        // "" is no complaint
	}{
		{"well", func(*Report) {}, ""},
		{"a slow start", func(r *Report) { r.Up = 16 * time.Second }, "up took 16s"},
		{"a slow list", func(r *Report) { r.List = 101 * time.Millisecond }, "list took 101ms"},
		{"a fat agent", func(r *Report) { r.Idle.Roles["agent"] = Role{RSS: 61 << 20} }, "an idle agent takes 61 MB"},
		{"a fat node", func(r *Report) { r.Idle.Node.RSS = 131 << 20 }, "an idle node takes 131 MB"},
		{"a busy node", func(r *Report) { r.Idle.Node.CPU = 0.021 }, "2.1 % of a core"},
		{"idle not measured", func(r *Report) { r.Idle = Idle{} }, ""},
		{"the median counts", func(r *Report) { r.Faults[0].Tries = tries(1000, 1600, 1600) }, "kill-postgres: writes stopped for 1.6s in the median"},
		{"the worst counts", func(r *Report) { r.Faults[4].Tries = tries(10, 10, 7001) }, "kill-node: writes stopped for 7.001s at worst"},
		{"none is what is none without a fault", func(r *Report) { r.Faults[2].Tries = tries(9, 61) }, "kill-agent: writes stopped for 61ms at worst, more than 60ms"},
		{"a pause that is no outage", func(r *Report) { r.Faults[1].Tries = tries(6); r.Faults[2].Tries = tries(50) }, ""},
		{"too noisy to tell", func(r *Report) { r.Faults[1].Tries = tries(6, 200) }, "kill-agent: whether writes stopped at all cannot be told: without a fault they did for up to 200ms"},
		{"nothing to compare with", func(r *Report) { r.Faults[1].Tries = nil }, "kill-agent: whether writes stopped at all cannot be told"},
		{"a lost row", func(r *Report) { r.Faults[3].Tries[1].Lost = 1 }, "stop-node, try 2 at"},
		{"a page that is astray", func(r *Report) { r.Faults[3].Tries[1].Page = 3800 * time.Millisecond }, "writes stopped for 4s, and howdah why says 3.8s"},
		{"one that is not", func(r *Report) { r.Faults[3].Tries[1].Page = 4080 * time.Millisecond }, ""},
		{"one that may be lost, and is not told", func(r *Report) { r.Faults[4].Tries[0].Lost = 2 }, "howdah why does not say so"},
		{"one that is", func(r *Report) { r.Faults[4].Tries[0].Lost, r.Faults[4].Tries[0].LostBytes = 2, &bytes }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := kept()
			tt.with(&r)
			switch got := r.broken(); {
			case tt.want == "" && len(got) > 0:
				t.Errorf("complains of %q", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("complains of %q, want %q", got, tt.want)
			}
		})
	}
}

// What is judged against a time without a fault is tried turn by turn with it.
func TestTurnByTurn(t *testing.T) {
	picked, err := pick("kill-postgres,kill-agent", true)
	if err != nil {
		t.Fatal(err)
	}
	groups := turnByTurn(picked)
	if len(groups) != 2 || len(groups[1]) != 2 || groups[1][0].name != calm || groups[1][1].name != "kill-agent" {
		t.Errorf("groups are %+v", groups)
	}
	for _, f := range faults {
		if f.bound(spec.Timers{}).none && f.beside == "" {
			t.Errorf("%s is to cost nothing, and is compared with nothing", f.name)
		}
	}
}
