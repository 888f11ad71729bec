package ha

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// A leader key that no agent wrote is put right by who led last, and by nobody else.
func TestAStrayLeaderKey(t *testing.T) {
	t.Parallel()
	by := func(name string) func(*View) {
		return func(v *View) {
			v.State.Leader = &cluster.Leader{Name: name, Mod: 50}
			v.Memory.Lease = Lease{ID: v.Memory.Lease.ID, TTL: 5 * time.Second, Sent: now - 200*time.Millisecond}
		}
	}
	frozen := func(v *View) {
		by("stranger")(v)
		v.Memory.Right = Right{}
		v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
	}
	check(t, []row{
		{"who led is silenced, and takes it back", leader, by("stranger"), "fence=deadline leader=stray(stranger) -> freeze, retake(epoch 50)"},
		{"whatever it says", leader, by(""), "fence=deadline leader=stray() -> freeze, retake(epoch 50)"},
		{"its own name, too", leader, by("a"), "fence=deadline leader=stray(a) -> freeze, retake(epoch 50)"},
		{"still silent", leader, frozen, "fence=frozen leader=stray(stranger) -> retake(epoch 50)"},
		{"with a lease that certainly lives", leader, func(v *View) {
			frozen(v)
			v.Memory.Lease.Sent = now - 4*time.Second
		}, "fence=frozen leader=stray(stranger) -> renew"},
		{"no more in a node that stops", leader, func(v *View) { frozen(v); v.Stopping = true }, "fence=frozen stopping -> kill"},
		{"nobody else does", standby, by("stranger"), "leader=unknown -> nothing"},
		{"not even who is named", standby, by("b"), "leader=unknown -> nothing"},
		{"with a lease it is another leader's", leader, func(v *View) { by("stranger")(v); v.State.Leader.Lease = 77 }, "fence=deadline leader=stranger server=writes -> freeze, kill"},
		{"its own again, it goes on", leader, func(v *View) {
			frozen(v)
			v.State.Revision = 51
			v.State.Leader = &cluster.Leader{Name: "a", Lease: v.Memory.Lease.ID, Mod: 51}
			v.State.Term = &cluster.Term{Mod: 51, Leader: "a", Kind: cluster.TermRetaken, Over: epoch, Timeline: 2}
			v.Memory.Right = Right{Epoch: 51, Sent: now - 200*time.Millisecond, TTL: 5 * time.Second}
		}, "leader=self fence=over -> thaw"},
	})
}
