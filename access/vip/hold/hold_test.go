package hold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"howdah/access/vip"
	"howdah/lease"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/spec"
)

// child makes this test binary the role of the node in that directory, in a
// network namespace of its own.
const child = "HOLD_TEST_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(child)
	if dir == "" {
		os.Exit(m.Run())
	}
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM)
	n, err := nodefile.Load(dir)
	if err == nil {
		err = Run(ctx, n, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// A ground has two nodes on one wire, and the tests' own end of it.
type ground struct {
	t     *testing.T
	nodes []*host
	vip   netip.Prefix
}

// A host is a node: a network namespace, a lease page, and the role in it.
type host struct {
	spec.Node
	t    *testing.T
	net  string // where its namespace is mounted
	page *lease.Writer
	role *exec.Cmd
}

// newGround makes the namespaces, or skips where that may not be.
func newGround(t *testing.T, address string) *ground {
	t.Helper()
	g := &ground{t: t, vip: netip.MustParsePrefix(address)}
	dir := t.TempDir()
	hub := filepath.Join(dir, "hub")
	if err := process.NewNet(hub); err != nil {
		t.Skip("network namespaces can not be made here: ", err)
	}
	t.Cleanup(func() { unix.Unmount(hub, unix.MNT_DETACH) })
	g.check(process.InNet(hub, func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
			return err
		}
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(br)
	}))
	for i := range 2 {
		h := &host{t: t, net: filepath.Join(dir, "net"+strconv.Itoa(i))}
		h.Node = spec.Node{
			Cluster: "a", Member: "a-" + strconv.Itoa(i+1), Address: "10.10.10.1" + strconv.Itoa(i+1),
			Paths: spec.Paths{Dir: filepath.Join(dir, "a"+strconv.Itoa(i))}, VIP: spec.VIP{Address: address, Interface: Auto},
		}
		h.Paths.Run, h.Paths.Page = h.Paths.Dir, filepath.Join(h.Paths.Dir, "lease")
		g.check(os.Mkdir(h.Paths.Dir, 0o700))
		g.check(nodefile.Write(h.Node, -1, -1))
		g.check(process.NewNet(h.net))
		t.Cleanup(func() { unix.Unmount(h.net, unix.MNT_DETACH) })
		g.check(h.connect(hub, i))
		var err error
		h.page, err = lease.Create(h.Paths.Page)
		g.check(err)
		t.Cleanup(func() { h.page.Close() })
		g.nodes = append(g.nodes, h)
	}
	return g
}

func (g *ground) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// connect puts the host onto the bridge, by its address.
func (h *host) connect(hub string, i int) error {
	fd, err := unix.Open(h.net, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = process.InNet(hub, func() error {
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		port := "p" + strconv.Itoa(i)
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port, MasterIndex: br.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd),
		}); err != nil {
			return err
		}
		l, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
	if err != nil {
		return err
	}
	return process.InNet(h.net, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(h.Address), Mask: net.CIDRMask(24, 32)}})
	})
}

