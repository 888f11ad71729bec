package pigsty

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// What PyYAML, which Ansible reads with, makes of plain scalars.
func TestScalarsAreYAML11(t *testing.T) {
	for text, want := range map[string]any{
		"yes": true, "No": false, "on": true, "OFF": false, "true": true, "y": "y", "n": "n", "'off'": "off", `"yes"`: "yes",
		"": nil, "~": nil, "null": nil, "NULL": nil, "nil": "nil",
		"0": int64(0), "12": int64(12), "-7": int64(-7), "1_000": int64(1000), "010": int64(8), "0x1F": int64(31), "0b101": int64(5),
		"1:30": int64(90), "1:30:00": int64(5400), "08": "08", "09:15": "09:15", "99999999999999999999": "99999999999999999999",
		"0.25": 0.25, ".5": 0.5, "1.": 1.0, "1e3": "1e3", "1.0e+3": 1000.0, "1.2.3": "1.2.3",
		"10.10.10.10": "10.10.10.10", "!!str 12": "12", "a b": "a b", ">-\n  12": "12", "2026-01-01": "2026-01-01",
	} {
		r := &reader{}
		got := r.read([]byte("k: " + text + "\n")).field("k")
		if got == nil || got.scalar != want {
			t.Errorf("%q is %#v; want %#v", text, got.plain(), want)
		}
	}
}

