package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"howdah/node"
	"howdah/spec"
)

// planned runs plan and looks at how it ends and at what it says.
func (w *world) planned(code int, says string, args ...string) {
	w.t.Helper()
	out, err := w.Run(w.ctx, append([]string{"plan"}, args...)...)
	w.check(err)
	if out.Code != code || !strings.Contains(out.Out, says) {
		w.t.Errorf("plan %q ends with %d, want %d and %q:\n%s%s", args, out.Code, code, says, out.Out, out.Err)
	}
}

const twoClusters = `---
all:
  vars: { admin_ip: 10.10.10.10, node_tune: tiny, pg_conf: tiny.yml }
  children:
    etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 } } }
    pg-meta:
      hosts: { 10.10.10.10: { pg_seq: 1, pg_role: primary } }
      vars: { pg_cluster: pg-meta, pg_databases: [ { name: meta, baseline: meta.sql } ], pg_users: [ { name: meta, password: m1, roles: [ dbrole_admin ] } ] }
    pg-test:
      hosts:
        10.10.10.11: { pg_seq: 1, pg_role: primary }
        10.10.10.12: { pg_seq: 2, pg_role: replica, pg_weight: 50 }
        10.10.10.13: { pg_seq: 3, pg_role: offline }
      vars:
        pg_cluster: pg-test
        pg_users:
          - { name: test, password: 'T:e\st', roles: [ dbrole_admin ], parameters: { work_mem: 9MB }, connlimit: 20 }
          - { name: reader, password: 'read', roles: [ dbrole_readonly ] }
          - { name: leaver, password: 'left' }
        pg_databases: [ { name: test, owner: test, extensions: [ hstore ], schemas: [ own ], revokeconn: yes, parameters: { statement_timeout: 7min } } ]
        pg_parameters: { work_mem: 5MB }
        pg_hba_rules:
          - { user: reader, db: all, addr: world, auth: deny, role: replica, order: 1, title: readers come to the primary }
`

