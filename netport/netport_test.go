package netport_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"howdah/netport"
	"howdah/problem"
)

func TestHolder(t *testing.T) {
	for _, tt := range []struct{ listen, ask string }{
		{"127.0.0.1", "127.0.0.1"},
		{"127.0.0.1", ""},
		{"0.0.0.0", "127.0.0.9"},
		{"[::1]", "::1"},
		{"[::]", "127.0.0.1"},
	} {
		l, err := net.Listen("tcp", tt.listen+":0")
		if err != nil {
			t.Logf("cannot listen on %s: %v", tt.listen, err)
			continue
		}
		port := l.Addr().(*net.TCPAddr).Port
		desc, ok := netport.Holder(tt.ask, port)
		if want := fmt.Sprintf("(pid %d) on ", os.Getpid()); !ok || !strings.Contains(desc, want) {
			t.Errorf("listening on %s: Holder(%q) = %q, %v, want %q", tt.listen, tt.ask, desc, ok, want)
		}
		if err := netport.Check(tt.ask, port); problem.Code(err) != "port-taken" {
			t.Errorf("Check(%q) = %v, want port-taken", tt.ask, err)
		}
		l.Close()
		if desc, ok := netport.Holder(tt.ask, port); ok {
			t.Errorf("closed: Holder(%q) = %q", tt.ask, desc)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := netport.Check("127.0.0.2", l.Addr().(*net.TCPAddr).Port); err != nil {
		t.Errorf("another address: %v", err)
	}
}
