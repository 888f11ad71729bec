package sim

import (
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/spec"
)

// rates are how bad this run's world is.
type rates struct {
	delay  time.Duration // of one message, at most
	lose   float64       // a message is lost
	slow   float64       // a message takes seconds
	breaks float64       // a watch breaks
	fail   float64       // work on a server fails for no reason
	guard  time.Duration // how late the guard may be
	commit time.Duration // mean pause between two commits of one client

	between time.Duration // mean length of a quiet time
}

func drawRates(w *World, calm bool) rates {
	r := rates{
		delay:  w.draw(time.Millisecond, 20*time.Millisecond),
		guard:  w.Timers.Margin / 2,
		commit: w.draw(50*time.Millisecond, 400*time.Millisecond),

		between: w.scale(5*time.Second, time.Hour),
	}
	if calm {
		return r
	}
	pick := func(max float64) float64 {
		if w.chance(0.4) {
			return 0
		}
		return max * w.rng.Float64()
	}
	r.lose, r.slow, r.breaks, r.fail = pick(0.03), pick(0.02), pick(0.02), pick(0.1)
	if w.chance(0.2) {
		r.delay = w.draw(20*time.Millisecond, 150*time.Millisecond)
	}
	return r
}

// drawTimers draws a configuration that Validate accepts, from the ranges in the
// tags of spec.Timers.
func drawTimers(w *World) spec.Timers {
	for {
		t := drawn(w.rng, spec.Timers{})
		if t.Validate() == nil {
			return t
		}
	}
}

// A Fault is something that a chaotic minute may hold. Heal takes it back.
type fault struct {
	name   string
	weight int
	loses  bool // may cost acknowledged rows that were not sent yet
	do     func(w *World, n *node)
}

var faults = []fault{
	{"kill-postgres", 10, false, func(w *World, n *node) { w.killPostgres(n, false) }},
	{"kill-postgres-leftover", 4, false, func(w *World, n *node) { w.killPostgres(n, true) }},
	{"kill-postgres-for-long", 2, true, func(w *World, n *node) {
		n.server.spoilt = w.now + w.draw(2*time.Second, 20*time.Second)
		w.killPostgres(n, false)
	}},
	{"stop-postgres-outside", 5, false, func(w *World, n *node) {
		switch {
		case w.chance(0.6):
			n.server.stopSmart(w.draw(0, time.Hour))
		case n.server.proc == pg.ProcessRunning:
			w.say("%s: fast shutdown from outside", n.name)
			n.server.stop(func(string) { n.died() })
		}
	}},
	{"silent-postgres", 3, false, func(w *World, n *node) {
		d := w.draw(time.Second, 2*time.Minute)
		w.say("%s: answers its agent nothing for %s", n.name, d)
		n.server.silentTill = max(n.server.silentTill, w.now+d)
	}},
	{"kill-agent", 10, false, func(w *World, n *node) { n.crashAgent() }},
	{"stall-agent", 6, true, func(w *World, n *node) {
		d := w.draw(200*time.Millisecond, 3*w.Timers.Lease)
		w.say("%s: agent stalls for %s", n.name, d)
		n.stallFor(d)
		w.unwell(n, d)
	}},
	{"power", 8, true, func(w *World, n *node) {
		n.powerOff()
		w.after(w.draw(500*time.Millisecond, 40*time.Second), n.powerOn)
	}},
	{"cut-store", 6, true, func(w *World, n *node) { w.cut(n, true, false) }},
	{"cut-peers", 4, true, func(w *World, n *node) { w.cut(n, false, true) }},
	{"cut-off", 6, true, func(w *World, n *node) { w.cut(n, true, true) }},
	{"slow", 4, true, func(w *World, n *node) {
		w.say("%s: slow disk", n.name)
		n.slow = 10
		d := w.draw(time.Second, 20*time.Second)
		w.unwell(n, d)
		w.after(d, func() { n.slow = 1 })
	}},
	{"lag", 6, true, func(w *World, n *node) {
		n.lag = w.draw(500*time.Millisecond, 5*time.Second)
		w.say("%s: replication lags by up to %s", n.name, n.lag)
		w.after(w.draw(5*time.Second, time.Minute), func() { n.lag = 0 })
	}},
	{"etcd-leader", 5, true, func(w *World, _ *node) { w.store.lead() }},
	{"etcd-outage", 4, true, func(w *World, _ *node) {
		w.store.setOutage(true)
		for _, n := range w.nodes {
			w.unwell(n, 0)
		}
		w.after(w.draw(200*time.Millisecond, 2*w.Timers.Lease), func() { w.store.setOutage(false) })
	}},
	{"stop-node", 3, false, func(w *World, n *node) {
		n.stopAgent()
		w.after(w.draw(time.Second, 60*time.Second), n.start)
	}},
	{"switchover", 6, false, func(w *World, _ *node) { w.switchover("") }},
	{"failover", 2, true, func(w *World, n *node) { w.failover(n.name) }},
	{"restart", 4, false, func(w *World, n *node) { w.restart(n) }},
	{"pause", 1, true, func(w *World, _ *node) {
		w.pause(true)
		w.after(w.draw(time.Second, 20*time.Second), func() { w.pause(false) })
	}},
	{"everything", 1, true, func(w *World, _ *node) {
		for _, n := range w.nodes {
			n.powerOff()
			w.after(w.draw(100*time.Millisecond, 20*time.Second), n.powerOn)
		}
	}},
}

