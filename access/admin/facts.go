package admin

import (
	"slices"
	"time"
)

// A Mode is what the whole pooler does.
type Mode int

// The modes.
const (
	Running Mode = iota
	Paused
	Suspended
)

// Facts are all that the console shows, gathered by the pooler at one moment.
// The console's own database, pool and statistics need not be among them.
type Facts struct {
	Now          time.Time
	Mode         Mode
	ShuttingDown bool
	Port         int // where the pooler listens
	Consoles     int // sessions of the console
	Databases    []DatabaseFact
	Fallback     bool // there is an entry *: every name has a database
	Users        []User
	Pools        []Pool
	Clients      []Socket // sessions, those that still log in too
	Servers      []Socket
	Unlisted     Unlisted // those of both that were counted only
	Settings     []Setting
	Stats        []Stat // by database
	Lists        Lists
	Caches       []Cache
	Hosts        []Host
	Zones        []Zone
	Peers        []Peer
}

// A DatabaseFact is one entry of [databases].
type DatabaseFact struct {
	Name              string
	Host              string // "": the unix socket
	Port              int
	Database          string // at the server
	ForceUser         string
	PoolSize          int
	MinPoolSize       int
	ReservePoolSize   int
	ServerLifetime    time.Duration
	PoolMode          string // "": inherited
	LoadBalanceHosts  string // "": there is one host
	MaxConnections    int
	Connections       int
	MaxClients        int
	ClientConnections int
	Paused            bool
	Disabled          bool
}

// A User is one that the pooler has heard of.
type User struct {
	Name              string
	PoolSize          int // 0: the database's
	ReservePoolSize   int
	PoolMode          string // "": inherited
	MaxConnections    int
	Connections       int
	MaxClients        int
	ClientConnections int
}

// A Pool is one of a database and a user.
type Pool struct {
	Database, User                            string
	ClientsActive, ClientsWaiting             int // active: logged in and not waiting
	ClientsActiveCancel, ClientsWaitingCancel int
	Active, ActiveCancel, BeingCanceled, Idle int // servers
	Used, Tested, Login                       int
	MaxWait                                   time.Duration // of whoever waits longest
	Mode                                      string
	LoadBalanceHosts                          string // "": there is one host
}

// A Socket is a client or a server.
type Socket struct {
	ID             uint64 // process-wide, from 1
	Link           uint64 // the ID of the other side; 0: not linked
	User, Database string
	Replication    string // none, logical or physical; "" is none
	State          string // active, idle, waiting, login …; of servers also used, tested, new …
	Addr           string // an address, or unix
	Port           int
	LocalAddr      string
	LocalPort      int
	Connected      time.Time
	Requested      time.Time     // the last request
	Wait           time.Duration // of who waits
	CloseNeeded    bool
	PID            int // of a unix socket's peer, of a server's process
	TLS            string
	Application    string
	Prepared       int // statements
	Buffered       int // bytes received and not sent on
	Pending        int // bytes to be sent
	Remain         int // bytes of the message that is on its way
}

// A Setting is one of [pgbouncer].
type Setting struct {
	Key, Value, Default string
	Changeable          bool // without a restart
}

// Totals are what was counted since the start.
type Totals struct {
	ServerAssignments                 uint64
	Xacts, Queries                    uint64
	Received, Sent                    uint64 // bytes from and to clients
	XactTime, QueryTime, WaitTime     time.Duration
	ClientParses, ServerParses, Binds uint64
}

// A Stat is what a database did: until now, and during the last whole
// stats_period.
type Stat struct {
	Database string
	Total    Totals
	Last     Totals        // what the period added
	Period   time.Duration // how long it was; 0: none is over yet
}

// Lists are lengths of what SHOW LISTS does not count by itself.
type Lists struct {
	FreeClients, FreeServers                   int // records that are kept for the next
	DNSNames, DNSZones, DNSQueries, DNSPending int
}

// Unlisted are sockets of which nothing is known but that they are there.
type Unlisted struct{ Clients, Login, Servers int }

// A Cache is where objects of one kind live.
type Cache struct {
	Name       string
	Size       int // of one, in bytes
	Used, Free int
}

// A Host is a name that was looked up.
type Host struct {
	Name  string
	TTL   time.Duration
	Addrs []string
}

// A Zone is one whose serial is watched.
type Zone struct {
	Name   string
	Serial uint32
	Hosts  int
}

// A Peer is another process that cancel requests are passed on to.
type Peer struct {
	ID, Port, PoolSize                        int
	Host                                      string
	ClientsActiveCancel, ClientsWaitingCancel int
	ServersActiveCancel, ServersLogin         int
}

// database finds an entry; known says that a command may name it, because it is
// there, is the console's, or would be made from *.
func (f Facts) database(name string) (db *DatabaseFact, known bool) {
	i := slices.IndexFunc(f.Databases, func(d DatabaseFact) bool { return d.Name == name })
	if i < 0 {
		return nil, f.Fallback || name == Database
	}
	return &f.Databases[i], true
}

func (f Facts) anyPaused() bool {
	return slices.ContainsFunc(f.Databases, func(d DatabaseFact) bool { return d.Paused })
}

func (f Facts) hasClient(id uint64) bool {
	return slices.ContainsFunc(f.Clients, func(s Socket) bool { return s.ID == id && s.State != "login" })
}

