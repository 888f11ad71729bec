package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Members leave, also the one that leads, come back, and move to another host; an
// apply that is killed anywhere is given again; the hosts that carry the store by
// themselves go on doing so.
func TestMembersComeAndGo(t *testing.T) {
	byNight(t)
	w := own(t)
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	write := func(etcd string, hosts ...string) {
		t.Helper()
		text := "all:\n  vars: { admin_ip: 10.10.10.11, pg_conf: tiny.yml }\n  children:\n" + etcd + "    pg-test:\n      hosts:\n"
		for i, h := range hosts {
			last, seq, _ := strings.Cut(h, " ")
			role := "replica"
			if i == 0 {
				role = "primary"
			}
			text += "        10.10.10." + last + ": { pg_seq: " + seq + ", pg_role: " + role + " }\n"
		}
		text += "      vars: { pg_cluster: pg-test, pgbackrest_enabled: false, pg_default_extensions: [],\n" +
			"        pg_parameters: { shared_buffers: 64MB, effective_cache_size: 1GB, maintenance_work_mem: 64MB, work_mem: 4MB } }\n"
		w.check(os.WriteFile(file, []byte(text), 0o600))
	}
	apply := func(args ...string) {
		t.Helper()
		w.howdah(append([]string{"apply", file, "--yes"}, args...)...)
		w.planned(0, "nothing to change", file, "--prune")
	}
	members := func(want string) {
		t.Helper()
		list := w.howdah("list")
		for _, m := range []string{"pg-test-1", "pg-test-2", "pg-test-3"} {
			if strings.Contains(list, m) != strings.Contains(want, m[len(m)-1:]) {
				t.Errorf("want members %s:\n%s", want, list)
			}
		}
	}
	const fixed = "    etcd: { hosts: { 10.10.10.12: { etcd_seq: 1 } } }\n"
	write(fixed, "11 1", "12 2", "13 3")
	w.check(w.Up(w.ctx, file))
	w.howdah("psql", "pg-test", "--", "-c", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")

	write(fixed, "12 2", "13 3")
	apply("--prune") // the leader leaves
	members("2 3")
	write(fixed, "12 2", "13 3", "11 1")
	apply() // and comes back
	members("1 2 3")
	write(fixed, "12 2", "14 3", "11 1")
	apply() // another one is on another host
	members("1 2 3")

	write(fixed, "12 2", "14 3")
	for after := 500 * time.Millisecond; ; after += 1500 * time.Millisecond {
		ctx, kill := context.WithTimeout(w.ctx, after)
		out, err := w.Run(ctx, "apply", file, "--yes", "--prune")
		ended := ctx.Err() == nil
		kill()
		if ended {
			w.check(err)
			if out.Code != 0 {
				t.Fatalf("killed and given again, apply ends with %d:\n%s%s", out.Code, out.Out, out.Err)
			}
			break
		}
	}
	w.planned(0, "nothing to change", file, "--prune")
	members("2 3")
	if got := w.howdah("psql", "pg-test", "--", "-AtX", "-c", "SELECT count(*) FROM t"); strings.TrimSpace(got) != "1000" {
		t.Errorf("the table has %s rows", got)
	}
}

// Where nobody says which hosts carry the store, one whose server leaves goes on
// carrying its member of it, and may have a server again.
func TestAHostIsLeftItsStore(t *testing.T) {
	byNight(t)
	w := own(t)
	file := filepath.Join(t.TempDir(), "small.yml")
	write := func(hosts string) {
		t.Helper()
		w.check(os.WriteFile(file, []byte("cluster: demo\nhosts: ["+hosts+"]\ntemplate: tiny\nlibs: ''\nbackup: false\nparameters: { shared_buffers: 64MB, effective_cache_size: 1GB, maintenance_work_mem: 64MB, work_mem: 4MB }\n"), 0o600))
	}
	write("10.10.10.11, 10.10.10.12, 10.10.10.13")
	w.check(w.Up(w.ctx, file))
	write("10.10.10.11, 10.10.10.12")
	w.refused("playground-other", "howdah apply", "up", file)
	for range 2 {
		w.howdah("apply", file, "--yes", "--prune")
		w.planned(0, "nothing to change", file, "--prune")
	}
	w.howdah("up", file)
	if status := w.howdah("status"); !strings.Contains(status, "3 of 3 members up") || strings.Contains(status, "demo-3 ") {
		t.Errorf("status:\n%s", status)
	}
	write("10.10.10.11, 10.10.10.12, 10.10.10.13")
	w.howdah("apply", file, "--yes")
	w.planned(0, "nothing to change", file)
	w.whole()
}
