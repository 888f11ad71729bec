package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/postgres"
	"howdah/spec"
)

// Every fault on the primary, under a writer. Where commits wait for nobody, a node
// that loses its power may take rows along that no replica had; whatever it takes,
// why says so.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		fault       string
		back, lease bool
		kinds       string
	}{
		{fault: "kill-postgres", kinds: "crash restart"},
		{fault: "kill-agent"},
		{fault: "stop-node", back: true, kinds: "switchover"},
		{fault: "kill-node", back: true, kinds: "crash"},
		{fault: "kill-node", back: true, lease: true, kinds: "crash"},
	} {
		name := tt.fault
		if tt.lease {
			name += ", nobody waits"
		}
		t.Run(name, func(t *testing.T) {
			w := demo(t)
			if tt.lease {
				w.leased()
			}
			writer := w.write()
			leader := w.whole()
			before, err := w.Page(w.ctx)
			w.check(err)
			began := time.Now()
			w.howdah("fault", tt.fault)
			w.flowing(writer)
			outage := writer.Longest(began, time.Now())
			if lease := w.Nodes[0].Agent.Timers.Lease; tt.lease && outage < lease-2*time.Second {
				t.Errorf("%s without writes: the lease of %s was not waited for", outage, lease)
			}
			if tt.back {
				w.howdah("fault", "start-node", "demo", leader)
			}
			w.whole()
			w.flowing(writer)
			_, lost, err := writer.Check(w.ctx)
			w.check(err)
			page, err := w.Page(w.ctx)
			w.check(err)
			switch {
			case tt.kinds == "" && page.Number != before.Number:
				t.Errorf("why tells of a %s, which was not needed", page.Kind)
			case tt.kinds != "" && (page.Number == before.Number || !strings.Contains(tt.kinds, page.Kind)):
				t.Errorf("why tells of change %d, a %q; before it was %d; want a later one, %s", page.Number, page.Kind, before.Number, tt.kinds)
			}
			if told := time.Duration(page.Outage * float64(time.Millisecond)); tt.kinds != "" {
				t.Logf("%s without writes, why tells of %s: %s", outage.Round(time.Millisecond), told.Round(time.Millisecond), page.Reason[0])
				if off := (outage - told).Abs(); off > 400*time.Millisecond+outage/4 { // on a busy machine client and agents may be late
					t.Errorf("%s without writes, and why tells of %s", outage, told)
				}
			}
			if lost > 0 && !tt.lease {
				t.Errorf("%d acknowledged rows are lost", lost)
			}
			if lost > 0 && (page.LostBytes == nil || *page.LostBytes == 0) {
				t.Errorf("%d acknowledged rows are lost, and why does not know", lost)
			}
		})
	}
}

// A supervisor is killed: what it ran lives on, and its successor adopts it.
func TestSupervisorKilled(t *testing.T) {
	w := demo(t)
	writer := w.write()
	before := w.roles("etcd", "agent", "postgres")
	for _, n := range w.Nodes {
		dead := w.role(n, "node")
		w.kill(dead, unix.SIGKILL)
		w.until("another supervisor of "+n.Member, func() bool { return w.role(n, "node") != dead })
	}
	w.flowing(writer)
	w.whole()
	for name, id := range w.roles("etcd", "agent", "postgres") {
		if before[name] != id {
			t.Errorf("%s was %s, is %s", name, before[name], id)
		}
	}
	w.kept(writer)
}

// Each role is ended in each way; somebody starts it again, and all is well.
func TestEveryProcessEnds(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL} {
		for _, role := range []string{"etcd", "agent", "node"} {
			t.Run(role+" "+unix.SignalName(sig), func(t *testing.T) {
				if sig != unix.SIGKILL {
					byNight(t)
				}
				w := demo(t)
				writer := w.write()
				n := w.Node(w.whole())
				dead := w.role(n, role)
				w.kill(dead, sig)
				w.until("another "+role+" of "+n.Member, func() bool { return !dead.Alive() && w.role(n, role) != dead })
				w.whole()
				w.flowing(writer)
				w.kept(writer)
			})
		}
	}
}

// Everything dies at once, the keeper included: up brings the same data back.
func TestEverythingKilled(t *testing.T) {
	w := demo(t)
	writer := w.write()
	writer.Stop()
	system := w.sql("select system_identifier from pg_control_system()")
	w.until("all are dead", func() bool {
		all := w.everything()
		for _, id := range all {
			_ = id.Signal(unix.SIGKILL) // it may have died with another
		}
		return len(all) == 0
	})
	w.up()
	w.whole()
	w.kept(writer)
	if now := w.sql("select system_identifier from pg_control_system()"); now != system {
		t.Errorf("system identifier was %s, is %s", system, now)
	}
}

