package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/playground"
	"howdah/spec"
)

// Other hosts carry the store: as many as the inventory's group etcd has, one after the
// other, also when apply is killed anywhere and given again. PostgreSQL and its clients
// do not notice.
func TestOtherMembersOfTheStore(t *testing.T) {
	byNight(t)
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 3*forTest)
	t.Cleanup(cancel)
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	carried := func(hosts ...string) {
		t.Helper()
		text := "all:\n  vars: { admin_ip: 10.10.10.11, pg_conf: tiny.yml }\n  children:\n    etcd:\n      hosts:\n"
		for _, h := range hosts {
			text += "        10.10.10.1" + h + ": { etcd_seq: " + h + " }\n"
		}
		text += "    demo:\n      hosts: { 10.10.10.11: { pg_seq: 1, pg_role: primary }, 10.10.10.12: { pg_seq: 2, pg_role: replica } }\n" +
			"      vars: { pg_cluster: demo, pgbackrest_enabled: false, pg_default_extensions: [],\n" +
			"        pg_parameters: { shared_buffers: 64MB, effective_cache_size: 1GB, maintenance_work_mem: 64MB, work_mem: 4MB } }\n"
		w.check(os.WriteFile(file, []byte(text), 0o600))
	}
	carried("1")
	w.check(w.Up(w.ctx, file))
	w.Nodes = slices.DeleteFunc(w.Nodes, func(n spec.Node) bool { return n.Postgres.Data == "" })
	writer := w.write()
	leader := w.whole()
	server := w.role(w.Node(leader), "postgres")
	is := func(members int, names ...string) {
		t.Helper()
		w.planned(0, "nothing to change", file, "--prune")
		w.until(fmt.Sprintf("%d members do not serve", members), func() bool {
			return strings.Contains(w.status(), fmt.Sprintf("%d of %d members up", members, members))
		})
		nodes, err := playground.Nodes(w.Dir)
		w.check(err)
		var runs []string
		for _, n := range nodes {
			if n.Etcd.Member != "" {
				runs = append(runs, n.Etcd.Member)
			}
			if len(n.Etcd.Members) != members {
				t.Errorf("%s knows the members %v", n.Member, n.Etcd.Members)
			}
		}
		if slices.Sort(runs); !slices.Equal(runs, names) {
			t.Errorf("the store is carried by %v, want %v", runs, names)
		}
		w.goesOn("other members of etcd", leader, server)
		w.flowing(writer)
	}
	apply := func(args ...string) { w.howdah(append([]string{"apply", file, "--yes"}, args...)...) }
	killed := func(args ...string) {
		t.Helper()
		n := 0
		for after := 700 * time.Millisecond; ; after += 900 * time.Millisecond {
			ctx, kill := context.WithTimeout(w.ctx, after)
			out, err := w.Run(ctx, append([]string{"apply", file, "--yes"}, args...)...)
			ended := ctx.Err() == nil
			kill()
			if ended {
				w.check(err)
				if out.Code != 0 {
					t.Fatalf("killed and given again, apply ends with %d:\n%s%s", out.Code, out.Out, out.Err)
				}
				t.Logf("killed %d times", n)
				return
			}
			n++
		}
	}
	is(1, "demo-1")

	carried("1", "2", "3") // one that has a server, and one that has nothing else
	w.refused("playground-other", "howdah apply", "up", file)
	w.planned(2, "let demo-2 join the store", file)
	w.planned(2, "let etcd-3 join the store", file)
	killed()
	is(3, "demo-1", "demo-2", "etcd-3")

	carried("1", "2", "4") // another one in the place of the third
	w.planned(2, "--prune has it leave", file)
	apply()
	w.until("four members do not serve", func() bool { return strings.Contains(w.status(), "4 of 4 members up") })
	w.planned(2, "remove etcd-3 from the store", file, "--prune")
	killed("--prune")
	is(3, "demo-1", "demo-2", "etcd-4")
	if _, err := os.Stat(filepath.Join(w.Dir, "etcd", "etcd-3")); err == nil {
		t.Error("the host that carries nothing any more is there still")
	}
	w.howdah("up", file)

	carried("1", "4") // who leaves goes on with its server
	w.planned(2, "remove demo-2 from the store", file, "--prune")
	apply("--prune")
	is(2, "demo-1", "etcd-4")
	carried("1")
	w.planned(2, "of the last two", file, "--prune")
	w.refused("etcd-quorum", "of the last two", "apply", file, "--prune", "--yes")
	if out := w.howdah("applied", "demo"); !strings.Contains(out, "removed demo-2 from the store") {
		t.Errorf("the record is\n%s", out)
	}
	w.kept(writer)
}
