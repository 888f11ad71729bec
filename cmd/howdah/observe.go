package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"howdah/control"
	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/observe/console"
	"howdah/observe/loki"
	"howdah/observe/store"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// runObserve keeps the metrics of all clusters that the node knows. It sees them
// as `howdah status` does.
func runObserve(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	if !n.Observe.On() {
		return &problem.Error{
			Code: "observe-elsewhere", What: "cannot keep metrics on " + n.Member, Why: "this node is not to",
			Do: "`howdah up --observe` has the first node of a playground keep them",
		}
	}
	clusters, err := control.Watch(n)
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range clusters {
			c.Close()
		}
	}()
	logs, err := control.WatchLogs(n)
	if err != nil {
		return err
	}
	s, err := store.Open(store.Options{
		Node: n, Version: built().Version, Log: logger(n), Logs: loki.Handler(logs, logger(n)),
		Facts: func(ctx context.Context) []byte { return facts(ctx, clusters, n.Observe.Clusters) },
	})
	if err != nil {
		return err
	}
	parts := []lifecycle.Part{{Name: "store", Run: s.Run, Grace: 8 * time.Second}}
	if n.Observe.Console != "" {
		page := consolePart(n, clusters, s, logs)
		parts = append(parts, lifecycle.Again(page, func(name string, err error, pause time.Duration) {
			logger(n).Error("part ended", "part", name, logkey.Error, err, "again_in", pause)
		}))
	}
	return errors.Join(lifecycle.Run(ctx, parts...), s.Close())
}

// consolePart is the page for people. Without its password nobody comes in, and
// the store keeps what it keeps.
func consolePart(n spec.Node, clusters []*control.Cluster, s *store.Store, logs control.ObservedLogs) lifecycle.Part {
	return lifecycle.Part{Name: "console", Grace: 2 * time.Second, Run: func(ctx context.Context) error {
		secrets, err := nodefile.Secrets(spec.Node{Cluster: n.Cluster, Paths: spec.Paths{Secrets: n.Observe.Secrets}})
		if err != nil {
			return err
		}
		looked := map[string]console.Looked{}
		for _, c := range clusters {
			looked[c.Name] = c
		}
		o := console.Options{
			Clusters: looked, Metrics: s.Handler(), Password: secrets[spec.SecretConsole], Operator: secrets[spec.SecretOperator], Logs: logs,
			Orders:  func(of console.Looked, by string) console.Ordered { return of.(*control.Cluster).As(by) }, // the only ones that are looked at
			Version: built().Version, Log: logger(n),
		}
		if n.Observe.TLS {
			o.TLS = pki.PageConfig(n.TLS)
		}
		return console.New(o).Run(ctx, n.Observe.Console)
	}}
}

// factsWithin is what a cluster may take to say how it is.
const factsWithin = 8 * time.Second

// facts are what the clusters say of themselves; of is what the node knows of each.
func facts(ctx context.Context, clusters []*control.Cluster, of []spec.Observed) []byte {
	ctx, cancel := context.WithTimeout(ctx, factsWithin)
	defer cancel()
	all := make([]control.Sighting, len(clusters))
	var wg sync.WaitGroup
	for i, c := range clusters {
		wg.Go(func() {
			st, err := c.Status(ctx)
			all[i] = control.Sighting{Cluster: c.Name, Status: st, VIP: of[i].VIP, Until: c.Certificates(ctx, st.State), Err: err}
		})
	}
	wg.Wait()
	return control.Metrics(all)
}
