package ha

import (
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
)

// quorumOn is a cluster in synchronous mode, led by a, with b and c as voters.
func quorumOn(v *View) {
	v.State.Config = cluster.Config{Mod: 3, Data: map[string]any{"synchronous_mode": "quorum", "synchronous_mode_strict": true}}
	v.State.Sync = cluster.Sync{Mod: 44, Leader: "a", Quorum: 1, Standby: []string{"b", "c"}}
	v.Memory.SetAt = 3
	v.Heard = now - 100*time.Millisecond
	set(v, quorum.Any(1, "b", "c"))
	if v.Server.Recovering {
		set(v, quorum.Nobody())
		v.Server.Slots, v.Server.Spare = []string{"a", "c"}, []string{"a", "c"}
	}
}

// set has the server on a setting that is proven.
func set(v *View, n quorum.Names) {
	m := quorum.Memory{Written: n, Rule: n}
	v.Server.SyncNames = n.String()
	v.Memory.Sync = Sync{Memory: m, Disk: m.Encode(), Resumed: true}
}

// vote is a voter's pledge, fenced for the epoch.
func vote(v *View, member string, lsn pg.LSN) {
	v.State.Pledges = append(v.State.Pledges, cluster.Pledge{Member: member, Epoch: epoch, Timeline: 2, LSN: lsn, Fenced: true, Mod: 49})
}

