package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/playground"
	"howdah/spec"
)

const fiveNodes = `---
all:
  vars: { node_tune: tiny, pg_conf: tiny.yml, pgbackrest_enabled: false }
  children:
    etcd: { hosts: { 10.10.10.11: { etcd_seq: 1 }, 10.10.10.12: { etcd_seq: 2 }, 10.10.10.13: { etcd_seq: 3 } } }
    proxy: { hosts: { 10.10.10.20: {}, 10.10.10.11: {} } }
    pg-five:
      hosts:
        10.10.10.11: { pg_seq: 1, pg_role: primary }
        10.10.10.12: { pg_seq: 2, pg_role: replica }
        10.10.10.13: { pg_seq: 3, pg_role: replica }
        10.10.10.14: { pg_seq: 4, pg_role: offline }
        10.10.10.15: { pg_seq: 5, pg_role: delayed, pg_delay: 1h }
      vars:
        pg_cluster: pg-five
        pg_service_provider: proxy
        pg_dbsu_password: Super.User
        pg_hba_rules: [ { user: '${dbsu}', addr: world, auth: ssl, order: 1 } ]
        pgb_hba_rules: [ { user: '${dbsu}', addr: world, auth: ssl, order: 1 } ]
        pg_services: [ { name: late, port: 5439, dest: postgres, check: /replica, selector: '[? pg_role == ` + "`delayed`" + ` ]' } ]
`

// Five servers, one of them behind on purpose and one for reports, and a host that
// only leads to them: each service goes where it should, also when the leader's
// host is lost, and who is behind on purpose stays behind and never leads.
func TestFiveNodesAndAGateway(t *testing.T) {
	byNight(t)
	w := own(t)
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	w.check(os.WriteFile(file, []byte(fiveNodes), 0o600))
	w.check(w.Up(w.ctx, file))
	gateway := w.Nodes[slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Alone() })]
	if gateway.Host != "10.10.10.20" || gateway.Postgres.Data != "" {
		t.Fatalf("the host without a server is %+v", gateway)
	}
	to := func(host string, port int) *pgconn.Config {
		// The superuser is the only role that is there without an hour's wait.
		c, err := pgconn.ParseConfig("user=postgres password=Super.User dbname=postgres sslmode=require host=" + host + " port=" + strconv.Itoa(port))
		w.check(err)
		c.ConnectTimeout = 20 * time.Second
		return c
	}
	// leads waits until clients of a port come to these members, and to no other.
	leads := func(port int, want ...string) {
		t.Helper()
		var got []string
		w.until("port "+strconv.Itoa(port)+" leads elsewhere", func() bool {
			got = nil
			for range 3 * len(want) {
				name, err := ask(w.ctx, to(playground.Door(gateway), port), "SELECT current_setting('listen_addresses')")
				if err != nil {
					name = err.Error()
				}
				got = append(got, name)
			}
			slices.Sort(got)
			got = slices.Compact(got)
			t.Log(port, got)
			return len(got) == len(want) && !slices.ContainsFunc(want, func(host string) bool {
				return !slices.ContainsFunc(got, func(s string) bool { return strings.HasSuffix(s, host) })
			})
		})
	}
	leads(5433, "10.10.10.11")
	leads(5436, "10.10.10.11")
	leads(5434, "10.10.10.12", "10.10.10.13", "10.10.10.15")
	leads(5438, "10.10.10.14")
	leads(5439, "10.10.10.15")

	// A row is with everybody but the one who is an hour behind.
	_, err := ask(w.ctx, to(playground.Door(gateway), 5433), "CREATE TABLE five AS SELECT 1 AS a; SELECT 'made'")
	w.check(err)
	has := func(n spec.Node) bool {
		got, err := ask(w.ctx, to(playground.Door(n), n.Postgres.Port), "SELECT to_regclass('five') IS NOT NULL")
		return err == nil && got == "t"
	}
	for _, n := range w.Nodes {
		if n.Postgres.Data != "" && n.Host != "10.10.10.15" {
			w.until("the row is not on "+n.Member, func() bool { return has(n) })
		}
	}
	late := w.Node("pg-five-5")
	if has(late) {
		t.Error("who is an hour behind has the row")
	}

	w.howdah("fault", "kill-node", "pg-five-1")
	next := ""
	w.until("nobody leads after the loss", func() bool { next = w.leader(); return next != "" && next != "pg-five-1" })
	if next == late.Member {
		t.Errorf("who is an hour behind leads")
	}
	leads(5433, w.Node(next).Host)
	w.howdah("fault", "start-node", "pg-five-1")
	w.until("the cluster is not whole", func() bool {
		out, err := w.Run(w.ctx, "status")
		return err == nil && out.Code == 0
	})
	if has(late) {
		t.Error("who is an hour behind has the row after the failover")
	}
	if out, err := w.Run(w.ctx, "status"); err != nil || !strings.Contains(out.Out, "2 of 2 gateways up") {
		t.Errorf("status: %v\n%s", err, out.Out)
	}
}
