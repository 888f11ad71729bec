package pool

import (
	"errors"
	"maps"
	"testing"
	"time"
)

// What is printed of settings is read as the same ones; what is none is refused, and
// changes nothing.
func TestSettingsByName(t *testing.T) {
	s := Defaults()
	for name, value := range map[string]string{
		"query_timeout": "1.5", "server_lifetime": "0", "pool_mode": "Session", "max_client_conn": "0x10", "server_round_robin": "on",
		"default_pool_size": "0", "query_wait_timeout": "0", "client_idle_timeout": " 3 ",
	} {
		if err := s.Set(name, value); err != nil {
			t.Error(err)
		}
	}
	if s.QueryTimeout != 1500*time.Millisecond || s.ServerLifetime != once || s.PoolMode != Session || s.MaxClientConn != 16 ||
		!s.ServerRoundRobin || s.DefaultPoolSize != 0 || s.QueryWaitTimeout != 0 || s.ClientIdleTimeout != 3*time.Second {
		t.Errorf("%+v", s)
	}
	again := Defaults()
	for name, value := range s.Each {
		if err := again.Set(name, value); err != nil {
			t.Error(err)
		}
	}
	if again != s {
		t.Errorf("%+v, want %+v", again, s)
	}
	printed := maps.Collect(s.Each)
	if printed["query_timeout"] != "1.5" || printed["server_lifetime"] != "0" || printed["server_idle_timeout"] != "600" || printed["pool_mode"] != "session" || len(printed) != len(names) {
		t.Errorf("%v", printed)
	}
	for name, value := range map[string]string{
		"query_timeout": "-1", "transaction_timeout": "NaN", "idle_transaction_timeout": "1e30", "query_wait_timeout": "ten", "max_client_conn": "-1",
		"default_pool_size": "1.5", "pool_mode": "", "server_round_robin": "2", "server_check_delay": "0", "stats_period": "0",
	} {
		if err := s.Set(name, value); err == nil {
			t.Errorf("%s = %q is taken", name, value)
		}
	}
	if err := s.Set("listen_addr", "*"); !errors.Is(err, ErrSetting) {
		t.Error(err)
	}
	if again != s {
		t.Errorf("what was refused changed %+v to %+v", again, s)
	}
}

// A user's own settings are read like those of all, and only those that are hers.
func TestSettingsOfAUser(t *testing.T) {
	var o Override
	for name := range ofUsers {
		if err := o.SetUser(name, "3"); err != nil {
			t.Error(err)
		}
	}
	if *o.QueryTimeout != 3*time.Second || *o.ClientIdleTimeout != 3*time.Second || *o.IdleTransactionTimeout != 3*time.Second || *o.TransactionTimeout != 3*time.Second ||
		*o.PoolSize != 3 || *o.ReservePoolSize != 3 || *o.MaxClients != 3 {
		t.Errorf("%+v", o)
	}
	was := o
	for name, value := range map[string]string{"query_timeout": "x", "pool_size": "1.5", "default_pool_size": "1", "pool_mode": "session"} {
		if err := o.SetUser(name, value); err == nil {
			t.Errorf("%s = %q is taken", name, value)
		}
	}
	if o != was {
		t.Errorf("what was refused changed %+v to %+v", was, o)
	}
}

// Whoever waits is told which limit ended that, and the shortest counts.
func TestWhoWaitsTooLong(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*Settings)
		warm bool // the pool has had a server
		at   time.Duration
		want string
	}{
		{"query_wait_timeout", func(s *Settings) { s.QueryWaitTimeout = time.Second }, true, time.Second, "query_wait_timeout"},
		{"query_timeout", func(s *Settings) { s.QueryTimeout = time.Second }, true, time.Second, "query_timeout"},
		{"both", func(s *Settings) { s.QueryTimeout, s.QueryWaitTimeout = time.Second, time.Second }, true, time.Second, "query_timeout"},
		{"the first of a pool", func(s *Settings) { s.ClientLoginTimeout = time.Second }, false, time.Second, "client_login_timeout (server down)"},
		{"the second", func(s *Settings) { s.ClientLoginTimeout, s.QueryWaitTimeout = time.Second, time.Minute }, true, time.Minute, "query_wait_timeout"},
	} {
		s := Settings{DefaultPoolSize: 1}
		tt.with(&s)
		b := New(s)
		holder, waiting := join(t, b, keys[0]), join(t, b, keys[0])
		b.Want(holder, 0)
		b.Actions()
		if tt.warm {
			b.Ready(0, 0)
			b.Actions()
		} else {
			b.Want(waiting, 0)
		}
		if tt.warm {
			b.Want(waiting, 0)
		}
		b.Tick(tt.at)
		for _, a := range b.Actions() {
			if a.Kind == Refuse {
				t.Errorf("%s: refused in time: %s", tt.name, a.Text)
			}
		}
		b.Tick(tt.at + time.Millisecond)
		got := ""
		for _, a := range b.Actions() {
			if a.Kind == Refuse && a.Client == waiting && a.Code == ProtocolViolation {
				got = a.Text
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// How long a client has waited is told when it gets a server.
func TestAWaitIsTold(t *testing.T) {
	b := New(Settings{DefaultPoolSize: 1})
	a, c := join(t, b, keys[0]), join(t, b, keys[0])
	b.Want(a, 0)
	b.Actions()
	b.Ready(0, time.Second)
	if acts := b.Actions(); len(acts) != 1 || acts[0].Wait != time.Second {
		t.Errorf("%+v", acts)
	}
	b.Want(c, 2*time.Second)
	if since, waits := b.Waits(c); !waits || since != 2*time.Second {
		t.Errorf("waits %v since %s", waits, since)
	}
	b.Release(a, Keep, 5*time.Second)
	if acts := b.Actions(); len(acts) != 1 || acts[0].Wait != 3*time.Second {
		t.Errorf("%+v", acts)
	}
}

// A database that is disabled, or has settings of its own, is there without clients.
func TestAccounts(t *testing.T) {
	b := New(Defaults())
	ten := 10
	b.Configure(Defaults(), map[string]Override{"big": {PoolSize: &ten}}, nil)
	b.Disable("shut", true)
	c := join(t, b, Key{Database: "mine", User: "me"})
	dbs := b.Databases()
	if len(dbs) != 3 || dbs[0].Name != "big" || *dbs[0].Set.PoolSize != 10 || dbs[1].Name != "mine" || dbs[1].Clients != 1 || !dbs[2].Disabled {
		t.Errorf("%+v", dbs)
	}
	if users := b.Users(); len(users) != 1 || users[0].Name != "me" {
		t.Errorf("%+v", users)
	}
	if !b.Disabled("shut") || b.Disabled("mine") || b.Disabled("nowhere") {
		t.Error("who is disabled?")
	}
	b.Leave(c)
	b.Disable("shut", false)
	if b.Disabled("shut") || len(b.Users()) != 0 {
		t.Errorf("%+v", b.Users())
	}
}
