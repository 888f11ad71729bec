package pigsty

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"howdah/problem"
	"howdah/spec"
)

// A mistake is one line of an inventory, as it should be and as it is.
type mistake struct{ right, wrong, want string }

// Whatever is said of a mistake that is alone is said of it among all the others:
// nobody mends an inventory twice.
func TestAllInOneRound(t *testing.T) {
	for name, all := range map[string][]mistake{
		"pigsty": {
			{right: "all:"},
			{right: "  vars:"},
			{"    pg_version: 16", "    pg_version: 13", "pg_version must be a whole number"},
			{"    admin_ip: 10.10.10.10", "    admin_ip: here", "admin_ip must be an IPv4 address"},
			{"    pg_conf: oltp.yml", "    pg_cnof: oltp.yml", `unknown parameter "pg_cnof"`},
			{right: "    etcd_heartbeat_interval: 100"},
			{"    etcd_election_timeout: 1000", "    etcd_election_timeout: 300", "an election of etcd holds five heartbeats at least"},
			{right: "  children:"},
			{right: "    pg-a:"},
			{right: "      hosts:"},
			{"        10.10.10.11: { pg_seq: 1, pg_role: primary }", "        10.10.10.11: { pg_seq: 1, pg_role: primry }", `pg_role is "primry"`},
			{"        10.10.10.12: { pg_seq: 2, pg_role: replica }", "        db-2: { pg_seq: 2, pg_role: replica }", `host "db-2"`},
			{"        10.10.10.13: { pg_seq: 3, pg_role: replica }", "        10.10.10.13: { pg_role: replica }", "has no pg_seq"},
			{"        10.10.10.14: { pg_seq: 4, pg_role: delayed, pg_delay: 1h }", "        10.10.10.14: { pg_seq: 4, pg_role: delayed, pg_delay: soon }", "pg_delay must be a time"},
			{right: "      vars:"},
			{right: "        pg_cluster: pg-a"},
			{"        pg_port: 5432", "        pg_port: 70000", "pg_port must be"},
			{"        pg_rto: fast", "        pg_rto: quick", "pg_rto must be one of"},
			{right: "        pg_users:"},
			{"          - { name: app, connlimit: 5 }", "          - { name: App }", "(App).name must be"},
			{"          - { name: dbuser_x, roles: [dbrole_readonly] }", "          - { name: dbuser_x, roles: [dbrole_raedonly] }", "dbrole_raedonly of dbuser_x is in no list of roles; did you mean dbrole_readonly?"},
			{"          - { name: dbuser_y, createdb: true }", "          - { name: dbuser_y, createdb: often }", "createdb must be true or false"},
			{"          - { name: dbuser_z }", "          - { name: dbuser_x }", "user dbuser_x is listed twice"},
			{"          - { name: dbuser_v }", "          - { name: dbuser_dba, state: absent }", "cannot be absent"},
			{right: "        pg_databases:"},
			{"          - { name: one, owner: dbuser_x }", "          - { name: one, owner: [dbuser_x] }", "owner must be"},
			{"          - { name: two, connlimit: 3 }", "          - { name: one, connlimit: many }", "database one is listed twice"},
			{"          - { name: three }", "          - { name: three, state: recreate }", "is to be recreated"},
			{"          - { name: four, owner: dbuser_x }", "          - { name: four, owner: nobody }", "the owner nobody of database four"},
			{"          - { name: five, schemas: [{ name: s, owner: dbuser_x }] }", "          - { name: five, schemas: [{ name: s, owner: dbuser_xx }] }", "the owner dbuser_xx of schema s is in no list of roles; did you mean dbuser_x?"},
			{right: "        pg_hba_rules:"},
			{"          - { user: a, addr: world, auth: pwd }", "          - { user: a, addr: world, auth: scram }", "auth must be one of"},
			{"          - { user: b, addr: world }", "          - { user: b, addr: wrld }", "did you mean world?"},
			{"          - { user: c, addr: intra, order: 3 }", "          - { user: c, addr: 10.0.0.0/40, order: third }", `the address of a rule is "10.0.0.0/40"`},
			{"          - { user: d, addr: world, title: x }", "          - { user: d, title: x }", `the rule "x" has neither`},
			{right: "        pg_services:"},
			{"          - { name: s1, port: 5440, selector: '[]', check: /replica }", "          - { name: s1, port: 5440, selector: '[?', check: /replica }", "JMESPath"},
			{"          - { name: s2, port: 5441, selector: '[]', check: /replica }", "          - { name: s2, port: 5433, selector: '[]', check: /replica }", "have the same port 5433"},
			{"          - { name: s3, port: 5442, selector: '[]', check: /read-only }", "          - { name: s3, port: 5442, selector: '[]', check: /raed-only, maxconn: few }", "no agent answers the check \"/raed-only\", so its service leads nowhere; did you mean /read-only?"},
			{"          - { name: s4, port: 5443, selector: '[]', check: /sync }", "          - { name: s4, port: 5443, selector: '[]' }", "service s4 has no check"},
			{"          - { name: s5, port: 5444, selector: '[]', check: /sync }", "          - { name: s5, port: 5444, selector: '[]', check: /sync, options: maxconn few }", "options is no number"},
			{"        pg_default_privileges: [GRANT SELECT ON TABLES TO dbrole_readonly]", "        pg_default_privileges: [GIVE IT]", "no default privilege"},
			{"        pgbouncer_parameters: { query_timeout: 1 }", "        pgbouncer_parameters: { query_timuot: 1 }", "no setting of pools"},
			{"        pg_vip_enabled: false", "        pg_vip_enabled: maybe", "pg_vip_enabled must be"},
			{right: "    pg-b:"},
			{"      hosts: { 10.10.10.21: { pg_seq: 1, pg_role: primary } }", "      hosts: { 10.10.10.21: { pg_seq: 1, pg_role: replica } }", "cluster pg-b has no member with pg_role: primary"},
			{right: "      vars:"},
			{right: "        pg_cluster: pg-b"},
			{"        pgbackrest_method: local", "        pgbackrest_method: tape", "has no \"tape\""},
			{"        pg_hba_rules: [{ user: a, addr: world }]", "        pg_hba_rules: [{ user: a, addr: wrld }]", "did you mean world?"},
			{right: "    pg-c:"},
			{"      hosts: { 10.10.10.31: { pg_seq: 1, pg_role: primary } }", "      hosts: { 10.10.10.31: { pg_seq: 1, pg_role: primary }, 10.10.10.32: { pg_seq: 2, pg_role: primary }, 10.10.10.33: { pg_seq: 2, pg_role: replica } }", "has pg_seq 2 twice"},
			{"      vars: { pg_cluster: pg-c, pg_databases: [{ name: a }] }", "      vars: { pg_cluster: pg-c, pg_databases: [{ name: a }, { name: a }] }", "database a is listed twice"},
		},
		"the short form": {
			{right: "clusters:"},
			{right: "  - cluster: a"},
			{right: "    hosts:"},
			{"      - 10.10.10.11", "      - db-1", `host "db-1"`},
			{"      - { address: 10.10.10.12 }", "      - { address: 10.10.10.12, wieght: 5 }", `unknown key "wieght"; did you mean weight?`},
			{"      - { address: 10.10.10.13 }", "      - { address: 10.10.10.13, offline: perhaps }", "offline must be true or false"},
			{"    version: 17", "    version: new", "version must be a whole number"},
			{right: "    users:"},
			{"      - { name: app }", "      - { name: app, login: perhaps }", "login must be true or false"},
			{"      - { name: b, roles: [app] }", "      - { name: b, roles: [ap] }", "the role ap of b is in no list of roles; did you mean app?"},
			{right: "    databases:"},
			{"      - { name: app }", "      - { nmae: app }", "databases[0] has no name"},
			{"      - { name: c }", "      - { name: c, pool_mode: fast }", "pool_mode must be one of"},
			{"      - { name: d }", "      - { name: c }", "database c is listed twice"},
			{"    hba: [{ addr: world }]", "    hba: [{ addr: word }]", "did you mean world?"},
			{"    services: [{ name: s, port: 5440, selector: '[]', check: /replica }]", "    services: [{ name: s, port: 5440, selector: '[]', check: /replicas, balance: fair }]", "balance must be one of"},
			{"  - { cluster: b, hosts: [10.10.10.14] }", "  - { cluster: a, hosts: [10.10.10.14], spede: fast }", `unknown key "spede"; did you mean speed?`},
			{"  - { cluster: c, hosts: [10.10.10.15] }", "  - { clutser: c, hosts: [10.10.10.15], databases: [{ name: a }, { name: a }] }", "database a is listed twice"},
			{"etcd: [10.10.10.14]", "etcd: [here]", "host \"here\" of etcd"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := func(wrong func(int) bool) string {
				var lines []string
				for i, m := range all {
					if m.want != "" && wrong(i) {
						lines = append(lines, m.wrong)
					} else {
						lines = append(lines, m.right)
					}
				}
				return strings.Join(lines, "\n") + "\n"
			}
			said := func(w spec.World) map[string]bool {
				all := map[string]bool{}
				for _, f := range w.Findings {
					all[w.Place(f.Line)+": "+f.Text+"; "+f.Do] = true
				}
				return all
			}
			w := Read("x.yml", []byte(text(func(int) bool { return false })))
			if w.Err() != nil || slices.ContainsFunc(w.Findings, func(f spec.Finding) bool { return f.Kind == spec.Warning }) {
				t.Fatalf("without a mistake: %v, %v", w.Err(), w.Findings)
			}
			clean := said(w)
			w = Read("x.yml", []byte(text(func(int) bool { return true })))
			together := said(w)
			if problem.Code(w.Err()) != "inventory-invalid" {
				t.Errorf("all of them: %v", w.Err())
			}
			for i, m := range all {
				if m.want == "" {
					continue
				}
				alone := said(Read("x.yml", []byte(text(func(j int) bool { return j == i }))))
				named := false
				for _, f := range slices.Sorted(maps.Keys(alone)) {
					named = named || strings.Contains(f, m.want)
					if !clean[f] && !together[f] {
						t.Errorf("line %d, %s: alone it is said that %q, and not among the others", i+1, strings.TrimSpace(m.wrong), f)
					}
				}
				if !named {
					t.Errorf("line %d, %s: nobody says %q, but %q", i+1, strings.TrimSpace(m.wrong), m.want, slices.Sorted(maps.Keys(alone)))
				}
			}
		})
	}
}

// More problems than anybody reads are counted.
func TestProblemsAreBounded(t *testing.T) {
	lines := []string{"pg_users:"}
	for range 5000 {
		lines = append(lines, "  - { name: A-B }")
	}
	err := Read("x.yml", []byte(with(lines...))).Err()
	if err == nil || !strings.Contains(err.Error(), "and 4900 more") || len(err.Error()) > 20000 {
		t.Errorf("got %d bytes", len(err.Error()))
	}
}