// All but one node die, and the keeper: down ends soon all the same, and what
// still runs ends in good order.
func TestDownWithoutMajority(t *testing.T) {
	w := demo(t)
	leader := w.whole()
	left := w.Node(leader)
	w.until("only "+leader+" is left", func() bool {
		dead := true
		own, _ := postgres.Processes(left.Postgres.Data)
		for _, id := range w.everything() {
			if strings.Contains(strings.Join(id.Args(), " "), left.Paths.Dir) ||
				slices.ContainsFunc(own, func(p postgres.Proc) bool { return p.PID == id.PID }) {
				continue
			}
			dead = false
			_ = id.Signal(unix.SIGKILL)
		}
		return dead
	})
	began := time.Now()
	w.howdah("down", "--yes")
	// Without waiting for what an agent that reaches its store is given, a minute.
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, id := range w.everything() {
		t.Errorf("%v is left", id.Args())
	}
	// On a machine so busy that the lease ended first, a server that may not answer is not shut down but killed.
	said, _ := os.ReadFile(filepath.Join(left.Paths.Log, "agent.log"))
	late := strings.Contains(string(said), "fence=frozen stopping")
	if s := w.run(filepath.Join(left.Postgres.Bin, "pg_controldata"), left.Postgres.Data); !late && !strings.Contains(s, "shut down") {
		t.Errorf("%s was not shut down:\n%s", leader, s)
	}
	w.up()
	w.whole()
}

// hang stops members of the store until the function that it returns is called: the
// two that are not the leader's, or all.
func (w *world) hang(leader spec.Node, all bool) (thaw func()) {
	var ids []process.ID
	for _, n := range w.Nodes {
		if all || n.Member != leader.Member {
			id := w.role(n, "etcd")
			w.kill(id, unix.SIGSTOP)
			w.t.Cleanup(func() { _ = id.Signal(unix.SIGCONT) })
			ids = append(ids, id)
		}
	}
	return func() {
		for _, id := range ids {
			w.kill(id, unix.SIGCONT)
		}
	}
}

// The store is gone for three leases. As long as the others give their word that nobody takes over,
// the primary goes on: in quorum mode one of two is enough, in lease mode all are asked.
func TestStoreGone(t *testing.T) {
	w := demo(t)
	for _, mode := range []string{"quorum", "lease"} {
		t.Run(mode, func(t *testing.T) {
			w := *w
			w.t = t
			w.begin()
			if mode == "lease" {
				w.leased()
			}
			writer := w.write()
			leader := w.Node(w.whole())
			server := w.role(leader, "postgres")
			thaw := w.hang(leader, true)
			began := time.Now()
			w.pause(2 * leader.Agent.Timers.Lease)
			w.refused("store-unreachable", leader.Member+" leads without it, by the word of", "status")
			w.pause(3*leader.Agent.Timers.Lease - time.Since(began))
			thaw()
			w.flowing(writer)
			longest := writer.Longest(began, time.Now())
			t.Logf("all of etcd stopped for %s: %s without writes", 3*leader.Agent.Timers.Lease, longest.Round(time.Millisecond))
			if longest > leader.Agent.Timers.Lease/2 {
				t.Errorf("%s without writes", longest)
			}
			w.goesOn("a store that was gone", leader.Member, server)
			w.kept(writer)
		})
	}
}

// A majority of the store hangs for longer than the lease, and nobody is asked for his word: the
// primary may not answer, nobody else leads, and nothing is lost when the store is back.
func TestStoreWithoutMajority(t *testing.T) {
	w := demo(t)
	w.howdah("edit-config", "--set", "failsafe_mode=false", "--yes")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := w.Howdah(ctx, "edit-config", "--set", "failsafe_mode=null", "--yes")
		w.check(err)
	})
	writer := w.write()
	leader := w.Node(w.whole())
	thaw := w.hang(leader, false)
	began := time.Now()
	w.until("the primary is frozen or gone", func() bool { return silent(leader) })
	t.Logf("a majority of the store hung; the primary was silent after %s", time.Since(began).Round(time.Millisecond))
	for time.Since(began) < 3*leader.Agent.Timers.Lease/2 {
		w.pause(100 * time.Millisecond)
		for _, n := range w.Nodes {
			if !silent(n) && !standby(n) {
				t.Fatalf("%s answers as a primary without a store", n.Member)
			}
		}
	}
	thaw()
	w.whole()
	w.flowing(writer)
	w.kept(writer)
}
