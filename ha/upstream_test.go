package ha

import (
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// asks is a dynamic configuration that has the cluster follow another one.
func asks(section map[string]any) cluster.Config {
	return cluster.Config{Mod: 5, Data: map[string]any{"ttl": 30.0, "standby_cluster": section}}
}

var elsewhere = map[string]any{"host": "10.9.9.9", "port": 5433.0, "primary_slot_name": "far"}

// tapping is a view of a, which leads a standby cluster and is well.
func tapping() View {
	v := leader()
	v.State.Config = asks(elsewhere)
	v.State.Term.Standby, v.Memory.Standby = true, true
	v.State.Members[0] = member("a", cluster.RoleStandbyLeader, lease)
	s := standby().Server
	s.Upstream, s.Slot, s.Slots, s.Replicas, s.History = "10.9.9.9:5433", "far", v.Server.Slots, v.Server.Replicas, v.Server.History
	v.Server = s
	v.Memory.Under, v.Memory.Upstream = 0, pg.Upstream{
		Name: "10.9.9.9:5433", Host: "10.9.9.9", Port: 5433, Slot: "far", Foreign: true, Epoch: 30,
	}
	return v
}

// behindTap is a view of b, which follows the leader of a standby cluster.
func behindTap() View {
	v := standby()
	w := tapping()
	v.State = w.State
	v.State.Members[0].ReplicationState = cluster.ReplicationStreaming
	return v
}

func TestStandbyLeader(t *testing.T) {
	said := "leader=self cluster=standby "
	silent := func(v *View) {
		v.Server.Streaming = false
		v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Stuck: now - stuckAfter}
	}
	check(t, []row{
		{"it rests, and is not promoted", tapping, nil, said + "server=standby -> nothing"},
		{"its renewal is due", tapping, func(v *View) { v.Memory.LastLock = now - time.Second }, said + "server=standby -> renew(epoch 40)"},
		{"it follows somebody else", tapping, func(v *View) { v.Server.Upstream = "10.0.0.c:5432" }, said + "server=standby upstream=10.0.0.c:5432 -> follow(10.9.9.9:5433)"},
		{"a new agent says once whom to follow, for it does not know by how far behind", tapping, func(v *View) { v.Memory.Upstream = pg.Upstream{} }, said + "server=standby upstream=10.9.9.9:5433 -> follow(10.9.9.9:5433)"},
		{"the others stream from it", tapping, func(v *View) { v.Server.Slots = []string{"b"} }, said + "server=standby slots=missing -> slots(b,c)"},
		{"nothing comes", tapping, silent, said + "server=standby streaming=no -> nothing"},
		{"a configuration that names no server", tapping, func(v *View) { v.State.Config = asks(map[string]any{"port": 1.0}) }, said + "upstream=unknown server=standby -> nothing"},
		{"it does not run", tapping, func(v *View) { down(&v.Server) }, said + "server=down -> start(standby of 10.9.9.9:5433)"},
		{"and can not be started: somebody else may", tapping, func(v *View) {
			down(&v.Server)
			v.Memory.Failed = Failed{What: "start(standby of 10.9.9.9:5433)", Code: "x", Times: startsInPlace, Until: now + time.Second}
		}, said + "server=down start=failed(x) -> release(epoch 40)"},
		{"its disk is lost: whoever has the data", tapping, func(v *View) { down(&v.Server); v.Server.Data = pg.DataMissing }, said + "server=down data=missing -> release(epoch 40)"},
		{"nobody else has them", tapping, func(v *View) {
			down(&v.Server)
			v.Server.Data, v.State.Recorded, v.State.Members = pg.DataMissing, v.State.Recorded[:1], v.State.Members[:1]
		}, said + "server=down data=missing -> clone(10.9.9.9:5433)"},
		{"promoted by hand: left to a person", tapping, func(v *View) { v.Server = leader().Server }, said + "server=primary -> nothing"},
		{"and shut down then", tapping, func(v *View) {
			v.Server = leader().Server
			down(&v.Server)
		}, said + "server=down data=primary -> nothing"},
		{"a fresh copy is asked for", tapping, func(v *View) { v.Memory.Reinit.Asked = true }, said + "reinit=asked -> kill"},
		{"which comes from the other cluster", tapping, func(v *View) {
			down(&v.Server)
			v.Memory.Reinit = Reinit{Asked: true, Begun: true}
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Aside: true}
		}, said + "reinit=asked server=down copy=fresh -> move aside"},
		{"a server that is silent is waited for", tapping, func(v *View) { v.Server.Answers = false }, said + "server=silent -> nothing"},
		{"one that starts too, whatever it takes", tapping, func(v *View) {
			v.Server.Process, v.Server.Answers = pg.ProcessStarting, false
			v.Job = Job{Action: Start{Standby: true, Up: v.Memory.Upstream}, Since: now - 10*time.Minute}
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch}
		}, "job=start -> nothing"},
		{"its right has ended: nobody is frozen for that", tapping, func(v *View) { v.Memory.Right.Sent = now - time.Minute }, "leader=self(unconfirmed) -> nothing"},
	})
	v := tapping()
	v.Memory.LastLock = now - time.Second
	d := Decide(v)
	if i := slices.IndexFunc(d.Actions, func(a Action) bool { r, ok := a.(Renew); return ok && r.Status != "" }); i < 0 {
		t.Errorf("its position is not published: %v", d.Actions)
	}
	if d.Page != (Page{}) {
		t.Errorf("the page of a leader who must not write: %+v", d.Page)
	}
	if m := Show(v, d).Member; m.Role != cluster.RoleStandbyLeader || m.ReplicationState != cluster.ReplicationStreaming {
		t.Errorf("published as %s, %s", m.Role, m.ReplicationState)
	}
	v = tapping()
	v.Server = leader().Server // by hand
	if d := Decide(v); !d.Page.Primary || d.Page.Deadline == 0 {
		t.Errorf("whoever writes is guarded, however he came to it: %+v", d.Page)
	}
	v = tapping()
	silent(&v)
	if codes := problemCodes(v); !slices.Equal(codes, []string{"standby-cut"}) {
		t.Errorf("nothing comes, and a person hears %v", codes)
	}
}

