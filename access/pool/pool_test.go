package pool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A hand is a caller of the book that believes what it is told, and checks it.
type hand struct {
	t       *rapid.T
	all     []*hand // of books with the same ledgers, this one too
	b       *Book
	now     time.Duration
	key     map[Client]Key
	holds   map[Client]Server
	waits   map[Key][]Client // in the order they asked
	servers map[Server]Key
	state   map[Server]string // login, idle, held, busy
	refused int
	hold    bool
	since   map[Client]time.Duration // of those who wait
	behind  map[Client]bool          // joined, and not in yet: they do nothing, and stay where they are
	homes   map[Key]*hand            // which book has what a user has in a database
}

var (
	keys  = []Key{{Database: "a", User: "x"}, {Database: "a", User: "y"}, {Database: "b", User: "x"}}
	small = Settings{
		PoolMode: Transaction, MaxClientConn: 12, DefaultPoolSize: 2, ReservePoolSize: 1, ReservePoolTimeout: time.Second,
		MaxDBConnections: 3, MaxUserConnections: 4, ServerIdleTimeout: 20 * time.Second, ServerLifetime: time.Minute,
		ServerCheckDelay: 5 * time.Second, ServerLoginRetry: 3 * time.Second, QueryWaitTimeout: 30 * time.Second,
		QueryWaitNotify: 5 * time.Second, Logins: 2, DownRetry: time.Second,
	}
)

func (h *hand) fail(format string, args ...any) { h.t.Helper(); h.t.Fatalf(format, args...) }

// do carries out what the book decided.
func (h *hand) do() {
	for acts := h.b.Actions(); len(acts) > 0; acts = h.b.Actions() {
		for _, a := range acts {
			switch a.Kind {
			case Open:
				if _, there := h.servers[a.Server]; there {
					h.fail("server %d opened twice", a.Server)
				}
				h.servers[a.Server], h.state[a.Server] = a.Key, "login"
				h.limits()
			case Close:
				if s := h.state[a.Server]; s != "idle" && s != "busy" {
					h.fail("server %d closed (%s) while it is %q", a.Server, a.Text, s)
				}
				h.forget(a.Server)
			case Link:
				h.got(a.Client, a.Server)
			case Check:
				if h.state[a.Server] != "idle" {
					h.fail("server %d checked while it is %q", a.Server, h.state[a.Server])
				}
				h.state[a.Server] = "busy"
			case Refuse:
				h.unwait(a.Client, false)
				delete(h.key, a.Client)
				h.refused++
			case Notice:
				h.unwaitCheck(a.Client)
			case Ask:
				h.ask(a.Key)
			}
		}
	}
}

// ask has the others make room, one after another, until one has.
func (h *hand) ask(k Key) {
	for _, o := range h.all {
		if o != h && o.b.Yield(k) {
			o.do()
			h.b.Look(k, h.now)
			return
		}
	}
}

// lives says that what k's user has in its database is in h's book.
func (h *hand) lives(k Key) bool { return h.home()[k.Pair()] == h }

func (h *hand) home() map[Key]*hand { return h.all[0].homes }

// carry has what k's user has in its database go over to another book, as it is.
func (h *hand) carry(k Key, to *hand) {
	cargo, ok := h.b.Lift(k.Database, k.User, func(c Client) bool { return !h.behind[c] })
	if !ok {
		return
	}
	for s, is := range h.state {
		if h.servers[s].Pair() == k && is == "login" {
			h.fail("server %d is carried while it logs in", s)
		}
	}
	to.now = max(to.now, h.now)
	clients, servers := to.b.Land(cargo, to.now)
	h.home()[k] = to
	for old, c := range clients {
		if old == None {
			continue
		}
		if _, in := to.key[c]; in {
			h.fail("client %d joined twice", c)
		}
		to.key[c], to.since[c] = h.key[old], h.since[old]
		delete(h.key, old)
		if s, has := h.holds[old]; has {
			to.holds[c] = servers[s]
			delete(h.holds, old)
		}
	}
	for old, s := range servers {
		if old == None {
			continue
		}
		if _, there := to.servers[s]; there {
			h.fail("server %d opened twice", s)
		}
		to.servers[s], to.state[s] = h.servers[old], h.state[old]
		h.forget(old)
	}
	for at, line := range h.waits {
		if at.Pair() == k {
			for _, c := range line {
				to.waits[at] = append(to.waits[at], clients[c])
			}
			delete(h.waits, at)
		}
	}
	to.do()
}

