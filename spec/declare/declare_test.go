package declare

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"howdah/postgres/conf"
	"howdah/spec"
	"howdah/spec/pigsty"
	"howdah/spec/place"
	"howdah/spec/plan"
)

var machine = conf.Machine{CPU: 4, MemoryMB: 8192}

func placed(t *testing.T, name, text string) []spec.Node {
	t.Helper()
	w := pigsty.Read(name, []byte(text))
	if err := w.Err(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	at := place.Site{Dir: "/var/lib/howdah", Run: "/run/howdah", Binary: "/bin/howdah", Machine: machine, Bind: true, Programs: map[int]spec.Postgres{}}
	for _, c := range w.Clusters {
		at.Programs[c.Major] = spec.Postgres{Major: 16, Bin: "/usr/bin"}
	}
	return place.Nodes(w, at)
}

// What is written of nodes makes the same nodes again.
func TestNodesAreMadeAgain(t *testing.T) {
	for name, text := range map[string]string{
		"the short form": "cluster: app\nhosts: [10.0.0.1, 10.0.0.2, 10.0.0.3]\nusers: [{ name: app }]\ndatabases: [{ name: app, owner: app }]\ntemplate: tiny\nlibs: ''\nparameters: { work_mem: 5MB }\n",
		"one host":       "cluster: app\nhosts: [10.0.0.1]\nmax_loss: 1048576\nbackup: false\n",
		"a whole one": `
all:
  vars: { admin_ip: 10.0.0.9, pg_conf: olap.yml, pgbackrest_enabled: false }
  children:
    etcd: { hosts: { 10.0.0.2: { etcd_seq: 1 } }, vars: { etcd_election_timeout: 1500, etcd_heartbeat_interval: 150 } }
    pg-meta: { hosts: { 10.0.0.1: { pg_seq: 1, pg_role: primary } }, vars: { pg_cluster: pg-meta } }
    pg-test:
      hosts:
        10.0.0.2: { pg_seq: 1, pg_role: primary, pg_offline_query: true }
        10.0.0.3: { pg_seq: 2, pg_role: replica, pg_weight: 50, zone: 'no', patroni_tags: { sync_priority: 2, failover_priority: 3 } }
        10.0.0.4: { pg_seq: 7, pg_role: delayed, pg_delay: 1h, patroni_tags: { nosync: true }, pg_parameters: { work_mem: 9MB } }
        10.0.0.5: { pg_seq: 8, pg_role: offline, pg_upstream: 10.0.0.3, pg_exporter_enabled: false }
      vars:
        pg_cluster: pg-test
        pg_rto: fast
        patroni_watchdog_mode: required
        patroni_watchdog_safety_margin: 15
        patroni_watchdog_device: /dev/watchdog1
        pg_rpo: 0
        pg_libs: 'pg_stat_statements'
        pgbouncer_poolmode: session
        pgbouncer_parameters: { max_client_conn: 500 }
        pg_services: [ { name: near, port: 5440, dest: postgres, check: /replica, selector: '[? zone == ` + "`no`" + `]', maxconn: 7, balance: leastconn, options: 'inter 3s' } ]
        pg_hba_rules: [ { user: 'a"b', db: all, addr: intra, auth: ssl, role: replica, order: 1, title: "it's: one # of them" } ]
`,
		"a pace of etcd": `
all:
  vars: { admin_ip: 10.0.0.9, etcd_heartbeat_interval: 200 }
  children:
    pg-a: { hosts: { 10.0.0.1: { pg_seq: 1, pg_role: primary }, 10.0.0.2: { pg_seq: 2, pg_role: replica } }, vars: { pg_cluster: pg-a } }
`,
		"backups": "cluster: app\nhosts: [10.0.0.1, 10.0.0.2]\nbackup_times: ['0 3 * * * full', '0 4 * * * incr']\nspeed: safe\n",
	} {
		t.Run(name, func(t *testing.T) { again(t, placed(t, name, text)) })
	}
}

// The inventories that others are tested with, too.
func TestInventoriesAreMadeAgain(t *testing.T) {
	files, _ := filepath.Glob("../pigsty/testdata/*.yml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if w := pigsty.Read(file, text); w.Err() != nil || len(w.Clusters) == 0 {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) { again(t, placed(t, file, string(text))) })
	}
}

func again(t *testing.T, nodes []spec.Node) {
	t.Helper()
	b, err := json.Marshal(nodes) // as they come from the disk
	if err != nil {
		t.Fatal(err)
	}
	nodes = nil
	if err := json.Unmarshal(b, &nodes); err != nil {
		t.Fatal(err)
	}
	var all []Cluster
	for _, n := range nodes {
		switch i := len(all) - 1; {
		case n.Postgres.Data == "":
			t.Skip("it has hosts without a server")
		case n.Backup.Shared():
			t.Skip("a bucket's keys are in no description")
		case i >= 0 && all[i].Nodes[0].Cluster == n.Cluster:
			all[i].Nodes = append(all[i].Nodes, n)
		default:
			all = append(all, Cluster{Nodes: []spec.Node{n}, Have: plan.Pristine(16), Machine: machine})
		}
	}
	text := Write(all...)
	made := placed(t, "what is", text)
	if len(made) != len(nodes) {
		t.Fatalf("%d nodes of %d\n%s", len(made), len(nodes), text)
	}
	for _, n := range made {
		for _, was := range nodes {
			if was.Member != n.Member || was.Cluster != n.Cluster {
				continue
			}
			was.Objects, n.Objects = spec.Objects{}, spec.Objects{} // there are none in the catalogs
			if p := plan.Node(&was, n, nil); !p.Empty() {
				for _, s := range p.Steps {
					t.Errorf("%s: %s %v %v", n.Member, s.What, s.Settings, s.Lines)
				}
				a, _ := json.Marshal(was)
				b, _ := json.Marshal(n)
				t.Errorf("was:\n%s\nis:\n%s\nby:\n%s", a, b, text)
			}
			if a, b := str(was.Agent.Config), str(n.Agent.Config); a != b {
				t.Errorf("%s: configuration %s, was %s", n.Member, b, a)
			}
		}
	}
}

func str(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// Text stays text, and one line stays one.
func TestFlow(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{"app", "app"},
		{"no", `"no"`},
		{"5", `"5"`},
		{"", `""`},
		{"a: b", `"a: b"`},
		{"*", `"*"`},
		{"/primary", "/primary"},
		{"it's \"x\"\n", `"it's \"x\"\n"`},
		{quoted("on"), `"on"`},
		{7, "7"},
		{true, "true"},
		{[]any{"a", 1}, "[a, 1]"},
		{fields{{"a", "b"}, {"c", fields{}}}, "{ a: b, c: {} }"},
	} {
		if got := flow(tt.v); got != tt.want {
			t.Errorf("flow(%q) = %s, want %s", tt.v, got, tt.want)
		}
	}
}
