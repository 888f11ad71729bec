package ha

import (
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/spec"
)

// The dynamic configuration rules the timers, as far as they can be kept.
func TestTimers(t *testing.T) {
	safe := spec.Safe()
	set := func(data map[string]any) func(*View) {
		return func(v *View) { v.State.Config.Data = data }
	}
	own := func(fields map[string]any) func(*View) { return set(map[string]any{"howdah": fields}) }
	patronis := map[string]any{"ttl": 30.0, "loop_wait": 10.0, "retry_timeout": 10.0}
	stranger := func(v *View) {
		v.State.Recorded = v.State.Recorded[:2]
		v.State.Config.Data = patronis
	}
	for _, tt := range []struct {
		name    string
		with    func(*View)
		want    func(*spec.Timers)
		refused string
	}{
		{"none is set", set(map[string]any{"ttl": 30.0}), func(*spec.Timers) {}, ""},
		{"ours", own(map[string]any{"lease": "8s", "renew": "2s", "retry": "600ms", "grace": 1.5, "start": "1m"}), func(w *spec.Timers) {
			w.Lease, w.Renew, w.Retry, w.Grace, w.Start = 8*time.Second, 2*time.Second, 600*time.Millisecond, 1500*time.Millisecond, time.Minute
		}, ""},
		{"Patroni's words do not rule among ours", set(patronis), func(*spec.Timers) {}, ""},
		{"they do beside a member of Patroni's", stranger, func(w *spec.Timers) {
			w.Lease, w.Renew, w.Retry = 30*time.Second, 9500*time.Millisecond, 10*time.Second
		}, ""},
		{"ours do not beside one", func(v *View) {
			stranger(v)
			v.State.Config.Data = map[string]any{"ttl": 40.0, "loop_wait": 5.0, "retry_timeout": 10.0, "howdah": map[string]any{"lease": "8s"}}
		}, func(w *spec.Timers) {
			w.Lease, w.Renew, w.Retry = 40*time.Second, 5*time.Second, 10*time.Second
		}, ""},
		{"one that has not entered itself but says why it waits is ours", func(v *View) {
			stranger(v)
			v.State.Whys = []cluster.Why{{Member: "c"}}
		}, func(*spec.Timers) {}, ""},
		{"how far behind, by Patroni's name", set(map[string]any{"maximum_lag_on_failover": 4096.0}), func(w *spec.Timers) { w.MaxLag = 4096 }, ""},
		{"how long a start may take, by Patroni's name", set(map[string]any{"primary_start_timeout": 20.0}), func(w *spec.Timers) { w.Start = 20 * time.Second }, ""},
		{"and ours before it", set(map[string]any{"primary_start_timeout": 20.0, "howdah": map[string]any{"start": "3s"}}), func(w *spec.Timers) { w.Start = 3 * time.Second }, ""},
		{"a lease below five elections", own(map[string]any{"lease": "4s"}), func(*spec.Timers) {}, "five elections of etcd"},
		{"a lease without room for the retries", own(map[string]any{"retry": "2s"}), func(*spec.Timers) {}, "renew + 2*retry + margin (5.5s)"},
		{"half a second of lease", own(map[string]any{"lease": "7500ms"}), func(*spec.Timers) {}, "whole number of seconds"},
		{"no time at all", own(map[string]any{"lease": "long", "leese": "8s"}), func(*spec.Timers) {}, "howdah.leese: there is no such setting"},
		{"no object", set(map[string]any{"howdah": "fast"}), func(*spec.Timers) {}, "no object of settings"},
		{"shorter than a slow store allows", func(v *View) {
			own(map[string]any{"lease": "6s"})(v)
			v.Memory.Pace = 900 * time.Millisecond
		}, func(*spec.Timers) {}, "a store that takes 900ms to answer"},
		{"a configuration that can not be read leaves what was", func(v *View) {
			v.Memory.Timers = safe
			v.Memory.Timers.Lease = 9 * time.Second
			v.Memory.Lease.TTL = 9 * time.Second
			v.State.Problems = []cluster.Problem{{Key: cluster.KeyConfig, Why: "garbage"}}
		}, func(w *spec.Timers) { w.Lease = 9 * time.Second }, ""},
		{"what is refused leaves what was", func(v *View) {
			own(map[string]any{"lease": "1s"})(v)
			v.Memory.Timers = safe
			v.Memory.Timers.Lease = 9 * time.Second
		}, func(w *spec.Timers) { w.Lease = 9 * time.Second }, "shorter than renew"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := leader()
			tt.with(&v)
			want := safe
			tt.want(&want)
			turn := &turn{View: v, m: v.Memory}
			turn.tune()
			if turn.Timers != want {
				t.Errorf("in force\n got %+v\nwant %+v", turn.Timers, want)
			}
			var said string
			for _, p := range turn.problems {
				if p.Code != "store-slow" {
					said += p.Why
				}
			}
			if (said == "") != (tt.refused == "") || !strings.Contains(said, tt.refused) {
				t.Errorf("refused with %q; want %q", said, tt.refused)
			}
		})
	}
}