func (h *hand) forget(s Server) {
	delete(h.servers, s)
	delete(h.state, s)
}

// got is a client that is given a server.
func (h *hand) got(c Client, s Server) {
	if _, has := h.holds[c]; has {
		h.fail("client %d has two servers", c)
	}
	for d, other := range h.holds {
		if other == s {
			h.fail("server %d is held by clients %d and %d", s, d, c)
		}
	}
	if h.hold {
		h.fail("server %d is given to client %d while all are held", s, c)
	}
	if h.state[s] != "idle" {
		h.fail("server %d is given out while it is %q", s, h.state[s])
	}
	if h.servers[s] != h.key[c] {
		h.fail("client of %v got a server of %v", h.key[c], h.servers[s])
	}
	h.unwait(c, true)
	h.holds[c], h.state[s] = s, "held"
}

// unwait takes c out of its line; a server goes to whoever came first.
func (h *hand) unwait(c Client, served bool) {
	line := h.waits[h.key[c]]
	for i, d := range line {
		if d == c {
			if served && i > 0 {
				h.fail("client %d is served before %d, who waits longer", c, line[0])
			}
			h.waits[h.key[c]] = append(append([]Client{}, line[:i]...), line[i+1:]...)
			return
		}
	}
	if served && len(line) > 0 {
		h.fail("client %d is served at once, while %d waits", c, line[0])
	}
}

func (h *hand) unwaitCheck(c Client) {
	for _, d := range h.waits[h.key[c]] {
		if d == c {
			return
		}
	}
	h.fail("client %d is told that it waits", c)
}

// limits hold at every moment.
func (h *hand) limits() {
	pool, db, user, clients := map[Key]int{}, map[string]int{}, map[string]int{}, 0
	for _, o := range h.all {
		for _, k := range o.servers {
			if !o.lives(k) {
				h.fail("a server of %v away from its book", k)
			}
			pool[k]++
			db[k.Database]++
			user[k.User]++
		}
		clients += len(o.key)
	}
	for k, n := range pool {
		if n > small.DefaultPoolSize+small.ReservePoolSize {
			h.fail("%d servers in pool %v", n, k)
		}
	}
	for d, n := range db {
		if n > small.MaxDBConnections {
			h.fail("%d servers of database %s", n, d)
		}
	}
	for u, n := range user {
		if n > small.MaxUserConnections {
			h.fail("%d servers of user %s", n, u)
		}
	}
	if clients > small.MaxClientConn {
		h.fail("%d clients", clients)
	}
}

