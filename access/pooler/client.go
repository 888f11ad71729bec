package pooler

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/pool"
	"howdah/pgwire"
)

// A client is a session that is logged in. It has a server only from the first
// message that needs one until its mode gives that back.
type client struct {
	socket
	scan
	room     *room
	counts   *stats
	joined   time.Duration // when it connected, on the loop's clock
	last     time.Duration // when it last said something, or gave a server back
	from     netip.AddrPort
	key      pool.Key
	adrift   bool // its place is none any more: it moves when it has given back its server
	id       pool.Client
	mode     pool.Mode
	server   *server
	secret   cancelKey
	params   parameters
	names    map[string]*statement // that it prepared, by its own names
	pend     []byte                // read, and waiting for a server
	welcomed bool
	portals  bool // it has portals by name
	skips    bool // its server ended in the middle of a series: what comes before Sync is left out
	owed     bool // its server ended in its transaction, of which it has not been told
	unnamed  class
	gate     func() bool // of the server that said what is in out
	again    bool        // what it asks was lost once, and is asked anew
	wonder   *wonder     // nil: it does not wait to hear of a COMMIT
	mute     bool        // it has half a message of its server's: whatever else is said would be taken for the rest
}

// look asks for a place in the kernel's buffer again, once the gate is open.
func (c *client) look() bool {
	if c.hup || c.gate() {
		if !c.hup {
			c.await()
		}
		return false
	}
	return true
}

// What a message that must be understood may have at most.
const (
	namesMax = 64 << 10 // names of portals and statements
	parseMax = 16 << 20 // a statement that is prepared by name is kept
)

func (c *client) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 && c.gate != nil && !c.gate() {
		// What was true when the server said it may not be any more.
		c.want(c.events &^ unix.EPOLLOUT)
		c.loop.gated = append(c.loop.gated, c)
		events &^= unix.EPOLLOUT
	}
	if events&unix.EPOLLOUT != 0 && c.flush() {
		c.listen(c.pend == nil && (c.server == nil || !c.server.pending()))
		if c.server != nil {
			c.server.listen(true)
		}
		if c.tls != nil && c.events&unix.EPOLLIN != 0 {
			events |= unix.EPOLLIN
		}
	}
	switch {
	case c.hup:
	case c.pend != nil && c.server != nil && c.server.job == 0:
		c.resume()
	case events&broken != 0 && c.events&unix.EPOLLIN == 0, c.dead:
		c.gone("client unexpected eof")
	case events&unix.EPOLLIN != 0 && c.events&unix.EPOLLIN != 0:
		c.read()
	case events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
		c.gone("client unexpected eof")
	}
}

// read takes what the client sent. Of TLS, all of it: what its layer has already
// taken from the descriptor, epoll does not know of.
func (c *client) read() {
	for {
		n, err := c.socket.read(c.loop.in)
		if err == errAgain {
			return
		}
		if err != nil {
			c.gone("client unexpected eof")
			return
		}
		c.counts.received += uint64(n)
		c.last = c.loop.now
		c.feed(c.loop.in[:n])
		if c.hup || c.tls == nil || c.events&unix.EPOLLIN == 0 {
			return
		}
	}
}

// resume goes on with what was read before there was a server.
func (c *client) resume() {
	b := c.pend
	c.pend = nil
	c.feed(b)
	if c.hup || c.pend != nil {
		return
	}
	c.listen(!c.pending() && (c.server == nil || !c.server.pending()))
	if c.tls != nil && c.events&unix.EPOLLIN != 0 {
		c.read()
	}
}

