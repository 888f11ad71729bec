package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/node"
	"howdah/node/process"
	"howdah/spec"
	"howdah/test/outside"
	"howdah/test/volume"
)

var busy = flag.Duration("busy", 10*time.Minute, "how long TestNothingOfABusyMachine loads a cluster")

// steady writes through the service of the primary on one connection after another, and
// keeps every error: it tries nothing again. Waiting is no error.
func (w *world) steady() (stop func() (rows int, errs []error)) {
	w.t.Helper()
	w.sql("create table if not exists steady (n int)")
	hosts, err := w.Entries(w.ctx, "primary")
	w.check(err)
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	rows, errs := 0, []error(nil)
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			conn, err := pgconn.ConnectConfig(ctx, hosts[i%len(hosts)])
			for range 50 {
				if err != nil || ctx.Err() != nil {
					break
				}
				_, err = conn.Exec(ctx, "insert into steady values (1)").ReadAll()
				rows++
			}
			if err != nil && ctx.Err() == nil {
				errs = append(errs, fmt.Errorf("after %d rows: %w", rows, err))
			}
			if conn != nil {
				conn.Close(context.WithoutCancel(ctx))
			}
		}
	}()
	return func() (int, []error) {
		cancel()
		<-done
		return rows, slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })
	}
}

// Nothing happens when it should not: no failover, no crash recovery, no statement that
// fails. What waits may wait.
func TestNothingHappens(t *testing.T) {
	byNight(t)
	const hung = 10 * time.Second
	for _, tt := range []struct {
		name string
		do   func(w *world, leader string) (undo func())
		long time.Duration
		mode string // "off": commits wait for nobody
	}{
		{"jobs of the primary hang", func(w *world, leader string) func() { return w.hangRole(leader, "jobs") }, hung, ""},
		{"the agent of the primary hangs", func(w *world, leader string) func() { return w.hangAgent(leader) }, hung, ""},
		{"the agent of a replica hangs", func(w *world, _ string) func() { return w.hangAgent(w.replica().Member) }, hung, ""},
		{"the leader of etcd hangs", func(w *world, _ string) func() {
			return w.hangRole(w.storeLeader(), "etcd")
		}, hung, ""},
		{"30 % of the primary's packets are lost", func(w *world, leader string) func() {
			w.howdah("fault", "slow", leader, "--loss", "30%")
			return func() { w.howdah("fault", "heal") }
		}, 30 * time.Second, ""},
		{"the machine of the primary stands still in lease mode", func(w *world, leader string) func() {
			w.howdah("fault", "freeze", leader)
			return func() { w.howdah("fault", "thaw") }
		}, 3 * time.Second, "off"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := isolated(t)
			if tt.mode == "off" {
				w.leased()
			}
			w.unmoved(func(leader string) {
				undo := tt.do(w, leader)
				w.pause(tt.long)
				undo()
			})
		})
	}
}

// The store of metrics hangs for 10 s.
func TestNothingOfObserve(t *testing.T) {
	byNight(t)
	w := own(t)
	w.check(w.Up(w.ctx, "--observe"))
	i := slices.IndexFunc(w.Nodes, func(n spec.Node) bool { return n.Observe.On() })
	w.unmoved(func(string) {
		undo := w.hangRole(w.Nodes[i].Member, "observe")
		w.pause(10 * time.Second)
		undo()
	})
}

// The disks of two members of etcd stand still for 3 s, that of its leader among them.
func TestNothingOfTheStoresDisks(t *testing.T) {
	byNight(t)
	var unmount func()
	t.Cleanup(func() { // once the cluster is no more
		if unmount != nil {
			unmount()
		}
	})
	w := own(t)
	w.up()
	w.whole()
	unmount = w.disks(func(n spec.Node) string { return n.Etcd.Data })
	for _, mode := range []string{"quorum", "lease"} {
		t.Run(mode, func(t *testing.T) {
			w := *w
			w.t = t
			w.begin()
			if mode == "quorum" {
				w.voters(2)
			} else {
				w.leased()
			}
			for i := range 2 { // with each of those that do not lead the store
				w.unmoved(func(string) { w.stall(i) })
			}
		})
	}
}