// An inventory of two clusters runs side by side, has what it says, and has
// what it says after it changed.
func TestInventory(t *testing.T) {
	w := own(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "pigsty.yml")
	write := func(text string) {
		t.Helper()
		w.check(os.WriteFile(file, []byte(text), 0o600))
	}
	write(twoClusters)
	w.refused("inventory-files", "meta.sql", "up", file)
	w.check(os.Mkdir(filepath.Join(dir, "files"), 0o755))
	w.check(os.WriteFile(filepath.Join(dir, "files", "meta.sql"), []byte("CREATE TABLE public.cmdb (a int); INSERT INTO cmdb VALUES (42);"), 0o644))
	w.check(w.Up(w.ctx, file))

	sql := func(name, as, password, db, statement string) string {
		t.Helper()
		out, err := w.Run(w.ctx, "psql", name, "--", "-AtX", "-v", "ON_ERROR_STOP=1", "-d", "user="+as+" password='"+strings.ReplaceAll(password, `\`, `\\`)+"' dbname="+db, "-c", statement)
		w.check(err)
		return strings.TrimSpace(out.Out + out.Err)
	}
	is := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	is(sql("pg-meta", "meta", "m1", "meta", "SELECT a FROM cmdb"), "42")
	is(sql("pg-test", "test", `T:e\st`, "test", "SHOW work_mem"), "9MB")
	is(sql("pg-test", "test", `T:e\st`, "test", "SHOW statement_timeout"), "7min")
	is(sql("pg-test", "dbuser_dba", "DBUser.DBA", "postgres", "SHOW work_mem"), "5MB")
	is(sql("pg-test", "test", `T:e\st`, "test", "SET ROLE dbrole_admin; CREATE TABLE own.t AS SELECT 7 AS a; CREATE EXTENSION IF NOT EXISTS hstore"), "SELECT 1")
	is(sql("pg-test", "reader", "read", "test", "SELECT 1"), "permission denied for database")
	is(sql("pg-test", "nobody", "x", "test", "SELECT 1"), "authentication failed") // by the pool, which the service leads to
	direct, err := w.Run(w.ctx, "psql", "pg-test", "--service", "default", "--", "-AtX", "-d", "user=nobody password=x dbname=test", "-c", "SELECT 1")
	w.check(err)
	is(direct.Err, "no pg_hba.conf entry")

	// A rule of role primary or replica goes with the role of the moment.
	for _, n := range w.Nodes {
		if n.Cluster != "pg-test" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(n.Postgres.Data, "pg_hba.conf"))
		w.check(err)
		if active := strings.Contains(string(text), "\nhost all reader 0.0.0.0/0 reject"); active != standby(n) {
			t.Errorf("%s: standby %v, the rule for replicas counts: %v", n.Member, standby(n), active)
		}
	}

	// Given again it makes nothing; changed, it changes that.
	again := w.howdah("up", file)
	if strings.Contains(again, "made ") || strings.Contains(again, "set the password") {
		t.Errorf("the second up made something:\n%s", again)
	}
	changed := strings.NewReplacer("work_mem: 5MB", "work_mem: 6MB", "password: 'read'", "password: 'other'", "revokeconn: yes, ", "",
		"{ name: leaver, password: 'left' }", "{ name: leaver, state: absent }").Replace(twoClusters)
	w.planned(0, "nothing to change", file)
	write(changed)
	w.planned(2, "drop role leaver", file, "pg-test")
	w.planned(0, "nothing to change", file, "pg-meta")
	is(w.howdah("apply", file, "--yes"), "dropped role leaver")
	w.planned(0, "nothing to change", file)
	is(w.howdah("applied", "pg-test"), "dropped role leaver")
	is(sql("pg-test", "reader", "other", "test", "SELECT 1"), "1")
	is(sql("pg-test", "reader", "read", "test", "SELECT 1"), "authentication failed")
	w.until("work_mem is not 6MB", func() bool {
		return strings.Contains(sql("pg-test", "dbuser_dba", "DBUser.DBA", "postgres", "SHOW work_mem"), "6MB")
	})

	// Another pace of etcd: its member starts anew, and PostgreSQL runs on.
	i := slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Etcd.Member != "" })
	store, _ := node.RoleFile(w.Nodes[i], "etcd").Read()
	postmaster := func() string {
		b, err := os.ReadFile(filepath.Join(w.Nodes[i].Postgres.Data, "postmaster.pid"))
		w.check(err)
		pid, _, _ := strings.Cut(string(b), "\n")
		return pid
	}
	served := postmaster()
	changed = strings.Replace(changed, "etcd_seq: 1 } } }", "etcd_seq: 1 } }, vars: { etcd_election_timeout: 900, etcd_heartbeat_interval: 100 } }", 1)
	write(changed)
	w.planned(2, "pace of etcd", file)
	w.howdah("apply", file, "--yes")
	w.planned(0, "nothing to change", file)
	if now, runs := node.RoleFile(w.Nodes[i], "etcd").Read(); !runs || now == store {
		t.Errorf("etcd is process %v, as before (%v), and goes by its old pace", now, store)
	}
	if now := postmaster(); now != served {
		t.Errorf("the postmaster is %s, and was %s", now, served)
	}

	// What cannot be is refused, and changes nothing.
	write(strings.Replace(changed, "pg_role: replica", "pg_role: repica", 1))
	w.refused("inventory-invalid", "did you mean replica?", "up", file)
	write(strings.Replace(changed, "10.10.10.13: { pg_seq: 3, pg_role: offline }", "", 1))
	w.refused("playground-other", "pg-test-3", "up", file)
	if n, err := w.Run(w.ctx, "spec", file); err != nil || n.Code != 0 || strings.Contains(n.Out, "DBUser") {
		t.Errorf("spec: %d, %v", n.Code, err)
	}
	offline := func(n spec.Node) bool { return n.Member == "pg-test-3" }
	for _, n := range w.Nodes {
		if offline(n) && n.Gateway.Fronts[0].Members[2].Vars["pg_role"] != "offline" {
			t.Errorf("the gateway does not know what %s is: %v", n.Member, n.Gateway.Fronts)
		}
	}
}