func TestTheLastOfEqualKeysWins(t *testing.T) {
	r := &reader{}
	v := r.read([]byte("a: 1\nb: 2\na: 3\nc: { x: 1, x: 2 }\nd: &d { p: 1, q: 2 }\ne: { <<: *d, q: 3 }\n"))
	want := map[string]any{
		"a": int64(3), "b": int64(2), "c": map[string]any{"x": int64(2)},
		"d": map[string]any{"p": int64(1), "q": int64(2)}, "e": map[string]any{"p": int64(1), "q": int64(3)},
	}
	if got := v.plain(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if v.fields[0].line != 3 {
		t.Errorf("a stands on line %d; want 3, the last one's", v.fields[0].line)
	}
}

// base is a cluster that is right; every case says how it differs.
const base = `all:
  vars: { pg_version: 16 }
  children:
    pg-test:
      vars: { pg_cluster: pg-test }
      hosts:
        10.10.10.11: { pg_seq: 1, pg_role: primary }
        10.10.10.12: { pg_seq: 2, pg_role: replica }
        10.10.10.13: { pg_seq: 3, pg_role: replica }
`

// with puts lines below the variables of base's group.
func with(lines ...string) string {
	return strings.Replace(base, "vars: { pg_cluster: pg-test }", "vars:\n        pg_cluster: pg-test\n        "+strings.Join(lines, "\n        "), 1)
}

func read(t *testing.T, text string) spec.World {
	t.Helper()
	w := Read("x.yml", []byte(text))
	if err := w.Err(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return w
}

func find(t *testing.T, list []spec.Setting, name string) spec.Setting {
	t.Helper()
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no setting %s in %v", name, list)
	return spec.Setting{}
}

// How a person comes to a host is the host's own, or what counts for all.
func TestHosts(t *testing.T) {
	w := read(t, strings.Replace(strings.Replace(base, "vars: { pg_cluster: pg-test }", "vars: { pg_cluster: pg-test, ansible_user: ops, ansible_port: 2222 }", 1),
		"10.10.10.12: { pg_seq: 2,", "10.10.10.12: { ansible_host: db2.example, ansible_port: 22, pg_seq: 2,", 1))
	want := []spec.Host{
		{Host: "10.10.10.11", Port: 2222, User: "ops"}, {Host: "10.10.10.12", Address: "db2.example", Port: 22, User: "ops"}, {Host: "10.10.10.13", Port: 2222, User: "ops"},
	}
	if !slices.Equal(w.Hosts, want) {
		t.Errorf("got %+v, want %+v", w.Hosts, want)
	}
	if w := Read("x.yml", []byte(strings.Replace(base, "vars: { pg_cluster: pg-test }", "vars: { pg_cluster: pg-test, ansible_port: none }", 1))); w.Err() == nil {
		t.Error("a port that is none is no problem")
	}
}

// Servers that are not ours are told apart by their ports; what would ask the wrong
// one, or nobody, is refused, and no message has a password.
func TestRemotes(t *testing.T) {
	const base = `all:
  children:
    infra:
      hosts: { 10.10.10.9: { infra_seq: 1 } }
      vars: { pg_cluster: mine, pg_exporters: { 20001: { ONE }, 20002: { pg_cluster: rds, pg_seq: 2, pg_host: 10.9.9.9 } } }
  vars: { pg_monitor_password: "s3c:ret" }
`
	for one, want := range map[string]string{
		"pg_cluster: rds, pg_seq: 1, pg_host: db.example, pg_port: 5433, pg_exporter_params: 'sslmode=require'": "rds-1 db.example postgres://dbuser_monitor:s3c%3Aret@db.example:5433/postgres?sslmode=require",
		"pg_cluster: rds, pg_seq: 1, pg_exporter_url: 'postgres://a:b@10.8.8.8:1/x', pg_databases: []":          "rds-1 10.8.8.8 postgres://a:b@10.8.8.8:1/x",
		"pg_cluster: rds, pg_seq: 2, pg_host: 10.8.8.8":                                                         "twice",
		"pg_seq: 1, pg_host: 10.8.8.8":                                    "names no server",
		"pg_cluster: rds, pg_host: 10.8.8.8":                              "names no server",
		"pg_cluster: rds, pg_seq: 1":                                      "neither pg_host nor",
		"pg_cluster: rds, pg_seq: 1, pg_exporter_url: 'mysql://a:hush@b'": "must be a URL like",
		"pg_cluster: rds, pg_seq: 1, pg_host: 10.8.8.8, pg_hots: x":       "which does nothing there",
	} {
		w := Read("x.yml", []byte(strings.Replace(base, "ONE", one, 1)))
		text := fmt.Sprint(w.Findings)
		if len(w.Remotes) == 2 {
			m := w.Remotes[0]
			text += fmt.Sprint(m.Member, " ", m.Address, " ", m.URL.Reveal())
		}
		if !strings.Contains(text, want) || strings.Contains(fmt.Sprint(w.Findings), "hush") {
			t.Errorf("%s: %s", one, text)
		}
	}
	if w := Read("x.yml", []byte("all: { hosts: { 10.1.1.1: { pg_exporters: { 20001: { pg_cluster: a, pg_seq: 1, pg_host: 10.1.1.2 } } } } }")); !strings.Contains(fmt.Sprint(w.Findings), "is not read") {
		t.Errorf("outside infra: %v", w.Findings)
	}
}

func TestPrecedence(t *testing.T) {
	w := read(t, `all:
  vars: { pg_weight: 10, pg_port: 5001, pg_conf: tiny.yml }
  children:
    b-late:
      vars: { pg_weight: 30, pg_port: 5003 }
      hosts: { 10.10.10.11: }
    a-early:
      vars: { pg_weight: 20, pg_port: 5002 }
      hosts: { 10.10.10.11:, 10.10.10.12: { pg_seq: 2, pg_role: replica, pg_weight: 40 } }
    pg-x:
      vars: { pg_cluster: pg-x }
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: }
`)
	c := w.Clusters[0]
	for i, want := range []spec.Setting{
		{Name: "pg_weight", Value: int64(30), Origin: "x.yml:5"}, // the later group's
		{Name: "pg_weight", Value: int64(40), Origin: "x.yml:9"}, // the host's
	} {
		if got := find(t, c.Members[i].Settings, "pg_weight"); got != want {
			t.Errorf("member %d: got %v, want %v", i, got, want)
		}
	}
	if got := find(t, c.Settings, "pg_conf"); got.Origin != "x.yml:2" || c.Members[0].Tuning.Template != "tiny" {
		t.Errorf("pg_conf: got %v, template %s", got, c.Members[0].Tuning.Template)
	}
	if got := find(t, c.Settings, "pg_storage_type"); got.Origin != "default" || got.Value != "SSD" {
		t.Errorf("pg_storage_type: got %v", got)
	}
	if c.Members[0].Port != 5003 || c.Members[1].Port != 5002 {
		t.Errorf("ports %d and %d; want 5003 and 5002", c.Members[0].Port, c.Members[1].Port)
	}
	if c.Namespace != "/pg" || len(w.Stores) != 1 || w.Stores[0].Host != "10.10.10.11" {
		t.Errorf("namespace %s, stores %v", c.Namespace, w.Stores)
	}
}

// A new cluster with data nodes enough begins with quorum commit, unless somebody
// has said what may be lost.
func TestWhatMayBeLost(t *testing.T) {
	three := "cluster: a\nhosts: [10.10.10.11, 10.10.10.12, 10.10.10.13]\n"
	for _, tt := range []struct {
		name, text string
		quorum     string
		config     map[string]any
		shown      any
		lag        int64
	}{
		{"three", three, "strict", nil, 0, 1 << 20},
		{"four", "cluster: a\nhosts: [10.10.10.11, 10.10.10.12, 10.10.10.13, 10.10.10.14]\n", "strict", nil, 0, 1 << 20},
		{"two", "cluster: a\nhosts: [10.10.10.11, 10.10.10.12]\n", "both", nil, 0, 1 << 20},
		{"one", "cluster: a\nhosts: [10.10.10.11]\n", "", nil, int64(1 << 20), 1 << 20},
		{"one of three is behind on purpose", "cluster: a\nhosts: [10.10.10.11, 10.10.10.12, {address: 10.10.10.13, delay: 1h}]\n", "both", nil, 0, 1 << 20},
		{"said", three + "max_loss: 4096\n", "", nil, "4096", 4096},
		{"said to be the default", three + "max_loss: 1048576\n", "", nil, "1048576", 1 << 20},
		{"none, as Pigsty has it", three + "max_loss: 0\n", "", map[string]any{"synchronous_mode": true}, "0", 0},
		{"critical", three + "template: crit\n", "", map[string]any{"synchronous_mode": true, "synchronous_mode_strict": true}, 0, 1 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := read(t, tt.text).Clusters[0]
			want := map[string]map[string]any{
				"strict": {"synchronous_mode": "quorum", "synchronous_mode_strict": true}, "both": {"synchronous_mode": "quorum"},
			}[tt.quorum]
			if len(c.Begin) != len(want) || len(want) > 0 && !reflect.DeepEqual(c.Begin, want) {
				t.Errorf("it begins with %v, want %v", c.Begin, want)
			}
			if len(c.Config) != len(tt.config) || len(tt.config) > 0 && !reflect.DeepEqual(c.Config, tt.config) {
				t.Errorf("declared is %v, want %v", c.Config, tt.config)
			}
			if c.Timers.MaxLag != tt.lag {
				t.Errorf("positions may be %d behind, want %d", c.Timers.MaxLag, tt.lag)
			}
			i := slices.IndexFunc(c.Settings, func(s spec.Setting) bool { return s.Name == "pg_rpo" })
			if i < 0 || fmt.Sprint(c.Settings[i].Value) != fmt.Sprint(tt.shown) {
				t.Errorf("pg_rpo is shown as %+v, want %v", c.Settings, tt.shown)
			}
		})
	}
}

func TestWhatAMemberIs(t *testing.T) {
	w := read(t, `all:
  vars: { admin_ip: 10.10.10.10 }
  children:
    infra: { hosts: { 10.10.10.10: { infra_seq: 1 }, 10.10.10.9: { infra_seq: 2 } } }
    etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 }, 10.10.10.11: { etcd_seq: 2 }, 10.10.10.12: { etcd_seq: 3 } } }
    proxy: { hosts: { 10.10.10.10: { }, 10.10.10.20: {} } }
    pg-x:
      hosts:
        10.10.10.11: { pg_seq: 1, pg_role: primary }
        10.10.10.12: { pg_seq: 2, pg_role: replica, pg_offline_query: yes, pg_upstream: 10.10.10.11, zone: b, patroni_tags: { nosync: yes, failover_priority: 7 } }
        10.10.10.13: { pg_seq: 3, pg_role: offline }
        10.10.10.14: { pg_seq: 4, pg_role: delayed, pg_delay: 1h, patroni_tags: { nofailover: no, noloadbalance: true, sync_priority: 0 } }
      vars:
        pg_cluster: pg-x
        pg_service_provider: proxy
        pg_rto: fast
        pg_rpo: 4096
        pg_services: [ { name: near, port: 5440, check: /replica, selector: '[? zone == `+"`b`"+` ]' } ]
        pg_hba_rules:
          - { user: app, addr: infra, auth: ssl, title: from infra, order: 10 }
          - { user: 'a b,+g', db: x, addr: 10.1.2.3, role: offline }
          - { addr: world, auth: deny, role: primary }
          - { rules: [ "host all  all  samenet md5" ], title: raw, order: 5 }
`)
	c := w.Clusters[0]
	if got := c.Timers; got.Lease != 20*time.Second || got.Renew != 5*time.Second || got.MaxLag != 4096 || got.Validate() != nil {
		t.Errorf("timers %+v, %v", got, got.Validate())
	}
	if got := c.Timers.Election; got != 2*time.Second {
		t.Errorf("etcd elects after %s under a lease of 20 s", got)
	}
	if want := map[string]any{"ttl": 20, "loop_wait": 5, "retry_timeout": 5, "primary_start_timeout": 15}; !reflect.DeepEqual(c.Config, want) {
		t.Errorf("the dynamic configuration begins with %v, want %v", c.Config, want)
	}
	if want := []string{"10.10.10.10", "10.10.10.20"}; !slices.Equal(c.Carriers, want) {
		t.Errorf("carriers %v, want %v", c.Carriers, want)
	}
	if len(w.Stores) != 3 || w.Stores[0].Name != "etcd-1" || w.Stores[1].Name != "pg-x-1" {
		t.Errorf("stores %v", w.Stores)
	}
	var others []string
	for _, o := range w.Others {
		others = append(others, o.Group+"/"+o.Name+"@"+o.Host)
	}
	if want := []string{"etcd/etcd-1@10.10.10.10", "proxy/proxy-2@10.10.10.20", "infra/infra-2@10.10.10.9"}; !slices.Equal(others, want) {
		t.Errorf("others %v, want %v", others, want)
	}
	if m := w.Metrics; len(m) != 2 || m[0].Host != "10.10.10.10" || m[1].Name != "infra-2" || m[1].Port != 8428 || m[1].Every != 10*time.Second ||
		!slices.Equal(m[1].Allow, []string{
			"10.10.10.10/32", "10.10.10.9/32", "10.10.10.11/32", "10.10.10.12/32", "10.10.10.20/32", "10.10.10.13/32", "10.10.10.14/32",
			"10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12",
		}) {
		t.Errorf("metrics are kept by %+v", m)
	}
	tags := []map[string]any{{}, {"replicatefrom": "pg-x-1", "nosync": true, "failover_priority": 7.0}, {}, {"nofailover": true, "noloadbalance": true, "sync_priority": 0.0}}
	for i, m := range c.Members {
		if !maps.Equal(m.Tags, tags[i]) {
			t.Errorf("tags of %s: %v, want %v", m.Name, m.Tags, tags[i])
		}
	}
	if d := c.Members[3].Delay; d != "1h" {
		t.Errorf("delay %q", d)
	}
	if v := c.Members[1].Vars; v["zone"] != "b" || v["pg_offline_query"] != true || v["pg_seq"] != 2 {
		t.Errorf("variables %v", v)
	}
	rules := func(i int) (lines []string) {
		for _, r := range c.Members[i].HBA {
			for _, l := range r.Lines {
				lines = append(lines, r.Role+"|"+l)
			}
		}
		return lines
	}
	first, offline := rules(0), rules(2)
	want := []string{"|host all all samenet md5", "|hostssl all app 10.10.10.9/32 scram-sha-256", "|hostssl all app 10.10.10.10/32 scram-sha-256"}
	if !slices.Equal(first[:3], want) {
		t.Errorf("the ordered rules are %q, want %q", first[:3], want)
	}
	if tail := first[len(first)-2:]; !slices.Equal(tail, []string{"primary|host all all 0.0.0.0/0 reject", "primary|host all all ::/0 reject"}) {
		t.Errorf("the last rules are %q", tail)
	}
	special := `|host x "a b",+g 10.1.2.3/32 scram-sha-256`
	if slices.Contains(first, special) || !slices.Contains(offline, special) || !slices.Contains(rules(1), special) {
		t.Errorf("the offline rule is on the wrong members:\n%q\n%q", first, offline)
	}
}

func TestUsersAndDatabases(t *testing.T) {
	w := read(t, with(
		"pg_users:",
		"  - { name: app, password: s3cret, roles: [ dbrole_admin, { name: pg_read_all_data, state: revoke }, { name: x, admin: on } ], parameters: { search_path: 'a, b', work_mem: 8MB, jit: off }, connlimit: 5, expire_in: 30, createdb: true }",
		"  - { name: gone, state: absent }",
		"  - { name: dbuser_dba, password: other }",
		"pg_databases:",
		"  - { name: app, owner: app, extensions: [ { name: hstore, schema: public }, citext, { name: old, state: absent } ], schemas: [ s1, { name: s2, owner: app } ], revokeconn: yes, encoding: UTF8, pgbouncer: false }",
	))
	c := w.Clusters[0]
	at := slices.IndexFunc(c.Objects.Roles, func(r spec.Role) bool { return r.Name == "app" })
	if at < 8 {
		t.Fatalf("role app is number %d of %d; want it after the default ones", at, len(c.Objects.Roles))
	}
	app := c.Objects.Roles[at]
	if app.Secret == "" || c.Secrets[app.Secret].Reveal() != "s3cret" || app.Login != nil || !*app.CreateDB || *app.ConnLimit != 5 || *app.ExpireIn != 30 {
		t.Errorf("role %+v", app)
	}
	if !app.MemberOf[1].Revoke || !*app.MemberOf[2].Admin || app.Parameters["jit"] != "off" || app.Comment != "business user app" {
		t.Errorf("role %+v", app)
	}
	if c.Secrets["admin"].Reveal() != "other" || c.Secrets["monitor"].Reveal() != "DBUser.Monitor" || c.Secrets[spec.SecretReplicate].Reveal() != "DBUser.Replicator" {
		t.Error("the passwords of the cluster's own roles are not what the inventory says")
	}
	d := c.Objects.Databases[0]
	if len(d.Extensions) != 3 || !d.Extensions[2].Absent || d.Schemas[1].Owner != "app" || !d.RevokeConn || d.Pool || d.Create["encoding"] != "UTF8" {
		t.Errorf("database %+v", d)
	}
	if s := fmt.Sprint(w); strings.Contains(s, "s3cret") || strings.Contains(s, "DBUser") {
		t.Error("a password is printed")
	}
}

func TestSeveralServersOfOneHost(t *testing.T) {
	for name, text := range map[string]string{
		"pg_instances": `all:
  children:
    pg:
      hosts:
        10.10.10.11: { pg_instances: { 5432: { pg_cluster: a, pg_seq: 1, pg_role: primary }, 5532: { pg_cluster: b, pg_seq: 1, pg_role: primary } } }
`,
		"groups": `all:
  children:
    a: { vars: { pg_cluster: a }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }
    b: { vars: { pg_cluster: b, pg_port: 5532 }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }
`,
	} {
		t.Run(name, func(t *testing.T) {
			w := read(t, text)
			if len(w.Clusters) != 2 {
				t.Fatalf("%d clusters", len(w.Clusters))
			}
			a, b := w.Clusters[0].Members[0], w.Clusters[1].Members[0]
			if a.Port != 5432 || b.Port != 5532 || a.REST != 8008 || b.REST != 8009 {
				t.Errorf("ports %d %d and %d %d", a.Port, a.REST, b.Port, b.REST)
			}
			if a.Exporter != 9630 || b.Exporter != 9640 || a.Exporters.Pool != 9631 || b.Exporters.Pool != 9641 || a.Exporters.Backups != 9854 || b.Exporters.Backups != 9864 {
				t.Errorf("ports of metrics %d, %+v and %d, %+v", a.Exporter, a.Exporters, b.Exporter, b.Exporters)
			}
			if w.Clusters[0].PoolPort != 6432 || w.Clusters[1].PoolPort != 6442 {
				t.Errorf("ports of pools %d and %d", w.Clusters[0].PoolPort, w.Clusters[1].PoolPort)
			}
			if got := find(t, w.Clusters[1].Settings, "pgbouncer_port"); got.Value != 6442 || !strings.HasPrefix(got.Origin, "derived: ") {
				t.Errorf("pgbouncer_port is shown as %v", got)
			}
			if !slices.ContainsFunc(w.Findings, func(f spec.Finding) bool { return strings.Contains(f.Text, "not offered on host") }) {
				t.Errorf("nobody says that services share ports: %v", w.Findings)
			}
		})
	}
}

// Two servers of a host that would listen on one port are refused, by their names.
func TestOnePortTwice(t *testing.T) {
	for _, tt := range []struct{ vars, a, b, want string }{
		{"pgbouncer_port: 6432", "", "", "port 6432 of host 10.10.10.11 is wanted by the pool of a-1 and by the pool of b-1"},
		{"pg_exporter_port: 9630", "", "", "port 9630 of host 10.10.10.11 is wanted by the exporter of a-1 and by the exporter of b-1"},
		{"pgbouncer_exporter_port: 9631", "", "", "is wanted by the exporter of the pool of a-1 and by the exporter of the pool of b-1"},
		{"pgbackrest_exporter_port: 9854", "", "", "is wanted by the exporter of the backups of a-1 and by the exporter of the backups of b-1"},
		{"", "", "patroni_port: 5432", "port 5432 of host 10.10.10.11 is wanted by PostgreSQL of a-1 and by the agent of b-1"},
		{"", "", "patroni_port: 2379", "port 2379 of host 10.10.10.11 is wanted by the agent of b-1 and by etcd"},
		{"", "pg_exporter_port: 9101", "", "is wanted by the exporter of a-1 and by the gateway's page"},
		{"", "patroni_port: 8432", "", "is wanted by the agent of a-1 and by the repository of b-1"},
		{"", "", "pgbouncer_port: 5434", "is wanted by the pool of b-1 and by service replica of cluster a"},
	} {
		text := fmt.Sprintf(`all:
  vars: { %s }
  children:
    a: { vars: { pg_cluster: a, %s }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }
    b: { vars: { pg_cluster: b, pg_port: 5532, %s }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }
`, tt.vars, tt.a, tt.b)
		w := Read("x.yml", []byte(text))
		if !slices.ContainsFunc(w.Findings, func(f spec.Finding) bool { return f.Kind == spec.Problem && strings.Contains(f.Text, tt.want) }) {
			t.Errorf("%s %s %s: nobody says %q, but %v", tt.vars, tt.a, tt.b, tt.want, w.Findings)
		}
	}
}

func TestTemplatesAndPlaceholders(t *testing.T) {
	w := read(t, with(
		"ip: 10.9.8.7", "n: 7", "who: team-{{ n }}",
		"admin_ip: '{{ ip }}'",
		"pg_weight: '{{ n }}'",
		"pg_hba_rules: [ { user: '${admin}', addr: admin, db: '{{ who }}' }, { user: x, addr: '${admin_ip}/32' } ]",
	))
	m := w.Clusters[0].Members[0]
	lines := fmt.Sprint(m.HBA)
	if m.Vars["pg_weight"] != 7 || !strings.Contains(lines, "host team-7 dbuser_dba 10.9.8.7/32") || !strings.Contains(lines, "host all x 10.9.8.7/32") {
		t.Errorf("weight %v, rules %s", m.Vars["pg_weight"], lines)
	}
	for _, f := range w.Findings {
		if f.Kind == spec.Warning && !strings.Contains(f.Text, `"who"`) {
			t.Errorf("a variable that a template names is unknown: %v", f)
		}
	}
}

// Each is refused, or warned of, with the line it stands on.
func TestWhatIsSaid(t *testing.T) {
	edit := func(old, new string) string {
		if !strings.Contains(base, old) {
			t.Fatalf("%q is not in the base", old)
		}
		return strings.Replace(base, old, new, 1)
	}
	for _, tt := range []struct{ name, text, kind, want string }{
		{"no YAML", "all: [", spec.Problem, "x.yml:1: this is no YAML"},
		{"a tab", "all:\n\tvars: {}\n", spec.Problem, "x.yml:2: this is no YAML"},
		{"empty", "", spec.Problem, "is nothing"},
		{"a list", "- a\n", spec.Problem, "x.yml:1: an inventory is a map"},
		{"a typo at the top", "al:\n  children: {}\n", spec.Problem, "did you mean all?"},
		{"no hosts", "all:\n  children: { x: }\n", spec.Problem, "x.yml:2: group x has no hosts"},
		{"a host name", edit("10.10.10.12", "db-2"), spec.Problem, `x.yml:8: host "db-2"`},
		{"an unknown tag", edit("16", "!vault x"), spec.Problem, "x.yml:2: the tag !vault"},
		{"no sequence", edit("pg_seq: 2, ", ""), spec.Problem, "x.yml:8: host 10.10.10.12 is a member of cluster pg-test and has no pg_seq"},
		{"no role", edit(", pg_role: replica", ""), spec.Problem, "has no pg_role"},
		{"no cluster", edit("pg_cluster: pg-test", ""), spec.Problem, "x.yml:7: host 10.10.10.11 has pg_seq but no pg_cluster"},
		{"twice the same number", edit("pg_seq: 2", "pg_seq: 1"), spec.Problem, "x.yml:8: cluster pg-test has pg_seq 1 twice"},
		{"two primaries", edit("pg_seq: 2, pg_role: replica", "pg_seq: 2, pg_role: primary"), spec.Problem, "2 members with pg_role: primary"},
		{"no primary", edit("pg_role: primary", "pg_role: replica"), spec.Problem, "no member with pg_role: primary"},
		{"a word with a typo", edit("pg_role: primary", "pg_role: primry"), spec.Problem, "x.yml:7: pg_role is \"primry\"; did you mean primary?"},
		{"a kernel", with("pg_mode: citus"), spec.Problem, "pg_mode citus"},
		{"a version", edit("16", "13"), spec.Problem, "x.yml:2: pg_version must be a whole number from 14 to 19, and is the number 13"},
		{"19", edit("16", "19"), spec.Problem, "PostgreSQL 14 to 18"},
		{"a port", with("pg_port: 70000"), spec.Problem, "x.yml:7: pg_port must be"},
		{"a selector that is none", with("pg_services: [ { name: x, port: 5440, selector: '[?', check: /replica } ]"), spec.Problem, "a JMESPath expression"},
		{"a service port twice", with("pg_services: [ { name: x, port: 5433, selector: '[]', check: /replica } ]"), spec.Problem, "services primary and x of cluster pg-test have the same port 5433"},
		{"the server's port", with("pg_services: [ { name: x, port: 5432, selector: '[]', check: /replica } ]"), spec.Problem, "port 5432 of host"},
		{"a user without a name", with("pg_users: [ { password: x } ]"), spec.Problem, "x.yml:7: pg_users[0] has no name"},
		{"a user's key", with("pg_users:", "  - name: a", "    conlimit: 3"), spec.Warning, `x.yml:9: unknown key of pg_users[0] (a) "conlimit"; did you mean connlimit?`},
		{"a user's name", with("pg_users: [ { name: A-B } ]"), spec.Problem, "pg_users[0] (A-B).name must be"},
		{"a user that is a word", with("pg_users: [ app ]"), spec.Problem, "pg_users[0] must be a map, and is \"app\""},
		{"users that are a map", with("pg_users: { name: a }"), spec.Problem, "pg_users must be a list, and is a map"},
		{"the superuser gone", with("pg_users: [ { name: dbuser_dba, state: absent } ]"), spec.Problem, "cannot be absent"},
		{"a database twice", with("pg_databases: [ { name: a }, { name: a } ]"), spec.Problem, "database a is listed twice"},
		{"an owner that nobody is", with("pg_databases: [ { name: a, owner: b } ]"), spec.Warning, "the owner b of database a"},
		{"a rule without address", with("pg_hba_rules: [ { user: a, title: t } ]"), spec.Problem, `the rule "t" has neither addr nor rules`},
		{"a rule's address", with("pg_hba_rules: [ { user: a, addr: wrld } ]"), spec.Problem, "did you mean world?"},
		{"a rule's method", with("pg_hba_rules: [ { user: a, addr: world, auth: scram } ]"), spec.Problem, "auth must be one of"},
		{"a service without check", with("pg_services: [ { name: standby, port: 5435, selector: '[]' } ]"), spec.Warning, "service standby has no check"},
		{"a provider that is not there", with("pg_service_provider: nobody"), spec.Warning, `there is no group "nobody"`},
		{"no losses", with("pg_rpo: 0"), spec.Warning, "as long as there is one"},
		{"two stores", base + "    etcd: { hosts: { 10.10.10.11: { etcd_seq: 1 }, 10.10.10.12: { etcd_seq: 2 } } }\n", spec.Warning, "have 1, 3 or 5"},
		{"a template", with("pg_port: '{{ lookup(1) }}'"), spec.Problem, "is not understood"},
		{"a template of nothing", with("pg_port: '{{ nowhere }}'"), spec.Problem, `"nowhere", which has no value`},
		{"templates without end", with("a: '{{ b }}'", "b: '{{ a }}'", "pg_libs: '{{ a }}'"), spec.Problem, "without end"},
		{"a parameter that is a list", with("pg_parameters: { work_mem: [1] }"), spec.Problem, "work_mem of pg_parameters must be one value"},
		{"a setting of pools that there is not", with("pgbouncer_parameters: { query_timeuot: 1 }"), spec.Problem, "did you mean query_timeout?"},
		{"a time that is none", with("pgbouncer_parameters: { query_timeout: 1s }"), spec.Problem, "pgbouncer_parameters.query_timeout must be a number of seconds, and is \"1s\""},
		{"a setting of pools that is no user's", with("pg_users: [ { name: a, pool_parameters: { default_pool_size: 1 } } ]"), spec.Problem, "which is no setting of pools"},
		{"a time of a user's that is none", with("pg_users: [ { name: a, pool_parameters: { query_timeout: x } } ]"), spec.Problem, "pool_parameters.query_timeout must be a number of seconds"},
		{"a period of nothing", with("pgbouncer_parameters: { stats_period: 0 }"), spec.Problem, "must be a number of seconds"},
		{"an unknown group key", strings.Replace(base, "      hosts:", "      hsots: {}\n      hosts:", 1), spec.Warning, `unknown key of group pg-test "hsots"; did you mean hosts?`},
		{"a group below itself", "all: { children: { a: { children: { b: { children: { a: { hosts: { 10.10.10.1: } } } } } } } }\n", spec.Problem, "group a would be below itself"},
		{"a virtual address that stands for none", with("pg_vip_enabled: true"), spec.Warning, "which stands for none"},
		{"a virtual address without its network", with("pg_vip_enabled: true", "pg_vip_address: 10.10.10.2"), spec.Problem, "pg_vip_address must be an address with the length of its network"},
		{"a virtual address that is a host's", with("pg_vip_enabled: true", "pg_vip_address: 10.10.10.12/24"), spec.Problem, "is the address of host 10.10.10.12 itself"},
		{"a virtual address of one member", strings.Replace(with("pg_vip_enabled: true", "pg_vip_address: 10.10.10.2/24"), "pg_seq: 2,", "pg_seq: 2, pg_vip_address: 10.10.10.3/24,", 1), spec.Warning, "pg_vip_address of pg-test-2 is ignored"},
		{"not yet", with("patroni_mode: pause"), spec.Later, "patroni_mode has no effect"},
		{"a log store that is nowhere", with("vector_log_endpoint: [ lokki ]"), spec.Problem, "a log store of vector_log_endpoint is \"lokki\""},
		{"a log store without a path", with("vector_log_endpoint: [ 'http://10.1.1.1:3100' ]"), spec.Problem, "a log store of vector_log_endpoint is"},
		{"a log store with a password", with("vector_log_endpoint: [ 'http://a:b@10.1.1.1:3100/loki/api/v1/push' ]"), spec.Problem, "has a password in its URL"},
		{"a name that is an address that there is not", with("pg_dns_target: vip"), spec.Warning, "is vip, and it has none"},
		{"a name that is nothing", with("pg_dns_target: vpi"), spec.Problem, "pg_dns_target must be auto, primary, vip, none or an address"},
		{"not applicable", with("node_tune: oltp"), spec.Inapplicable, "node_tune"},
		{"another module", with("redis_port: 6379"), spec.Inapplicable, "redis_port"},
		{"same port", "all:\n  children:\n    a: { vars: { pg_cluster: a }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }\n    b: { vars: { pg_cluster: b }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }\n", spec.Problem, "on the same port 5432"},
		{"the short form's unknown key", "cluster: a\nhosts: [10.10.10.11]\nverzion: 15\n", spec.Problem, `x.yml:3: unknown key "verzion"; did you mean version?`},
		{"the short form's host", "cluster: a\nhosts: [nowhere]\n", spec.Problem, `x.yml:2: host "nowhere"`},
		{"the short form without hosts", "cluster: a\n", spec.Problem, "a cluster has no hosts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := Read("x.yml", []byte(tt.text))
			var all []string
			for _, f := range w.Findings {
				text := w.Place(f.Line) + ": " + f.Text
				if f.Do != "" {
					text += "; " + f.Do
				}
				all = append(all, f.Kind+"| "+text)
				if f.Kind == tt.kind && strings.Contains(text, tt.want) {
					if tt.kind == spec.Problem && problem.Code(w.Err()) != "inventory-invalid" {
						t.Errorf("Err = %v", w.Err())
					}
					return
				}
			}
			t.Errorf("nobody says %q, but\n%s", tt.want, strings.Join(all, "\n"))
		})
	}
}

