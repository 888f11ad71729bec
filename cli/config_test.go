package cli

import (
	"reflect"
	"strings"
	"testing"

	"howdah/cluster"
)

func TestEdits(t *testing.T) {
	config := cluster.Config{Data: map[string]any{
		"ttl": 30.0, "pause": true,
		"postgresql": map[string]any{"parameters": map[string]any{"work_mem": "4MB", "a.b": "x"}},
	}}
	a := &app{Process: Process{In: strings.NewReader("ttl: 10\nslots: {s: {type: physical}}\n")}}
	for _, tt := range []struct {
		e    edit
		want string // as YAML
	}{
		{edit{set: []string{"ttl=20"}}, "pause: true\npostgresql:\n  parameters:\n    a.b: x\n    work_mem: 4MB\nttl: 20\n"},
		{edit{set: []string{"pause=null", "postgresql.parameters.a.b=null", "postgresql.use_slots=false"}}, "postgresql:\n  parameters:\n    work_mem: 4MB\n  use_slots: false\nttl: 30\n"},
		{edit{pg: []string{"work_mem=null", "pg_stat_statements.max=5000"}}, "pause: true\npostgresql:\n  parameters:\n    a.b: x\n    pg_stat_statements.max: 5000\nttl: 30\n"},
		{edit{replace: "-", set: []string{"ttl=11"}}, "slots:\n  s:\n    type: physical\nttl: 11\n"},
	} {
		next, err := a.edited(config, tt.e)
		if got := asYAML(next); err != nil || got != tt.want {
			t.Errorf("%+v: %v\n%s\nwant\n%s", tt.e, err, got, tt.want)
		}
	}
	for _, bad := range []edit{{set: []string{"ttl"}}, {set: []string{"=1"}}, {pg: []string{"a={"}}, {apply: "/nowhere"}} {
		if next, err := a.edited(config, bad); err == nil {
			t.Errorf("%+v gives %v", bad, next)
		}
	}
	if !reflect.DeepEqual(config.Data["ttl"], 30.0) {
		t.Error("what was shown has changed")
	}
}

func TestDifference(t *testing.T) {
	if got, want := difference("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 4\nc: 3\nd: 5\n"), " a: 1\n-b: 2\n+b: 4\n c: 3\n+d: 5\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
