package ha

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/spec"
)

const (
	now    = 100 * time.Second // boot clock of every view
	epoch  = 40                // of the leader's reign
	lease  = 7                 // node a's lease
	system = pg.SystemID(7400000000000000001)
)

func member(name, role string, lease int64) cluster.Member {
	return cluster.Member{
		Name: name, Lease: lease, Mod: 30, State: cluster.StateRunning, Role: role, Timeline: 2, XlogLocation: 1000,
		ConnURL: "postgres://10.0.0." + name + ":5432/postgres",
	}
}

// leader is a view of a, which leads b and c and is well.
func leader() View {
	return View{
		Now: now, Wall: time.Unix(1_800_000_000, 0).UTC(), Timers: spec.Safe(),
		Self:  Self{Name: "a", Host: "10.0.0.a", Port: 5432, ConnURL: "postgres://10.0.0.a:5432/postgres"},
		Known: true,
		State: cluster.State{
			Revision:   50,
			Initialize: cluster.Initialize{Present: true, System: system, Mod: 2},
			Leader:     &cluster.Leader{Name: "a", Lease: lease, Mod: epoch},
			Term:       &cluster.Term{Mod: epoch, Leader: "a", Timeline: 2},
			History:    cluster.History{{Timeline: 1, LSN: 500, At: "2026-11-20T12:00:00+00:00", Leader: "a"}},
			Members:    []cluster.Member{member("a", cluster.RolePrimary, lease), member("b", cluster.RoleReplica, 8), member("c", cluster.RoleReplica, 9)},
			Recorded:   []cluster.Recorded{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		},
		Server: pg.Status{
			Data: pg.DataPresent, Process: pg.ProcessRunning, PID: 11, Answers: true, Timeline: 2, Flushed: 1000,
			Control: pg.Control{State: pg.ControlInProduction, System: system, Timeline: 2, Checkpoint: 900},
			Slots:   []string{"b", "c"}, History: pg.History{{Timeline: 1, At: 500}},
			Replicas: []pg.Replica{{Name: "b", State: "streaming", Flushed: 1000}, {Name: "c", State: "streaming", Flushed: 990}},
		},
		ServerAt: now - 100*time.Millisecond,
		Memory: Memory{
			Lease: Lease{ID: lease, TTL: 5 * time.Second, Sent: now - 500*time.Millisecond},
			Right: Right{Epoch: epoch, Sent: now - 500*time.Millisecond, TTL: 5 * time.Second},
			Taken: epoch, Under: epoch, LastLock: now - 500*time.Millisecond, LastNote: now, Told: now,
		},
	}
}

// standby is a view of b, which follows a and is well.
func standby() View {
	v := leader()
	v.Self = Self{Name: "b", Host: "10.0.0.b", Port: 5432, ConnURL: "postgres://10.0.0.b:5432/postgres"}
	v.Server = pg.Status{
		Data: pg.DataPresent, Process: pg.ProcessRunning, PID: 12, Standby: true, Answers: true, Recovering: true,
		Timeline: 2, Flushed: 1000, Replayed: 1000, Streaming: true, Upstream: "10.0.0.a:5432", Slot: "b",
		Control: pg.Control{State: pg.ControlInArchiveRecovery, System: system, Timeline: 2, MinEnd: 1000, MinEndTL: 2},
	}
	v.Memory.Lease.ID, v.Memory.Right, v.Memory.Under, v.Memory.Streamed = 8, Right{}, 0, Streamed{epoch, 12}
	return v
}

// vacant is a view of b after the key of a has gone.
func vacant() View {
	v := standby()
	v.State.Leader = nil
	v.Server.Streaming = false
	v.State.Members = v.State.Members[1:]
	return v
}

// pledged adds the positions of members to a vacancy.
func pledged(v *View, positions ...cluster.Pledge) {
	for _, p := range positions {
		p.Epoch = epoch
		if p.Timeline == 0 {
			p.Timeline = 2
		}
		v.State.Pledges = append(v.State.Pledges, p)
	}
	v.Memory.Vacancy = Vacancy{Open: true, After: epoch, Since: now - 200*time.Millisecond}
}

func down(s *pg.Status) {
	*s = pg.Status{Data: s.Data, Process: pg.ProcessNone, Control: s.Control, Standby: s.Standby}
}

// acts is the decision without what is merely published.
func acts(d Decision) string {
	trimmed := Decision{Trail: d.Trail}
	for _, a := range d.Actions {
		switch p := a.(type) {
		case Put:
			if strings.HasPrefix(p.Key, cluster.DirMembers) || strings.HasPrefix(p.Key, cluster.DirWhy) || p.Key == cluster.KeyFailsafe {
				continue
			}
		}
		trimmed.Actions = append(trimmed.Actions, a)
	}
	return trimmed.String()
}

type row struct {
	name string
	base func() View
	with func(*View) // how this case differs from the base
	want string
}

func check(t *testing.T, rows []row) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.base()
			if tt.with != nil {
				tt.with(&v)
			}
			if got := acts(Decide(v)); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLead(t *testing.T) {
	check(t, []row{
		{"a steady leader rests", leader, nil, "leader=self server=primary -> nothing"},
		{"its renewal is due", leader, func(v *View) { v.Memory.LastLock = now - time.Second }, "leader=self server=primary -> renew(epoch 40)"},
		{"a slot is missing", leader, func(v *View) { v.Server.Slots = []string{"b"} }, "leader=self server=primary slots=missing -> slots(b,c)"},
		{"a standby that holds the key is promoted", leader, func(v *View) { v.Server = standby().Server }, "leader=self server=standby -> promote"},
		{"but not with a moment of its right left", leader, func(v *View) {
			v.Server = standby().Server
			v.Memory.Right.Sent = now - 4*time.Second
		}, "leader=self server=standby right=short -> nothing"},
		{"a checkpoint after the promotion", leader, func(v *View) { v.Server.Control.Timeline = 1 }, "leader=self server=primary checkpoint=due -> checkpoint"},
	})
}

func TestFence(t *testing.T) {
	over := func(v *View) { v.Memory.Right.Sent = now - 5*time.Second }
	check(t, []row{
		{"the deadline has passed", leader, over, "fence=deadline leader=self(unconfirmed) -> freeze"},
		{"frozen already", leader, func(v *View) { over(v); v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false }, "fence=frozen leader=self(unconfirmed) -> nothing"},
		{"confirmed again, same epoch", leader, func(v *View) { v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false }, "leader=self fence=over -> thaw"},
		{"confirmed under an epoch that it did not write under", leader, func(v *View) {
			v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
			v.Memory.Under = 12
		}, "leader=self fence=foreign -> kill"},
		{"the watch shows that the key is gone", leader, func(v *View) { v.State.Leader = nil; v.State.Revision = 60 }, "fence=deadline leader=none after=40 server=writes -> freeze"},
		{"maintenance fences nothing", leader, func(v *View) {
			over(v)
			v.State.Config.Data = map[string]any{"pause": true}
		}, "paused -> nothing"},
		{"frozen in the middle of a start", leader, func(v *View) {
			v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
			v.Job = Job{Action: Start{}, Since: now - time.Second}
		}, "job=start fence=over -> thaw"},
		{"frozen in the middle of a promotion, and the key is another's", standby, func(v *View) { v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false }, "server=frozen -> kill"},
		{"or nobody's", vacant, func(v *View) { v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false }, "server=frozen -> kill"},
		{"a frozen server whose key is another's now", leader, func(v *View) {
			v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
			v.State.Leader = &cluster.Leader{Name: "b", Lease: 8, Mod: 45}
		}, "fence=frozen leader=b server=writes -> kill"},
	})
}

func TestCrash(t *testing.T) {
	crashed := func(v *View) { v.Memory.Replicas = v.Server.Replicas; down(&v.Server) }
	measured := func(v *View) {
		crashed(v)
		v.Memory.Crash = Crash{At: now, Measured: true, End: 1000}
		v.Memory.Story.Kind = "crash"
	}
	check(t, []row{
		{"what remains is killed first", leader, func(v *View) { v.Server.Process, v.Server.Answers = pg.ProcessRemains, false }, "server=remains -> kill"},
		{"the end of the log is measured", leader, crashed, "leader=self server=down -> measure"},
		{"the key is offered to whoever has all of it", leader, measured, "leader=self server=down offer=made -> put howdah/handover"},
		{"nobody has it: start in place, once no offer can be open", leader, func(v *View) { measured(v); v.Memory.Replicas = nil }, "leader=self server=down candidates=none offer=closing -> put howdah/handover"},
		{"an epoch that a predecessor took is taken anew first", leader, func(v *View) { crashed(v); v.Memory.Taken = 0 }, "leader=self right=inherited -> retake(epoch 40)"},
		{"the offer is closed", leader, func(v *View) {
			measured(v)
			v.Memory.Crash.Offered = true
			v.Memory.Offer = Offer{Closed: true}
		}, "leader=self server=down -> start(primary)"},
		{"it does not start", leader, func(v *View) { measured(v); v.Memory.Crash.Starts = 2 }, "leader=self server=down starts=2 -> release(epoch 40)"},
		{"the data is gone", leader, func(v *View) { crashed(v); v.Server.Data = pg.DataMissing }, "leader=self data=missing -> release(epoch 40)"},
	})
}

// A person named a member that led long ago, and that has not come back since
// another leads on a later timeline.
func TestAnOldPrimaryPromotes(t *testing.T) {
	old := func(leader string) func(*View) {
		return func(v *View) {
			down(&v.Server)
			v.Server.Control.Timeline = 1
			v.State.History[0].Leader = leader
		}
	}
	check(t, []row{
		{"another led since", leader, old("b"), "leader=self timeline=1<2 server=down(standby) -> start(standby of nobody)"},
		{"it led itself, and had made no checkpoint since", leader, old("a"), "leader=self server=down candidates=none offer=closing -> put howdah/handover"},
		{"and then it promotes", leader, func(v *View) {
			old("b")(v)
			v.Server = pg.Status{
				Data: pg.DataPresent, Process: pg.ProcessRunning, PID: 12, Standby: true, Answers: true, Recovering: true, Timeline: 1,
				Control: pg.Control{State: pg.ControlInArchiveRecovery, System: system, Timeline: 1},
			}
		}, "leader=self server=standby -> promote"},
	})
}

// A standby that was elected although its start had failed before: it is not sent
// away again before it was tried, or it would be elected and sent away for ever.
func TestAFailedStartIsTriedAgainWhenElected(t *testing.T) {
	elected := func(until time.Duration) func(*View) {
		return func(v *View) {
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDownInRecovery
			v.Memory.Failed = Failed{What: Start{Standby: true}.String(), Times: 2, Until: until}
		}
	}
	check(t, []row{
		{"its time has come", leader, elected(now), "leader=self server=down(standby) -> start(standby of nobody)"},
		{"it has just failed", leader, elected(now + 1), "leader=self server=down(standby) start=failed() -> release(epoch 40)"},
	})
}

func TestHandover(t *testing.T) {
	asked := func(v *View) { v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "c"} }
	offered := func(v *View) {
		v.State.Handover = &cluster.Handover{Mod: 49, From: "a", To: "b", Epoch: epoch, Timeline: 2, LSN: 1000}
	}
	ending := func(v *View) {
		asked(v)
		v.Job = Job{Action: Stop{}, Since: now - time.Second}
		v.Server.Process, v.Server.Answers, v.Server.Control.State = pg.ProcessStopping, false, pg.ControlShutDown
		v.Memory.Switch = Switch{Key: 48, To: "c", Stopped: true}
	}
	check(t, []row{
		{"a checkpoint first", leader, asked, "leader=self server=primary switchover=c -> checkpoint"},
		{"then the shutdown", leader, func(v *View) { asked(v); v.Memory.Switch = Switch{Key: 48, Checkpoints: 2, Since: now} }, "leader=self server=primary switchover=c -> stop"},
		{"while nobody can read whom commits wait for", leader, func(v *View) {
			v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "b"}
			v.State.Problems = append(v.State.Problems, cluster.Problem{Key: cluster.KeySync})
		}, "leader=self server=primary switchover=refused(sync-unreadable) -> put failover"},
		{"to somebody who is not there", leader, func(v *View) { v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "x"} }, "leader=self server=primary switchover=refused(no-candidate) -> put failover"},
		{"to anybody, and nobody streams yet", leader, func(v *View) {
			v.State.Failover = cluster.Failover{Mod: 48, Leader: "a"}
			v.Server.Replicas = nil
		}, "leader=self server=primary candidate=awaited -> nothing"},
		{"to anybody, and nobody is left", leader, func(v *View) {
			v.State.Failover = cluster.Failover{Mod: 48, Leader: "a"}
			v.Server.Replicas = nil
			v.State.Members = v.State.Members[:1]
		}, "leader=self server=primary switchover=refused(no-candidate) -> put failover"},
		{"later", leader, func(v *View) { asked(v); v.State.Failover.ScheduledAt = v.Wall.Add(time.Minute) }, "leader=self server=primary switchover=scheduled -> nothing"},
		{"now", leader, func(v *View) { asked(v); v.State.Failover.ScheduledAt = v.Wall.Add(-15 * time.Second) }, "leader=self server=primary switchover=c -> checkpoint"},
		{"no more: nobody led when it was time", leader, func(v *View) {
			asked(v)
			v.State.Failover.ScheduledAt = v.Wall.Add(-16 * time.Second)
		}, "leader=self server=primary switchover=missed -> put failover"},
		{"it has begun, and the checkpoint took long", leader, func(v *View) {
			asked(v)
			v.State.Failover.ScheduledAt = v.Wall.Add(-time.Hour)
			v.Memory.Switch = Switch{Key: 48, To: "c", Checkpoints: 2, Since: now}
		}, "leader=self server=primary switchover=c -> stop"},
		{"not during a pause", leader, func(v *View) {
			asked(v)
			v.State.Config.Data = map[string]any{"pause": true}
			v.State.Failover.ScheduledAt = v.Wall.Add(-time.Hour)
		}, "paused switchover=scheduled -> nothing"},
		{"down, and the key is held out", leader, func(v *View) {
			asked(v)
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDown
			v.Memory.Switch = Switch{Key: 48, To: "c", Stopped: true}
		}, "leader=self server=down(planned) offer=made -> put howdah/handover"},
		{"nobody took it while it was out", leader, func(v *View) {
			asked(v)
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDown
			v.Memory.Switch = Switch{Key: 48, To: "c", Stopped: true}
			v.Memory.Offer = Offer{Closed: true}
		}, "leader=self server=down(planned) handover=refused -> nothing"},
		{"or as soon as the last record is written", leader, ending, "job=stop server=down(planned) offer=made -> put howdah/handover"},
		{"which is seen", leader, func(v *View) { ending(v); v.Server.Control.State = pg.ControlShuttingDown }, "job=stop -> nothing"},
		{"not while something may still be written", leader, func(v *View) { ending(v); v.Server.Process = pg.ProcessRunning }, "job=stop -> nothing"},
		{"nor to anybody", leader, func(v *View) { ending(v); v.Memory.Switch.To = "" }, "job=stop -> nothing"},
		{"nor by one who did not take the key himself", leader, func(v *View) { ending(v); v.Memory.Taken = 0 }, "job=stop -> nothing"},
		{"taken, what is left of the server ends by itself", leader, func(v *View) {
			ending(v)
			v.State.Leader, v.Memory.Right = &cluster.Leader{Name: "c", Lease: 9, Mod: 50}, Right{}
		}, "job=stop -> nothing"},
		{"and is not frozen", leader, func(v *View) { ending(v); v.Memory.Right = Right{} }, "job=stop -> renew(epoch 40)"},
		{"the successor takes it", standby, offered, "leader=a server=standby handover=mine -> take(epoch 40, handover 49)"},
		{"it is behind", standby, func(v *View) { offered(v); v.Server.Flushed = 999 }, "leader=a server=standby handover=behind(1) -> nothing"},
		{"it is for another", standby, func(v *View) { offered(v); v.State.Handover.To = "c" }, "leader=a server=standby -> nothing"},
		{"it is of an earlier reign", standby, func(v *View) { offered(v); v.State.Handover.Epoch = 39 }, "leader=a server=standby -> nothing"},
		{"it is on another timeline", standby, func(v *View) { offered(v); v.Server.Timeline = 1 }, "leader=a server=standby handover=other-timeline -> nothing"},
	})
}

