package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/playground"
	"howdah/postgres"
	"howdah/spec"
)

// hostLost is how long a lost machine may keep everybody from writing in
// synchronous mode: its lease is not waited for. A busy machine takes longer, and
// the bound of the product is judged where nothing else runs (test/failover).
const hostLost = 4 * time.Second

// leased has the shared cluster wait for no standby until the test ends: a lost
// leader costs its lease, and what it had not sent.
func (w *world) leased() {
	w.t.Helper()
	w.howdah("edit-config", "--set", "synchronous_mode=off", "--yes")
	w.voters(0)
	w.until("the server still waits", func() bool { return w.sql("show synchronous_standby_names") == "" })
	w.t.Cleanup(func() {
		if !w.t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := w.Howdah(ctx, "edit-config", "--set", "synchronous_mode=quorum", "--yes")
			w.check(err)
		}
	})
}

// voters waits until so many standbys count.
func (w *world) voters(want int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d standbys count", want), func() bool {
		return strings.Count(w.howdah("list"), "Quorum Standby") == want
	})
}

// A lost machine costs no row that was acknowledged, and less than its lease.
func TestSynchronous(t *testing.T) {
	for _, tt := range []struct {
		fault  []string
		back   []string
		within time.Duration
		night  bool
	}{
		{fault: []string{"fault", "kill-node"}, back: []string{"fault", "start-node", "demo"}, within: hostLost},
		{fault: []string{"fault", "partition"}, back: []string{"fault", "heal", "demo"}, within: hostLost},
		{fault: []string{"fault", "freeze"}, back: []string{"fault", "thaw", "demo"}, within: hostLost, night: true},
	} {
		t.Run(tt.fault[len(tt.fault)-1], func(t *testing.T) {
			if tt.night {
				byNight(t)
			}
			w := demo(t)
			if tt.fault[1] == "freeze" {
				w.undo()
			}
			writer := w.write()
			leader := w.whole()
			began := time.Now()
			w.howdah(tt.fault...)
			w.flowing(writer)
			outage := writer.Longest(began, time.Now())
			t.Logf("%s without writes", outage.Round(time.Millisecond))
			if outage > tt.within {
				t.Errorf("%s without writes, want at most %s: the lease was waited for", outage, tt.within)
			}
			switch {
			case tt.back != nil && tt.back[1] == "start-node":
				w.howdah(append(tt.back, leader)...)
			case tt.back != nil:
				w.howdah(tt.back[:2]...)
			}
			w.whole()
			w.voters(2)
			w.flowing(writer)
			w.kept(writer)
		})
	}
}

// A lost standby leaves the set, and comes back; without any, commits wait.
func TestAVoterLeavesAndComesBack(t *testing.T) {
	w := demo(t)
	writer := w.write()
	var others []string
	for _, n := range w.Nodes {
		if n.Member != w.whole() {
			others = append(others, n.Member)
		}
	}
	w.howdah("fault", "kill-node", others[0])
	w.voters(1)
	w.flowing(writer)
	w.howdah("fault", "kill-node", others[1])
	began := time.Now()
	w.pause(3 * time.Second)
	for _, member := range others {
		w.howdah("fault", "start-node", "demo", member)
	}
	w.whole()
	w.voters(2)
	w.flowing(writer)
	if n := writer.Longest(began.Add(-time.Second), time.Now()); n < 2*time.Second {
		t.Errorf("rows were acknowledged without a standby: the longest time without was %s", n)
	}
	w.kept(writer)
}

