package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/cluster"
	"howdah/dcs"
	"howdah/latest"
	"howdah/logkey"
	"howdah/spec"
)

// A front is one cluster's services on this node.
type front struct {
	spec.Front
	gateway *Gateway
	log     *slog.Logger
	table   *route.Table
	ports   []*port
	routes  latest.Value[[]route.Service] // one for each port

	mu   sync.Mutex // over what routes follow from
	view route.View

	own      *pooler.Door // the pool of this node's own server, if that is of the cluster
	draining draining
	standMu  sync.Mutex
	standing latest.Value[standing]
	served   atomic.Int64 // newest reign whose leader has answered a client since it was last away

	reader cluster.Reader
	blind  atomic.Bool // the watch is lost, and no snapshot came since
}

// follow keeps the routes equal to what the store says, until ctx ends.
func (f *front) follow(ctx context.Context, store dcs.Store) error {
	var snapshots latest.Value[dcs.Snapshot]
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_ = store.Watch(ctx, &snapshots, func(err error) { // it begins again by itself
			if f.blind.CompareAndSwap(false, true) { // once: it is tried again several times a second
				f.log.Warn("watch lost", logkey.Error, err)
			}
		})
	})
	var seen uint64
	for {
		snap, version, err := snapshots.Wait(ctx, seen)
		if err != nil {
			return nil
		}
		seen = version
		if f.blind.CompareAndSwap(true, false) {
			f.log.Info("store seen again")
		}
		f.see(cluster.PictureOf(f.reader.Parse(snap.Revision, snap.Keys)))
		f.restart(ctx, store, snap.Keys)
	}
}

// see takes up a new picture.
func (f *front) see(p cluster.Picture) {
	f.change(func(v *route.View) { v.Known, v.Picture = true, p })
	if !f.leads(p.Epoch) {
		f.served.Store(0) // its next answer ends an outage
	}
	f.stand(func(s *standing) { s.epoch = p.Epoch })
	f.drain(p)
}

// leads says that some service sends clients to the leader of epoch.
func (f *front) leads(epoch int64) bool {
	routes, _ := f.routes.Get()
	for _, s := range routes {
		if slices.ContainsFunc(s.Usable(), func(b route.Backend) bool { return b.Epoch == epoch }) {
			return true
		}
	}
	return false
}

// change alters what routes follow from, and brings all that hangs on them in
// line: first the routes, then the sessions that have no server any more.
func (f *front) change(alter func(*route.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	alter(&f.view)
	now := f.table.Routes(f.view)
	before, version := f.routes.Get()
	if version > 0 && slices.EqualFunc(before, now, sameRoutes) {
		return
	}
	f.routes.Set(now)
	for i, s := range now {
		if version == 0 || !sameRoutes(before[i], s) {
			p := f.ports[i]
			f.tell(p.name, s)
			p.follow(s)
		}
	}
}

func sameRoutes(a, b route.Service) bool {
	return a.Err == b.Err && slices.Equal(a.Backends, b.Backends)
}

// tell logs where a service leads now.
func (f *front) tell(name string, s route.Service) {
	if s.Err != "" {
		f.log.Error("selector failed", "service", name, logkey.Error, s.Err)
	}
	var to []string
	for _, b := range s.Usable() {
		to = append(to, b.Member)
	}
	var trail []string
	for _, b := range s.Backends {
		trail = append(trail, b.Member+": "+b.Trail)
	}
	f.log.Info("route", "service", name, "to", to, logkey.Trail, trail)
}
