package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
)

// Nothing of the observation, broken as it may be, costs PostgreSQL or the leader key
// anything: under pgbench collectors hang on a locked catalog, a user's own collector
// sleeps without a limit and is asked again and again, and the store of metrics is
// frozen and killed. The same leader leads in the same epoch by the same processes, no
// transaction fails, and there are as many of them as before.
func TestObservationHarmsNothing(t *testing.T) {
	byNight(t)
	const lasts, most = 20 * time.Second, 4 // rounds, until one is not disturbed by whatever else the machine does
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	w.check(w.Up(w.ctx, "--observe"))
	if leader := w.Node(w.whole()); leader.Observe.On() { // what is frozen is on another host
		w.howdah("switchover")
	}
	leader := w.Node(w.whole())
	keeper := leader
	for _, n := range w.Nodes {
		if n.Observe.On() {
			keeper = n
		}
	}
	if out, err := w.pgbench(leader, 5433, "-i", "-q", "-s", "5").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	processes := w.roles(everyone...)
	page, ok := lease.Read(leader.Paths.Page)
	if !ok {
		t.Fatal("there is no lease page")
	}
	tps := func() float64 {
		t.Helper()
		out, err := w.pgbench(leader, 5433, "-n", "-N", "-c", "4", "-j", "2", "-T", strconv.Itoa(int(lasts.Seconds()))).CombinedOutput()
		m := regexp.MustCompile(`(?m)^tps = ([0-9.]+)`).FindSubmatch(out)
		if err != nil || m == nil || !strings.Contains(string(out), "number of failed transactions: 0 ") {
			t.Fatalf("pgbench: %v\n%s", err, out)
		}
		n, err := strconv.ParseFloat(string(m[1]), 64)
		w.check(err)
		return n
	}

	// A user's own file, with a collector that nobody ends.
	file := filepath.Join(w.Dir, "mine.yml")
	w.check(os.WriteFile(file, []byte("slow: { query: 'SELECT 1 AS x FROM pg_sleep(3600)', timeout: -1, metrics: [ { x: { usage: GAUGE } } ] }\n"), 0o644))
	c := w.through(leader, 5436)
	mine := exec.Command(w.Program, "pg_exporter", "--config", file, "--web.listen-address", "127.0.0.1:19630")
	mine.Env = append(os.Environ(), fmt.Sprintf("PG_EXPORTER_URL=postgres://%s:%s@%s:%d/%s", c.User, c.Password, c.Host, c.Port, c.Database))
	log, err := os.Create(filepath.Join(w.Dir, "mine.log"))
	w.check(err)
	defer log.Close()
	mine.Stdout, mine.Stderr = log, log
	w.check(mine.Start())
	t.Cleanup(func() { _ = mine.Process.Kill(); _ = mine.Wait() })
	asking, stop := context.WithCancel(w.ctx)
	defer stop()
	go func() {
		for asking.Err() == nil {
			within, done := context.WithTimeout(asking, time.Second)
			if r, err := http.NewRequestWithContext(within, http.MethodGet, "http://127.0.0.1:19630/metrics", nil); err == nil {
				if resp, err := http.DefaultClient.Do(r); err == nil {
					resp.Body.Close()
				}
			}
			done()
		}
	}()
	w.until("the collector that sleeps", func() bool {
		return w.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND wait_event = 'PgSleep'") == "1"
	})
	w.pause(5 * time.Second) // it was asked five times since
	if n := w.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"); n != "1" {
		t.Errorf("%s sessions sleep for one collector", n)
	}

	best := 0.0
	for range most {
		quiet := tps()
		// Collectors of every kind that ships ask these, and no client does.
		const mine = "WHERE mode = 'AccessExclusiveLock' AND relation = 'pg_subscription'::regclass AND granted"
		holds := w.owner(leader, "postgres", "BEGIN; LOCK TABLE pg_catalog.pg_subscription, pg_catalog.pg_publication IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)")
		w.check(holds.Start())
		w.until("the lock", func() bool { return w.sql("SELECT count(*) FROM pg_locks "+mine) == "1" })
		frozen := w.role(keeper, "observe")
		w.kill(frozen, unix.SIGSTOP)
		hurt := tps()
		if waits := w.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'pg_exporter'"); waits != "0" && waits != "1" && waits != "2" {
			t.Errorf("%s collectors wait for one lock", waits)
		}
		w.kill(frozen, unix.SIGKILL)
		w.super(leader, "SELECT pg_terminate_backend(pid) FROM pg_locks "+mine)
		_ = holds.Wait() // its session was ended
		w.until("another store of metrics", func() bool { return w.role(keeper, "observe") != frozen })
		after := tps()
		ratio := hurt / ((quiet + after) / 2)
		t.Logf("tps: %.0f quiet, %.0f with everything broken, %.0f afterwards: %.2f", quiet, hurt, after, ratio)
		if best = max(best, ratio); best >= 0.95 {
			break
		}
	}
	if best < 0.9 {
		t.Errorf("a broken observation costs %.0f %% of the transactions", 100*(1-best))
	}
	if now := w.roles(everyone...); !maps.Equal(now, processes) {
		t.Errorf("processes were %v, are %v", processes, now)
	}
	if now, ok := lease.Read(leader.Paths.Page); !ok || now.Epoch != page.Epoch || now.Role != page.Role {
		t.Errorf("the lease page was %+v, is %+v", page, now)
	}
	w.until("metrics of the leader", func() bool { return strings.Contains(w.metrics(leader, leader.Jobs.Exporter), "\npg_up 1\n") })
}
