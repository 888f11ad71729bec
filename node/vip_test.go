package node

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/node/process"
	"howdah/spec"
)

var errNoNamespaces = errors.New("network namespaces can not be made here")

// The guard takes the virtual address away when the right is over: what it finds at
// its start, and what is there at the deadline, to which it looks in time.
func TestTheGuardClearsTheAddress(t *testing.T) {
	err := process.OnThread(func() error {
		if unix.Unshare(unix.CLONE_NEWNET) != nil {
			return errNoNamespaces
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 10, 10, 2), Mask: net.CIDRMask(24, 32)}}
		has := func() bool {
			all, err := netlink.AddrList(lo, netlink.FAMILY_V4)
			if err != nil {
				t.Error(err)
			}
			return len(all) > 0
		}
		g := &Guard{VIP: spec.VIP{Address: "10.10.10.2/24", Interface: "auto"}, Log: slog.New(slog.DiscardHandler)}
		const now = time.Hour
		open := facts{Now: now, Valid: true, Page: lease.Page{Role: lease.Primary, Epoch: 3, Deadline: now + 100*time.Millisecond}}
		for _, tt := range []struct {
			name string
			f    facts
			has  bool
			wait time.Duration
		}{
			{"found at the start", facts{Now: now}, false, glance},
			{"by right", open, true, 100 * time.Millisecond},
			{"the deadline", facts{Now: open.Page.Deadline, Valid: true, Page: open.Page}, false, glance},
			{"by right again", open, true, 100 * time.Millisecond},
			{"no page", facts{Now: now, Page: open.Page}, false, glance},
			{"by right once more", open, true, 100 * time.Millisecond},
			{"a replica's page", facts{Now: now, Valid: true, Page: lease.Page{Role: lease.Replica, Deadline: now + time.Hour}}, false, glance},
		} {
			if err := netlink.AddrReplace(lo, address); err != nil {
				return err
			}
			if got := g.clear(tt.f, tt.f.Now+glance) - tt.f.Now; got != tt.wait || has() != tt.has {
				t.Errorf("%s: the address is on: %v, it looks again in %s; want %v, %s", tt.name, has(), got, tt.has, tt.wait)
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errNoNamespaces):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}