// A lease keeps the length it was granted for: with others timers the keys
// move to a new one, and the right to lead lives on meanwhile.
func TestAnotherLease(t *testing.T) {
	longer := func(v *View) {
		v.State.Config.Data = map[string]any{"howdah": map[string]any{"lease": "8s"}}
		v.Memory.LastLock = now - time.Second
	}
	check(t, []row{
		{"a longer one is asked for", leader, longer, "leader=self server=primary -> grant lease(8s)"},
		{"by a standby too", standby, longer, "leader=a server=standby -> grant lease(8s)"},
		{"the key moves to it", leader, func(v *View) {
			longer(v)
			v.Memory.Lease = Lease{ID: 70, TTL: 8 * time.Second, For: 8 * time.Second, Sent: now - 300*time.Millisecond}
		}, "leader=self server=primary -> retake(epoch 40)"},
		{"a store that grants more than was asked for is not asked again", standby, func(v *View) {
			longer(v)
			v.Memory.Lease = Lease{ID: 8, TTL: 9 * time.Second, For: 8 * time.Second, Sent: now - time.Second}
			v.Memory.LastLock = now - 3*time.Second
		}, "leader=a server=standby -> keep"},
	})
	v := leader()
	longer(&v)
	v.LockBusy, v.Answer = false, &Answer{Action: GrantLease{TTL: 8 * time.Second}, Sent: now - 10*time.Millisecond, OK: true, Lease: 70, TTL: 8 * time.Second}
	d := Decide(v)
	if d.Memory.Lease.ID != 70 || d.Memory.Lease.For != 8*time.Second || !d.Page.Primary || d.Page.Deadline != v.Memory.Right.Sent+4500*time.Millisecond {
		t.Errorf("after the grant: lease %+v, page %+v", d.Memory.Lease, d.Page)
	}
}

// The watch may tell that the key has moved before the answer does: nothing is
// silenced for that. Anything else that became of the key is.
func TestTheWatchTellsFirst(t *testing.T) {
	moved := func(v *View) {
		v.Memory.Lease = Lease{ID: 70, TTL: 4 * time.Second, For: 4 * time.Second, Sent: now - 300*time.Millisecond}
		v.State.Leader = &cluster.Leader{Name: "a", Lease: 70, Mod: 48}
		v.State.Term = &cluster.Term{Mod: 48, Leader: "a", Over: epoch, Kind: cluster.TermRetaken, Timeline: 2}
		v.LockBusy = true
	}
	for _, tt := range []struct {
		name string
		with func(*View)
		want Right
	}{
		{"ours", moved, Right{Epoch: 48, Sent: now - 300*time.Millisecond, TTL: 4 * time.Second}},
		{"on another lease", func(v *View) { moved(v); v.State.Leader.Lease = 71 }, Right{}},
		{"over another epoch", func(v *View) { moved(v); v.State.Term.Over = 44 }, Right{}},
		{"taken in an election", func(v *View) { moved(v); v.State.Term.Kind = cluster.KindCrash }, Right{}},
		{"another's", func(v *View) { moved(v); v.State.Leader.Name = "b" }, Right{}},
	} {
		v := leader()
		tt.with(&v)
		if got := Decide(v).Memory.Right; got != tt.want {
			t.Errorf("%s: right %+v; want %+v", tt.name, got, tt.want)
		}
	}
}