// A planned change waits for gateways, and not for long.
func TestDrain(t *testing.T) {
	ready := func(v *View) {
		v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "c"}
		v.Memory.Switch = Switch{Key: 48, To: "c", Checkpoints: 2, Since: now, Told: now - readyIn}
		v.State.Gateways = []cluster.Gateway{{Host: "10.0.0.1"}, {Host: "10.0.0.2"}}
	}
	held := func(v *View) {
		ready(v)
		v.State.Drain = &cluster.Drain{Mod: 50, From: "a", To: "c", Epoch: epoch, Hold: true}
		v.State.Gateways[0].Held = 50
		v.Memory.Switch.Held = now - 999*time.Millisecond
	}
	told := func(v *View) {
		ready(v)
		v.State.Drain = &cluster.Drain{Mod: 49, From: "a", To: "c", Epoch: epoch}
		v.State.Gateways[0].Ready = 49
		v.Memory.Switch.Checkpoints, v.Memory.Switch.Told = 1, now-readyIn+1
	}
	late := func(v *View) { held(v); v.Memory.Switch.Held = now - time.Second }
	const so = "leader=self server=primary switchover=c "
	check(t, []row{
		{"gateways are told who comes next", leader, func(v *View) { ready(v); v.Memory.Switch.Checkpoints = 0 }, so + "-> checkpoint, put howdah/drain"},
		{"they have been", leader, func(v *View) {
			held(v)
			v.Memory.Switch.Checkpoints = 0
		}, so + "-> checkpoint"},
		{"until they say that they are ready", leader, told, so + "gateways=awaited(10.0.0.2) -> nothing"},
		{"those who say so of another", leader, func(v *View) { told(v); v.State.Drain.To = "b" }, so + "gateways=awaited(10.0.0.1,10.0.0.2) -> put howdah/drain"},
		{"for a while", leader, func(v *View) { told(v); v.Memory.Switch.Told = now - readyIn }, so + "-> checkpoint"},
		{"then what was written meanwhile is", leader, func(v *View) { told(v); v.State.Gateways[1].Ready = 49 }, so + "-> checkpoint"},
		{"then they are asked to hold", leader, ready, so + "drain=asked -> put howdah/drain"},
		{"of an earlier reign", leader, func(v *View) { held(v); v.State.Drain.Epoch-- }, so + "drain=asked -> put howdah/drain"},
		{"for another", leader, func(v *View) { held(v); v.State.Drain.To = "b" }, so + "drain=asked -> put howdah/drain"},
		{"one has not answered", leader, held, so + "drain=awaited(10.0.0.2) -> nothing"},
		{"one has transactions", leader, func(v *View) {
			held(v)
			v.State.Gateways[1] = cluster.Gateway{Host: "10.0.0.2", Held: 50, Open: 3}
		}, so + "drain=awaited(10.0.0.2:3) -> nothing"},
		{"all have ended", leader, func(v *View) { held(v); v.State.Gateways[1].Held = 50 }, so + "drain=done -> stop"},
		{"the end of the grace", leader, late, so + "drain=over(10.0.0.2) -> stop"},
		{"also where the store took no word", leader, func(v *View) { late(v); v.State.Drain, v.NoteBusy = nil, true }, so + "drain=over(10.0.0.1,10.0.0.2) -> stop"},
		{"a longer one", leader, func(v *View) {
			late(v)
			v.State.Config.Data = map[string]any{"howdah": map[string]any{"drain": "2s"}}
		}, so + "drain=awaited(10.0.0.2) -> nothing"},
		{"no change without all", leader, func(v *View) {
			late(v)
			v.State.Config.Data = map[string]any{"howdah": map[string]any{"undrained": "abort"}}
		}, so + "drain=failed(10.0.0.2) -> put failover"},
		{"but an agent that is to end does not stay", leader, func(v *View) {
			late(v)
			v.State.Config.Data = map[string]any{"howdah": map[string]any{"undrained": "abort"}}
			v.Stopping, v.Memory.Switch.Key = true, -1
		}, "stopping " + so + "drain=over(10.0.0.2) -> stop"},
		{"called off", leader, func(v *View) { held(v); v.State.Failover = cluster.Failover{} }, "leader=self server=primary drain=off -> put howdah/drain"},
		{"the candidate has gone", leader, func(v *View) {
			held(v)
			v.Server.Replicas = v.Server.Replicas[:1]
		}, "leader=self server=primary candidate=awaited drain=off -> put howdah/drain"},
		{"of another reign it is nobody's", leader, func(v *View) {
			held(v)
			v.State.Failover, v.State.Drain.Epoch = cluster.Failover{}, epoch-1
		}, "leader=self server=primary -> nothing"},
		{"called off during a pause", leader, func(v *View) {
			held(v)
			v.State.Failover, v.State.Config.Data = cluster.Failover{}, map[string]any{"pause": true}
		}, "paused drain=off -> put howdah/drain"},
	})
}

