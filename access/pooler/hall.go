package pooler

import (
	"time"

	"howdah/access/admin"
	"howdah/access/pool"
)

// A pooler has several loops where the machine has the cores, of which one alone has anything to do
// for as long as it keeps up: two cost more for each query. What a user has in a database, the
// clients and the servers of those pools, lives on one loop; it moves between two turns to another
// one while that which it is on is nearly full, and back when all together have little to do
// (spread.go). So everything that happens for a query is one thread's affair, and what counts for
// several pools is in the books' ledgers, which are asked when somebody comes or goes.

// A hall is what of a pooler is on one loop. Its thread alone touches it.
type hall struct {
	pooler  *Pooler
	loop    *loop
	index   int
	rooms   []*room // of each door
	keys    map[cancelKey]*client
	streams map[cancelKey]*stream // in the first hall: they need no loop
	handing *handing              // clients go over to another process
	swept   time.Duration
	ending  bool
	burden  recent
}

// A room is what of a door is on one loop.
type room struct {
	*Door
	Settings pool.Settings // as they are now
	hall     *hall
	loop     *loop

	course      Course
	shunned     map[string]time.Duration // places that did not answer, until when they are chosen last
	watch       *watch
	warm        []*server // made ahead of time, and not yet the book's
	warmth      int       // counts the times when such were asked for
	warmed      time.Duration
	claimed     int // of them, since
	book        *pool.Book
	servers     []*server // by number
	clients     []*client
	welcomes    map[pool.Key]*welcome
	entering    map[pool.Server]*entry
	statements  map[pool.Key]*statements // by pair
	counts      map[pool.Key]*stats      // by pair: what it did here
	idleNext    time.Duration            // when a client may have been idle for too long; not before
	window      admin.Window
	idleOfUsers time.Duration // the shortest client_idle_timeout of a user's own; 0: there is none
	owns        bool          // some user has a time of her own
	lasting     map[lasts]bool
	turned      time.Duration // when the last stats_period ended
}

// newHall makes the next hall of p, with a room for each of its doors.
func newHall(p *Pooler) (*hall, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	h := &hall{pooler: p, loop: l, index: len(p.halls), keys: map[cancelKey]*client{}, streams: map[cancelKey]*stream{}}
	l.began = p.began
	for _, d := range p.doors {
		h.rooms = append(h.rooms, d.furnish(h))
	}
	l.tick = h.tick
	l.after = func() {
		for _, d := range h.rooms {
			d.act()
		}
		if h.handing != nil && l.now-h.swept >= time.Millisecond {
			h.sweep()
		}
	}
	return h, nil
}

// furnish makes d's room in h.
func (d *Door) furnish(h *hall) *room {
	r := &room{
		Door: d, hall: h, loop: h.loop, book: pool.NewShared(d.Settings, d.guests, d.seats),
		welcomes: map[pool.Key]*welcome{}, counts: map[pool.Key]*stats{}, statements: map[pool.Key]*statements{},
	}
	r.configure(d.Settings)
	r.window.Turn(h.loop.began, nil)
	d.rooms = append(d.rooms, r)
	return r
}

func (h *hall) tick(now time.Duration) {
	for _, d := range h.rooms {
		d.expire(now)
		d.book.Tick(now)
		d.turn(now)
		for x := range d.streams {
			d.tally(x)
		}
		if len(d.warm)+d.claimed > 0 && now-d.warmed > warmFor {
			d.cool()
		}
	}
	h.weigh(now)
}

// everywhere has f run on each loop in turn, and waits for it; nothing moves between them
// meanwhile. false: they have ended.
func (p *Pooler) everywhere(f func(*hall)) bool {
	defer p.rest()()
	for _, h := range p.halls {
		if !h.loop.call(func() { f(h) }) {
			return false
		}
	}
	return true
}

// tell has f run on each loop, and waits for none; nothing moves between them before each has. It
// returns how many there are on which it will not run, for they have ended.
func (p *Pooler) tell(f func(*hall)) (missed int) {
	moves := p.rest()
	for _, h := range p.halls {
		over := p.rest()
		if !h.loop.post(func() { defer over(); f(h) }) {
			over()
			missed++
		}
	}
	moves()
	return missed
}

// rest has nothing move between loops until what it returns is called.
func (p *Pooler) rest() (over func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.still++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.still--
	}
}

// room is where the pair of k lives: in the first hall, unless it has moved.
func (d *Door) room(k pool.Key) *room {
	p := d.pooler
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := d.homes[k.Pair()]; r != nil {
		return r
	}
	return d.rooms[0]
}

