// Package pool decides which client holds which server connection: who waits,
// who is next, when another connection is opened and when one is closed.
//
// It is PgBouncer's pooling without its sockets: a plain state machine that is
// told what happened and when, and answers with actions that the caller carries
// out in their order. It opens nothing, knows no bytes and has no clock. A
// server is never held by two clients, no limit is ever exceeded, and within a
// pool whoever came first is served first.
//
// Sources: PgBouncer's documentation (config.md) and its objects.c and
// janitor.c; where it differs on purpose, the setting says so.
package pool

import (
	"time"
)

// A Client is a number for one client, until it leaves.
type Client int32

// A Server is a number for one connection to a server, from the action that
// opens it until the one that closes it, or its end is told.
type Server int32

// None is no client, or no server.
const None = -1

// A Key names a pool: every pair of a database and a user has its own, at each place.
type Key struct {
	Database, User string
	Place          string // which of several servers all its connections lead to; "": no matter
}

// Pair is k at whichever place.
func (k Key) Pair() Key { k.Place = ""; return k }

// A Kind is what an action is about.
type Kind uint8

// Kinds of actions.
const (
	Open   Kind = iota + 1 // log in to a server for the pool Key, as Server
	Close                  // close Server, because of Text; its number is free again
	Link                   // Client has Server from now on
	Check                  // ask Server whether it still lives, then call Ready
	Refuse                 // tell Client that it gets no server, and end it; it has left
	Notice                 // tell Client that it is still waiting
	Ask                    // have other books of the ledger Yield room for a server of Key, then call Look
)

// An Action is one thing that the caller does.
type Action struct {
	Kind   Kind
	Client Client
	Server Server
	Key    Key
	Code   string        // SQLSTATE of a refusal
	Text   string        // of a refusal or a notice; why a server is closed
	Wait   time.Duration // of a link: how long the client has waited
}

// A State is where a server is in its life.
type State uint8

// States, by the names of SHOW SERVERS.
const (
	free          State = iota
	Login               // new
	Idle                // idle
	Used                // used: idle for so long that it is asked first
	Tested              // tested: asked, or being reset
	Active              // active
	BeingCanceled       // being_canceled: free but for a cancel request on its way
)

// Why servers are closed, by PgBouncer's words.
const (
	WhyLifetime  = "server lifetime over"
	WhyIdle      = "server idle timeout"
	WhyEvicted   = "evicted"
	WhyPause     = "pause mode"
	WhyReconnect = "connect string changed"
	WhyKilled    = "database removed"
)

// ProtocolViolation is the SQLSTATE of what a pooler itself has to say.
const ProtocolViolation = "08P01"

// CannotConnectNow is the SQLSTATE that has a driver try the next host.
const CannotConnectNow = "57P03"

// waitNotice is PgBouncer's to whoever has waited for a while.
const waitNotice = "No server connection available in postgres backend, client being queued"

type client struct {
	links         // in the line of those who wait
	pool    int32 // -1: free
	server  Server
	since   time.Duration
	waiting bool
	told    bool
}

type server struct {
	links   // in the pool's list of its state
	pool    int32
	state   State
	client  Client
	since   time.Duration
	born    time.Duration
	stale   bool // to be closed as soon as it is free
	cancels int32
}

type pool struct {
	key      Key
	db, user *owner
	waiting  list
	idle     list
	used     list
	clients  int
	servers  int // of any state
	logins   int
	testing  int
	retry    time.Duration // no login before
	failed   bool          // the last login was refused
	down     bool          // nobody was there
	code     string
	text     string
	lastAged time.Duration // when one was closed for its age
	asked    time.Duration // when other books were last asked for room
	cold     bool          // no client ever had a server of it

	// Resolved settings.
	mode     Mode
	size     int
	min      int
	reserve  int
	lifetime time.Duration
	query    time.Duration // query_timeout, also of who waits
}

// An owner is a database or a user, over all its pools.
type owner struct {
	name   string
	set    Override
	paused bool
	shut   bool // nobody else is let in
}

// A Book is all pools.
type Book struct {
	set     Settings
	pools   []*pool
	byKey   map[Key]int32
	dbs     map[string]*owner
	users   map[string]*owner
	clients []client
	servers []server
	freeC   []Client
	freeP   []int32
	freeS   []Server
	guests  *Ledger // clients
	seats   *Ledger // servers
	paused  bool
	hold    bool
	acts    []Action
	spare   []Action
}

