// Package gateway carries clients to the members that serve them now: one TCP
// listener for each service of each cluster, byte for byte, without looking
// into what it carries beyond the first packet.
//
// It follows the picture of each cluster by a watch of its own. A client that
// connects while nobody can serve it waits; one whose primary was deposed is
// cut. What a primary says reaches a client only while that primary's right to
// write is proven: by the lease page of this node for its own server, by a
// grant of the primary's agent for one elsewhere (gate.go).
//
// It decides nothing about the cluster, and keeps no state that matters: the
// listening sockets belong to the supervisor, and the next gateway computes
// everything anew.
package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"

	"howdah/access/route"
	"howdah/dcs"
	"howdah/dcs/etcd"
	"howdah/lifecycle"
	"howdah/listen"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// Wait is how long a client waits for a server unless the node says otherwise.
const Wait = 10 * time.Second

// Run serves the fronts of n on the listeners that the supervisor passed on,
// until ctx ends. Sessions end with it. Once leave is closed it has a successor take
// everybody over, and returns; sessions end if there can be none.
func Run(ctx context.Context, leave <-chan struct{}, n spec.Node, log *slog.Logger) error {
	listeners, err := listen.Inherited()
	if err != nil {
		return err
	}
	if len(listeners) == 0 {
		return &problem.Error{
			Code: "gateway-sockets", What: "cannot run the gateway of " + n.Member,
			Why: "it was given no listening sockets", Do: "let the supervisor start it: `howdah node`",
			Err: listen.ErrNone,
		}
	}
	g, err := New(n, log)
	if err != nil {
		return err
	}
	stores, err := g.open(n)
	if err != nil {
		return err
	}
	shared, err := g.openPools(n)
	if err != nil {
		return err
	}
	defer shared.close()
	before, err := inheritKin()
	if err != nil {
		return err
	}
	g.succession = newSuccession(before, listeners)
	only := g.succession.only
	parts := []lifecycle.Part{
		{Name: "sockets", Grace: time.Second, Run: only(func(ctx context.Context) error {
			return listen.Offer(ctx, listen.SocketOf(n), listeners)
		})},
		{Name: "grants", Grace: 5 * time.Second, Run: g.grants.run},
		{Name: "pools", Grace: 5 * time.Second, Run: shared.pooler.Run},
	}
	for i, f := range g.fronts {
		defer stores[i].Close()
		parts = append(parts, lifecycle.Part{Name: "routes of " + f.Cluster, Grace: 5 * time.Second, Run: func(ctx context.Context) error {
			return f.follow(ctx, stores[i])
		}}, lifecycle.Part{Name: "announcement to " + f.Cluster, Grace: 5 * time.Second, Run: only(func(ctx context.Context) error {
			return f.announce(ctx, stores[i])
		})})
	}
	for _, p := range g.ports {
		l, ok := listeners[p.name]
		if !ok {
			log.Error("no socket for a service", "service", p.name, logkey.Addr, p.service.Port)
			continue
		}
		parts = append(parts, lifecycle.Part{Name: p.name, Grace: 5 * time.Second, Run: func(ctx context.Context) error {
			if !g.succession.begins(ctx) {
				return nil
			}
			if p.door != nil {
				return shared.pooler.Serve(ctx, l, p.door)
			}
			return p.serve(ctx, l)
		}})
	}
	if l, ok := listeners[listen.Pool]; ok && shared.own != nil {
		parts = append(parts, lifecycle.Part{Name: "pool", Grace: 5 * time.Second, Run: func(ctx context.Context) error {
			if !g.succession.begins(ctx) {
				return nil
			}
			return shared.pooler.Serve(ctx, l, shared.own)
		}})
	}
	if l, ok := listeners[listen.Stats]; ok {
		d := &desk{Gateway: g, Page: n.Gateway.Page, Password: adminPassword(n, log)}
		parts = append(parts, lifecycle.Part{Name: "stats", Grace: time.Second, Run: only(func(ctx context.Context) error { return serve(ctx, l, d) })})
	}
	if l, ok := listeners[listen.PoolMetrics]; ok {
		parts = append(parts, lifecycle.Part{Name: "pool metrics", Grace: time.Second, Run: only(func(ctx context.Context) error {
			return serve(ctx, l, newExporter(shared.pooler.Facts))
		})})
	}
	if before != nil {
		shared.pooler.Before = before.cancel
		parts = append(parts, lifecycle.Part{Name: "predecessor", Grace: 5 * time.Second, Run: func(ctx context.Context) error {
			return g.take(ctx, shared.pooler)
		}})
	}
	parts = append(parts, lifecycle.Part{Name: "successor", Grace: 5 * time.Second, Run: func(ctx context.Context) error {
		return g.succeed(ctx, leave, shared.pooler)
	}})
	log.Info("gateway started", "services", len(g.ports), "pool", n.Pool.Listen, "succeeds", before != nil)
	err = lifecycle.Run(ctx, parts...)
	if ctx.Err() != nil {
		g.succession.end()
	}
	return err
}

// A Gateway is the services of one node.
type Gateway struct {
	node   spec.Node
	log    *slog.Logger
	wait   time.Duration
	server *tls.Config // how we answer a client that wants TLS before we refuse it; nil: not at all
	grants *grants
	page   *page
	fronts []*front
	ports  []*port

	succession *succession

	marking sync.Mutex // while what is set by hand is written
}

// New makes the gateway of n; it serves nothing yet.
func New(n spec.Node, log *slog.Logger) (*Gateway, error) {
	g := &Gateway{node: n, log: log, wait: n.Gateway.Wait, page: newPage(n.Paths.Page), succession: newSuccession(nil, nil)}
	if g.wait <= 0 {
		g.wait = Wait
	}
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return nil, err
	}
	g.grants = newGrants(peers, log)
	if n.TLS.Cert != "" {
		g.server = pki.PageConfig(n.TLS)
		g.server.NextProtos = []string{"postgresql"}
	}
	for _, s := range n.Gateway.Fronts {
		f := &front{Front: s, gateway: g, log: log.With("front", s.Cluster)}
		if f.table, err = route.Compile(s); f.table == nil {
			return nil, err
		} else if err != nil {
			f.log.Error("service out of use", logkey.Error, err)
		}
		for i, service := range s.Services {
			p := newPort(f, i, service)
			f.ports, g.ports = append(f.ports, p), append(g.ports, p)
		}
		g.fronts = append(g.fronts, f)
	}
	g.recall()
	return g, nil
}

// adminPassword is that of the statistics page; without one nothing can be
// changed there.
func adminPassword(n spec.Node, log *slog.Logger) secret.Text {
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		log.Warn("nobody may change servers by hand", logkey.Error, err)
	}
	return secrets[spec.SecretGateway]
}

// open opens the store of every front; they connect when they are first asked.
func (g *Gateway) open(n spec.Node) ([]dcs.Store, error) {
	var stores []dcs.Store
	for _, f := range g.fronts {
		store, err := etcd.OpenBase(n, f.Namespace+"/"+f.Cluster+"/")
		if err != nil {
			return nil, err
		}
		stores = append(stores, store)
	}
	return stores, nil
}

// keepAlive finds out about a peer that vanished without a word.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}