// problemCodes are those that a decision tells a person of.
func problemCodes(v View) (codes []string) {
	v.Memory.Told = 0
	for _, a := range Decide(v).Actions {
		if p, ok := a.(Put); ok && strings.HasPrefix(p.Key, cluster.DirWhy) {
			w, _ := cluster.ParseWhy("a", []byte(p.Value))
			for _, p := range w.Problems {
				codes = append(codes, p.Code)
			}
		}
	}
	return codes
}

// The whole is promoted by a person's word, seen in the configuration itself.
func TestLift(t *testing.T) {
	said := "leader=self cluster=standby "
	gone := func(v *View) { v.State.Config.Data = map[string]any{"ttl": 30.0} }
	inherited := func(v *View) { v.Memory.Taken, v.Memory.Standby = 0, false }
	unreadable := func(v *View) {
		v.State.Config = cluster.Config{Mod: 5}
		v.State.Problems = append(v.State.Problems, cluster.Problem{Key: cluster.KeyConfig, Why: "no JSON"})
	}
	check(t, []row{
		{"the section is gone", tapping, gone, said + "promotion=asked -> lift(epoch 40, config 5)"},
		{"it is null", tapping, func(v *View) { v.State.Config = asks(nil) }, said + "promotion=asked -> lift(epoch 40, config 5)"},
		{"for an agent that came after too", tapping, func(v *View) { gone(v); inherited(v) }, said + "promotion=asked -> lift(epoch 40, config 5)"},
		{"the configuration can not be read", tapping, unreadable, said + "config=unknown server=standby -> nothing"},
		{"nor by an agent that came after", tapping, func(v *View) { unreadable(v); inherited(v) }, said + "config=unknown server=standby -> nothing"},
		{"there is none", tapping, func(v *View) { v.State.Config = cluster.Config{} }, said + "config=unknown server=standby -> nothing"},
		{"maintenance", tapping, func(v *View) { v.State.Config.Data = map[string]any{"pause": true} }, "paused -> nothing"},
		{"not with a moment of its right left", tapping, func(v *View) { gone(v); v.Memory.Right.Sent = now - 4*time.Second }, said + "promotion=asked right=short -> nothing"},
		{"what was put is not seen yet", tapping, func(v *View) { gone(v); v.Memory.Wrote = 60 }, said + "store=behind -> nothing"},
		{"lifted: the store still shows the term before", tapping, func(v *View) {
			gone(v)
			v.Memory.Right.Epoch, v.Memory.Taken, v.Memory.Standby, v.Memory.Reserved = 60, 60, false, 3
		}, "leader=self server=standby -> promote"},
		{"lifted: another agent goes on", tapping, func(v *View) {
			gone(v)
			inherited(v)
			v.State.Term.Standby = false
		}, "leader=self server=standby -> promote"},
		{"lifted, and asked for again: it goes on", tapping, func(v *View) {
			inherited(v)
			v.State.Term.Standby = false
		}, "leader=self server=standby -> promote"},
		{"the term can not be read: the configuration", tapping, func(v *View) {
			inherited(v)
			v.State.Term.Standby, v.State.Problems = false, []cluster.Problem{{Key: cluster.KeyTerm}}
		}, said + "server=standby -> nothing"},
		{"neither can: nobody knows", tapping, func(v *View) {
			inherited(v)
			unreadable(v)
			v.State.Term.Standby = false
			v.State.Problems = append(v.State.Problems, cluster.Problem{Key: cluster.KeyTerm})
		}, "leader=self server=standby cluster=unknown -> nothing"},
		{"a leader of Patroni's before: the configuration", tapping, func(v *View) {
			inherited(v)
			v.State.Term = nil
			v.Memory.Upstream.Epoch = 7
		}, said + "server=standby -> nothing"},
	})
	v := tapping()
	gone(&v)
	for _, a := range Decide(v).Actions {
		if lift, ok := a.(Lift); ok {
			if term := termOf(lift); term.Standby || term.Reserved != 3 || term.Kind != cluster.KindPromotion || term.Leader != "a" {
				t.Errorf("the term that a promotion begins with: %+v", term)
			}
		}
	}
	// Its answer, by which the next turn goes before the watch tells of it.
	v.Answer = &Answer{Action: Lift{Term: (cluster.Term{Leader: "a", Reserved: 3}).Encode()}, OK: true, Revision: 60, Sent: now}
	v.Memory.Standby = true
	d := Decide(v)
	if got := acts(d); got != "leader=self server=standby -> promote" {
		t.Errorf("after the answer: %s", got)
	}
	if i := slices.IndexFunc(d.Actions, func(a Action) bool { p, ok := a.(Promote); return ok && p.Timeline == 3 }); i < 0 || !d.Page.Primary {
		t.Errorf("promoted to %v, page %+v", d.Actions, d.Page)
	}
}