// stall lets the disks of the leader of etcd and of one of its followers stand still for 3 s.
func (w *world) stall(follower int) {
	w.t.Helper()
	first := w.storeLeader()
	others := slices.DeleteFunc(slices.Clone(w.Nodes), func(n spec.Node) bool { return n.Member == first })
	for _, dir := range []string{w.Node(first).Etcd.Data, others[follower].Etcd.Data} {
		w.check(volume.Hang(dir))
		w.t.Cleanup(func() { _ = volume.Resume(dir) })
		defer func() { w.check(volume.Resume(dir)) }()
	}
	over := time.Now().Add(3 * time.Second)
	ctx, cancel := context.WithDeadline(w.ctx, over)
	defer cancel()
	if a, err := w.Run(ctx, "edit-config", "--set", fmt.Sprintf("howdah.drain=%ds", 3+follower), "--yes"); err == nil && a.Code == 0 {
		w.t.Error("the store took a write on one disk of three")
	}
	w.pause(time.Until(over))
}

// 64 clients at full speed, beside one base backup after another.
func TestNothingOfABusyMachine(t *testing.T) {
	byNight(t)
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), *busy+2*forTest)
	defer cancel()
	w.up()
	leader := w.Node(w.whole())
	w.voters(2)
	if out, err := w.pgbench(leader, 5433, "-i", "-q", "-s", "20").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.unmoved(func(string) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			out, err := w.pgbench(leader, 5433, "-n", "-c", "64", "-j", "2", "-T", strconv.Itoa(int(busy.Seconds()))).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "number of failed transactions: 0 ") {
				t.Errorf("pgbench: %v", err)
			}
			t.Logf("%s", out)
		}()
		for backups := 0; ; backups++ {
			select {
			case <-ended:
				t.Logf("%d backups meanwhile", backups)
				return
			default:
				w.howdah("backup", "--type", "full")
			}
		}
	})
}

// unmoved does something, after which the same server leads as before, in the same term,
// and no statement has failed.
func (w *world) unmoved(do func(leader string)) {
	w.t.Helper()
	leader := w.whole()
	before, err := w.Page(w.ctx)
	w.check(err)
	began := w.sql("select pg_postmaster_start_time()")
	stop := w.steady()
	do(leader)
	w.pause(time.Second)
	rows, errs := stop()
	w.t.Logf("%d rows", rows)
	for _, err := range errs {
		w.t.Errorf("a statement failed: %v", err)
	}
	if now := w.whole(); now != leader {
		w.t.Errorf("%s leads, it was %s", now, leader)
	}
	after, err := w.Page(w.ctx)
	w.check(err)
	if after.Number != before.Number {
		w.t.Errorf("why tells of a %s, which was not needed", after.Kind)
	}
	if now := w.sql("select pg_postmaster_start_time()"); now != began {
		w.t.Errorf("PostgreSQL was started at %s, before at %s", now, began)
	}
}

// hangRole stops a role of a member.
func (w *world) hangRole(member, role string) (undo func()) {
	w.t.Helper()
	id := w.role(w.Node(member), role)
	w.kill(id, unix.SIGSTOP)
	w.t.Cleanup(func() { _ = id.Signal(unix.SIGCONT) })
	return func() { w.kill(id, unix.SIGCONT) }
}

// hangAgent stops an agent, and sees that another takes its place.
func (w *world) hangAgent(member string) (undo func()) {
	w.t.Helper()
	n := w.Node(member)
	id, hung := w.role(n, "agent"), time.Now()
	w.kill(id, unix.SIGSTOP)
	w.t.Cleanup(func() { _ = id.Signal(unix.SIGCONT) })
	w.until("another agent", func() bool { now, ok := outside.Process(n, "agent"); return ok && now != id })
	w.t.Logf("another agent after %s", time.Since(hung).Round(time.Millisecond))
	return func() {}
}

// holdAgents stops every agent of a member that is started from now on, before its first
// turn, until the function that it returns is called: that lets go on whoever is stopped.
func (w *world) holdAgents(n spec.Node) (release func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			id, ok := node.RoleFile(n, "agent").Read()
			if st, there := process.Look(id.PID); ok && there && !st.Frozen() {
				_ = id.Signal(unix.SIGSTOP)
			}
			_ = outside.Pause(ctx, 2*time.Millisecond)
		}
	}()
	release = func() {
		cancel()
		<-done
		if id, ok := node.RoleFile(n, "agent").Read(); ok {
			_ = id.Signal(unix.SIGCONT)
		}
	}
	w.t.Cleanup(release)
	return release
}

// storeLeader is the member that leads etcd.
func (w *world) storeLeader() (leader string) {
	w.t.Helper()
	w.until("nobody leads etcd", func() bool {
		var members []struct {
			Name  string `json:"name"`
			Leads bool   `json:"leads"`
		}
		if json.Unmarshal([]byte(w.howdah("etcd", "status", "--json")), &members) != nil {
			return false
		}
		for _, m := range members {
			if m.Leads {
				leader = m.Name
			}
		}
		return leader != ""
	})
	return leader
}
