package pooler

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"

	"howdah/access/pool"
)

// SQLSTATEs of what became of a transaction whose server ended under it.
const (
	serializationFailure = "40001" // it was not committed: do it again
	unknownOutcome       = "08007" // transaction_resolution_unknown
	adminShutdown        = "57P01" // what drivers take for: connect again
)

// hintAnew is what she hears whose session ends with its server.
const hintAnew = "connect again: what a session has in its server ends with it (pool_mode transaction outlives it)"

// A class is what a statement can do to the transaction around it, as far as can be told
// from its first word.
type class uint8

const (
	commits class = iota // it may end it for good; also whatever can not be told
	inside               // it can not
	begins
	rolls
	seals // it commits, and does nothing else
)

// classOf looks at a statement's text. Of several in one string it only says
// that none of them commits, and that by looking for the words.
func classOf(text []byte) class {
	text = bytes.TrimRight(text, "\x00; \t\r\n\f\v")
	for {
		text = bytes.TrimLeft(text, " \t\r\n\f\v")
		end := "\n"
		switch {
		case bytes.HasPrefix(text, []byte("--")):
		case bytes.HasPrefix(text, []byte("/*")):
			end = "*/"
		default:
			return classOfBare(text)
		}
		comment, rest, ended := bytes.Cut(text[2:], []byte(end))
		if !ended || end == "*/" && bytes.Contains(comment, []byte("/*")) { // they nest
			return commits
		}
		text = rest
	}
}

func classOfBare(text []byte) class {
	if bytes.IndexByte(text, ';') >= 0 {
		low := bytes.ToLower(text)
		for _, word := range []string{"commit", "end", "prepare", "begin", "start", "rollback", "abort"} {
			if bytes.Contains(low, []byte(word)) {
				return commits
			}
		}
		return inside
	}
	n := 0
	for n < len(text) && n < len("rollback")+1 && (text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z') {
		n++
	}
	switch word := string(bytes.ToLower(text[:n])); word {
	case "commit", "end":
		switch string(bytes.ToLower(bytes.TrimLeft(text[n:], " \t\r\n\f\v"))) {
		case "", "work", "transaction":
			return seals
		}
		return commits
	case "prepare":
		return commits
	case "begin", "start":
		return begins
	case "rollback", "abort":
		return rolls
	}
	return inside
}

// A cutoff is what has been sent to a server since it last owed nothing, as far as it matters
// if the answer never comes.
type cutoff struct {
	begun   bool
	open    bool // in a transaction block
	unknown bool // something may have been made to last
	told    bool // what doubt is of has been answered, but for ReadyForQuery
	bound   class
	doubt   *Doubt // all that is unknown is the COMMIT of this one; nil: there is more, or it has no name
}

// sends notes a statement that is on its way to be executed.
func (s *server) sends(c class) {
	k := &s.cutoff
	if !k.begun {
		k.begun, k.open = true, s.status != 'I'
	}
	k.doubt = nil
	switch {
	case c == begins:
		k.open = true
	case c == seals && k.open && !k.unknown && s.named != nil && s.named.XID != "":
		k.unknown, k.doubt = true, s.named
	case c == commits, c == seals, !k.open:
		k.unknown = true
	}
	if c == commits || c == seals || c == rolls {
		k.open = false
	}
	if c != seals {
		s.named = nil // it may have written since
	}
}

// weigh notes what a message has the server execute. body is what is there of it, and n its length.
func (c *client) weigh(kind byte, body []byte, n int) {
	s := c.server
	switch {
	case kind == 'Q' && len(body) == n:
		s.sends(classOf(body))
		c.warn(body)
	case kind == 'Q':
		s.sends(commits) // too long to be looked at
	case kind == 'F':
		s.sends(inside)
	case kind == 'E' && c.portals: // any of those that it has
		s.sends(commits)
	case kind == 'E':
		s.sends(s.cutoff.bound)
	}
}

// bind notes what an Execute that follows is of.
func (c *client) bind(portal []byte, is class) {
	c.portals = c.portals || len(portal) > 0
	c.server.cutoff.bound = is
}

// fell is an error that says that the server ends. Its client hears what that
// means for her instead.
func (s *server) fell(body []byte) bool {
	if s.client == nil || !s.room.Outlive && s.job != syncing {
		return false
	}
	switch code, _ := fieldsOfError(body); code {
	case "57P01", "57P02", "57P03":
	default:
		return false
	}
	if s.repeatable() {
		s.loop.back, s.loop.backing = s.loop.back[:0], s.loop.backing[:0] // what it began to say with its end
		s.repeat("server is shutting down")
		return true
	}
	s.deliver()
	if s.job != syncing && !s.survived() {
		c := s.client
		code, text := fieldsOfError(body)
		s.give(pool.Drop, "server is shutting down")
		c.failHint(code, text, hintAnew)
		return true
	}
	s.cut("server is shutting down")
	return true
}

// survived says that the session of the client can go on without the server: she is in the middle
// of no message, in neither direction, and has nothing there that lasts beyond a transaction.
func (s *server) survived() bool {
	c := s.client
	switch {
	case !s.room.Outlive, c.mode == pool.Session, !c.welcomed, c.dead, c.pending(), c.hold != nil:
		return false
	case s.left > 0 && s.act == pass:
		return false
	}
	return c.left == 0 || c.act == drop || c.kind == 'd'
}

