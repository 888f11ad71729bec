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
		w.until("metrics of "+n.Member, func() bool { return strings.Contains(w.metrics(n), "\npg_up 1\n") })
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
		w.until("metrics of "+n.Member, func() bool { return strings.Contains(w.metrics(n), "\npg_in_recovery 1\n") })
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
	w.until("metrics of the leader", func() bool { return strings.Contains(w.metrics(leader), "\npg_in_recovery 0\n") })
	w.kept(writer)
}

// metrics is what 9630 of the node answers; "" for nothing. Tests stand outside
// the nodes' network, in front of the doors of the playground.
func (w *world) metrics(n spec.Node) string {
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	defer cancel()
	_, port, err := net.SplitHostPort(n.Jobs.Exporter)
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
