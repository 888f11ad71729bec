package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/spec"
)

// Gateways are restarted under load, and nobody notices: neither pgbench in every protocol,
// through pools and as untouched bytes, nor who has said nothing for a while. The supervisor
// takes the successors over: one that is killed is started again.
func TestNobodyNoticesARestartOfAGateway(t *testing.T) {
	w := demo(t)
	leader := w.Node(w.whole())
	if out, err := w.pgbench(leader, 5433, "-i", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	type idle struct {
		name string
		conn *pgconn.PgConn
	}
	var sessions []idle
	sit := func(n spec.Node, port int, encrypted bool) {
		c := w.through(n, port)
		name := fmt.Sprintf("%s:%d clear", n.Member, port)
		if encrypted {
			name = fmt.Sprintf("%s:%d TLS", n.Member, port)
		} else {
			c.TLSConfig, c.Fallbacks = nil, nil
		}
		conn, err := pgconn.ConnectConfig(w.ctx, c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		if _, err := conn.Prepare(w.ctx, "mine", "SELECT 1", nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sessions = append(sessions, idle{name, conn})
	}
	for _, n := range w.Nodes[:2] {
		for _, port := range []int{5433, 5434, 5436, 6432} {
			for range 3 {
				sit(n, port, w.through(n, port).TLSConfig != nil) // where TLS is asked for nobody comes in without
			}
		}
	}
	long := 20 * time.Second
	if byDay() {
		long = 10 * time.Second
	}
	var all []*bench
	for j, protocol := range []string{"simple", "extended", "prepared"} {
		all = append(all, w.bench(w.Nodes[j], 5433, protocol, writes, long))
	}
	all = append(all, w.bench(leader, 5436, "prepared", writes, long), w.bench(leader, 6432, "extended", writes, long),
		w.bench(w.Nodes[1], 5434, "prepared", reads, long))
	for _, b := range all {
		w.until("no transactions through "+b.name, func() bool { return strings.Contains(b.said(), "progress:") })
	}
	before := w.roles("gateway")
	out := w.howdah("restart", "gateway", "--yes")
	t.Log(out)
	if n := strings.Count(out, "restarted in"); n != len(w.Nodes) {
		t.Errorf("%d gateways were restarted:\n%s", n, out)
	}
	for _, b := range all {
		select {
		case <-b.ended:
		case <-w.ctx.Done():
			t.Fatalf("%s does not end: %s", b.name, b.said())
		}
		n, longest := b.done()
		t.Logf("%s: %d transactions, the longest %s", b.name, n, longest)
		if out := b.said(); b.err != nil || !strings.Contains(out, "number of failed transactions: 0 ") {
			t.Errorf("%s: %v\n%s", b.name, b.err, out)
		}
	}
	for _, s := range sessions {
		r := s.conn.ExecPrepared(w.ctx, "mine", nil, nil, nil).Read()
		if r.Err != nil || len(r.Rows) != 1 {
			t.Errorf("%s: %v", s.name, r.Err)
		}
	}
	for _, n := range w.Nodes {
		old := before[n.Member+" gateway"]
		w.until("the predecessor on "+n.Member+" is still there", func() bool { return !old.Alive() })
		w.until("the supervisor of "+n.Member+" has not taken the successor over", func() bool {
			id, ok := node.RoleFile(n, "gateway").Read()
			return ok && id != old && id.Alive()
		})
	}
	n := w.Nodes[0]
	heir := w.role(n, "gateway")
	w.kill(heir, unix.SIGKILL)
	w.until("nobody serves after the successor was killed", func() bool {
		_, err := ask(w.ctx, w.through(n, 5433), "SELECT 1")
		return err == nil && w.role(n, "gateway") != heir
	})
	w.whole()
}
