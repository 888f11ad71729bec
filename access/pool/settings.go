package pool

import "time"

// A Mode says when a client gives its server back.
type Mode uint8

// Modes, by PgBouncer's names. Inherit is that of the next wider setting.
const (
	Inherit Mode = iota
	Session
	Transaction
	Statement
)

// String is the mode's name.
func (m Mode) String() string { return [...]string{"", "session", "transaction", "statement"}[m] }

// ParseMode reads a mode's name; "" is Inherit.
func ParseMode(name string) (Mode, bool) {
	for _, m := range []Mode{Inherit, Session, Transaction, Statement} {
		if m.String() == name {
			return m, true
		}
	}
	return Inherit, false
}

// Settings are those of all pools, by PgBouncer's names. A zero limit is none,
// and a zero time is never.
type Settings struct {
	PoolMode                 Mode
	MaxClientConn            int
	DefaultPoolSize          int
	MinPoolSize              int
	ReservePoolSize          int
	ReservePoolTimeout       time.Duration
	MaxDBConnections         int
	MaxDBClientConnections   int
	MaxUserConnections       int
	MaxUserClientConnections int
	ServerRoundRobin         bool
	ServerIdleTimeout        time.Duration
	ServerLifetime           time.Duration
	ServerCheckDelay         time.Duration // idle for longer: asked before it is used again
	ServerLoginRetry         time.Duration // after a login that the server refused
	QueryWaitTimeout         time.Duration
	QueryWaitNotify          time.Duration

	// Ours. PgBouncer logs in to one server of a pool at a time, and treats a
	// server that is down like one that refuses.
	Logins    int           // at once, for one pool
	DownRetry time.Duration // after a login for which nobody was there
	DownWait  time.Duration // whoever waits for longer, while nobody is there, is told so; 0: query_wait_timeout alone counts
}

// Defaults are PgBouncer's, but for the mode, which is Pigsty's, and a number of
// clients that befits a program of which idle ones cost next to nothing.
func Defaults() Settings {
	return Settings{
		PoolMode: Transaction, MaxClientConn: 20000, DefaultPoolSize: 20,
		ReservePoolTimeout: 5 * time.Second, ServerIdleTimeout: 10 * time.Minute, ServerLifetime: time.Hour,
		ServerCheckDelay: 30 * time.Second, ServerLoginRetry: 15 * time.Second,
		QueryWaitTimeout: 2 * time.Minute, QueryWaitNotify: 5 * time.Second,
		Logins: 4, DownRetry: 200 * time.Millisecond,
	}
}

// An Override is what a database or a user has of its own. Nil and Inherit are
// what all have.
type Override struct {
	PoolMode        Mode
	PoolSize        *int
	MinPoolSize     *int
	ReservePoolSize *int
	MaxConnections  *int
	MaxClients      *int
	ServerLifetime  *time.Duration
}

func first[T any](all ...*T) T {
	for _, v := range all {
		if v != nil {
			return *v
		}
	}
	var none T
	return none
}