func TestElect(t *testing.T) {
	both := []cluster.Pledge{{Member: "b", LSN: 1000, Witness: true}, {Member: "c", LSN: 1000}}
	gaveUp := func(since time.Duration, ps ...cluster.Pledge) func(*View) { // b led, and its server would not start
		return func(v *View) {
			pledged(v, ps...)
			v.State.Term.Leader = "b"
			down(&v.Server)
			v.Memory.Rejoin = Rejoin{Measured: true, End: 1000}
			v.Memory.Failed = Failed{What: Start{}.String(), Times: startsInPlace, Until: now}
			v.Memory.Vacancy.Since, v.Memory.Vacancy.Ready = since, 0
		}
	}
	check(t, []row{
		{"a position first, read after the vacancy", vacant, nil, "leader=none after=40 position=old -> nothing"},
		{"then it is published", vacant, func(v *View) { pledged(v) }, "leader=none after=40 position=0/3E8 -> put howdah/pledges/b"},
		{"the others' are awaited", vacant, func(v *View) { pledged(v, both[0]) }, "leader=none after=40 awaits=c -> nothing"},
		{"but no longer than a moment, for there is a witness", vacant, func(v *View) {
			pledged(v, both[0])
			v.Memory.Vacancy.Since = now - time.Second
			v.ServerAt = now
		}, "leader=none after=40 rank=0 -> acquire(after 40)"},
		{"without a witness everybody is awaited", vacant, func(v *View) {
			pledged(v, cluster.Pledge{Member: "b", LSN: 1000})
			v.Memory.Vacancy.Since = now - time.Hour
		}, "leader=none after=40 awaits=a awaits=c -> nothing"},
		{"the first takes the key", vacant, func(v *View) { pledged(v, both...) }, "leader=none after=40 rank=0 -> acquire(after 40)"},
		{"whose server would not start waits for the others", vacant, gaveUp(now-stuckAfter+1, cluster.Pledge{Member: "b", LSN: 1000}), "leader=none after=40 awaits=a awaits=c -> nothing"},
		{"but one of them may be waiting for its log", vacant, gaveUp(now-stuckAfter, cluster.Pledge{Member: "b", LSN: 1000}), "leader=none after=40 awaits=a awaits=c last-leader=self -> acquire(after 40)"},
		{"not before it may be tried again", vacant, func(v *View) {
			gaveUp(now-stuckAfter, cluster.Pledge{Member: "b", LSN: 1000, NoFailover: true})(v)
			v.Memory.Failed.Until++
		}, "leader=none after=40 candidate=no -> nothing"},
		{"nor before one who has more and can", vacant, gaveUp(now-stuckAfter, cluster.Pledge{Member: "a", LSN: 1}, cluster.Pledge{Member: "b", LSN: 1000}, cluster.Pledge{Member: "c", LSN: 1001}), "leader=none after=40 rank=1 -> nothing"},
		{"who is behind stands back", vacant, func(v *View) {
			pledged(v, both[0], cluster.Pledge{Member: "c", LSN: 1001})
		}, "leader=none after=40 rank=1 -> nothing"},
		{"for as long as the first may take to ask twice", vacant, func(v *View) {
			pledged(v, both[0], cluster.Pledge{Member: "c", LSN: 1001})
			v.Timers.Retry, v.Timers.Grace = 2*time.Second, 300*time.Millisecond
			v.Memory.Vacancy.Ready = now - 4200*time.Millisecond
		}, "leader=none after=40 rank=1 -> nothing"},
		{"and no longer", vacant, func(v *View) {
			pledged(v, both[0], cluster.Pledge{Member: "c", LSN: 1001})
			v.Timers.Retry, v.Timers.Grace = 2*time.Second, 300*time.Millisecond
			v.Memory.Vacancy.Ready = now - 4300*time.Millisecond
		}, "leader=none after=40 rank=1 -> acquire(after 40)"},
		{"also behind one that is not published yet", vacant, func(v *View) {
			pledged(v, cluster.Pledge{Member: "a", LSN: 1001}, both[0], both[1])
		}, "leader=none after=40 rank=1 -> nothing"},
		{"an older timeline may not", vacant, func(v *View) {
			pledged(v, cluster.Pledge{Member: "b", LSN: 1000, Timeline: 1, Witness: true}, both[1])
			v.Server.Timeline = 1
		}, "leader=none after=40 candidate=no(old-timeline) -> nothing"},
		{"too far behind what was last known", vacant, func(v *View) {
			pledged(v, both...)
			v.State.Status.Optime = 1000 + 2<<20
		}, "leader=none after=40 candidate=no(lag) -> nothing"},
		{"a member named by a person", vacant, func(v *View) {
			pledged(v, both[0], cluster.Pledge{Member: "c", LSN: 2000})
			v.State.Failover = cluster.Failover{Mod: 48, Member: "b"}
		}, "leader=none after=40 asked-for=self -> acquire(after 40)"},
		{"but not one without data", vacant, func(v *View) {
			v.Server = pg.Status{Data: pg.DataPartial, Process: pg.ProcessNone}
			pledged(v, cluster.Pledge{Member: "b", Timeline: 0xFFFF, NoFailover: true})
			v.State.Pledges[0].Timeline = 0
			v.State.Failover = cluster.Failover{Mod: 48, Member: "b"}
		}, "leader=none after=40 data=partial candidate=no -> nothing"},
		{"a lease that is old is renewed first", vacant, func(v *View) {
			pledged(v, both...)
			v.Memory.Lease.Sent = now - 3*time.Second
		}, "leader=none after=40 rank=0 lease=old -> renew"},
		{"also if it was kept since, but not confirmed", vacant, func(v *View) {
			pledged(v, both...)
			v.Memory.Lease.Sent, v.Memory.Lease.Kept = now-3*time.Second, now-time.Millisecond
		}, "leader=none after=40 rank=0 lease=old -> renew"},
		{"a key that cannot be read is somebody's", vacant, func(v *View) { v.State.Leader = &cluster.Leader{Mod: 44} }, "leader=unknown -> nothing"},
	})
}

