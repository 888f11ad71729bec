package pooler

import (
	"context"
	"crypto/rand"
	"net"
	"slices"
	"strings"
	"time"

	"howdah/access/admin"
	"howdah/access/pool"
	"howdah/pgwire"
)

// consoleMax is the longest command.
const consoleMax = 64 << 10

// console is a session of the database "pgbouncer", in the goroutine of its
// guest: whoever may look at the pools proves who she is like any client.
func (p *Pooler) console(ctx context.Context, g *guest) error {
	d := g.door
	isAdmin := slices.Contains(d.Admins, g.key.User)
	if err := g.prove(ctx); err != nil {
		return err
	}
	if !isAdmin && !slices.Contains(d.Watchers, g.key.User) {
		return refused("not allowed")
	}
	var key cancelKey
	_, _ = rand.Read(key[:])
	g.inside.Store(true)
	_ = g.raw.SetDeadline(time.Time{})
	defer context.AfterFunc(g.life, func() { _ = g.raw.SetDeadline(time.Unix(1, 0)) })()
	if _, err := g.conn.Write(admin.AppendWelcome(append([]byte(nil), g.negotiate...), pgwire.Key(key[:]))); err != nil {
		return err
	}
	for {
		m, used, err := pgwire.ReadMessage(g.in, consoleMax)
		switch {
		case err != nil:
			return refused("bad packet")
		case used == 0:
			if err := g.more(); err != nil {
				return err
			}
			continue
		case m.Type == pgwire.Terminate:
			return errSilent
		case m.Type != pgwire.Query:
			_, _ = g.conn.Write(admin.AppendForeign(nil, m.Type))
			return errSilent
		}
		text := strings.TrimSuffix(string(m.Body), "\x00")
		g.in = g.in[used:]
		if _, err := g.conn.Write(p.command(ctx, d, text, isAdmin)); err != nil {
			return err
		}
	}
}

// command answers one command of the console.
func (p *Pooler) command(ctx context.Context, d *Door, text string, isAdmin bool) []byte {
	c, err := admin.Parse(text)
	if err != nil {
		return admin.AppendError(nil, err)
	}
	var facts admin.Facts
	p.loop.call(func() { facts = d.facts() })
	if err := c.Check(facts, isAdmin); err != nil {
		return admin.AppendError(nil, err)
	}
	order := func(do func(database string, now time.Duration)) {
		p.loop.call(func() { do(c.Arg, p.loop.now) })
	}
	switch c.Verb {
	case admin.Show:
		return admin.AppendShow(nil, c, facts)
	case admin.Pause:
		order(d.book.Pause)
		if !p.quiet(ctx, d, c.Arg) {
			return nil // the gateway ends
		}
	case admin.Resume:
		order(d.book.Resume)
	case admin.Reconnect:
		order(d.book.Reconnect)
	case admin.KillClient:
		order(func(string, time.Duration) {
			for _, x := range d.clients {
				if x != nil && clientID(x) == c.Client {
					x.fail("admin forced disconnect")
				}
			}
		})
	default:
		return admin.AppendError(nil, &admin.Error{Code: pool.ProtocolViolation, Message: string(c.Verb) + " is not supported: the pool is configured by the inventory"})
	}
	return admin.AppendDone(nil, c)
}

// quietEvery is how often a pause looks whether it is complete.
const quietEvery = 20 * time.Millisecond

