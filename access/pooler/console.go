package pooler

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
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
	facts, _ := d.facts()
	if err := c.Check(facts, isAdmin); err != nil {
		return admin.AppendError(nil, err)
	}
	order := func(do func(d *room, database string, now time.Duration)) {
		p.everywhere(func(h *hall) { do(h.rooms[d.index], c.Arg, h.loop.now) })
	}
	switch c.Verb {
	case admin.Show:
		return admin.AppendShow(nil, c, facts)
	case admin.Set:
		if c.Tag() == "SET" { // what drivers say to any server
			break
		}
		order(func(d *room, _ string, _ time.Duration) {
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
		order(func(d *room, database string, now time.Duration) { d.book.Pause(database, now) })
		quiet := func(d *room) bool { return d.book.Quiet(c.Arg) || !d.book.Paused(c.Arg) }
		if !d.await(ctx, quiet) {
			return nil // the gateway ends
		}
	case admin.Kill:
		order(func(d *room, database string, now time.Duration) {
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
		order(func(d *room, database string, _ time.Duration) { d.book.Disable(database, c.Verb == admin.Disable) })
	case admin.WaitClose:
		if !d.await(ctx, func(d *room) bool { return !d.book.Stale(c.Arg) }) {
			return nil
		}
	case admin.Resume:
		order(func(d *room, database string, now time.Duration) { d.book.Resume(database, now) })
	case admin.Reconnect:
		order(func(d *room, database string, now time.Duration) { d.book.Reconnect(database, now) })
	case admin.KillClient:
		order(func(d *room, _ string, _ time.Duration) {
			for _, x := range d.clients {
				if x != nil && d.clientID(x.id) == c.Client {
					x.fail("admin forced disconnect")
				}
			}
			for x := range d.streams {
				if d.clientID(x.id) == c.Client {
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

// await waits until so of all rooms of the door, which is asked on their loops; false: those have ended.
func (d *Door) await(ctx context.Context, so func(*room) bool) bool {
	ctx = context.WithoutCancel(ctx) // it takes as long as transactions do
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		done := true
		if !d.pooler.everywhere(func(h *hall) { done = so(h.rooms[d.index]) && done }) {
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

// Sockets are told apart by odd and even numbers, and those of several loops by high ones.
func (d *room) clientID(id pool.Client) uint64 { return uint64(d.hall.index)<<40 + 2*uint64(id) + 1 }

func (d *room) serverID(s *server) uint64 { return uint64(d.hall.index)<<40 + 2*uint64(s.id) + 2 }

// sums are what the console shows of pools, databases and users; on the loop.
func (d *room) sums() admin.Facts {
	now := d.loop.now
	set, totals := d.book.Settings(), d.totals()
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
	}
	for _, name := range slices.Sorted(maps.Keys(totals)) { // also of those whose pools have moved elsewhere
		f.Stats = append(f.Stats, d.window.Stat(name, totals[name]))
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

// listed are what the console shows; on the loop.
func (d *room) listed() admin.Facts {
	f := d.sums()
	now, set := d.loop.now, d.book.Settings()
	at := func(since time.Duration) time.Time { return d.loop.began.Add(since) }
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
			ID: d.clientID(c.id), User: c.key.User, Database: c.key.Database, State: "idle", Addr: "unix", Connected: at(c.joined),
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
			x.State, x.Link = "active", d.serverID(s)
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
			ID: d.serverID(s), User: s.key.User, Database: s.key.Database, Addr: "unix", Connected: at(s.joined), Requested: at(max(s.joined, s.began)),
			State: [...]string{"", "new", "idle", "used", "tested", "active", "being_canceled"}[d.book.StateOf(s.id)],
			PID:   s.pid(), Prepared: len(s.has), Pending: len(s.out) - s.sent, Remain: s.left,
		}
		x.CloseNeeded = d.book.Closing(s.id)
		if c := s.client; c != nil {
			x.Link = d.clientID(c.id)
		}
		f.Servers = append(f.Servers, x)
	}
	for x := range d.streams {
		client, server := x.sockets()
		f.Clients, f.Servers = append(f.Clients, client), append(f.Servers, server)
	}
	return f
}

// facts are what the console of the door shows.
func (d *Door) facts() (admin.Facts, bool) {
	var all []admin.Facts
	ok := d.pooler.everywhere(func(h *hall) { all = append(all, h.rooms[d.index].listed()) })
	return added(all), ok
}

// added are the facts of a door of which all are one loop's.
func added(all []admin.Facts) (f admin.Facts) {
	for i, of := range all {
		if i == 0 {
			f = of
			continue
		}
		f.Clients, f.Servers = append(f.Clients, of.Clients...), append(f.Servers, of.Servers...)
		f.Unlisted.Clients += of.Unlisted.Clients
		f.Unlisted.Servers += of.Unlisted.Servers
		for _, x := range of.Pools {
			merge(&f.Pools, x, func(y admin.Pool) bool { return y.Database == x.Database && y.User == x.User }, func(y *admin.Pool) { y.Add(x) })
		}
		for _, x := range of.Databases { // what is counted is so in all loops
			merge(&f.Databases, x, func(y admin.DatabaseFact) bool { return y.Name == x.Name }, func(*admin.DatabaseFact) {})
		}
		for _, x := range of.Users {
			merge(&f.Users, x, func(y admin.User) bool { return y.Name == x.Name }, func(*admin.User) {})
		}
		for _, x := range of.Stats {
			merge(&f.Stats, x, func(y admin.Stat) bool { return y.Database == x.Database }, func(y *admin.Stat) { y.Add(x) })
		}
	}
	if len(all) > 1 {
		slices.SortFunc(f.Pools, func(x, y admin.Pool) int {
			return cmp.Or(strings.Compare(x.Database, y.Database), strings.Compare(x.User, y.User))
		})
		slices.SortFunc(f.Databases, func(x, y admin.DatabaseFact) int { return strings.Compare(x.Name, y.Name) })
		slices.SortFunc(f.Users, func(x, y admin.User) int { return strings.Compare(x.Name, y.Name) })
		slices.SortFunc(f.Stats, func(x, y admin.Stat) int { return strings.Compare(x.Database, y.Database) })
	}
	return f
}

// merge adds x to what is the same of all, or to all.
func merge[T any](all *[]T, x T, same func(T) bool, add func(*T)) {
	if i := slices.IndexFunc(*all, same); i >= 0 {
		add(&(*all)[i])
	} else {
		*all = append(*all, x)
	}
}

// Facts are what the consoles of all doors show, as if they were one pooler, but
// for single clients and servers: those are counted. ok is false when the pooler
// has ended.
func (p *Pooler) Facts() (f admin.Facts, ok bool) {
	all := make([][]admin.Facts, len(p.doors))
	if !p.everywhere(func(h *hall) {
		for i, d := range h.rooms {
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
			all[i] = append(all[i], one)
		}
	}) {
		return admin.Facts{}, false
	}
	var doors []admin.Facts
	for _, of := range all {
		doors = append(doors, added(of))
	}
	return admin.Together(doors), true
}

// A Load is what the clients of a door have said and heard, and how many of them wait for a server.
type Load struct {
	Received, Sent uint64 // bytes
	Waiting        int
}

// Load is the door's now.
func (d *Door) Load() (l Load) {
	d.pooler.everywhere(func(h *hall) {
		d := h.rooms[d.index]
		for _, n := range d.counts {
			l.Received, l.Sent = l.Received+n.received, l.Sent+n.sent
		}
		for _, r := range d.book.Rows(d.loop.now) {
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
