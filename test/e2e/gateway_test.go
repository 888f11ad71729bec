package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/node/process"
	"howdah/playground"
	"howdah/spec"
)

// through is how a client reaches a port of n's gateway.
func (w *world) through(n spec.Node, port int) *pgconn.Config {
	w.t.Helper()
	c, err := pgconn.ParseConfig(strings.TrimSpace(w.howdah("psql", "--print-url")))
	w.check(err)
	c.Host, c.Port, c.Fallbacks = playground.Door(n), uint16(port), nil
	c.ConnectTimeout = 20 * time.Second
	return c
}

// ask runs SQL through a port, and gives the first value of its last statement.
func ask(ctx context.Context, c *pgconn.Config, sql string) (string, error) {
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	got, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	return string(got[len(got)-1].Rows[0][0]), nil
}

// Every service of every node leads where it should.
func TestServicesOfEveryNode(t *testing.T) {
	w := demo(t)
	leader := w.Node(w.whole())
	for _, n := range w.Nodes {
		for port, replica := range map[int]bool{5433: false, 5434: true, 5436: false, 5438: true} {
			w.until(fmt.Sprintf("port %d of %s leads elsewhere", port, n.Member), func() bool {
				at, err := ask(w.ctx, w.through(n, port), "SELECT current_setting('listen_addresses')")
				return err == nil && (at != leader.Address) == replica
			})
		}
	}
	// One client after another of the replicas' pool: each comes to one of its own.
	w.until("clients of 5434, one after another, do not come to both replicas", func() bool {
		seen := map[string]bool{}
		for range 4 {
			at, err := ask(w.ctx, w.through(leader, 5434), "SELECT current_setting('listen_addresses')")
			seen[at] = err == nil
		}
		return len(seen) == 2 && !seen[leader.Address] && !seen[""]
	})
	for _, service := range []string{"primary", "replica", "default", "offline"} {
		w.howdah("psql", "--service", service, "--", "-AtXc", "SELECT 1")
	}
}

// heard is an acknowledged row: which server gave it, and when it was here.
type heard struct {
	server string
	at     time.Duration
}

