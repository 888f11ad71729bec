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