// A cluster that is to follow another one leads until it has been turned (lower.go), and loses nothing by being asked.
func TestToBeDemoted(t *testing.T) {
	asked := func(v *View) {
		v.State.Config = asks(elsewhere)
	}
	check(t, []row{
		{"a standby that was elected is promoted", leader, func(v *View) { asked(v); v.Server = standby().Server }, "leader=self server=standby -> promote"},
		{"a crashed one is started", leader, func(v *View) {
			asked(v)
			down(&v.Server)
			v.Memory.Crash = Crash{At: now, Measured: true, End: 1000, Offered: true}
			v.Memory.Offer = Offer{Closed: true}
		}, "leader=self server=down -> start(primary)"},
	})
	v := leader()
	asked(&v)
	v.State.Config.Data["synchronous_mode"] = "quorum"
	if tt := (&turn{View: v, m: v.Memory}); !tt.synchronous() {
		t.Error("commits would wait for nobody any more")
	}
	v.State.Term.Standby, v.Memory.Standby = true, true
	if tt := (&turn{View: v, m: v.Memory}); tt.synchronous() {
		t.Error("a standby cluster waits for standbys")
	}
}

// The others stream from the standby leader, and one of them takes its seat.
func TestStandbySeat(t *testing.T) {
	lost := func() View {
		v := behindTap()
		v.State.Leader, v.Server.Streaming = nil, false
		v.State.Members = v.State.Members[1:]
		pledged(&v, cluster.Pledge{Member: "b", LSN: 1000, Witness: true}, cluster.Pledge{Member: "c", LSN: 900, Witness: true})
		v.Memory.Vacancy.Witness = true
		return v
	}
	check(t, []row{
		{"a follower rests", behindTap, nil, "leader=a server=standby -> nothing"},
		{"whose data are missing copies from the standby leader", behindTap, func(v *View) { down(&v.Server); v.Server.Data = pg.DataMissing }, "leader=a data=missing -> clone(a)"},
		{"once that one streams", behindTap, func(v *View) {
			down(&v.Server)
			v.Server.Data, v.State.Members[0].ReplicationState = pg.DataMissing, ""
		}, "leader=a data=missing awaits=a -> nothing"},
		{"nothing comes, nor there: nobody is stuck", behindTap, func(v *View) {
			v.Server.Streaming, v.State.Members[0].ReplicationState = false, ""
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Stuck: now - time.Hour}
		}, "leader=a server=standby streaming=no -> nothing"},
		{"a primary's data are copied anew: a standby is none to rewind to", behindTap, func(v *View) {
			down(&v.Server)
			v.Server.Standby, v.Server.Control = false, leader().Server.Control
			v.Server.Control.Timeline = 1
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true, End: 600}
		}, "leader=a copy=needed -> nothing"},
		{"it takes the seat", lost, nil, "leader=none after=40 rank=0 -> acquire(after 40)"},
		{"with commits promised to nobody", lost, func(v *View) { v.State.Config.Data["synchronous_mode"] = "quorum" }, "leader=none after=40 rank=0 -> acquire(after 40)"},
		{"but of a cluster that nobody knows", lost, func(v *View) {
			v.State.Problems = []cluster.Problem{{Key: cluster.KeyTerm}, {Key: cluster.KeyConfig}}
		}, "cluster=unknown -> nothing"},
		{"and turns to the other cluster", tapping, func(v *View) {
			v.Server.Upstream, v.Server.Slot, v.Memory.Upstream = "10.0.0.c:5432", "a", pg.Upstream{Name: "c"}
		}, "leader=self cluster=standby server=standby upstream=10.0.0.c:5432 -> follow(10.9.9.9:5433)"},
		{"a switchover is asked for: the seat is offered, and nothing stops", tapping, func(v *View) {
			v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "b"}
		}, "leader=self cluster=standby server=standby switchover=b offer=made -> put howdah/handover"},
		{"to one that is there", tapping, func(v *View) { v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "x"} }, "leader=self cluster=standby server=standby switchover=refused(no-candidate) -> put failover"},
		{"it was not taken", tapping, func(v *View) {
			v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "b"}
			v.Memory.Switch, v.Memory.Offer = Switch{Key: 48, To: "b"}, Offer{Closed: true}
		}, "leader=self cluster=standby server=standby handover=refused -> put failover"},
		{"the agent is to end: the seat is offered first", tapping, func(v *View) { v.Stopping = true }, "stopping leader=self cluster=standby server=standby switchover=b offer=made -> put howdah/handover"},
		{"to nobody: the server is stopped first", tapping, func(v *View) { v.Stopping, v.Server.Replicas, v.State.Members = true, nil, v.State.Members[:1] }, "stopping leader=self cluster=standby server=standby candidate=none -> stop"},
		{"and then it is let go", tapping, func(v *View) {
			v.Stopping = true
			v.Memory.Switch = Switch{Key: -1, Stopped: true}
			down(&v.Server)
		}, "stopping -> release(epoch 40)"},
		{"the one that it was offered to takes it", behindTap, func(v *View) {
			v.State.Handover = &cluster.Handover{Mod: 49, From: "a", To: "b", Epoch: epoch, Timeline: 2, LSN: 1000}
		}, "leader=a server=standby handover=mine -> take(epoch 40, handover 49)"},
	})
	for _, base := range []func() View{lost, func() View {
		v := behindTap()
		v.State.Handover = &cluster.Handover{Mod: 49, From: "a", To: "b", Epoch: epoch, Timeline: 2, LSN: 1000}
		return v
	}} {
		// Also where the configuration was emptied meanwhile: only Lift says so.
		for _, c := range []cluster.Config{asks(elsewhere), {Mod: 6, Data: map[string]any{"ttl": 30.0}}, {}} {
			v := base()
			v.State.Config = c
			found := false
			for _, a := range Decide(v).Actions {
				if term := termOf(a); term.Leader != "" {
					found = true
					if !term.Standby || term.Reserved > 2 {
						t.Errorf("%s: the term that begins with the seat: %+v", a, term)
					}
				}
			}
			if !found {
				t.Errorf("nobody takes the seat: %s", Decide(v))
			}
		}
	}
}

