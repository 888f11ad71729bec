package node

import (
	"slices"
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/spec"
)

func TestRoles(t *testing.T) {
	fronts := []spec.Front{{Cluster: "demo", Services: cluster.DefaultServices()}}
	for _, tt := range []struct {
		name string
		node spec.Node
		want string
	}{
		{"all of them", spec.Node{Etcd: spec.Etcd{Member: "a"}, Postgres: spec.Postgres{Data: "/d"}, Gateway: spec.Gateway{Fronts: fronts}}, "etcd gateway agent"},
		{"what may wait, first of all to start and last to stop", spec.Node{Etcd: spec.Etcd{Member: "a"}, Postgres: spec.Postgres{Data: "/d"}, Jobs: spec.Jobs{Exporter: "10.10.10.11:9630"}}, "jobs etcd agent"},
		{"the store of metrics", spec.Node{Etcd: spec.Etcd{Member: "a"}, Observe: spec.Observe{Listen: []string{"10.10.10.11:9090"}}}, "observe etcd"},
		{"backups are a job", spec.Node{Postgres: spec.Postgres{Data: "/d"}, Backup: spec.Backup{Repo: "/b"}}, "jobs agent"},
		{"no member of the store", spec.Node{Postgres: spec.Postgres{Data: "/d"}, Gateway: spec.Gateway{Fronts: fronts}}, "gateway agent"},
		{"another node provides the services", spec.Node{Postgres: spec.Postgres{Data: "/d"}}, "agent"},
		{"a node of gateways alone", spec.Node{Gateway: spec.Gateway{Fronts: fronts, Listen: "10.10.10.20:9101"}}, "gateway"},
	} {
		var names []string
		for _, r := range Roles(tt.node) {
			names = append(names, r.Name)
			if r.Name == gateway {
				want := 4
				if tt.node.Gateway.Listen != "" {
					want++ // the statistics page
				}
				if len(r.Listen) != want || r.OOM != -500 {
					t.Errorf("%s: the gateway has %d sockets and OOM score %d", tt.name, len(r.Listen), r.OOM)
				}
			}
		}
		if !slices.IsSortedFunc(names, func(a, b string) int { return slices.Index(stages, a) - slices.Index(stages, b) }) || slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(stages, n) }) {
			t.Errorf("%s: %v is not in the order of %v", tt.name, names, stages)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
