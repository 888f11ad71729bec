package sim

import (
	"fmt"
	"maps"
	"slices"

	"howdah/cluster"
)

// Synchronous mode by priority (synchronous_mode: on): commits wait for those that
// stand first in the setting, and each of those that /sync names has them all. What is
// promised is what is promised in mode quorum, and the same laws are asked of it.

// priorities gives members tags, most by which somebody is preferred, and in a cluster of
// more than two at times one that nobody is to wait for.
func (w *World) priorities() {
	w.priority = true
	for _, n := range w.nodes {
		if w.chance(0.5) {
			n.tags = cluster.Tags{cluster.TagSyncPriority: float64(1 + w.rng.IntN(3))}
		}
	}
	if n := w.nodes[w.rng.IntN(len(w.nodes))]; len(w.nodes) > 2 && w.chance(0.2) {
		n.tags = cluster.Tags{cluster.TagNoSync: true}
	}
}

// modeFaults are people who change their minds while everything else goes on.
var modeFaults = []fault{
	{"change-mode", 4, false, func(w *World, _ *node) { w.changeMode() }},
}

// changeMode has commits be waited for by another rule: by priority or by number, for more
// or for fewer, strictly or not. That they are waited for stays.
func (w *World) changeMode() {
	c := w.store.newest.read().Config
	if c.Data == nil || c.SynchronousMode() == cluster.SyncOff {
		return
	}
	data := maps.Clone(c.Data)
	data["synchronous_mode"] = true
	if w.chance(0.4) {
		data["synchronous_mode"] = cluster.SyncQuorum
	}
	data["synchronous_mode_strict"] = w.chance(0.5)
	delete(data, "synchronous_node_count")
	if w.chance(0.5) {
		data["synchronous_node_count"] = float64(1 + w.rng.IntN(len(w.nodes)))
	}
	w.store.put(cluster.KeyConfig, cluster.Config{Data: data}.Encode())
}

// overlooked says that a whole cluster waits for somebody although it should rather for
// another one, or for nobody whom it has to.
func (w *World) overlooked(st *cluster.State) string {
	if st.Config.SynchronousMode() != cluster.SyncOn {
		return ""
	}
	for _, name := range st.Sync.Standby {
		for _, n := range w.nodes {
			switch in := w.node(name).tags; {
			case in.NoSync():
				return name + " stands in /sync, and nobody is to wait for it"
			case !n.up || n.stopped || n.tags.NoSync() || n.name == st.Sync.Leader || slices.Contains(st.Sync.Standby, n.name):
			case n.tags.SyncPriority() > in.SyncPriority():
				return fmt.Sprintf("%s stands in /sync, and %s, which is preferred, does not", name, n.name)
			}
		}
	}
	return ""
}
