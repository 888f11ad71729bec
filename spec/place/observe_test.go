package place

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"howdah/spec"
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
		"node pg-a-1 10.10.10.11:9101 false", "node pg-a-1 10.10.10.11:9100 false", "node pg-a-1 10.10.10.11:9598 false",
		"pgsql pg-a-2 10.10.10.12:8008 true", "pgsql pg-a-2 10.10.10.12:9630 false", "pgsql pg-a-2 10.10.10.12:9631 false", "pgsql pg-a-2 10.10.10.12:9854 false",
		"node pg-a-2 10.10.10.12:9101 false", "node pg-a-2 10.10.10.12:9100 false", "node pg-a-2 10.10.10.12:9598 false",
		"pgsql pg-b-1 10.10.10.13:8008 false", "pgsql pg-b-1 10.10.10.13:9630 false", "pgsql pg-b-1 10.10.10.13:9631 false",
		"node pg-b-1 10.10.10.13:9100 false", "node pg-b-1 10.10.10.13:9598 false",
		"node etcd-1 10.10.10.10:9100 false", "node etcd-1 10.10.10.10:9598 false", "etcd etcd-1 10.10.10.10:2379 true", "node proxy-1 10.10.10.20:9101 false", "node proxy-1 10.10.10.20:9100 false", "node proxy-1 10.10.10.20:9598 false",
	}
	if got := strings.Join(all, "\n"); strings.Join(on, " ") != "pg-a-2" || got != strings.Join(want, "\n") || len(o.Clusters) != 2 || len(o.Clusters[0].Holders) != 2 {
		t.Errorf("%v keeps metrics of %+v and\n%s\nwant pg-a-2 and\n%s", on, o.Clusters, got, strings.Join(want, "\n"))
	}
	if len(o.Logs) != len(nodes) || o.Logs[1] != (spec.Logged{Cluster: "pg-a", Member: "pg-a-2", Host: "10.10.10.12", URL: "https://10.10.10.12:9598"}) {
		t.Errorf("logs are read of %+v", o.Logs)
	}
	if o.TLS || len(o.Allow) > 0 {
		t.Errorf("a playground's is %+v", o)
	}
	Observe(nodes, -1)
	if nodes[1].Observe.On() {
		t.Error("it is still there")
	}
}

// On machines it is the inventory that says who keeps metrics, also where nothing
// else is, and all others know where. A playground has no node for that alone.
func TestMetricsOnMachines(t *testing.T) {
	const inventory = `all:
  children:
    infra: { hosts: { 10.10.10.9: { infra_seq: 1, vmetrics_port: 8429, vmetrics_scrape_interval: 5s }, 10.10.10.8: { infra_seq: 2, vmetrics_enabled: false } } }
    pg-a:
      vars: { pg_cluster: pg-a }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } }
`
	w := pigsty.Read("x", []byte(inventory))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	nodes := Nodes(w, Site{Dir: "/d", Run: "/r"})
	if len(nodes) != 2 || !nodes[1].Alone() || nodes[0].Alone() {
		t.Fatalf("nodes are %+v", nodes)
	}
	o := nodes[1].Observe
	got := fmt.Sprint(nodes[0].Observe.On(), nodes[0].Observe.At, nodes[1].Member, nodes[1].Paths.Dir, o.Listen, o.Console, o.Every, o.TLS, o.Allow[:2], len(o.Targets))
	if want := "falsehttp://10.10.10.9:9090infra-1/d/infra/infra-1[10.10.10.9:9090 10.10.10.9:8429]10.10.10.9:80805strue[10.10.10.9/32 10.10.10.8/32]10"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("%s, want %s", got, want)
	}
	if nodes := Nodes(w, Site{Dir: "/d", Run: "/r", Bind: true}); len(nodes) != 1 || nodes[0].Observe.On() || nodes[0].Observe.At != "" {
		t.Errorf("a playground has %+v", nodes)
	}
	short := pigsty.Read("x", []byte("cluster: a\nhosts: [10.1.1.1]\nobserve: [10.1.1.1]\n"))
	if nodes := Nodes(short, Site{Dir: "/d", Run: "/r"}); short.Err() != nil || len(nodes) != 1 || !nodes[0].Observe.On() {
		t.Errorf("%v, %+v", short.Err(), nodes)
	}
}