// New makes a book without clients or servers.
func New(s Settings) *Book { return NewShared(s, NewLedger(), NewLedger()) }

// NewShared makes a book whose clients and servers are counted with those of others.
func NewShared(s Settings, clients, servers *Ledger) *Book {
	s.Logins = max(s.Logins, 1)
	clients.joins()
	servers.joins()
	return &Book{set: s, byKey: map[Key]int32{}, dbs: map[string]*owner{}, users: map[string]*owner{}, guests: clients, seats: servers}
}

// Settings are what all pools have.
func (b *Book) Settings() Settings { return b.set }

// Configure sets what holds from now on. Databases and users that are not named
// have nothing of their own.
func (b *Book) Configure(s Settings, dbs, users map[string]Override) {
	s.Logins = max(s.Logins, 1)
	b.set = s
	for name := range dbs {
		b.owner(b.dbs, name)
	}
	for name := range users {
		b.owner(b.users, name)
	}
	for name, o := range b.dbs {
		o.set = dbs[name]
	}
	for name, o := range b.users {
		o.set = users[name]
	}
	for p := range b.each {
		b.resolve(p)
	}
}

// each is every pool that is there.
func (b *Book) each(yield func(*pool) bool) {
	for _, p := range b.pools {
		if p != nil && !yield(p) {
			return
		}
	}
}

func (b *Book) owner(all map[string]*owner, name string) *owner {
	o := all[name]
	if o == nil {
		o = &owner{name: name}
		all[name] = o
	}
	return o
}

// resolve applies PgBouncer's order: user before database before all.
func (b *Book) resolve(p *pool) {
	u, d := p.user.set, p.db.set
	p.mode = b.set.PoolMode
	if d.PoolMode != Inherit {
		p.mode = d.PoolMode
	}
	if u.PoolMode != Inherit {
		p.mode = u.PoolMode
	}
	p.size = first(u.PoolSize, d.PoolSize, &b.set.DefaultPoolSize)
	p.min = first(d.MinPoolSize, &b.set.MinPoolSize)
	p.reserve = first(u.ReservePoolSize, d.ReservePoolSize, &b.set.ReservePoolSize)
	p.lifetime = first(d.ServerLifetime, &b.set.ServerLifetime)
	p.query = first(u.QueryTimeout, &b.set.QueryTimeout)
}

func (b *Book) pool(k Key) int32 {
	if i, ok := b.byKey[k]; ok {
		return i
	}
	p := &pool{
		key: k, db: b.owner(b.dbs, k.Database), user: b.owner(b.users, k.User),
		waiting: empty, idle: empty, used: empty, cold: true,
	}
	b.resolve(p)
	var i int32
	if n := len(b.freeP); n > 0 {
		i, b.freeP = b.freeP[n-1], b.freeP[:n-1]
		b.pools[i] = p
	} else {
		b.pools = append(b.pools, p)
		i = int32(len(b.pools) - 1)
	}
	b.byKey[k] = i
	return i
}

// forget drops a pool that never had a server, when its last client leaves: names
// that nobody could prove must not stay.
func (b *Book) forget(p *pool) {
	if p.clients > 0 || p.servers > 0 || !p.cold || p.failed {
		return
	}
	i := b.byKey[p.key]
	delete(b.byKey, p.key)
	b.pools[i] = nil
	b.freeP = append(b.freeP, i)
	for _, o := range []struct {
		all map[string]*owner
		*owner
	}{{b.dbs, p.db}, {b.users, p.user}} {
		if !o.paused && !o.shut && o.set == (Override{}) && !b.owns(o.owner) {
			delete(o.all, o.name)
		}
	}
}

// owns says that a pool is left that counts for o.
func (b *Book) owns(o *owner) bool {
	for p := range b.each {
		if p.db == o || p.user == o {
			return true
		}
	}
	return false
}

// Actions are what was decided since they were last asked for. They are valid
// until asked for again.
func (b *Book) Actions() []Action {
	b.acts, b.spare = b.spare[:0], b.acts
	return b.spare
}

func (b *Book) do(a Action) { b.acts = append(b.acts, a) }

// A Refusal is why a client may not join.
type Refusal string

