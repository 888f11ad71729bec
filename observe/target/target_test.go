package target

import (
	"fmt"
	"testing"

	"howdah/cluster"
	"howdah/spec"
)

// Who is declared stays a target without a word from the store; who is not, and
// joins, becomes one; nobody is asked twice.
func TestOf(t *testing.T) {
	declared := []spec.Target{
		{Job: spec.JobServer, Cluster: "demo", Member: "demo-1", IP: "10.10.10.11", Address: "10.10.10.11:9700"},
		{Job: spec.JobServer, Cluster: "demo", Member: "demo-1", IP: "10.10.10.11", Address: "10.10.10.11:8008"},
		{Job: spec.JobNode, Cluster: "demo", Member: "demo-1", IP: "10.10.10.11", Address: "10.10.10.11:9101"},
	}
	joined := map[string]cluster.State{"demo": {
		Members: []cluster.Member{
			{Name: "demo-1", ConnURL: "postgres://10.10.10.11:5432/postgres", APIURL: "http://10.10.10.11:8008/patroni"},
			{Name: "demo-2", ConnURL: "postgres://10.10.10.12:5432/postgres", APIURL: "https://10.10.10.12:8008/patroni"},
		},
		Recorded: []cluster.Recorded{{Name: "demo-1", Host: "10.10.10.11"}, {Name: "demo-2", Host: "10.10.10.12"}, {Name: "demo-3", Host: "10.10.10.13"}},
		Gateways: []cluster.Gateway{
			{Host: "10.10.10.11", Node: "demo-1", Listen: "10.10.10.11:9101"},
			{Host: "10.10.10.20", Node: "proxy-1", Listen: "10.10.10.20:9101"},
		},
	}}
	for _, tt := range []struct {
		name   string
		states map[string]cluster.State
		want   string
	}{
		{"the store says nothing", nil, `[node demo-1 10.10.10.11:9101 false][pgsql demo-1 10.10.10.11:8008 false][pgsql demo-1 10.10.10.11:9700 false]`},
		{
			"somebody joined", joined,
			`[node demo-1 10.10.10.11:9101 false][node proxy-1 10.10.10.20:9101 false][pgsql demo-1 10.10.10.11:8008 false][pgsql demo-1 10.10.10.11:9700 false]` +
				`[pgsql demo-2 10.10.10.12:8008 true][pgsql demo-2 10.10.10.12:9630 false]` +
				`[pgsql demo-3 10.10.10.13:8008 false][pgsql demo-3 10.10.10.13:9630 false]`,
		},
	} {
		got := ""
		for _, x := range Of(declared, tt.states) {
			got += fmt.Sprintf("[%s %s %s %v]", x.Job, x.Member, x.Address, x.TLS)
		}
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}