// feed understands b as far as it must and passes it on.
func (c *client) feed(b []byte) {
	l := c.loop
	l.batch, l.notes = l.batch[:0], l.notes[:0]
	l.back, l.backing = l.back[:0], l.backing[:0]
	c.keep(b)
	for len(b) > 0 {
		if c.left > 0 {
			n := min(c.left, len(b))
			switch c.act {
			case pass:
				l.batch = join(l.batch, b[:n])
			case hold:
				c.hold = append(c.hold, b[:n]...)
			}
			b = b[n:]
			c.left -= n
			if c.act == hold {
				c.held()
			}
			if c.hup {
				return
			}
			c.ended()
			continue
		}
		head := b
		if c.have > 0 || len(b) < headSize {
			n := copy(c.head[c.have:], b)
			c.have += uint8(n)
			b = b[n:]
			if c.have < headSize {
				break
			}
			c.have = 0
			head = c.head[:]
		} else {
			b = b[headSize:]
		}
		kind, n := head[0], bodyOf(head)
		if n < 0 {
			c.fail("bad packet header")
			return
		}
		if kind == 'X' {
			c.gone("client close request")
			return
		}
		if c.server == nil {
			if (c.skips || c.owed) && c.alone(kind, n) {
				continue
			}
			if late(kind) {
				c.act, c.left = drop, n
				continue
			}
			if len(l.back) > 0 {
				c.forward()
			}
			if !c.acquire() {
				if !c.hup {
					c.pend = append(append(make([]byte, 0, headSize+len(b)), head[:headSize]...), b...)
					c.want(c.events&^unix.EPOLLIN | unix.EPOLLRDHUP)
				}
				return
			}
			c.keep(head[:headSize])
			c.keep(b)
		}
		if c.room.resolves() && c.seals(kind, b, n) {
			c.name(head, b)
			return
		}
		c.kind, c.left = kind, n
		if c.mode != pool.Session && c.room.Settings.MaxPreparedStatements > 0 && (kind == 'P' || kind == 'B' || kind == 'D' || kind == 'C') {
			whole := b[:min(n, len(b))]
			switch v, used := c.understand(kind, whole, n); v {
			case more:
				c.act = hold
				c.hold = append(append(make([]byte, 0, headSize+len(whole)), head[:headSize]...), whole...)
				c.left -= len(whole)
				b = b[len(whole):]
			case broke:
				return
			case asIs:
				c.put(head)
				c.act = pass
			case rewritten:
				b = b[used:]
				c.left -= used
				c.act = pass
			case gone:
				c.act = drop
			}
			continue
		}
		if c.room.Outlive && !c.server.skipping {
			c.weigh(kind, b[:min(n, len(b))], n)
		}
		c.act = c.ask(kind)
		if c.hup {
			return
		}
		if c.act == pass {
			c.put(head)
		}
		c.ended()
	}
	c.forward()
}

// ended is the end of a message, perhaps. The server may have been waiting for
// it to be free: the answer that ended its work came while the client still spoke.
func (c *client) ended() {
	if s := c.server; s != nil && c.left == 0 && !s.busy && s.asked.empty() {
		c.forward()
		if c.server != nil {
			c.server.settle()
		}
	}
}

// late says that a message without a server is what is left of a COPY that
// failed, or asks for nothing.
func late(kind byte) bool { return kind == 'd' || kind == 'c' || kind == 'f' || kind == 'H' }

// put passes a header on.
func (c *client) put(head []byte) {
	l := c.loop
	if &head[0] == &c.head[0] {
		at := len(l.notes)
		l.notes = append(l.notes, head[:headSize]...)
		head = l.notes[at:]
	}
	l.batch = join(l.batch, head[:headSize])
}

// note passes on what made appends to the headers of ours.
func (c *client) note(made func([]byte) []byte) {
	l := c.loop
	at := len(l.notes)
	l.notes = made(l.notes)
	l.batch = join(l.batch, l.notes[at:])
}

// forward sends what feed gathered: requests to the server, invented answers to
// the client.
func (c *client) forward() {
	l := c.loop
	if c.hup {
		return
	}
	if len(l.back) > 0 {
		c.deliver(l.back)
		l.back = l.back[:0]
	}
	s := c.server
	if len(l.batch) == 0 || s == nil {
		return
	}
	s.send(l.batch)
	l.batch = l.batch[:0]
	if s.pending() {
		c.listen(false)
	}
}