// Minus is what happened between old and t.
func (t Totals) Minus(old Totals) Totals {
	t.ServerAssignments -= old.ServerAssignments
	t.Xacts -= old.Xacts
	t.Queries -= old.Queries
	t.Received -= old.Received
	t.Sent -= old.Sent
	t.XactTime -= old.XactTime
	t.QueryTime -= old.QueryTime
	t.WaitTime -= old.WaitTime
	t.ClientParses -= old.ClientParses
	t.ServerParses -= old.ServerParses
	t.Binds -= old.Binds
	return t
}

// Plus adds what two have counted.
func (t Totals) Plus(more Totals) Totals {
	return t.Minus(Totals{}.Minus(more))
}

// average is s's last period: counts and bytes by the second, in whole numbers;
// times of a query, a transaction, an assignment.
func (s Stat) average() Totals {
	if s.Period <= 0 {
		return Totals{}
	}
	rate := func(n uint64) uint64 { return uint64(float64(n) / s.Period.Seconds()) }
	each := func(d time.Duration, n uint64) time.Duration {
		if n == 0 {
			return 0
		}
		return d / time.Duration(n)
	}
	l := s.Last
	return Totals{
		ServerAssignments: rate(l.ServerAssignments), Xacts: rate(l.Xacts), Queries: rate(l.Queries),
		Received: rate(l.Received), Sent: rate(l.Sent),
		XactTime: each(l.XactTime, l.Xacts), QueryTime: each(l.QueryTime, l.Queries), WaitTime: each(l.WaitTime, l.ServerAssignments),
		ClientParses: rate(l.ClientParses), ServerParses: rate(l.ServerParses), Binds: rate(l.Binds),
	}
}

// A Window remembers what counters were at the last two ends of a stats_period.
// Its zero value has seen none.
type Window struct {
	older, newer map[string]Totals
	began, ended time.Time
	ends         int
}

// Turn is called at the end of each period with all counters.
func (w *Window) Turn(now time.Time, totals map[string]Totals) {
	w.older, w.newer, w.began, w.ended = w.newer, totals, w.ended, now
	w.ends++
}

// Stat is a database's counters with those of the last period. The window keeps
// the maps it is given.
func (w *Window) Stat(database string, total Totals) Stat {
	s := Stat{Database: database, Total: total}
	if w.ends > 1 {
		s.Last, s.Period = w.newer[database].Minus(w.older[database]), w.ended.Sub(w.began)
	}
	return s
}

// Together are several poolers' facts as those of one: what is counted is added
// up. Who is listed singly, and what is set, is left to each of them.
func Together(all []Facts) Facts {
	var sum Facts
	for _, f := range all {
		sum.Consoles += f.Consoles
		sum.Unlisted.Clients += f.Unlisted.Clients + len(f.Clients)
		sum.Unlisted.Login += f.Unlisted.Login
		sum.Unlisted.Servers += f.Unlisted.Servers + len(f.Servers)
		for _, p := range f.Pools {
			i := slices.IndexFunc(sum.Pools, func(s Pool) bool {
				return s.Database == p.Database && s.User == p.User && s.Mode == p.Mode && s.LoadBalanceHosts == p.LoadBalanceHosts
			})
			if i < 0 {
				sum.Pools = append(sum.Pools, p)
				continue
			}
			sum.Pools[i].Add(p)
		}
		for _, d := range f.Databases {
			i := slices.IndexFunc(sum.Databases, func(s DatabaseFact) bool { return s.Name == d.Name })
			if i < 0 {
				sum.Databases = append(sum.Databases, d)
				continue
			}
			s := &sum.Databases[i]
			s.PoolSize += d.PoolSize
			s.MinPoolSize += d.MinPoolSize
			s.ReservePoolSize += d.ReservePoolSize
			s.MaxConnections += d.MaxConnections
			s.Connections += d.Connections
			s.MaxClients += d.MaxClients
			s.ClientConnections += d.ClientConnections
			s.Paused = s.Paused || d.Paused
			s.Disabled = s.Disabled && d.Disabled
		}
		for _, n := range f.Stats {
			i := slices.IndexFunc(sum.Stats, func(s Stat) bool { return s.Database == n.Database })
			if i < 0 {
				sum.Stats = append(sum.Stats, n)
				continue
			}
			sum.Stats[i].Add(n)
		}
		for _, u := range f.Users {
			if !slices.ContainsFunc(sum.Users, func(s User) bool { return s.Name == u.Name }) {
				sum.Users = append(sum.Users, User{Name: u.Name})
			}
		}
	}
	return sum
}

// Add adds what is counted of another part of the same pool.
func (s *Pool) Add(p Pool) {
	s.ClientsActive += p.ClientsActive
	s.ClientsWaiting += p.ClientsWaiting
	s.ClientsActiveCancel += p.ClientsActiveCancel
	s.ClientsWaitingCancel += p.ClientsWaitingCancel
	s.Active += p.Active
	s.ActiveCancel += p.ActiveCancel
	s.BeingCanceled += p.BeingCanceled
	s.Idle += p.Idle
	s.Used += p.Used
	s.Tested += p.Tested
	s.Login += p.Login
	s.MaxWait = max(s.MaxWait, p.MaxWait)
}

// Add adds another part's counts.
func (s *Stat) Add(n Stat) {
	s.Total, s.Last, s.Period = s.Total.Plus(n.Total), s.Last.Plus(n.Last), max(s.Period, n.Period)
}