// cut is the end of a server under its client: what of her requests was never sent
// goes to the next server, and of the others she hears what became of them. A transaction that was not
// to be committed yet certainly was not (40001); one that was, or that was a statement
// alone, nobody knows of (08007).
func (s *server) cut(why string) {
	c, d := s.client, s.room
	s.leave()
	if s.job == syncing { // nothing of hers was sent
		s.give(pool.Drop, why)
		c.retry()
		return
	}
	if !s.survived() {
		s.give(pool.Drop, why)
		if d.Outlive {
			c.failHint(adminShutdown, "the server of this session has ended: "+why, hintAnew)
		} else {
			c.fail(why)
		}
		return
	}
	if s.repeatable() {
		s.repeat(why)
		return
	}
	code, text := serializationFailure, "the server ended before the transaction was committed"
	if s.cutoff.unknown {
		code, text = unknownOutcome, "the server ended before it said whether the transaction was committed"
	}
	owed := (s.asked.empty() || s.job == naming) && s.status != 'I' && !s.skipping
	var w *wonder
	if x := s.cutoff.doubt; x != nil && !s.said && d.Fate != nil && s.asked.answerable() {
		w = &wonder{doubt: *x, told: s.cutoff.told}
	}
	asked, said := s.asked, s.said
	s.asked = queue{}
	s.give(pool.Drop, why)
	if c.left > 0 {
		c.act = drop
	}
	c.gate = nil // it was that server's
	c.portals = false
	if w != nil {
		d.log.Info("a server ended under a commit", "client", c.String(), "why", why, "xid", w.doubt.XID)
		w.asked = asked
		c.wonders(w)
		return
	}
	b := c.regret(&asked, said, code, text)
	c.owed = owed
	d.log.Info("a server ended under a client", "client", c.String(), "why", why, "code", code, "answered", len(b) > 0)
	if len(b) > 0 {
		c.deliver([][]byte{b})
	}
	c.listen(!c.pending())
	c.retry()
}

// regret answers what a server owed that will not answer any more. said: of the series
// that it was at it has.
func (c *client) regret(asked *queue, said bool, state, text string) []byte {
	b := make([]byte, 0, 256)
	sorry := func() {
		if !said {
			b = appendNotice(b, 'E', "ERROR", state, text)
		}
		said = true
	}
	for !asked.empty() {
		r := asked.pop()
		if extended(r.kind) {
			c.undo(r)
		}
		switch {
		case r.act == skip, r.kind == 'c':
		case ends(r.kind):
			sorry()
			b = append(b, 'Z', 0, 0, 0, 5, 'I')
			said = false
		default:
			sorry()
		}
	}
	c.skips = said
	return b
}

// keptMax is how much of what a client has asked is kept for another server.
const keptMax = 16 << 10

// keep keeps what the client says to a server that only reads.
func (c *client) keep(b []byte) {
	s := c.server
	if s == nil || !s.keeps {
		return
	}
	if s.keeps = len(s.kept)+len(b) <= keptMax; s.keeps {
		s.kept = append(s.kept, b...)
	}
}

// rose says that the server may have become one that writes.
func (s *server) rose() bool {
	keep := s.room.course.Keep
	return keep != nil && keep(s.backend.Tag) == Retire
}

// repeatable says that what the client has asked may be asked of another server.
func (s *server) repeatable() bool {
	c := s.client
	return s.keeps && len(s.kept) > 0 && s.job == 0 && c.left == 0 && !c.again && s.survived() && !s.rose()
}

// repeat asks of another server what this one, which only reads, has not answered
// a word of. It is done once: a query that ends its server shall not end them all.
func (s *server) repeat(why string) {
	c, d := s.client, s.room
	s.leave()
	for !s.asked.empty() {
		if r := s.asked.pop(); extended(r.kind) {
			c.undo(r)
		}
	}
	d.log.Info("a standby ended under a client, and another is asked", "client", c.String(), "why", why)
	c.pend, s.kept = s.kept, nil
	s.give(pool.Drop, why)
	c.again, c.portals, c.gate = true, false, nil
	c.retry()
}

// retry goes on with what the client has sent.
func (c *client) retry() { c.loop.again = append(c.loop.again, (*reader)(c)) }

// alone answers a message of a client whose server ended in the middle of her transaction,
// or of a series of requests. true: it has been dealt with.
func (c *client) alone(kind byte, n int) bool {
	l := c.loop
	at := len(l.backing)
	ready := []byte{'Z', 0, 0, 0, 5, 'I'}
	switch {
	case c.skips:
		if kind == 'S' {
			c.skips = false
			l.backing = append(l.backing, ready...)
		}
	case !ends(kind) && !extended(kind):
		return false
	default:
		c.owed, c.skips = false, extended(kind)
		l.backing = appendNotice(l.backing, 'E', "ERROR", serializationFailure, "the server ended before the transaction was committed")
		if !c.skips {
			l.backing = append(l.backing, ready...)
		}
	}
	l.back = join(l.back, l.backing[at:])
	c.kind, c.act, c.left = kind, drop, n
	return true
}

// spoke says that a server which nobody asked anything has something to say: that
// it has ended, or is about to. Who would ask it now might never learn what
// became of that.
func (s *server) spoke() bool {
	var b [1]byte
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return errno != unix.EAGAIN
		}
	}
}
