package ha

import (
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// anew is v in front of a store that has lost everything since.
func anew(v View) View {
	before := v.State
	v.Before = &before
	v.State = cluster.State{Revision: 1 << 40}
	v.Memory.Lease = Lease{ID: 70, TTL: 5 * time.Second, Sent: now - 200*time.Millisecond}
	return v
}

// heard adds what others say of the epoch that they heard of last.
func heard(v *View, names ...string) {
	for _, name := range names {
		v.State.Pledges = append(v.State.Pledges, cluster.Pledge{Member: name, Epoch: epoch, Timeline: 2, LSN: 1000, NoFailover: true})
	}
}

func inSync(v *View) {
	v.State.Sync = cluster.Sync{Mod: 41, Leader: "a", Standby: []string{"b", "c"}, Quorum: 1}
}

// A store that has lost everything is put back by the last leader, and by nobody
// else, once nobody can have been elected after it.
func TestAStoreIsRebuiltFromTheLivingCluster(t *testing.T) {
	t.Parallel()
	frozen := func(v *View) {
		v.Memory.Right, v.Memory.Lease.Sent = Right{}, now-200*time.Millisecond
		v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
	}
	for _, tt := range []struct {
		name string
		base func() View
		was  func(*View) // while the store had the cluster
		with func(*View) // since
		want string
	}{
		{"its right goes on", leader, nil, nil, "store=anew awaits=b awaits=c right=live -> open(system 7400000000000000001)"},
		{"the new store does not know the old lease", leader, nil, func(v *View) {
			v.Memory.Lease = Lease{}
			v.Answer = &Answer{Action: Renew{Lease: lease}, Sent: now - 10*time.Millisecond, NoLease: true}
		}, "store=anew awaits=b awaits=c right=live lease=old -> grant lease(5s)"},
		{"it said so before the watch told", leader, nil, func(v *View) {
			v.Memory.Former, v.Memory.Right = v.Memory.Right, Right{}
		}, "fence=deadline store=anew awaits=b awaits=c right=live -> freeze, open(system 7400000000000000001)"},
		{"a person names it, and its server is frozen", leader, nil, func(v *View) {
			frozen(v)
			v.State.Failover = cluster.Failover{Member: "a", Mod: 3}
			v.State.Initialize = cluster.Initialize{Present: true, Mod: 4}
			v.State.Claim = &cluster.Claim{Leader: "a", Mod: 4}
		}, "fence=frozen store=anew asked-for=a cluster=new claim=mine -> kill"},
		{"its right has ended", leader, nil, frozen, "fence=frozen store=anew awaits=b awaits=c -> nothing"},
		{"and one other is not heard of", leader, nil, func(v *View) { frozen(v); heard(v, "b") }, "fence=frozen store=anew awaits=c -> nothing"},
		{
			"and everybody says that nobody came after", leader, nil, func(v *View) { frozen(v); heard(v, "b", "c") },
			"fence=frozen store=anew heard=all -> open(system 7400000000000000001)",
		},
		{
			"but one has heard of a later leader", leader, nil, func(v *View) { frozen(v); heard(v, "b", "c"); v.State.Pledges[2].Epoch++ },
			"fence=frozen store=anew later=c(41) -> nothing",
		},
		{
			"or has log of one", leader, nil, func(v *View) { frozen(v); heard(v, "b", "c"); v.State.Pledges[1].Timeline++ },
			"fence=frozen store=anew later=b(40) -> nothing",
		},
		{"synchronous: a right proves nothing, for pledges do not wait for its end", leader, inSync, nil, "store=anew awaits=b awaits=c voters=0 -> nothing"},
		{
			"synchronous: one voter of two is enough, the other can elect nobody", leader, inSync, func(v *View) { heard(v, "c") },
			"store=anew awaits=b voters=1 -> open(system 7400000000000000001)",
		},
		{
			"synchronous: also when it is frozen", leader, inSync, func(v *View) { frozen(v); heard(v, "c") },
			"fence=frozen store=anew awaits=b voters=1 -> open(system 7400000000000000001)",
		},
		{
			"synchronous: a voter that has pledged does not count", leader, inSync, func(v *View) { heard(v, "c"); v.State.Pledges[1].Refused = true },
			"store=anew awaits=b voters=0 -> nothing",
		},
		{"synchronous: a change of /sync was on its way", leader, inSync, func(v *View) {
			heard(v, "c")
			v.Memory.Sync.Open, v.Memory.Sync.Over = true, 41
		}, "store=anew awaits=b sync=unsure -> nothing"},
		{
			"another system", leader, nil, func(v *View) { v.Server.Control.System++ },
			"store=anew system=7400000000000000002 foreign(7400000000000000001) -> nothing",
		},
		{"somebody has begun a new cluster in it: its initdb loses", leader, nil, func(v *View) {
			v.State.Initialize = cluster.Initialize{Present: true, Mod: 1<<40 - 5}
			v.State.Claim = &cluster.Claim{Mod: 1<<40 - 5, Leader: "d"}
		}, "store=anew awaits=b awaits=c right=live -> open(system 7400000000000000001)"},
		{"a standby leaves it to its leader", standby, nil, func(v *View) { heard(v, "a", "b") }, "store=anew awaits=a -> nothing"},
		{"and says what it knows", standby, nil, nil, "store=anew awaits=a -> put howdah/pledges/b"},
	} {
		v := tt.base()
		if tt.was != nil {
			tt.was(&v)
		}
		v = anew(v)
		heard(&v, v.Self.Name)
		if strings.Contains(tt.want, "put howdah/pledges/b") {
			v.State.Pledges = nil
		}
		if tt.with != nil {
			tt.with(&v)
		}
		if got := acts(Decide(v)); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// What is put back is what the store knew, under an epoch over the last; and what
// was frozen goes on under it.
func TestWhatIsPutBack(t *testing.T) {
	t.Parallel()
	v := leader()
	inSync(&v)
	v.State.Config = cluster.Config{Mod: 3, Data: map[string]any{"ttl": 30.0}}
	v = anew(v)
	heard(&v, "b", "c")
	var open Open
	d := Decide(v)
	for _, a := range d.Actions {
		if o, ok := a.(Open); ok {
			open = o
		}
	}
	term, err := cluster.ParseTerm([]byte(open.Term))
	if err != nil || term.Over != epoch || term.Leader != "a" || term.Kind != cluster.TermRetaken {
		t.Errorf("term is %+v, %v; want one that goes on from %d", term, err, int64(epoch))
	}
	if open.Config != `{"ttl":30}` {
		t.Errorf("configuration is %s", open.Config)
	}
	for _, key := range []string{`"sync"`, `"history"`, `"howdah/members/c"`} {
		if !strings.Contains(open.Back, key) {
			t.Errorf("%s is not put back: %s", key, open.Back)
		}
	}

	after := v
	after.Before, after.Memory = nil, d.Memory
	after.State = *v.Before
	after.State.Revision = 1<<40 + 9
	after.State.Leader = &cluster.Leader{Name: "a", Lease: 70, Mod: 1<<40 + 9}
	term.Mod = 1<<40 + 9
	after.State.Term = &term
	after.Answer = &Answer{Action: open, Sent: now, OK: true, Revision: 1<<40 + 9}
	after.Server.Process, after.Server.Answers = pg.ProcessFrozen, false
	after.ServerAt = now - 10*time.Millisecond
	if got := Decide(after).String(); !strings.Contains(got, "fence=over -> thaw") {
		t.Errorf("a frozen server does not go on: %s", got)
	}
}
