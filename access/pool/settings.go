package pool

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

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

// Settings are those of all pools, by PgBouncer's names (names, below). A zero
// limit is none, and a zero time is never.
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
	ServerLifetime           time.Duration // once: for one use
	ServerCheckDelay         time.Duration // idle for longer: asked before it is used again
	ServerConnectTimeout     time.Duration // to connect and log in
	ServerLoginRetry         time.Duration // after a login that the server refused
	ClientLoginTimeout       time.Duration // until a client has proven herself; and once more for the first server of her pool
	ClientIdleTimeout        time.Duration // of who has no server
	QueryTimeout             time.Duration // of a query, since its client said something; and of whoever waits for a server
	QueryWaitTimeout         time.Duration
	QueryWaitNotify          time.Duration
	IdleTransactionTimeout   time.Duration
	TransactionTimeout       time.Duration
	CancelWaitTimeout        time.Duration // to deliver a cancel request
	StatsPeriod              time.Duration // of averages
	MaxPreparedStatements    int           // that a server holds at most; 0: they are not followed

	// Ours: every COMMIT is preceded by a question for the name of its transaction, so that its
	// fate is known even if its server is lost; else only during a change of leader.
	ResolveCommits bool

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
		ServerCheckDelay: 30 * time.Second, ServerConnectTimeout: 15 * time.Second, ServerLoginRetry: 15 * time.Second,
		ClientLoginTimeout: time.Minute, QueryWaitTimeout: 2 * time.Minute, QueryWaitNotify: 5 * time.Second,
		CancelWaitTimeout: 10 * time.Second, StatsPeriod: time.Minute, MaxPreparedStatements: 200,
		Logins: 4, DownRetry: 200 * time.Millisecond,
	}
}

// once is the lifetime of a server that is used once, which PgBouncer calls 0.
const once = time.Nanosecond

// names are the settings that a person may give, as PgBouncer calls them, in the
// order of the alphabet.
var names = []struct {
	name string
	of   func(*Settings) any
}{
	{"cancel_wait_timeout", func(s *Settings) any { return &s.CancelWaitTimeout }},
	{"client_idle_timeout", func(s *Settings) any { return &s.ClientIdleTimeout }},
	{"client_login_timeout", func(s *Settings) any { return &s.ClientLoginTimeout }},
	{"default_pool_size", func(s *Settings) any { return &s.DefaultPoolSize }},
	{"idle_transaction_timeout", func(s *Settings) any { return &s.IdleTransactionTimeout }},
	{"max_client_conn", func(s *Settings) any { return &s.MaxClientConn }},
	{"max_db_client_connections", func(s *Settings) any { return &s.MaxDBClientConnections }},
	{"max_db_connections", func(s *Settings) any { return &s.MaxDBConnections }},
	{"max_prepared_statements", func(s *Settings) any { return &s.MaxPreparedStatements }},
	{"max_user_client_connections", func(s *Settings) any { return &s.MaxUserClientConnections }},
	{"max_user_connections", func(s *Settings) any { return &s.MaxUserConnections }},
	{"min_pool_size", func(s *Settings) any { return &s.MinPoolSize }},
	{"pool_mode", func(s *Settings) any { return &s.PoolMode }},
	{"query_timeout", func(s *Settings) any { return &s.QueryTimeout }},
	{"query_wait_notify", func(s *Settings) any { return &s.QueryWaitNotify }},
	{"query_wait_timeout", func(s *Settings) any { return &s.QueryWaitTimeout }},
	{"reserve_pool_size", func(s *Settings) any { return &s.ReservePoolSize }},
	{"reserve_pool_timeout", func(s *Settings) any { return &s.ReservePoolTimeout }},
	{"resolve_commits", func(s *Settings) any { return &s.ResolveCommits }},
	{"server_check_delay", func(s *Settings) any { return &s.ServerCheckDelay }},
	{"server_connect_timeout", func(s *Settings) any { return &s.ServerConnectTimeout }},
	{"server_idle_timeout", func(s *Settings) any { return &s.ServerIdleTimeout }},
	{"server_lifetime", func(s *Settings) any { return &s.ServerLifetime }},
	{"server_login_retry", func(s *Settings) any { return &s.ServerLoginRetry }},
	{"server_round_robin", func(s *Settings) any { return &s.ServerRoundRobin }},
	{"stats_period", func(s *Settings) any { return &s.StatsPeriod }},
	{"transaction_timeout", func(s *Settings) any { return &s.TransactionTimeout }},
}