// The machine that led died, and its connections with it, before its lease ended:
// who streamed from it is a witness all the same.
// A leader that gave the key up because its server would not start stands back
// for the others, whatever becomes of the measuring of its log.
func TestAFailedMeasureForgetsNoFailedStart(t *testing.T) {
	v := vacant()
	v.State.Term.Leader = v.Self.Name
	down(&v.Server)
	v.Memory.Failed = Failed{What: Start{}.String(), Times: startsInPlace, Until: now + time.Second}
	v.Ended = &Ended{Action: Measure{}, At: now, Err: "cannot measure"}
	d := Decide(v)
	if got, want := acts(d), "leader=none after=40 position=0/0 -> put howdah/pledges/b"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	for _, a := range d.Actions {
		if p, ok := a.(Put); ok && strings.HasPrefix(p.Key, cluster.DirPledges) && !strings.Contains(p.Value, `"nofailover":true`) {
			t.Errorf("its position says %s; want it to stand back", p.Value)
		}
	}
	if d.Memory.Failed != v.Memory.Failed {
		t.Errorf("what failed is %+v now, it was %+v", d.Memory.Failed, v.Memory.Failed)
	}
}

func TestWitness(t *testing.T) {
	v := vacant()
	if d := Decide(v); !d.Memory.Vacancy.Witness {
		t.Errorf("no witness: %s", d)
	}
	v.Memory.Streamed.Epoch--
	if d := Decide(v); d.Memory.Vacancy.Witness {
		t.Errorf("a witness of another reign: %s", d)
	}
	if d := Decide(standby()); d.Memory.Streamed != (Streamed{epoch, 12}) {
		t.Errorf("streams, and remembers %v", d.Memory.Streamed)
	}
}

