package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"howdah/access/route"
	"howdah/pgwire"
)

// A session is one client, from its first byte on.
type session struct {
	port   *port
	client *net.TCPConn
	from   netip.Addr
	head   []byte // what the client sent and no server has yet
	first  pgwire.First

	member    string
	epoch     int64 // of the reign it was opened under; 0: its server is no leader. Under port.mu
	key       pgwire.Key
	stats     *server
	connected time.Duration // what connecting to the server took
	gate      atomic.Pointer[gate]
	lets      []func() // give back what gates hold; under port.mu

	queued time.Time // since when it waits for a server with room; zero: it does not. Under port.mu

	moved atomic.Int64 // grows while bytes go either way
	seen  int64        // moved, when it was last looked at; of sweep alone
	idle  time.Time    // since when it did not grow

	relays       atomic.Bool         // bytes pass
	departs      atomic.Pointer[kin] // it goes on there
	spoken, said bool                // which half had ended before it came here

	mu     sync.Mutex
	server *net.TCPConn
	done   chan struct{}
	why    error // it was cut; nil: it ended by itself
	closed bool
}

// Timing of a session's beginning.
const (
	greetWithin  = time.Minute     // for the first packet: PostgreSQL's authentication_timeout
	refuseWithin = 5 * time.Second // for whoever is to hear an error first
	dialWithin   = 3 * time.Second // HAProxy's timeout connect in Pigsty
	headMax      = 64 << 10        // a client that waits may have sent so much
)

var (
	errGone    = errors.New("the client has gone")
	errNobody  = errors.New("no server in time")
	errDeposed = errors.New("its server is no longer one of the service")
)

// handle is a client's whole life.
func (p *port) handle(ctx context.Context, c *net.TCPConn) {
	x := &session{port: p, client: c, done: make(chan struct{})}
	defer x.release()
	defer x.cut(nil)
	defer context.AfterFunc(ctx, func() { x.cut(ctx.Err()) })()
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		x.from = a.AddrPort().Addr().Unmap()
	}
	_ = c.SetKeepAliveConfig(keepAlive) // without it a dead client is found later
	// A client that says nothing costs no server anything: those count whoever
	// connects, even before it says who it is.
	if err := x.greet(); err != nil {
		return
	}
	if x.first.Code == pgwire.CancelRequest {
		p.cancel(ctx, x)
		return
	}
	err := x.await(ctx)
	if err != nil {
		if errors.Is(err, errNobody) || errors.Is(err, errMany) {
			p.counts.refused.Add(1)
			x.refuse(errors.Is(err, errMany))
		} else {
			p.counts.dropped.Add(1)
		}
		return
	}
	defer p.leave(x)
	relay(x)
}

// greet reads the first packet, or the first bytes of what is none: that is the
// server's business.
func (x *session) greet() error {
	if err := x.client.SetReadDeadline(time.Now().Add(greetWithin)); err != nil {
		return err
	}
	for {
		first, n, err := pgwire.ReadFirst(x.head)
		if n > 0 {
			x.first = first
		}
		if n > 0 || err != nil {
			return x.client.SetReadDeadline(time.Time{})
		}
		if err := x.read(); err != nil {
			return err
		}
	}
}

