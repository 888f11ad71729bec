package pooler

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/pool"
)

// A server is one connection to a server that is logged in.
type server struct {
	socket
	scan
	room     *room
	key      pool.Key
	id       pool.Server
	client   *client
	params   parameters
	cancel   cancelKey
	backend  Backend
	startup  []string      // what else it is told when it is logged in to: names and values
	joined   time.Duration // on the loop's clock
	late     []byte        // what it said while its gate was shut
	shut     time.Duration // since when
	parked   bool          // out of the epoll, which would only tell that it has gone
	asked    queue
	job      job
	status   byte          // of the last ReadyForQuery: I, T or E
	busy     bool          // a query is going on
	began    time.Duration // that query, or the last one; on the loop's clock
	opened   time.Duration // the transaction that it is of
	rested   time.Duration // the end of the last query
	half     bool          // its last client left in the middle of a message
	skipping bool          // after an error, until the client's Sync
	copying  bool          // it takes the data of a COPY, and ignores Sync
	said     bool          // the series that is being answered has had its error
	unsure   bool          // what it committed last may be on no standby
	hushed   bool          // what is left of the series its client takes for left out
	cutoff   cutoff
	named    *Doubt   // its transaction, as it was when it was asked for its name; nil: it was not since, or has done more
	kept     []byte   // what its client has asked, if it may be asked of another; else empty
	keeps    bool     // that is all since it has the server, and nothing was answered
	greeting *welcome // of one that was made ahead of time
	has      map[*statement]prepared
	uses     uint64
	turn     uint64 // how often it has said that it is ready
}

// A job is what the pooler itself has asked of the server.
type job uint8

const (
	syncing  job = iota + 1 // the parameters of its next client
	cleaning                // a reset or a check
	naming                  // what its client's transaction is called
)

func (s *server) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 && s.flush() {
		if c := s.client; c != nil {
			c.listen(!c.pending() && c.pend == nil)
			if c.tls != nil && c.events&unix.EPOLLIN != 0 {
				c.read()
			}
		}
	}
	if s.hup || events&(readable|broken) == 0 {
		return
	}
	if s.events&unix.EPOLLIN == 0 && events&broken == 0 {
		return // it was stopped since
	}
	if s.late != nil {
		if !s.parked {
			s.parked = true
			_ = s.loop.ctl(unix.EPOLL_CTL_DEL, s.fd, 0)
		}
		return
	}
	s.read()
}

// read takes what the server said. One that has gone can say no more than what
// the kernel still holds: that is taken even for a client that is slow.
func (s *server) read() {
	for s.late == nil {
		n, err := s.socket.read(s.loop.in)
		if err == errAgain {
			return
		}
		if err != nil {
			s.lost()
			return
		}
		if gate := s.backend.Gate; gate != nil && !gate() {
			s.late = append([]byte(nil), s.loop.in[:n]...)
			s.shut = s.loop.now
			s.stop()
			s.loop.gated = append(s.loop.gated, s)
			return
		}
		s.feed(s.loop.in[:n])
		if s.hup || s.tls == nil || s.events&unix.EPOLLIN == 0 {
			return
		}
	}
}

// shutFor is how long a shut gate is looked at: longer than any lease.
const shutFor = time.Minute

// look looks at a shut gate again; false: not any more.
func (s *server) look() bool {
	switch {
	case s.hup:
		return false
	case s.backend.Gate():
		b := s.late
		s.late = nil
		gone := s.parked
		if s.parked = false; gone && s.loop.ctl(unix.EPOLL_CTL_ADD, s.fd, s.events) != nil {
			s.lost()
			return false
		}
		s.listen(true)
		s.feed(b)
		if !s.hup && (gone || s.tls != nil) {
			s.read()
		}
		return false
	case s.loop.now-s.shut > shutFor:
		s.lost()
		return false
	}
	return true
}

// stop reads no more from the server until its client has taken what it got.
func (s *server) stop() { s.want(s.events &^ readable) }

func (s *server) listen(on bool) {
	if on && s.late == nil && (s.client == nil || !s.client.pending()) {
		s.want(s.events | readable)
		if s.tls != nil {
			s.loop.again = append(s.loop.again, (*listener)(s)) // it may hold what came before
		}
	}
}

// A listener is a server that is to be read although epoll says nothing.
type listener server

func (r *listener) ready(uint32) {
	if s := (*server)(r); !s.hup && s.events&unix.EPOLLIN != 0 {
		s.read()
	}
}

