package gateway

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pgwire"
	"howdah/pki"
)

// A cancel request goes to the node that its key names, at the same port, over TLS,
// and to nobody else.
func TestACancelIsPassedOn(t *testing.T) {
	w := newWorld(t, nil)
	mine, err := pki.Open(w.g.node.TLS)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	got := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			got <- hear(c, w.g.server)
			c.Close()
		}
	}()
	for _, name := range []string{"a", "b", "c"} {
		w.member(name, "127.0.0.1:5432", nil)
	}
	w.member("d", "127.0.0.1:5432", func(m *cluster.PictureMember) { m.Host = "" })
	w.see()
	f := w.g.fronts[0]
	pass := f.elsewhere(port, mine)
	key := func(member string) [8]byte {
		k := [8]byte{1, 2, 0, 0, 5, 6, 7, 9}
		binary.LittleEndian.PutUint16(k[2:], tagOf(member))
		return k
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	want := key("b")
	pass(ctx, want)
	select {
	case b := <-got:
		if b != string(want[:]) {
			t.Errorf("it hears %q, want %q", b, want)
		}
	case <-ctx.Done():
		t.Fatal("nobody hears of it")
	}
	for _, nobody := range []string{"a", "d", "e"} { // this node itself, one that is nowhere, and none
		pass(ctx, key(nobody))
	}
	if len(got) > 0 {
		t.Errorf("somebody else hears %q", <-got)
	}
	if tagOf("a") == tagOf("b") || tagOf("") == 0 {
		t.Error("tags tell nobody apart")
	}
}

// hear reads a cancel request that is encrypted.
func hear(c net.Conn, config *tls.Config) string {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || n != 8 || binary.BigEndian.Uint32(b[4:]) != pgwire.SSLRequest {
		return "no request for TLS"
	}
	if _, err := c.Write([]byte("S")); err != nil {
		return err.Error()
	}
	s := tls.Server(c, config)
	n, err := s.Read(b)
	if err != nil {
		return err.Error()
	}
	if n != 16 || binary.BigEndian.Uint32(b[4:]) != pgwire.CancelRequest {
		return "no cancel request"
	}
	return string(b[8:16])
}