// listener writes rows through one port of one node, and remembers who
// acknowledged them.
func (w *world) listener(ctx context.Context, c *pgconn.Config) (all func() []heard, wait func()) {
	var mu sync.Mutex
	var list []heard
	var done sync.WaitGroup
	done.Go(func() {
		var conn *pgconn.PgConn
		defer func() { hangUp(conn) }()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if conn == nil {
				conn, _ = pgconn.ConnectConfig(ctx, c) // tried again
			}
			if conn != nil {
				once, cancel := context.WithTimeout(ctx, 20*time.Second)
				r := conn.Exec(once, "INSERT INTO heard DEFAULT VALUES RETURNING current_setting('listen_addresses')")
				got, err := r.ReadAll()
				now := lease.Now()
				cancel()
				if err == nil {
					mu.Lock()
					list = append(list, heard{string(got[0].Rows[0][0]), now})
					mu.Unlock()
				} else {
					hangUp(conn)
					conn = nil
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return func() []heard {
		mu.Lock()
		defer mu.Unlock()
		return append([]heard(nil), list...)
	}, done.Wait
}

func hangUp(conn *pgconn.PgConn) {
	if conn != nil {
		conn.Conn().Close()
	}
}

// The agent of the primary freezes, and its guard with it: PostgreSQL goes on,
// and nobody tells it to stop. Through no gateway's 5433 or 5436 is a row
// acknowledged past the deadline, and none of the old primary's once another
// has acknowledged one.
func TestFrozenAgentThroughEveryGateway(t *testing.T) {
	for i := range *fences {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			w := demo(t)
			w.sql("CREATE TABLE IF NOT EXISTS heard (n bigserial, at timestamptz DEFAULT clock_timestamp())")
			leader := w.Node(w.whole())
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			writers := map[string]func() []heard{}
			for _, n := range w.Nodes {
				for _, port := range []int{5433, 5436} {
					all, wait := w.listener(ctx, w.through(n, port))
					defer wait()
					defer cancel()
					writers[n.Member+" "+strconv.Itoa(port)] = all
				}
			}
			for name, all := range writers {
				w.until("no rows through "+name, func() bool { return len(all()) > 20 })
			}
			var stopped []func()
			resume := func() {
				for _, f := range stopped {
					f()
				}
				stopped = nil
			}
			defer resume()
			for _, name := range []string{"node", "agent"} {
				id := w.role(leader, name)
				w.kill(id, unix.SIGSTOP)
				stopped = append(stopped, func() { _ = id.Signal(unix.SIGCONT) })
			}
			page, ok := lease.Read(leader.Paths.Page)
			if !ok || page.Role != lease.Primary {
				t.Fatalf("the lease page says %v, %v", page, ok)
			}
			for name, all := range writers {
				w.until("no rows of another primary through "+name, func() bool {
					list := all()
					return len(list) > 0 && list[len(list)-1].server != leader.Address
				})
			}
			first, last := time.Duration(1<<62), time.Duration(0)
			var who string
			for name, all := range writers {
				for _, h := range all() {
					switch {
					case h.at < page.Deadline-leader.Agent.Timers.Lease: // before all this
					case h.server == leader.Address && h.at > last:
						last, who = h.at, name
					case h.server != leader.Address:
						first = min(first, h.at)
					}
				}
			}
			t.Logf("the last row of %s %s before its deadline, through %s; the first of another %s after it",
				leader.Member, page.Deadline-last, who, first-page.Deadline)
			// A row is on its way for a moment, and this test is not always at work.
			if late := last - page.Deadline; late > 50*time.Millisecond {
				t.Errorf("a row of %s was acknowledged through %s %s after the deadline", leader.Member, who, late)
			}
			if last > first {
				t.Errorf("two primaries acknowledged rows for %s", last-first)
			}
			cancel()
			resume()
			w.whole()
		})
	}
}

// sockets is how many sockets a process holds.
func sockets(id process.ID) (n int) {
	dir := fmt.Sprintf("/proc/%d/fd", id.PID)
	all, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range all {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// A gateway that is killed, and a supervisor before it, refuse nobody: the
// sockets live on.
func TestGatewayKilled(t *testing.T) {
	w := demo(t)
	leader := w.Node(w.whole())
	n := w.Nodes[0]
	if n.Member == leader.Member {
		n = w.Nodes[1]
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	var mu sync.Mutex
	served, knocked, refused := 0, 0, []error(nil)
	c := w.through(n, 5433)
	done.Go(func() {
		for ctx.Err() == nil {
			_, err := ask(ctx, c, "SELECT 1")
			mu.Lock()
			if err == nil {
				served++
			}
			mu.Unlock()
		}
	})
	// Knocks from inside the node's network: a door would take the call itself.
	state, err := playground.Load(w.Dir)
	w.check(err)
	netns := ""
	if state.Ground == playground.Isolated {
		netns = filepath.Join(state.Run, "net", n.Member)
	}
	knock := func() error {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(n.Address, "5433"), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}
	done.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			ask := knock
			if netns != "" {
				ask = func() error { return process.InNet(netns, knock) }
			}
			err := ask()
			mu.Lock()
			if knocked++; err != nil {
				refused = append(refused, err)
			}
			mu.Unlock()
			<-tick.C
		}
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return served
	}
	flows := func(what string) {
		before := count()
		w.until(what, func() bool { return count() > before+5 })
	}
	flows("nobody is served")
	for _, role := range []string{"gateway", "gateway", "node", "gateway", "node", "gateway"} {
		before := w.role(n, role)
		kept := sockets(before)
		w.kill(before, unix.SIGKILL)
		killed := time.Now()
		w.until("no other "+role, func() bool {
			id := w.role(n, role)
			return id != before && id.Alive()
		})
		if role == "node" { // until it has the sockets, the gateway is the only one that keeps them
			w.until("the supervisor was given no sockets", func() bool { return sockets(w.role(n, role)) >= kept })
		}
		flows("nobody is served after " + role + " was killed")
		t.Logf("%s killed: served again after at most %s", role, time.Since(killed).Round(time.Millisecond))
	}
	cancel()
	done.Wait()
	t.Logf("%d knocks, %d clients served", knocked, served)
	if len(refused) > 0 || knocked == 0 {
		t.Errorf("%d of %d connections were refused: %v", len(refused), knocked, refused)
	}
}
