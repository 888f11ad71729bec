package playground

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/access/vip/hold"
	"howdah/node/process"
	"howdah/spec"
)

// The isolated ground: a namespace for each node with a link eth0 that has the
// node's address, and one namespace more, the hub, with the bridge that joins
// them. The bridge has an address of its own: what comes through a door comes
// from there, as from a client in the same network. The namespaces are mounted in our own run directory and not where
// iproute2 keeps its own: nothing can collide there, and all of it goes with
// the directory (`nsenter --net=FILE` opens them).
const (
	hub      = "hub"
	bridge   = "br0"
	nodeLink = "eth0"
	prefix   = 24
)

// tryNamespaces says why namespaces cannot be made here, or nil.
func tryNamespaces() error {
	return process.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("this process may not make network namespaces: %w", err)
		}
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
			return fmt.Errorf("the kernel makes no bridge: %w", err)
		}
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "p1"}, PeerName: "p2"}
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("the kernel makes no veth pair: %w", err)
		}
		return nil
	})
}

// raise makes the ground, or completes it.
func (s State) raise(nodes []spec.Node) error {
	if err := os.MkdirAll(filepath.Join(s.Run, "net"), 0o755); err != nil {
		return err
	}
	if err := makeNet(s.net(hub)); err != nil {
		return err
	}
	err := process.InNet(s.net(hub), func() error {
		if _, err := netlink.LinkByName(bridge); err != nil {
			if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}); err != nil {
				return fmt.Errorf("bridge: %w", err)
			}
		}
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		// One that the kernel chose would change whenever a port comes or goes.
		if err := netlink.LinkSetHardwareAddr(br, hubMAC); err != nil {
			return fmt.Errorf("bridge: %w", err)
		}
		for _, a := range hubAddresses(nodes) {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(prefix, 32)}}
			if err := netlink.AddrAdd(br, addr); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("bridge: %w", err)
			}
		}
		return setLink(bridge, true)
	})
	if err != nil {
		return err
	}
	first := map[string]string{}
	for _, n := range nodes {
		if other, ok := first[n.Host]; ok { // two servers of one host
			if err := shareNet(s.net(other), s.net(n.Member)); err != nil {
				return fmt.Errorf("network of %s: %w", n.Member, err)
			}
			continue
		}
		first[n.Host] = n.Member
		if err := makeNet(s.net(n.Member)); err != nil {
			return err
		}
		if err := s.connect(n, s.seat(n)); err != nil {
			return fmt.Errorf("network of %s: %w", n.Member, err)
		}
	}
	return nil
}

// seat is the node's place on the bridge, which it keeps whoever else comes and goes.
func (s State) seat(n spec.Node) int { return slices.Index(s.Members, n.Paths.Dir) }

// portOf is the bridge's end of the link of the node in the i-th seat.
func portOf(i int) string { return "p" + strconv.Itoa(i+1) }

// hubMAC is from the range that everybody may use (IEEE 802, locally administered).
var hubMAC = net.HardwareAddr{0x02, 'h', 'o', 'w', 'd', 0}

// hubAddresses are the bridge's, one in each network of the nodes: the first,
// as a router has it, or else the last that no node has.
func hubAddresses(nodes []spec.Node) []netip.Addr {
	taken := map[netip.Addr]bool{}
	var networks []netip.Prefix
	for _, n := range nodes {
		a, err := netip.ParseAddr(n.Address)
		if err != nil || !a.Is4() {
			continue
		}
		taken[a] = true
		if p := netip.PrefixFrom(a, prefix).Masked(); !slices.Contains(networks, p) {
			networks = append(networks, p)
		}
	}
	var addrs []netip.Addr
	for _, p := range networks {
		b := p.Addr().As4()
		b[3] = 1
		for taken[netip.AddrFrom4(b)] && b[3] != 2 {
			if b[3]--; b[3] == 0 {
				b[3] = 254
			}
		}
		addrs = append(addrs, netip.AddrFrom4(b))
	}
	return addrs
}

// connect gives the node its link, address and place on the bridge.
func (s State) connect(n spec.Node, i int) error {
	port := portOf(i)
	fd, err := unix.Open(s.net(n.Member), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = process.InNet(s.net(hub), func() error {
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if _, err := netlink.LinkByName(port); err != nil {
			err := netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: port, MasterIndex: br.Attrs().Index},
				PeerName:  nodeLink, PeerNamespace: netlink.NsFd(fd),
			})
			if err != nil {
				return err
			}
		}
		// A keeper that died may have left it off the bridge, with a line between.
		p, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if line, err := netlink.LinkByName(lineOf(i)); err == nil {
			if err := netlink.LinkDel(line); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetMaster(p, br); err != nil {
			return err
		}
		return setLink(port, true)
	})
	if err != nil {
		return err
	}
	return process.InNet(s.net(n.Member), func() error {
		if err := setLink("lo", true); err != nil {
			return err
		}
		link, err := netlink.LinkByName(nodeLink)
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(n.Address), Mask: net.CIDRMask(prefix, 32)}}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if Stopped(n) {
			return nil
		}
		return setLink(nodeLink, true)
	})
}

// setLink takes a link of the current namespace up or down.
func setLink(name string, up bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if up {
		err = netlink.LinkSetUp(link)
	} else {
		err = netlink.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// plug connects the node to its network or takes it off, as its cable.
func (s State) plug(n spec.Node, in bool) error {
	if s.Ground != Isolated || !mounted(s.net(n.Member)) {
		return nil
	}
	return process.InNet(s.net(n.Member), func() error {
		if !in && n.VIP.Address != "" {
			// A machine that loses power loses what it was lent.
			if err := hold.Clear(n.VIP); err != nil {
				return err
			}
		}
		return setLink(nodeLink, in)
	})
}

func mounted(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// makeNet mounts a new network namespace at path, unless one is there.
func makeNet(path string) error {
	if mounted(path) {
		return nil
	}
	return process.NewNet(path)
}

// shareNet mounts the namespace at from at path too.
func shareNet(from, path string) error {
	if mounted(path) {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	return unix.Mount(from, path, "", unix.MS_BIND, "")
}

// raze takes the ground away. The kernel frees a namespace when its last
// process and this mount are gone, and with it both ends of its link.
func (s State) raze() error {
	dir := filepath.Join(s.Run, "net")
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		for mounted(path) {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
				break
			}
		}
		errs = append(errs, os.Remove(path))
	}
	errs = append(errs, os.Remove(dir))
	return errors.Join(errs...)
}