// Logs are kept on machines, read by the others of their cluster, and sent where the
// inventory says; a playground keeps them with metrics.
func TestLogsOnMachines(t *testing.T) {
	const inventory = `all:
  vars: { vector_log_endpoint: [ infra, 10.10.10.7, "https://loki.example/loki/api/v1/push" ], vlogs_port: 9429 }
  children:
    infra: { hosts: { 10.10.10.9: { infra_seq: 1 } } }
    pg-a:
      vars: { pg_cluster: pg-a, vector_port: 9599 }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: replica, vector_enabled: no } }
`
	w := pigsty.Read("x", []byte(inventory))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	nodes := Nodes(w, Site{Dir: "/d", Run: "/r"})
	a, b, infra := nodes[0].Logs, nodes[1].Logs, nodes[2].Logs
	got := fmt.Sprint(a.Data, a.Listen, a.Members, a.Ship, b.Data, b.Listen, b.Members, b.Ship, infra.Listen, infra.Members)
	if want := "/d/pg-a/pg-a-1/logs10.10.10.11:9599[{pg-a-1https://10.10.10.11:9599}]" +
		"[http://10.10.10.9:9429/insert/jsonlinehttp://10.10.10.7:9429/insert/jsonlinehttps://loki.example/loki/api/v1/push]" +
		"[{pg-a-1https://10.10.10.11:9599}][]10.10.10.9:9598[]"; strings.ReplaceAll(got, " ", "") != want {
		t.Errorf("got  %s\nwant %s", strings.ReplaceAll(got, " ", ""), want)
	}
	play := Nodes(w, Site{Dir: "/d", Run: "/r", Bind: true})
	if play[0].Logs.Data != "" {
		t.Errorf("a playground keeps %+v", play[0].Logs)
	}
	if Observe(play, 0); play[1].Logs.Data == "" || play[1].Logs.Listen != "10.10.10.12:9598" || play[1].Logs.Ship != nil {
		t.Errorf("with metrics a playground keeps %+v", play[1].Logs)
	}
}

// Servers that are not ours are told by the hosts of group infra, and are targets of
// whoever keeps metrics; a playground asks none of them.
func TestRemotes(t *testing.T) {
	w := pigsty.Read("x", []byte(`all:
  children:
    infra: { hosts: { 10.10.10.9: { infra_seq: 1 } }, vars: { pg_exporters: { 20001: { pg_cluster: rds, pg_seq: 2, pg_host: 10.9.9.9, pg_monitor_password: s3cret } } } }
`))
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	nodes := Nodes(w, Site{Dir: "/d", Run: "/r"})
	if len(nodes) != 1 || !nodes[0].Alone() || fmt.Sprint(nodes[0].Remotes) != "[{10.10.10.9:20001 rds rds-2 10.9.9.9 /d/infra/infra-1/exporters.json {true [] [template0 template1 postgres]}}]" {
		t.Errorf("nodes are %+v", nodes)
	}
	o := nodes[0].Observe
	if !slices.Contains(o.Targets, spec.Target{Job: "pgrds", Cluster: "rds", Member: "rds-2", IP: "10.9.9.9", Address: "10.10.10.9:20001"}) || len(o.Clusters) > 0 {
		t.Errorf("targets are %+v", o)
	}
	if nodes := Nodes(w, Site{Dir: "/d", Run: "/r", Bind: true}); len(nodes) > 0 {
		t.Errorf("a playground has %+v", nodes)
	}
}