// Error implements error.
func (r Refusal) Error() string { return string(r) }

// Why a client is turned away, by PgBouncer's words.
const (
	TooMany        Refusal = "no more connections allowed (max_client_conn)"
	TooManyForDB   Refusal = "client connections exceeded (max_db_client_connections)"
	TooManyForUser Refusal = "client connections exceeded (max_user_client_connections)"
)

// Join takes in a client for the pool of k. It holds no server yet.
func (b *Book) Join(k Key) (Client, error) {
	var most limits
	most.all = b.set.MaxClientConn
	db, user := b.own(b.dbs, k.Database), b.own(b.users, k.User)
	most.db, most.user = first(db.MaxClients, &b.set.MaxDBClientConnections), first(user.MaxClients, &b.set.MaxUserClientConnections)
	switch b.guests.takes(k, most) {
	case allFull:
		return None, TooMany
	case dbFull:
		return None, TooManyForDB
	case userFull:
		return None, TooManyForUser
	}
	return b.Arrive(k), nil
}

// own is what a database or a user has of its own.
func (b *Book) own(all map[string]*owner, name string) Override {
	if o := all[name]; o != nil {
		return o.set
	}
	return Override{}
}

// At is how many clients have a place.
func (b *Book) At(place string) int { return b.guests.at(place) }

// Move has c, which holds no server, go to another place. If it waits it goes on
// waiting there, among the others by how long they have.
func (b *Book) Move(c Client, place string, now time.Duration) {
	r := &b.clients[c]
	if r.server != None {
		panic("pool: a client moved with its server")
	}
	from, k := b.pools[r.pool], b.pools[r.pool].key
	if k.Place == place {
		return
	}
	if r.waiting {
		take(&from.waiting, b.clients, int32(c))
	}
	from.clients--
	b.guests.moves(k.Place, place)
	k.Place = place
	r.pool = b.pool(k)
	p := b.pools[r.pool]
	p.clients++
	b.forget(from)
	if !r.waiting {
		return
	}
	after := p.waiting.tail
	for after >= 0 && b.clients[after].since > r.since {
		after = b.clients[after].prev
	}
	follow(&p.waiting, b.clients, int32(c), after)
	b.serve(p, now)
}

// Waiting are those who wait in the pool of k, the first first.
func (b *Book) Waiting(k Key) (all []Client) {
	i, ok := b.byKey[k]
	if !ok {
		return nil
	}
	for c := b.pools[i].waiting.head; c >= 0; c = b.clients[c].next {
		all = append(all, Client(c))
	}
	return all
}

// over says that n has reached a limit.
func over(n, limit int) bool { return limit > 0 && n >= limit }

// Leave is the end of a client that holds no server.
func (b *Book) Leave(c Client) {
	r := &b.clients[c]
	if r.server != None {
		panic("pool: a client left with its server")
	}
	p := b.pools[r.pool]
	if r.waiting {
		b.unwait(p, c)
	}
	b.guests.gives(p.key)
	b.Depart(c)
}

// Want asks for a server. Without one at hand the client waits: a Link follows,
// or a Refuse.
func (b *Book) Want(c Client, now time.Duration) (Server, bool) {
	r := &b.clients[c]
	if r.server != None || r.waiting {
		panic("pool: a client wants a second server")
	}
	p := b.pools[r.pool]
	if p.waiting.len == 0 && p.idle.len > 0 && !b.held(p) {
		s := Server(p.idle.head)
		b.unlist(&p.idle, s)
		b.link(p, c, s, now)
		return s, true
	}
	r.since, r.waiting, r.told = now, true, false
	b.wait(p, c)
	if p.failed && now < p.retry && p.servers == p.logins {
		b.refuse(p, c, ProtocolViolation, "server login has been failing, cached error: "+p.text+" (server_login_retry)")
		return None, false
	}
	b.serve(p, now)
	return None, false
}

// held says that no server of p is given out.
func (b *Book) held(p *pool) bool { return b.hold || b.stopped(p) }

// stopped says that servers of p are closed as they become free.
func (b *Book) stopped(p *pool) bool { return b.paused || p.db.paused }

func (b *Book) link(p *pool, c Client, s Server, now time.Duration) {
	v := &b.servers[s]
	v.state, v.client, v.since = Active, c, now
	b.clients[c].server = s
	p.cold = false
}