// feed understands what the server said as far as it must and passes it on.
func (s *server) feed(b []byte) {
	l := s.loop
	l.back, l.backing = l.back[:0], l.backing[:0]
	for len(b) > 0 && !s.hup {
		if s.left > 0 {
			n := min(s.left, len(b))
			switch s.act {
			case pass:
				l.back = join(l.back, b[:n])
			case hold:
				s.hold = append(s.hold, b[:n]...)
			}
			b = b[n:]
			if s.left -= n; s.left == 0 {
				if s.act == hold {
					whole := s.hold
					s.hold = nil
					s.whole(s.kind, whole, whole[headSize:])
				} else {
					s.done(s.kind, nil)
				}
			}
			continue
		}
		head := b
		if s.have > 0 || len(b) < headSize {
			n := copy(s.head[s.have:], b)
			s.have += uint8(n)
			b = b[n:]
			if s.have < headSize {
				break
			}
			s.have = 0
			at := len(l.backing)
			l.backing = append(l.backing, s.head[:]...)
			head = l.backing[at : at+headSize : at+headSize]
		} else {
			b = b[headSize:]
		}
		kind, n := head[0], bodyOf(head)
		if n < 0 {
			s.breaks("bad packet header")
			return
		}
		s.kind, s.left = kind, n
		if looksInto(kind, n) || s.job == naming && kind == 'D' && n <= namesMax {
			if len(b) >= n && cap(head) > headSize { // it lies in one piece
				s.left = 0
				s.whole(kind, head[:headSize+n], b[:n])
				b = b[n:]
				continue
			}
			s.act = hold
			s.hold = append(make([]byte, 0, headSize+n), head[:headSize]...)
			if n == 0 {
				whole := s.hold
				s.hold = nil
				s.whole(kind, whole, nil)
			}
			continue
		}
		if s.act = s.fate(kind); s.act == pass {
			l.back = join(l.back, head[:headSize])
		}
		if n == 0 {
			s.done(kind, nil)
		}
	}
	s.deliver()
}

// looksInto says that a message of that length is understood as a whole.
func looksInto(kind byte, n int) bool {
	switch kind {
	case 'Z', 'S':
		return n <= namesMax
	case 'E', 'N':
		return n <= namesMax
	case 'C':
		return n == len("DISCARD ALL\x00") || n == len("DEALLOCATE ALL\x00")
	}
	return false
}

// whole is a message that lies in one piece.
func (s *server) whole(kind byte, raw, body []byte) {
	l := s.loop
	if kind == 'E' && s.fell(body) {
		return
	}
	if s.fate(kind) == pass {
		l.back = join(l.back, raw)
	}
	s.done(kind, body)
}

// fate says whether the client gets the message.
func (s *server) fate(kind byte) act {
	if s.client == nil || s.job != 0 {
		return drop
	}
	if s.unsure || s.hushed {
		return s.doubts(kind)
	}
	switch kind {
	case '1', '2', '3', 't', 'n', 'T':
		if r := s.asked.first(); r != nil && r.act == skip {
			return drop
		}
	}
	return pass
}

// done is the end of a message; body is given if it was looked into.
func (s *server) done(kind byte, body []byte) {
	switch kind {
	case 'Z':
		if len(body) != 1 || strings.IndexByte("ITE", body[0]) < 0 {
			s.breaks("bad ReadyForQuery")
			return
		}
		s.idle(body[0])
		return
	case 'S':
		s.told(body)
		return
	case 'E':
		s.erred(body)
		return
	case 'D':
		if s.job == naming && s.named != nil {
			s.nameIs(body)
		}
		return
	case 'N':
		s.unsure = s.unsure || s.room.Outlive && s.client != nil && s.job == 0 && cutShort(body)
		return
	case 'A', 'd', 'H', 'c', 't', 'V', 'W':
		return
	case '1', '2', '3':
		r := s.asked.first()
		if r == nil || r.kind != [...]byte{'P', 'B', 'C'}[kind-'1'] {
			s.breaks("server answers out of order")
			return
		}
		s.asked.pop()
	case 'n', 'T':
		if r := s.asked.first(); r != nil && r.kind == 'D' {
			s.asked.pop()
		}
	case 'C', 'I', 's':
		if body != nil && (string(body) == "DISCARD ALL\x00" || string(body) == "DEALLOCATE ALL\x00") {
			s.discarded()
		}
		if r := s.asked.first(); r != nil {
			if s.cutoff.doubt != nil && r.act == forward {
				s.cutoff.told = true
			}
			if r.kind == 'E' {
				s.asked.pop()
			}
		}
	case 'G':
		s.takes()
		return
	default:
		s.breaks("unknown pkt from server")
		return
	}
	s.advance()
}

// advance gives the answers that the pooler invents, as far as it is their turn.
func (s *server) advance() {
	l := s.loop
	for r := s.asked.first(); r != nil; r = s.asked.first() {
		switch {
		case r.kind == 'c' && !s.copying: // the data of no COPY
			s.asked.pop()
			continue
		case r.act != fake:
			return
		}
		kind := byte('1')
		if r.kind == 'C' {
			kind = '3'
			if r.stmt != nil {
				r.stmt.let()
			}
		}
		s.asked.pop()
		at := len(l.backing)
		l.backing = appendHead(l.backing, kind, 0)
		l.back = join(l.back, l.backing[at:])
	}
}

