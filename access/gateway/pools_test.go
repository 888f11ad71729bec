package gateway

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"howdah/access/pool"
	"howdah/spec/pigsty"
)

// What an inventory says of pools is what they have: every setting by its name, and
// what single databases and users have of their own.
func TestAnInventorysPools(t *testing.T) {
	var all strings.Builder
	for name, value := range pool.Defaults().Each {
		if name != "pool_mode" { // which has a parameter of its own
			fmt.Fprintf(&all, "          %s: %s\n", name, value)
		}
	}
	text := func(parameters string) string {
		return `all:
  children:
    etcd: { hosts: { 10.10.10.11: { etcd_seq: 1 } } }
    pg:
      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary } }
      vars:
        pg_cluster: pg
        pgbouncer_poolmode: session
        pgbouncer_parameters:
` + parameters + `        pg_users:
          - { name: app, pgbouncer: true, pool_mode: statement, pool_connlimit: 3, pool_parameters: { query_timeout: 1.5, transaction_timeout: 0, pool_size: 2, max_user_client_connections: 7 } }
          - { name: free, pgbouncer: true, pool_connlimit: -1 }
        pg_databases:
          - { name: app, pool_mode: transaction, pool_size: 9, pool_size_min: 2, pool_reserve: 4, pool_connlimit: 11 }
          - { name: old, pool_size: 9, state: absent }
          - { name: plain, pool_connlimit: -1 }
`
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	w := pigsty.Read("x.yml", []byte(text(all.String())))
	if w.Err() != nil {
		t.Fatalf("an inventory with every setting: %v", w.Err())
	}
	want := pool.Defaults()
	want.PoolMode = pool.Session
	if got := settings(w.Clusters[0].Pool, log); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	w = pigsty.Read("x.yml", []byte(text("          query_timeout: 2.5\n          server_round_robin: yes\n          default_pool_size: '7'\n")))
	if w.Err() != nil {
		t.Fatal(w.Err())
	}
	if got := settings(w.Clusters[0].Pool, log); got.QueryTimeout != 2500*time.Millisecond || !got.ServerRoundRobin || got.DefaultPoolSize != 7 {
		t.Errorf("%+v", got)
	}
	dbs := databases(w.Clusters[0].Objects.Databases)
	if app := dbs["app"]; len(dbs) != 1 || app.PoolMode != pool.Transaction || *app.PoolSize != 9 || *app.MinPoolSize != 2 || *app.ReservePoolSize != 4 || *app.MaxConnections != 11 {
		t.Errorf("databases %+v", dbs)
	}
	own := users(w.Clusters[0].Objects.Roles, log)
	if app := own["app"]; app.PoolMode != pool.Statement || *app.MaxConnections != 3 || own["free"] != (pool.Override{}) || *app.QueryTimeout != 1500*time.Millisecond ||
		*app.TransactionTimeout != 0 || *app.PoolSize != 2 || *app.MaxClients != 7 || app.IdleTransactionTimeout != nil {
		t.Errorf("users %+v", own)
	}
}
