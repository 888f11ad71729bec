package sim

import (
	"fmt"
	"maps"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// What people do to a cluster, by its own keys and past them.

func (w *World) switchover(to string) {
	if n := w.leader(); n != nil {
		w.store.put(cluster.KeyFailover, cluster.Failover{Leader: n.name, Member: to}.Encode())
	}
}

func (w *World) failover(to string) {
	w.laws.person, w.laws.meddled = true, true
	w.store.put(cluster.KeyFailover, cluster.Failover{Member: to}.Encode())
}

func (w *World) restart(n *node) {
	w.store.put(cluster.DirRequests+n.name, cluster.Request{ID: "1", Kind: cluster.RequestRestart, At: w.wall(), By: "sim"}.Encode())
}

// restartLater asks for a restart at a time, on conditions that may not hold then.
func (w *World) restartLater(n *node) {
	r := cluster.Request{ID: "1", Kind: cluster.RequestRestart, At: w.wall(), By: "sim", Schedule: w.wall().Add(w.draw(0, 20*time.Second))}
	switch w.rng.IntN(6) {
	case 0:
		r.Role = cluster.RoleReplica
	case 1:
		r.Pending = true
	case 2:
		r.Started = "2026-11-20 12:00:00.000000 UTC"
	case 3:
		r.Schedule = w.wall().Add(-time.Hour)
	}
	w.store.put(cluster.DirSchedules+n.name, r.Encode())
}

func (w *World) reinit(n *node) {
	w.store.put(cluster.DirRequests+n.name, cluster.Request{ID: "1", Kind: cluster.RequestReinit, At: w.wall(), By: "sim", Force: w.chance(0.5)}.Encode())
}

// configure changes what servers are to be set to.
func (w *World) configure() {
	c := w.store.newest.read().Config
	if c.Data == nil {
		return
	}
	data := maps.Clone(c.Data)
	data["postgresql"] = map[string]any{"parameters": map[string]any{"work_mem": fmt.Sprintf("%dMB", 1+w.rng.IntN(64))}}
	w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
}

// synchronous has commits wait for standbys from now on.
func (w *World) synchronous() {
	data := maps.Clone(w.store.newest.read().Config.Data)
	w.quorum = true
	// Not strict, a leader that is left alone goes on; nobody else may lead then, so nothing is lost either.
	data["synchronous_mode"], data["synchronous_mode_strict"] = cluster.SyncQuorum, w.chance(0.7)
	if w.priority {
		data["synchronous_mode"] = true
	}
	w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
}

func (w *World) pause(on bool) {
	c := w.store.newest.read().Config
	data := map[string]any{}
	for k, v := range c.Data {
		data[k] = v
	}
	delete(data, "pause")
	if on {
		w.laws.person, w.laws.meddled = true, true
		data["pause"] = true
	}
	if c.Data != nil {
		w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
	}
}

// schedule asks for a switchover at a time, which may be over.
func (w *World) schedule(in time.Duration) {
	if n := w.leader(); n != nil {
		w.store.put(cluster.KeyFailover, cluster.Failover{Leader: n.name, ScheduledAt: w.wall().Add(in)}.Encode())
	}
}

// A scrawl is a value that somebody has overwritten.
type scrawl struct{ key, was, now string }

// scribble puts something that nobody can read where agents look.
func (w *World) scribble() {
	if w.clean(); w.store.outage {
		return
	}
	keys := []string{cluster.KeyInitialize, cluster.KeyInitialize, cluster.KeyConfig, cluster.KeyHistory, cluster.KeyFailover, cluster.KeyStatus}
	texts := []string{"{", "[]", "no such thing", `{"ttl":"\x00`, "\xff\xfe"}
	key, text := keys[w.rng.IntN(len(keys))], texts[w.rng.IntN(len(texts))]
	if kv, ok := w.store.newest.Keys[key]; ok {
		w.store.put(key, text)
		w.scrawl = scrawl{key, string(kv.Value), text}
	}
}

// clean puts back what stood there, unless somebody else has.
func (w *World) clean() {
	if w.store.outage {
		return
	}
	c := w.scrawl
	w.scrawl = scrawl{}
	if kv, ok := w.store.newest.Keys[c.key]; ok && string(kv.Value) == c.now {
		w.store.put(c.key, c.was)
	}
}

// strange leaves a machine with the data of an earlier life before there is a
// cluster: it is no basis for one, unless a person says so. Sooner or later he
// moves it away.
func (w *World) strange(n *node) {
	w.say("%s: has data of an earlier life", n.name)
	n.server.initdb()
	if w.chance(0.3) {
		w.after(w.draw(0, 10*time.Second), func() { w.failover(n.name) })
	}
	w.after(w.draw(10*time.Second, 40*time.Second), func() { w.moveAway(n) })
}

// moveAway is a person who moves the data of another cluster out of the way.
func (w *World) moveAway(n *node) {
	s := n.server
	if theirs := w.laws.system; s.data != pg.DataPresent || theirs == s.control.System {
		return
	} else if theirs == 0 || s.proc != pg.ProcessNone {
		w.after(time.Second, func() { w.moveAway(n) })
		return
	}
	w.say("%s: a person moves its data away", n.name)
	s.empty()
}
