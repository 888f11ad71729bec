package compat

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/node"
)

// Everything that patronictl does to a cluster, with the one of Patroni 3 and
// the one of Patroni 4. It reads and writes etcd through its HTTP gateway with a
// node's certificate, and asks the members' REST interfaces.
func TestPatronictl(t *testing.T) {
	w := demo(t, 9*time.Minute)
	tls := w.Nodes[0].TLS
	config := filepath.Join(w.Dir, "patronictl.yml")
	w.check(os.WriteFile(config, fmt.Appendf(nil, `scope: demo
namespace: /service/
name: ctl
etcd3: {hosts: "%s", protocol: https, cacert: %s, cert: %s, key: %s}
`, w.etcd(), tls.CA, tls.Cert, tls.Key), 0o600))
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			w := *w
			w.t = t
			c := &ctl{world: &w, path: peer(t, suite, "patronictl"), config: config, old: suite == "bookworm"}
			c.look()
			c.changes()
			if c.old && os.Getenv("NIGHTLY") == "" {
				return // what follows the newer one does by day
			}
			c.restarts()
			c.maintenance()
			c.configuration()
			c.reinit()
		})
	}
}

// etcd is the list of the store's client addresses, as Patroni's configuration wants it.
func (w *world) etcd() string {
	var hosts []string
	for _, url := range w.Nodes[0].Etcd.Endpoints() {
		hosts = append(hosts, strings.TrimPrefix(url, "https://"))
	}
	return strings.Join(hosts, ",")
}

type ctl struct {
	*world
	path   string
	config string
	old    bool          // Patroni 3
	slow   time.Duration // the slowest command so far
}

// soon is a time that is still to come when a command that names it is carried out, on a busy machine too.
func (c *ctl) soon() time.Time { return time.Now().UTC().Add(4*time.Second + 2*c.slow) }

const iso = "2006-01-02T15:04:05+00:00"

// ok runs a command that has to succeed and to say every one of the words.
func (c *ctl) ok(say string, args ...string) string {
	c.t.Helper()
	began := time.Now()
	out, err := c.run(c.path, append([]string{"-c", c.config}, args...)...)
	c.check(err)
	if !strings.Contains(out, say) {
		c.t.Errorf("patronictl %s does not say %q:\n%s", strings.Join(args, " "), say, out)
	}
	took := time.Since(began)
	if args[0] == "list" {
		c.slow = max(c.slow, took)
	}
	c.t.Logf("patronictl %s: %s", strings.Join(args, " "), took.Round(10*time.Millisecond))
	return out
}

// from is the flag that names the present leader.
func (c *ctl) from() string {
	if c.old {
		return "--master"
	}
	return "--leader"
}

func (c *ctl) look() {
	c.t.Helper()
	leader := c.whole()
	var rows []struct{ Cluster, Member, Host, Role, State string }
	out := c.ok("", "list", "-f", "json")
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) != len(c.Nodes) {
		c.t.Fatalf("list -f json: %v\n%s", err, out)
	}
	for i, r := range rows {
		if r.Member != c.Nodes[i].Member || r.Host != c.Nodes[i].Address || (r.Role == "Leader") != (r.Member == leader) {
			c.t.Errorf("row %d is %+v", i, r)
		}
	}
	c.ok("| "+leader, "topology")
	c.ok("TL", "history")
	c.ok("ttl: 30", "show-config")
}

func (c *ctl) changes() {
	c.t.Helper()
	from, to := c.whole(), c.other()
	c.ok(`Successfully switched over to "`+to+`"`, "switchover", "demo", c.from(), from, "--candidate", to, "--force")
	if got := c.whole(); got != to {
		c.t.Errorf("%s leads after a switchover to %s", got, to)
	}
	hour := time.Now().UTC().Add(time.Hour).Format(iso)
	c.ok("Switchover scheduled at: "+hour, "switchover", "demo", c.from(), to, "--candidate", from, "--scheduled", hour, "--force")
	c.ok("scheduled switchover deleted", "flush", "demo", "switchover", "--force")
	if out := c.ok("Leader", "list"); strings.Contains(out, "scheduled") {
		c.t.Errorf("still scheduled:\n%s", out)
	}
	soon := c.soon()
	c.ok("Switchover scheduled at", "switchover", "demo", c.from(), to, "--candidate", from, "--scheduled", soon.Format(iso), "--force")
	c.until("the scheduled switchover did not happen", func() bool {
		leader, err := c.Whole(c.ctx)
		return err == nil && leader == from
	})
	if time.Now().Before(soon.Truncate(time.Second)) {
		c.t.Error("the scheduled switchover came early")
	}
	said := `Successfully failed over to "` + to + `"`
	if c.old {
		said = `Successfully switched over to "` + to + `"` // it names the leader, which makes it a switchover
	}
	c.ok(said, "failover", "demo", "--candidate", to, "--force")
	if got := c.whole(); got != to {
		c.t.Errorf("%s leads after a failover to %s", got, to)
	}
}

