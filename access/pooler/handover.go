package pooler

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/login"
	"howdah/access/pool"
	"howdah/scram"
	"howdah/secret"
)

// The clients of a process that ends because another takes its place go over to that one,
// each as soon as it has no server: its descriptor, and what is known of it. Those that
// came with TLS 1.3 take their keys along. Nobody is asked to connect again but who is
// still busy when the time is over, who has a server for good (session mode), or whose
// TLS is older.

// A Session is a client on its way to another process. Its secrets are worth what
// they were to the client: it travels between processes of one user alone.
type Session struct {
	Door       string            `json:"door"`
	Database   string            `json:"database"`
	User       string            `json:"user"`
	From       netip.AddrPort    `json:"from,omitzero"`
	Age        time.Duration     `json:"age"`
	Parameters []string          `json:"parameters"`
	Key        [8]byte           `json:"key"`
	Statements map[string][]byte `json:"statements,omitempty"` // bodies of Parse after the name
	Unread     []byte            `json:"unread,omitempty"`     // read, and waiting for a server
	Welcomed   bool              `json:"welcomed"`
	Skips      bool              `json:"skips,omitempty"`
	Owed       bool              `json:"owed,omitempty"`
	Portals    bool              `json:"portals,omitempty"`
	Unnamed    uint8             `json:"unnamed,omitempty"`
	Stored     string            `json:"stored,omitempty"` // of its user
	Client     []byte            `json:"client,omitempty"`
	Server     []byte            `json:"server,omitempty"` // what the user's proof gave away
	TLS        *Sealed           `json:"tls,omitempty"`
}

// A handing is under way while clients go over.
type handing struct {
	mu    sync.Mutex
	ready []parcel
	more  chan struct{}
}

type parcel struct {
	session Session
	fd      int
}

// HandOver gives each client to send, with a descriptor that is closed afterwards, as soon
// as it is between two transactions; nobody else is taken in. It returns when
// all have gone, or at the end of ctx: those that are left then hear why, and end. A
// client that could not be sent stays, and so do all others; that is the error.
func (p *Pooler) HandOver(ctx context.Context, send func(Session, int) error) (sent, ended int, err error) {
	p.leave()
	p.accepting.Wait()
	h := &handing{more: make(chan struct{}, 1)}
	if !p.everywhere(func(x *hall) {
		x.handing = h
		for _, d := range x.rooms {
			for _, s := range d.servers {
				if s != nil && s.id != pool.None {
					d.book.Retire(s.id, x.loop.now) // whoever has it gives it back first
				}
			}
		}
		x.sweep()
	}) {
		return 0, 0, errEnded
	}
	tick := time.NewTicker(tickEvery * time.Millisecond)
	defer tick.Stop()
	for {
		h.mu.Lock()
		ready := h.ready
		h.ready = nil
		h.mu.Unlock()
		for i, x := range ready {
			if err := send(x.session, x.fd); err != nil {
				p.everywhere(func(x *hall) { x.handing = nil })
				h.mu.Lock()
				ready = append(ready[i:], h.ready...)
				h.mu.Unlock()
				for _, x := range ready {
					_ = p.Take(x.session, x.fd)
				}
				return sent, 0, err
			}
			unix.Close(x.fd)
			sent++
		}
		alone := p.lobby.empty() // before it is counted who came in from there
		left, ok := p.inside()
		if !ok {
			return sent, 0, errEnded
		}
		h.mu.Lock()
		idle := len(h.ready) == 0
		h.mu.Unlock()
		if idle && left == 0 && alone {
			return sent, 0, nil
		}
		select {
		case <-h.more:
		case <-tick.C:
		case <-ctx.Done():
			p.everywhere(func(x *hall) {
				for _, d := range x.rooms {
					for _, c := range d.clients {
						if c != nil && !c.hup {
							ended++
							c.failHint(adminShutdown, "the gateway is restarted", "connect again")
						}
					}
				}
			})
			return sent, ended, nil
		}
	}
}

var errEnded = errors.New("the pools have ended")

// leave has the listeners take nobody in any more.
func (p *Pooler) leave() { p.leaves.Do(func() { close(p.leaving) }) }

// inside is how many clients there are.
func (p *Pooler) inside() (n int, ok bool) {
	ok = p.everywhere(func(x *hall) {
		for _, d := range x.rooms {
			for _, c := range d.clients {
				if c != nil && !c.hup {
					n++
				}
			}
		}
	})
	return n, ok
}