// read appends what the client sends to the head.
func (x *session) read() error {
	var b [4096]byte
	n, err := x.client.Read(b[:])
	x.head = append(x.head, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// await finds a server, connects to it and sends it the head. It waits while
// there is none, and ends when the client does.
func (x *session) await(ctx context.Context) error {
	p, g := x.port, x.port.front.gateway
	ctx, cancel := context.WithTimeoutCause(ctx, g.wait, errNobody)
	defer cancel()
	defer x.unqueue()
	var stop func() error // of the watch over the client, while we wait
	defer func() {
		if stop != nil {
			_ = stop() // the client is gone, or hears an error
		}
	}()
	tried := map[string]bool{} // members that refused this client since the routes changed
	var since uint64
	for {
		s, version := p.route()
		if version != since {
			since = version
			clear(tried)
		}
		again, err := x.attempt(ctx, s, tried)
		if err == nil {
			if stop != nil {
				if err := stop(); err != nil {
					p.leave(x)
					return errGone
				}
				stop = nil
			}
			return nil
		}
		if errors.Is(err, errMany) {
			return err
		}
		if again == 0 && len(tried) > 0 && len(tried) < len(s.Usable()) {
			continue // another may take it
		}
		if stop == nil {
			p.counts.waited.Add(1)
			raise(&p.waitingMost, p.waiting.Add(1))
			defer p.waiting.Add(-1)
			stop = x.watch(cancel)
		}
		var timer <-chan time.Time
		if again > 0 {
			t := time.NewTimer(again)
			defer t.Stop()
			timer = t.C
		}
		select {
		case <-p.front.routes.Changed(version):
		case <-x.wanted():
		case <-timer:
			clear(tried)
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errNobody) {
				return errNobody
			}
			return errGone
		}
	}
}

// retryFull is the pause before servers that are full are looked at again.
const retryFull = 10 * time.Millisecond

// retryDial is the pause before a server that refused is asked again.
const retryDial = 50 * time.Millisecond

// attempt tries one server. Without an error the session has joined it, and its
// head was sent. Else again says when to try anew; 0: when something changes.
func (x *session) attempt(ctx context.Context, s route.Service, tried map[string]bool) (again time.Duration, err error) {
	p := x.port
	usable := s.Usable()
	var left []route.Backend
	for _, b := range usable {
		if !tried[b.Member] {
			left = append(left, b)
		}
	}
	if len(left) == 0 {
		if len(usable) == 0 {
			return 0, errNobody
		}
		return retryDial, errNobody
	}
	p.mu.Lock()
	left = p.room(left, time.Now())
	if len(left) == 0 {
		p.mu.Unlock()
		if err := x.queue(len(usable)); err != nil {
			return 0, err
		}
		return retryFull, errFull
	}
	b := p.balance.pick(s.Balance, left, x.from, func(member string) int64 { return p.server(member).now })
	p.mu.Unlock()
	var guard *gate
	if b.Epoch != 0 {
		from, let, err := p.front.right(b)
		if err != nil {
			tried[b.Member] = true
			return retryDial, err
		}
		guard = &gate{from, b.Epoch, p.front}
		x.keep(guard, let)
		if !guard.open() {
			if from.changed() != nil {
				return retryDial, errNobody
			}
			return lookAgain, errNobody
		}
	}
	began := time.Now()
	server, err := x.dial(ctx, b.Addr)
	x.connected = time.Since(began)
	if err != nil {
		p.failed(b.Member)
		tried[b.Member] = true
		return 0, err
	}
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		server.Close()
		return 0, errGone
	}
	x.server = server
	x.mu.Unlock()
	if !p.join(x, b) {
		x.drop()
		return lookAgain, errDeposed
	}
	return 0, nil
}

// dial connects to a server.
func (x *session) dial(ctx context.Context, addr string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialWithin, KeepAliveConfig: keepAlive}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// drop forgets a server that turned out to be none.
func (x *session) drop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.server.Close()
	x.server = nil
}

// keep sets the gate that what the server says must pass.
func (x *session) keep(g *gate, let func()) {
	p := x.port
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, before := range x.lets {
		before()
	}
	x.lets = []func(){let}
	x.gate.Store(g)
}

// rise puts a session whose server became the leader, or leads on under another
// epoch, behind the gate of that. The port's
// lock is held.
func (x *session) rise(b route.Backend) {
	x.epoch = b.Epoch
	from, let, err := x.port.front.right(b)
	if err != nil {
		from, let = never{}, func() {}
	}
	x.lets = append(x.lets, let)
	x.gate.Store(&gate{from, b.Epoch, x.port.front})
}

// wanted is closed when the proof that the session waits for may have changed.
func (x *session) wanted() <-chan struct{} {
	if g := x.gate.Load(); g != nil {
		return g.source.changed()
	}
	return nil
}

// stays says that the session may go on under s. The port's lock is held.
func (x *session) stays(s route.Service) bool {
	b, ok := s.Backend(x.member)
	switch {
	case !ok, !b.Reigns(x.epoch):
		return false // removed, or deposed: what it says now is nobody's answer
	case b.Mode == route.Maint, x.epoch != 0:
		return true // of a leader that only restarts, the server ends its sessions itself
	}
	return b.Up
}