// Every parameter with a letter too much is unknown, and its right name is
// suggested; no other name than its own is found for the right one.
func TestATypoInEveryParameter(t *testing.T) {
	known := newCatalogue()
	names := slices.Sorted(maps.Keys(known.byName))
	var typos []string
	for _, name := range names {
		for _, typo := range []string{name + "x", name[:2] + name[3:], name[:2] + "x" + name[2:]} {
			if _, ok := known.find(typo); !ok { // or else it is another parameter's name
				typos = append(typos, typo)
			}
		}
	}
	for chunk := range slices.Chunk(typos, 150) {
		w := Read("x.yml", []byte(with(strings.Split(strings.Join(chunk, ": 1\n")+": 1", "\n")...)))
		if w.Err() != nil {
			t.Fatal(w.Err())
		}
		for n, typo := range chunk {
			i := slices.IndexFunc(w.Findings, func(f spec.Finding) bool { return f.Line == 7+n && strings.Contains(f.Text, `"`+typo+`"`) })
			if i < 0 || !strings.HasPrefix(w.Findings[i].Do, "did you mean ") {
				t.Errorf("%s: nothing is suggested", typo)
			}
		}
	}
	for _, name := range names {
		p := known.byName[name]
		if p.use != used || p.is == "any" {
			continue
		}
		// A map where none belongs, and a list where none does, are problems that name it.
		for _, wrong := range []string{"{ a: { b: 1 } }", "[ [ 1 ] ]"} {
			if p.is == "repositories" { // which is a map of maps
				wrong = strings.Replace(wrong, "{ b: 1 }", "[ 1 ]", 1)
			}
			if p.is == "tags" { // of which another version may know more
				wrong = strings.Replace(wrong, "a:", "nosync:", 1)
			}
			w := Read("x.yml", []byte(with(name+": "+wrong)))
			if err := w.Err(); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "x.yml:7") {
				t.Errorf("%s: %s: got %v", name, wrong, err)
			}
		}
	}
}