// A new cluster begins as a copy of the one that it is to follow.
func TestStandbyBootstrap(t *testing.T) {
	claimed := func() View {
		v := leader()
		v.State = cluster.State{
			Revision: 50, Initialize: cluster.Initialize{Present: true, Mod: 45}, Claim: &cluster.Claim{Mod: 45, Leader: "a"},
		}
		v.Self.Config = map[string]any{"standby_cluster": elsewhere, "synchronous_mode": "quorum"}
		v.Server = pg.Status{Data: pg.DataMissing, Process: pg.ProcessNone}
		v.Memory.Right, v.Memory.Taken, v.Memory.Under, v.Memory.Founding = Right{}, 0, 0, true
		return v
	}
	copied := func(v *View) {
		v.Server.Data, v.Server.Standby, v.Server.Copied = pg.DataPresent, true, true
		v.Server.Control = pg.Control{State: pg.ControlInProduction, System: system, Timeline: 4, Checkpoint: 900}
	}
	check(t, []row{
		{"a copy", claimed, nil, "cluster=new claim=mine upstream=10.9.9.9:5433 -> clone(10.9.9.9:5433)"},
		{"of nobody, who is named badly", claimed, func(v *View) { v.Self.Config = map[string]any{"standby_cluster": map[string]any{"port": 5432.0}} }, "cluster=new claim=mine upstream=unknown -> nothing"},
		{"it is waited for", claimed, func(v *View) {
			v.Memory.Failed = Failed{What: "clone(10.9.9.9:5433)", Code: "x", Times: 1, Until: now + time.Second}
		}, "cluster=new claim=mine upstream=10.9.9.9:5433 clone=failed(x) -> nothing"},
		{"and is the cluster's then", claimed, copied, "cluster=new claim=mine -> open(system 7400000000000000001)"},
		{"an ordinary one is made", claimed, func(v *View) { v.Self.Config = nil }, "cluster=new claim=mine -> initdb"},
	})
	v := claimed()
	copied(&v)
	for _, a := range Decide(v).Actions {
		open, ok := a.(Open)
		if !ok {
			continue
		}
		if term := termOf(open); !term.Standby || term.Reserved != 0 || term.Timeline != 4 {
			t.Errorf("the first term: %+v", term)
		}
		if c, err := cluster.ParseConfig([]byte(open.Config)); err != nil || !c.StandbyCluster() {
			t.Errorf("the first configuration: %s", open.Config)
		}
	}
}
