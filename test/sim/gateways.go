package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"howdah/cluster"
	"howdah/dcs"
)

// gateways are those of one life in four: each acknowledges a drain sooner or
// later, or is dead and does not. What they do is drawn apart, so that the lives
// without them are what they always were.
type gateways struct {
	w   *World
	rng *rand.Rand
	all []*gateway
}

type gateway struct {
	host string
	dead bool
	held int64 // generation that it has acknowledged, or is about to
	open int

	told, ready int64 // generations that it prepares for, and has prepared for

	served int64 // the reign that has answered its clients
}

func (w *World) openGateways() {
	if w.Seed%4 != 0 {
		return
	}
	g := &gateways{w: w, rng: rand.New(rand.NewPCG(w.Seed, 0xD1B54A32D192ED03))}
	for i := range 1 + g.rng.IntN(3) {
		x := &gateway{host: fmt.Sprintf("10.0.1.%d", i+1), dead: g.rng.IntN(8) == 0}
		g.all = append(g.all, x)
		g.put(x, 0)
	}
	w.gateways = g
}

func (g *gateways) put(x *gateway, open int) {
	x.open = open
	value := cluster.Gateway{Node: x.host, Listen: x.host + ":9101", Ready: x.ready, Held: x.held, Open: open, Served: x.served}.Encode()
	if !g.w.store.outage {
		_, _ = g.w.store.apply(dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(cluster.DirGateways+x.host, value, 0)}})
	}
}

// see has the gateways look at what changed in the store.
func (g *gateways) see(p *picture) {
	if g == nil {
		return
	}
	kv := p.Keys[cluster.KeyDrain]
	d, err := cluster.ParseDrain(kv.Value)
	if err != nil || !d.Open() {
		return
	}
	if !d.Hold {
		g.prepare(kv.Mod)
		return
	}
	for _, x := range g.all {
		if x.dead || x.held == kv.Mod {
			continue
		}
		x.held = kv.Mod
		open := g.rng.IntN(3)
		at := time.Duration(g.rng.Int64N(int64(100 * time.Millisecond)))
		g.w.after(at, func() { g.put(x, open) })
		if open > 0 {
			ends := time.Duration(g.rng.Int64N(int64(2 * time.Second)))
			g.w.after(at+ends, func() {
				if x.held == kv.Mod {
					g.put(x, 0)
				}
			})
		}
	}
}

// prepare has the gateways log in at whoever comes next.
func (g *gateways) prepare(generation int64) {
	for _, x := range g.all {
		if x.dead || x.told == generation {
			continue
		}
		x.told = generation
		g.w.after(time.Duration(g.rng.Int64N(int64(4*time.Second))), func() {
			x.ready = generation
			g.put(x, x.open)
		})
	}
}

// answered has the gateways say that the leader has answered somebody.
func (g *gateways) answered(by *node) {
	if g == nil {
		return
	}
	holder, kv := g.w.holder()
	for _, x := range g.all {
		if holder != by || x.dead || x.served >= kv.Mod {
			continue
		}
		x.served = kv.Mod
		g.w.after(time.Duration(g.rng.Int64N(int64(200*time.Millisecond))), func() { g.put(x, x.open) })
	}
}

// draining says that clients of the present leader are held.
func (w *World) draining() bool {
	d := w.store.newest.read().Drain
	holder, kv := w.holder()
	return holder != nil && d != nil && d.Hold && d.From == holder.name && d.Epoch == kv.Mod
}