func TestTheShortForm(t *testing.T) {
	w := read(t, `clusters:
  - cluster: shop
    version: 17
    hosts: [10.10.10.11, { address: 10.10.10.12, offline: true, weight: 50 }, { address: 10.10.10.13, delay: 1h, role: delayed, tags: { nosync: yes } }]
    users: [{ name: shop }]
    databases: [{ name: shop, owner: shop }]
  - { cluster: log, hosts: [10.10.10.14], speed: safe }
etcd: [10.10.10.14]
`)
	shop, log := w.Clusters[0], w.Clusters[1]
	if w.Form != "native" || shop.Namespace != "/service" || shop.Major != 17 || log.Major != 0 || log.Timers.Lease != time.Minute {
		t.Errorf("form %s, namespace %s, majors %d and %d", w.Form, shop.Namespace, shop.Major, log.Major)
	}
	if len(shop.Objects.Roles) != 1 || len(shop.Objects.Extensions)+len(shop.Objects.Privileges) != 0 {
		t.Errorf("nobody asked for %v", shop.Objects)
	}
	if secret, ok := shop.Secrets[shop.Objects.Roles[0].Secret]; !ok || secret != "" {
		t.Error("the password is not to be generated")
	}
	m := shop.Members
	if m[0].Role != "primary" || m[1].Role != "replica" || m[1].Vars["pg_weight"] != 50 || m[2].Delay != "1h" || m[2].Tags["nosync"] != true || m[2].Name != "shop-3" {
		t.Errorf("members %+v", m)
	}
	if rules := fmt.Sprint(m[0].HBA); rules != "[{everybody by TLS and password  [hostssl all all 0.0.0.0/0 scram-sha-256 hostssl all all ::/0 scram-sha-256]}]" {
		t.Errorf("rules %s", rules)
	}
	if len(w.Stores) != 1 || w.Stores[0].Name != "log-1" {
		t.Errorf("stores %v", w.Stores)
	}
}

