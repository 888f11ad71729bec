package control

import (
	"testing"

	"howdah/cluster"
)

// A cluster whose commits are to wait is healthy when they do, for those who can count.
func TestCounts(t *testing.T) {
	data := map[string]any{"synchronous_mode": "quorum", "synchronous_mode_strict": true}
	for _, tt := range []struct {
		name string
		with func(*cluster.State)
		want bool
	}{
		{"not yet", func(*cluster.State) {}, false},
		{"it does", func(s *cluster.State) { s.Sync.Standby = []string{"b", "c"} }, true},
		{"another does", func(s *cluster.State) { s.Sync.Standby = []string{"c"} }, false},
		{"nobody waits", func(s *cluster.State) { s.Config.Data = map[string]any{} }, true},
		{"it never counts", func(s *cluster.State) { s.Members[0].Tags = cluster.Tags{"nosync": true} }, true},
		{"one of two is enough", func(s *cluster.State) {
			s.Config.Data = map[string]any{"synchronous_mode": true}
			s.Sync.Standby = []string{"c"}
		}, true},
		{"one of two, and none is there", func(s *cluster.State) { s.Config.Data = map[string]any{"synchronous_mode": true} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster.State{Config: cluster.Config{Data: data}, Members: []cluster.Member{{Name: "b"}}, Sync: cluster.Sync{Leader: "a"}}
			tt.with(&s)
			if got := counts(s, "b"); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
