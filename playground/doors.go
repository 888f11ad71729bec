package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"howdah/listen"
	"howdah/logkey"
	"howdah/netport"
	"howdah/node/process"
	"howdah/spec"
)

// A door carries connections from an address of the host into a node's
// namespace. It is as transparent as a cable: the end of one direction is
// passed on, a reset too, and where nobody listens the client is reset.
type door struct {
	listener *net.TCPListener
	target   string
	dial     func(target string) (*net.TCPConn, error)
	log      *slog.Logger
}

// doorPorts are what the host may want of a node.
func doorPorts(n spec.Node) []int {
	ports := []int{n.Postgres.Port, restPort}
	if n.Etcd.Member != "" {
		ports = append(ports, etcdPort)
	}
	for _, p := range listen.Gateway(n) {
		ports = append(ports, p.Port)
	}
	return ports
}

// openDoors listens for all nodes; none is open when one cannot be.
func (s State) openDoors(ctx context.Context, nodes []spec.Node, log *slog.Logger) ([]*door, error) {
	var doors []*door
	for _, n := range nodes {
		dial := dialer(ctx, s.net(n.Member))
		for _, port := range doorPorts(n) {
			l, err := net.Listen("tcp4", net.JoinHostPort(Door(n), strconv.Itoa(port)))
			if err != nil {
				for _, d := range doors {
					d.listener.Close()
				}
				if holder := netport.Check(Door(n), port); holder != nil {
					return nil, holder // tells more
				}
				return nil, fmt.Errorf("door of %s: %w", n.Member, err)
			}
			doors = append(doors, &door{l.(*net.TCPListener), net.JoinHostPort(n.Address, strconv.Itoa(port)), dial, log})
		}
	}
	return doors, nil
}

// Run serves until ctx ends; connections end with it.
func (d *door) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { d.listener.Close() })()
	for {
		c, err := d.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			d.log.Warn("door", logkey.Addr, d.target, logkey.Error, err)
			select {
			case <-time.After(100 * time.Millisecond): // out of descriptors: let some end
				continue
			case <-ctx.Done():
				return nil
			}
		}
		wg.Go(func() { d.carry(ctx, c) })
	}
}

func (d *door) carry(ctx context.Context, client *net.TCPConn) {
	server, err := d.dial(d.target)
	if err != nil {
		reset(client)
		return
	}
	defer context.AfterFunc(ctx, func() { reset(client); reset(server) })()
	var wg sync.WaitGroup
	wg.Go(func() { carry(server, client) })
	carry(client, server)
	wg.Wait()
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

// dialer dials from within a namespace until ctx ends. One thread lives there and only asks
// for connections to the namespace's own address, which never wait.
func dialer(ctx context.Context, netns string) func(string) (*net.TCPConn, error) {
	type answer struct {
		c   net.Conn
		err error
	}
	type question struct {
		target string
		to     chan answer
	}
	asked := make(chan question)
	serve := func(dial func(string) (net.Conn, error)) {
		for {
			select {
			case q := <-asked:
				c, err := dial(q.target)
				q.to <- answer{c, err}
			case <-ctx.Done():
				return
			}
		}
	}
	go func() {
		err := process.InNet(netns, func() error {
			serve(func(target string) (net.Conn, error) { return net.DialTimeout("tcp4", target, time.Second) })
			return nil
		})
		if err != nil {
			serve(func(string) (net.Conn, error) { return nil, err })
		}
	}()
	return func(target string) (*net.TCPConn, error) {
		q := question{target, make(chan answer, 1)}
		select {
		case asked <- q:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		a := <-q.to
		if a.err != nil {
			return nil, a.err
		}
		return a.c.(*net.TCPConn), nil
	}
}
