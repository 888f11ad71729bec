package ha

import (
	"testing"
	"time"

	"howdah/cluster"
)

// An agent leaves its server to another one when nothing is under way that only it
// knows of, and a leader only with most of its lease ahead.
func TestAtRest(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*View, *Decision)
		want bool
	}{
		{"a leader that was just confirmed", func(*View, *Decision) {}, true},
		{"a follower, whatever its lease", func(_ *View, d *Decision) { d.Page.Primary, d.Memory.Lease = false, Lease{} }, true},
		{"the lease is half over", func(v *View, _ *Decision) { v.Now += 2600 * time.Millisecond }, false},
		{"the page is over", func(_ *View, d *Decision) { d.Page.Deadline = 0 }, false},
		{"work on the server", func(v *View, _ *Decision) { v.Job.Action = Start{} }, false},
		{"a renewal on its way", func(v *View, _ *Decision) { v.LockBusy = true }, false},
		{"a note on its way", func(v *View, _ *Decision) { v.NoteBusy = true }, false},
		{"the others are being asked", func(v *View, _ *Decision) { v.RoundBusy = true }, false},
		{"slots on the move", func(v *View, _ *Decision) { v.Moving = true }, false},
		{"an offer", func(v *View, _ *Decision) { v.State.Handover = &cluster.Handover{To: "b", Epoch: 3} }, false},
		{"an offer that was taken", func(v *View, _ *Decision) { v.State.Handover = &cluster.Handover{To: "a", Epoch: 2} }, true},
		{"an offer that was withdrawn", func(v *View, _ *Decision) { v.State.Handover = &cluster.Handover{Mod: 7} }, true},
		{"clients are held", func(v *View, _ *Decision) { v.State.Drain = &cluster.Drain{From: "a", To: "b", Epoch: 3} }, false},
		{"clients that were held before", func(v *View, _ *Decision) { v.State.Drain = &cluster.Drain{From: "b", To: "a", Epoch: 2} }, true},
		{"a drain that was called off", func(v *View, _ *Decision) { v.State.Drain = &cluster.Drain{Mod: 7} }, true},
		{"a switchover", func(_ *View, d *Decision) { d.Memory.Switch.Key = 7 }, false},
		{"a crash", func(_ *View, d *Decision) { d.Memory.Crash.At = 1 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := View{Now: time.Hour}
			v.State.Leader = &cluster.Leader{Name: "a", Mod: 3}
			d := Decision{Page: Page{Primary: true, Epoch: 3, Deadline: time.Hour + 4*time.Second}}
			d.Memory.Lease = Lease{ID: 1, TTL: 5 * time.Second, Sent: time.Hour - 100*time.Millisecond}
			tt.with(&v, &d)
			if got := AtRest(&v, &d); got != tt.want {
				t.Errorf("AtRest() = %t, want %t", got, tt.want)
			}
		})
	}
}
