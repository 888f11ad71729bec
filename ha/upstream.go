package ha

import (
	"slices"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// A standby cluster follows another cluster, of ours or of anybody's, and nobody in it
// writes (the section standby_cluster of the dynamic configuration, as Patroni has it).
//
// The story: the member that holds the leader key streams from the other cluster, and
// the others stream from it; its key is a seat, and no right to write: no page, no
// guard and no deadline go with it. Who is elected takes the seat and turns to the other
// cluster; nobody is promoted, no timeline begins, and nothing is promised to clients.
//
// That a cluster is such a one is said by its term, and goes from term to term with the
// key. The configuration is what a person wants, and may be lost, late or unreadable:
// by its absence nobody is promoted. Once it is seen not to ask for another cluster, the
// leader turns the term, in one transaction over its own epoch and over that very
// configuration (Lift); from there on it holds the key of an ordinary cluster, with a
// timeline reserved, and goes the way of everybody who does.
//
// The other way round: lower.go.

// standbyCluster says that the cluster follows another one: by the term that this node
// began itself, which the store may not show yet, else as the store has it.
func (t *turn) standbyCluster() bool {
	if t.m.Taken != 0 && t.m.Taken == t.m.Right.Epoch {
		return t.m.Standby
	}
	return t.State.Standby()
}

// follows says that the cluster follows another one in the term that begins.
func (t *turn) follows(kind string) bool {
	switch kind {
	case cluster.KindBootstrap:
		return t.begins().StandbyCluster()
	case cluster.KindPromotion:
		return false
	case cluster.KindDemotion:
		return true
	}
	return t.standbyCluster()
}

// unsure says that nobody can tell whether the cluster follows another one: neither
// what the last term said nor what is wanted can be read. Until then nobody is promoted.
func (t *turn) unsure() bool {
	if !t.State.Unknown(cluster.KeyTerm) || !t.State.Unknown(cluster.KeyConfig) {
		return false
	}
	t.note("cluster=unknown")
	return true
}

// create makes the data of a new cluster, or takes them from the one that it is to follow.
func (t *turn) create() {
	c := t.begins()
	if !c.StandbyCluster() {
		t.work(Initdb{})
		return
	}
	if up, ok := t.remote(c); ok {
		t.note("upstream=%s", up.Name)
		t.work(Clone{From: up})
	}
}

// remote is the server of the other cluster that c names; false: it can not be
// followed as it is written, and a person is told.
func (t *turn) remote(c cluster.Config) (pg.Upstream, bool) {
	u, err := c.Upstream()
	if err != nil {
		t.problems = append(t.problems, problem.Error{
			Code: "standby-cluster", What: t.Self.Name + " does not follow the other cluster as the dynamic configuration says", Why: err.Error(),
			Do: "correct standby_cluster (`howdah edit-config`)",
		})
	}
	if u.Host == "" {
		t.note("upstream=unknown")
		return pg.Upstream{}, false
	}
	up := pg.Upstream{Host: u.Host, Port: u.Port, Slot: u.Slot, Delay: u.Delay, Foreign: true, Epoch: t.State.Epoch()}
	up.Name = up.Addr()
	return up, true
}

// leadStandby is the turn of the leader of a standby cluster.
func (t *turn) leadStandby() {
	t.note("cluster=standby")
	t.m.Vacancy, t.m.Crash = Vacancy{}, Crash{}
	s, c := &t.Server, t.State.Config
	var up pg.Upstream
	known := false
	switch {
	case t.State.Unknown(cluster.KeyConfig) || c.Data == nil:
		t.note("config=unknown") // the server goes on as it is
	case c.StandbyCluster():
		up, known = t.remote(c)
	case t.lift():
		return
	}
	if epoch := t.State.Epoch(); t.m.Rejoin.Leader != t.Self.Name || t.m.Rejoin.Epoch != epoch {
		t.m.Rejoin = Rejoin{Leader: t.Self.Name, Epoch: epoch}
	}
	if t.reinit() {
		return
	}
	switch s.Process {
	case pg.ProcessFrozen:
		t.thaw() // promoted by hand, and silenced with the lease
	case pg.ProcessNone:
		t.standbyDown(up, known)
	case pg.ProcessStarting, pg.ProcessStopping:
		t.note("server=%s", s.Process)
		if t.Stopping && s.Process == pg.ProcessStarting {
			t.work(Stop{})
		}
		t.lookBy(t.ServerAt + soon)
	case pg.ProcessRunning:
		switch {
		case !s.Answers:
			t.note("server=silent")
			if t.Stopping {
				t.work(Stop{})
			}
			t.lookBy(t.ServerAt + soon)
		case !s.Recovering:
			t.promotedByHand()
		default:
			t.note("server=standby")
			if !t.pass() && !t.asked() && !t.configure() && !t.arm() {
				t.tap(up, known)
			}
		}
	}
}

// lift ends the cluster's being a standby one, as the configuration wants. What was
// received is replayed by the promotion that follows.
func (t *turn) lift() bool {
	s, c := &t.Server, t.State.Config
	switch {
	case c.Pause():
		t.note("promotion=paused")
		return false
	case t.Stopping || s.Data != pg.DataPresent || t.m.Reinit.Asked:
		return false
	case t.State.Revision < max(t.m.Wrote, t.m.Right.Epoch):
		t.note("store=behind") // the timelines of the others may be too
		return true
	}
	t.note("promotion=asked")
	t.begin(cluster.KindPromotion, "", "the configuration asks for no other cluster to follow")
	if t.room() && t.lockDue(t.Timers.Renew/4) {
		t.ask(Lift{Lease: t.m.Lease.ID, Epoch: t.m.Right.Epoch, Config: c.Mod, Term: t.term(cluster.KindPromotion)})
	}
	return true
}

// standbyDown brings the standby leader's server back behind the other cluster.
func (t *turn) standbyDown(up pg.Upstream, known bool) {
	s := &t.Server
	r := &t.m.Rejoin
	t.note("server=down")
	switch {
	case t.Stopping:
		t.release()
	case r.Aside:
		t.note("copy=fresh")
		t.work(MoveAside{})
	case s.Data != pg.DataPresent:
		t.note("data=%s", s.Data)
		others := slices.ContainsFunc(t.State.Recorded, func(m cluster.Recorded) bool { return m.Name != t.Self.Name })
		switch {
		case others:
			t.release() // they have the data, and this one copies from whoever leads
		case known:
			t.work(Clone{From: up})
		}
	case !s.Standby && s.Control.WasPrimary():
		t.note("data=primary")
		t.joins(up, known)
	case known:
		t.startBehind(up)
	}
}

// startBehind starts the server as a standby of the other cluster; whoever can, if it does not start.
func (t *turn) startBehind(up pg.Upstream) {
	a := Start{Standby: true, Up: up}
	switch failing := t.failing(a); {
	case failing && t.m.Failed.Times >= startsInPlace:
		t.release()
	case !failing:
		t.work(a)
	}
}

// joins has a server that was a primary follow the other cluster if that has all of its log, as after
// the cluster was turned (lower.go).
func (t *turn) joins(up pg.Upstream, known bool) {
	l := &t.m.Lower
	if known && t.Server.Control.State == pg.ControlShutDown {
		if l.has(t.Server.Control) {
			t.startBehind(up)
			return
		}
		t.meet(up, time.Second)
		if l.Asked == 0 || l.Err != "" {
			return // nobody knows
		}
	}
	t.parted("its data are of a server that was promoted by hand, or that led a cluster of its own, and " + up.Name + " has not all of its log")
}

// promotedByHand is the leader of a standby cluster whose server takes writes all the
// same. Nobody is led there, and it is left to a person: the other cluster may be lost,
// and this all that there is.
func (t *turn) promotedByHand() {
	t.note("server=primary")
	if t.Stopping {
		t.work(Stop{})
		return
	}
	t.parted("its server was promoted, and not by its agent")
}

// parted tells a person that this server can not follow the other cluster any more.
func (t *turn) parted(why string) {
	t.problems = append(t.problems, problem.Error{
		Code: "standby-parted", What: t.Self.Name + " leads a standby cluster and can not follow the other one", Why: why,
		Do: "take a fresh copy of the other cluster (`howdah reinit`; what is here is kept aside), or let this one go its own way (`howdah edit-config --set standby_cluster=null`)",
	})
}

// tap keeps the running standby leader on the other cluster, and the others' slots here.
func (t *turn) tap(up pg.Upstream, known bool) {
	s := &t.Server
	r := &t.m.Rejoin
	last := t.m.Upstream
	last.Epoch = up.Epoch
	if known && (s.Upstream != up.Addr() || s.Slot != up.Slot || last != up) {
		t.note("upstream=%s", s.Upstream)
		t.work(Follow{Up: up})
		return
	}
	if t.slots() {
		return
	}
	if s.Streaming {
		r.Stuck = 0
		t.m.Streamed = Streamed{t.State.Epoch(), s.PID}
		t.m.Story = Story{} // nobody waited for it: a change of standby leader has no page
		t.history()
		t.whole()
		return
	}
	t.note("streaming=no")
	t.lookBy(t.ServerAt + 10*soon)
	if r.Stuck == 0 {
		r.Stuck = t.Now
	}
	if known && t.Now-r.Stuck >= stuckAfter {
		t.problems = append(t.problems, problem.Error{
			Code: "standby-cut", What: t.Self.Name + " receives nothing from the cluster that it follows, " + up.Name,
			Why: "nothing answers there, it is no server of the same system, it lets the role replicator not in, or it has removed the log that is needed here, or has left its timeline; " +
				"postgresql.log of " + t.Self.Name + " says which",
			Do: "bring it back, or name another server there (`howdah edit-config --set standby_cluster.host=ADDRESS`); if its log is gone or another, take a fresh copy (`howdah reinit`)",
		})
	}
}

// pass gives the key of a standby cluster to another member, when a person asks or this
// agent is to end. Nobody writes here, so nothing has to stop for it: whoever takes the
// key turns to the other cluster, and this server to its successor.
func (t *turn) pass() bool {
	f := t.State.Failover
	sw := &t.m.Switch
	asked := f.Mod
	switch {
	case t.Stopping:
		asked = -1
	case !f.Asked():
		*sw = Switch{}
		return t.withdraw()
	}
	if t.m.Offer.Closed {
		t.m.Offer = Offer{}
		t.note("handover=refused")
		if !t.Stopping {
			t.clearFailover()
			return true
		}
		*sw = Switch{Key: asked, Since: t.Now, Stopped: true}
	}
	if sw.Key != asked {
		*sw = Switch{Key: asked, Since: t.Now}
	}
	if sw.Stopped {
		t.work(Stop{}) // then the key is let go
		return true
	}
	if t.scheduled(f) {
		return false
	}
	to, why := t.candidate(f)
	late := t.Now - sw.Since
	switch {
	case to.Name == "" && t.Stopping && (why != waits || late > handoverFor):
		t.note("candidate=none")
		*sw = Switch{Key: asked, Since: sw.Since, Stopped: true}
		t.work(Stop{})
	case to.Name == "" && (why != waits || late > switchFor/3):
		t.note("switchover=refused(%s)", why)
		t.clearFailover()
	case to.Name == "":
		t.note("candidate=awaited")
		t.lookBy(t.ServerAt + 5*soon)
	default:
		t.note("switchover=%s", to.Name)
		sw.To = to.Name
		t.begin(t.switchKind(), t.Self.Name, "asked for")
		t.offer(to.Name, to.Flushed, handoverFor)
	}
	return true
}

// undemoted tells a person that this cluster goes on writing, though it is to follow another one.
func (t *turn) undemoted() {
	if why := t.m.Lower.Why; why != "" && t.State.Config.StandbyCluster() {
		t.problems = append(t.problems, problem.Error{
			Code: "standby-demotion", What: t.Self.Name + " goes on leading, and does not follow the other cluster as standby_cluster says", Why: why,
			Do: "have the other cluster follow this one first (`pg_upstream` in its inventory); or take standby_cluster out again (`howdah edit-config --set standby_cluster=null`)",
		})
	}
}