func TestRejoin(t *testing.T) {
	at := func(tl pg.Timeline, end pg.LSN) func(*View) {
		return func(v *View) {
			down(&v.Server)
			v.Server.Standby = false
			v.Server.Control.State, v.Server.Control.Timeline = pg.ControlInProduction, tl
			v.Server.Control.MinEnd, v.Server.Control.MinEndTL = 0, 0 // its checkpoints say so
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true, End: end}
		}
	}
	check(t, []row{
		{"no data: a copy", standby, func(v *View) { v.Server = pg.Status{Data: pg.DataMissing, Process: pg.ProcessNone} }, "leader=a data=missing -> clone(a)"},
		{"a stopped standby is measured", standby, func(v *View) { down(&v.Server) }, "leader=a -> measure"},
		{"and starts again", standby, func(v *View) {
			at(1, 1000)(v)
			v.Server.Standby, v.Server.Control.State = true, pg.ControlInArchiveRecovery
		}, "leader=a timeline=1? -> start(standby of a)"},
		{"an old primary that ended at the fork", standby, at(1, 500), "leader=a timeline=1<2 -> start(standby of a)"},
		{"one that went on is kept first", standby, at(1, 600), "leader=a diverged=100 -> keep(timeline 1 from 0/1F4)"},
		{"one that was promoted and made no checkpoint", standby, func(v *View) {
			at(1, 600)(v)
			v.Server.Control.MinEnd, v.Server.Control.MinEndTL = 550, 3
		}, "leader=a diverged=unknown -> keep(timeline 3 from 0/0)"},
		{"then recovered", standby, func(v *View) { at(1, 600)(v); v.Memory.Rejoin.Kept = true }, "leader=a diverged=100 -> recover"},
		{"then rewound", standby, func(v *View) {
			at(1, 600)(v)
			v.Memory.Rejoin.Kept, v.Memory.Rejoin.Recovered = true, true
		}, "leader=a diverged=100 -> rewind(a)"},
		{"an end that is unknown is kept too", standby, at(1, 0), "leader=a diverged=unknown -> keep(timeline 1 from 0/1F4)"},
		{"the leader's history is still to come", standby, func(v *View) { at(1, 600)(v); v.State.History = cluster.History{} }, "leader=a history=awaited -> nothing"},
		{"its checkpoint is still to come", standby, func(v *View) {
			at(1, 600)(v)
			v.State.Members[0].CheckpointAfterPromote = new(false)
		}, "leader=a awaits=a -> nothing"},
		{"a twin of the leader's timeline is copied anew", standby, at(2, 600), "leader=a timeline=twin -> nothing"},
		{"after two failures, a copy", standby, func(v *View) {
			at(1, 600)(v)
			v.Memory.Rejoin.Kept, v.Memory.Rejoin.Failures, v.Memory.Rejoin.Aside = true, 2, true
		}, "leader=a copy=fresh -> move aside"},
		{"a running one whose log forked", standby, func(v *View) {
			v.Server.Streaming, v.Server.Timeline, v.Server.Flushed = false, 1, 600
		}, "leader=a server=standby streaming=no forked=100 -> stop"},
	})
}

