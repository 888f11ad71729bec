package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/latest"
	"howdah/listen"
	"howdah/logkey"
	"howdah/netport"
	"howdah/node/process"
	"howdah/spec"
)

// A door carries connections from an address of the host into a node's
// namespace. It is as transparent as a cable: the end of one direction is
// passed on, a reset too, and where nobody listens the client is reset. While
// the node is off nobody listens here either: a client that has other addresses
// to try goes on to the next at once.
type door struct {
	listener *net.TCPListener // at first
	address  string
	target   string
	power    *power
	dial     func(ctx context.Context, target string) (*net.TCPConn, error)
	log      *slog.Logger
}

// doorPorts are what the host may want of a node.
func doorPorts(n spec.Node) []int {
	var ports []int
	if n.Postgres.Data != "" {
		ports = append(ports, n.Postgres.Port, portIn(n.Agent.Listen))
	}
	if m, ok := n.Etcd.Self(); ok {
		ports = append(ports, portIn(m.Client))
	}
	for _, l := range []string{n.Jobs.Exporter, n.Jobs.Backups, n.Jobs.Host, n.Backup.Listen, n.Logs.Listen} {
		if l != "" {
			ports = append(ports, portIn(l))
		}
	}
	for _, l := range n.Observe.Listen {
		ports = append(ports, portIn(l))
	}
	if n.Observe.Console != "" {
		ports = append(ports, portIn(n.Observe.Console))
	}
	for _, p := range listen.Gateway(n) {
		ports = append(ports, p.Port)
	}
	return ports
}

// portIn is the port of host:port or of a URL.
func portIn(addr string) int {
	if _, rest, ok := strings.Cut(addr, "://"); ok {
		addr = rest
	}
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return n
}

// A power tells whether a node is on. Without power it sends no end to those
// who are connected, and answers nobody who knocks: its doors do.
type power struct {
	node spec.Node
	on   latest.Value[bool]
}

func (p *power) look() {
	on := !Stopped(p.node) || Running(p.node)
	if was, version := p.on.Get(); version == 0 || was != on {
		p.on.Set(on)
	}
}

// Run looks until ctx ends.
func (p *power) Run(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		p.look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// until is a context that ends when the node is off, or on.
func (p *power) until(ctx context.Context, on bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		var seen uint64
		for {
			is, version, err := p.on.Wait(ctx, seen)
			if err != nil || is == on {
				return
			}
			seen = version
		}
	}()
	return ctx, cancel
}

// openDoors listens for all nodes; none is open when one cannot be.
func (s State) openDoors(ctx context.Context, nodes []spec.Node, log *slog.Logger) ([]*door, []*power, error) {
	var doors []*door
	var powers []*power
	dial := dialer(ctx, s.net(hub))
	for _, n := range nodes {
		pow := &power{node: n}
		pow.look()
		powers = append(powers, pow)
		for _, port := range doorPorts(n) {
			address := net.JoinHostPort(Door(n), strconv.Itoa(port))
			l, err := net.Listen("tcp4", address)
			if err != nil {
				for _, d := range doors {
					d.listener.Close()
				}
				if holder := netport.Check(Door(n), port); holder != nil {
					return nil, nil, holder // tells more
				}
				return nil, nil, fmt.Errorf("door of %s: %w", n.Member, err)
			}
			doors = append(doors, &door{
				listener: l.(*net.TCPListener), address: address, target: net.JoinHostPort(n.Address, strconv.Itoa(port)),
				power: pow, dial: dial, log: log,
			})
		}
	}
	return doors, powers, nil
}

// Run serves until ctx ends; connections end with it.
func (d *door) Run(ctx context.Context) error {
	l := d.listener
	for {
		d.open(ctx, l)
		if l = d.closed(ctx); l == nil {
			return nil
		}
	}
}

// open serves while the node is on.
func (d *door) open(ctx context.Context, l *net.TCPListener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := d.power.until(ctx, false)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			d.log.Warn("door", logkey.Addr, d.target, logkey.Error, err)
			select {
			case <-time.After(100 * time.Millisecond): // out of descriptors: let some end
				continue
			case <-ctx.Done():
				return
			}
		}
		wg.Go(func() { d.carry(ctx, c) })
	}
}

// closed waits until the node is on, and listens again; nil: ctx has ended.
func (d *door) closed(ctx context.Context) *net.TCPListener {
	on, cancel := d.power.until(ctx, true)
	defer cancel()
	<-on.Done()
	said := false
	for ctx.Err() == nil {
		l, err := net.Listen("tcp4", d.address)
		if err == nil {
			return l.(*net.TCPListener)
		}
		if !said {
			said = true
			d.log.Warn("door", logkey.Addr, d.address, logkey.Error, err)
		}
		select {
		case <-time.After(100 * time.Millisecond): // somebody else has taken the port
		case <-ctx.Done():
		}
	}
	return nil
}

func (d *door) carry(ctx context.Context, client *net.TCPConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := d.dial(ctx, d.target)
	if err != nil {
		reset(client)
		return
	}
	defer context.AfterFunc(ctx, func() { reset(client); reset(server) })()
	var both sync.WaitGroup
	both.Go(func() { carry(server, client) })
	carry(client, server)
	both.Wait()
	client.Close()
	server.Close()
}

// carry copies one direction (by splice: the bytes stay in the kernel).
func carry(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		reset(to)
		reset(from)
		return
	}
	to.CloseWrite()
}

// reset ends c so that the other side sees a failure and not an end.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// dialTime is how long a node that is cut off is knocked at. The client was
// accepted already and hears nothing, as it would from a node without a network.
const dialTime = 30 * time.Second

// dialer dials from within a namespace until ctx ends. One thread lives there
// and only makes sockets, which stay in the namespace wherever they are used.
func dialer(ctx context.Context, netns string) func(context.Context, string) (*net.TCPConn, error) {
	type answer struct {
		fd  int
		err error
	}
	asked := make(chan chan answer)
	serve := func(socket func() (int, error)) {
		for {
			select {
			case to := <-asked:
				fd, err := socket()
				to <- answer{fd, err}
			case <-ctx.Done():
				return
			}
		}
	}
	go func() {
		err := process.InNet(netns, func() error {
			serve(func() (int, error) {
				return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			})
			return nil
		})
		if err != nil {
			serve(func() (int, error) { return -1, err })
		}
	}()
	return func(ctx context.Context, target string) (*net.TCPConn, error) {
		to := make(chan answer, 1)
		select {
		case asked <- to:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		a := <-to
		if a.err != nil {
			return nil, a.err
		}
		return connect(ctx, a.fd, target)
	}
}

// connect connects a socket and makes a connection of it.
func connect(ctx context.Context, fd int, target string) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), target)
	defer f.Close() // what is returned has a descriptor of its own
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	f.SetWriteDeadline(time.Now().Add(dialTime))
	defer context.AfterFunc(ctx, func() { f.SetWriteDeadline(time.Unix(1, 0)) })()
	var outcome error
	err = raw.Write(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(p, 0); n == 0 {
			return false
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if outcome = err; code != 0 {
			outcome = unix.Errno(code)
		}
		return true
	})
	if err := errors.Join(err, outcome); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", target, err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
