package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/node/process"
	"howdah/spec"
)

// carriers are the nodes that carry etcd, and the process of each.
func (w *world) carriers() (nodes []spec.Node, etcd []process.ID) {
	w.t.Helper()
	for _, n := range w.Nodes {
		if n.Etcd.Member != "" {
			nodes, etcd = append(nodes, n), append(etcd, w.role(n, "etcd"))
		}
	}
	return nodes, etcd
}

// goesOn says that the same server leads which led, that its process was never
// another one, and that nothing that was acknowledged is lost.
func (w *world) goesOn(what string, leader string, server process.ID) {
	w.t.Helper()
	if now := w.whole(); now != leader {
		w.t.Errorf("%s: %s leads, it was %s", what, now, leader)
	}
	if now := w.role(w.Node(leader), "postgres"); now != server {
		w.t.Errorf("%s: PostgreSQL of %s was started anew", what, leader)
	}
}

// The store is lost, and comes back: empty, with what one member of three has, with a
// snapshot, with one member more or less. PostgreSQL goes on in all of it.
func TestTheStoreIsLost(t *testing.T) {
	byNight(t)
	w := own(t)
	w.up()
	writer := w.write()
	leader := w.whole()
	w.voters(2)
	server := w.role(w.Node(leader), "postgres")
	w.howdah("edit-config", "--set", "howdah.drain=3s", "--yes")
	snapshot := filepath.Join(t.TempDir(), "snapshot.db")
	w.howdah("etcd", "snapshot", snapshot)

	for range 3 {
		nodes, etcd := w.carriers()
		for _, id := range etcd { // none of them comes back while another has data
			w.kill(id, unix.SIGSTOP)
		}
		for _, n := range nodes {
			w.check(os.RemoveAll(n.Etcd.Data))
		}
		lost := time.Now()
		for _, id := range etcd {
			w.kill(id, unix.SIGKILL)
		}
		w.until("the leader has put the store back", func() bool { return strings.Contains(w.config(), "3s") })
		w.goesOn("all of etcd lost", leader, server)
		w.voters(2)
		w.flowing(writer)
		t.Logf("all of etcd lost: %s without writes", writer.Longest(lost, time.Now()).Round(time.Millisecond))
	}

	// A majority is gone for ever.
	nodes, etcd := w.carriers()
	for i := range 2 {
		w.kill(etcd[i], unix.SIGSTOP)
		w.check(os.RemoveAll(nodes[i].Etcd.Data))
	}
	for i := range 2 {
		w.kill(etcd[i], unix.SIGKILL)
	}
	w.refused("confirm", "", "etcd", "recover")
	w.howdah("etcd", "recover", "--confirm", "demo")
	w.goesOn("a majority lost", leader, server)
	w.until("three members serve", func() bool { return strings.Contains(w.status(), "3 of 3 members up") })
	if said := w.howdah("etcd", "recover", "--confirm", "demo"); !strings.Contains(said, "nothing to do") {
		t.Errorf("a second recover says %q", said)
	}
	w.voters(2)
	w.flowing(writer)

	w.howdah("etcd", "restore", snapshot, "--confirm", "demo")
	w.goesOn("a snapshot put back", leader, server)
	w.until("three members serve", func() bool { return strings.Contains(w.status(), "3 of 3 members up") })
	w.voters(2)
	w.flowing(writer)

	other := w.replica().Member
	w.howdah("etcd", "replace", other, "--yes")
	w.howdah("etcd", "remove", other, "--yes")
	w.until("two members serve", func() bool { return strings.Contains(w.status(), "2 of 2 members up") })
	w.refused("etcd-quorum", "majority", "etcd", "remove", leader, "--yes")
	if said := w.howdah("etcd", "remove", other, "--yes"); !strings.Contains(said, "nothing to do") {
		t.Errorf("a second remove says %q", said)
	}
	w.howdah("etcd", "add", other)
	w.until("three members serve", func() bool { return strings.Contains(w.status(), "3 of 3 members up") })
	w.goesOn("members removed and added", leader, server)
	w.voters(2)
	w.flowing(writer)
	w.kept(writer)
}

func (w *world) config() string {
	a, _ := w.Run(w.ctx, "show-config") // the store may not answer yet
	return a.Out
}