// quiet waits until no server of the database is in use.
func (p *Pooler) quiet(ctx context.Context, d *Door, database string) bool {
	ctx = context.WithoutCancel(ctx) // a pause takes as long as transactions do
	tick := time.NewTicker(quietEvery)
	defer tick.Stop()
	for {
		quiet := false
		if !p.loop.call(func() { quiet = d.book.Quiet(database) || !d.book.Paused(database) }) {
			return false
		}
		if quiet {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// Sockets are told apart by odd and even numbers.
func clientID(c *client) uint64 { return 2*uint64(c.id) + 1 }

func serverID(s *server) uint64 { return 2*uint64(s.id) + 2 }

// facts are what the console shows; on the loop.
func (d *Door) facts() admin.Facts {
	now := d.pooler.loop.now
	set := d.book.Settings()
	f := admin.Facts{Now: time.Now(), Fallback: true}
	if d.book.Paused("") {
		f.Mode = admin.Paused
	}
	if d.Addr.IsValid() {
		f.Port = int(d.Addr.Port())
	}
	at := func(since time.Duration) time.Time { return d.pooler.loop.began.Add(since) }
	connections, clients := map[string]int{}, map[string]int{}
	for _, r := range d.book.Rows(now) {
		f.Pools = append(f.Pools, admin.Pool{
			Database: r.Key.Database, User: r.Key.User, Mode: r.Mode.String(), MaxWait: r.MaxWait,
			ClientsActive: r.Clients, ClientsWaiting: r.Waiting, Active: r.Servers[pool.Active],
			BeingCanceled: r.Servers[pool.BeingCanceled], Idle: r.Servers[pool.Idle], Used: r.Servers[pool.Used],
			Tested: r.Servers[pool.Tested], Login: r.Servers[pool.Login],
		})
		for _, n := range r.Servers {
			connections[r.Key.Database] += n
		}
		clients[r.Key.Database] += r.Clients + r.Waiting
	}
	for _, name := range d.book.Names() {
		f.Databases = append(f.Databases, admin.DatabaseFact{
			Name: name, Database: name, PoolSize: set.DefaultPoolSize, MinPoolSize: set.MinPoolSize, ReservePoolSize: set.ReservePoolSize,
			ServerLifetime: set.ServerLifetime, MaxConnections: set.MaxDBConnections, Connections: connections[name],
			MaxClients: set.MaxDBClientConnections, ClientConnections: clients[name], Paused: d.book.Paused(name),
		})
		if n := d.counts[name]; n != nil {
			f.Stats = append(f.Stats, admin.Stat{Database: name, Total: admin.Totals{
				ServerAssignments: n.assigned, Xacts: n.xacts, Queries: n.queries, Received: n.received, Sent: n.sent,
				ClientParses: n.parses, ServerParses: n.serverParses, Binds: n.binds,
			}})
		}
	}
	for _, c := range d.clients {
		if c == nil {
			continue
		}
		x := admin.Socket{
			ID: clientID(c), User: c.key.User, Database: c.key.Database, State: "idle", Addr: "unix", Connected: at(c.joined),
			Requested: at(c.joined), Application: c.params[slices.Index(tracked[:], "application_name")],
			Prepared: len(c.names), Buffered: len(c.pend) + len(c.hold), Pending: len(c.out) - c.sent, Remain: c.left,
		}
		if c.from.IsValid() {
			x.Addr, x.Port = c.from.Addr().String(), int(c.from.Port())
		}
		if c.tls != nil {
			x.TLS = "TLS"
		}
		if s := c.server; s != nil {
			x.State, x.Link = "active", serverID(s)
		} else if c.pend != nil || !c.welcomed {
			x.State = "waiting"
		}
		f.Clients = append(f.Clients, x)
	}
	for _, s := range d.servers {
		if s == nil {
			continue
		}
		x := admin.Socket{
			ID: serverID(s), User: s.key.User, Database: s.key.Database, Addr: "unix", Connected: at(s.joined), Requested: at(s.joined),
			State: [...]string{"", "new", "idle", "used", "tested", "active", "being_canceled"}[d.book.StateOf(s.id)],
			PID:   int(s.cancel[0])<<24 | int(s.cancel[1])<<16 | int(s.cancel[2])<<8 | int(s.cancel[3]), Prepared: len(s.has), Pending: len(s.out) - s.sent, Remain: s.left,
		}
		if c := s.client; c != nil {
			x.Link = clientID(c)
		}
		f.Servers = append(f.Servers, x)
	}
	return f
}

// listens remembers where the door is.
func (d *Door) listens(l net.Listener) {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		d.Addr = a.AddrPort()
	}
}