// takes is the begin of COPY FROM STDIN: what the client has sent since, up to
// the end of its data, is read as data, and a Sync among it is ignored.
func (s *server) takes() {
	q := &s.asked
	s.copying = true
	kept := q.head + 1
	for i := q.head + 1; i < len(q.all); i++ {
		switch {
		case s.copying && q.all[i].kind == 'S':
			continue
		case s.copying && q.all[i].kind == 'c':
			s.copying = false
			continue
		}
		q.all[kept] = q.all[i]
		kept++
	}
	if kept < len(q.all) {
		clear(q.all[kept:])
		q.all = q.all[:kept]
	}
}

// discarded is the end of all statements that were prepared.
func (s *server) discarded() {
	s.has = nil
	if c := s.client; c != nil && s.job == 0 {
		for _, x := range c.names {
			x.let()
		}
		c.names = nil
	}
}

// told is a parameter that changed.
func (s *server) told(body []byte) {
	name, rest, ok := cstring(body)
	value, _, ok2 := cstring(rest)
	if !ok || !ok2 {
		s.breaks("broken ParameterStatus packet")
		return
	}
	i := isTracked(name)
	if i < 0 || s.params[i] == string(value) {
		return
	}
	s.params[i] = string(value)
	if c := s.client; c != nil && s.job == 0 {
		c.params[i] = s.params[i]
	}
}

// stalePlan is what a server says of a statement whose result no longer has the
// columns that it had when it was prepared.
const stalePlan = "cached plan must not change result type"

// erred is an error: what was asked for after it, up to the next Sync, is left
// out.
func (s *server) erred(body []byte) {
	s.copying = false
	r := s.asked.first()
	switch {
	case s.job == syncing:
		c := s.client
		_, text := fieldsOfError(body)
		s.room.log.Warn("server refuses the parameters of a client", "client", c.String(), "error", text)
		s.give(pool.Drop, "invalid server parameter")
		c.fail("invalid server parameter")
		return
	case s.job == cleaning:
		s.end("reset query failed")
		return
	case s.job == naming: // the transaction is broken, and its COMMIT was not sent
		_, text := fieldsOfError(body)
		s.cut(text)
		return
	case r == nil:
		if s.client == nil {
			s.end("idle server got dirty")
		}
		return
	case !extended(r.kind):
		s.said = true
		return
	}
	if r.kind == 'B' && r.stmt != nil {
		if code, text := fieldsOfError(body); code == "0A000" && text == stalePlan {
			r.stmt.age++ // whoever asks for it next gets it prepared anew
		}
	}
	for r := s.asked.first(); r != nil && r.kind != 'S'; r = s.asked.first() {
		s.undo(s.asked.pop())
	}
	s.said = true
	s.skipping = s.asked.empty()
	s.advance()
}

// undo takes back what was noted for a request that the server left out.
func (s *server) undo(r request) {
	if r.stmt != nil && r.kind == 'P' && r.act != fake {
		delete(s.has, r.stmt)
	}
	if s.client != nil {
		s.client.undo(r)
	}
}

func (c *client) undo(r request) {
	switch {
	case r.stmt == nil:
	case r.kind == 'P':
		if r.name != "" && c.names[r.name] == r.stmt {
			delete(c.names, r.name)
			r.stmt.let()
		}
	case r.kind == 'C':
		if c.names == nil {
			c.names = map[string]*statement{}
		}
		c.names[r.name] = r.stmt
	}
}

// idle is a ReadyForQuery.
func (s *server) idle(status byte) {
	s.turn++
	for !s.asked.empty() {
		r := s.asked.pop()
		if ends(r.kind) {
			break
		}
	}
	s.status, s.said, s.unsure, s.hushed = status, false, false, false
	if s.asked.empty() {
		s.cutoff = cutoff{}
	}
	switch s.job {
	case naming:
		s.job = 0
		s.loop.again = append(s.loop.again, s.client)
		return
	case syncing:
		s.job = 0
		c := s.client
		for i := range c.params { // in the server's own spelling
			if c.params[i] != "" {
				c.params[i] = s.params[i]
			}
		}
		s.loop.again = append(s.loop.again, c)
		return
	case cleaning:
		s.job = 0
		s.room.book.Ready(s.id, s.loop.now)
		return
	}
	if status != 'T' {
		s.named = nil
	}
	s.advance()
	if !s.asked.empty() {
		s.busy = true
	} else {
		s.account()
		s.busy, s.skipping, s.copying = false, false, false
	}
	s.settle()
}

