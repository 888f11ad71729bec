package e2e

import (
	"strings"
	"testing"

	"howdah/playground"
)

// Root too may stand on the loopback ground, where nodes have addresses of this
// machine and no network of their own: the same life, and the same failover.
func TestLoopbackGround(t *testing.T) {
	w := own(t)
	w.check(w.Up(w.ctx, "--ground", "loopback"))
	s, err := playground.Load(w.Dir)
	w.check(err)
	if s.Ground != playground.Loopback {
		t.Fatalf("it stands on %s", s.Ground)
	}
	writer := w.write()
	leader := w.Node(w.whole())
	if at := w.sql("select current_setting('listen_addresses')"); at != leader.Address || !strings.HasPrefix(at, "127.") {
		t.Errorf("the primary is at %s; want %s", at, leader.Address)
	}
	before, err := w.Page(w.ctx)
	w.check(err)
	w.howdah("fault", "kill-postgres")
	w.flowing(writer)
	w.whole()
	w.flowing(writer)
	page, err := w.Page(w.ctx)
	w.check(err)
	if page.Number == before.Number {
		t.Errorf("why still tells of change %d", page.Number)
	}
	w.kept(writer)
	w.refused("ground-fixed", "loopback", "up", "--yes", "--ground", "isolated")
	w.refused("ground-network", "loopback", "fault", "partition", "demo", leader.Member)
	w.howdah("fault", "stop-node")
	w.flowing(writer)
	w.howdah("fault", "start-node")
	w.whole()
	w.kept(writer)
	writer.Stop()
	w.howdah("down", "--yes")
	for _, id := range w.everything() {
		t.Errorf("%v is left", id.Args())
	}
	w.up()
	w.whole()
	w.kept(writer)
}
