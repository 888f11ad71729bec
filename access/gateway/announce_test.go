package gateway

import (
	"context"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/mem"
	"howdah/spec"
)

// A gateway shows itself and the reign that it follows for as long as it runs.
func TestAGatewayAnnouncesItself(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) { n.Host = "10.10.10.11" })
	store := mem.Serve(mem.Etcd()).Open("/service/demo/")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.g.fronts[0].announce(ctx, store) }()
	shown := func() (g cluster.Gateway, lease dcs.LeaseID, ok bool) {
		r, err := store.Do(t.Context(), dcs.Request{Kind: dcs.Read})
		if err != nil {
			t.Fatal(err)
		}
		s := cluster.Parse(r.Snapshot.Revision, r.Snapshot.Keys)
		if len(s.Gateways) == 0 {
			return g, 0, false
		}
		return s.Gateways[0], r.Snapshot.Keys[cluster.DirGateways+s.Gateways[0].Host].Lease, true
	}
	if _, _, ok := shown(); ok {
		t.Error("it is there before it has seen the cluster")
	}
	follows := func(epoch int64) (lease dcs.LeaseID) {
		eventually(t, "the reign is shown", func() bool {
			g, id, ok := shown()
			lease = id
			return ok && g.Epoch == epoch && g.Node == w.g.node.Member && g.Listen == w.g.node.Gateway.Listen
		})
		return lease
	}
	w.see()
	lease := follows(7)
	if lease == 0 {
		t.Error("it would outlive the gateway")
	}
	// Its lease is lost: it is there again with the next word.
	if _, err := store.Do(t.Context(), dcs.Request{Kind: dcs.Revoke, Lease: lease}); err != nil {
		t.Fatal(err)
	}
	w.picture.Epoch = 8
	w.see()
	began := time.Now()
	if follows(8) == lease || time.Since(began) > 2*announceEvery {
		t.Error("it is not there with a new lease")
	}
	// What the leader says that it followed before is nothing new; the first answer of
	// the present one is.
	f := w.g.fronts[0]
	(&gate{always{}, 8, f}).pass()
	(&gate{always{}, 7, f}).pass()
	(&gate{never{}, 9, f}).pass()
	eventually(t, "the reign that answers clients is shown", func() bool {
		g, _, ok := shown()
		return ok && g.Served == 8 && g.Epoch == 8
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, _, ok := shown(); ok {
		t.Error("it is there after it has ended")
	}
}

type always struct{}

func (always) open(int64) bool          { return true }
func (always) changed() <-chan struct{} { return nil }
