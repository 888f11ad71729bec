package pooler

import "bytes"

// A verdict is what to do with a message that has a name in it.
type verdict uint8

const (
	more      verdict = iota // cannot be said yet
	asIs                     // pass it on
	rewritten                // its beginning was passed on otherwise
	gone                     // drop it: it was answered, or the server would
	broke                    // the client is no more
)

// understand looks into a Parse, Bind, Describe or Close of which body is the
// beginning and n the whole length. Names are the client's own: servers have the
// statements of all under names of ours. used is how much of body a rewritten
// message replaces.
func (c *client) understand(kind byte, body []byte, n int) (v verdict, used int) {
	s := c.server
	switch kind {
	case 'P':
		if n == 0 {
			return c.broken("broken Parse packet")
		}
		if len(body) == 0 {
			return more, 0
		}
		if body[0] == 0 { // without a name
			if c.ask(kind) == drop {
				return gone, 0
			}
			c.unnamed = commits
			if text, _, whole := cstring(body[1:]); whole {
				c.unnamed = classOf(text)
				c.warn(text)
			}
			return asIs, 0
		}
		if n > parseMax {
			return c.broken("broken Parse packet") // too long to be kept
		}
		if len(body) < n {
			return more, 0
		}
		name, rest, ok := cstring(body)
		if !ok {
			return c.broken("broken Parse packet")
		}
		if s.skipping {
			return gone, 0
		}
		if x, exists := c.names[string(name)]; exists {
			if !c.again { // else the server that is gone had answered that, and she has not heard of it
				return c.broken("prepared statement name is already in use")
			}
			x.let()
		}
		x := c.room.prepared(c.key).get(rest)
		if x.users == 0 {
			text, _, _ := cstring(rest)
			c.warn(text)
		}
		x.users++
		if c.names == nil {
			c.names = map[string]*statement{}
		}
		own := string(name)
		c.names[own] = x
		c.busy()
		c.counts.parses++
		r := request{kind: 'P', stmt: x, name: own}
		if s.knows(x) {
			r.act = fake
			s.asked.push(r)
			s.advance()
			return gone, 0
		}
		c.makeRoom(x)
		s.learn(x)
		s.asked.push(r)
		c.note(x.appendParse)
		return rewritten, n
	case 'B':
		portal, name, ok := namesOfBind(body)
		if !ok {
			if len(body) >= min(n, namesMax) {
				return c.broken("broken Bind packet")
			}
			return more, 0
		}
		if s.skipping {
			return gone, 0
		}
		if len(name) == 0 {
			c.bind(portal, c.unnamed)
			c.ask(kind)
			return asIs, 0
		}
		x := c.names[string(name)]
		if x == nil {
			return c.broken("prepared statement did not exist")
		}
		c.bind(portal, x.class)
		c.busy()
		c.counts.binds++
		c.need(x)
		s.asked.push(request{kind: 'B', stmt: x})
		used = len(portal) + 1 + len(name) + 1
		c.note(func(b []byte) []byte {
			b = appendHead(b, 'B', n-len(name)+len(x.name))
			b = append(append(b, portal...), 0)
			return append(append(b, x.name...), 0)
		})
		return rewritten, used
	}
	// Describe and Close name a statement (S) or a portal (P).
	what := "Describe"
	if kind == 'C' {
		what = "Close"
	}
	if n > namesMax || n < 2 {
		return c.broken("broken " + what + " packet")
	}
	if len(body) < n {
		return more, 0
	}
	name, rest, ok := cstring(body[1:])
	if !ok || len(rest) > 0 {
		return c.broken("broken " + what + " packet")
	}
	if s.skipping {
		return gone, 0
	}
	if body[0] != 'S' || len(name) == 0 {
		c.ask(kind)
		s.asked.all[len(s.asked.all)-1].portal = body[0] == 'P'
		return asIs, 0
	}
	x := c.names[string(name)]
	if kind == 'C' {
		c.busy()
		own := ""
		if x != nil {
			own = string(bytes.Clone(name))
			delete(c.names, own)
		}
		s.asked.push(request{kind: 'C', act: fake, stmt: x, name: own})
		s.advance()
		return gone, 0
	}
	if x == nil {
		return c.broken("prepared statement did not exist")
	}
	c.busy()
	c.need(x)
	s.asked.push(request{kind: 'D', stmt: x})
	c.note(func(b []byte) []byte {
		b = append(appendHead(b, 'D', 1+len(x.name)+1), 'S')
		return append(append(b, x.name...), 0)
	})
	return rewritten, n
}

func (c *client) broken(text string) (verdict, int) {
	c.fail(text)
	return broke, 0
}

// busy counts a query that begins.
func (c *client) busy() {
	if s := c.server; !s.busy {
		s.busy, s.began = true, c.loop.now
		c.counts.queries++
		if s.status == 'I' {
			s.opened = s.began
			c.counts.xacts++
		}
	}
}

// held looks again at a message that was held.
func (c *client) held() {
	l := c.loop
	body := c.hold[headSize:]
	n := len(body) + c.left
	v, used := c.understand(c.kind, body, n)
	switch v {
	case more, broke:
		return
	case asIs:
		l.batch = join(l.batch, c.hold)
		c.act = pass
	case rewritten:
		l.batch = join(l.batch, body[used:])
		c.act = pass
	case gone:
		c.act = drop
	}
	c.hold = nil
}

// need makes sure that the server has x: if it does not, it is told first, and
// its answer to that is nobody's.
func (c *client) need(x *statement) {
	s := c.server
	if s.knows(x) {
		return
	}
	c.makeRoom(x)
	s.learn(x)
	s.asked.push(request{kind: 'P', act: skip, stmt: x})
	c.note(x.appendParse)
}

// makeRoom has the server close what it must before it learns x: x itself, if
// its plan is to be made anew, and what was not used for longest.
func (c *client) makeRoom(x *statement) {
	s := c.server
	if _, has := s.has[x]; has {
		c.forget(x)
	}
	for len(s.has) >= max(c.room.Settings.MaxPreparedStatements, 1) {
		var oldest *statement
		for y, p := range s.has {
			if oldest == nil || p.used < s.has[oldest].used {
				oldest = y
			}
		}
		c.forget(oldest)
	}
	c.counts.serverParses++
}

func (c *client) forget(x *statement) {
	s := c.server
	delete(s.has, x)
	s.asked.push(request{kind: 'C', act: skip})
	c.note(func(b []byte) []byte {
		b = append(appendHead(b, 'C', 1+len(x.name)+1), 'S')
		return append(append(b, x.name...), 0)
	})
}
