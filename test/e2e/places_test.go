package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/playground"
	"howdah/spec"
	"howdah/test/outside"
)

// Two clusters change places, there and back, while the agents that lead them are killed at
// drawn moments: each change ends right, and every row that either acknowledged is in both.
func TestPlacesAreChangedWhileAgentsDie(t *testing.T) {
	byNight(t)
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 4*forTest)
	defer cancel()
	file := filepath.Join(t.TempDir(), "pigsty.yml")
	w.check(os.WriteFile(file, []byte(nearAndFar), 0o600))
	w.check(w.Up(w.ctx, file))
	draw := rand.New(rand.NewPCG(*chaosSeed, 4))
	rows := w.rows("pg-near", "pg-far")
	killed := 0

	down, up := "pg-near", "pg-far"
	for range 4 {
		rows.flow()
		stop := w.killAgents(draw.Uint64(), down, up)
		began := time.Now()
		w.until("it is not asked", func() bool {
			a, err := w.Run(w.ctx, "edit-config", down, "--set", "standby_cluster.host="+w.leads(up).Host, "--yes")
			return err == nil && a.Code == 0
		})
		w.until(down+" does not follow the other cluster", func() bool {
			a, err := w.Run(w.ctx, "status", down)
			return err == nil && strings.Contains(a.Out, ": a standby cluster")
		})
		lowered := time.Since(began)
		w.until("it is not asked", func() bool {
			a, err := w.Run(w.ctx, "edit-config", up, "--set", "standby_cluster=null", "--yes")
			return err == nil && a.Code == 0
		})
		rows.flow()
		n := stop()
		killed += n
		t.Logf("%s follows %s after %s, which takes writes after %s; %d agents were killed meanwhile", down, up,
			lowered.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), n)
		rows.flow()
		down, up = up, down
	}
	if killed < 8 {
		t.Errorf("%d agents were killed: nothing was tried", killed)
	}
	acknowledged := rows.stop()
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged: nothing was tried")
	}
	for _, name := range []string{up, down} {
		service := map[string]string{up: "replica", down: "primary"}[name] // after an even number of changes
		missing := len(acknowledged)
		w.until(name+" does not have every row", func() bool {
			out, err := w.Run(w.ctx, "psql", name, "--service", service, "--", "-AtX", "-d", "user=app password=a1 dbname=app", "-c", "select n from rows")
			has := map[string]bool{}
			for n := range strings.Lines(out.Out) {
				has[strings.TrimSpace(n)] = true
			}
			missing = 0
			for _, n := range acknowledged {
				if !has[strconv.Itoa(n)] {
					missing++
				}
			}
			if err == nil && missing > 0 && name == down {
				t.Fatalf("%d of %d acknowledged rows are not in %s, which writes", missing, len(acknowledged), name)
			}
			return err == nil && missing == 0
		})
	}
	t.Logf("%d rows, %d agents killed", len(acknowledged), killed)
}

// leads is the node of a cluster that holds its key.
func (w *world) leads(name string) (leader spec.Node) {
	w.t.Helper()
	w.until("nobody leads "+name, func() bool {
		out, err := w.Run(w.ctx, "list", name, "--json")
		var members []outside.Member
		if err != nil || json.Unmarshal([]byte(out.Out), &members) != nil {
			return false
		}
		for _, m := range members {
			if strings.HasSuffix(m.Role, "Leader") {
				leader = w.Node(m.Member)
			}
		}
		return leader.Member != ""
	})
	return leader
}

// killAgents kills the agents of two leaders at drawn moments.
func (w *world) killAgents(seed uint64, names ...string) (stop func() (killed int)) {
	w.t.Helper()
	draw := rand.New(rand.NewPCG(seed, 0))
	var nodes []spec.Node
	for _, name := range names {
		nodes = append(nodes, w.leads(name))
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done, killed := make(chan struct{}), 0
	go func() {
		defer close(done)
		for range 8 { // somebody has to be let finish
			if outside.Pause(ctx, time.Duration(draw.Int64N(int64(2*time.Second)))) != nil {
				return
			}
			if id, ok := outside.Process(nodes[draw.IntN(len(nodes))], "agent"); ok && id.Signal(unix.SIGKILL) == nil {
				killed++
			}
		}
	}()
	return func() int {
		cancel()
		<-done
		return killed
	}
}

// sent are rows that a client writes to whichever of several clusters takes them.
type sent struct {
	flow func()       // until some more are acknowledged
	stop func() []int // says which
}

func (w *world) rows(names ...string) sent {
	w.t.Helper()
	var doors []*pgconn.Config
	for _, n := range w.Nodes {
		if slices.Contains(names, n.Cluster) {
			c, err := pgconn.ParseConfig("user=app password=a1 dbname=app sslmode=prefer connect_timeout=2 port=5433 host=" + playground.Door(n))
			w.check(err)
			doors = append(doors, c)
		}
	}
	out, err := w.Run(w.ctx, "psql", names[0], "--service", "primary", "--", "-AtX", "-d", "user=app password=a1 dbname=app", "-c", "create table rows (n int primary key)")
	w.check(err)
	if out.Code != 0 {
		w.t.Fatalf("%s", out.Err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	var mu sync.Mutex
	var acknowledged []int
	go func() {
		defer close(done)
		n := 0
		for i := 0; ctx.Err() == nil; i++ {
			conn, err := pgconn.ConnectConfig(ctx, doors[i%len(doors)])
			for err == nil && ctx.Err() == nil {
				n++
				tried, cancel := context.WithTimeout(ctx, 2*time.Second)
				_, err = conn.Exec(tried, fmt.Sprintf("insert into rows values (%d)", n)).ReadAll()
				cancel()
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, n)
					mu.Unlock()
				}
				_ = outside.Pause(ctx, 5*time.Millisecond)
			}
			if conn != nil {
				_ = conn.Close(context.WithoutCancel(ctx))
			}
			_ = outside.Pause(ctx, 20*time.Millisecond)
		}
	}()
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	return sent{
		flow: func() {
			before := count()
			w.until("rows are not acknowledged", func() bool { return count() > before+20 })
		},
		stop: func() []int { cancel(); <-done; return acknowledged },
	}
}
