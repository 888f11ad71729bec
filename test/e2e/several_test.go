package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/postgres"
	"howdah/spec"
	"howdah/test/outside"
)

const twoByTwo = `---
all:
  vars: { node_tune: tiny, pg_conf: tiny.yml, pg_libs: '', pg_version: %d, pg_rpo: 1048576 }
  children:
    pg-one:
      hosts:
        10.79.0.11: { pg_seq: 1, pg_role: primary }
        10.79.0.12: { pg_seq: 2, pg_role: replica, dns_hosts_file: '%s' }
      vars:
        pg_cluster: pg-one
        pg_users: [ { name: app, password: secret, pgbouncer: true, roles: [ dbrole_admin ] } ]
        pg_databases: [ { name: app, owner: app } ]
        pg_parameters: { shared_buffers: 32MB, max_connections: 60, min_wal_size: 80MB, max_wal_size: 160MB }
    pg-two:
      hosts:
        10.79.0.12: { pg_seq: 1, pg_role: primary }
        10.79.0.11: { pg_seq: 2, pg_role: replica }
      vars:
        pg_cluster: pg-two
        pg_port: 5532
        pg_users: [ { name: app, password: secret, pgbouncer: true, roles: [ dbrole_admin ] } ]
        pg_databases: [ { name: app, owner: app } ]
        pg_default_services: [ { name: primary, port: 5533, dest: default, check: /primary, selector: "[]" } ]
        pg_parameters: { shared_buffers: 32MB, max_connections: 60, min_wal_size: 80MB, max_wal_size: 160MB, work_mem: 5MB }
`

