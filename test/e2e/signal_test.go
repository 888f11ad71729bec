package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/playground"
	"howdah/postgres"
	"howdah/spec"
)

// Somebody who does not know of us stops a postmaster in each way that there is,
// while clients stay connected: it is back by itself, and nothing is lost.
func TestPostgresStoppedFromOutside(t *testing.T) {
	w := demo(t)
	writer := w.write() // a client that stays, on the primary
	for _, tt := range []struct {
		name    string
		signal  unix.Signal
		primary bool
		kinds   []string
	}{
		{"smart", unix.SIGTERM, true, []string{"restart", "crash"}},
		{"fast", unix.SIGINT, true, []string{"restart", "crash"}},
		{"immediate", unix.SIGQUIT, true, []string{"restart", "crash"}},
		{"smart, a standby", unix.SIGTERM, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{Cluster: w.Cluster, t: t, ctx: w.ctx}
			leader := w.whole()
			before, err := w.Page(w.ctx)
			w.check(err)
			n := w.Node(leader)
			if !tt.primary {
				var end func()
				n, end = w.read()
				defer end()
			}
			dead := w.role(n, "postgres")
			began := time.Now()
			w.kill(dead, tt.signal)
			w.until("the postmaster of "+n.Member+" ends", func() bool { return !dead.Alive() })
			ended := time.Since(began)
			w.whole()
			w.flowing(writer)
			t.Logf("%s ended after %s; %s without writes", n.Member, ended.Round(time.Millisecond),
				writer.Longest(began, time.Now()).Round(time.Millisecond))
			w.kept(writer)
			page, err := w.Page(w.ctx)
			w.check(err)
			if tt.primary { // a client may hear of it before the agent has told it
				w.until("why tells of it", func() bool {
					page, err = w.Page(w.ctx)
					return err != nil || page.Number != before.Number
				})
				w.check(err)
			}
			switch {
			case tt.primary && (page.Number == before.Number || !slices.Contains(tt.kinds, page.Kind)):
				t.Errorf("why tells of change %d, a %q; before it was %d; want a later one, of %v", page.Number, page.Kind, before.Number, tt.kinds)
			case !tt.primary && page.Number != before.Number:
				t.Errorf("why tells of a %s, which was not needed", page.Kind)
			}
		})
	}
}

// read connects a client to a replica that stays until it is cut off, and names
// the node it is on.
func (w *world) read() (on spec.Node, end func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	var done sync.WaitGroup
	done.Go(func() { _, _ = w.Run(ctx, "psql", "--service", "replica", "--", "-XAtc", "select pg_sleep(120)") })
	w.until("a client reads", func() bool {
		i := slices.IndexFunc(w.Nodes, func(n spec.Node) bool {
			all, _ := postgres.Processes(n.Postgres.Data)
			return slices.ContainsFunc(all, func(p postgres.Proc) bool {
				title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
				return strings.Contains(string(title), "SELECT") && !strings.Contains(string(title), "postgres postgres ") // not one of ours, who look
			})
		})
		if i >= 0 {
			on = w.Nodes[i]
		}
		return i >= 0
	})
	return on, func() { cancel(); done.Wait() }
}

// The keeper ends alone, in each way: the nodes live on, and up finds them as
// they are.
func TestKeeperEnds(t *testing.T) {
	w := demo(t)
	keeper := func() process.ID {
		var id process.ID
		w.until("there is a keeper", func() (ok bool) {
			id, ok = process.WithArgs(playground.KeeperArgs(w.Dir)...)
			return ok
		})
		return id
	}
	before := w.roles(everyone...)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL} {
		dead := keeper()
		w.kill(dead, sig)
		w.until("the keeper ends", func() bool { return !dead.Alive() })
		if after := w.roles(everyone...); !maps.Equal(before, after) {
			t.Errorf("after %s processes were %v, are %v", unix.SignalName(sig), before, after)
		}
		w.up()
		w.whole()
	}
	if after := w.roles(everyone...); !maps.Equal(before, after) {
		t.Errorf("processes were %v, are %v", before, after)
	}
	w.kept(w.write())
}

// Somebody moves the data directory away from under the primary, which would go
// on for up to a minute: it is ended before anybody else leads, and the node
// takes a fresh copy.
func TestDataDirectoryRenamed(t *testing.T) {
	w := demo(t)
	writer := w.write()
	leader := w.Node(w.whole())
	old := w.role(leader, "postgres")
	away := leader.Postgres.Data + ".away"
	w.check(os.Rename(leader.Postgres.Data, away))
	t.Cleanup(func() { os.RemoveAll(away) })
	w.until("somebody else leads, or it is seen", func() bool {
		members, err := w.List(w.ctx)
		if err != nil {
			return false
		}
		for _, m := range members {
			if m.Role == "Leader" && m.Member != leader.Member {
				if old.Alive() {
					t.Errorf("%s leads while the server of %s lives", m.Member, leader.Member)
				}
				return true
			}
		}
		return false
	})
	w.whole()
	w.flowing(writer)
	if _, err := os.Stat(leader.Postgres.Data); err != nil {
		t.Errorf("no fresh copy: %v", err)
	}
}
