package ha

import (
	"testing"

	"howdah/cluster"
	"howdah/pg"
)

// What no run of the simulation comes to (test/sim, unreached), brought about by hand.
func TestUnreached(t *testing.T) {
	check(t, []row{
		{"a founder whose claim is gone, and something runs on its data", standby, func(v *View) {
			v.State = cluster.State{Revision: 5}
			v.Memory.Founding = true
		}, "cluster=new data=present server=running -> nothing"},
		{"a founder whose control file cannot be read", standby, func(v *View) {
			v.State = cluster.State{Revision: 5, Initialize: cluster.Initialize{Present: true, Mod: 5}, Claim: &cluster.Claim{Mod: 5, Leader: "b"}}
			down(&v.Server)
			v.Server.Control = pg.Control{}
		}, "cluster=new claim=mine system=unknown -> nothing"},
		{"a promotion whose right is another's before it ended", standby, func(v *View) {
			v.Job = Job{Action: Promote{}}
		}, "job=promote right=lost -> kill"},
		{"the virtual address is held", leader, func(v *View) { v.VIP.Held = true }, "leader=self server=primary vip=held -> nothing"},
		{"a leader without it", leader, func(v *View) { v.VIP.Address = "10.10.10.2/24" }, "leader=self server=primary vip=missing -> nothing"},
		{"a server started past its agent, while its key was on offer", leader, func(v *View) {
			v.State.Handover = &cluster.Handover{Mod: 45, From: "a", Epoch: epoch, Timeline: 2, LSN: 1000}
		}, "leader=self server=primary offer=stale -> put howdah/handover"},
	})
	v := leader()
	turn := &turn{View: v, m: v.Memory}
	turn.release()
	if got := turn.d.String(); got != "release=refused -> nothing" {
		t.Errorf("a leader whose server runs gives its key up: %s", got)
	}
}

// A member that was asked for a fresh copy and leads has nobody to take it from;
// nor do the others take it for one that does not run (test/sim, seed 3169).
func TestALeaderIsNotCopiedAnew(t *testing.T) {
	v := leader()
	v.Memory.Reinit.Asked = true
	d := Decide(v)
	if d.Memory.Reinit != (Reinit{}) {
		t.Errorf("it remembers %+v", d.Memory.Reinit)
	}
	for _, a := range d.Actions {
		if p, ok := a.(Put); ok && p.Key == cluster.DirMembers+"a" {
			if m, err := cluster.ParseMember("a", []byte(p.Value)); err != nil || !m.Running() {
				t.Errorf("it is published as %+v, %v", m, err)
			}
		}
	}
}
