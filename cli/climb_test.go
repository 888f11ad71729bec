package cli

import (
	"strings"
	"testing"
	"time"

	"howdah/control"
)

func TestClimb(t *testing.T) {
	for _, tt := range []struct {
		name string
		draw bool
		want string
	}{
		{"lines", false, `demo-2: starting|demo-2: replica, creating replica|demo-2: replica, creating replica, 0 %|` +
			`demo-2: replica, creating replica, 12 %|demo-2: replica, creating replica, 100 %|demo-2: replica, streaming|demo-2: replica, stopped|          clone(a) failed: no|demo-2: replica, creating replica|demo-2: replica, stopped|`},
		{"bars", true, `demo-2: starting|demo-2: replica, creating replica|` +
			`          demo-2 [--------------------] 0 %<          demo-2 [#-------------------] 5 %<          demo-2 [##------------------] 12 %<` +
			`          demo-2 [####################] 100 %<demo-2: replica, streaming|demo-2: replica, stopped|          clone(a) failed: no|demo-2: replica, creating replica|demo-2: replica, stopped|`},
	} {
		var out strings.Builder
		c := &climb{out: &out, draw: tt.draw, began: time.Now(), shown: map[string]control.Step{}, said: map[string]string{}}
		for _, s := range []control.Step{
			{State: "starting", Copied: -1},
			{State: "replica, creating replica", Copied: -1},
			{State: "replica, creating replica", Copied: 0},
			{State: "replica, creating replica", Copied: 5},
			{State: "replica, creating replica", Copied: 12},
			{State: "replica, creating replica", Copied: 100},
			{State: "replica, streaming", Copied: -1},
			{State: "replica, stopped", Copied: -1, Failed: "clone(a) failed: no"},
			{State: "replica, creating replica", Copied: -1},
			{State: "replica, stopped", Copied: -1, Failed: "clone(a) failed: no"},
		} {
			s.Member = "demo-2"
			c.step(s)
		}
		c.end()
		got := strings.NewReplacer("   0.0 s  ", "", "\n", "|", "\r\x1b[K", "<").Replace(out.String())
		if got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
}