// A start that an agent before us began may wait for the log of a leader that is
// gone: it is pointed at the present one, once.
func TestAStartFoundUnderWay(t *testing.T) {
	v := standby()
	v.Server.Process, v.Server.Answers, v.Server.Upstream = pg.ProcessStarting, false, ""
	d := Decide(v)
	if got, want := acts(d), "leader=a server=starting -> follow(a)"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	v.Memory = d.Memory
	if d := Decide(v); slices.ContainsFunc(d.Actions, func(a Action) bool { _, ok := a.(Follow); return ok }) {
		t.Errorf("again: %s", d)
	}
	failed := v
	failed.Ended = &Ended{Action: Follow{Up: pg.Upstream{Name: "a"}}, At: v.Now, Err: "no"}
	if d := Decide(failed); d.Memory.Pointed != (Streamed{}) || d.Memory.Failed.Times != 1 {
		t.Errorf("failed: %s, %+v", d, d.Memory.Failed)
	} else if failed.Memory, failed.Ended, failed.Now = d.Memory, nil, now+time.Second; !strings.Contains(acts(Decide(failed)), "follow(a)") {
		t.Errorf("not tried again: %s", Decide(failed))
	}
	v.State.Leader.Mod, v.State.Term.Mod = epoch+5, epoch+5
	if d := Decide(v); !slices.ContainsFunc(d.Actions, func(a Action) bool { _, ok := a.(Follow); return ok }) {
		t.Errorf("under another leader: %s", d)
	}
}

// A leader whose server runs and answers nothing.
func TestSilent(t *testing.T) {
	silent := func(long time.Duration) func(*View) {
		return func(v *View) {
			v.Memory.Replicas = v.Server.Replicas
			v.Server.Answers, v.Server.Replicas, v.Server.Slots = false, nil, nil
			v.Memory.Quiet = Quiet{PID: 11, Since: now - long, Heard: 1000}
		}
	}
	const long = silentFor + time.Second
	check(t, []row{
		{"at first it is waited for", leader, silent(long - 2*time.Second), "leader=self server=silent -> nothing"},
		{"then it is ended, for others can lead", leader, silent(long), "leader=self server=silent silent=overdue -> kill"},
		{"not if nobody can", leader, func(v *View) { silent(long)(v); v.Memory.Replicas = nil }, "leader=self server=silent -> nothing"},
		{"nor while a standby receives log from it", leader, func(v *View) {
			silent(long)(v)
			v.State.Members[2].XlogLocation = 1001
		}, "leader=self server=silent -> nothing"},
		{"another process is another silence", leader, func(v *View) { silent(long)(v); v.Memory.Quiet.PID = 10 }, "leader=self server=silent -> nothing"},
		{"under maintenance it is a person's business", leader, func(v *View) {
			silent(long)(v)
			v.State.Config.Data = map[string]any{"pause": true}
		}, "paused -> nothing"},
		{"an agent that is to end does not wait so long", leader, func(v *View) { silent(4 * time.Second)(v); v.Stopping = true }, "stopping leader=self server=silent -> stop"},
		{"a start that an agent before us began", leader, func(v *View) {
			silent(v.Timers.Start - time.Second)(v)
			v.Server.Process = pg.ProcessStarting
		}, "leader=self server=starting -> nothing"},
		{"has its time, too", leader, func(v *View) {
			silent(v.Timers.Start)(v)
			v.Server.Process = pg.ProcessStarting
		}, "leader=self server=starting start=overdue -> kill"},
	})
	v := leader()
	v.Memory.Quiet = Quiet{PID: 11, Since: now - long}
	if d := Decide(v); d.Memory.Quiet != (Quiet{}) {
		t.Errorf("it answers, and was quiet since %s", d.Memory.Quiet.Since)
	}
}

