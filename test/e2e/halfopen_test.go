package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/node/process"
	"howdah/playground"
)

// A thousand connections that say nothing, or half of something, on each port that
// the leader's node has, but PostgreSQL's own: it leads on, and no part of it dies.
func TestHalfOpenOnEveryPort(t *testing.T) {
	byNight(t)
	w := demo(t)
	n := w.Node(w.whole())
	state, err := playground.Load(w.Dir)
	w.check(err)
	inside := func(do func() error) error { return do() }
	if state.Ground == playground.Isolated {
		netns := filepath.Join(state.Run, "net", n.Member)
		inside = func(do func() error) error { return process.InNet(netns, do) }
	}
	roles := []string{"node", "agent", "gateway", "jobs", "etcd"}
	ids := func() (all []process.ID) {
		for _, r := range roles {
			all = append(all, w.role(n, r))
		}
		return all
	}
	before, line := ids(), w.sql("SELECT timeline_id FROM pg_control_checkpoint()")
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", before[1].PID))
	w.check(err)
	var ports []int
	for l := range strings.Lines(string(table)) {
		f := strings.Fields(l)
		if len(f) < 4 || f[3] != "0A" { // TCP_LISTEN, include/net/tcp_states.h
			continue
		}
		address, port, _ := strings.Cut(f[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		w.check(err)
		ip := net.ParseIP(n.Address).To4()
		if address == fmt.Sprintf("%02X%02X%02X%02X", ip[3], ip[2], ip[1], ip[0]) && int(number) != n.Postgres.Port {
			ports = append(ports, int(number))
		}
	}
	slices.Sort(ports)
	t.Logf("ports %v", ports)
	for _, port := range []int{5433, 5434, 5436, 5438, 6432, 8008, 9101, 2379, 2380, 8432} {
		if !slices.Contains(ports, port) {
			t.Errorf("nobody listens on %d", port)
		}
	}
	writer := w.write()
	for _, port := range ports {
		var open []net.Conn
		w.check(inside(func() error {
			for i := range 1000 {
				c, err := net.DialTimeout("tcp", net.JoinHostPort(n.Address, strconv.Itoa(port)), 10*time.Second)
				if err != nil {
					return err
				}
				open = append(open, c)
				_, _ = c.Write([]byte([]string{"", "G", "\x16\x03", "\x00\x00\x00"}[i%4])) // who may have closed it
			}
			return nil
		}))
		w.howdah("list")
		w.flowing(writer)
		for _, c := range open {
			c.Close()
		}
	}
	if leader := w.whole(); leader != n.Member {
		t.Errorf("%s leads, and before %s", leader, n.Member)
	}
	if now := w.sql("SELECT timeline_id FROM pg_control_checkpoint()"); now != line {
		t.Errorf("timeline %s, and before %s", now, line)
	}
	if now := ids(); !slices.Equal(now, before) {
		t.Errorf("%v run as %v, and before as %v", roles, now, before)
	}
	w.kept(writer)
}