func (h *hand) pick(from map[Server]string, state ...string) (Server, bool) {
	var all []Server
	for s := Server(0); int(s) < 64; s++ {
		for _, want := range state {
			if from[s] == want {
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return None, false
	}
	return rapid.SampledFrom(all).Draw(h.t, "server"), true
}

func (h *hand) client(which func(Client) bool) (Client, bool) {
	var all []Client
	for c := Client(0); int(c) < 64; c++ {
		if _, in := h.key[c]; in && which(c) {
			all = append(all, c)
		}
	}
	if len(all) == 0 {
		return None, false
	}
	return rapid.SampledFrom(all).Draw(h.t, "client"), true
}

func (h *hand) waiting(c Client) bool {
	for _, d := range h.waits[h.key[c]] {
		if d == c {
			return true
		}
	}
	return false
}

func (h *hand) idle(c Client) bool {
	_, has := h.holds[c]
	return !has && !h.waiting(c) && !h.behind[c]
}

// enters is the client coming in who was on her way: where the pools are by now.
func (h *hand) enters(c Client) {
	k := h.key[c]
	to := h.home()[k.Pair()]
	delete(h.behind, c)
	if to == h {
		return
	}
	h.b.Depart(c)
	delete(h.key, c)
	n := to.b.Arrive(k)
	if _, in := to.key[n]; in {
		h.fail("client %d joined twice", n)
	}
	to.key[n] = k
}

// release gives c's server back as fate says.
func (h *hand) release(c Client, fate Fate) {
	s := h.holds[c]
	delete(h.holds, c)
	h.state[s] = "idle"
	switch h.b.Release(c, fate, h.now) {
	case Drop:
		h.forget(s)
	case Reset:
		if fate != Reset {
			h.fail("a reset that nobody asked for")
		}
		h.state[s] = "busy"
	case Keep:
		if fate != Keep {
			h.fail("fate %d became keep", fate)
		}
	}
}

// move takes c to another place, where whoever waits longer stays before it.
func (h *hand) move(c Client, place string) {
	waits, k := h.waiting(c), h.key[c]
	if k.Place == place {
		return
	}
	h.unwait(c, false)
	k.Place = place
	h.key[c] = k
	if waits {
		line := h.waits[k]
		i := len(line)
		for i > 0 && h.since[line[i-1]] > h.since[c] {
			i--
		}
		h.waits[k] = slices.Insert(slices.Clone(line), i, c)
	}
	h.b.Move(c, place, h.now)
	if _, wants := h.b.Waits(c); wants != waits && !h.gets(c) {
		h.fail("client %d waits: %v, and %v after it moved", c, waits, wants)
	}
}

// gets says that the book has just given c a server.
func (h *hand) gets(c Client) bool { return h.b.clients[c].server != None }

func (h *hand) step() {
	h.now += time.Duration(rapid.IntRange(0, 400).Draw(h.t, "ms")) * time.Millisecond
	switch rapid.IntRange(0, 14).Draw(h.t, "what") {
	case 13:
		h.do()
		if k, to := rapid.SampledFrom(keys).Draw(h.t, "key"), h.all[rapid.IntRange(0, len(h.all)-1).Draw(h.t, "to")]; h.lives(k) && to != h {
			h.carry(k, to)
		}
	case 14:
		if c, ok := h.client(func(c Client) bool { return h.behind[c] }); ok {
			h.enters(c)
		}
	case 12:
		if c, ok := h.client(func(c Client) bool { _, has := h.holds[c]; return !has && !h.behind[c] }); ok {
			h.move(c, rapid.SampledFrom([]string{"", "p", "q"}).Draw(h.t, "place"))
		}
	case 0:
		k := rapid.SampledFrom(keys).Draw(h.t, "key")
		if c, err := h.b.Join(k); err == nil {
			if _, in := h.key[c]; in {
				h.fail("client %d joined twice", c)
			}
			h.key[c] = k
			if !h.lives(k) || rapid.Bool().Draw(h.t, "on the way in") {
				h.behind[c] = true
			}
		} else {
			clients := 0
			for _, o := range h.all {
				clients += len(o.key)
			}
			if clients < small.MaxClientConn {
				h.fail("refused with %d clients: %v", clients, err)
			}
		}
	case 1, 2, 3:
		if c, ok := h.client(h.idle); ok {
			h.waits[h.key[c]] = append(h.waits[h.key[c]], c)
			h.since[c] = h.now
			if s, now := h.b.Want(c, h.now); now {
				h.got(c, s)
			}
		}
	case 4, 5:
		if c, ok := h.client(func(c Client) bool { _, has := h.holds[c]; return has }); ok {
			h.release(c, rapid.SampledFrom([]Fate{Keep, Keep, Keep, Reset, Drop}).Draw(h.t, "fate"))
		}
	case 6:
		if c, ok := h.client(func(Client) bool { return true }); ok {
			if _, has := h.holds[c]; has {
				h.release(c, Drop)
			}
			h.unwait(c, false)
			h.b.Leave(c)
			delete(h.key, c)
			delete(h.behind, c)
		}
	case 7, 8:
		if s, ok := h.pick(h.state, "login", "busy"); ok {
			h.state[s] = "idle"
			h.b.Ready(s, h.now)
		}
	case 9:
		if s, ok := h.pick(h.state, "login"); ok {
			h.forget(s)
			h.b.Failed(s, Failure{Down: rapid.Bool().Draw(h.t, "down"), Code: "28P01", Text: "no"}, h.now)
		} else if s, ok := h.pick(h.state, "idle", "busy"); ok {
			h.forget(s)
			h.b.Lost(s, h.now)
		}
	case 10:
		h.b.Tick(h.now)
	case 11:
		switch name := rapid.SampledFrom([]string{"", "a"}).Draw(h.t, "database"); rapid.IntRange(0, 9).Draw(h.t, "order") {
		case 0:
			h.b.Pause(name, h.now)
		case 1, 2, 3:
			h.b.Resume(name, h.now)
		case 4:
			h.b.Reconnect(name, h.now)
		case 5:
			h.hold = true
			h.b.Hold(true, h.now)
		case 6, 7:
			h.hold = false
			h.b.Hold(false, h.now)
		case 8:
			if s, ok := h.pick(h.state, "login", "idle", "busy", "held"); ok {
				h.b.Retire(s, h.now)
			}
		}
	}
	h.do()
	h.limits()
	places := map[string]int{}
	for _, o := range h.all {
		for _, k := range o.key {
			places[k.Place]++
		}
	}
	for _, place := range []string{"", "p", "q"} {
		if h.b.At(place) != places[place] {
			h.fail("%d clients at %q, and %d are", h.b.At(place), place, places[place])
		}
	}
	// Nobody waits while a server of the pool is free.
	for s, state := range h.state {
		k := h.servers[s]
		if state == "idle" && h.b.StateOf(s) == Idle && len(h.waits[k]) > 0 && !h.b.Paused(k.Database) && !h.hold {
			h.fail("client %d waits while server %d is idle", h.waits[k][0], s)
		}
	}
}

// Of one book, and of several between which what a user has in a database moves at any time.
func TestNobodySharesNobodyIsLostAndLimitsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]*hand, rapid.IntRange(1, 3).Draw(t, "books"))
		clients, servers := NewLedger(), NewLedger()
		for i := range all {
			all[i] = &hand{
				t: t, b: NewShared(small, clients, servers), key: map[Client]Key{}, holds: map[Client]Server{}, waits: map[Key][]Client{}, since: map[Client]time.Duration{},
				servers: map[Server]Key{}, state: map[Server]string{}, behind: map[Client]bool{},
			}
		}
		homes := map[Key]*hand{}
		for _, k := range keys {
			homes[k] = all[0]
		}
		for _, h := range all {
			h.all, h.homes = all, homes
		}
		var now time.Duration
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			h := all[0]
			if len(all) > 1 {
				h = all[rapid.IntRange(0, len(all)-1).Draw(t, "book")]
			}
			h.now = max(h.now, now)
			h.step()
			now = h.now
		}
		// From any state on, a world in which every login works serves everybody.
		for _, h := range all {
			h.now, h.hold = now, false
			h.b.Hold(false, h.now)
			h.b.Resume("", h.now)
			h.do()
		}
		for round := 0; ; round++ {
			left := 0
			for _, h := range all {
				for _, line := range h.waits {
					left += len(line)
				}
			}
			if left == 0 {
				break
			}
			if round > 200 {
				for _, h := range all {
					t.Logf("%+v", h.b.Rows(h.now))
				}
				t.Fatalf("%d clients still wait", left)
			}
			for _, h := range all {
				h.now += 100 * time.Millisecond
				for s := Server(0); s < 64; s++ {
					if st := h.state[s]; st == "login" || st == "busy" {
						h.state[s] = "idle"
						h.b.Ready(s, h.now)
						h.do()
					}
				}
				for c := Client(0); c < 64; c++ {
					if _, has := h.holds[c]; has {
						h.release(c, Keep)
						h.do()
					}
				}
				h.b.Tick(h.now)
				h.do()
				h.limits()
			}
		}
		open := 0
		for _, h := range all {
			open += len(h.servers)
		}
		if servers.all != open {
			t.Fatalf("%d servers are counted, and there are %d", servers.all, open)
		}
	})
}