// A Fate is what is to become of a server that its client no longer needs.
type Fate uint8

// Fates.
const (
	Keep  Fate = iota // clean: for the next
	Reset             // the caller resets it, and calls Ready
	Drop              // the caller closes it: it is not fit for anybody else
)

// Release takes c's server from it. It returns what became of the server: a
// caller that asked for a reset begins it if the answer is Reset, and one that
// hears Drop closes it.
func (b *Book) Release(c Client, fate Fate, now time.Duration) Fate {
	r := &b.clients[c]
	s := r.server
	if s == None {
		panic("pool: a client without a server releases one")
	}
	v := &b.servers[s]
	p := b.pools[v.pool]
	r.server, v.client = None, None
	v.since = now
	switch {
	case fate == Drop, v.stale, b.stopped(p), p.lifetime > 0 && now-v.born > p.lifetime && b.aged(p, now):
		b.remove(s)
		b.serve(p, now)
		return Drop
	case v.cancels > 0:
		v.state = BeingCanceled
		if fate == Reset { // it would be cancelled
			b.remove(s)
			b.serve(p, now)
			return Drop
		}
		return Keep
	case fate == Reset:
		v.state = Tested
		p.testing++
		return Reset
	}
	b.rest(p, s, now)
	return Keep
}

// rest makes s idle, or gives it to whoever waits longest.
func (b *Book) rest(p *pool, s Server, now time.Duration) {
	v := &b.servers[s]
	if p.waiting.len > 0 && !b.held(p) {
		c := Client(p.waiting.head)
		b.unwait(p, c)
		b.link(p, c, s, now)
		b.do(Action{Kind: Link, Client: c, Server: s, Wait: now - b.clients[c].since})
		return
	}
	v.state, v.since = Idle, now
	if b.set.ServerRoundRobin {
		b.append(&p.idle, s)
	} else {
		b.prepend(&p.idle, s)
	}
}

// Ready tells that s logged in, was reset, or answered a check.
func (b *Book) Ready(s Server, now time.Duration) {
	v := &b.servers[s]
	p := b.pools[v.pool]
	switch v.state {
	case Login:
		p.logins--
		p.failed, p.down = false, false
		p.retry = 0
		v.born = now
	case Tested:
		p.testing--
	default:
		panic("pool: a server that was not asked is ready")
	}
	v.state = Idle
	if v.stale || b.stopped(p) {
		why := WhyReconnect
		if b.stopped(p) {
			why = WhyPause
		}
		b.close(s, why)
		b.serve(p, now)
		return
	}
	b.rest(p, s, now)
	b.serve(p, now)
}

// A Failure is why nobody could log in.
type Failure struct {
	Down bool   // nobody was there, or it only starts: whoever waits goes on waiting
	Code string // SQLSTATE of the server's refusal
	Text string
}

// Failed tells that the login of s failed; s is no more.
func (b *Book) Failed(s Server, f Failure, now time.Duration) {
	p := b.pools[b.servers[s].pool]
	b.remove(s)
	if p.down = f.Down; f.Down {
		p.text, p.retry = f.Text, now+b.set.DownRetry
		return
	}
	p.failed, p.code, p.text = true, f.Code, f.Text
	p.retry = now + b.set.ServerLoginRetry
	if p.servers > p.logins { // others serve those who wait
		return
	}
	for p.waiting.len > 0 {
		b.refuse(p, Client(p.waiting.head), f.Code, f.Text)
	}
}

// Lost tells that s, which no client holds, ended by itself.
func (b *Book) Lost(s Server, now time.Duration) {
	p := b.pools[b.servers[s].pool]
	b.remove(s)
	b.serve(p, now)
}

// refuse ends a client that waits.
func (b *Book) refuse(p *pool, c Client, state, text string) {
	b.unwait(p, c)
	b.do(Action{Kind: Refuse, Client: c, Code: state, Text: text})
	b.Leave(c)
}

// Cancel tells that a cancel request is on its way to the server of c, if it
// has one: nobody else gets that server until Canceled.
func (b *Book) Cancel(c Client) (Server, bool) {
	s := b.clients[c].server
	if s == None {
		return None, false
	}
	b.servers[s].cancels++
	return s, true
}