// watch notices while we wait that the client leaves, and collects what it
// says. Stop ends that; its error is that the client has left.
func (x *session) watch(left func()) (stop func() error) {
	ended := make(chan error, 1)
	go func() {
		for len(x.head) < headMax {
			if err := x.read(); err != nil {
				var timeout net.Error
				if errors.As(err, &timeout) && timeout.Timeout() {
					err = nil // we were asked to stop
				} else {
					left()
				}
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return func() error {
		_ = x.client.SetReadDeadline(time.Unix(1, 0)) // of a closed connection: then reading has ended
		err := <-ended
		if err == nil {
			err = x.client.SetReadDeadline(time.Time{})
		}
		return err
	}
}

// cut ends the session, because of why; nil: it is over.
func (x *session) cut(why error) {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return
	}
	x.closed, x.why = true, why
	close(x.done)
	server := x.server
	x.mu.Unlock()
	x.client.Close()
	if server != nil {
		server.Close()
	}
}

// release gives back what the session's gates hold.
func (x *session) release() {
	x.port.mu.Lock()
	defer x.port.mu.Unlock()
	for _, let := range x.lets {
		let()
	}
	x.lets = nil
}

// heard returns true when what the server said may be passed on, false when the
// session is over.
func (x *session) heard() bool {
	var since time.Time
	for {
		g := x.gate.Load()
		if g == nil || g.open() {
			return true
		}
		now := time.Now()
		if since.IsZero() {
			since = now
		}
		if now.Sub(since) > shutFor {
			x.cut(errors.New("its primary's right to write could not be proven"))
			return false
		}
		timer := time.NewTimer(lookAgain)
		select {
		case <-timer.C:
		case <-x.done:
			timer.Stop()
			return false
		}
	}
}

// refuse tells the client that nobody serves it, in a way that its driver
// shows: after its startup packet, under TLS if it wants that.
func (x *session) refuse(full bool) {
	if x.client.SetDeadline(time.Now().Add(refuseWithin)) != nil {
		return
	}
	var c net.Conn = &prefixed{x.client, &x.head}
	if len(x.head) > 0 && x.head[0] == pgwire.TLSRecord && x.port.front.gateway.server != nil {
		c = tls.Server(c, x.port.front.gateway.server)
		x.head = nil
	}
	var b []byte
	for range 4 { // TLS, GSSAPI, startup, and one to spare
		first, n, err := pgwire.ReadFirst(b)
		for n == 0 && err == nil {
			var more [1024]byte
			var got int
			if got, err = c.Read(more[:]); got > 0 {
				b = append(b, more[:got]...)
				first, n, err = pgwire.ReadFirst(b)
			}
		}
		if err != nil {
			return
		}
		b = b[n:]
		switch first.Code {
		case pgwire.CancelRequest:
			return
		case pgwire.SSLRequest:
			config := x.port.front.gateway.server
			if config == nil {
				if _, err := io.WriteString(c, "N"); err != nil {
					return
				}
				continue
			}
			if _, err := io.WriteString(c, "S"); err != nil || len(b) > 0 {
				return // nothing may follow the request before the answer
			}
			c = tls.Server(c, config)
		case pgwire.GSSENCRequest:
			if _, err := io.WriteString(c, "N"); err != nil {
				return
			}
		default:
			code := pgwire.CannotConnectNow
			message, hint := x.excuse()
			if full {
				code, message = pgwire.TooManyConnections, "every server of service "+x.port.service.Name+" has as many sessions as it may"
				hint = "raise maxconn or maxqueue in the options of the service, or close sessions"
			}
			if _, err := c.Write(pgwire.AppendError(nil, code, message, hint)); err != nil {
				return
			}
			if t, ok := c.(*tls.Conn); ok {
				_ = t.CloseWrite() // the client has its answer
			} else {
				_ = x.client.CloseWrite()
			}
			return
		}
	}
}

// excuse says why nobody serves the client.
func (x *session) excuse() (message, hint string) { return x.port.excuse() }

func (p *port) excuse() (message, hint string) {
	s, version := p.route()
	wait := p.front.gateway.wait
	switch {
	case version == 0:
		return fmt.Sprintf("the store of cluster %s was not seen for %s", p.front.Cluster, wait), "see the log of the gateway on this node"
	case s.Err != "":
		return "the selector of service " + p.service.Name + " fails: " + s.Err, "correct it in the inventory"
	case len(s.Backends) == 0:
		return "no member belongs to service " + p.service.Name + " of cluster " + p.front.Cluster, "its selector is " + p.service.Selector
	case s.Leading:
		return fmt.Sprintf("cluster %s had no primary for %s", p.front.Cluster, wait), "see `howdah status " + p.front.Cluster + "`"
	}
	return fmt.Sprintf("no member served service %s of cluster %s for %s", p.service.Name, p.front.Cluster, wait), "see `howdah status " + p.front.Cluster + "`"
}

// prefixed reads what was read ahead before anything else.
type prefixed struct {
	*net.TCPConn
	head *[]byte
}

// Read implements net.Conn.
func (c *prefixed) Read(b []byte) (int, error) {
	if len(*c.head) > 0 {
		n := copy(b, *c.head)
		*c.head = (*c.head)[n:]
		return n, nil
	}
	return c.TCPConn.Read(b)
}