// A script of a few calls, and the actions after each.
func told(acts []Action) string {
	var all []string
	for _, a := range acts {
		name := [...]string{"", "open", "close", "link", "check", "refuse", "notice"}[a.Kind]
		switch a.Kind {
		case Open:
			name += fmt.Sprintf(" %d for %s/%s", a.Server, a.Key.Database, a.Key.User)
		case Close:
			name += fmt.Sprintf(" %d: %s", a.Server, a.Text)
		case Link:
			name += fmt.Sprintf(" %d to %d", a.Client, a.Server)
		case Check:
			name += fmt.Sprintf(" %d", a.Server)
		case Refuse, Notice:
			name += fmt.Sprintf(" %d: %s %s", a.Client, a.Code, a.Text)
		}
		all = append(all, strings.TrimSpace(name))
	}
	return strings.Join(all, "; ")
}

func join(t *testing.T, b *Book, k Key) Client {
	t.Helper()
	c, err := b.Join(k)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func expect(t *testing.T, b *Book, want string) {
	t.Helper()
	if got := told(b.Actions()); got != want {
		t.Errorf("actions:\ngot  %s\nwant %s", got, want)
	}
}

func TestTheServerThatWasUsedLastIsUsedNext(t *testing.T) {
	for _, robin := range []bool{false, true} {
		s := Defaults()
		s.ServerRoundRobin = robin
		b := New(s)
		k := keys[0]
		c, d := join(t, b, k), join(t, b, k)
		b.Want(c, 0)
		b.Want(d, 0)
		expect(t, b, "open 0 for a/x; open 1 for a/x")
		b.Ready(0, 1)
		b.Ready(1, 1)
		expect(t, b, "link 0 to 0; link 1 to 1")
		b.Release(c, Keep, 2)
		b.Release(d, Keep, 3)
		want := Server(1)
		if robin {
			want = 0
		}
		if got, ok := b.Want(c, 4); !ok || got != want {
			t.Errorf("round robin %v: server %d, want %d", robin, got, want)
		}
	}
}

func TestAReserveIsForThoseWhoWaitForLong(t *testing.T) {
	s := Defaults()
	s.DefaultPoolSize, s.ReservePoolSize = 1, 1
	b := New(s)
	c, d := join(t, b, keys[0]), join(t, b, keys[0])
	b.Want(c, 0)
	b.Ready(0, 0)
	b.Want(d, 0)
	expect(t, b, "open 0 for a/x; link 0 to 0")
	b.Tick(5 * time.Second)
	expect(t, b, "")
	b.Tick(5*time.Second + time.Millisecond)
	expect(t, b, "notice 1:  No server connection available in postgres backend, client being queued; open 1 for a/x")
}

func TestALimitOfADatabaseEvictsWhatIsIdleForLongest(t *testing.T) {
	s := Defaults()
	s.MaxDBConnections = 1
	b := New(s)
	c, d := join(t, b, keys[0]), join(t, b, keys[1])
	b.Want(c, 0)
	b.Ready(0, 0)
	b.Want(d, 0)
	expect(t, b, "open 0 for a/x; link 0 to 0")
	b.Release(c, Keep, 1)
	b.Tick(2)
	expect(t, b, "close 0: evicted; open 0 for a/y")
}

func TestAServerThatRefusesAndOneThatIsDown(t *testing.T) {
	b := New(Defaults())
	c, d := join(t, b, keys[0]), join(t, b, keys[0])
	b.Want(c, 0)
	expect(t, b, "open 0 for a/x")
	b.Failed(0, Failure{Down: true}, 0)
	b.Tick(100 * time.Millisecond)
	expect(t, b, "")
	b.Tick(200 * time.Millisecond)
	expect(t, b, "open 0 for a/x")
	b.Failed(0, Failure{Code: "28P01", Text: "password authentication failed"}, time.Second)
	expect(t, b, "refuse 0: 28P01 password authentication failed")
	b.Want(d, 2*time.Second)
	expect(t, b, "refuse 1: 08P01 server login has been failing, cached error: password authentication failed (server_login_retry)")
	e := join(t, b, keys[0])
	b.Want(e, 16*time.Second)
	expect(t, b, "open 0 for a/x")
}

func TestWaitingEnds(t *testing.T) {
	b := New(Defaults())
	c := join(t, b, keys[0])
	b.Want(c, 0)
	expect(t, b, "open 0 for a/x")
	b.Tick(2*time.Minute + 1)
	expect(t, b, "refuse 0: 08P01 query_wait_timeout")
}

func TestAServerIsKeptUntilItsCancelRequestIsDealtWith(t *testing.T) {
	b := New(Defaults())
	c, d := join(t, b, keys[0]), join(t, b, keys[0])
	b.Want(c, 0)
	b.Ready(0, 0)
	expect(t, b, "open 0 for a/x; link 0 to 0")
	if s, ok := b.Cancel(c); !ok || s != 0 {
		t.Fatalf("Cancel = %d, %v", s, ok)
	}
	if fate := b.Release(c, Keep, 1); fate != Keep {
		t.Fatalf("fate %d", fate)
	}
	if _, ok := b.Want(d, 2); ok {
		t.Error("a server that may yet be cancelled is given out")
	}
	expect(t, b, "open 1 for a/x")
	b.Canceled(0, 3)
	expect(t, b, "link 1 to 0")
}

func TestOldServersGoOneAfterAnother(t *testing.T) {
	s := Defaults()
	s.DefaultPoolSize, s.ServerIdleTimeout = 4, 0
	b := New(s)
	var all []Client
	for i := range 3 {
		c := join(t, b, keys[0])
		all = append(all, c)
		b.Want(c, 0)
		b.Ready(Server(i), 0)
	}
	b.Actions()
	for _, c := range all {
		b.Release(c, Keep, 0)
	}
	b.Tick(time.Hour + 1)
	expect(t, b, "close 0: server lifetime over")
	b.Tick(time.Hour + 2)
	expect(t, b, "")
	b.Tick(time.Hour + 15*time.Minute + 2)
	expect(t, b, "close 1: server lifetime over")
}

// Names that nobody proved cost nothing once their clients have gone.
func TestPoolsThatNeverHadAServerAreForgotten(t *testing.T) {
	b := New(Defaults())
	for i := range 1000 {
		c := join(t, b, Key{Database: fmt.Sprint("d", i), User: fmt.Sprint("u", i)})
		b.Leave(c)
	}
	if len(b.pools) > 1 || len(b.byKey)+len(b.dbs)+len(b.users) > 0 {
		t.Errorf("%d pools, %d keys, %d databases, %d users are left", len(b.pools), len(b.byKey), len(b.dbs), len(b.users))
	}
	c := join(t, b, keys[0])
	b.Want(c, 0)
	b.Failed(0, Failure{Code: "3D000", Text: "no"}, 0)
	if b.Actions(); len(b.byKey) != 1 {
		t.Error("what failed is not remembered")
	}
	b.Tick(time.Minute)
	if len(b.byKey) != 0 {
		t.Error("what failed is remembered for ever")
	}
	d := join(t, b, keys[1])
	b.Want(d, time.Minute)
	b.Ready(0, time.Minute)
	b.Release(d, Keep, time.Minute)
	b.Leave(d)
	if rows := b.Rows(time.Minute); len(rows) != 1 || rows[0].Servers[Idle] != 1 {
		t.Errorf("a pool with a server: %+v", rows)
	}
}

func TestSettingsOfUsersWinOverDatabases(t *testing.T) {
	ten, one := 10, 1
	b := New(Defaults())
	b.Configure(Defaults(), map[string]Override{"a": {PoolMode: Session, PoolSize: &ten}}, map[string]Override{"x": {PoolSize: &one}})
	c, d := join(t, b, keys[0]), join(t, b, keys[0])
	b.Want(c, 0)
	b.Want(d, 0)
	expect(t, b, "open 0 for a/x")
	if m := b.ModeOf(keys[0]); m != Session {
		t.Errorf("mode %s", m)
	}
	if m := b.ModeOf(keys[2]); m != Transaction {
		t.Errorf("mode %s", m)
	}
}