// Two machines run two clusters between them: on each there is one supervisor for two
// servers. A supervisor that is killed finds all of it again, one server leaves and
// comes back, and the other one on its machine does not notice.
func TestSeveralOnAMachine(t *testing.T) {
	switch {
	case os.Getenv("NIGHTLY") == "":
		t.Skip("two clusters on two machines take longer than there is time by day: NIGHTLY=1")
	case os.Geteuid() != 0:
		t.Skip("only root makes networks")
	}
	w := own(t)
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "several"}}
	w.check(netlink.LinkAdd(br))
	t.Cleanup(func() { _ = netlink.LinkDel(br) }) // the namespace of the tests ends with them
	w.check(netlink.LinkSetUp(br))
	installed := postgres.FindAll()
	file := filepath.Join(w.Dir, "pigsty.yml")
	names := filepath.Join(w.Dir, "hosts") // of the second machine
	w.check(os.WriteFile(names, []byte("127.0.0.1 localhost\n"), 0o644))
	text := fmt.Sprintf(twoByTwo, installed[len(installed)-1].Major, names)
	w.check(os.WriteFile(file, []byte(text), 0o600))
	program, err := os.ReadFile(howdah) // the roles run as another user, who has to reach it
	w.check(err)
	w.Program = filepath.Join(w.Dir, "howdah")
	w.check(os.WriteFile(w.Program, program, 0o755))

	var all []*machine
	for i := 1; i <= 2; i++ {
		m := &machine{w: w, host: fmt.Sprintf("10.79.0.1%d", i), dir: filepath.Join(w.Dir, fmt.Sprintf("m%d", i))}
		w.check(os.Mkdir(m.dir, 0o755))
		m.connected(i, br)
		all = append(all, m)
	}
	t.Cleanup(func() {
		for _, m := range all {
			if t.Failed() {
				text, _ := exec.Command("sh", "-c", "tail -n 12 "+m.dir+"/node.log "+m.dir+"/pg-*/*/log/*.log").CombinedOutput()
				t.Logf("%s", text)
			}
			if m.program != nil {
				_ = m.program.Process.Signal(node.Drain) // the last primary needs a store to let go in
			}
		}
		for _, m := range all {
			m.stop()
		}
		for _, member := range []string{"pg-one-1", "pg-one-2", "pg-two-1", "pg-two-2"} {
			os.RemoveAll(filepath.Join("/run/howdah", member))
		}
	})
	if out, code := all[0].run("keys", file); code != 0 {
		t.Fatal(out)
	}
	w.check(os.RemoveAll(all[1].dir))
	w.check(os.CopyFS(all[1].dir, os.DirFS(all[0].dir)))
	w.check(os.Chmod(all[1].dir, 0o755))
	for _, m := range all {
		m.start(file)
	}

	healthy := func(name string, replicas int) {
		t.Helper()
		var out string
		if err := outside.Until(w.ctx, func() bool {
			var code int
			out, code = all[1].run("list", name) // which has members of both throughout
			return code == 0 && strings.Count(out, "Leader") == 1 && strings.Count(out, "streaming") == replicas
		}); err != nil {
			t.Fatalf("%s is no cluster with %d replicas: %v\n%s", name, replicas, err, out)
		}
	}
	healthy("pg-one", 1)
	healthy("pg-two", 1)
	ok := func(m *machine, says string, args ...string) {
		t.Helper()
		if out, code := m.run(args...); code != 0 || !strings.Contains(out, says) {
			t.Fatalf("howdah %s on %s: exit %d, want %q in\n%s", strings.Join(args, " "), m.host, code, says, out)
		}
	}
	named := func(name, host string) bool {
		text, err := os.ReadFile(names)
		return err == nil && strings.HasPrefix(string(text), "127.0.0.1 localhost\n# BEGIN howdah") && strings.Contains(string(text), "\n"+host+" "+name+"\n")
	}
	w.until("the names of both leaders are not written", func() bool { return named("pg-one-primary", all[0].host) && named("pg-two-primary", all[1].host) })
	ok(all[1], "pg-one-2", "switchover", "pg-one", "--to", "pg-one-2", "--yes")
	w.until("the name does not follow", func() bool { return named("pg-one-primary", all[1].host) })
	healthy("pg-one", 1) // the next leader runs again
	ok(all[1], "pg-one-1", "switchover", "pg-one", "--to", "pg-one-1", "--yes")
	w.until("the name does not come back", func() bool { return named("pg-one-primary", all[0].host) })
	healthy("pg-one", 1)
	ok(all[0], "app", "provision", "pg-one")
	ok(all[1], "app", "provision", "pg-two")
	// Straight, by the service that each cluster has on both machines, and by each server's own pool.
	for _, m := range all {
		for port, name := range map[int]string{5433: "pg-one", 5533: "pg-two", 6432: "pg-one", 6442: "pg-two"} {
			dsn := fmt.Sprintf("host=%s port=%d user=app password=secret dbname=app connect_timeout=10", m.host, port)
			ok(m, "cluster "+name, "psql", name, "--", "-AtX", "-d", dsn, "-c", "SELECT 'cluster ' || current_setting('cluster_name')")
		}
	}
	plan := func(want int) {
		t.Helper()
		for _, m := range all {
			if out, code := m.run("plan", file); code != want {
				t.Fatalf("plan on %s: exit %d, want %d\n%s", m.host, code, want, out)
			}
		}
	}
	plan(0)

	// Both servers of a machine have one supervisor; the next one finds them as they are.
	run := func(member string) spec.Node {
		return spec.Node{Paths: spec.Paths{Run: filepath.Join("/run/howdah", member)}}
	}
	id := func(f process.File) process.ID {
		t.Helper()
		id, ok := f.Read()
		if !ok {
			t.Fatalf("nobody is in %s", f)
		}
		return id
	}
	if a, b := id(node.SupervisorFile(run("pg-one-2"))), id(node.SupervisorFile(run("pg-two-1"))); a != b || a.PID != all[1].program.Process.Pid {
		t.Errorf("supervisors %v and %v, want %d", a, b, all[1].program.Process.Pid)
	}
	agents := [2]process.ID{id(node.RoleFile(run("pg-one-2"), "agent")), id(node.RoleFile(run("pg-two-1"), "agent"))}
	w.check(all[1].program.Process.Signal(unix.SIGKILL))
	_ = all[1].program.Wait() // it was killed
	all[1].start(file)
	w.until("no new supervisor", func() bool {
		b, ok := node.SupervisorFile(run("pg-two-1")).Read()
		return ok && b.PID == all[1].program.Process.Pid
	})
	if now := [2]process.ID{id(node.RoleFile(run("pg-one-2"), "agent")), id(node.RoleFile(run("pg-two-1"), "agent"))}; now != agents {
		t.Errorf("agents %v, and before %v", now, agents)
	}
	healthy("pg-two", 1)

	// A change of one cluster is the other one's on no machine.
	text = strings.Replace(text, "work_mem: 5MB", "work_mem: 7MB", 1)
	w.check(os.WriteFile(file, []byte(text), 0o600))
	plan(2)
	for i, member := range []string{"pg-two-2", "pg-two-1"} {
		out, code := all[i].run("apply", file, "--yes")
		if code != 0 || !strings.Contains(out, "set work_mem of member "+member) || strings.Contains(out, "member pg-one") {
			t.Errorf("apply on %s: exit %d\n%s", all[i].host, code, out)
		}
	}
	plan(0)

	// Sockets are the supervisor's: it starts anew for other ones.
	again := func(m *machine, why string) {
		t.Helper()
		if out, code := m.run("apply", file, "--yes"); code != 1 || !strings.Contains(out, "[restart-needed]") || !strings.Contains(out, why) {
			t.Fatalf("apply on %s: exit %d, and not that it needs a restart, for %s\n%s", m.host, code, why, out)
		}
		m.stop()
		m.start(file)
		healthy("pg-one", 1)
		healthy("pg-two", 1)
	}
	head, tail, _ := strings.Cut(text, "        pg_default_services: [ {")
	_, tail, _ = strings.Cut(tail, "\n")
	text = head + "        pg_default_services: []\n" + tail
	w.check(os.WriteFile(file, []byte(text), 0o600))
	for _, m := range all {
		again(m, "listen on other ports")
	}
	plan(0)

	// One server leaves a machine, and its neighbour has more of it.
	server := func() process.ID {
		t.Helper()
		id, ok := node.Postmaster(spec.Node{Postgres: spec.Postgres{Data: filepath.Join(all[0].dir, "pg-one", "pg-one-1", "data")}})
		if !ok {
			t.Fatal("pg-one-1 does not run")
		}
		return id
	}
	supervisor, neighbour := id(node.SupervisorFile(run("pg-one-1"))), server()
	w.check(os.WriteFile(file, []byte(strings.Replace(text, "        10.79.0.11: { pg_seq: 2, pg_role: replica }\n", "", 1)), 0o600))
	ok(all[0], "removed member pg-two-2", "apply", file, "--prune", "--yes")
	healthy("pg-two", 0)
	if a, b := id(node.SupervisorFile(run("pg-one-1"))), server(); a != supervisor || b != neighbour {
		t.Errorf("supervisor %v and PostgreSQL %v, and before %v and %v", a, b, supervisor, neighbour)
	}
	if kept, _ := filepath.Glob(filepath.Join(all[0].dir, "pg-two", "removed", "pg-two-2-*", "data", "PG_VERSION")); len(kept) != 1 {
		t.Errorf("what it had is in %v", kept)
	}
	ok(all[1], "pg-two-1: backup", "apply", file, "--yes") // whose repositories it reads
	plan(0)

	// It comes back with the next start of the supervisor.
	w.check(os.WriteFile(file, []byte(text), 0o600))
	again(all[0], "begin to run pg-two-2")
	ok(all[1], "pg-two-1: backup", "apply", file, "--yes")
	plan(0)
	if out, code := all[0].run("doctor", "--json"); code != 0 && strings.Contains(out, `"ports","grade":"fail"`) {
		t.Errorf("doctor: exit %d\n%s", code, out)
	}
	all[1].stop()
	if text, err := os.ReadFile(names); err != nil || string(text) != "127.0.0.1 localhost\n" {
		t.Errorf("%v, and left in %s is\n%s", err, names, text)
	}
}
