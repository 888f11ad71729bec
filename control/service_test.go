package control

import (
	"os"
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/dcs/mem"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

func TestTheServiceFileLeadsThroughGateways(t *testing.T) {
	for _, tt := range []struct {
		name           string
		gateway        bool
		primary, url   string
		replica, never string
	}{
		{
			"gateways", true, "host=10.10.10.11,10.10.10.12\nport=5433,5433\n", "postgres://postgres@10.10.10.11:5433,10.10.10.12:5433/postgres",
			"host=10.10.10.11,10.10.10.12\nport=5434,5434\n", "target_session_attrs",
		},
		{
			"none", false, "host=10.10.10.11,10.10.10.12\nport=5432,5432\n",
			"postgres://postgres@10.10.10.11:5432,10.10.10.12:5432/postgres?target_session_attrs=read-write", "target_session_attrs=prefer-standby\n", "5433",
		},
	} {
		dir := t.TempDir()
		paths := spec.Paths{Dir: dir + "/demo", Secrets: dir + "/secrets.json"}
		if err := nodefile.WriteSecrets(paths.Secrets, map[string]secret.Text{spec.SecretSuper: "s"}, -1, -1); err != nil {
			t.Fatal(err)
		}
		var nodes []spec.Node
		for _, host := range []string{"10.10.10.11", "10.10.10.12"} {
			n := spec.Node{Cluster: "demo", Member: "demo-" + host[10:], Address: host, Paths: paths, Postgres: spec.Postgres{Port: 5432}}
			if tt.gateway {
				n.Gateway.Fronts = []spec.Front{{Cluster: "demo", Services: cluster.DefaultServices()}}
			}
			nodes = append(nodes, n)
		}
		c := On("demo", mem.Serve(mem.Rules{}).Open("/service/demo/"), nodes...)
		c.Dir = dir
		a, err := c.Access()
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(a.Services)
		if err != nil {
			t.Fatal(err)
		}
		first, second, _ := strings.Cut(string(text), "[demo-replica]")
		if !strings.Contains(first, tt.primary) || !strings.Contains(second, tt.replica) || strings.Contains(string(text), tt.never) {
			t.Errorf("%s: the service file is\n%s", tt.name, text)
		}
		if got := a.URL(false); got != tt.url {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.url)
		}
	}
}

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
