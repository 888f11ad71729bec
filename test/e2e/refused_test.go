package e2e

import (
	"strings"
	"testing"
	"time"

	"howdah/node/process"
)

// The leader lets the replicator in no more. Its standbys say so and stay as they are: none is
// stopped, none is put aside for a copy that nobody could make; let in again they stream.
func TestRefusedStandbysStay(t *testing.T) {
	byNight(t)
	w := demo(t)
	leader := w.Node(w.whole())
	at, servers := map[string]int{}, map[string]process.ID{}
	for _, n := range w.Nodes {
		servers[n.Member], at[n.Member] = w.role(n, "postgres"), len(w.agentLog(n))
	}
	mend := func() { w.super(leader, "set synchronous_commit = local; alter role replicator login") } // it would wait for who is refused
	w.super(leader, "set synchronous_commit = local; alter role replicator nologin")
	defer mend()
	w.super(leader, "select count(pg_terminate_backend(pid)) from pg_stat_replication")
	w.until("the standbys say that they are refused", func() bool {
		a, err := w.Run(w.ctx, "status")
		return err == nil && strings.Count(a.Out+a.Err, "source-refuses") > 0
	})
	w.pause(30 * time.Second)
	for _, n := range w.Nodes {
		if now := w.role(n, "postgres"); now != servers[n.Member] {
			t.Errorf("%s: PostgreSQL was started anew", n.Member)
		}
		if log := w.agentLog(n)[at[n.Member]:]; strings.Contains(log, "move aside") || n.Member != leader.Member && !strings.Contains(log, "source=refuses stuck=") {
			t.Errorf("%s was put aside, or does not say that it is refused", n.Member)
		}
		if got := w.asOwner(n, "postgres", "select 1"); got != "1" {
			t.Errorf("%s serves nobody: %q", n.Member, got)
		}
	}
	mend()
	writer := w.write()
	w.goesOn("a refused replicator", leader.Member, servers[leader.Member])
	w.kept(writer)
}
