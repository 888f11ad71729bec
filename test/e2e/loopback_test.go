package e2e

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/etcd"
	"howdah/latest"
	"howdah/playground"
	"howdah/test/outside"
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
	w.strangers(writer)
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

// Whoever writes over the leader key by hand ends no reign: who leads puts it right,
// and PostgreSQL goes on.
func (w *world) strangers(writer *outside.Writer) {
	leader := w.whole()
	server := w.role(w.Node(leader), "postgres")
	other := ""
	for _, n := range w.Nodes {
		if n.Member != leader {
			other = n.Member
		}
	}
	store, err := etcd.OpenNode(w.Node(leader))
	w.check(err)
	defer store.Close()
	var snapshots latest.Value[dcs.Snapshot]
	go func() { _ = store.Watch(w.ctx, &snapshots, func(error) {}) }()
	for _, value := range []string{"stranger", "", leader, other, "\x00\n'\""} {
		begun := time.Now()
		put, err := store.Do(w.ctx, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(cluster.KeyLeader, value, 0)}})
		w.check(err)
		w.until("the key is the leader's again", func() bool {
			s, _ := snapshots.Get()
			key := s.Keys[cluster.KeyLeader]
			return key.Mod > put.Revision && key.Lease != 0 && string(key.Value) == leader
		})
		w.flowing(writer)
		w.t.Logf("%q in the leader key: %s without writes", value, writer.Longest(begun, time.Now()).Round(time.Millisecond))
		w.goesOn(strconv.Quote(value)+" in the leader key", leader, server)
	}
}
