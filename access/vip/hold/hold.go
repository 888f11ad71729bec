// Package hold gives the virtual address its hands: the kernel's addresses by
// netlink, frames by a packet socket, and the loop that does what package vip
// decides.
//
// The loop is a role of its own, because it needs two capabilities that no other
// role has (CAP_NET_ADMIN, CAP_NET_RAW) and nothing else of root. It reads the
// lease page and asks nobody. The guard in the supervisor calls Clear, so that
// the address goes at its deadline when this role is dead or stopped; and where
// that is dead too the kernel takes it away, to which it is only lent.
//
// It never takes an address that is not spec.VIP's, and knows it by the address
// alone: a prefix that was changed meanwhile leaves no second one behind.
package hold

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/access/vip"
	"howdah/problem"
	"howdah/spec"
)

// Auto is the interface that has the node's own address.
const Auto = "auto"

// An iface is the interface that has the address, or is to have it.
type iface struct {
	link netlink.Link
	mac  vip.MAC
	up   bool
}

// find looks for the node's interface.
func find(n spec.Node) (iface, error) {
	name := n.VIP.Interface
	var link netlink.Link
	var err error
	if name != Auto && name != "" {
		link, err = netlink.LinkByName(name)
	} else {
		link, err = having(n.Address)
	}
	if err != nil {
		return iface{}, noInterface(n, err)
	}
	a := link.Attrs()
	i := iface{link: link, up: a.Flags&net.FlagUp != 0 && a.OperState != netlink.OperDown && a.OperState != netlink.OperLowerLayerDown}
	if a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) != len(i.mac) {
		return iface{}, noInterface(n, fmt.Errorf("%s is no Ethernet", a.Name))
	}
	copy(i.mac[:], a.HardwareAddr)
	return i, nil
}

// having is the link that has an address.
func having(address string) (netlink.Link, error) {
	want, err := netip.ParseAddr(address)
	if err != nil {
		return nil, err
	}
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == want {
			return netlink.LinkByIndex(a.LinkIndex)
		}
	}
	return nil, fmt.Errorf("no interface has the address %s", address)
}

func noInterface(n spec.Node, err error) error {
	return &problem.Error{
		Code: "vip-interface", What: "cannot take the virtual address " + n.VIP.Address + " on " + n.Member,
		Why: fmt.Sprintf("there is no interface for it (pg_vip_interface is %s): %s", n.VIP.Interface, err),
		Do:  "name the interface of that network in pg_vip_interface (`ip link` lists them), and describe the node again", Err: err,
	}
}

// held are the interface's addresses that are v's; with no interface, anybody's.
func held(link netlink.Link, v spec.VIP) ([]netlink.Addr, error) {
	p, err := netip.ParsePrefix(v.Address)
	if err != nil {
		return nil, err
	}
	family := netlink.FAMILY_V6
	if p.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	all, err := netlink.AddrList(link, family)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(a netlink.Addr) bool {
		ip, ok := netip.AddrFromSlice(a.IP)
		return !ok || ip.Unmap() != p.Addr()
	}), nil
}

// lend has the kernel keep the address on the interface for so long, or longer
// if it is asked again.
func lend(link netlink.Link, v spec.VIP, d time.Duration) error {
	p, err := netip.ParsePrefix(v.Address)
	if err != nil {
		return err
	}
	seconds := int(d / time.Second)
	a := netlink.Addr{
		IPNet:    &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		ValidLft: seconds, PreferedLft: seconds,
	}
	if p.Addr().Is6() {
		// Whether another has it was asked already, and what the node begins itself
		// is not to come from an address that it may lose.
		a.Flags, a.PreferedLft = unix.IFA_F_NODAD, 0
	}
	return netlink.AddrReplace(link, &a)
}

// Clear takes v off whatever interface of this network namespace has it.
func Clear(v spec.VIP) error {
	all, err := held(nil, v)
	if err != nil {
		return fmt.Errorf("virtual address %s: %w", v.Address, err)
	}
	var errs []error
	for _, a := range all {
		bare := netlink.Addr{IPNet: a.IPNet, LinkIndex: a.LinkIndex}
		if err := netlink.AddrDel(nil, &bare); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("virtual address %s: %w", v.Address, err))
		}
	}
	return errors.Join(errs...)
}

// A tap sends and hears frames of one interface: of those that come only who
// claims the address, so that a busy network wakes nobody.
type tap struct {
	file  *os.File
	index int
}

func openTap(i iface, address netip.Addr) (*tap, error) {
	// No protocol yet: nothing is heard before the filter stands.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	program := filter(i.mac, address)
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: unsafe.SliceData(program)})
	kind := uint16(unix.ETH_P_ARP)
	if address.Is6() {
		kind = unix.ETH_P_IPV6
		if err == nil {
			// Advertisements of others go to all nodes, which every interface hears.
			err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{
				Ifindex: int32(i.link.Attrs().Index), Type: unix.PACKET_MR_ALLMULTI,
			})
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network(kind), Ifindex: i.link.Attrs().Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &tap{os.NewFile(uintptr(fd), "packets"), i.link.Attrs().Index}, nil
}

// network is a number in the network's byte order.
func network(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// filter passes the frames of others that say the address is theirs.
func filter(own vip.MAC, address netip.Addr) []unix.SockFilter {
	const (
		word, half = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		equal, ret = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	)
	// A line for each load and comparison; every one that fails ends it.
	type same struct {
		load   uint16
		at, is uint32
	}
	var all []same
	if address.Is4() {
		a := address.As4()
		all = []same{{half, 12, unix.ETH_P_ARP}, {word, 28, binary.BigEndian.Uint32(a[:])}}
	} else {
		a := address.As16()
		all = []same{
			{half, 12, unix.ETH_P_IPV6},
			{word, 62, binary.BigEndian.Uint32(a[0:])},
			{word, 66, binary.BigEndian.Uint32(a[4:])},
			{word, 70, binary.BigEndian.Uint32(a[8:])},
			{word, 74, binary.BigEndian.Uint32(a[12:])},
		}
	}
	var p []unix.SockFilter
	for _, s := range all {
		p = append(p,
			unix.SockFilter{Code: s.load, K: s.at},
			unix.SockFilter{Code: equal, Jt: 1, K: s.is},
			unix.SockFilter{Code: ret, K: 0},
		)
	}
	return append(p, // and not from us
		unix.SockFilter{Code: word, K: 6},
		unix.SockFilter{Code: equal, Jf: 3, K: binary.BigEndian.Uint32(own[:])},
		unix.SockFilter{Code: half, K: 10},
		unix.SockFilter{Code: equal, Jf: 1, K: uint32(binary.BigEndian.Uint16(own[4:]))},
		unix.SockFilter{Code: ret, K: 0},
		unix.SockFilter{Code: ret, K: 256},
	)
}

// hear calls told with each rival's hardware address until the tap is closed.
func (t *tap) hear(address netip.Addr, told func(vip.MAC)) {
	var b [256]byte
	for {
		n, err := t.file.Read(b[:])
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // the link goes and comes; the next read waits
		case err != nil:
			return
		}
		if mac, ok := vip.Claimant(b[:n], address); ok {
			told(mac)
		}
	}
}

func (t *tap) send(frames ...[]byte) error {
	var errs []error
	for _, f := range frames {
		_, err := t.file.Write(f)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t *tap) close() {
	if t != nil {
		t.file.Close()
	}
}
