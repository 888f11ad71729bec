package node

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"howdah/listen"
	"howdah/spec"
)

// What a server said before it was frozen, and what the gateway here passed on by
// right, lies with the kernel until its client confirms it: with the network cut,
// for minutes, and a client hears of a commit when the network is back and another
// leads.

// answering are the ports from which n's clients hear of their commits. None on a
// loopback address: nothing stays under way there, and a port is several nodes'.
func answering(n spec.Node) []int {
	if net.ParseIP(n.Address).IsLoopback() {
		return nil
	}
	ports := []int{n.Postgres.Port}
	for _, p := range listen.Gateway(n) {
		ports = append(ports, p.Port)
	}
	return ports
}

// unsentLook is how often connections are looked at while a server is frozen. A
// retransmission is due 200 ms after the sending (TCP_RTO_MIN) at the earliest.
const unsentLook = 100 * time.Millisecond

// Of linux/inet_diag.h, in the machine's byte order but for the ports:
//
//	inet_diag_req_v2   family 1, protocol 1, extensions 1, 0 1, states 4, id 48
//	inet_diag_msg      family 1, state 1, timer 1, retransmissions 1, id 48,
//	                   expires 4, received 4, unconfirmed 4, user 4, inode 4
//	id                 local port 2, remote port 2 (network order), addresses 16 + 16, interface 4, cookie 8
const (
	diagID      = 48
	diagRequest = 8 + diagID
	diagAnswer  = 4 + diagID + 5*4
	diagResends = 1 // the timer that runs: a retransmission. 4, a probe of a full window, is a client that lives

	// Every state in which bytes may wait, also of a process that is gone (tcp_states.h).
	diagStates = 1<<1 | 1<<4 | 1<<8 | 1<<9 | 1<<11 // ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING
)

// dropUnsent ends the connections of the local ports on which something was sent
// again because nobody confirmed it, with what lies there, and says how many. One
// whose client is merely slow, or has just been answered, stays. It needs
// CAP_NET_ADMIN and a kernel that ends connections (CONFIG_INET_DIAG_DESTROY).
func dropUnsent(ports ...int) (dropped int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("list connections: %w", err)
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(unsentLook)) // the guard has more to do
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return 0, fmt.Errorf("list connections: %w", err)
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		var stuck [][]byte
		err := diag(fd, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, family, make([]byte, diagID), func(m []byte) {
			id := m[4 : 4+diagID]
			unconfirmed := binary.NativeEndian.Uint32(m[4+diagID+8:])
			if slices.Contains(ports, int(binary.BigEndian.Uint16(id))) && m[2] == diagResends && m[3] > 0 && unconfirmed > 0 {
				stuck = append(stuck, append([]byte(nil), id...))
			}
		})
		if err != nil {
			return dropped, fmt.Errorf("list connections: %w", err)
		}
		for _, id := range stuck {
			err := diag(fd, unix.SOCK_DESTROY, unix.NLM_F_ACK, family, id, func([]byte) {})
			if err != nil && err != unix.ENOENT {
				return dropped, fmt.Errorf("end a connection: %w", err)
			}
			dropped++
		}
	}
	return dropped, nil
}

// diag sends one request about TCP connections and tells of each answer, until
// the kernel says that these were all.
func diag(fd int, kind, flags uint16, family byte, id []byte, tell func([]byte)) error {
	r := make([]byte, unix.SizeofNlMsghdr+diagRequest)
	binary.NativeEndian.PutUint32(r, uint32(len(r)))
	binary.NativeEndian.PutUint16(r[4:], kind)
	binary.NativeEndian.PutUint16(r[6:], unix.NLM_F_REQUEST|flags)
	r[16], r[17] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(r[20:], diagStates)
	copy(r[24:], id)
	if err := unix.Sendto(fd, r, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return unix.EBADMSG
			}
			body := b[unix.SizeofNlMsghdr:size]
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR: // of an acknowledgement: 0
				if len(body) < 4 {
					return unix.EBADMSG
				}
				if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
					return unix.Errno(-code)
				}
				return nil
			case unix.SOCK_DIAG_BY_FAMILY:
				if len(body) >= diagAnswer {
					tell(body)
				}
			}
			b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
		}
	}
}
