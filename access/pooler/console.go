package pooler

import (
	"context"
	"crypto/rand"
	"encoding/binary"
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
	g.stay()
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
	case admin.Set:
		if c.Tag() == "SET" { // what drivers say to any server
			break
		}
		order(func(string, time.Duration) {
			s := d.Settings
			if err = s.Set(strings.ToLower(c.Arg), c.Value); err == nil {
				d.configure(s)
			}
		})
		if err != nil {
			d.log.Warn("SET failed", "error", err)
			return admin.AppendError(nil, admin.ErrSet)
		}
		d.log.Info("set until the gateway ends", "setting", c.Arg, "value", c.Value)
	case admin.Pause:
		order(d.book.Pause)
		quiet := func() bool { return d.book.Quiet(c.Arg) || !d.book.Paused(c.Arg) }
		if !p.await(ctx, quiet) {
			return nil // the gateway ends
		}
	case admin.Kill:
		order(func(database string, now time.Duration) {
			d.book.Pause(database, now)
			for _, x := range d.clients {
				if x != nil && (database == "" || x.key.Database == database) {
					x.fail(pool.WhyKilled)
				}
			}
			for x := range d.streams {
				if database == "" || x.key.Database == database {
					x.end()
				}
			}
		})
	case admin.Disable, admin.Enable:
		order(func(database string, _ time.Duration) { d.book.Disable(database, c.Verb == admin.Disable) })
	case admin.WaitClose:
		if !p.await(ctx, func() bool { return !d.book.Stale(c.Arg) }) {
			return nil
		}
	case admin.Resume:
		order(d.book.Resume)
	case admin.Reconnect:
		order(d.book.Reconnect)
	case admin.KillClient:
		order(func(string, time.Duration) {
			for _, x := range d.clients {
				if x != nil && clientID(x.id) == c.Client {
					x.fail("admin forced disconnect")
				}
			}
			for x := range d.streams {
				if clientID(x.id) == c.Client {
					x.end()
				}
			}
		})
	default:
		return admin.AppendError(nil, &admin.Error{Code: pool.ProtocolViolation, Message: string(c.Verb) + " is not supported: the pool is configured by the inventory"})
	}
	return admin.AppendDone(nil, c)
}

// awaitEvery is how often a command that waits looks whether it is done.
const awaitEvery = 20 * time.Millisecond

