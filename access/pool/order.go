package pool

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// What a person may order, by the console's words. database "" is all of them.

func (b *Book) of(database string, each func(*pool)) {
	for p := range b.each {
		if database == "" || p.key.Database == database {
			each(p)
		}
	}
}

// Pause gives no server out any more: those that are free are closed, those in
// use when they become free. Whoever wants one waits.
func (b *Book) Pause(database string, now time.Duration) {
	if database == "" {
		b.paused = true
	} else {
		b.owner(b.dbs, database).paused = true
	}
	b.Tick(now)
}

// Resume is the end of a pause.
func (b *Book) Resume(database string, now time.Duration) {
	if database == "" {
		b.paused = false
		for _, o := range b.dbs {
			o.paused = false
		}
	} else {
		b.owner(b.dbs, database).paused = false
	}
	b.of(database, func(p *pool) { b.serve(p, now) })
}

// Hold gives no server out any more, as Pause does, and keeps those that are free:
// where they lead is about to change, or not.
func (b *Book) Hold(on bool, now time.Duration) {
	if b.hold == on {
		return
	}
	b.hold = on
	for p := range b.each {
		b.serve(p, now)
	}
}

// Retire closes s as soon as nobody holds it.
func (b *Book) Retire(s Server, now time.Duration) {
	v := &b.servers[s]
	v.stale = true
	if v.state == Idle || v.state == Used {
		p := b.pools[v.pool]
		b.close(s, WhyReconnect)
		b.serve(p, now)
	}
}

// Paused says whether servers are held back.
func (b *Book) Paused(database string) bool {
	o := b.dbs[database]
	return b.paused || o != nil && o.paused
}

// Disable lets no new clients of the database in, or lets them in again. Those
// that are there stay.
func (b *Book) Disable(database string, on bool) { b.owner(b.dbs, database).shut = on }

// Disabled says that nobody is let in to the database.
func (b *Book) Disabled(database string) bool {
	o := b.dbs[database]
	return o != nil && o.shut
}

// Stale says that a server of the database waits to be closed.
func (b *Book) Stale(database string) bool {
	return slices.ContainsFunc(b.servers, func(v server) bool {
		return v.state != free && v.stale && (database == "" || b.pools[v.pool].key.Database == database)
	})
}

// Quiet says that no server of the database is in use: a pause is complete.
func (b *Book) Quiet(database string) bool {
	quiet := true
	b.of(database, func(p *pool) { quiet = quiet && p.servers == 0 })
	return quiet
}

// Reconnect closes every server as soon as nobody holds it: the next ones are
// new. What waits for a login that fails again is not refused for its past.
func (b *Book) Reconnect(database string, now time.Duration) {
	for i := range b.servers {
		v := &b.servers[i]
		if v.state != free && (database == "" || b.pools[v.pool].key.Database == database) {
			v.stale = true
		}
	}
	b.of(database, func(p *pool) { p.failed, p.retry = false, 0 })
	b.Tick(now)
}

// Hurry has servers that were not there tried again at once: something changed.
func (b *Book) Hurry(now time.Duration) {
	for p := range b.each {
		if p.down {
			p.retry = 0
			b.serve(p, now)
		}
	}
}

// A Row is one pool, as SHOW POOLS has it: that of a database and a user at all places.
type Row struct {
	Key     Key
	Mode    Mode
	Clients int // logged in, with or without a server
	Waiting int
	Servers [BeingCanceled + 1]int // by state
	MaxWait time.Duration          // of whoever waits longest
	Paused  bool
}

// Rows are the pools, sorted by database and user.
func (b *Book) Rows(now time.Duration) []Row {
	rows := make([]Row, 0, len(b.pools))
	for p := range b.each {
		r := Row{Key: p.key, Mode: p.mode, Waiting: int(p.waiting.len), Paused: b.stopped(p)}
		r.Clients = p.clients - r.Waiting
		if p.waiting.len > 0 {
			r.MaxWait = now - b.clients[p.waiting.head].since
		}
		for i := range b.servers {
			if v := &b.servers[i]; v.state != free && b.pools[v.pool] == p {
				r.Servers[v.state]++
			}
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(x, y Row) int {
		return cmp.Or(strings.Compare(x.Key.Database, y.Key.Database), strings.Compare(x.Key.User, y.Key.User))
	})
	merged := rows[:0]
	for _, r := range rows {
		r.Key.Place = ""
		if n := len(merged); n > 0 && merged[n-1].Key == r.Key {
			merged[n-1].add(r)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// add counts the pool of another place.
func (r *Row) add(o Row) {
	r.Clients += o.Clients
	r.Waiting += o.Waiting
	for i, n := range o.Servers {
		r.Servers[i] += n
	}
	r.MaxWait = max(r.MaxWait, o.MaxWait)
	r.Paused = r.Paused || o.Paused
}

// An Account is what a database or a user has, over all its pools; of servers and clients, in all
// books of the ledgers.
type Account struct {
	Name             string
	Set              Override
	Servers, Clients int
	Paused, Disabled bool
}

// Databases are those that have pools, settings of their own, or orders; sorted.
func (b *Book) Databases() []Account {
	return accounts(b.dbs, b.seats.ofDatabase, b.guests.ofDatabase)
}

// Users are those that have pools, or settings of their own; sorted.
func (b *Book) Users() []Account { return accounts(b.users, b.seats.ofUser, b.guests.ofUser) }

func accounts(owners map[string]*owner, servers, clients func(string) int) []Account {
	all := make([]Account, 0, len(owners))
	for _, o := range owners {
		all = append(all, Account{o.name, o.set, servers(o.name), clients(o.name), o.paused, o.shut})
	}
	slices.SortFunc(all, func(x, y Account) int { return strings.Compare(x.Name, y.Name) })
	return all
}

// Waits says since when the client waits for a server, if it does.
func (b *Book) Waits(c Client) (since time.Duration, waits bool) {
	r := &b.clients[c]
	return r.since, r.waiting
}

// ServerOf is the server of c, or None.
func (b *Book) ServerOf(c Client) Server { return b.clients[c].server }

// Closing says that a server is closed as soon as it is free.
func (b *Book) Closing(s Server) bool { return b.servers[s].stale }

// ModeOf is how clients of k share servers.
func (b *Book) ModeOf(k Key) Mode { return b.pools[b.pool(k)].mode }

// StateOf is where a server is in its life.
func (b *Book) StateOf(s Server) State { return b.servers[s].state }