func TestBootstrap(t *testing.T) {
	empty := func() View {
		v := standby()
		v.Server = pg.Status{Data: pg.DataMissing, Process: pg.ProcessNone}
		v.State = cluster.State{Revision: 3}
		return v
	}
	claimed := func(by string) func(*View) {
		return func(v *View) {
			v.State.Initialize = cluster.Initialize{Present: true, Mod: 3}
			v.State.Claim = &cluster.Claim{Mod: 3, Leader: by}
		}
	}
	check(t, []row{
		{"the right to found is claimed", empty, nil, "cluster=new -> found"},
		{"another has it", empty, claimed("a"), "cluster=new awaits=a -> nothing"},
		{"ours: initdb", empty, claimed("b"), "cluster=new claim=mine -> initdb"},
		{"then the transaction that counts", empty, func(v *View) {
			claimed("b")(v)
			v.Server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessNone, Control: pg.Control{System: system}}
		}, "cluster=new claim=mine -> open(system 7400000000000000001)"},
		{"an abandoned claim is followed", empty, func(v *View) { claimed("a")(v); v.State.Claim = nil }, "cluster=new -> found"},
		{"data from an earlier life founds nothing", empty, func(v *View) {
			v.Server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessNone, Control: pg.Control{System: system}}
		}, "cluster=new data=present awaits=failover --to -> nothing"},
		{"data of another cluster", standby, func(v *View) { v.Server.Control.System = 7999999999999999999 }, "system=7999999999999999999 foreign(7400000000000000001) -> nothing"},
	})
}

// A shutdown that nobody of us asked for.
func TestOutside(t *testing.T) {
	smart := func(v *View) { v.Server.Process = pg.ProcessStopping } // its clients are still served
	fast := func(v *View) { v.Server.Process, v.Server.Answers = pg.ProcessStopping, false }
	stopped := func(v *View) { down(&v.Server); v.Server.Control.State = pg.ControlShutDown }
	check(t, []row{
		{"a smart shutdown of the primary is made a fast one", leader, smart, "stop=outside -> stop"},
		{"so is one whose answers have ended", leader, fast, "stop=outside -> stop"},
		{"and one of a standby", standby, smart, "stop=outside -> stop"},
		{"and one while nobody leads", vacant, smart, "stop=outside -> stop"},
		{"ours is under way", leader, func(v *View) { smart(v); v.Job = Job{Action: Stop{}, Since: now} }, "job=stop -> nothing"},
		{"it hangs", leader, func(v *View) {
			smart(v)
			v.Memory.Failed = Failed{What: Stop{}.String(), Times: 1}
		}, "stop=overdue -> kill"},
		{"under maintenance it is a person's business", leader, func(v *View) {
			smart(v)
			v.State.Config.Data = map[string]any{"pause": true}
		}, "paused -> nothing"},
		{"without the key, what it still writes is void", standby, func(v *View) {
			smart(v)
			v.Server.Standby, v.Server.Recovering = false, false
			v.Memory.Under = 30
		}, "fence=deadline leader=a server=writes -> freeze, kill"},
		{"our own recovery, which ends by itself", leader, func(v *View) { fast(v); v.Server.PID = 0 }, "leader=self server=stopping -> nothing"},
		{"down in good order: it starts where it was, once no offer can be open", leader, stopped, "leader=self server=down shutdown=clean offer=closing -> put howdah/handover"},
		{"then", leader, func(v *View) { stopped(v); v.Memory.Offer = Offer{Closed: true} }, "leader=self server=down shutdown=clean -> start(primary)"},
		{"not while its key may be gone by its own wish", leader, func(v *View) {
			stopped(v)
			v.Memory.Offer, v.Memory.Giving, v.LockBusy = Offer{Closed: true}, epoch, true
		}, "leader=self server=down shutdown=clean release=asked -> nothing"},
		{"a start that failed makes it a crash", leader, func(v *View) {
			stopped(v)
			v.Memory.Replicas = leader().Server.Replicas
			v.Ended = &Ended{Action: Start{}, At: now, Err: "no"}
		}, "leader=self server=down -> measure"},
		{"so does one of a restart that a person asked for", leader, func(v *View) {
			stopped(v)
			v.Memory.Replicas = leader().Server.Replicas
			v.Memory.Restart = 11
			v.Ended = &Ended{Action: Start{}, At: now, Err: "no"}
		}, "leader=self server=down -> measure"},
		{"after two, whoever has the log may lead", leader, func(v *View) {
			stopped(v)
			v.Memory.Crash = Crash{At: now, Offered: true, Starts: 1}
			v.Ended = &Ended{Action: Start{}, At: now, Err: "no"}
		}, "leader=self server=down starts=2 -> release(epoch 40)"},
	})
}

// What a person reads of it.
func TestOutsideIsTold(t *testing.T) {
	v := leader()
	v.Server.Process = pg.ProcessStopping
	if s := Decide(v).Memory.Story; s.Kind != cluster.KindRestart || s.From != "a" || !strings.Contains(strings.Join(s.Reason, " "), "not by its agent") {
		t.Errorf("the story is %+v", s)
	}
	v = leader()
	down(&v.Server)
	v.Server.Control.State = pg.ControlShutDown
	if s := Decide(v).Memory.Story; s.Kind != cluster.KindRestart || s.From != "a" {
		t.Errorf("seen only when it was down: the story is %+v", s)
	}
}

// A look that is asked for soon comes, however many turns there are meanwhile.
func TestLookComes(t *testing.T) {
	v := leader()
	v.Server.Process, v.Server.Answers = pg.ProcessStarting, false
	for range 10 {
		v.Now += soon / 4
		if d := Decide(v); d.Look <= v.Now {
			return
		}
	}
	t.Error("a fresh look is put off for ever")
}