func TestSynchronous(t *testing.T) {
	heir := func(v *View) {
		quorumOn(v)
		v.State.Drain = &cluster.Drain{Mod: 50, From: "a", To: "b", Epoch: epoch}
	}
	check(t, []row{
		{"a leader whose setting is in force has nothing to do", leader, quorumOn, "leader=self server=primary -> nothing"},
		{"the mode is switched on: /sync first", leader, func(v *View) {
			quorumOn(v)
			v.State.Sync, v.Server.SyncNames, v.Memory.Sync = cluster.Sync{}, "", Sync{}
		}, `leader=self server=primary sync=rule="" sync=none -> publish({"leader":"a","quorum":0,"sync_standby":null}) -> put sync`},
		{"a voter is gone: the setting first", leader, func(v *View) {
			quorumOn(v)
			v.Server.Replicas = v.Server.Replicas[:1]
		}, `leader=self server=primary sync=rule="ANY 1 (b,c)" toward="ANY 1 (b)" -> set(ANY 1 (b)) -> synchronize(ANY 1 (b))`},
		{"somebody wrote over /sync: nothing is moved", leader, func(v *View) {
			quorumOn(v)
			v.State.Sync, v.State.Problems = cluster.Sync{}, []cluster.Problem{{Key: cluster.KeySync}}
		}, "leader=self server=primary -> nothing"},
		{"the mode is off: the key goes first", leader, func(v *View) {
			quorumOn(v)
			v.State.Config.Data = map[string]any{"synchronous_mode": "off"}
		}, "leader=self server=primary sync=mode=off -> forget -> drop sync"},
		{"a voter gave the leader up: the key is taken anew", leader, func(v *View) {
			quorumOn(v)
			vote(v, "c", 1000)
			v.Memory.Doubted = now - 3*time.Second
		}, "leader=self server=primary doubted=40 -> retake(epoch 40)"},
		{"a standby is armed", standby, func(v *View) { quorumOn(v); set(v, quorum.Names{}) }, "leader=a server=standby sync=arm -> synchronize(__patroni_strict_sync_replica_placeholder__)"},
		{"an armed one is left alone", standby, quorumOn, "leader=a server=standby -> nothing"},
		{"the one that comes next has what it will need", standby, heir, "leader=a server=standby sync=arm -> synchronize(ANY 1 (a,c))"},
		{"and keeps it", standby, func(v *View) { heir(v); set(v, quorum.Any(1, "a", "c")) }, "leader=a server=standby -> nothing"},
		{"until somebody else does", standby, func(v *View) {
			heir(v)
			set(v, quorum.Any(1, "a", "c"))
			v.State.Drain.To = "c"
		}, "leader=a server=standby sync=arm -> synchronize(__patroni_strict_sync_replica_placeholder__)"},
		{"or /sync is another", standby, func(v *View) {
			heir(v)
			set(v, quorum.Any(1, "a", "d"))
		}, "leader=a server=standby sync=arm -> synchronize(__patroni_strict_sync_replica_placeholder__)"},
		{"its lease is confirmed by then", standby, func(v *View) {
			heir(v)
			set(v, quorum.Any(1, "a", "c"))
			v.Memory.Lease.Sent = now - 2*time.Second
		}, "leader=a server=standby -> renew"},
		{"offered the key, it sets what it did not have before", standby, func(v *View) {
			quorumOn(v)
			v.State.Handover = &cluster.Handover{Mod: 49, From: "a", Epoch: epoch, Timeline: 2, LSN: 1000}
		}, "leader=a server=standby handover=mine sync=begin -> take(epoch 40, handover 49), synchronize(ANY 1 (a,c))"},
		{"elected over another /sync than it was ready for: once more from the start", standby, func(v *View) {
			quorumOn(v)
			set(v, quorum.Any(1, "a", "d"))
			v.State.Leader = &cluster.Leader{Name: "b", Lease: 8, Mod: 50}
			v.State.Term = &cluster.Term{Mod: 50, Leader: "b", Reserved: 3}
			v.State.Sync = cluster.Sync{Mod: 50, Leader: "b", Quorum: 1, Standby: []string{"a", "c"}}
			v.Memory.Right = Right{Epoch: 50, Sent: now, TTL: 5 * time.Second}
		}, "leader=self server=standby sync=begin -> synchronize(__patroni_strict_sync_replica_placeholder__)"},
		{"who has pledged takes nothing from that leader", standby, func(v *View) {
			quorumOn(v)
			vote(v, "b", 1000)
			v.Memory.Vacancy = Vacancy{Open: true, After: epoch, Since: now}
		}, "leader=a refused=40 ballot=pledged=1/2 -> nothing"},
		{"who has refused, and did not come to say so, says it", standby, func(v *View) {
			quorumOn(v)
			v.Server.Refused = epoch
		}, "leader=a refused=40(untold) -> fence(epoch 40)"},
		{"so is that of one that does not run", standby, func(v *View) {
			quorumOn(v)
			v.Server.Refused, v.Server.Process = epoch, pg.ProcessNone
		}, "leader=a refused=40(untold) -> put howdah/pledges/b"},
		{"of one whose data are a copy", standby, func(v *View) {
			quorumOn(v)
			v.Server.Refused, v.Server.Copied = epoch, true
		}, "leader=a refused=40(untold) -> put howdah/pledges/b"},
		{"of one whose data are gone", standby, func(v *View) {
			quorumOn(v)
			v.Server.Refused, v.Server.Process, v.Server.Data = epoch, pg.ProcessNone, pg.DataMissing
		}, "leader=a refused=40(untold) -> put howdah/pledges/b"},
		{"and told it waits for a later epoch", standby, func(v *View) {
			quorumOn(v)
			v.Server.Refused, v.Server.Process = epoch, pg.ProcessNone
			v.State.Pledges = []cluster.Pledge{{Member: "b", Epoch: epoch, NoFailover: true, Refused: true, Mod: 49}}
		}, "leader=a refused=40 -> nothing"},
		{"under which it follows", standby, func(v *View) {
			quorumOn(v)
			v.Server.Refused, v.Server.Process, v.Server.Data = epoch-1, pg.ProcessNone, pg.DataMissing
			v.State.Pledges = []cluster.Pledge{{Member: "b", Epoch: epoch - 1, NoFailover: true, Refused: true, Mod: 39}}
		}, "leader=a data=missing -> clone(a)"},
		{"the leader takes his key anew for it", leader, func(v *View) {
			quorumOn(v)
			v.State.Pledges = []cluster.Pledge{{Member: "b", Epoch: epoch, NoFailover: true, Refused: true, Mod: 49}}
			v.Memory.Doubted = now - 3*time.Second
		}, "leader=self server=primary doubted=40 -> retake(epoch 40)"},
		{"elected, it sets whom commits wait for before it is promoted", standby, func(v *View) {
			quorumOn(v)
			v.State.Leader = &cluster.Leader{Name: "b", Lease: 8, Mod: 50}
			v.State.Term = &cluster.Term{Mod: 50, Leader: "b", Reserved: 3}
			v.State.Sync = cluster.Sync{Mod: 50, Leader: "b", Quorum: 1, Standby: []string{"a", "c"}}
			v.Memory.Right = Right{Epoch: 50, Sent: now, TTL: 5 * time.Second}
		}, "leader=self server=standby sync=begin -> synchronize(ANY 1 (a,c))"},
		{"and then promotes, on the timeline that was reserved", standby, func(v *View) {
			quorumOn(v)
			v.State.Leader = &cluster.Leader{Name: "b", Lease: 8, Mod: 50}
			v.State.Term = &cluster.Term{Mod: 50, Leader: "b", Reserved: 3}
			v.State.Sync = cluster.Sync{Mod: 50, Leader: "b", Quorum: 1, Standby: []string{"a", "c"}}
			v.Memory.Right = Right{Epoch: 50, Sent: now, TTL: 5 * time.Second}
			set(v, quorum.Any(1, "a", "c"))
		}, "leader=self server=standby -> promote"},
	})
}