// What a request may take follows the answers: three times the slowest of late.
func TestPatience(t *testing.T) {
	v := leader()
	if got := Decide(v).Patience; got != v.Timers.Retry {
		t.Errorf("patience %s at first", got)
	}
	answer := func(took time.Duration, unknown bool) {
		v.Answer = &Answer{Action: Renew{Lease: lease, Epoch: epoch}, Sent: v.Now - took, OK: !unknown, Unknown: unknown, TTL: 5 * time.Second}
		v.Memory = Decide(v).Memory
	}
	answer(400*time.Millisecond, false)
	if got := Decide(View{Now: v.Now, Timers: v.Timers, Memory: v.Memory}).Patience; got != 1200*time.Millisecond {
		t.Errorf("patience %s after an answer that took 400ms", got)
	}
	answer(2*time.Second, true) // it may never have been answered: no measure
	if got := v.Memory.Pace; got != 400*time.Millisecond {
		t.Errorf("pace %s after a request that nobody answered", got)
	}
	for range 60 {
		answer(10*time.Millisecond, false)
	}
	if got := Decide(View{Now: v.Now, Timers: v.Timers, Memory: v.Memory}).Patience; got != v.Timers.Retry {
		t.Errorf("patience %s after sixty quick answers", got)
	}
}

// A store that takes longer than the timers in force allow is a problem of its own.
func TestSlowStore(t *testing.T) {
	for _, tt := range []struct {
		pace time.Duration
		want string
	}{{500 * time.Millisecond, ""}, {600 * time.Millisecond, "store-slow"}} {
		v := leader()
		v.Memory.Pace = tt.pace
		v.State.Config.Data = map[string]any{"ttl": 30.0}
		turn := &turn{View: v, m: v.Memory}
		turn.tune()
		var code string
		for _, p := range turn.problems {
			code += p.Code
		}
		if code != tt.want || turn.Timers != spec.Safe() {
			t.Errorf("answers after %s: problem %q; want %q", tt.pace, code, tt.want)
		}
	}
}

// Who creates a cluster is the inventory's to say.
func TestFounder(t *testing.T) {
	empty := func() View {
		v := standby()
		v.State = cluster.State{Revision: 50, Members: []cluster.Member{member("b", cluster.RoleUninitialized, 8)}}
		v.Server = pg.Status{Data: pg.DataMissing, Process: pg.ProcessNone}
		v.Self.Founder = "a"
		return v
	}
	check(t, []row{
		{"others wait for it", empty, nil, "cluster=new awaits=a -> nothing"},
		{"a while", empty, func(v *View) { v.Memory.Vacant = now - foundAfter + 1 }, "cluster=new awaits=a -> nothing"},
		{"when it stays away anybody does", empty, func(v *View) { v.Memory.Vacant = now - foundAfter }, "cluster=new -> found"},
		{"while it shows itself nobody does", empty, func(v *View) {
			v.Memory.Vacant = now - foundAfter
			v.State.Members = append([]cluster.Member{member("a", cluster.RoleUninitialized, 7)}, v.State.Members...)
		}, "cluster=new awaits=a -> nothing"},
		{"who is not to lead never does", empty, func(v *View) {
			v.Memory.Vacant = now - foundAfter
			v.Self.Tags = cluster.Tags{cluster.TagNoFailover: true}
		}, "cluster=new awaits=a -> nothing"},
		{"it begins at once", empty, func(v *View) { v.Self.Founder = "b" }, "cluster=new -> found"},
		{"where nobody is named, too", empty, func(v *View) { v.Self.Founder = "" }, "cluster=new -> found"},
	})
}
