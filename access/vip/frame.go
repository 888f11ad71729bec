package vip

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
)

// A MAC is a hardware address of Ethernet.
type MAC [6]byte

// String is the usual form, 02:42:ac:11:00:02.
func (m MAC) String() string {
	b := make([]byte, 0, 17)
	for i, x := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{x})
	}
	return string(b)
}

// Words of the protocols, by their numbers at IANA.
const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	nextICMPv6         = 58
	neighborSolicit    = 135
	neighborAdvertise  = 136
	targetLinkLayer    = 2
	overrideFlag       = 0x20 // of an advertisement: forget what was known (RFC 4861, 4.4)
	neighborHops       = 255  // who sees less knows that the packet came from afar
	arpSize, ndpHeader = 42, 14 + 40
)

var broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ProbeFrame asks who has addr without claiming it: an ARP probe (RFC 5227, 2.1.1)
// or the solicitation of duplicate address detection (RFC 4862, 5.4.2).
func ProbeFrame(addr netip.Addr, mac MAC) []byte {
	if addr.Is4() {
		return arp(arpRequest, mac, netip.IPv4Unspecified(), MAC{}, addr)
	}
	target := addr.As16()
	// The solicited-node group of the target (RFC 4291, 2.7.1).
	group := [16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	body := append(make([]byte, 4), target[:]...)
	return icmp(mac, MAC{0x33, 0x33, 0xff, target[13], target[14], target[15]}, netip.IPv6Unspecified().As16(), group, neighborSolicit, body)
}

// Announcements tell everybody that addr is at mac: ARP in its two forms, since
// some stacks hear only one of them, or an unsolicited neighbour advertisement.
func Announcements(addr netip.Addr, mac MAC) [][]byte {
	if addr.Is4() {
		return [][]byte{
			arp(arpReply, mac, addr, broadcast, addr),
			arp(arpRequest, mac, addr, MAC{}, addr),
		}
	}
	target := addr.As16()
	body := append([]byte{overrideFlag, 0, 0, 0}, target[:]...)
	body = append(append(body, targetLinkLayer, 1), mac[:]...) // lengths are in units of 8 bytes
	return [][]byte{icmp(mac, MAC{0x33, 0x33, 0, 0, 0, 1}, target, [16]byte{0xff, 0x02, 15: 1}, neighborAdvertise, body)}
}

// Claimant is who says in frame that addr is its own.
func Claimant(frame []byte, addr netip.Addr) (MAC, bool) {
	if len(frame) < arpSize {
		return MAC{}, false
	}
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == etherARP && addr.Is4():
		own := addr.As4()
		// Ethernet, IPv4, and their lengths.
		if !bytes.Equal(frame[14:20], []byte{0, 1, 8, 0, 6, 4}) || !bytes.Equal(frame[28:32], own[:]) {
			return MAC{}, false
		}
		return MAC(frame[22:28]), true
	case kind == etherIPv6 && addr.Is6():
		own := addr.As16()
		if len(frame) < ndpHeader+24 || frame[20] != nextICMPv6 || frame[21] != neighborHops || frame[ndpHeader] != neighborAdvertise ||
			!bytes.Equal(frame[ndpHeader+8:ndpHeader+24], own[:]) {
			return MAC{}, false
		}
		return MAC(frame[6:12]), true
	}
	return MAC{}, false
}

func ethernet(to, from MAC, kind uint16, size int) []byte {
	b := append(make([]byte, 0, size), to[:]...)
	return binary.BigEndian.AppendUint16(append(b, from[:]...), kind)
}

func arp(op uint16, mac MAC, sender netip.Addr, theirs MAC, target netip.Addr) []byte {
	b := ethernet(broadcast, mac, etherARP, arpSize)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = append(binary.BigEndian.AppendUint16(b, op), mac[:]...)
	b = append(append(b, sender.AsSlice()...), theirs[:]...)
	return append(b, target.AsSlice()...)
}

func icmp(mac, to MAC, source, destination [16]byte, kind byte, body []byte) []byte {
	b := ethernet(to, mac, etherIPv6, ndpHeader+4+len(body))
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(body)))
	b = append(b, nextICMPv6, neighborHops)
	b = append(append(b, source[:]...), destination[:]...)
	b = append(b, kind, 0, 0, 0)
	b = append(b, body...)
	// The checksum is over the addresses, the length and the next header, too (RFC 8200, 8.1).
	sum := uint32(4+len(body)) + nextICMPv6
	for covered := b[22:]; len(covered) > 0; covered = covered[2:] { // all of it has an even length
		sum += uint32(binary.BigEndian.Uint16(covered))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[ndpHeader+2:], ^uint16(sum))
	return b
}