// Inventories like those that people have: each is read without a problem.
func TestFixtures(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatal("no fixtures", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			w := Read(filepath.Base(f), text)
			first, _, _ := strings.Cut(string(text), "\n")
			if want, ok := strings.CutPrefix(first, "# refused: "); ok {
				if err := w.Err(); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it refused: %s", err, want)
				}
				return
			}
			if err := w.Err(); err != nil {
				t.Fatal(err)
			}
			if want, ok := strings.CutPrefix(first, "# clusters: "); ok {
				var got []string
				for _, c := range w.Clusters {
					got = append(got, fmt.Sprintf("%s=%d", c.Name, len(c.Members)))
				}
				if strings.Join(got, " ") != want {
					t.Errorf("clusters %q, want %q", got, want)
				}
			}
			for _, f := range w.Findings {
				if f.Kind == spec.Warning && strings.Contains(f.Text, "unknown") {
					t.Errorf("%s: %s", w.Place(f.Line), f.Text)
				}
			}
		})
	}
}

func TestDoorsForPrograms(t *testing.T) {
	proxy := "pg_service_provider: proxy"
	for _, tt := range []struct {
		name, text     string
		rest           spec.REST
		page           spec.Page
		asked, gateway secret.Text
	}{
		{"nothing said", base, spec.REST{User: "postgres", Secret: spec.SecretREST, AllowMembers: true}, spec.Page{User: "admin", Private: true}, "Patroni.API", ""},
		{
			"everything said", with(
				"patroni_ssl_enabled: true", "patroni_username: ops", "patroni_password: 'a:b'",
				"haproxy_admin_username: boss", "haproxy_admin_password: env:BOSS", "haproxy_auth_enabled: no",
			),
			spec.REST{TLS: true, User: "ops", Secret: spec.SecretREST, AllowMembers: true},
			spec.Page{User: "boss"},
			"a:b", "env:BOSS",
		},
		{"nobody is asked", with("patroni_username: ''"), spec.REST{AllowMembers: true}, spec.Page{User: "admin", Private: true}, "", ""},
		{
			"hosts of others", "all:\n  vars: { admin_ip: 10.1.1.1 }\n  children:\n    infra: { hosts: { 10.1.1.2: {}, 10.1.1.1: {} } }\n" +
				"    pg-a: { vars: { pg_cluster: pg-a }, hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } } }\n",
			spec.REST{User: "postgres", Secret: spec.SecretREST, Allow: []string{"10.1.1.1", "10.1.1.2"}, AllowMembers: true},
			spec.Page{User: "admin", Private: true},
			"Patroni.API", "",
		},
		{"the short form", "cluster: a\nhosts: [10.10.10.11]\n", spec.REST{}, spec.Page{User: "admin"}, "", ""},
	} {
		w := read(t, tt.text)
		c := w.Clusters[0]
		if !reflect.DeepEqual(c.REST, tt.rest) || c.Page != tt.page {
			t.Errorf("%s: %+v and %+v, want %+v and %+v", tt.name, c.REST, c.Page, tt.rest, tt.page)
		}
		if got, ok := c.Secrets[spec.SecretGateway]; !ok || got != tt.gateway {
			t.Errorf("%s: the page's password is %q (%t), want %q", tt.name, got.Reveal(), ok, tt.gateway.Reveal())
		}
		if got, ok := c.Secrets[spec.SecretREST]; got != tt.asked || ok != (tt.rest.User != "") {
			t.Errorf("%s: the agents' password is %q (%t), want %q", tt.name, got.Reveal(), ok, tt.asked.Reveal())
		}
		for _, f := range w.Findings {
			if f.Kind == spec.Later && strings.Contains(f.Text, "patroni_") || strings.Contains(f.Text, "haproxy_a") {
				t.Errorf("%s: %s", tt.name, f.Text)
			}
		}
		for _, s := range c.Settings {
			if strings.HasSuffix(s.Name, "_password") && (s.Value == "a:b" || s.Value == "Patroni.API") {
				t.Errorf("%s: %s is shown", tt.name, s.Name)
			}
		}
	}
	w := read(t, strings.Replace(with(proxy), "  children:\n", "  children:\n    proxy: { hosts: { 10.10.10.20: }, vars: { haproxy_admin_username: p, haproxy_admin_password: q } }\n", 1))
	if o := w.Others[0]; o.Page != (spec.Page{User: "p", Private: true}) || o.Secrets[spec.SecretGateway] != "q" {
		t.Errorf("a gateway's own host: %+v, %q", o.Page, o.Secrets[spec.SecretGateway].Reveal())
	}
	if err := Read("x.yml", []byte(with("patroni_username: 'a:b'"))).Err(); err == nil || !strings.Contains(err.Error(), "patroni_username") {
		t.Errorf("a user with a colon: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(base)
	f.Add("cluster: a\nhosts: [10.10.10.11]\n")
	f.Add("all: &a\n  children: { x: { hosts: { 10.10.10.1: *a } } }\n")
	f.Add("a: &a [x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nall: *c\n")
	files, _ := filepath.Glob("testdata/*.yml")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := Read("x", []byte(text))
		again := Read("x", []byte(text))
		if !reflect.DeepEqual(w.Findings, again.Findings) {
			t.Errorf("the same text gives\n%v\nand\n%v", w.Findings, again.Findings)
		}
		if w.Err() != nil {
			return
		}
		for _, c := range w.Clusters {
			if len(c.Members) == 0 || c.Name == "" {
				t.Errorf("cluster %q has %d members", c.Name, len(c.Members))
			}
		}
	})
}