// postmaster is the process of a member's server.
func (c *ctl) postmaster(member string) int {
	id, _ := node.Postmaster(c.Node(member))
	return id.PID
}

func (c *ctl) restarts() {
	c.t.Helper()
	leader, other := c.whole(), c.other()
	restarted := func(member string, do func()) {
		c.t.Helper()
		before := c.postmaster(member)
		do()
		c.until(member+" was not restarted", func() bool { now := c.postmaster(member); return now != 0 && now != before })
		c.whole()
	}
	for _, member := range []string{other, leader} {
		restarted(member, func() { c.ok("Success: restart on member "+member, "restart", "demo", member, "--force") })
	}
	if got := c.whole(); got != leader {
		c.t.Errorf("%s leads after a restart of %s", got, leader)
	}
	hour := time.Now().UTC().Add(time.Hour).Format(iso)
	c.ok("Success: restart scheduled on member "+other, "restart", "demo", other, "--scheduled", hour, "--force")
	c.ok("Success: flush scheduled restart for member "+other, "flush", "demo", other, "restart", "--force")
	restarted(other, func() {
		soon := c.soon().Format(iso)
		c.ok("Success: restart scheduled on member "+other, "restart", "demo", other, "--scheduled", soon, "--force")
	})
}

func (c *ctl) maintenance() {
	c.t.Helper()
	leader := c.whole()
	c.ok("cluster management is paused", "pause", "demo", "--wait")
	c.ok("Maintenance mode: on", "list")
	c.ok("Success: restart on member "+leader, "restart", "demo", leader, "--force")
	c.ok("cluster management is resumed", "resume", "demo", "--wait")
	if got := c.whole(); got != leader {
		c.t.Errorf("%s leads after a restart of %s under maintenance", got, leader)
	}
}

func (c *ctl) configuration() {
	c.t.Helper()
	connections := "120"
	if c.old { // it comes first, and the value rises each time: a standby may not have less than its primary had
		connections = "110"
	}
	c.ok("Configuration changed", "edit-config", "demo", "-p", "work_mem=7MB", "-p", "max_connections="+connections, "-s", "maximum_lag_on_failover=2097152", "--force")
	c.ok("work_mem: 7MB", "show-config")
	c.until("work_mem does not count", func() bool { return c.setting("work_mem") == "7MB" })
	c.until("no restart is said to be pending", func() bool {
		out, err := c.run(c.path, "-c", c.config, "list")
		return err == nil && strings.Count(out, " * ") == len(c.Nodes)
	})
	c.ok("Success: restart on member", "restart", "demo", "--pending", "--force")
	c.whole()
	if got := c.setting("max_connections"); got != connections {
		c.t.Errorf("max_connections = %s, want %s", got, connections)
	}
	// What PostgreSQL would not start with never reaches it.
	c.ok("Configuration changed", "edit-config", "demo", "-p", "work_mem=banana", "-p", "shared_preload_libraries=nowhere", "--force")
	c.until("nobody says that a parameter was refused", func() bool {
		out, err := c.Howdah(c.ctx, "why")
		return err == nil && strings.Count(out, "[parameter-refused]") == len(c.Nodes)
	})
	c.ok("Success: restart on member", "restart", "demo", c.other(), "--force")
	c.ok("Configuration changed", "edit-config", "demo", "-p", "work_mem=null", "-p", "shared_preload_libraries=null", "--force")
	c.ok("Reload request received for member", "reload", "demo", "--force")
	c.whole()
}

func (c *ctl) setting(name string) string {
	out, _ := c.Howdah(c.ctx, "psql", "--", "-AtXc", "show "+name)
	return strings.TrimSpace(out)
}

func (c *ctl) reinit() {
	c.t.Helper()
	other := c.other()
	mark := filepath.Join(c.Node(other).Postgres.Data, "mark")
	c.check(os.WriteFile(mark, nil, 0o600))
	c.ok("Reinitialize is completed on: "+other, "reinit", "demo", other, "--force", "--wait")
	c.whole()
	if _, err := os.Stat(mark); err == nil {
		c.t.Errorf("the data directory of %s is the old one", other)
	}
}
