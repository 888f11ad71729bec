package control

import (
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/dcs/mem"
	"howdah/problem"
	"howdah/spec"
)

func TestWaysIntoAService(t *testing.T) {
	var nodes []spec.Node
	for _, host := range []string{"10.10.10.11", "10.10.10.12"} {
		n := spec.Node{Cluster: "demo", Member: "demo-" + host[10:], Address: host, Paths: spec.Paths{Dir: t.TempDir()}}
		services := cluster.DefaultServices()
		services[1].IP = "10.10.20." + host[9:]
		n.Gateway.Fronts = []spec.Front{{Cluster: "other"}, {Cluster: "demo", Services: services}}
		nodes = append(nodes, n)
	}
	c := On("demo", mem.Serve(mem.Rules{}).Open("/service/demo/"), nodes...)
	if got := strings.Join(c.Services(), " "); got != "primary replica default offline" {
		t.Errorf("services: %s", got)
	}
	access := Access{User: "demo", Database: "demo", Password: "s:e/cret"}
	for service, want := range map[string]string{
		"primary": "postgres://demo@10.10.10.11:5433,10.10.10.12:5433/demo",
		"replica": "postgres://demo@10.10.20.11:5434,10.10.20.12:5434/demo",
		"nobody":  "",
	} {
		if got := c.Through(access, service, false); got != want {
			t.Errorf("%s: %q, want %q", service, got, want)
		}
	}
	if got := c.Through(access, "default", true); got != "postgres://demo:s%3Ae%2Fcret@10.10.10.11:5436,10.10.10.12:5436/demo" {
		t.Errorf("with its password: %s", got)
	}
	target, err := c.Psql(t.Context(), "offline")
	if err != nil || target.Host != "10.10.10.11" || target.Port != 5438 {
		t.Errorf("Psql(offline) = %+v, %v", target, err)
	}
	if _, err := c.Psql(t.Context(), "nobody"); problem.Code(err) != "service-unknown" || !strings.Contains(err.Error(), "primary, replica, default, offline") {
		t.Errorf("Psql(nobody) = %v", err)
	}
}
