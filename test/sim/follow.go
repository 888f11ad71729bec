package sim

import (
	"fmt"
	"maps"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// A standby cluster: it follows the primary of another one, whose own life is not
// modelled. That writes while clients do, and the network to it fails now and then.

// follow has the cluster begin as a copy of another one.
func (w *World) follow() {
	w.far = newNode(w, 25)
	w.far.name, w.far.host, w.far.up = "far:5432", "far", true
	s := w.far.server
	s.initdb()
	s.proc, s.control.State = pg.ProcessRunning, pg.ControlInProduction
	w.follows = true
	w.farWrites()
	w.farAway()
}

// begins is what the configuration of the cluster begins with.
func (w *World) begins() map[string]any {
	begins := map[string]any{}
	if w.alone {
		begins["failsafe_mode"] = false
	}
	if w.follows {
		begins["standby_cluster"] = map[string]any{"host": "far", "port": 5432.0}
	}
	return begins
}

func (w *World) farWrites() {
	w.after(w.draw(0, 2*w.rates.commit), func() {
		if w.client.on && w.far.up {
			w.far.server.write(pg.LSN(100+w.rng.IntN(4000)) &^ 7)
		}
		w.farWrites()
	})
}

// farAway cuts the network to the other cluster for a while.
func (w *World) farAway() {
	w.after(w.draw(time.Minute, time.Hour), func() {
		if w.far.cutPeers = true; w.far.up {
			w.say("the other cluster is out of reach")
			w.far.server.cutOff()
		}
		w.after(w.draw(time.Second, 30*time.Second), func() { w.far.cutPeers = false })
		w.farAway()
	})
}

// lift is a person who lets the cluster go its own way, and the end of the other one.
func (w *World) lift() {
	c := w.store.newest.read().Config
	data := maps.Clone(c.Data)
	delete(data, "standby_cluster")
	w.say("the standby cluster is promoted")
	w.follows = false
	w.far.up = false
	w.far.server.cutOff()
	w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
}

// followed says that a standby cluster is whole: somebody holds the key and streams from
// the other cluster, and every machine that is on streams from him and has all there is.
func (w *World) followed() (bool, string) {
	holder, _ := w.holder()
	if holder == nil {
		return false, "nobody leads"
	}
	p, far := holder.server, w.far.server
	for _, n := range w.nodes {
		s, from := n.server, p
		if n == holder {
			from = far
		}
		switch {
		case !n.up || n.stopped:
		case s.proc != pg.ProcessRunning || s.frozen || !s.recovering:
			return false, fmt.Sprintf("%s is no standby: %s", n.name, s)
		case s.stream != from:
			return false, fmt.Sprintf("%s does not stream from %s: %s", n.name, from.n.name, s)
		case s.branch != far.branch || s.end != far.end:
			return false, fmt.Sprintf("%s is behind %s", n.name, w.far.name)
		}
	}
	return true, ""
}

// everyone is every node that has a server, that of the other cluster among them.
func (w *World) everyone() []*node {
	if w.far == nil {
		return w.nodes
	}
	return append(w.nodes[:len(w.nodes):len(w.nodes)], w.far)
}

// shadow has another cluster follow this one.
func (w *World) shadow() {
	w.far = newNode(w, 25)
	w.far.name, w.far.host, w.far.up = "far:5432", "far", true
	w.shadowed = true
	w.farFollows()
	w.farAway()
}

// farFollows keeps the other cluster behind whoever leads here.
func (w *World) farFollows() {
	if !w.shadowed {
		return
	}
	w.after(w.draw(0, time.Second), w.farFollows)
	s, holder := w.far.server, w.leader()
	if holder == nil || !w.reach(w.far, holder) || !holder.server.writes() {
		return
	}
	u := holder.server
	switch {
	case s.data != pg.DataPresent, s.stream == nil && !u.branch.has(u.end, s.branch, s.end):
		s.link++
		s.stream = nil
		s.data, s.signal, s.recovering, s.proc = pg.DataPresent, true, true, pg.ProcessRunning
		s.control, s.branch, s.end, s.newest = u.control, u.branch, u.end, u.newest
	case s.stream == u:
		return
	}
	s.up = pg.Upstream{Name: holder.name, Host: holder.host}
	s.hangUp(0)
}

// elsewhere is what a server says of itself to another cluster.
func (s *server) elsewhere(tl pg.Timeline) pg.Elsewhere {
	e := pg.Elsewhere{System: s.branch.system, Timeline: s.branch.tl}
	end := s.end
	for b := s.branch; b != nil; b = b.parent {
		if b.tl == tl {
			e.Common = end
		}
		end = min(end, b.fork)
	}
	return e
}

// swap is a person who has the two clusters change places: this one is to follow the
// other, which is promoted once it does. Meanwhile things go wrong, or nothing does.
func (w *World) swap() {
	c := w.store.newest.read().Config
	data := maps.Clone(c.Data)
	data["standby_cluster"] = map[string]any{"host": "far", "port": 5432.0}
	w.client.start()
	w.say("it is to follow the other cluster")
	w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
	switch {
	case w.chance(0.3): // nothing
	case w.chance(0.5):
		w.run(w.now + w.draw(0, 2*time.Second))
		fallthrough
	default:
		w.chaos(w.draw(time.Second, 20*time.Second), 5*time.Second)
	}
	w.heal()
	if !w.until(w.patience()+time.Minute, func() bool { return w.follows || w.Failed != nil || w.laws.hole }) {
		w.fail("liveness", "it does not follow the other cluster: %s", w.far.server)
	}
	w.client.stop()
	if w.Failed != nil || w.laws.hole {
		return
	}
	w.run(w.now + w.draw(0, 5*time.Second))
	s := w.far.server
	w.branches++
	s.link++
	s.stream = nil
	tl := max(s.newest, s.branch.tl) + 1
	s.branch = &branch{id: w.branches, system: s.branch.system, tl: tl, parent: s.branch, fork: s.end}
	s.newest, s.recovering, s.signal = tl, false, false
	s.control.State = pg.ControlInProduction
	s.checkpoint()
	w.say("the other cluster is promoted to timeline %d at %s", tl, s.branch.fork)
	w.client.start()
	w.farWrites()
}

// turned is the law of a cluster that begins to follow another one: nobody writes, and
// the other one has everything.
func (w *World) turned(before, after *picture) {
	then, now := before.read().Term, after.read().Term
	if !w.shadowed || now == nil || !now.Standby || then != nil && then.Standby {
		return
	}
	w.say("it follows the other cluster")
	w.follows, w.shadowed = true, false
	w.Stats.Swaps++
	far := w.far.server
	for _, n := range w.nodes {
		if s := n.server; n.name == now.Leader && (s.proc != pg.ProcessNone || far.end <= s.control.Checkpoint || !far.branch.has(far.end, s.branch, far.end)) {
			w.fail("swap", "the cluster of %s (%s) is to follow %s", n.name, s, far)
		}
	}
	for _, a := range w.laws.acks {
		if !a.lost && w.quorum && !far.branch.has(far.end, a.b, a.end) {
			w.fail("swap", "row %d, which was acknowledged, is not in the other cluster", a.id)
			return
		}
	}
}
