package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"howdah/access/pooler"
	"howdah/listen"
	"howdah/nodefile"
	"howdah/spec"
)

// TestMain is the successor's beginning, too, which has the arguments of whoever starts it.
func TestMain(m *testing.M) {
	k, err := inheritKin()
	switch {
	case err != nil:
		panic(err)
	case k != nil:
		heir(k)
	}
	os.Exit(m.Run())
}

// heir is what the test's successor does, which is this program again: it says that it is ready,
// and when it is told to go, answers who connects.
func heir(k *kin) {
	defer os.Exit(0)
	all, err := listen.Inherited()
	if err != nil || all["door"] == nil {
		return
	}
	if k.send(frameReady, nil) != nil {
		return
	}
	if kind, _, _, err := k.receive(); err != nil || kind != frameGo {
		return
	}
	c, err := all["door"].Accept()
	if err != nil {
		return
	}
	_, _ = io.WriteString(c, "heir")
	c.Close()
	k.cancel([8]byte{1})
	_, _, _, _ = k.receive() // its end
}

// A gateway that is asked to starts its successor, which has the listening sockets, and ends; a
// successor that comes to nothing changes nothing.
func TestAGatewayGivesItsPlaceToAnother(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log := slog.New(slog.DiscardHandler)
	pools, err := pooler.New(log)
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- pools.Run(life) }()
	defer func() { end(); <-ran }()
	s := newSuccession(nil, map[string]*net.TCPListener{"door": l.(*net.TCPListener)})
	g := &Gateway{node: spec.Node{Paths: spec.Paths{Binary: "/bin/false", Dir: t.TempDir()}}, log: log, succession: s}
	kept := make(chan struct{}) // a part that ends before the successor begins
	go func() {
		_ = s.only(func(ctx context.Context) error { <-ctx.Done(); close(kept); return nil })(life)
	}()
	ended := make(chan error, 1)
	go func() { ended <- g.succeed(life, nil, pools) }()
	asked := func() error {
		done := make(chan error, 1)
		s.ask(func(err error) { done <- err })
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("no answer")
		}
	}
	for range 2 {
		if err := asked(); !errors.Is(err, errSuccessor) {
			t.Fatalf("a successor that ends at once: %v", err)
		}
	}
	if !s.serves() {
		t.Fatal("nobody serves")
	}
	g.node.Paths.Binary = program
	if err := asked(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-kept:
	default:
		t.Error("the successor serves beside what was to have ended")
	}
	if err := <-ended; err != nil || s.serves() {
		t.Errorf("it ends with %v, and serves: %v", err, s.serves())
	}
	l.Close() // as it does with its parts
	c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if said, err := io.ReadAll(c); string(said) != "heir" {
		t.Errorf("who connects hears %q, %v", said, err)
	}
	select {
	case <-s.gone:
	case <-time.After(10 * time.Second):
		t.Error("the successor does not end")
	}
}

// A gateway that is to leave ends: with everybody handed over, or plainly where the node can
// not be read, or listens elsewhere by now.
func TestAGatewayThatIsToLeaveEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here := l.Addr().(*net.TCPAddr)
	all := map[string]*net.TCPListener{listen.Pool: l.(*net.TCPListener)}
	for name, at := range map[string]struct {
		pool string
		want error
	}{
		"no description": {"", os.ErrNotExist},
		"elsewhere":      {"127.0.0.2:" + strconv.Itoa(here.Port), errSockets},
		"a socket more":  {here.String(), errSockets},
		"as before":      {here.String(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := spec.Node{Cluster: "demo", Member: "a", Paths: spec.Paths{Binary: "/bin/false", Dir: t.TempDir()}}
			if n.Pool.Listen = at.pool; at.pool != "" {
				if name == "a socket more" {
					n.Gateway.Listen = "127.0.0.1:1"
				}
				if err := nodefile.Write(n, -1, -1); err != nil {
					t.Fatal(err)
				}
			}
			g := &Gateway{node: n, log: slog.New(slog.DiscardHandler), succession: newSuccession(nil, all)}
			if err := g.heirless(); !errors.Is(err, at.want) {
				t.Errorf("heirless() = %v, want %v", err, at.want)
			}
			leave := make(chan struct{})
			close(leave)
			if err := g.succeed(t.Context(), leave, nil); err != nil || !g.succession.serves() {
				t.Errorf("it ends with %v, and serves: %t", err, g.succession.serves())
			}
		})
	}
}