// start runs the role, which is killed with the test.
func (h *host) start() {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	h.role = exec.Command(self)
	h.role.Env = append(os.Environ(), child+"="+h.Paths.Dir)
	h.role.Stderr = h.t.Output()
	if err := process.InNet(h.net, h.role.Start); err != nil {
		h.t.Fatal(err)
	}
	cmd := h.role
	h.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func (h *host) signal(s unix.Signal) {
	h.t.Helper()
	if err := h.role.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// lead has the page say that the node leads for d, or, without d, that it does not.
func (h *host) lead(d time.Duration) {
	h.t.Helper()
	p := lease.Page{}
	if d > 0 {
		p = lease.Page{Role: lease.Primary, Epoch: 3, Deadline: lease.Now() + d}
	}
	if err := h.page.Set(p); err != nil {
		h.t.Fatal(err)
	}
}

// has says whether the address is on the node.
func (h *host) has() (has bool) {
	h.t.Helper()
	if err := process.InNet(h.net, func() error {
		all, err := held(nil, h.VIP)
		has = len(all) > 0
		return err
	}); err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		h.t.Fatal(err)
	}
	return has
}

// until waits for a fact, and fails if the address is on both nodes meanwhile.
func (g *ground) until(what string, so func() bool) {
	g.t.Helper()
	const most = 30 * time.Second
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(most); !so(); <-tick.C {
		if time.Now().After(end) {
			g.t.Fatalf("not within %s: %s", most, what)
		}
		g.once()
	}
}

// once fails if the address is on both nodes. It is on the first before and after
// it is seen on the second, or it was there in between.
func (g *ground) once() {
	g.t.Helper()
	a, b := g.nodes[0], g.nodes[1]
	if a.has() && b.has() && a.has() {
		g.t.Fatal("the address is on two nodes")
	}
}

// It moves when the right moves, even if the new leader has it before the old
// one lets go, and is nowhere when nobody leads.
func TestTheAddressFollowsTheRight(t *testing.T) {
	for _, address := range []string{"10.10.10.2/24", "fd00:10::2/64"} {
		t.Run(address, func(t *testing.T) {
			g := newGround(t, address)
			a, b := g.nodes[0], g.nodes[1]
			a.start()
			b.start()
			a.lead(time.Minute)
			g.until("the first has it", a.has)
			frames := listen(t, b)
			for range 2 {
				// The next leads already, and the one before does not know yet.
				b.lead(time.Minute)
				for range 20 {
					g.once()
				}
				asked := lease.Now()
				a.lead(0)
				g.until("the second has it", b.has)
				t.Logf("it moved within %s", lease.Now()-asked)
				a, b = b, a
			}
			// The first one, which has it again, told the other's network of it.
			told := map[string]bool{}
			g.until("it was announced", func() bool {
				for len(frames) > 0 {
					told[string(<-frames)] = true
				}
				return told[string(vip.Announcements(g.vip.Addr(), mac(t, g.nodes[0]))[0])]
			})
			g.until("it is reported", func() bool {
				v := nodefile.ReadVIP(g.nodes[0].Node)
				return v.Held && v.Address == address && v.Problem.Code == ""
			})
			a.lead(0)
			g.until("nobody has it", func() bool { return !a.has() && !b.has() })
		})
	}
}

// However the role ends, the address ends with the right: by the role at the
// deadline and at its own end, by the next role, and by the kernel.
func TestTheAddressEndsWithTheRight(t *testing.T) {
	g := newGround(t, "10.10.10.2/24")
	a, b := g.nodes[0], g.nodes[1]
	b.lead(0)
	b.start()
	gone := func() bool { return !a.has() }

	a.start()
	a.lead(500 * time.Millisecond)
	g.until("it is taken", a.has)
	g.until("the deadline", gone)

	a.lead(time.Minute)
	g.until("it is taken again", a.has)
	a.signal(unix.SIGTERM)
	if err := a.role.Wait(); err != nil {
		t.Error(err)
	}
	if a.has() {
		t.Error("it outlived the end of its role")
	}

	a.start()
	g.until("it is taken by another role", a.has)
	a.signal(unix.SIGKILL)
	a.role.Wait()
	if !a.has() {
		t.Error("it went with a role that could do nothing")
	}
	g.check(os.Remove(filepath.Join(a.Paths.Run, "vip.json")))
	a.start()
	g.until("the next role keeps it", func() bool { return a.has() && nodefile.ReadVIP(a.Node).Held })
	a.signal(unix.SIGKILL)
	a.role.Wait()
	a.lead(0)
	a.start()
	g.until("the next role takes away what it has no right to", gone)

	// Stopped, like everything else of the node that could take it away, which is
	// nothing here: the kernel does. The right lasts, so that nothing else is tested.
	a.lead(3 * time.Second)
	g.until("it is taken", a.has)
	a.signal(unix.SIGSTOP)
	g.until("the kernel takes it away", gone)
	b.lead(time.Minute)
	g.until("the other has it", b.has)
	a.signal(unix.SIGCONT)
	for range 50 {
		g.once()
	}
}

// Who is not of the cluster and answers for the address keeps the leader from
// taking it, which is told; what it claims afterwards is contradicted.
func TestARivalIsTold(t *testing.T) {
	g := newGround(t, "10.10.10.2/24")
	a, b := g.nodes[0], g.nodes[1]
	link := func(f func(netlink.Link) error) {
		t.Helper()
		g.check(process.InNet(b.net, func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return f(l)
		}))
	}
	link(func(l netlink.Link) error { return lend(l, b.VIP, time.Minute) })
	a.lead(time.Minute)
	a.start()
	g.until("it is told", func() bool { return nodefile.ReadVIP(a.Node).Problem.Code == "vip-taken" })
	if a.has() {
		t.Error("it was taken")
	}
	g.check(process.InNet(b.net, func() error { return Clear(b.VIP) }))
	g.until("it is taken when nobody answers", func() bool { return nodefile.ReadVIP(a.Node).Held && a.has() })

	answers := listen(t, b)
	link(func(l netlink.Link) error {
		var own vip.MAC
		copy(own[:], l.Attrs().HardwareAddr)
		p, err := openTap(iface{link: l, mac: own}, g.vip.Addr())
		if err != nil {
			return err
		}
		defer p.close()
		return p.send(vip.Announcements(g.vip.Addr(), own)...)
	})
	g.until("it is told again", func() bool { return nodefile.ReadVIP(a.Node).Problem.Code == "vip-disputed" })
	g.until("the leader contradicts", func() bool { return len(answers) > 0 })
	if !a.has() {
		t.Error("the leader gave in")
	}
}

// mac is the hardware address of a node.
func mac(t *testing.T, h *host) (m vip.MAC) {
	t.Helper()
	if err := process.InNet(h.net, func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil {
			copy(m[:], l.Attrs().HardwareAddr)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

// listen gathers what others claim to the node h.
func listen(t *testing.T, h *host) <-chan []byte {
	t.Helper()
	p := netip.MustParsePrefix(h.VIP.Address)
	var heard *tap
	if err := process.InNet(h.net, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		heard, err = openTap(iface{link: l}, p.Addr()) // nobody has the hardware address of zeros
		return err
	}); err != nil {
		t.Fatal(err)
	}
	frames, done := make(chan []byte, 256), make(chan struct{})
	go func() {
		defer close(done)
		var b [256]byte
		for {
			n, err := heard.file.Read(b[:])
			if err != nil {
				return
			}
			if _, ok := vip.Claimant(b[:n], p.Addr()); ok {
				select {
				case frames <- bytes.Clone(b[:n]):
				default:
				}
			}
		}
	}()
	t.Cleanup(func() { heard.close(); <-done })
	return frames
}
