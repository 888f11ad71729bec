package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/lease"
	"howdah/node"
	"howdah/node/process"
	"howdah/spec"
)

// Another version of the program takes the place of the one that runs, and that one the
// place of the other: each supervisor leaves, the next one has every role begin anew.
// The server stays, and its leader, and a session with it hears nothing.
func TestUpgrade(t *testing.T) {
	aside := t.TempDir() // before the time of the test begins: a build takes some
	other := filepath.Join(aside, "other")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.version=other", "-o", other, "howdah/cmd/howdah").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w := demo(t)
	leader := w.Node(w.whole())
	nodes := []spec.Node{leader}
	if !byDay() {
		nodes = w.Nodes
	}
	program := leader.Paths.Binary
	own := filepath.Join(aside, "own")
	copied := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(from)
		w.check(err)
		w.check(os.WriteFile(to+".new", b, 0o755))
		w.check(os.Chmod(to+".new", 0o755))
		w.check(os.Rename(to+".new", to))
	}
	copied(program, own)

	w.sql("DROP TABLE IF EXISTS upgraded; CREATE TABLE upgraded (n int)")
	session, err := pgconn.ConnectConfig(w.ctx, w.straight(leader))
	w.check(err)
	ctx, cancel := context.WithCancel(w.ctx)
	var rows atomic.Int64
	ended := make(chan error, 1)
	go func() {
		defer session.Close(context.Background())
		for ctx.Err() == nil { // each to its end: a cancelled one would be in doubt
			if _, err := session.Exec(w.ctx, "INSERT INTO upgraded VALUES (1)").ReadAll(); err != nil {
				ended <- err
				return
			}
			rows.Add(1)
		}
		ended <- nil
	}()
	defer cancel()
	writer := w.write() // through the services, of which each gateway begins anew, too
	if out, err := w.pgbench(leader, 5433, "-i", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Sessions through that gateway go over to the next one: those that are at work, and who says nothing meanwhile.
	busy := w.bench(leader, 5433, "prepared", writes, 10*time.Minute)
	w.until("no transactions through "+busy.name, func() bool { return strings.Contains(busy.said(), "progress:") })
	quiet, err := pgconn.ConnectConfig(w.ctx, w.through(leader, 5433))
	w.check(err)
	defer quiet.Close(context.Background())
	if _, err := quiet.Prepare(w.ctx, "mine", "SELECT 1", nil); err != nil {
		t.Fatal(err)
	}
	servers := w.roles("postgres")
	page, ok := lease.Read(leader.Paths.Page)
	if !ok {
		t.Fatal("the leader has no page")
	}

	for _, version := range []string{other, own} {
		copied(version, program)
		for _, n := range nodes {
			began := time.Now()
			dead := w.role(n, "node")
			w.kill(dead, node.Leave)
			w.until("another supervisor of "+n.Member, func() bool { return w.role(n, "node") != dead })
			w.until("not all roles of "+n.Member+" run the other program", func() bool {
				all := []process.File{node.SupervisorFile(n)}
				for _, r := range node.Roles(n) {
					all = append(all, node.RoleFile(n, r.Name))
				}
				for _, f := range all {
					id, runs := f.Read()
					if !runs || !runsNow(id, program) {
						return false
					}
				}
				return true
			})
			w.whole()
			t.Logf("%s: all of %s after %s", filepath.Base(version), n.Member, time.Since(began).Round(100*time.Millisecond))
		}
	}

	if r := quiet.ExecPrepared(w.ctx, "mine", nil, nil, nil).Read(); r.Err != nil || len(r.Rows) != 1 {
		t.Errorf("an idle session through the gateway: %v", r.Err)
	}
	if busy.over() || strings.Contains(busy.said(), "error") {
		t.Errorf("%s: %v\n%s", busy.name, busy.err, busy.said())
	}
	w.flowing(writer)
	w.kept(writer)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("a session with PostgreSQL heard of it after %d rows: %v", rows.Load(), err)
	}
	if n, _ := strconv.ParseInt(w.sql("SELECT count(*) FROM upgraded"), 10, 64); n != rows.Load() || n == 0 {
		t.Errorf("%d rows were acknowledged, and %d are there", rows.Load(), n)
	}
	for name, id := range w.roles("postgres") {
		if servers[name] != id {
			t.Errorf("%s was %s, is %s", name, servers[name], id)
		}
	}
	if now, ok := lease.Read(leader.Paths.Page); !ok || now.Epoch != page.Epoch || now.Role != page.Role {
		t.Errorf("the page of %s says %+v, and before %+v", leader.Member, now, page)
	}
}

// runsNow says that the process runs what is at path now.
func runsNow(id process.ID, path string) bool {
	a, err := os.Stat("/proc/" + id.String() + "/exe")
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