// deliver sends to the client, and stops both directions while it does not take
// what it gets.
func (c *client) deliver(pieces [][]byte) {
	for _, p := range pieces {
		c.counts.sent += uint64(len(p))
	}
	c.send(pieces)
	c.again = false
	s := c.server
	if s != nil {
		s.keeps = false
	}
	if c.pending() {
		c.listen(false)
		if s != nil {
			s.stop()
		}
	}
}

// ask notes what the server will have to answer.
func (c *client) ask(kind byte) act {
	s := c.server
	c.busy()
	switch kind {
	case 'S':
		s.skipping = false
		if !s.copying { // else the server ignores it
			s.asked.push(request{kind: kind})
		}
	case 'Q', 'F', 'P', 'B', 'D', 'E', 'C':
		if s.skipping {
			return drop // as the server would
		}
		s.asked.push(request{kind: kind})
	case 'c', 'f':
		if s.copying {
			s.copying = false
		} else if !s.skipping {
			s.asked.push(request{kind: 'c'})
			s.advance()
		}
	case 'd', 'H':
	default:
		c.fail("unknown pkt")
	}
	return pass
}

// acquire gets a server for the client, ready for it. false: the rest must wait.
func (c *client) acquire() bool {
	for {
		id, ok := c.room.book.Want(c.id, c.loop.now)
		if !ok {
			return false
		}
		s := c.room.servers[id]
		if !s.spoke() {
			return c.link(s)
		}
		c.server, s.client = s, c
		s.give(pool.Drop, "server conn crashed?")
	}
}

// link gives the client a server. false: the server is being told the client's
// parameters first.
func (c *client) link(s *server) bool {
	c.server, s.client = s, c
	c.counts.assigned++
	s.keeps = s.backend.Reads && c.room.Outlive && c.mode != pool.Session
	if c.pending() {
		s.stop()
	}
	if c.params == s.params {
		return true
	}
	text := appendSets(nil, &c.params, &s.params)
	if len(text) == 0 {
		return true
	}
	s.job = syncing
	s.asked.push(request{kind: 'Q', act: skip})
	s.send([][]byte{text})
	return false
}

// fail tells the client why it must go, and ends it.
func (c *client) fail(text string) { c.failCode(pool.ProtocolViolation, text) }

func (c *client) failCode(state, text string) { c.failHint(state, text, "") }

func (c *client) failHint(state, text, hint string) {
	if c.hup {
		return
	}
	c.room.log.Info("pooler error", "client", c.String(), "error", text)
	if s := c.server; !c.mute && (s == nil || !s.halfSaid()) {
		c.send([][]byte{pgwire.AppendError(nil, state, text, hint)})
	}
	c.gone(text)
}

// gone is the end of the client. A server that owes it answers, or is in a
// transaction, is closed: nobody else may have it.
func (c *client) gone(why string) {
	if c.hup {
		return
	}
	d := c.room
	if d.Left != nil {
		d.Left()
	}
	if c.wonder != nil {
		c.wonder.stop()
		c.wonder = nil
	}
	if s := c.server; s != nil {
		fate := pool.Drop
		if s.clean() && c.left == 0 {
			fate = pool.Keep
			if c.mode == pool.Session || d.ResetAlways {
				fate = pool.Reset
			}
		}
		s.give(fate, why)
	}
	for _, x := range c.names {
		x.let()
	}
	c.names, c.pend, c.hold = nil, nil, nil
	delete(d.hall.keys, c.secret)
	if c.id != pool.None { // else the book has forgotten it already
		if id := d.book.ServerOf(c.id); id != pool.None { // in the same breath: its Link is still to come
			s := d.servers[id]
			c.server, s.client = s, c
			s.give(pool.Keep, "")
		}
		d.clients[c.id] = nil
		d.book.Leave(c.id)
	}
	if c.tls == nil && !c.dead {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
		_, _ = rawRead(c.fd, c.loop.in[:512]) // what is unread turns the end into a reset, and the message is lost
	}
	c.hang()
}

// String names the client in logs.
func (c *client) String() string { return c.key.Database + "/" + c.key.User }
