package pool

import "time"

// What a user has in a database lives in one book: all clients and all servers, so that whoever
// came first is served first, and a pool's own limits need nobody else's word. It can move to
// another book of the same ledgers as it is, between two events: who holds a server goes on holding
// it, who waits goes on waiting in the same line, and nothing is counted anew.

// A Cargo is what a user has in a database, on its way from one book to another.
type Cargo struct{ pools []carried }

type carried struct {
	pool
	clients             []client
	servers             []server
	ofClients           []Client // their numbers where they were
	ofServers           []Server
	waiting, idle, used []int32 // in their order, by those numbers
}

// Lift takes out what user has in database: all servers, and those clients whom goes names. Others
// hold no server, and stay; so does everything if it can not be now (ok is false): while one logs
// in to a server of those pools, or a cancel request is on its way to one.
func (b *Book) Lift(database, user string, goes func(Client) bool) (cargo *Cargo, ok bool) {
	ours := func(i int32) bool {
		return i >= 0 && b.pools[i] != nil && b.pools[i].key.Database == database && b.pools[i].key.User == user
	}
	for i := range b.servers {
		if v := &b.servers[i]; v.state != free && ours(v.pool) && (v.state == Login || v.cancels > 0) {
			return nil, false
		}
	}
	cargo = &Cargo{}
	at := map[int32]int{}
	for i, p := range b.pools {
		if ours(int32(i)) {
			at[int32(i)] = len(cargo.pools)
			cargo.pools = append(cargo.pools, carried{
				pool: *p, waiting: order(p.waiting, b.clients), idle: order(p.idle, b.servers), used: order(p.used, b.servers),
			})
			p.waiting, p.idle, p.used, p.servers, p.testing = empty, empty, empty, 0, 0
			p.cold, p.failed, p.down = true, false, false
		}
	}
	for i := range b.servers {
		v := &b.servers[i]
		if v.state == free || !ours(v.pool) {
			continue
		}
		c := &cargo.pools[at[v.pool]]
		c.servers, c.ofServers = append(c.servers, *v), append(c.ofServers, Server(i))
		v.state, v.client = free, None
		b.freeS = append(b.freeS, Server(i))
	}
	for i := range b.clients {
		r := &b.clients[i]
		if r.pool < 0 || !ours(r.pool) {
			continue
		}
		c := &cargo.pools[at[r.pool]]
		if !goes(Client(i)) {
			if r.server != None || r.waiting {
				panic("pool: a client stays behind her server")
			}
			continue
		}
		c.clients, c.ofClients = append(c.clients, *r), append(c.ofClients, Client(i))
		b.Depart(Client(i))
	}
	for i, p := range b.pools {
		if ours(int32(i)) {
			b.forget(p)
		}
	}
	return cargo, true
}

// order is a list as numbers.
func order[T any, P record[T]](l list, all []T) (numbers []int32) {
	for i := l.head; i >= 0; i = P(&all[i]).chained().next {
		numbers = append(numbers, i)
	}
	return numbers
}

// Land takes a cargo in. Clients and servers have other numbers from now on.
func (b *Book) Land(cargo *Cargo, now time.Duration) (clients map[Client]Client, servers map[Server]Server) {
	clients, servers = map[Client]Client{None: None}, map[Server]Server{None: None}
	for n := range cargo.pools {
		from := &cargo.pools[n]
		for _, old := range from.ofClients {
			clients[old] = b.Arrive(from.key)
		}
		for _, old := range from.ofServers {
			servers[old] = b.number()
		}
		i := b.pool(from.key)
		p := b.pools[i]
		p.servers, p.testing = len(from.servers), from.testing
		p.retry, p.failed, p.down, p.code, p.text = from.retry, from.failed, from.down, from.code, from.text
		p.lastAged, p.cold = from.lastAged, from.cold
		for j, r := range from.clients {
			r.pool, r.server, r.links = i, servers[r.server], alone
			b.clients[clients[from.ofClients[j]]] = r
		}
		for j, v := range from.servers {
			v.pool, v.client, v.links = i, clients[v.client], alone
			b.servers[servers[from.ofServers[j]]] = v
		}
		for _, old := range from.waiting {
			add(&p.waiting, b.clients, int32(clients[Client(old)]))
		}
		for _, old := range from.idle {
			b.append(&p.idle, servers[Server(old)])
		}
		for _, old := range from.used {
			b.append(&p.used, servers[Server(old)])
		}
		b.serve(p, now)
		b.forget(p)
	}
	return clients, servers
}

// Depart takes a client out who holds no server, to Arrive in another book of the same ledgers:
// she is counted there on.
func (b *Book) Depart(c Client) {
	r := &b.clients[c]
	p := b.pools[r.pool]
	p.clients--
	r.pool = -1
	b.freeC = append(b.freeC, c)
	b.forget(p)
}

// Arrive takes a client in who has departed elsewhere.
func (b *Book) Arrive(k Key) Client {
	i := b.pool(k)
	b.pools[i].clients++
	var c Client
	if n := len(b.freeC); n > 0 {
		c, b.freeC = b.freeC[n-1], b.freeC[:n-1]
	} else {
		b.clients = append(b.clients, client{})
		c = Client(len(b.clients) - 1)
	}
	b.clients[c] = client{pool: i, server: None, links: alone}
	return c
}

// Yield makes room for a server of k in another book of the ledger: that has somebody waiting for
// one and is at the limit of the database or the user. true: there is room, perhaps.
func (b *Book) Yield(k Key) bool {
	is := b.seats.full(k, b.limits(k))
	return is == nothing || b.evict(k, is)
}

// Look has another try at what there was no room for.
func (b *Book) Look(k Key, now time.Duration) {
	if i, ok := b.byKey[k]; ok {
		b.serve(b.pools[i], now)
	}
}