// The agent of the primary is frozen, and its guard with it, while a client
// writes straight to the server; one voter was not told yet that there is to be
// another leader. Positions alone would elect the other one, and the old primary
// would go on to acknowledge with the first: pledges do not.
func TestFrozenAgentAndAVoterNotRepointed(t *testing.T) {
	w := demo(t)
	old := w.Node(w.whole())
	var late spec.Node
	for _, n := range w.Nodes {
		if n.Member != old.Member {
			late = n
		}
	}
	direct := w.straight(old)
	conn, err := pgconn.ConnectConfig(w.ctx, direct)
	w.check(err)
	defer conn.Close(context.Background())
	run := func(long time.Duration, sql string) error {
		ctx, cancel := context.WithTimeout(w.ctx, long)
		defer cancel()
		_, err := conn.Exec(ctx, sql).ReadAll()
		return err
	}
	w.check(run(10*time.Second, "DROP TABLE IF EXISTS straight; CREATE TABLE straight (n int)"))
	var frozen []func()
	freeze := func(n spec.Node, roles ...string) (thaw func()) {
		for _, role := range roles {
			id := w.role(n, role)
			w.kill(id, unix.SIGSTOP)
			frozen = append(frozen, func() { _ = id.Signal(unix.SIGCONT) })
		}
		mine := frozen[len(frozen)-len(roles):]
		return func() {
			for _, f := range mine {
				f()
			}
		}
	}
	t.Cleanup(func() {
		for _, f := range frozen {
			f()
		}
	})
	thawOld := freeze(old, "node", "agent")
	thawLate := freeze(late, "node", "agent")
	acknowledged := 0
	insert := func() bool {
		if run(time.Second, fmt.Sprintf("INSERT INTO straight VALUES (%d)", acknowledged+1)) != nil {
			return false
		}
		acknowledged++
		return true
	}
	for end := time.Now().Add(old.Agent.Timers.Lease + 3*time.Second); time.Now().Before(end); w.pause(10 * time.Millisecond) {
		if !insert() {
			break
		}
	}
	before := acknowledged
	thawLate()
	leads := func() string {
		members, err := w.List(w.ctx)
		w.check(err)
		for _, m := range members {
			if m.Role == "Leader" && m.State == "running" && m.Member != old.Member {
				return m.Member
			}
		}
		return ""
	}
	for blocked := false; leads() == ""; w.pause(10 * time.Millisecond) {
		blocked = blocked || !insert()
	}
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
	defer cancel()
	if again, err := pgconn.ConnectConfig(ctx, direct); err == nil {
		if _, err := again.Exec(ctx, "INSERT INTO straight VALUES (-1)").ReadAll(); err == nil {
			t.Errorf("%s acknowledged a row while %s leads", old.Member, leads())
		}
		_ = again.Close(context.Background())
	}
	thawOld()
	w.whole()
	w.voters(2)
	kept := w.sql("SELECT count(DISTINCT n) FROM straight WHERE n > 0")
	t.Logf("%d rows acknowledged straight at %s, %d of them before %s was told; %s kept", acknowledged, old.Member, before, late.Member, kept)
	if n, _ := strconv.Atoi(kept); n < acknowledged || acknowledged == 0 {
		t.Errorf("%d rows were acknowledged, and %s are there", acknowledged, kept)
	}
}

// straight is how a client connects to the server of n past every gateway.
func (w *world) straight(n spec.Node) *pgconn.Config {
	w.t.Helper()
	entries, err := w.Entries(w.ctx, "primary")
	w.check(err)
	c := entries[0].Copy()
	c.Host, c.Port, c.Fallbacks = playground.Door(n), uint16(n.Postgres.Port), nil
	return c
}

// A commit waits that no standby has, and its primary crashes. The server comes up
// where it was, and lets nobody see that commit, neither through a service nor
// straight at its port, before a standby has it; until then status says what waits
// for what.
func TestACrashShowsNothingUnconfirmed(t *testing.T) {
	w := demo(t)
	leader := w.Node(w.whole())
	w.sql("DROP TABLE IF EXISTS unseen; CREATE TABLE unseen (n int)")
	direct := w.straight(leader)
	conn, err := pgconn.ConnectConfig(w.ctx, direct)
	w.check(err)
	defer conn.Close(context.Background())
	var frozen []func()
	thaw := func() {
		for _, f := range slices.Backward(frozen) { // PostgreSQL first: its agent takes it for dead otherwise
			f()
		}
		frozen = nil
	}
	t.Cleanup(thaw)
	for _, n := range w.Nodes {
		if n.Member == leader.Member {
			continue
		}
		for _, role := range []string{"node", "agent"} {
			id := w.role(n, role)
			w.kill(id, unix.SIGSTOP)
			frozen = append(frozen, func() { _ = id.Signal(unix.SIGCONT) })
		}
		frozen = append(frozen, func() { _ = postgres.Thaw(n.Postgres.Data) })
		w.check(postgres.Freeze(n.Postgres.Data))
	}
	status := func() string {
		a, err := w.Run(w.ctx, "status")
		w.check(err)
		return a.Out
	}
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(w.ctx, "INSERT INTO unseen VALUES (1)").ReadAll()
		ended <- err
	}()
	w.until("status tells of the commit that waits", func() bool { return strings.Contains(status(), "[commits-waiting]") })
	before := w.role(leader, "postgres")
	w.howdah("fault", "kill-postgres", leader.Member)
	if err := <-ended; err == nil {
		t.Error("the row was acknowledged, and no standby had it")
	}
	refused := 0
	come := func() bool {
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		c, err := pgconn.ConnectConfig(ctx, direct)
		if err == nil {
			_ = c.Close(context.Background())
			return true
		}
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "28000" {
			refused++
		}
		return false
	}
	w.until("status tells that clients are shut out", func() bool {
		if come() {
			t.Fatalf("a client was let in, and no standby has what it finds\n%s", status())
		}
		return strings.Contains(status(), "[clients-shut-out]")
	})
	if refused == 0 || w.role(leader, "postgres") == before {
		t.Errorf("%d clients were refused by the server as it came up again", refused)
	}
	through := make(chan string, 1)
	go func() { // it waits until somebody is let in
		a, _ := w.Run(w.ctx, "psql", "--", "-AtX", "-c", "SELECT count(*) FROM unseen")
		through <- strings.TrimSpace(a.Out)
	}()
	thaw()
	if got := <-through; got != "1" {
		t.Errorf("through the service %q rows are seen, want 1", got)
	}
	w.whole()
	if !come() {
		t.Errorf("a client that connects straight is refused by a leader that is well")
	}
	w.voters(2)
}