// A primary that was started in synchronous mode shows nothing that its standbys
// have not confirmed.
func TestDoors(t *testing.T) {
	started := func(v *View) {
		quorumOn(v)
		v.Server.Shut = true
		v.Server.Replicas = []pg.Replica{{Name: "b", State: "streaming", Flushed: 999}, {Name: "c", State: "streaming", Flushed: 1000}}
		v.Memory.Doors = Doors{PID: 11, End: 1000, Since: now - time.Second}
	}
	off := func(v *View) {
		quorumOn(v)
		down(&v.Server)
		v.Server.Control.State = pg.ControlShutDown
		v.Memory.Offer.Closed = true
		v.Memory.SetAt = 3
	}
	check(t, []row{
		{"it is shut before it starts", leader, off, "leader=self server=down shutdown=clean -> shut"},
		{"and then started", leader, func(v *View) { off(v); v.Server.Shut = true }, "leader=self server=down shutdown=clean -> start(primary)"},
		{"without the mode it is not", leader, func(v *View) {
			off(v)
			v.State.Config.Data, v.State.Sync = map[string]any{}, cluster.Sync{}
		}, "leader=self server=down shutdown=clean -> start(primary)"},
		{"enough have what it would show", leader, started, "leader=self server=primary doors=confirmed(1/1) -> admit"},
		{"where it ends is told by the first look", leader, func(v *View) { started(v); v.Memory.Doors.PID = 10; v.Server.Flushed = 1001 }, "leader=self server=primary doors=confirmed(0/1) -> nothing"},
		{"one that does not count confirms nothing", leader, func(v *View) {
			started(v)
			set(v, quorum.Any(1, "b"))
			v.Server.Replicas[1].Flushed = 2000
			v.State.Sync = cluster.Sync{Mod: 44, Leader: "a", Standby: []string{"b"}}
			v.State.Members[2].Tags = cluster.Tags{"nosync": true}
		}, "leader=self server=primary doors=confirmed(0/1) -> nothing"},
		{"two connections of one standby are one", leader, func(v *View) {
			started(v)
			v.Server.Replicas[0].Name = "c"
			v.Server.Replicas[0].Flushed = 1000
			set(v, quorum.Any(2, "b", "c"))
			v.State.Sync.Quorum = 0
			v.State.Config.Data["synchronous_node_count"] = 2.0
			v.Memory.Sync.Rule = quorum.Any(2, "b", "c")
		}, `leader=self server=primary doors=confirmed(1/2) sync=rule="ANY 2 (b,c)" toward="ANY 1 (c)" cover -> publish({"leader":"a","quorum":1,"sync_standby":"b,c"}) -> put sync`},
		{"whoever may be promoted without it", leader, func(v *View) { started(v); v.State.Sync.Quorum = 0 }, `leader=self server=primary doors=sync-uncovered sync=rule="ANY 1 (b,c)" sync=uncovered -> publish({"leader":"a","quorum":0,"sync_standby":null}) -> put sync`},
		{"nobody waits, and nobody else may lead", leader, func(v *View) {
			started(v)
			v.State.Config.Data["synchronous_mode_strict"] = false
			v.State.Sync.Standby, v.State.Sync.Quorum = nil, 0
			v.Server.Replicas = nil
			set(v, quorum.Names{})
		}, "leader=self server=primary doors=nobody-waits -> admit"},
		{"the mode was switched off", leader, func(v *View) {
			started(v)
			v.State.Config.Data, v.State.Sync = map[string]any{"synchronous_mode": "off"}, cluster.Sync{}
		}, "leader=self server=primary doors=asynchronous -> admit"},
	})
	v := leader()
	started(&v)
	d := Decide(v)
	if got := Show(v, d).Member; got.State != cluster.StateStarting || got.Role != cluster.RolePrimary || !got.Source() {
		t.Errorf("it is shown as %s %s: services must not lead there, and members must", got.Role, got.State)
	}
	v.Server.Replicas, v.Memory.Doors.Since = nil, now-time.Minute
	if got := said(v); len(got) != 1 || got[0].Code != "clients-shut-out" {
		t.Errorf("told is %v, want why clients wait", got)
	}
}

