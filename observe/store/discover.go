package store

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/etcd"
	"howdah/latest"
	"howdah/logkey"
	"howdah/observe/target"
	"howdah/spec"
)

// discovery keeps the targets: those of the inventory, and what the stores of the
// clusters add to them.
type discovery struct {
	Options
	targets latest.Value[[]spec.Target]

	mu     sync.Mutex
	states map[string]cluster.State // by cluster
}

// settle is how long changes are gathered: a position is published every second,
// and is no reason to think about targets more often than they are asked.
const settle = 5 * time.Second

// Run watches every cluster until ctx ends.
func (d *discovery) Run(ctx context.Context) error {
	d.states = map[string]cluster.State{}
	d.targets.Set(target.Of(d.Node.Observe.Targets, nil))
	var wg sync.WaitGroup
	for _, c := range d.Node.Observe.Clusters {
		wg.Go(func() { d.watch(ctx, c) })
	}
	wg.Wait()
	<-ctx.Done() // also where there is no cluster, or none that can be watched
	return nil
}

func (d *discovery) watch(ctx context.Context, c spec.Observed) {
	store, err := etcd.OpenBase(d.Node, c.Namespace+"/"+c.Cluster+"/")
	if err != nil { // of its addresses or files: nothing that waiting mends
		d.Log.Error("cluster not watched", logkey.Cluster, c.Cluster, logkey.Error, err)
		return
	}
	defer store.Close()
	var snapshot latest.Value[dcs.Snapshot]
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = store.Watch(ctx, &snapshot, func(error) {}) // it begins again by itself; until then what was known stays
	})
	defer wg.Wait()
	for seen := uint64(0); ; {
		snap, version, err := snapshot.Wait(ctx, seen)
		if err != nil {
			return
		}
		seen = version
		d.mu.Lock()
		d.states[c.Cluster] = cluster.Parse(snap.Revision, snap.Keys)
		d.targets.Set(target.Of(d.Node.Observe.Targets, maps.Clone(d.states)))
		d.mu.Unlock()
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return
		}
	}
}

// serviceDiscovery tells the targets in the words of Prometheus's http_sd, for whoever
// runs one of its own. Until they are known it is an error: an empty list would have
// all of them forgotten.
func (s *Store) serviceDiscovery(w http.ResponseWriter, _ *http.Request) {
	targets, version := s.discovery.targets.Get()
	if version == 0 {
		http.Error(w, "no target is known yet", http.StatusServiceUnavailable)
		return
	}
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	all := []group{}
	for _, t := range targets {
		g := group{[]string{t.Address}, map[string]string{"job": t.Job, "cls": t.Cluster, "ins": t.Member, "ip": t.IP}}
		if t.TLS {
			g.Labels["__scheme__"] = "https"
		}
		all = append(all, g)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // a client that went away is no matter
}

// showLogged tells whose logs can be read, and where. They are told there to who has a
// certificate of ours.
func (s *Store) showLogged(w http.ResponseWriter, _ *http.Request) {
	all := s.Node.Observe.Logs
	if all == nil {
		all = []spec.Logged{}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // a client that went away is no matter
}
