package control

import (
	"testing"
	"time"

	"howdah/cluster"
)

func TestStandingText(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)
	for _, tt := range []struct {
		name string
		all  []cluster.Standing
		want string
	}{
		{"nobody answers", []cluster.Standing{{}, {}}, ""},
		{"a lease that runs", []cluster.Standing{{Member: "b"}, {Member: "a", Right: 3 * time.Second}}, "a leads until 10:00:03 by what it confirmed last"},
		{
			"the word of others",
			[]cluster.Standing{{Member: "b", Leader: "a", Given: 5 * time.Second}, {Member: "a", Right: 4 * time.Second, By: []string{"b", "c"}}},
			"a leads without it, by the word of b, c, until 10:00:04 and as long as they give it anew",
		},
		{"a member alone", []cluster.Standing{{Member: "a", Right: time.Second, By: []string{"a"}}}, "a leads without it: there is nobody who could take over"},
		{"the leader is on another machine", []cluster.Standing{{Member: "b", Leader: "a", Given: 5 * time.Second}}, "b has given a its word not to take over before 10:00:05"},
	} {
		if got := standingText(tt.all, now); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