// What is made to grow without end is refused at once, with the place.
func TestAnInventoryThatGrowsIsRefused(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("all:\n  vars:\n    a0: &a0 [lol]\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&laughs, "    a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
	}
	long := "all:\n  vars:\n    a: &a " + strings.Repeat("x", 1<<20) + "\n    b: [" + strings.TrimSuffix(strings.Repeat("*a, ", 1000), ", ") + "]\n"
	for name, text := range map[string]string{
		"a billion laughs": laughs.String(), "a long text, often": long, "nested": strings.Repeat("[", 100_000), "large": strings.Repeat("#", 9<<20),
	} {
		began := time.Now()
		w := Read("x.yml", []byte(text))
		if problem.Code(w.Err()) != "inventory-invalid" || len(w.Err().Error()) > 1<<20 {
			t.Errorf("%s: got %.200v", name, w.Err())
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

// A default privilege is one, and no other statement.
func TestADefaultPrivilegeIsNothingElse(t *testing.T) {
	const text = "all:\n  children:\n    a:\n      hosts: { 10.1.1.1: { pg_seq: 1, pg_role: primary } }\n      vars:\n        pg_cluster: a\n        pg_default_privileges: [ %q ]\n"
	w := Read("x.yml", []byte(fmt.Sprintf(text, "GRANT SELECT ON TABLES TO a; DROP TABLE b")))
	if err := w.Err(); problem.Code(err) != "inventory-invalid" || !strings.Contains(err.Error(), "x.yml:7: ") {
		t.Errorf("got %v", err)
	}
	w = Read("x.yml", []byte(fmt.Sprintf(text, "grant select on tables to A")))
	if got := w.Clusters[0].Objects.Privileges; w.Err() != nil || len(got) != 1 || got[0] != `GRANT SELECT ON TABLES TO "a"` {
		t.Errorf("got %q, %v", got, w.Err())
	}
}

// pg_upstream of a primary makes its cluster begin as the standby of another one.
func TestStandbyClusters(t *testing.T) {
	inventory := func(far string) string {
		return `all:
  vars: { admin_ip: 10.10.10.10 }
  children:
    etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 } } }
    pg-far: ` + far + `
    pg-near:
      hosts: { 10.10.10.10: { pg_seq: 1, pg_role: primary }, 10.10.10.11: { pg_seq: 2, pg_role: replica } }
      vars: { pg_cluster: pg-near, pg_port: 5555, pg_version: 17 }
`
	}
	for _, tt := range []struct {
		far  string
		want spec.Upstream
		bad  string
	}{
		{"{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.10 } }, vars: { pg_cluster: pg-far, pg_version: 17 } }", spec.Upstream{Cluster: "pg-near", Host: "10.10.10.10", Port: 5555}, ""},
		{"{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.11, pg_delay: 1h } }, vars: { pg_cluster: pg-far, pg_version: 17 } }", spec.Upstream{Cluster: "pg-near", Host: "10.10.10.11", Port: 5555, Delay: "1h"}, ""},
		{"{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.1.1.1 } }, vars: { pg_cluster: pg-far, pg_port: 5444 } }", spec.Upstream{Host: "10.1.1.1", Port: 5444}, ""},
		{"{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.12 } }, vars: { pg_cluster: pg-far } }", spec.Upstream{}, "can not follow itself"},
		{"{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.10 } }, vars: { pg_cluster: pg-far, pg_version: 16 } }", spec.Upstream{}, "16 here and 17 there"},
		{"{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.10 } }, vars: { pg_cluster: pg-far, pg_version: 17, pg_replication_password: other } }", spec.Upstream{}, "pg_replication_password has to be the same"},
	} {
		w := Read("x.yml", []byte(inventory(tt.far)))
		if tt.bad != "" {
			if err := w.Err(); err == nil || !strings.Contains(problem.Text(err), tt.bad) {
				t.Errorf("%s: %v, want %q", tt.far, err, tt.bad)
			}
			continue
		}
		if err := w.Err(); err != nil {
			t.Errorf("%s: %s", tt.far, problem.Text(err))
			continue
		}
		c := w.Clusters[slices.IndexFunc(w.Clusters, func(c spec.Cluster) bool { return c.Name == "pg-far" })]
		if c.Upstream != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.far, c.Upstream, tt.want)
		}
		if c.Members[0].Delay != "" || c.Members[0].Tags["replicatefrom"] != nil {
			t.Errorf("%s: its first member is taken for a replica: %+v", tt.far, c.Members[0])
		}
		var order []string
		for _, c := range w.Follow() {
			order = append(order, c.Name)
		}
		if c.Upstream.Cluster != "" && !slices.Equal(order, []string{"pg-near", "pg-far"}) {
			t.Errorf("%s: followed in the order %v", tt.far, order)
		}
	}
	round := strings.Replace(inventory("{ hosts: { 10.10.10.12: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.10 } }, vars: { pg_cluster: pg-far } }"),
		"10.10.10.10: { pg_seq: 1, pg_role: primary }", "10.10.10.10: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.12 }", 1)
	if err := Read("x.yml", []byte(round)).Err(); err == nil || !strings.Contains(problem.Text(err), "in the end itself") {
		t.Errorf("two that follow each other: %v", err)
	}
}