// move has the pair of k go to another hall, as it is. It stays while somebody outside the loop has
// to do with one of its sockets by number, and while a change of leader or of process is under way.
func (d *room) moves(k pool.Key, to *room) bool {
	k = k.Pair()
	d.act()
	p := d.pooler
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.still > 0, p.left(), d.hall.ending, d.course.Hold, d.watch != nil, len(d.warm)+d.claimed > 0:
		return false
	}
	for _, c := range d.clients {
		if c != nil && c.key.Pair() == k && (c.wonder != nil || c.id == pool.None) {
			return false
		}
	}
	cargo, ok := d.book.Lift(k.Database, k.User, func(c pool.Client) bool { return int(c) < len(d.clients) && d.clients[c] != nil })
	if !ok {
		return false
	}
	x := &removal{cargo: cargo, pair: k, statements: d.statements[k], welcomes: map[pool.Key]*welcome{}}
	delete(d.statements, k)
	for at, w := range d.welcomes {
		if at.Pair() == k {
			x.welcomes[at] = w
			delete(d.welcomes, at)
		}
	}
	for i, c := range d.clients {
		if c != nil && c.key.Pair() == k {
			x.clients = append(x.clients, c)
			d.clients[i] = nil
			delete(d.hall.keys, c.secret)
			d.loop.forget(c.fd)
		}
	}
	for i, s := range d.servers {
		if s != nil && s.key.Pair() == k {
			x.servers = append(x.servers, s)
			d.servers[i] = nil
			d.loop.forget(s.fd)
		}
	}
	var gated []gated
	for _, g := range d.loop.gated {
		if x.has(g) {
			x.gated = append(x.gated, g)
		} else {
			gated = append(gated, g)
		}
	}
	d.loop.gated = gated
	home := to
	if !to.loop.post(func() { to.takes(x) }) {
		d.takes(x)
		home = d
	}
	// Whoever came to the old place meanwhile goes on from there when she is in.
	if delete(d.homes, k); home.hall.index > 0 {
		d.homes[k] = home
	}
	return home == to
}

// A removal is a pair on its way from one hall to another.
type removal struct {
	pair       pool.Key
	cargo      *pool.Cargo
	clients    []*client
	servers    []*server
	statements *statements
	welcomes   map[pool.Key]*welcome
	gated      []gated
}

func (x *removal) has(g gated) bool {
	switch g := g.(type) {
	case *client:
		return !g.hup && g.key.Pair() == x.pair
	case *server:
		return !g.hup && g.key.Pair() == x.pair
	}
	return false
}

// takes takes in what comes from another hall.
func (d *room) takes(x *removal) {
	if x.statements != nil {
		d.statements[x.pair] = x.statements
	}
	for at, w := range x.welcomes {
		d.welcomes[at] = w
	}
	clients, servers := d.book.Land(x.cargo, d.loop.now)
	for _, s := range x.servers {
		s.room, s.loop, s.id = d, d.loop, servers[s.id]
		d.servers = at(d.servers, int(s.id))
		d.servers[s.id] = s
		if s.parked {
			d.loop.house(s.fd)
			d.loop.socks[s.fd] = s
		} else if d.loop.add(s.fd, s, s.events) != nil {
			s.dead = true
		}
	}
	for _, c := range x.clients {
		c.room, c.loop, c.id = d, d.loop, clients[c.id]
		d.clients = at(d.clients, int(c.id))
		d.clients[c.id] = c
		d.hall.keys[c.secret] = c
		c.counts = d.counted(x.pair)
		if d.loop.add(c.fd, c, c.events) != nil {
			c.dead = true
		}
	}
	d.loop.gated = append(d.loop.gated, x.gated...)
	d.idleNext = 0
	if d.hall.ending {
		d.ends()
	}
}

// counted are the counts of a pair.
func (d *room) counted(pair pool.Key) *stats {
	n := d.counts[pair]
	if n == nil {
		n = &stats{}
		d.counts[pair] = n
	}
	return n
}

// totals are the counts of each database.
func (d *room) totals() map[string]admin.Totals {
	all := map[string]admin.Totals{}
	for pair, n := range d.counts {
		all[pair.Database] = all[pair.Database].Plus(n.totals())
	}
	return all
}

// prepared are the statements of a pair's clients.
func (d *room) prepared(k pool.Key) *statements {
	k = k.Pair()
	t := d.statements[k]
	if t == nil {
		t = &statements{}
		d.statements[k] = t
	}
	return t
}

// comes takes in a client who is in the book and has proven herself, or has her go on to where her
// pool is by now.
func (d *room) comes(c *client, fd int) {
	if to := d.Door.room(c.key); to != d {
		d.book.Depart(c.id)
		if !to.loop.post(func() {
			c.id = to.book.Arrive(c.key)
			to.comes(c, fd)
		}) {
			closeFD(fd)
		}
		return
	}
	d.hall.keys[c.secret] = c
	if err := d.enter(c, fd); err != nil {
		d.log.Warn("client not taken in", "error", err)
		c.gone("epoll")
	}
}

// ask has the other books that count with d's make room for a server of k, one after another until
// one has.
func (d *room) ask(k pool.Key, n int) {
	others := d.sharers()
	if n >= len(others) {
		return
	}
	o := others[n]
	o.loop.post(func() {
		if !o.book.Yield(k) {
			d.ask(k, n+1)
			return
		}
		o.act()
		d.loop.post(func() { d.book.Look(k, d.loop.now) })
	})
}

// sharers are the other rooms whose servers count with those of d.
func (d *room) sharers() (all []*room) {
	for _, o := range d.rooms {
		if o != d {
			all = append(all, o)
		}
	}
	return all
}

// ends ends everything in the room.
func (d *room) ends() {
	for _, c := range d.clients {
		if c != nil {
			c.gone("shutdown")
		}
	}
	for _, s := range d.servers {
		if s != nil {
			s.close("shutdown")
		}
	}
	d.cool()
}
