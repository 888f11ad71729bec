package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const nearAndFar = `---
all:
  vars: { admin_ip: 10.10.10.10, node_tune: tiny, pg_conf: tiny.yml, pgbackrest_enabled: no }
  children:
    etcd: { hosts: { 10.10.10.10: { etcd_seq: 1 } } }
    pg-far:
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary, pg_upstream: 10.10.10.10 }, 10.10.10.12: { pg_seq: 2, pg_role: replica } }
      vars: { pg_cluster: pg-far }
    pg-near:
      hosts: { 10.10.10.10: { pg_seq: 1, pg_role: primary } }
      vars: { pg_cluster: pg-near, pg_databases: [ { name: app, owner: app } ], pg_users: [ { name: app, password: a1, roles: [ dbrole_admin ] } ] }
`

// A cluster that follows another one has what that has and takes no writes, whoever
// leads it; and goes its own way when a person says so.
func TestAStandbyCluster(t *testing.T) {
	w := own(t)
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	w.check(os.WriteFile(file, []byte(nearAndFar), 0o600))
	w.check(w.Up(w.ctx, file))
	sql := func(name, service, statement string) string {
		t.Helper()
		out, err := w.Run(w.ctx, "psql", name, "--service", service, "--", "-AtX", "-d", "user=app password=a1 dbname=app", "-c", statement)
		w.check(err)
		return strings.TrimSpace(out.Out + out.Err)
	}
	is := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	is(w.howdah("status", "pg-far"), "follows      10.10.10.10:5432: a standby cluster")
	is(sql("pg-near", "primary", "CREATE TABLE t AS SELECT 1 AS a"), "SELECT 1")
	w.until("what the other cluster has does not come", func() bool { return sql("pg-far", "replica", "SELECT a FROM t") == "1" })
	is(sql("pg-far", "replica", "UPDATE t SET a = 2"), "read-only transaction")

	is(w.howdah("switchover", "pg-far", "--to", "pg-far-2", "--yes"), "pg-far-2 leads on timeline 1")
	is(sql("pg-near", "primary", "UPDATE t SET a = 3"), "UPDATE 1")
	w.until("nothing comes to the new standby leader's replica", func() bool { return sql("pg-far", "replica", "SELECT a FROM t") == "3" })

	// Nobody follows whom he can not reach, and nobody stops for it.
	w.howdah("edit-config", "pg-near", "--set", "standby_cluster.host=10.10.10.19", "--yes")
	w.until("nobody says that the other cluster is not there", func() bool { return strings.Contains(w.howdah("status", "pg-near"), "standby-demotion") })
	is(sql("pg-near", "primary", "UPDATE t SET a = 4"), "UPDATE 1")

	// The two change places, and back.
	swap := func(down, address, up string) {
		t.Helper()
		w.howdah("edit-config", down, "--set", "standby_cluster.host="+address, "--yes")
		w.until(down+" does not follow the other cluster", func() bool {
			return strings.Contains(w.howdah("status", down), "follows      "+address+":5432: a standby cluster")
		})
		w.howdah("edit-config", up, "--set", "standby_cluster=null", "--yes")
		w.until(up+" is not promoted", func() bool { return sql(up, "primary", "UPDATE t SET a = a + 1") == "UPDATE 1" })
		is(sql(down, "replica", "UPDATE t SET a = 0"), "read-only transaction")
	}
	swap("pg-near", "10.10.10.12", "pg-far")
	is(w.howdah("why", "pg-far", "--failover", "1"), "promotion, pg-far-2")
	w.until("what is written comes to the one that wrote before", func() bool { return sql("pg-near", "replica", "SELECT a FROM t") == "5" })
	swap("pg-far", "10.10.10.10", "pg-near")
	w.until("and back", func() bool { return sql("pg-far", "replica", "SELECT a FROM t") == "6" })
}