// sweep takes those clients out of the loop that can go; on the loop.
func (x *hall) sweep() {
	h := x.handing
	x.swept = x.loop.now
	var ready []parcel
	for _, d := range x.rooms {
		for _, c := range d.clients {
			if c == nil {
				continue
			}
			if s, ok := c.packed(); ok {
				ready = append(ready, parcel{s, c.fd})
				c.depart()
			}
		}
	}
	if len(ready) == 0 {
		return
	}
	h.mu.Lock()
	h.ready = append(h.ready, ready...)
	h.mu.Unlock()
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// packed is c as another process takes it in; false: not now.
func (c *client) packed() (s Session, ok bool) {
	d := c.room
	switch {
	case c.hup, c.dead, c.mute, c.pending(), c.server != nil, c.wonder != nil, c.id == pool.None,
		c.left > 0, len(c.hold) > 0, d.book.ServerOf(c.id) != pool.None:
		return s, false
	}
	s = Session{
		Door: d.Name, Database: c.key.Database, User: c.key.User, From: c.from, Age: c.loop.now - c.joined,
		Parameters: c.params[:], Key: c.secret, Unread: c.pend,
		Welcomed: c.welcomed, Skips: c.skips, Owed: c.owed, Portals: c.portals, Unnamed: uint8(c.unnamed),
	}
	if c.have > 0 { // of a header
		if c.pend != nil {
			return s, false
		}
		s.Unread = append([]byte(nil), c.head[:c.have]...)
	}
	switch t := c.tls.(type) {
	case nil:
	case *tls.Conn:
		sealed, ok := Sealing(t)
		if !ok {
			return s, false
		}
		s.TLS = &sealed
	case *record:
		sealed, ok := t.sealed()
		if !ok {
			return s, false
		}
		s.TLS = &sealed
	default:
		return s, false
	}
	for own, x := range c.names {
		if s.Statements == nil {
			s.Statements = map[string][]byte{}
		}
		s.Statements[own] = x.parse
	}
	credential := d.credential(c.key.User)
	s.Stored = credential.Secret.Reveal()
	if k := credential.Keys; k != nil {
		s.Client, s.Server = k.Client[:], k.Server[:]
	}
	return s, true
}

// depart forgets c, whose descriptor lives on.
func (c *client) depart() {
	d := c.room
	if d.Left != nil {
		d.Left()
	}
	for _, x := range c.names {
		x.let()
	}
	delete(d.hall.keys, c.secret)
	d.clients[c.id] = nil
	d.book.Leave(c.id)
	c.id, c.names, c.pend = pool.None, nil, nil
	c.hup = true
	c.loop.forget(c.fd)
}

// Take takes in a client that another process has handed over. fd is the pooler's from
// here on, whatever comes of it.
func (p *Pooler) Take(s Session, fd int) error {
	var d *Door
	for _, x := range p.doors {
		if x.Name == s.Door {
			d = x
		}
	}
	if d == nil || len(s.Parameters) != len(tracked) {
		closeFD(fd)
		return errors.New("there is no such pool: " + s.Door)
	}
	defer p.rest()() // it comes to where its pool is
	at := d.room(pool.Key{Database: s.Database, User: s.User})
	err := errEnded
	if !at.loop.call(func() { err = at.take(s, fd) }) {
		closeFD(fd)
	}
	return err
}

func (d *room) take(s Session, fd int) error {
	c := &client{
		room: d, key: pool.Key{Database: s.Database, User: s.User, Place: d.place(s.From.Addr())}, from: s.From,
		joined: d.loop.now - s.Age, last: d.loop.now, secret: s.Key, params: parameters(s.Parameters), pend: s.Unread,
		welcomed: s.Welcomed, skips: s.Skips, owed: s.Owed, portals: s.Portals, unnamed: class(s.Unnamed),
	}
	c.loop, c.fd = d.loop, fd
	if len(c.pend) == 0 {
		c.pend = nil
	}
	if s.TLS != nil {
		layer, err := newRecord(&c.socket, *s.TLS)
		if err != nil {
			closeFD(fd)
			return err
		}
		c.tls = layer
	}
	var err error
	if c.id, err = d.book.Join(c.key); err != nil {
		closeFD(fd)
		return err
	}
	for own, parse := range s.Statements {
		if c.names == nil {
			c.names = map[string]*statement{}
		}
		x := d.prepared(c.key).get(parse)
		x.users++
		c.names[own] = x
	}
	credential := login.Parse(secret.Text(s.Stored))
	if len(s.Client) == scram.Size && len(s.Server) == scram.Size {
		credential.Keys = &scram.Keys{Client: [scram.Size]byte(s.Client), Server: [scram.Size]byte(s.Server)}
	}
	d.proved(s.User, credential)
	d.hall.keys[c.secret] = c
	if err := d.enter(c, fd); err != nil {
		c.gone("epoll")
		return err
	}
	if c.welcomed && c.pend == nil {
		c.listen(true)
	}
	return nil
}

// Cancel carries out a cancel request for a client that may still be here.
func (p *Pooler) Cancel(ctx context.Context, key [8]byte) {
	key[7] |= passedOn // whoever passed it on asks everybody else, too
	for _, d := range p.doors {
		p.cancel(ctx, d, key)
		return
	}
}
