package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Commits wait for who is preferred (synchronous_mode: on). Nothing that was acknowledged is
// lost with the leader's server or with its machine, nobody waits for who is not to be waited
// for, and who changes the mode under a writer loses nothing either.
func TestSynchronousByPriority(t *testing.T) {
	byNight(t)
	w := own(t)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(t.Context(), 3*forTest)
	defer cancel()
	file := filepath.Join(t.TempDir(), "app.yml")
	tagged := func(second, third string) {
		t.Helper()
		w.check(os.WriteFile(file, fmt.Appendf(nil, `cluster: app
hosts: [10.10.10.11, { address: 10.10.10.12, tags: { %s } }, { address: 10.10.10.13, tags: { %s } }]
users: [{ name: demo }]
databases: [{ name: demo, owner: demo }]
template: tiny
libs: ''
backup: false
`, second, third), 0o600))
		w.check(w.Up(w.ctx, file))
	}
	mode := func(mode string) { w.howdah("edit-config", "--set", "synchronous_mode="+mode, "--yes") }
	are := func(role string) (names []string) {
		members, _ := w.List(w.ctx)
		for _, m := range members {
			if m.Role == role {
				names = append(names, m.Member)
			}
		}
		return names
	}
	waits := func(role string, want ...string) {
		t.Helper()
		w.until(fmt.Sprintf("%s is not %v", role, want), func() bool { return slices.Equal(are(role), want) })
	}

	tagged("", "sync_priority: 5")
	if leader := w.whole(); leader != "app-1" {
		t.Fatalf("%s leads", leader)
	}
	mode("on")
	waits("Sync Standby", "app-3")
	tagged("sync_priority: 7", "sync_priority: 5")
	waits("Sync Standby", "app-2")
	writer := w.write()

	for _, fault := range []string{"kill-postgres", "kill-node", "kill-node"} {
		leader := w.whole()
		w.until("nobody is waited for", func() bool { return len(are("Sync Standby")) == 1 })
		sync := are("Sync Standby")[0]
		began := time.Now()
		w.howdah("fault", fault, leader)
		w.flowing(writer)
		outage := writer.Longest(began, time.Now())
		next := w.leader()
		t.Logf("%s of %s: %s without writes; commits waited for %s, and %s leads", fault, leader, outage.Round(time.Millisecond), sync, next)
		if fault == "kill-node" {
			if next == leader || outage > hostLost {
				t.Errorf("%s leads after %s without writes, want another within %s", next, outage, hostLost)
			}
			w.howdah("fault", "start-node", leader)
		}
		w.whole()
		w.flowing(writer)
		w.kept(writer)
		page, err := w.Page(w.ctx)
		w.check(err)
		t.Logf("why tells of %s: %v", page.Kind, page.Phases)
	}

	// Nobody is preferred so much that he is waited for and must not be.
	tagged("nosync: true", "nosync: true")
	if leader := w.whole(); leader != "app-1" {
		waits("Sync Standby", "app-1")
	} else {
		waits("Sync Standby")
		tagged("nosync: true", "")
		waits("Sync Standby", "app-3")
	}
	tagged("", "")
	w.flowing(writer)

	for _, next := range []string{"quorum", "on", "off", "quorum", "off", "on", "quorum"} {
		mode(next)
		w.until("the mode is "+next, func() bool {
			return len(are("Quorum Standby")) == map[string]int{"quorum": 2}[next] && len(are("Sync Standby")) == map[string]int{"on": 1}[next]
		})
		w.flowing(writer)
	}
	leader := w.whole()
	w.howdah("fault", "kill-node", leader)
	w.flowing(writer)
	w.howdah("fault", "start-node", leader)
	w.whole()
	w.kept(writer)
}
