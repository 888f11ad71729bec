package cli

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/control"
)

// What a member does stands beside what it is; what nobody knows is left empty.
func TestTopText(t *testing.T) {
	n := func(v float64) *float64 { return &v }
	s := control.Status{
		Cluster: "demo", Alerts: &control.Alerts{}, Unwell: []string{"demo-3 does not show itself"},
		Picture: cluster.Picture{Leader: "demo-1", Away: []string{"demo-3"}, Members: []cluster.PictureMember{
			{Name: "demo-1", Role: cluster.Leads, State: "running", Running: true},
			{Name: "demo-2", Role: cluster.QuorumStandby, State: "streaming", Running: true, Replay: &cluster.Lag{Behind: 2048, Known: true}},
		}},
	}
	loads := map[string]control.Load{"demo-1": {Member: "demo-1", Transactions: n(812.4), Active: n(3), Sessions: n(12), WAL: n(1 << 20), Processors: n(0.234), Space: n(0.4)}}
	got := topText(s, loads, time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC))
	want := `+ demo, 03:04:05 ---------+-----------+--------+----------------+---------+----------+--------+------------+------+
| Member | Role           | State     | Behind | Transactions/s | At work | Sessions |  WAL/s | Processors | Disk |
+--------+----------------+-----------+--------+----------------+---------+----------+--------+------------+------+
| demo-1 | Leader         | running   |        |            812 |       3 |       12 | 1.0 MB |       23 % | 40 % |
| demo-2 | Quorum Standby | streaming | 2.0 kB |                |         |          |        |            |      |
+--------+----------------+-----------+--------+----------------+---------+----------+--------+------------+------+
demo-3 does not show itself
alerts: nothing fires
unwell: demo-3 does not show itself
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
