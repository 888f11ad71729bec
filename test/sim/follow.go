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
	if w.far != nil {
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
