package ha

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/problem"
)

// A required watchdog: nothing begins to write before it is armed, and who has none
// does not lead.
func TestWatched(t *testing.T) {
	ready := Watchdog{Required: true, Ready: true, Timeout: 2 * time.Second}
	missing := Watchdog{Required: true, Timeout: 2 * time.Second, Problem: problem.Error{Code: codeWatchdog, What: "none"}}
	armed := Watchdog{Required: true, Ready: true, Armed: true, Timeout: 2 * time.Second}
	elected := func() View {
		v := standby()
		v.State.Leader = &cluster.Leader{Name: "b", Lease: 8, Mod: 41}
		v.State.Term = &cluster.Term{Mod: 41, Leader: "b", Over: epoch, Timeline: 2, Reserved: 3}
		v.Memory.Right = Right{Epoch: 41, Sent: now - 100*time.Millisecond, TTL: 5 * time.Second}
		v.Memory.Taken, v.Memory.Reserved = 41, 3
		return v
	}
	winner := func() View {
		v := vacant()
		pledged(&v, cluster.Pledge{Member: "b", LSN: 1000, Witness: true, Mod: 48}, cluster.Pledge{Member: "c", LSN: 990, Mod: 49})
		return v
	}
	check(t, []row{
		{"elected, and armed", elected, func(v *View) { v.Watchdog = armed }, "watchdog=armed leader=self server=standby -> promote"},
		{"elected, and not armed yet", elected, func(v *View) { v.Watchdog = ready }, "leader=self server=standby watchdog=unarmed -> nothing"},
		{"elected, and its guard does not arm it", elected, func(v *View) { v.Watchdog, v.Memory.Unarmed = ready, now-4*time.Second }, "leader=self server=standby watchdog=missing -> stop"},
		{"elected, and the device has gone since", elected, func(v *View) { v.Watchdog = missing }, "leader=self server=standby watchdog=missing -> stop"},
		{"… and its server is stopped", elected, func(v *View) { v.Watchdog = missing; down(&v.Server) }, "leader=self server=down(standby) watchdog=missing -> release(epoch 41)"},
		{"a primary goes on without", leader, func(v *View) { v.Watchdog = missing }, "leader=self server=primary -> nothing"},
		{"one in automatic mode has none", elected, func(v *View) { v.Watchdog = Watchdog{Timeout: 2 * time.Second} }, "leader=self server=standby -> promote"},
		{"a candidate without says so in its position", winner, func(v *View) { v.Watchdog = missing }, "leader=none after=40 watchdog=missing position=0/3E8 -> put howdah/pledges/b"},
	})
	v := leader()
	v.Watchdog = missing
	if !Show(v, Decide(v)).Unwatched {
		t.Error("REST does not say that the watchdog failed")
	}
	v.Watchdog = armed
	v.State.Config = cluster.Config{Data: map[string]any{"howdah": map[string]any{"lease": "4s", "renew": "200ms", "retry": "200ms"}}}
	v.Timers.Election, v.Watchdog.Timeout = 0, 3*time.Second
	if d := Decide(v); d.Memory.Timers.Lease != 5*time.Second {
		t.Errorf("a lease of %s is in force with a watchdog of 3s", d.Memory.Timers.Lease)
	}
}

// Who is asked to take over has a watchdog.
func TestWithoutAWatchdogNobodyIsACandidate(t *testing.T) {
	v := leader()
	v.State.Whys = append(v.State.Whys, cluster.Why{Member: "b", Problems: []problem.Error{{Code: codeWatchdog}}})
	turn := &turn{View: v, m: v.Memory}
	if r, why := turn.candidate(cluster.Failover{Leader: "a"}); r.Name != "c" {
		t.Errorf("the candidate is %q (%s), want c", r.Name, why)
	}
	if r, _ := turn.candidate(cluster.Failover{Leader: "a", Member: "b"}); r.Name != "" {
		t.Errorf("the candidate is %q, whose watchdog is missing", r.Name)
	}
}
