package e2e

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/node/process"
	"howdah/playground"
	"howdah/spec"
)

const virtual = `cluster: app
hosts: [10.10.10.11, 10.10.10.12, 10.10.10.13]
template: tiny
backup: false
vip: 10.10.10.2/24
dns: yes
dns_suffix: .test
databases: [{ name: app, owner: app }]
users: [{ name: app, password: secret }]
`

// A held address is watched in the networks of all nodes.
type held struct {
	*world
	nets map[string]string // by member
	hub  string
}

// The virtual address is on the leader: after a switchover on the other, kept
// while an agent is replaced, off by the end of the lease of one that is stopped,
// and never on two nodes. Who connects to it finds a server that writes.
func TestVirtualAddress(t *testing.T) {
	w := own(t)
	file := filepath.Join(t.TempDir(), "app.yml")
	w.check(os.WriteFile(file, []byte(virtual), 0o600))
	w.check(w.Up(w.ctx, file))
	s, err := playground.Load(w.Dir)
	w.check(err)
	if s.Ground != playground.Isolated {
		t.Skip("nodes have no networks of their own here: ", s.Reason)
	}
	h := &held{world: w, nets: map[string]string{}, hub: filepath.Join(s.Run, "net", "hub")}
	for _, n := range w.Nodes {
		h.nets[n.Member] = filepath.Join(s.Run, "net", n.Member)
	}
	ctx, stop := context.WithCancel(w.ctx)
	watched := make(chan string, 1)
	go func() { watched <- h.never(ctx) }()

	leader := w.whole()
	h.moved(leader)
	w.howdah("switchover", "--yes")
	leader = w.whole()
	h.moved(leader)

	// Its agent dies: the next one has the same right, and nothing moves.
	n := w.Node(leader)
	dead := w.role(n, "agent")
	w.kill(dead, unix.SIGKILL)
	w.until("another agent", func() bool { return w.role(n, "agent") != dead })
	w.whole()
	h.moved(leader)

	// Its agent is stopped, and so are those in its place: its right ends at the deadline, and with it the hold.
	agent := w.role(n, "agent")
	w.kill(agent, unix.SIGSTOP)
	release := w.holdAgents(n)
	until, ok := lease.Read(n.Paths.Page)
	if !ok || until.Role != lease.Primary {
		t.Fatalf("the lease page says %v, %v", until, ok)
	}
	over := until.Deadline + n.Agent.Timers.Margin
	gone := time.Duration(0)
	for lease.Now() < over && gone == 0 {
		if !h.has(leader) {
			gone = lease.Now()
		}
		w.pause(2 * time.Millisecond)
	}
	if gone == 0 {
		t.Errorf("%s has the address at the end of its lease", leader)
	}
	t.Logf("gone %s after the deadline", gone-until.Deadline)
	w.until("another has it", func() bool { return h.holder() != "" && h.holder() != leader })
	release()
	h.moved(w.whole())

	stop()
	if both := <-watched; both != "" {
		t.Error(both)
	}
}

// moved waits until the leader has the address, and connects to it.
func (h *held) moved(leader string) {
	h.t.Helper()
	h.until("the address is on "+leader, func() bool { return h.holder() == leader })
	h.until("every node names the leader", func() bool {
		for _, n := range h.Nodes {
			if h.lookup(n, "app-primary.test.") != h.Node(leader).Address || h.lookup(n, "app.test.") != "10.10.10.2" {
				return false
			}
		}
		return true
	})
	for _, port := range []uint16{5432, 5433} {
		h.until("who connects to the address finds a server that writes", func() bool { return h.writes(port) })
	}
}

// writes says that a server which writes answers at the address, to a client
// that is in the nodes' network.
func (h *held) writes(port uint16) bool {
	ctx, cancel := context.WithTimeout(h.ctx, 5*time.Second)
	defer cancel()
	c, err := pgconn.ParseConfig("postgres://app:secret@10.10.10.2/app?sslmode=require")
	h.check(err)
	c.Port, c.Fallbacks = port, nil
	c.DialFunc = h.dial
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	r := conn.ExecParams(ctx, "select pg_is_in_recovery()", nil, nil, nil, nil).Read()
	return r.Err == nil && string(r.Rows[0][0]) == "f"
}

// dial connects from the nodes' network.
func (h *held) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = process.InNet(h.hub, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// lookup is what the node's name server says a name is.
func (h *held) lookup(n spec.Node, name string) string {
	ctx, cancel := context.WithTimeout(h.ctx, 5*time.Second)
	defer cancel()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return h.dial(ctx, network, net.JoinHostPort(n.Address, "53"))
	}}
	addrs, err := r.LookupHost(ctx, name)
	if err != nil || len(addrs) != 1 {
		return ""
	}
	return addrs[0]
}

// holder is who has the address, or "".
func (h *held) holder() string {
	for _, n := range h.Nodes {
		if h.has(n.Member) {
			return n.Member
		}
	}
	return ""
}

func (h *held) has(member string) (has bool) {
	want := netip.MustParsePrefix("10.10.10.2/24").Addr()
	// A dump that others' changes interrupt says what was there before or after.
	_ = process.InNet(h.nets[member], func() error {
		all, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		for _, a := range all {
			ip, ok := netip.AddrFromSlice(a.IP)
			has = has || ok && ip.Unmap() == want
		}
		return err
	})
	return has
}

// never looks at all nodes until ctx ends, and says which two had the address at
// one moment: one of them before and after the other was seen to have it.
func (h *held) never(ctx context.Context) string {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		var on []spec.Node
		for _, n := range h.Nodes {
			if h.has(n.Member) {
				on = append(on, n)
			}
		}
		if len(on) > 1 && h.has(on[0].Member) {
			return on[0].Member + " and " + on[1].Member + " had the address at once"
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ""
		}
	}
}
