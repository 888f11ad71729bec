package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"howdah/pgwire"
)

// Sessions of untouched bytes go over to a successor whenever neither direction has
// anything in hand: their two descriptors, and which server it is.

// A relayed is such a session on its way.
type relayed struct {
	Service string     `json:"service"`
	Member  string     `json:"member"`
	Epoch   int64      `json:"epoch"`
	From    netip.Addr `json:"from"`
	Key     []byte     `json:"key,omitempty"`
	Spoken  bool       `json:"spoken,omitempty"` // the client has ended its half
	Said    bool       `json:"said,omitempty"`   // the server has
}

// errDeparts ends a direction that goes on elsewhere.
var errDeparts = errors.New("it goes on elsewhere")

// departWhen is how often sessions that have something in hand are looked at again.
const departWhen = 20 * time.Millisecond

// handOver has the sessions of p go over to k until none is left, or ctx ends.
func (p *port) handOver(ctx context.Context, k *kin) {
	tick := time.NewTicker(departWhen)
	defer tick.Stop()
	for p.counts.now.Load() > 0 {
		p.mu.Lock()
		for x := range p.sessions {
			x.depart(k)
		}
		p.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.cut("the gateway is restarted", func(*session) bool { return true })
			return
		}
	}
}

// depart has both directions of x end where they next wait for something to read.
func (x *session) depart(k *kin) {
	if x.relays.Load() && x.departs.CompareAndSwap(nil, k) {
		_ = x.client.SetReadDeadline(time.Unix(1, 0))
		_ = x.server.SetReadDeadline(time.Unix(1, 0))
	}
}

// went sends x on, whose directions have ended by their errors; false: it is over.
func (x *session) went(toServer, toClient error) bool {
	k := x.departs.Load()
	over := func(err error) bool { return err != nil && !errors.Is(err, errDeparts) }
	if k == nil || over(toServer) || over(toClient) || toServer == nil && toClient == nil {
		return false
	}
	p := x.port
	p.mu.Lock()
	r := relayed{
		Service: p.name, Member: x.member, Epoch: x.epoch, From: x.from, Key: []byte(x.key),
		Spoken: toServer == nil, Said: toClient == nil,
	}
	p.mu.Unlock()
	body, err := json.Marshal(r)
	if err != nil {
		return false
	}
	client, err := descriptor(x.client)
	if err != nil {
		return false
	}
	server, err := descriptor(x.server)
	if err != nil {
		return false
	}
	return k.send(frameRelayed, body, client, server) == nil
}

// descriptor is c's own, for as long as c is open. (A file of it would have it block.)
func descriptor(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(s uintptr) { fd = int(s) })
	}
	return fd, err
}

// adopt goes on with a session of a predecessor. Its descriptors are ours, whatever comes of it.
func (g *Gateway) adopt(ctx context.Context, wg *sync.WaitGroup, body []byte, fds []int) error {
	var conns []*net.TCPConn
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "session")
		c, err := net.FileConn(f)
		f.Close()
		t, ok := c.(*net.TCPConn)
		if err == nil && !ok {
			c.Close()
			err = errFrame
		}
		if err != nil {
			for _, c := range conns {
				c.Close()
			}
			return err
		}
		conns = append(conns, t)
	}
	x := &session{client: conns[0], server: conns[1], done: make(chan struct{})}
	var r relayed
	err := json.Unmarshal(body, &r)
	for _, p := range g.ports {
		if err == nil && p.name == r.Service && p.door == nil {
			x.port = p
		}
	}
	if x.port == nil {
		x.client.Close()
		x.server.Close()
		return errors.Join(err, errors.New("there is no such service: "+r.Service))
	}
	p := x.port
	x.from, x.first, x.spoken, x.said = r.From, pgwire.First{}, r.Spoken, r.Said
	if err := x.rejoin(r); err != nil {
		x.cut(nil)
		x.release()
		return err
	}
	p.came()
	wg.Go(func() {
		defer p.counts.now.Add(-1)
		defer x.release()
		defer x.cut(nil)
		defer context.AfterFunc(ctx, func() { x.cut(ctx.Err()) })()
		defer p.leave(x)
		relay(x)
	})
	return nil
}

// rejoin makes x a session of its port again, if its server is still one.
func (x *session) rejoin(r relayed) error {
	p := x.port
	s, _ := p.route()
	b, ok := s.Backend(r.Member)
	if !ok || !b.Reigns(r.Epoch) {
		return errDeposed
	}
	if b.Epoch != 0 {
		from, let, err := p.front.right(b)
		if err != nil {
			return err
		}
		x.keep(&gate{from, b.Epoch, p.front}, let)
	}
	if !p.join(x, b) {
		return errDeposed
	}
	if len(r.Key) > 0 {
		p.learn(x, pgwire.Key(r.Key))
	}
	return nil
}
