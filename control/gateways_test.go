package control

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"howdah/access/gateway"
	"howdah/cluster"
	"howdah/dcs/mem"
	"howdah/spec"
)

func TestGatewaysSayWhereTheyLead(t *testing.T) {
	answers := []string{
		`[{"cluster":"other","namespace":"/service","generation":9,"services":[]},
		  {"cluster":"demo","namespace":"/service","generation":9,"services":[{"name":"primary","port":5433,"to":["demo-1"]}]}]`,
		`[{"cluster":"demo","namespace":"/service","generation":6,"services":[]}]`,
		`[{"cluster":"demo","namespace":"/service","generation":9,"blind":true,"services":[]}]`,
		`[{"cluster":"demo","namespace":"/service","generation":0,"services":[]}]`,
		`[{"cluster":"demo","namespace":"/elsewhere","generation":9,"services":[]}]`,
		`garbage`,
	}
	want := []string{
		"", "has not seen the present leader yet", "does not see the store", "has not seen the cluster yet",
		"does not answer", "does not answer", "does not answer",
	}
	fronts := []spec.Front{{Cluster: "demo", Namespace: "/service", Services: cluster.DefaultServices()}}
	var nodes []spec.Node
	for i, answer := range answers {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == gateway.RoutesPath {
				w.Write([]byte(answer))
			}
		}))
		t.Cleanup(s.Close)
		nodes = append(nodes, spec.Node{
			Member: "demo-" + string(rune('1'+i)), Gateway: spec.Gateway{Listen: strings.TrimPrefix(s.URL, "http://"), Fronts: fronts},
		})
	}
	gone := httptest.NewServer(nil)
	nodes = append(nodes, spec.Node{Member: "demo-9", Gateway: spec.Gateway{Listen: strings.TrimPrefix(gone.URL, "http://"), Fronts: fronts}})
	gone.Close()
	nodes = append(nodes, spec.Node{Member: "store"}) // without a gateway
	// The last is of another machine, and has announced itself; the first has, too.
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answers[2])) }))
	t.Cleanup(elsewhere.Close)
	state := cluster.State{Gateways: []cluster.Gateway{
		{Node: "demo-1", Listen: nodes[0].Gateway.Listen}, {Node: "far", Listen: strings.TrimPrefix(elsewhere.URL, "http://")},
	}}
	want = append(want, "does not see the store")
	all := On("demo", mem.Serve(mem.Rules{}).Open("/service/demo/"), nodes...).Gateways(t.Context(), state)
	nodes[len(nodes)-1].Member = "far"
	judge(all, cluster.Picture{Epoch: 7})
	if len(all) != len(want) {
		t.Fatalf("%d gateways, want %d", len(all), len(want))
	}
	for i, g := range all {
		if g.Member != nodes[i].Member || g.Unwell != want[i] {
			t.Errorf("%s: %q, want %s: %q", g.Member, g.Unwell, nodes[i].Member, want[i])
		}
	}
	if s := all[0].Services; len(s) != 1 || s[0].Port != 5433 || s[0].To[0] != "demo-1" {
		t.Errorf("the first leads to %+v", s)
	}
}
