package e2e

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/playground"
	"howdah/spec"
)

// What may wait is frozen on the leader and killed on the others, for longer
// than a lease: nobody else notices, and metrics are back.
func TestJobsFrozenAndKilled(t *testing.T) {
	w := demo(t)
	for _, n := range w.Nodes {
		for addr, line := range map[string]string{
			n.Jobs.Exporter: "pg_up 1", n.Pool.Exporter: "pgbouncer_up 1", n.Jobs.Backups: `pgbackrest_exporter_status{stanza="demo"} 1`,
			n.Jobs.Host: "node_procs_running ",
		} {
			w.until(line+" at "+addr+" of "+n.Member, func() bool { return strings.Contains(w.metrics(n, addr), "\n"+line) })
		}
	}
	leader := w.Node(w.whole())
	writer := w.write()
	before := w.roles(everyone...)
	w.kill(w.role(leader, "jobs"), unix.SIGSTOP)
	for _, n := range w.Nodes {
		if n.Member == leader.Member {
			continue
		}
		dead := w.role(n, "jobs")
		w.kill(dead, unix.SIGKILL)
		w.until("other jobs of "+n.Member, func() bool { return w.role(n, "jobs") != dead })
		w.until("metrics of "+n.Member, func() bool { return strings.Contains(w.metrics(n, n.Jobs.Exporter), "\npg_in_recovery 1\n") })
	}
	w.pause(leader.Agent.Timers.Lease + time.Second)
	w.flowing(writer)
	if now := w.whole(); now != leader.Member {
		t.Errorf("%s leads, %s did", now, leader.Member)
	}
	if after := w.roles(everyone...); !maps.Equal(before, after) {
		t.Errorf("processes were %v, are %v", before, after)
	}
	w.kill(w.role(leader, "jobs"), unix.SIGCONT)
	w.until("metrics of the leader", func() bool { return strings.Contains(w.metrics(leader, leader.Jobs.Exporter), "\npg_in_recovery 0\n") })
	w.kept(writer)
}

// metrics is what the node answers at addr; "" for nothing. Tests stand outside
// the nodes' network, in front of the doors of the playground.
func (w *world) metrics(n spec.Node, addr string) string {
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	_, port, err := net.SplitHostPort(addr)
	w.check(err)
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(playground.Door(n), port)+"/metrics", nil)
	w.check(err)
	r, err := http.DefaultClient.Do(ask)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}
