package sim

import (
	"fmt"
	"strings"
	"time"

	"howdah/pg"
)

// Names are those of the machines.
func (w *World) Names() []string {
	var names []string
	for _, n := range w.nodes {
		names = append(names, n.name)
	}
	return names
}

// Found switches every machine on and waits for the cluster to be whole.
func (w *World) Found() error {
	for _, n := range w.nodes {
		n.powerOn()
	}
	w.awaitWhole("founding", 2*time.Minute)
	w.Stats = Stats{}
	return w.err()
}

// Load lets clients write, with so long a pause between two rows.
func (w *World) Load(pause time.Duration) {
	w.rates.commit = pause
	w.client.start()
}

// Run lets time pass.
func (w *World) Run(d time.Duration) error {
	w.run(w.now + d)
	return w.err()
}

func (w *World) err() error {
	if w.Failed != nil {
		return w.Failed
	}
	return nil
}

// Settle waits until the cluster is whole without its clients, and counts what was lost.
func (w *World) Settle(limit time.Duration) error {
	w.client.stop()
	w.laws.excused = true // the script itself says what may be lost
	w.awaitWhole("settling", limit)
	return w.err()
}

// Leader is who holds the key and writes, and on which timeline.
func (w *World) Leader() (string, pg.Timeline) {
	n, _ := w.holder()
	if n == nil || !n.server.writes() {
		return "", 0
	}
	return n.name, n.server.branch.tl
}

// Followers are those who stream from the leader.
func (w *World) Followers() []string {
	holder, _ := w.holder()
	var names []string
	for _, n := range w.nodes {
		if holder != nil && n.server.stream == holder.server {
			names = append(names, n.name)
		}
	}
	return names
}

// Do lets something happen to a machine ("" where it happens to all). "leader"
// is whoever leads.
func (w *World) Do(verb, to string) error {
	n := w.node(to)
	if to == "leader" {
		n = w.leader()
	}
	all := map[string]func(){
		"stop-etcd":  func() { w.store.setOutage(true) },
		"start-etcd": func() { w.store.setOutage(false) },
		"switchover": func() { w.switchover(to) },
		"failover":   func() { w.failover(to) },
		"pause":      func() { w.pause(true) },
		"resume":     func() { w.pause(false) },
		"kill-all": func() {
			for _, n := range w.nodes {
				n.powerOff()
			}
		},
	}
	if do, ok := all[verb]; ok {
		w.say("script: %s %s", verb, to)
		do()
		return nil
	}
	one := map[string]func(){
		"kill-postgres": func() { w.killPostgres(n, false) },
		"kill-agent":    func() { n.crashAgent() },
		"kill-node":     func() { n.powerOff() },
		"stop-node":     func() { n.stopAgent() },
		"start-node":    func() { n.powerOn(); n.start() },
		"freeze-agent":  func() { n.stallFor(time.Hour) },
		"thaw-agent":    func() { n.wake() },
		"restart":       func() { w.restart(n) },
		"partition":     func() { n.cutStore, n.cutPeers = true, true; n.server.lostAll() },
		"isolate-etcd":  func() { n.cutStore = true },
		"heal":          func() { w.mend(n) },
	}
	do, ok := one[verb]
	if !ok || n == nil {
		return fmt.Errorf("nothing is called %q to do to %q", verb, to)
	}
	w.say("script: %s %s", verb, to)
	do()
	return nil
}

// Why is the log's end, for a test that failed.
func (w *World) Why(lines int) string {
	return strings.Join(w.Log[max(0, len(w.Log)-lines):], "\n")
}