func TestPause(t *testing.T) {
	pause := func(v *View) { v.State.Config.Data = map[string]any{"pause": true} }
	free := func(v *View) { pause(v); v.State.Leader, v.Memory.Right = nil, Right{} }
	check(t, []row{
		{"nothing is begun", vacant, pause, "paused -> nothing"},
		{"a manual switchover goes on, once", leader, func(v *View) {
			pause(v)
			v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "c"}
		}, "paused switchover=c -> checkpoint"},
		{"the key of a server that was stopped is given back", leader, func(v *View) {
			pause(v)
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDown
		}, "paused -> release(epoch 40)"},
		{"a primary takes the key that is free", leader, free, "paused -> acquire(after 40)"},
		{"not one whose log is of before a restore", leader, func(v *View) {
			free(v)
			v.State.Restore = &cluster.Restore{Mod: 47, ID: "x", Member: "b", Timeline: 3, Phase: cluster.RestoreTurned}
		}, "paused candidate=no(before the restore: 2<3) -> nothing"},
	})
}

func TestRequests(t *testing.T) {
	restart := func(v *View) {
		v.State.Requests = []cluster.Request{{Member: v.Self.Name, Mod: 48, Kind: cluster.RequestRestart}}
	}
	check(t, []row{
		{"a request is taken off first", leader, restart, "leader=self server=primary request=restart -> drop howdah/requests/a"},
		{"then carried out", leader, func(v *View) { v.Memory.Restart = 11 }, "leader=self server=primary restart=asked -> stop"},
		{"and only once", leader, func(v *View) { v.Memory.Restart = 10 }, "leader=self server=primary -> nothing"},
		{"the end of the agent hands over", leader, func(v *View) { v.Stopping = true }, "stopping leader=self server=primary switchover=b -> checkpoint"},
		{"and waits a moment for those who live and do not stream yet", leader, func(v *View) { v.Stopping, v.Server.Replicas = true, nil }, "stopping leader=self server=primary candidate=awaited -> nothing"},
		{"not longer", leader, func(v *View) {
			v.Stopping, v.Server.Replicas = true, nil
			v.Memory.Switch = Switch{Key: -1, Since: now - handoverFor - 1}
		}, "stopping leader=self server=primary candidate=none -> stop"},
		{"and not where nobody lives", leader, func(v *View) { v.Stopping, v.Server.Replicas, v.State.Members = true, nil, v.State.Members[:1] }, "stopping leader=self server=primary candidate=none -> stop"},
		{"a standby just stops", standby, func(v *View) { v.Stopping = true }, "stopping -> stop"},
		{"and resigns", standby, func(v *View) { v.Stopping = true; down(&v.Server) }, "stopping -> resign"},
	})
}

// A promotion that was asked for comes true whatever became of the work that
// asked: from then on the standby counts as one that may write.
func TestAPromotionIsFencedBeforeItShows(t *testing.T) {
	v := standby()
	v.Memory.Promoting = true
	v.Memory.Right = Right{}
	if d := Decide(v); !slices.Contains(d.Actions, Action(Freeze{})) || !d.Page.Primary || d.Page.Deadline > v.Now {
		t.Errorf("not fenced: %s, page %+v", d, d.Page)
	}
	v.Server.Process, v.Server.PID, v.Server.Answers = pg.ProcessNone, 0, false
	if d := Decide(v); d.Memory.Promoting {
		t.Errorf("a server that is down is still promoting: %s", d)
	}
}

// A shutdown that does not end is ended.
func TestAStopThatHangs(t *testing.T) {
	v := standby()
	v.Server.Process = pg.ProcessStopping
	v.Memory.Failed = Failed{What: Stop{}.String(), Times: 1}
	if d := Decide(v); !slices.Contains(d.Actions, Action(Kill{})) {
		t.Errorf("want a kill: %s", d)
	}
}

// The page of a planned change begins when the first gateway held its clients: by the
// clock of its node, which may be wrong, so within what the leader knows for certain.
func TestHeldSince(t *testing.T) {
	asked := time.Unix(1_800_000_000, 0).UTC()
	at := func(ms int) time.Time { return asked.Add(time.Duration(ms) * time.Millisecond) }
	for _, tt := range []struct {
		name string
		held []time.Time // by its gateways; the zero one has not acknowledged
		want time.Duration
	}{
		{"the first counts", []time.Time{at(160), at(140)}, 140 * time.Millisecond},
		{"not the one that has not", []time.Time{at(160), {}}, 160 * time.Millisecond},
		{"a clock that is behind", []time.Time{at(-5000), at(150)}, 100 * time.Millisecond},
		{"one that is ahead", []time.Time{at(5000)}, 200 * time.Millisecond},
		{"nobody", []time.Time{{}}, 0},
	} {
		v := leader()
		v.Wall = at(200)
		v.State.Failover = cluster.Failover{Mod: 48, Leader: "a", Member: "c"}
		v.Memory.Switch = Switch{Key: 48, To: "c", Checkpoints: 2, Since: now, Held: now - time.Hour}
		v.Memory.Story = Story{Kind: cluster.KindSwitchover, From: "a", Begun: asked, Phases: []cluster.Phase{{Name: cluster.PhaseCheckpointed, After: 100 * time.Millisecond}}}
		v.State.Drain = &cluster.Drain{Mod: 50, From: "a", To: "c", Epoch: epoch, Hold: true}
		for i, h := range tt.held {
			g := cluster.Gateway{Host: fmt.Sprint(i), HeldAt: h}
			if !h.IsZero() {
				g.Held = 50
			}
			v.State.Gateways = append(v.State.Gateways, g)
		}
		var got time.Duration
		d := Decide(v)
		for _, p := range d.Memory.Story.Phases {
			if p.Name == cluster.PhaseHeld {
				got = p.After
			}
		}
		if got != tt.want {
			t.Errorf("%s: held %s after it was asked for, want %s", tt.name, got, tt.want)
		}
	}
}
