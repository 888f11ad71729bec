package embed

import (
	"log/slog"
	"testing"
	"time"

	"howdah/spec"
)

// A pace is etcd's own, and what it refuses is what an inventory is refused for.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		election, heartbeat time.Duration
		wantElection, tick  uint
		refused             bool
	}{
		{0, 0, 600, 120, false},
		{2 * time.Second, 0, 2000, 400, false},
		{time.Second, 100 * time.Millisecond, 1000, 100, false},
		{500 * time.Millisecond, 100 * time.Millisecond, 500, 100, false},
		{50 * time.Second, 10 * time.Second, 50000, 10000, false},
		{499 * time.Millisecond, 100 * time.Millisecond, 499, 100, true},
		{50*time.Second + time.Millisecond, time.Second, 50001, 1000, true},
	} {
		n := spec.Node{Address: "127.0.0.1", Etcd: spec.Etcd{
			Member: "a", Data: t.TempDir(), Election: tt.election, Heartbeat: tt.heartbeat,
			Members: []spec.EtcdMember{{Name: "a", Client: "http://127.0.0.1:2379", Peer: "http://127.0.0.1:2380"}},
		}}
		c, err := config(n, &logger{to: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if c.ElectionMs != tt.wantElection || c.TickMs != tt.tick {
			t.Errorf("%s, %s: etcd has %d and %d ms, want %d and %d", tt.election, tt.heartbeat, c.ElectionMs, c.TickMs, tt.wantElection, tt.tick)
		}
		if err := c.Validate(); (err != nil) != tt.refused {
			t.Errorf("%s, %s: etcd says %v", tt.election, tt.heartbeat, err)
		}
	}
}