// await waits until so, which is asked on the loop; false: that has ended.
func (p *Pooler) await(ctx context.Context, so func() bool) bool {
	ctx = context.WithoutCancel(ctx) // it takes as long as transactions do
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		done := false
		if !p.loop.call(func() { done = so() }) {
			return false
		}
		if done {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// pid is that of the server's process, as it said.
func (s *server) pid() int { return int(binary.BigEndian.Uint32(s.cancel[:4])) }

// Sockets are told apart by odd and even numbers.
func clientID(id pool.Client) uint64 { return 2*uint64(id) + 1 }

func serverID(s *server) uint64 { return 2*uint64(s.id) + 2 }

// sums are what the console shows of pools, databases and users; on the loop.
func (d *Door) sums() admin.Facts {
	now := d.pooler.loop.now
	set := d.book.Settings()
	f := admin.Facts{Now: time.Now(), Fallback: true}
	if d.book.Paused("") {
		f.Mode = admin.Paused
	}
	if d.Addr.IsValid() {
		f.Port = int(d.Addr.Port())
	}
	for _, r := range d.book.Rows(now) {
		f.Pools = append(f.Pools, admin.Pool{
			Database: r.Key.Database, User: r.Key.User, Mode: r.Mode.String(), MaxWait: r.MaxWait,
			ClientsActive: r.Clients, ClientsWaiting: r.Waiting, Active: r.Servers[pool.Active],
			BeingCanceled: r.Servers[pool.BeingCanceled], Idle: r.Servers[pool.Idle], Used: r.Servers[pool.Used],
			Tested: r.Servers[pool.Tested], Login: r.Servers[pool.Login],
		})
	}
	for _, a := range d.book.Databases() {
		f.Databases = append(f.Databases, admin.DatabaseFact{
			Name: a.Name, Database: a.Name, PoolMode: a.Set.PoolMode.String(),
			PoolSize: or(a.Set.PoolSize, set.DefaultPoolSize), MinPoolSize: or(a.Set.MinPoolSize, set.MinPoolSize),
			ReservePoolSize: or(a.Set.ReservePoolSize, set.ReservePoolSize), ServerLifetime: or(a.Set.ServerLifetime, set.ServerLifetime),
			MaxConnections: or(a.Set.MaxConnections, set.MaxDBConnections), Connections: a.Servers,
			MaxClients: or(a.Set.MaxClients, set.MaxDBClientConnections), ClientConnections: a.Clients,
			Paused: a.Paused, Disabled: a.Disabled,
		})
		if n := d.counts[a.Name]; n != nil {
			f.Stats = append(f.Stats, d.window.Stat(a.Name, n.totals()))
		}
	}
	for _, a := range d.book.Users() {
		f.Users = append(f.Users, admin.User{
			Name: a.Name, PoolMode: a.Set.PoolMode.String(), PoolSize: or(a.Set.PoolSize, 0), ReservePoolSize: or(a.Set.ReservePoolSize, 0),
			MaxConnections: or(a.Set.MaxConnections, set.MaxUserConnections), Connections: a.Servers,
			MaxClients: or(a.Set.MaxClients, set.MaxUserClientConnections), ClientConnections: a.Clients,
		})
	}
	return f
}

// facts are what the console shows; on the loop.
func (d *Door) facts() admin.Facts {
	f := d.sums()
	now, set := d.pooler.loop.now, d.book.Settings()
	at := func(since time.Duration) time.Time { return d.pooler.loop.began.Add(since) }
	defaults := map[string]string{}
	for name, value := range pool.Defaults().Each {
		defaults[name] = value
	}
	for name, value := range set.Each {
		f.Settings = append(f.Settings, admin.Setting{Key: name, Value: value, Default: defaults[name], Changeable: true})
	}
	for _, c := range d.clients {
		if c == nil {
			continue
		}
		x := admin.Socket{
			ID: clientID(c.id), User: c.key.User, Database: c.key.Database, State: "idle", Addr: "unix", Connected: at(c.joined),
			Requested: at(c.last), Application: c.params[slices.Index(tracked[:], "application_name")],
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
		} else if since, waits := d.book.Waits(c.id); waits {
			x.State, x.Wait = "waiting", now-since
		}
		f.Clients = append(f.Clients, x)
	}
	for _, s := range d.servers {
		if s == nil {
			continue
		}
		x := admin.Socket{
			ID: serverID(s), User: s.key.User, Database: s.key.Database, Addr: "unix", Connected: at(s.joined), Requested: at(max(s.joined, s.began)),
			State: [...]string{"", "new", "idle", "used", "tested", "active", "being_canceled"}[d.book.StateOf(s.id)],
			PID:   s.pid(), Prepared: len(s.has), Pending: len(s.out) - s.sent, Remain: s.left,
		}
		x.CloseNeeded = d.book.Closing(s.id)
		if c := s.client; c != nil {
			x.Link = clientID(c.id)
		}
		f.Servers = append(f.Servers, x)
	}
	for x := range d.streams {
		client, server := x.sockets()
		f.Clients, f.Servers = append(f.Clients, client), append(f.Servers, server)
	}
	return f
}

// Facts are what the consoles of all doors show, as if they were one pooler, but
// for single clients and servers: those are counted. ok is false when the pooler
// has ended.
func (p *Pooler) Facts() (f admin.Facts, ok bool) {
	var all []admin.Facts
	if !p.loop.call(func() {
		for _, d := range p.doors {
			one := d.sums()
			for _, c := range d.clients {
				one.Unlisted.Clients += present(c)
			}
			for _, s := range d.servers {
				one.Unlisted.Servers += present(s)
			}
			for range d.streams {
				one.Unlisted.Clients++
				one.Unlisted.Servers++
			}
			all = append(all, one)
		}
	}) {
		return admin.Facts{}, false
	}
	return admin.Together(all), true
}

// A Load is what the clients of a door have said and heard, and how many of them wait for a server.
type Load struct {
	Received, Sent uint64 // bytes
	Waiting        int
}

// Load is the door's now.
func (d *Door) Load() (l Load) {
	d.pooler.loop.call(func() {
		for _, n := range d.counts {
			l.Received, l.Sent = l.Received+n.received, l.Sent+n.sent
		}
		for _, r := range d.book.Rows(d.pooler.loop.now) {
			l.Waiting += r.Waiting
		}
	})
	return l
}

func present[T any](p *T) int {
	if p == nil {
		return 0
	}
	return 1
}

// or is what is set, else what all have.
func or[T any](set *T, all T) T {
	if set != nil {
		return *set
	}
	return all
}

// listens remembers where the door is.
func (d *Door) listens(l net.Listener) {
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		d.Addr = a.AddrPort()
	}
}