// account counts the time of a query that has ended.
func (s *server) account() {
	now := s.loop.now
	s.rested = now
	if c := s.client; c != nil && s.busy {
		c.counts.queryTime += now - s.began
		if s.status == 'I' {
			c.counts.xactTime += now - s.opened
		}
	}
}

// settle gives the server back when its client's mode says so.
func (s *server) settle() {
	c := s.client
	if c == nil || c.mode == pool.Session || s.job != 0 || !s.asked.empty() {
		return
	}
	if c.mode == pool.Statement && s.status != 'I' {
		s.deliver()
		c.fail("transaction blocks not allowed in statement pooling mode")
		return
	}
	// In the middle of a message the rest of it is still to go to this server, or
	// to be understood with what it has.
	if !s.clean() || c.left > 0 && c.act != drop || s.busy {
		return
	}
	fate := pool.Keep
	if s.room.ResetAlways {
		fate = pool.Reset
	}
	s.deliver()
	s.give(fate, "")
}

// clean says that the server owes nothing and is in no transaction.
func (s *server) clean() bool {
	return s.status == 'I' && s.late == nil && s.asked.empty() && !s.pending() && !s.skipping && s.job == 0 && !s.dead && s.left == 0
}

// deliver sends what was gathered for the client.
func (s *server) deliver() {
	l := s.loop
	if c := s.client; c != nil && len(l.back) > 0 {
		c.gate = s.backend.Gate
		c.deliver(l.back)
	}
	l.back, l.backing = l.back[:0], l.backing[:0]
}

// give takes the server from its client.
func (s *server) give(fate pool.Fate, why string) {
	c := s.client
	s.half = s.interrupted()
	c.mute = c.mute || s.halfSaid()
	s.keeps, s.kept, s.named = false, s.kept[:0], nil
	s.client, c.server = nil, nil
	s.busy, c.last = false, s.loop.now
	switch s.room.book.Release(c.id, fate, s.loop.now) {
	case pool.Drop:
		if why == "" {
			why = pool.WhyLifetime
		}
		s.close(why)
	case pool.Reset:
		s.listen(true)
		s.clear(s.room.ResetQuery)
	case pool.Keep:
		s.listen(true)
	}
	if c.adrift {
		s.room.move(c)
	}
}

// clear resets or checks the server by a query of the pooler's.
func (s *server) clear(query string) {
	s.job = cleaning
	s.asked.push(request{kind: 'Q', act: skip})
	s.send([][]byte{appendMessage(nil, 'Q', query)})
}

// breaks ends a server that does not keep to the protocol, and its client.
func (s *server) breaks(why string) {
	c := s.client
	if c == nil {
		s.end(why)
		return
	}
	s.give(pool.Drop, why)
	c.fail(why)
}

// lost is a server that ended by itself.
func (s *server) lost() {
	const why = "server conn crashed?"
	if s.client != nil {
		s.cut(why)
		return
	}
	s.end(why)
}

// end ends a server that no client has.
func (s *server) end(why string) {
	if s.hup {
		return
	}
	s.close(why)
	if s.id == pool.None {
		s.room.warm = slices.DeleteFunc(s.room.warm, func(x *server) bool { return x == s })
		return
	}
	s.room.book.Lost(s.id, s.loop.now)
}

// close closes the connection.
func (s *server) close(why string) {
	if s.hup {
		return
	}
	s.room.log.Debug("server closed", "server", s.String(), "why", why)
	if s.id != pool.None && s.room.servers[s.id] == s {
		s.room.servers[s.id] = nil
	}
	// After half a message a farewell would be the end of it: a query that was
	// never finished would be run, with our bytes in it.
	if !s.dead && !s.pending() && !s.half && !s.interrupted() {
		s.send([][]byte{{'X', 0, 0, 0, 4}})
	}
	s.hang()
	s.release()
}

// String names the server in logs.
func (s *server) String() string { return s.key.Database + "/" + s.key.User }

// interrupted says that the server has the beginning of a message, whose rest the
// client has not sent.
func (s *server) interrupted() bool {
	return s.client != nil && s.client.left > 0 && s.client.act == pass
}

// halfSaid says that its client has the beginning of a message: whatever else is said to her would be
// taken for the rest.
func (s *server) halfSaid() bool { return s.left > 0 && s.act == pass && s.job == 0 }

// knows says that the server has x as it is now, and notes its use.
func (s *server) knows(x *statement) bool {
	p, ok := s.has[x]
	if !ok || p.age != x.age {
		return false
	}
	s.uses++
	s.has[x] = prepared{s.uses, p.age}
	return true
}

// learn notes that the server is told x.
func (s *server) learn(x *statement) {
	if s.has == nil {
		s.has = map[*statement]prepared{}
	}
	s.uses++
	s.has[x] = prepared{s.uses, x.age}
}
