package sim

import (
	"slices"
	"time"

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

		between: time.Duration(scale(w, 3.0, 3000) * float64(w.Timers.Renew)), // so many renewals, which are what happens in it
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
	{"silent-postgres", 3, false, func(w *World, n *node) { n.server.hush(w.draw(500*time.Millisecond, 2*time.Minute)) }},
	{"shut-out", 3, false, func(w *World, n *node) {
		if l := w.leader(); l != nil {
			n = l
		}
		n.server.bar(w.draw(5*time.Second, 2*time.Minute))
	}},
	{"kill-agent", 10, false, func(w *World, n *node) { n.crashAgent() }},
	{"stall-agent", 6, true, func(w *World, n *node) {
		d := w.draw(200*time.Millisecond, 3*w.Timers.Lease)
		w.say("%s: agent stalls for %s", n.name, d)
		n.stallFor(d)
		w.unwell(n, d)
	}},
	{"hang-agent", 6, false, func(w *World, n *node) { w.hangAgent(n) }},
	{"power", 8, true, func(w *World, n *node) {
		n.powerOff()
		w.after(w.draw(500*time.Millisecond, 40*time.Second), n.powerOn)
	}},
	{"power-cut-off", 2, true, func(w *World, n *node) { // what took the machine took its switch as well
		n.powerOff()
		n.cutStore = true
		w.unwell(n, 0)
		back := w.draw(500*time.Millisecond, w.Timers.Lease)
		w.after(back, n.powerOn)
		w.after(back+w.draw(time.Second, 2*w.Timers.Lease), func() { w.mend(n) })
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
	{"freeze-postgres", 3, false, func(_ *World, n *node) { n.server.hold() }},
	{"hung-shutdown", 3, false, func(w *World, n *node) {
		n.server.clings = w.now + w.draw(10*time.Second, 90*time.Second)
		if w.chance(0.5) {
			w.switchover("")
		} else {
			w.restart(n)
		}
	}},
	{"disk-full", 3, true, func(w *World, n *node) {
		n.server.fill(w.draw(time.Second, 40*time.Second))
	}},
	{"disk-gone", 3, true, func(w *World, n *node) {
		if n.server.unmount() {
			w.after(w.draw(time.Second, 40*time.Second), n.server.mount)
		}
	}},
	{"ambush", 8, true, func(w *World, _ *node) { w.ambush.change = w.now + time.Minute }},
	{"surprise", 4, true, func(w *World, _ *node) { w.ambush.work = w.now + time.Minute }},
	{"long-recovery", 3, true, func(w *World, n *node) {
		n.server.drags = w.now + w.draw(time.Second, time.Minute)
		w.killPostgres(n, false)
	}},
	{"leave-in-recovery", 2, true, func(w *World, _ *node) {
		n := w.leader()
		if n == nil {
			return
		}
		w.cut(n, false, true) // so that nobody else has what it wrote last
		w.after(w.draw(0, 2*time.Second), func() {
			n.server.drags = w.now + w.draw(5*time.Second, 90*time.Second)
			w.killPostgres(n, false)
		})
		w.after(w.draw(2*time.Second, 5*time.Second), n.stopAgent)
		w.after(w.draw(10*time.Second, 40*time.Second), n.start)
	}},
	{"leave-cut-off", 2, true, func(w *World, n *node) {
		n.cutStore = true
		w.unwell(n, 0)
		long := 2*w.Timers.Lease + w.draw(0, 5*time.Second)
		w.after(long, n.stopAgent)
		w.after(long+w.draw(time.Second, 10*time.Second), func() { w.mend(n); n.start() })
	}},
	{"named", 4, true, func(w *World, n *node) {
		l := w.leader()
		if l == nil || l == n {
			return
		}
		n.lag = w.draw(0, 5*time.Second)
		w.after(w.draw(0, 3*time.Second), l.powerOff)
		w.after(w.draw(time.Second, 2*w.Timers.Lease), func() { w.failover(n.name); n.lag = 0 })
		w.after(2*w.Timers.Lease+w.draw(0, 10*time.Second), l.powerOn)
	}},
	{"scheduled-switchover", 2, false, func(w *World, _ *node) { w.schedule(w.draw(-20*time.Second, 20*time.Second)) }},
	{"garbage", 4, false, func(w *World, _ *node) {
		w.scribble()
		w.after(w.draw(time.Second, 20*time.Second), w.clean)
	}},
	{"switchover", 6, false, func(w *World, _ *node) { w.switchover("") }},
	{"failover", 2, true, func(w *World, n *node) { w.failover(n.name) }},
	{"restart", 4, false, func(w *World, n *node) { w.restart(n) }},
	{"restart-later", 4, false, func(w *World, n *node) { w.restartLater(n) }},
	{"reinit", 2, true, func(w *World, n *node) { w.reinit(n) }},
	{"configure", 3, false, func(w *World, _ *node) { w.configure() }},
	{"pause", 1, true, func(w *World, _ *node) {
		w.pause(true)
		w.after(w.draw(time.Second, 20*time.Second), func() { w.pause(false) })
	}},
	{"paused-switchover", 2, true, func(w *World, _ *node) {
		w.pause(true)
		w.after(w.draw(0, 3*time.Second), func() { w.switchover("") })
		w.after(w.draw(5*time.Second, 30*time.Second), func() { w.pause(false) })
	}},
	{"everything", 1, true, func(w *World, _ *node) {
		for _, n := range w.nodes {
			n.powerOff()
			w.after(w.draw(100*time.Millisecond, 20*time.Second), n.powerOn)
		}
	}},
}

// A state is how a cluster is when a fault meets it.
type state int

const (
	whole  state = iota // its leader writes, and every other streams from it
	hurt                // its leader writes, and somebody does not stream from it
	mute                // somebody holds the key and does not write: crashed, elected, handing over
	vacant              // nobody holds the key
	states
)

func (s state) String() string { return [...]string{"whole", "hurt", "mute", "vacant"}[s] }

func (w *World) state() state {
	holder, _ := w.holder()
	switch {
	case holder == nil:
		return vacant
	case !holder.server.writes():
		return mute
	case slices.ContainsFunc(w.nodes, func(n *node) bool { return n != holder && n.server.stream != holder.server }):
		return hurt
	}
	return whole
}

// meet lets a fault happen to n.
func (w *World) meet(f fault, n *node) {
	w.Stats.Faults++
	if w.met != nil {
		w.met(f.name, w.state())
	}
	f.do(w, n)
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
	n.absent()
	w.unwell(n, 0)
	if peers {
		n.server.lostAll()
	}
	w.after(w.draw(300*time.Millisecond, 3*w.Timers.Lease), func() { w.mend(n) })
}

func (w *World) mend(n *node) {
	if !n.cutStore && !n.cutPeers {
		return
	}
	w.say("%s: connected again", n.name)
	n.cutStore, n.cutPeers = false, false
	n.absent()
	if n.up {
		n.wellSince = w.now
	}
	n.notify()
}

func (w *World) leader() *node {
	n, _ := w.holder()
	return n
}

// heal ends every fault.
func (w *World) heal() {
	w.say("everything is mended")
	w.mended = true
	w.store.setOutage(false)
	w.ambush = ambush{}
	w.clean()
	w.pause(false)
	for _, n := range w.nodes {
		w.mend(n)
		n.slow, n.lag = 1, 0
		n.dog.broken, n.dog.hung = false, 0
		n.server.mend()
		n.powerOn()
		n.wake()
		n.start()
		if n.wellSince > w.now {
			n.wellSince = w.now
		}
	}
}

// waitFaults are those of a cluster whose commits wait for standbys.
var waitFaults = []fault{
	{"cancel-waits", 5, false, func(w *World, n *node) { n.server.cancel() }},
}
