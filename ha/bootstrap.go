package ha

import (
	"fmt"
	"maps"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// bootstrap is the turn of a member of a cluster that has no database system yet.
//
// One node claims the right to create it; the claim carries that node's lease
// beside it, so a claimant that dies can be followed by another. What an initdb
// made becomes the cluster's system only in the transaction that turns the claim
// into the system identifier and takes the leader key: however many initdbs run,
// one counts.
func (t *turn) bootstrap() {
	s, i := t.Server, t.State.Initialize
	t.note("cluster=new")
	claim := t.State.Claim
	switch {
	case i.Running() && claim != nil && claim.Leader == t.Self.Name && claim.Mod == i.Mod:
		t.found(claim.Mod)
	case i.Running() && claim != nil && claim.Leader != t.Self.Name:
		t.note("awaits=%s", claim.Leader)
	case s.Data == pg.DataPresent && !t.m.Founding:
		// Data from an earlier life: never overwritten, and no basis for a new cluster
		// unless a person says so.
		t.note("data=present")
		if f := t.State.Failover; f.Leader == "" && f.Member == t.Self.Name {
			t.claim(i)
			return
		}
		t.note("awaits=failover --to")
	case len(t.State.Pledges) > 0:
		t.note("awaits=rebuild") // somebody knows of a cluster that this store has lost
	case s.Data == pg.DataUnreadable || s.Process != pg.ProcessNone || t.Stopping:
		t.note("data=%s server=%s", s.Data, s.Process)
	case !t.founds():
		t.note("awaits=%s", t.Self.Founder)
	default:
		t.claim(i)
	}
}

// foundAfter is how long a new cluster waits for the member that is to create
// it, if that does not even show itself.
const foundAfter = 30 * time.Second

// founds says that this node may create the cluster: the one that the inventory
// calls its primary, and others when that stays away. One that is not to lead
// does not begin with it.
func (t *turn) founds() bool {
	switch t.Self.Founder {
	case "", t.Self.Name:
		return true
	}
	if _, live := t.State.Member(t.Self.Founder); live || t.Self.Tags.NoFailover() {
		t.m.Vacant = 0
		return false
	}
	if t.m.Vacant == 0 {
		t.m.Vacant = t.Now
	}
	t.wakeBy(t.m.Vacant + foundAfter)
	return t.Now >= t.m.Vacant+foundAfter
}

func (t *turn) claim(i cluster.Initialize) {
	if t.m.Lease.Sent == 0 || t.m.Lease.ID == 0 {
		t.note("lease=none")
		return
	}
	if t.unwatched() {
		return
	}
	t.ask(Found{Lease: t.m.Lease.ID, Over: i.Mod})
}

// found is the claimant's way: initdb (or a copy of whom it is to follow), then the transaction that counts.
func (t *turn) found(claim int64) {
	s := t.Server
	t.note("claim=mine")
	t.m.Founding = true
	switch {
	case s.Process == pg.ProcessFrozen:
		t.work(Kill{}) // silenced at its deadline: it hears of no shutdown
	case s.Process != pg.ProcessNone:
		t.work(Stop{})
	case s.Data != pg.DataPresent:
		t.create()
	case s.Control.System == 0:
		t.note("system=unknown")
	default:
		t.begin(cluster.KindBootstrap, "", "a new cluster")
		a := Open{
			Lease: t.m.Lease.ID, Claim: claim, System: s.Control.System,
			Config: t.firstConfig(), Term: t.term(cluster.KindBootstrap),
		}
		if t.State.Config.Data != nil {
			a.Config = t.State.Config.Encode() // all that was left, or put back, of a store
		}
		if t.anew() { // a person decided who goes on
			a.Config, a.Back = t.Before.Config.Encode(), putBack(t.Before, cluster.Sync{})
		}
		t.ask(a)
	}
}

// firstConfig is the dynamic configuration a new cluster starts with: Patroni's
// own defaults, which its tools read, and over them what the inventory says.
func (t *turn) firstConfig() string { return t.begins().Encode() }

func (t *turn) begins() cluster.Config {
	data := map[string]any{"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": t.Timers.MaxLag}
	maps.Copy(data, t.Self.Config)
	if s := &t.Server; s.Data == pg.DataPresent && !s.Standby && s.Control.WasPrimary() {
		delete(data, "standby_cluster") // data of an earlier life that wrote: they follow nobody
	}
	return cluster.Config{Data: data}
}

// foreign stops a node whose data belongs to another cluster (S6).
func (t *turn) foreign() bool {
	own, theirs := t.Server.Control.System, t.State.Initialize.System
	if t.Server.Data != pg.DataPresent || own == 0 || theirs == 0 || own == theirs {
		return false
	}
	t.note("system=%s foreign(%s)", own, theirs)
	if !t.m.Founding {
		t.problems = append(t.problems, problem.Error{
			Code: "datadir-foreign", What: t.Self.Name + " cannot join its cluster",
			Why: fmt.Sprintf("its data directory holds the database system %s, and the cluster's is %s", own, theirs),
			Do:  "put the right data directory back, or move this one away: then a fresh copy is taken; nothing was touched",
		})
	}
	if t.m.Founding && t.Server.Process == pg.ProcessNone {
		// Our own initdb, which lost the race: nothing was ever in it.
		t.work(MoveAside{})
		return true
	}
	if t.Server.MayWrite() {
		t.work(Stop{})
	}
	return true
}