// said are the problems that a member tells people of.
func said(v View) []problem.Error {
	v.Memory.Told, v.Memory.LastNote = now-time.Minute, now
	for _, a := range Decide(v).Actions {
		if p, ok := a.(Put); ok && p.Key == cluster.DirWhy+v.Self.Name {
			w, _ := cluster.ParseWhy(v.Self.Name, []byte(p.Value))
			return w.Problems
		}
	}
	return nil
}

// A new primary writes its checkpoint once a standby confirms, or soon: the only one
// left may have to be rewound, which begins with that checkpoint.
func TestTheCheckpointWaitsForWhoConfirms(t *testing.T) {
	for served, want := range map[time.Duration]bool{settles / 2: false, settles: true} {
		v := leader()
		quorumOn(&v)
		v.Server.Replicas, v.Server.Control.Timeline = nil, 1
		v.Memory.Story = Story{Kind: cluster.KindCrash, From: "z", Begun: v.Wall, Served: now - served, End: 1000}
		if got := slices.ContainsFunc(Decide(v).Actions, func(a Action) bool { return a == Checkpoint{} }); got != want {
			t.Errorf("%s after it began to write a checkpoint is due: %v, want %v", served, got, want)
		}
	}
}

// People are told of commits that wait in vain, and of those that do not wait.
func TestPatient(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*View)
		want string
	}{
		{"nobody waits", func(*View) {}, ""},
		{"not for long", func(v *View) { v.Server.Commits = pg.Commits{Waiting: 3, Longest: 2 * time.Second} }, ""},
		{"nobody streams", func(v *View) {
			v.Server.Replicas = nil
			v.Server.Commits = pg.Commits{Waiting: 3, Longest: 12 * time.Second}
		}, "commits-waiting: 3 commits wait for standbys, the first for more than 10 s: no replica streams"},
		{"too few", func(v *View) {
			v.Server.Commits = pg.Commits{Waiting: 1, Longest: time.Hour}
		}, "commits-waiting: one commit waits for standbys, the first for more than an hour: 1 of b, c must have flushed them, and of those that stream (b, c) not enough have"},
		{"not all wait", func(v *View) {
			v.Server.Commits.Lax = []pg.Lax{{Role: "batch", Value: "off", InUse: true}, {Database: "logs", Value: "local"}, {Database: "logs", Role: "x", Value: "local"}, {Value: "remote_write"}}
		}, "commits-lax: commits are acknowledged that no standby has: synchronous_commit is off for role batch (sessions are there); local in database logs; local for role x in database logs; remote_write for everybody"},
		{"the mode is off", func(v *View) {
			v.State.Config.Data, v.State.Sync = map[string]any{}, cluster.Sync{}
			v.Server.Commits = pg.Commits{Waiting: 3, Longest: time.Hour, Lax: []pg.Lax{{Value: "off"}}}
		}, ""},
	} {
		v := leader()
		quorumOn(&v)
		tt.with(&v)
		got := ""
		for _, p := range said(v) {
			got += p.Code + ": " + p.What + ": " + p.Why
		}
		if got != tt.want {
			t.Errorf("%s: told is\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

func TestBallot(t *testing.T) {
	lost := func(v *View) {
		quorumOn(v)
		v.Memory.Vacancy = Vacancy{Open: true, After: epoch, Since: now - 200*time.Millisecond}
	}
	check(t, []row{
		{"a voter makes its fence first", vacant, lost, "leader=none after=40 -> fence(epoch 40)"},
		{"then its pledge", vacant, func(v *View) {
			lost(v)
			v.Memory.Fence = quorum.Fence{Member: "b", Refusal: epoch, Durable: 1, Cleared: 2, Gone: 3, Read: 4, At: quorum.Position{Timeline: 2, LSN: 1000}, Whole: true}
		}, "leader=none after=40 pledge=0/3E8 -> put howdah/pledges/b"},
		{"a copy that lacks what it had confirmed pledges nothing", vacant, func(v *View) {
			lost(v)
			v.Memory.Fence = quorum.Fence{Member: "b", Refusal: epoch, Durable: 1, Cleared: 2, Gone: 3, Read: 4, At: quorum.Position{Timeline: 2, LSN: 1000}}
		}, "leader=none after=40 pledge=no(whole data) -> nothing"},
		{"with enough pledges the key is taken", vacant, func(v *View) { lost(v); vote(v, "b", 1000); vote(v, "c", 900) }, "leader=none after=40 ballot=pledged=2/2 best=b(0/3E8 on 2) sync=begin -> acquire(after 40), synchronize(ANY 1 (a,c))"},
		{"not by who has less", vacant, func(v *View) { lost(v); vote(v, "b", 1000); vote(v, "c", 1100); v.Memory.Vacancy.Ready = now }, "leader=none after=40 ballot=pledged=2/2 best=c(0/44C on 2) behind=0/3E8 rank=1 -> nothing"},
		{"who has less fetches it, if the first does not act", vacant, func(v *View) {
			lost(v)
			vote(v, "b", 1000)
			vote(v, "c", 1100)
			v.Memory.Vacancy.Ready = now - time.Minute
		}, "leader=none after=40 ballot=pledged=2/2 best=c(0/44C on 2) behind=0/3E8 fetch=c -> follow(c)"},
		{"unless that one is gone", vacant, func(v *View) {
			lost(v)
			vote(v, "b", 1000)
			vote(v, "c", 1100)
			v.Memory.Vacancy.Ready = now - time.Minute
			v.State.Members = v.State.Members[:1]
		}, "leader=none after=40 ballot=pledged=2/2 best=c(0/44C on 2) behind=0/3E8 fetch=unable -> nothing"},
		{"nor without a voter's own", vacant, func(v *View) { lost(v); v.State.Sync.Standby = []string{"c"}; vote(v, "c", 900) }, "leader=none after=40 ballot=candidate=no(voter) -> nothing"},
		{"/sync that can not be read elects nobody", vacant, func(v *View) {
			lost(v)
			v.State.Sync, v.State.Problems = cluster.Sync{}, []cluster.Problem{{Key: cluster.KeySync}}
		}, "leader=none after=40 sync=unreadable -> nothing"},
		{"a voter that is none of ours: by positions", vacant, func(v *View) {
			lost(v)
			v.State.Recorded = v.State.Recorded[:2]
		}, "patroni=c leader=none after=40 pledges=unable(c) position=0/3E8 -> put howdah/pledges/b"},
	})
}

func TestSuspicion(t *testing.T) {
	silent := func(v *View) {
		quorumOn(v)
		v.Heard = now - time.Second
		v.ServerAt = now
		v.Memory.Suspicion = Suspicion{Epoch: epoch, Flushed: 1000, Moved: now - time.Second}
	}
	check(t, []row{
		{"a leader that is heard is followed", standby, quorumOn, "leader=a server=standby -> nothing"},
		{"one whose machine is silent is suspected", standby, silent, "leader=a leader=silent suspected=0/2 server=standby -> put howdah/suspects/b"},
		{"not while log comes", standby, func(v *View) { silent(v); v.Memory.Suspicion.Flushed = 900 }, "leader=a server=standby -> nothing"},
		{"log that came long ago is no sign of life for being seen now", standby, func(v *View) {
			silent(v)
			v.Memory.Suspicion.Flushed, v.Server.Silence = 900, suspectAfter
		}, "leader=a leader=silent suspected=0/2 server=standby -> put howdah/suspects/b"},
		{"log that came lately is", standby, func(v *View) {
			silent(v)
			v.Memory.Suspicion.Flushed, v.Server.Silence = 900, suspectAfter-1
		}, "leader=a server=standby -> nothing"},
		{"nor if it was never heard", standby, func(v *View) { silent(v); v.Heard = 0 }, "leader=a server=standby -> nothing"},
		{"when as many say so as it takes, a voter takes nothing more from it", standby, func(v *View) {
			silent(v)
			v.State.Suspects = []cluster.Suspicion{{Member: "b", Mod: 49, Epoch: epoch}, {Member: "c", Mod: 49, Epoch: epoch}}
		}, "leader=a leader=silent -> fence(epoch 40)"},
		{"heard again, it says so no more", standby, func(v *View) {
			quorumOn(v)
			v.State.Suspects = []cluster.Suspicion{{Member: "b", Mod: 49, Epoch: epoch}}
		}, "leader=a server=standby -> drop howdah/suspects/b"},
	})
}

// With quorum commit nobody writes before a commit can be acknowledged, and the page
// of a change of leader says so; without standbys it comes late rather than never.
func TestAPageWaitsForWhoAcknowledges(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*View)
		want bool
	}{
		{"nobody waits", func(v *View) {
			v.Server.Replicas = nil
			v.State.Config.Data, v.State.Sync = map[string]any{}, cluster.Sync{}
			set(v, quorum.Names{})
		}, true},
		{"one has all", quorumOn, true},
		{"nobody streams yet", func(v *View) { quorumOn(v); v.Server.Replicas = nil }, false},
		{"who streams is behind", func(v *View) { quorumOn(v); v.Server.Flushed = 1001 }, false},
		{"behind where it began to serve", func(v *View) {
			quorumOn(v)
			v.Server.Flushed, v.Memory.Story.End, v.Memory.Story.Served = 5000, 1000, now-time.Second
		}, true},
		{"nobody streams for long", func(v *View) {
			quorumOn(v)
			v.Server.Replicas = nil
			v.Memory.Story.End, v.Memory.Story.Served = 1000, now-pageWaits
		}, true},
		{"told before, and not seen yet", func(v *View) {
			quorumOn(v)
			v.Server.Replicas = nil
			v.Memory.Story.Phases = []cluster.Phase{{Name: cluster.PhaseWrites}}
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := leader()
			v.Memory.Story = Story{Kind: cluster.KindCrash, From: "z", Begun: v.Wall}
			tt.with(&v)
			got := false
			for _, a := range Decide(v).Actions {
				p, ok := a.(Put)
				got = got || ok && strings.HasPrefix(p.Key, cluster.DirFailovers)
			}
			if got != tt.want {
				t.Errorf("a page is put: %v, want %v", got, tt.want)
			}
		})
	}
}
