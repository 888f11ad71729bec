package ha

import (
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// What a person asks is off the store before anything happens, and then happens once.
func TestAsked(t *testing.T) {
	ask := func(v *View, name, kind string) {
		v.State.Requests = []cluster.Request{{Member: name, Mod: 49, Kind: kind}}
	}
	taken := func(v *View, kind string) { v.Memory.Request = Request{49, kind} }
	due := func(v *View, with func(*cluster.Request)) {
		r := cluster.Request{Member: v.Self.Name, Mod: 49, Kind: cluster.RequestRestart, Schedule: v.Wall.Add(-time.Second)}
		if with != nil {
			with(&r)
		}
		v.State.Schedules = []cluster.Request{r}
	}
	for _, tt := range []struct {
		name string
		base func() View
		with func(*View)
		want string // a part of the decision
		not  string
		then func(Memory) bool
	}{
		{"a restart is taken off first", leader, func(v *View) { ask(v, "a", cluster.RequestRestart) }, "drop howdah/requests/a", "stop", nil},
		{"and then meant", leader, func(v *View) { taken(v, cluster.RequestRestart) }, "nothing", "stop", func(m Memory) bool { return m.Restart == 11 }},
		{"and done", leader, func(v *View) { v.Memory.Restart = 11 }, "restart=asked -> stop", "", nil},
		{"once", leader, func(v *View) { v.Memory.Restart = 10 }, "nothing", "stop", func(m Memory) bool { return m.Restart == 0 }},
		{"under maintenance too", standby, func(v *View) {
			v.State.Config.Data = map[string]any{"pause": true}
			v.Memory.Restart = 12
		}, "restart=asked -> stop", "", nil},
		{"where it is started again", standby, func(v *View) {
			v.State.Config.Data = map[string]any{"pause": true}
			v.Memory.Restart = 12
			down(&v.Server)
		}, "start(standby of a)", "", nil},
		{"also as the leader", leader, func(v *View) {
			v.State.Config.Data = map[string]any{"pause": true}
			v.Memory.Restart = 11
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDown
		}, "start(primary)", "release", nil},
		{"a reload", leader, func(v *View) { taken(v, cluster.RequestReload) }, "", "", func(m Memory) bool { return m.Reload }},
		{"is a configuration anew", leader, func(v *View) {
			v.State.Config.Data = map[string]any{}
			v.Memory.Reload = true
		}, "configure", "", nil},
		{"parameters are set", standby, func(v *View) {
			v.State.Config = cluster.Config{Mod: 48, Data: map[string]any{"postgresql": map[string]any{"parameters": map[string]any{"work_mem": "4MB"}}}}
		}, "config=changed -> configure", "", nil},
		{"once", standby, func(v *View) {
			v.State.Config = cluster.Config{Mod: 48, Data: map[string]any{"postgresql": map[string]any{"parameters": map[string]any{"work_mem": "4MB"}}}}
			v.Memory.Set = `{"work_mem":"4MB"}`
		}, "nothing", "configure", nil},
		{"a leader is not copied anew", leader, func(v *View) { taken(v, cluster.RequestReinit) }, "", "kill", func(m Memory) bool { return !m.Reinit.Asked }},
		{"a standby is ended", standby, func(v *View) { v.Memory.Reinit.Asked = true }, "reinit=asked -> kill", "", nil},
		{"and its data moved aside", standby, func(v *View) {
			v.Memory.Reinit.Asked = true
			down(&v.Server)
		}, "move aside", "", func(m Memory) bool { return m.Reinit.Begun }},
		{"and copied", standby, func(v *View) {
			v.Memory.Reinit = Reinit{true, true}
			down(&v.Server)
			v.Server.Data = pg.DataMissing
		}, "clone(a)", "", nil},
		{"under maintenance too", standby, func(v *View) {
			v.State.Config.Data = map[string]any{"pause": true}
			v.Memory.Reinit = Reinit{true, true}
			down(&v.Server)
			v.Server.Data = pg.DataMissing
		}, "clone(a)", "", nil},
		{"a server that does not come up is asked, too", standby, func(v *View) {
			ask(v, "b", cluster.RequestReinit)
			v.Server.Process, v.Server.Answers = pg.ProcessStarting, false
		}, "drop howdah/requests/b", "", nil},
		{"a restart for later waits", leader, func(v *View) { due(v, func(r *cluster.Request) { r.Schedule = v.Wall.Add(time.Minute) }) }, "nothing", "drop", nil},
		{"comes", leader, func(v *View) { due(v, nil) }, "drop howdah/schedules/a", "", func(m Memory) bool { return m.Request.Kind == cluster.RequestRestart }},
		{"not to another role", leader, func(v *View) { due(v, func(r *cluster.Request) { r.Role = cluster.RoleReplica }) }, "restart=unmatched", "", func(m Memory) bool { return m.Request.Kind == "" }},
		{"not to a newer server", leader, func(v *View) {
			v.Server.Version = 150004
			due(v, func(r *cluster.Request) { r.Version = "15.4" })
		}, "restart=unmatched", "", nil},
		{"not without need", leader, func(v *View) { due(v, func(r *cluster.Request) { r.Pending = true }) }, "restart=unmatched", "", nil},
		{"not to another server than was meant", leader, func(v *View) { due(v, func(r *cluster.Request) { r.Started = "2001-01-01" }) }, "restart=done", "", nil},
		{"not much too late", leader, func(v *View) { due(v, func(r *cluster.Request) { r.Schedule = v.Wall.Add(-time.Minute) }) }, "restart=missed", "", nil},
		{"not under maintenance", leader, func(v *View) {
			v.State.Config.Data = map[string]any{"pause": true}
			due(v, nil)
		}, "nothing", "drop", nil},
	} {
		v := tt.base()
		tt.with(&v)
		d := Decide(v)
		got := acts(d)
		if !strings.Contains(got, tt.want) || tt.not != "" && strings.Contains(got, tt.not) {
			t.Errorf("%s: %s; want %q and not %q", tt.name, got, tt.want, tt.not)
		}
		if tt.then != nil && !tt.then(d.Memory) {
			t.Errorf("%s: %s leaves %+v", tt.name, got, d.Memory)
		}
	}
}

// A server that was frozen on its way up, and so never comes up, is not waited for.
func TestSilencedStart(t *testing.T) {
	for process, want := range map[pg.Process]string{pg.ProcessRemains: "start=silenced -> kill", pg.ProcessFrozen: "start=silenced -> kill", pg.ProcessStarting: "nothing"} {
		v := standby()
		v.Server.Process, v.Server.Answers = process, false
		v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch}
		v.Job = Job{Action: Start{Standby: true, Up: pg.Upstream{Name: "a"}}, Since: now - time.Minute}
		if got := acts(Decide(v)); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", process, got, want)
		}
	}
}