// Canceled tells that a cancel request has been dealt with by the server.
func (b *Book) Canceled(s Server, now time.Duration) {
	v := &b.servers[s]
	v.cancels--
	if v.state == BeingCanceled && v.cancels == 0 {
		p := b.pools[v.pool]
		if v.stale || b.stopped(p) {
			b.close(s, WhyReconnect)
			b.serve(p, now)
			return
		}
		b.rest(p, s, now)
	}
}

// serve does what it can for those who wait in p: a check of a server that was
// idle for long, another login.
func (b *Book) serve(p *pool, now time.Duration) {
	if b.held(p) {
		return
	}
	for p.waiting.len > 0 && p.idle.len > 0 { // after a pause
		s := Server(p.idle.head)
		b.unlist(&p.idle, s)
		b.rest(p, s, now)
	}
	for p.used.len > 0 && int(p.waiting.len) > p.testing+p.logins {
		s := Server(p.used.head)
		b.unlist(&p.used, s)
		b.servers[s].state, b.servers[s].since = Tested, now
		p.testing++
		b.do(Action{Kind: Check, Server: s})
	}
	for b.grows(p, now) && b.room(p, now) {
		b.open(p, now)
	}
}

// grows says that p is to have another server, as far as p itself goes.
func (b *Book) grows(p *pool, now time.Duration) bool {
	need := int(p.waiting.len) - p.testing
	if missing := p.min - p.servers; missing > 0 && p.clients > 0 && !p.cold {
		need = max(need, missing+p.logins)
	}
	if p.logins >= min(need, b.set.Logins) || now < p.retry {
		return false
	}
	if !over(p.servers, p.size) {
		return true
	}
	if p.waiting.len == 0 || p.reserve == 0 || b.set.ReservePoolTimeout == 0 || p.servers >= p.size+p.reserve {
		return false
	}
	return now-b.clients[p.waiting.head].since > b.set.ReservePoolTimeout
}

// askEvery is how often a pool asks other books for room.
const askEvery = 100 * time.Millisecond

// room counts another server of p, if the limits of its database and user permit one; for it
// one of another pool that is idle may be closed.
func (b *Book) room(p *pool, now time.Duration) bool {
	for {
		is := b.seats.takes(p.key, b.limits(p.key))
		if is == nothing {
			return true
		}
		if p.waiting.len == 0 {
			return false
		}
		if !b.evict(p.key, is) {
			if (p.asked == 0 || now-p.asked >= askEvery) && b.seats.shared() {
				p.asked = max(now, 1)
				b.do(Action{Kind: Ask, Key: p.key})
			}
			return false
		}
	}
}

// limits are those of servers of k.
func (b *Book) limits(k Key) limits {
	db, user := b.own(b.dbs, k.Database), b.own(b.users, k.User)
	return limits{db: first(db.MaxConnections, &b.set.MaxDBConnections), user: first(user.MaxConnections, &b.set.MaxUserConnections)}
}

// evict closes what has been idle for longest and counts for the limit that a server of k is
// in the way of; false: there is none.
func (b *Book) evict(k Key, is full) bool {
	victim := Server(None)
	for i := range b.servers {
		v := &b.servers[i]
		if v.state != Idle && v.state != Used {
			continue
		}
		of := b.pools[v.pool].key
		if of == k || is == dbFull && of.Database != k.Database || is == userFull && of.User != k.User {
			continue
		}
		if victim == None || v.since < b.servers[victim].since {
			victim = Server(i)
		}
	}
	if victim == None {
		return false
	}
	b.close(victim, WhyEvicted)
	return true
}

// number is a server's that is none yet.
func (b *Book) number() Server {
	if n := len(b.freeS); n > 0 {
		s := b.freeS[n-1]
		b.freeS = b.freeS[:n-1]
		return s
	}
	b.servers = append(b.servers, server{})
	return Server(len(b.servers) - 1)
}

// open decides on a server that is counted.
func (b *Book) open(p *pool, now time.Duration) {
	s := b.number()
	b.servers[s] = server{pool: b.byKey[p.key], state: Login, client: None, links: alone, since: now, born: now}
	p.servers++
	p.logins++
	b.do(Action{Kind: Open, Server: s, Key: p.key})
}

