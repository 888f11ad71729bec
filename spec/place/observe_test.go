package place

import (
	"fmt"
	"strings"
	"testing"

	"howdah/spec/pigsty"
)

// One node knows whom to ask of all of them, and of every cluster.
func TestObserve(t *testing.T) {
	nodes := Nodes(pigsty.Read("x", []byte(inventory)), Site{Dir: "/d", Run: "/r"})
	Observe(nodes, 1)
	var on, all []string
	for _, n := range nodes {
		if n.Observe.On() {
			on = append(on, n.Member)
		}
	}
	o := nodes[1].Observe
	for _, t := range o.Targets {
		all = append(all, fmt.Sprint(t.Job, " ", t.Member, " ", t.Address, " ", t.TLS))
	}
	want := []string{
		"pgsql pg-a-1 10.10.10.11:8008 true", "pgsql pg-a-1 10.10.10.11:9630 false", "pgsql pg-a-1 10.10.10.11:9631 false", "pgsql pg-a-1 10.10.10.11:9854 false",
		"node pg-a-1 10.10.10.11:9101 false", "node pg-a-1 10.10.10.11:9100 false",
		"pgsql pg-a-2 10.10.10.12:8008 true", "pgsql pg-a-2 10.10.10.12:9630 false", "pgsql pg-a-2 10.10.10.12:9631 false", "pgsql pg-a-2 10.10.10.12:9854 false",
		"node pg-a-2 10.10.10.12:9101 false", "node pg-a-2 10.10.10.12:9100 false",
		"pgsql pg-b-1 10.10.10.13:8008 false", "pgsql pg-b-1 10.10.10.13:9630 false", "pgsql pg-b-1 10.10.10.13:9631 false",
		"node pg-b-1 10.10.10.13:9100 false",
		"node etcd-1 10.10.10.10:9100 false", "etcd etcd-1 10.10.10.10:2379 true", "node proxy-1 10.10.10.20:9101 false", "node proxy-1 10.10.10.20:9100 false",
	}
	if got := strings.Join(all, "\n"); strings.Join(on, " ") != "pg-a-2" || got != strings.Join(want, "\n") || len(o.Clusters) != 2 || len(o.Clusters[0].Holders) != 2 {
		t.Errorf("%v keeps metrics of %+v and\n%s\nwant pg-a-2 and\n%s", on, o.Clusters, got, strings.Join(want, "\n"))
	}
	Observe(nodes, -1)
	if nodes[1].Observe.On() {
		t.Error("it is still there")
	}
}
