package ha

import (
	"strings"
	"testing"
	"time"

	"howdah/cluster"
)

// A person may accept that commits wait for nobody, for a time, in a cluster whose
// mode is strict.
func TestDegraded(t *testing.T) {
	t.Parallel()
	at := leader().Wall
	for _, tt := range []struct {
		name     string
		degraded any
		strict   bool
		code     bool
		what     string
	}{
		{"nobody accepted anything", nil, true, false, ""},
		{"somebody did", cluster.Degraded{By: "eve@db", Since: at.Add(-time.Minute)}.Data(), false, true, "not waited for where no standby is left"},
		{"for a time to come", cluster.Degraded{By: "eve@db", Since: at.Add(-time.Minute), Until: at.Add(time.Hour)}.Data(), false, true, "until"},
		{"for a time that is over", cluster.Degraded{By: "eve@db", Since: at.Add(-time.Hour), Until: at.Add(-time.Minute)}.Data(), true, true, "the time is over"},
		{"what can not be read", "yes", true, false, ""},
	} {
		v := leader()
		v.State.Config = cluster.Config{Mod: 3, Data: map[string]any{
			"synchronous_mode": "quorum", "synchronous_mode_strict": true, "howdah": map[string]any{"degraded": tt.degraded},
		}}
		tn := &turn{View: v, m: v.Memory}
		if got := tn.strict(); got != tt.strict {
			t.Errorf("%s: strict is %v", tt.name, got)
		}
		tn.accepted()
		if got := len(tn.problems) == 1 && tn.problems[0].Code == "degraded"; got != tt.code {
			t.Errorf("%s: problems %+v", tt.name, tn.problems)
		}
		if tt.code && !strings.Contains(tn.problems[0].What+tn.problems[0].Why, tt.what) {
			t.Errorf("%s: it says %+v", tt.name, tn.problems[0])
		}
		_, err := v.State.Config.SetTimers()
		if bad := tt.degraded == "yes"; (err != nil) != bad {
			t.Errorf("%s: the configuration is checked with %v", tt.name, err)
		}
	}
}

// A leader that is left alone, in a mode that is not strict, says so and since when.
func TestUnprotected(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		with func(*View)
		told bool
	}{
		{"alone for a while", func(*View) {}, true},
		{"only just", func(v *View) { v.Memory.Alone = v.Wall.Add(-time.Second) }, false},
		{"a standby counts", func(v *View) { v.State.Sync.Standby = []string{"b"} }, false},
		{"strict: nothing is acknowledged", func(v *View) { v.State.Config.Data["synchronous_mode_strict"] = true }, false},
		{"not in synchronous mode", func(v *View) { v.State.Sync = cluster.Sync{} }, false},
	} {
		v := leader()
		v.State.Config = cluster.Config{Mod: 3, Data: map[string]any{"synchronous_mode": "quorum"}}
		v.State.Sync = cluster.Sync{Leader: "a", Mod: 20}
		v.Memory.Alone = v.Wall.Add(-time.Minute)
		tt.with(&v)
		tn := &turn{View: v, m: v.Memory}
		tn.unprotected()
		if got := len(tn.problems) == 1 && tn.problems[0].Code == "commits-degraded"; got != tt.told {
			t.Errorf("%s: problems %+v", tt.name, tn.problems)
		}
		if left := len(v.State.Sync.Standby) == 0 && v.State.Sync.Active(); !left && !tn.m.Alone.IsZero() {
			t.Errorf("%s: alone since %s", tt.name, tn.m.Alone)
		}
	}
}

// A leader whose commits wait for a member that is none of ours says that no pledges
// can be had, for as long as it counts.
func TestMixedVoters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		with func(*View)
		told string // whom it names
	}{
		{"every voter is ours", func(*View) {}, ""},
		{"one is none of ours", func(v *View) { v.State.Recorded = v.State.Recorded[:2] }, "c"},
		{"nor is the other", func(v *View) { v.State.Recorded = v.State.Recorded[:1] }, "b, c"},
		{"who is no voter does not matter", func(v *View) { v.State.Recorded, v.State.Sync.Standby = v.State.Recorded[:2], []string{"b"} }, ""},
		{"nobody waits for anybody", func(v *View) { v.State.Recorded, v.State.Sync = nil, cluster.Sync{} }, ""},
		{"what is not readable is told elsewhere", func(v *View) {
			v.State.Recorded, v.State.Problems = nil, []cluster.Problem{{Key: cluster.KeySync}}
		}, ""},
	} {
		v := leader()
		quorumOn(&v)
		tt.with(&v)
		tn := &turn{View: v, m: v.Memory}
		tn.patient()
		told := ""
		for _, p := range tn.problems {
			if p.Code == "pledges-unable" {
				told = p.What
			}
		}
		if want := tt.told; want == "" && told != "" || want != "" && told != "nobody is promoted by pledges while "+want+" counts for commits" {
			t.Errorf("%s: told %q, want of %q", tt.name, told, want)
		}
	}
}