// unwell says that n may not do what it should for d (0: until healed).
func (w *World) unwell(n *node, d time.Duration) {
	n.wellSince = 1 << 62
	if d > 0 {
		w.after(d, func() {
			if n.up {
				n.wellSince = w.now
			}
		})
	}
}

func (w *World) killPostgres(n *node, leftover bool) {
	n.server.crash(leftover)
	n.died()
}

func (w *World) cut(n *node, store, peers bool) {
	w.say("%s: cut off (store %v, peers %v)", n.name, store, peers)
	n.cutStore, n.cutPeers = n.cutStore || store, n.cutPeers || peers
	w.unwell(n, 0)
	if peers {
		n.server.lostAll()
	}
	w.after(w.draw(300*time.Millisecond, 3*w.Timers.Lease), func() { w.mend(n) })
}

// lostAll notes the streams that a cut stops.
func (s *server) lostAll() {
	for _, n := range s.w.nodes {
		if o := n.server; o.stream != nil && (o == s || o.stream == s) {
			o.lost()
		}
	}
}

func (w *World) mend(n *node) {
	if !n.cutStore && !n.cutPeers {
		return
	}
	w.say("%s: connected again", n.name)
	n.cutStore, n.cutPeers = false, false
	if n.up {
		n.wellSince = w.now
	}
	n.notify()
}

func (w *World) leader() *node {
	n, _ := w.holder()
	return n
}

func (w *World) switchover(to string) {
	if n := w.leader(); n != nil {
		w.store.put(cluster.KeyFailover, cluster.Failover{Leader: n.name, Member: to}.Encode())
	}
}

func (w *World) failover(to string) {
	w.store.put(cluster.KeyFailover, cluster.Failover{Member: to}.Encode())
}

func (w *World) restart(n *node) {
	w.store.put(cluster.DirRequests+n.name, cluster.Request{ID: "1", Kind: cluster.RequestRestart, At: w.wall(), By: "sim"}.Encode())
}

func (w *World) pause(on bool) {
	c := w.store.newest.read().Config
	data := map[string]any{}
	for k, v := range c.Data {
		data[k] = v
	}
	delete(data, "pause")
	if on {
		data["pause"] = true
	}
	if c.Data != nil {
		w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
	}
}

// heal ends every fault.
func (w *World) heal() {
	w.say("everything is mended")
	w.store.setOutage(false)
	w.pause(false)
	for _, n := range w.nodes {
		w.mend(n)
		n.slow, n.lag = 1, 0
		n.server.spoilt, n.server.silentTill = 0, w.now
		n.powerOn()
		n.wake()
		n.start()
		if n.wellSince > w.now {
			n.wellSince = w.now
		}
	}
}
