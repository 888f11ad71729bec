package pooler

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/hba"
	"howdah/access/login"
	"howdah/access/pool"
)

// A Door is a way in with pools of its own: where their servers are, and who
// may come in.
type Door struct {
	Name        string
	Settings    pool.Settings
	Databases   map[string]pool.Override
	Users       map[string]pool.Override
	ResetQuery  string   // server_reset_query
	ResetAlways bool     // server_reset_query_always
	CheckQuery  string   // server_check_query
	Ignore      []string // startup parameters that are accepted and dropped (ignore_startup_parameters)

	Dial func(context.Context) (Backend, error)
	// Place spreads clients by session over servers that are as good as each other:
	// the name of the one to which all connections of a session are to lead, or "" for
	// whichever Dial finds. count is how many sessions a place has; less than 0: it did
	// not answer just now. DialAt connects to a place. nil: there are none.
	Place  func(from netip.Addr, count func(place string) int64) string
	DialAt func(ctx context.Context, place string) (Backend, error)
	// Excuse says why there is no server, to whoever has waited for one; nil: "connect failed".
	Excuse func() string
	// Secret is what the servers know of a user's password: pg_authid.rolpassword.
	// known is false of who may not log in.
	Secret func(ctx context.Context, user string) (secret string, known bool, err error)
	// Rules are who may log in from where, and how; nil: everybody, by her secret.
	Rules hba.Rules
	// TLS is how clients are answered that want it; nil: not at all.
	TLS     *tls.Config
	OnlyTLS bool // whoever comes in clear is refused
	// Outlive has sessions in transaction mode go on when their server ends under them: they hear
	// what became of their transaction (cut.go). PgBouncer's end.
	Outlive bool
	Log     *slog.Logger
	Addr    netip.AddrPort // where it listens; Serve says so
	// Tag stands in the third and fourth byte of every key that a client gets for her
	// cancel requests (PgBouncer's peer_id, little endian); 0: nothing does. Elsewhere is
	// told of a request whose key nobody here has: it is another's.
	Tag       uint16
	Elsewhere func(ctx context.Context, key [8]byte)

	// Fate says what became of a transaction whose COMMIT was not answered, before ctx ends; nil:
	// nobody knows. It is called by goroutines of their own.
	Fate func(ctx context.Context, x Doubt) Fate

	// Came and Left are told, on the thread of the loop, of a client that is in and of her end; nil: nobody.
	Came, Left func()

	// Admins may order on the console, Watchers may look; nobody: there is none.
	Admins, Watchers []string

	pooler        *Pooler
	index         int
	log           *slog.Logger
	rooms         []*room            // in each hall
	homes         map[pool.Key]*room // of pairs that are not in the first; under the pooler's lock
	guests, seats *pool.Ledger
	loginWithin   atomic.Int64 // client_login_timeout in nanoseconds, for whoever is greeted

	proofs      sync.Mutex
	credentials map[string]login.Credential // of users that proved themselves: with these we log in for them
}

// credential is what we log in with for a user.
func (d *Door) credential(user string) login.Credential {
	d.proofs.Lock()
	defer d.proofs.Unlock()
	return d.credentials[user]
}

// proved remembers what a user has proven herself by.
func (d *Door) proved(user string, by login.Credential) {
	d.proofs.Lock()
	defer d.proofs.Unlock()
	d.credentials[user] = by.Keeping(d.credentials[user])
}

// A welcome is what a server says of itself to whoever logs in.
type welcome struct {
	status []parameter
	params parameters
}

type parameter struct{ name, value string }

// stats are what the clients of a database did.
type stats struct {
	queries, xacts, received, sent        uint64
	assigned, parses, serverParses, binds uint64

	queryTime, xactTime, waitTime time.Duration
}

// act carries out what the book decided, until it decides nothing more.
func (d *room) act() {
	for acts := d.book.Actions(); len(acts) > 0; acts = d.book.Actions() {
		for _, a := range acts {
			d.perform(a)
		}
	}
	if d.watch != nil {
		d.look()
	}
}