// close decides the end of a server that no client holds.
func (b *Book) close(s Server, why string) {
	b.remove(s)
	b.do(Action{Kind: Close, Server: s, Text: why})
}

// remove forgets a server.
func (b *Book) remove(s Server) {
	v := &b.servers[s]
	p := b.pools[v.pool]
	switch v.state {
	case free:
		panic("pool: a server ended twice")
	case Login:
		p.logins--
	case Idle:
		if b.listed(&p.idle, s) {
			b.unlist(&p.idle, s)
		}
	case Used:
		b.unlist(&p.used, s)
	case Tested:
		p.testing--
	}
	if v.client != None {
		b.clients[v.client].server = None
	}
	v.state, v.client = free, None
	p.servers--
	b.seats.gives(p.key)
	b.freeS = append(b.freeS, s)
}

// aged spaces the ends of servers that are too old, so that they do not all go
// at once: one in a pool in its lifetime divided by its size.
func (b *Book) aged(p *pool, now time.Duration) bool {
	if p.lastAged != 0 && now-p.lastAged < p.lifetime/time.Duration(max(p.size, 1)) {
		return false
	}
	p.lastAged = now
	return true
}

// Tick does what is due at now: call it a few times a second.
func (b *Book) Tick(now time.Duration) {
	for i := range b.servers {
		s, v := Server(i), &b.servers[i]
		if v.state != Idle && v.state != Used {
			continue
		}
		p := b.pools[v.pool]
		switch {
		case v.stale:
			b.close(s, WhyReconnect)
		case b.stopped(p):
			b.close(s, WhyPause)
		case p.lifetime > 0 && now-v.born > p.lifetime && b.aged(p, now):
			b.close(s, WhyLifetime)
		case b.set.ServerIdleTimeout > 0 && now-v.since > b.set.ServerIdleTimeout && p.servers > p.min:
			b.close(s, WhyIdle)
		case v.state == Idle && b.set.ServerCheckDelay > 0 && now-v.since > b.set.ServerCheckDelay:
			b.unlist(&p.idle, s)
			v.state = Used
			b.prepend(&p.used, s)
		}
	}
	for p := range b.each {
		b.expire(p, now)
		b.serve(p, now)
		if p.failed && p.clients == 0 && now >= p.retry { // nobody is left to remember it for
			p.failed = false
			b.forget(p)
		}
	}
}

// expire ends who has waited for too long, and tells who has for long.
func (b *Book) expire(p *pool, now time.Duration) {
	for _, t := range [...]struct {
		limit      time.Duration
		counts     bool
		code, text string
	}{
		{p.query, true, ProtocolViolation, "query_timeout"},
		{b.set.QueryWaitTimeout, true, ProtocolViolation, "query_wait_timeout"},
		// What the first client of a pool is greeted with, only a server can say.
		{b.set.ClientLoginTimeout, p.cold, ProtocolViolation, "client_login_timeout (server down)"},
		{b.set.DownWait, p.down && p.servers == p.logins, CannotConnectNow, p.text},
	} {
		for t.limit > 0 && t.counts && p.waiting.len > 0 && now-b.clients[p.waiting.head].since > t.limit {
			b.refuse(p, Client(p.waiting.head), t.code, t.text)
		}
	}
	if t := b.set.QueryWaitNotify; t > 0 {
		for i := p.waiting.head; i >= 0 && now-b.clients[i].since > t; i = b.clients[i].next {
			if r := &b.clients[i]; !r.told {
				r.told = true
				b.do(Action{Kind: Notice, Client: Client(i), Text: waitNotice})
			}
		}
	}
}

func (b *Book) wait(p *pool, c Client) { add(&p.waiting, b.clients, int32(c)) }

func (b *Book) unwait(p *pool, c Client) {
	take(&p.waiting, b.clients, int32(c))
	b.clients[c].waiting = false
}

func (b *Book) prepend(l *list, s Server) { insert(l, b.servers, int32(s)) }
func (b *Book) append(l *list, s Server)  { add(l, b.servers, int32(s)) }
func (b *Book) unlist(l *list, s Server)  { take(l, b.servers, int32(s)) }

// listed says that s is in l; its state alone does not, just after a login.
func (b *Book) listed(l *list, s Server) bool {
	v := &b.servers[s]
	return v.prev >= 0 || v.next >= 0 || l.head == int32(s)
}
