package port

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"howdah/problem"
)

func TestATakenPortNamesItsHolder(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(l.Addr().String()).Port())
		h, ok := Find(addr)
		if !ok || h.PID != os.Getpid() || h.Program == "" {
			t.Errorf("%s: Find(%s) = %+v, %t; want this process", at, addr, h, ok)
		}
		_, err = net.Listen("tcp", addr.String())
		err = Taken("cannot listen", err)
		if problem.Code(err) != "port-taken" || !strings.Contains(err.Error(), h.String()) {
			t.Errorf("%s: Taken = %v; want port-taken by %s", at, err, h)
		}
	}
}

func TestAFreePortHasNoHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	if h, ok := Find(addr); ok {
		t.Errorf("Find(%s) = %+v; want nobody", addr, h)
	}
}