func (d *room) perform(a pool.Action) {
	switch a.Kind {
	case pool.Open:
		if s := d.claim(a.Key); s != nil {
			d.seat(s, a.Server)
			return
		}
		d.login(a.Server, a.Key)
	case pool.Close:
		if s := d.servers[a.Server]; s != nil {
			s.close(a.Text)
		}
	case pool.Check:
		d.servers[a.Server].clear(d.CheckQuery)
	case pool.Link:
		c, s := d.clients[a.Client], d.servers[a.Server]
		if c == nil {
			return // it left in the same breath
		}
		c.counts.waitTime += a.Wait
		if s == nil { // it ended in the same breath: with its answer to another it said so
			d.anew(c)
			return
		}
		if !c.welcomed {
			d.first(c, s)
			return
		}
		if s.spoke() {
			c.server, s.client = s, c
			s.give(pool.Drop, "server conn crashed?")
			c.retry()
			return
		}
		if c.link(s) {
			c.resume()
		}
	case pool.Refuse:
		c := d.clients[a.Client]
		d.clients[a.Client] = nil
		c.id = pool.None
		c.failCode(a.Code, a.Text)
	case pool.Notice:
		if c := d.clients[a.Client]; c.welcomed {
			c.deliver([][]byte{appendNotice(nil, 'N', "NOTICE", "00000", a.Text)})
		}
	case pool.Ask:
		d.ask(a.Key, 0)
	}
}

// enter takes a client in whose secret was proven, or that joined.
func (d *room) enter(c *client, fd int) error {
	c.room, c.loop, c.fd, c.mode = d, d.loop, fd, d.book.ModeOf(c.key)
	c.events = unix.EPOLLRDHUP
	if d.Came != nil {
		d.Came()
	}
	if err := c.loop.add(fd, c, c.events); err != nil {
		return err
	}
	d.clients = at(d.clients, int(c.id))
	d.clients[c.id] = c
	if d.adrift(c.key.Place) { // while it proved who it is
		d.move(c)
	}
	c.counts = d.counted(c.key.Pair())
	d.anew(c)
	return nil
}

// anew has a client go on with what it needs a server for: a welcome, where nobody has ever
// asked for this pool's, else what it has said.
func (d *room) anew(c *client) {
	switch {
	case c.welcomed:
		c.retry()
	case d.welcomes[c.key] != nil:
		c.welcome()
	default:
		if id, ok := d.book.Want(c.id, c.loop.now); ok {
			d.first(c, d.servers[id])
		}
	}
}

// first welcomes a client with what s has said of itself.
func (d *room) first(c *client, s *server) {
	c.server, s.client = s, c
	c.welcome()
	if c.server == s {
		s.give(pool.Keep, "")
	}
}

// at is all with a place for i.
func at[T any](all []T, i int) []T {
	for len(all) <= i {
		var none T
		all = append(all, none)
	}
	return all
}

// welcome ends the login of c as the server would.
func (c *client) welcome() {
	d := c.room
	w := d.welcomes[c.key]
	b := []byte{'R', 0, 0, 0, 8, 0, 0, 0, 0}
	for _, p := range w.status {
		value := p.value
		if i := isTracked([]byte(p.name)); i >= 0 && c.params[i] != "" {
			value = c.params[i]
		}
		b = appendMessage(b, 'S', p.name, value)
	}
	for i := range c.params {
		if c.params[i] == "" {
			c.params[i] = w.params[i]
		}
	}
	b = append(appendHead(b, 'K', len(c.secret)), c.secret[:]...)
	b = append(b, 'Z', 0, 0, 0, 5, 'I')
	c.welcomed, c.last = true, c.loop.now
	c.deliver([][]byte{b})
	c.listen(!c.pending())
	c.want(c.events | unix.EPOLLRDHUP)
	if c.tls != nil || c.pend != nil {
		c.loop.again = append(c.loop.again, (*reader)(c)) // it may hold what came with the password
	}
}

// A reader is a client that is to be read although epoll says nothing.
type reader client

func (r *reader) ready(uint32) {
	switch c := (*client)(r); {
	case c.hup:
	case c.pend != nil && c.server == nil:
		c.resume()
	case c.events&unix.EPOLLIN != 0:
		c.read()
	}
}