// ErrSetting is no setting of that name.
var ErrSetting = errors.New("unknown parameter")

// longest is more than any time that is meant, and has room in a Duration.
const longest = 1e9 // seconds

// Set sets what PgBouncer calls name as its file would: a time is in seconds,
// with decimals, and a switch is 0 or 1.
func (s *Settings) Set(name, value string) error {
	for _, n := range names {
		if n.name != name {
			continue
		}
		next := *s
		good := read(n.of(&next), strings.TrimSpace(value))
		switch name {
		case "server_lifetime":
			next.ServerLifetime = max(next.ServerLifetime, once)
		case "server_check_delay": // 0 would ask before every use, which costs each transaction a round trip
			good = good && next.ServerCheckDelay > 0
		case "stats_period":
			good = good && next.StatsPeriod > 0
		case "pool_mode":
			good = good && next.PoolMode != Inherit
		}
		if !good {
			return fmt.Errorf("invalid value %q for parameter %s", value, name)
		}
		*s = next
		return nil
	}
	return fmt.Errorf("%w: %s", ErrSetting, name)
}

// read reads value into what to points at.
func read(to any, value string) bool {
	switch to := to.(type) {
	case *time.Duration:
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || !(f >= 0 && f <= longest) { // nor NaN
			return false
		}
		*to = time.Duration(f * float64(time.Second))
	case *int:
		n, err := strconv.ParseInt(value, 0, 32)
		if err != nil || n < 0 {
			return false
		}
		*to = int(n)
	case *bool:
		on := map[string]bool{"1": true, "on": true, "true": true, "yes": true, "0": false, "off": false, "false": false, "no": false}
		v, ok := on[strings.ToLower(value)]
		*to = v
		return ok
	case *Mode:
		m, ok := ParseMode(strings.ToLower(value))
		*to = m
		return ok
	}
	return true
}

// Each gives every setting that has a name, as Set reads it.
func (s Settings) Each(yield func(name, value string) bool) {
	for _, n := range names {
		var value string
		switch v := n.of(&s).(type) {
		case *time.Duration:
			if *v != once {
				value = strconv.FormatFloat(v.Seconds(), 'g', -1, 64)
			} else {
				value = "0"
			}
		case *int:
			value = strconv.Itoa(*v)
		case *bool:
			value = "0"
			if *v {
				value = "1"
			}
		case *Mode:
			value = v.String()
		}
		if !yield(n.name, value) {
			return
		}
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

	// A user's.
	ClientIdleTimeout      *time.Duration
	QueryTimeout           *time.Duration
	IdleTransactionTimeout *time.Duration
	TransactionTimeout     *time.Duration
}

// ofUsers are the settings that a user may have of her own besides those of the inventory's
// other keys, as PgBouncer calls them in its section [users].
var ofUsers = map[string]func(*Override) any{
	"client_idle_timeout":         func(o *Override) any { return &o.ClientIdleTimeout },
	"idle_transaction_timeout":    func(o *Override) any { return &o.IdleTransactionTimeout },
	"max_user_client_connections": func(o *Override) any { return &o.MaxClients },
	"pool_size":                   func(o *Override) any { return &o.PoolSize },
	"query_timeout":               func(o *Override) any { return &o.QueryTimeout },
	"reserve_pool_size":           func(o *Override) any { return &o.ReservePoolSize },
	"transaction_timeout":         func(o *Override) any { return &o.TransactionTimeout },
}

// SetUser sets one of those of a user, as Set does those of all.
func (o *Override) SetUser(name, value string) error {
	of := ofUsers[name]
	if of == nil {
		return fmt.Errorf("%w of a user: %s", ErrSetting, name)
	}
	good := false
	switch to := of(o).(type) {
	case **time.Duration:
		d := new(time.Duration)
		if good = read(d, strings.TrimSpace(value)); good {
			*to = d
		}
	case **int:
		n := new(int)
		if good = read(n, strings.TrimSpace(value)); good {
			*to = n
		}
	}
	if !good {
		return fmt.Errorf("invalid value %q for parameter %s", value, name)
	}
	return nil
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
