// Package port says who holds a listening TCP port of this machine.
//
// Its truth is /proc/net/tcp and /proc/*/fd (proc(5)); what this user may not
// look into stays unnamed.
package port

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"howdah/problem"
)

// A Holder is a process that listens.
type Holder struct {
	Addr    netip.AddrPort // what it is bound to: a wildcard covers every address
	PID     int            // 0: not visible to this user
	Program string
}

// String describes the holder for a person.
func (h Holder) String() string {
	who := "a process that this user may not see"
	if h.PID != 0 {
		who = fmt.Sprintf("%s (pid %d)", h.Program, h.PID)
	}
	if h.Addr.Addr().IsUnspecified() {
		return who + " listens on every address (" + h.Addr.String() + ")"
	}
	return who + " listens on " + h.Addr.String()
}

// Taken makes a problem of err when it says that an address is in use, naming
// who holds it; any other error is returned as it is. What is what could not
// be done: "cannot start etcd member demo-1".
func Taken(what string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	p := &problem.Error{
		Code: "port-taken",
		What: what,
		Why:  "the port is taken",
		Do:   "stop the other program, or give it or this node another port",
		Err:  err,
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Addr == nil {
		return p
	}
	p.Why, p.Err = op.Addr.String()+" is taken", nil
	if addr, err := netip.ParseAddrPort(op.Addr.String()); err == nil {
		if h, ok := Find(addr); ok {
			p.Why += ": " + h.String()
		}
	}
	return p
}

// Find returns who listens on addr, or on a wildcard that covers it.
func Find(addr netip.AddrPort) (Holder, bool) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" { // TCP_LISTEN
				continue
			}
			bound, err := parse(f[1])
			if err != nil || bound.Port() != addr.Port() {
				continue
			}
			ip := bound.Addr()
			if ip != addr.Addr().Unmap() && !ip.IsUnspecified() && !addr.Addr().IsUnspecified() {
				continue
			}
			h := Holder{Addr: bound}
			h.PID, h.Program = owner(f[9])
			return h, true
		}
	}
	return Holder{}, false
}

// parse reads an address of /proc/net/tcp: the words of the IP address in the
// machine's byte order (little-endian here), a colon, the port in plain hex.
func parse(s string) (netip.AddrPort, error) {
	ip, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(ip)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address", ip)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), err
}

// owner finds the process that has the socket with this inode open.
func owner(inode string) (pid int, program string) {
	want := "socket:[" + inode + "]"
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, _ = strconv.Atoi(filepath.Base(dir))
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}
