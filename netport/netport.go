// Package netport says who holds a TCP port of this machine.
//
// It reads /proc and never connects or binds, so that asking disturbs nobody.
// It sees the listeners of the network namespace it runs in; of processes that
// belong to another user it may know the port but not the name.
// Source: proc(5), net/ipv4/tcp_ipv4.c (get_tcp4_sock).
package netport

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"howdah/problem"
)

// Check returns a problem that names the holder when somebody listens where a
// server wants to listen: on the same address, or on all of them.
func Check(addr string, port int) error {
	desc, ok := Holder(addr, port)
	if !ok {
		return nil
	}
	return &problem.Error{
		Code: "port-taken",
		What: fmt.Sprintf("cannot listen on %s port %d", addr, port),
		Why:  "it is held by " + desc,
		Do:   "stop that program or give it another address; if it is another playground, `howdah down --dir` of that one",
	}
}

// Holder describes who listens on addr and port ("postgres (pid 4711) on
// 0.0.0.0:5432"); ok is false when nobody does. An addr that is no address
// (a host name, "", "*") stands for every address.
func Holder(addr string, port int) (desc string, ok bool) {
	want, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	everywhere := err != nil || want.IsUnspecified()
	want = want.Unmap()
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for _, l := range listeners(string(text)) {
			at := l.at.Addr().Unmap()
			// A wildcard listener of IPv6 takes IPv4 as well unless it says otherwise.
			if int(l.at.Port()) != port || !everywhere && at != want && !at.IsUnspecified() {
				continue
			}
			return owner(l.inode) + " on " + netip.AddrPortFrom(at, l.at.Port()).String(), true
		}
	}
	return "", false
}

type listener struct {
	at    netip.AddrPort
	inode string
}

// listeners reads the sockets in state LISTEN (0A) of a table of /proc/net.
func listeners(table string) []listener {
	var found []listener
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != "0A" {
			continue
		}
		host, port, _ := strings.Cut(f[1], ":")
		raw, err1 := hex.DecodeString(host)
		n, err2 := strconv.ParseUint(port, 16, 16)
		if err1 != nil || err2 != nil {
			continue
		}
		for word := range slices.Chunk(raw, 4) { // each word is printed in the machine's (little) order
			slices.Reverse(word)
		}
		if a, ok := netip.AddrFromSlice(raw); ok {
			found = append(found, listener{netip.AddrPortFrom(a, uint16(n)), f[9]})
		}
	}
	return found
}

// owner names the process that has the socket open.
func owner(inode string) string {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target == "socket:["+inode+"]" {
			dir := filepath.Dir(filepath.Dir(fd))
			name, _ := os.ReadFile(filepath.Join(dir, "comm"))
			return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
		}
	}
	return "a process of another user"
}
