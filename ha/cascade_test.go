package ha

import (
	"testing"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
)

// A member streams from the one that its tag replicatefrom names.
func TestCascade(t *testing.T) {
	from := func(name string) cluster.Tags { return cluster.Tags{cluster.TagReplicateFrom: name} }
	streaming := func(v *View) {
		for i := range v.State.Members[1:] {
			v.State.Members[1+i].ReplicationState = cluster.ReplicationStreaming
		}
	}
	behind := func(v *View) { // b streams from c
		streaming(v)
		v.Self.Tags = from("c")
		v.State.Members[1].Tags = v.Self.Tags
	}
	onC := func(v *View) { v.Server.Upstream = "10.0.0.c:5432" }
	source := func(v *View) { // b is streamed from by c
		streaming(v)
		v.State.Members[2].Tags = from("b")
	}
	led := func(v *View) { source(v); v.Server.Replicas = v.Server.Replicas[:1] }
	check(t, []row{
		{"it goes to that member", standby, behind, "leader=a server=standby upstream=10.0.0.a:5432 -> follow(c)"},
		{"and stays there", standby, func(v *View) { behind(v); onC(v) }, "leader=a server=standby -> nothing"},
		{"which does not stream itself: to the leader", standby, func(v *View) {
			behind(v)
			onC(v)
			v.State.Members[2].ReplicationState = cluster.ReplicationInRecovery
		}, "leader=a server=standby upstream=10.0.0.c:5432 -> follow(a)"},
		{"which is away: to the leader", standby, func(v *View) { behind(v); v.State.Members = v.State.Members[:2] }, "leader=a server=standby -> nothing"},
		{"which is itself: to the leader", standby, func(v *View) { behind(v); v.Self.Tags = from("b") }, "leader=a server=standby -> nothing"},
		{"which leads", standby, func(v *View) { behind(v); v.Self.Tags = from("a") }, "leader=a server=standby -> nothing"},
		{"round in a circle: to the leader", standby, func(v *View) { behind(v); v.State.Members[2].Tags = from("b") }, "leader=a server=standby -> nothing"},
		{"nothing comes from there: to the leader", standby, func(v *View) {
			behind(v)
			onC(v)
			v.Server.Streaming = false
			v.State.Members[1].ReplicationState = ""
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Stuck: now - stuckAfter}
		}, "leader=a server=standby streaming=no source=c(silent) -> nothing"},
		{"in that reign", standby, func(v *View) {
			behind(v)
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Direct: true}
		}, "leader=a server=standby -> nothing"},
		{"it starts there", standby, func(v *View) { behind(v); down(&v.Server); v.Memory.Rejoin.Measured = true }, "leader=a -> measure"},
		{"who is streamed from keeps a slot", standby, source, "leader=a server=standby slots=missing -> slots(c)"},
		{"once", standby, func(v *View) { source(v); v.Server.Slots = []string{"c"} }, "leader=a server=standby -> nothing"},
		{"and drops those of others", standby, func(v *View) { source(v); v.Server.Slots = []string{"a", "c"} }, "leader=a server=standby slots=old -> slots(c)"},
		{"in synchronous mode one is ready for everybody", standby, func(v *View) { quorumOn(v); v.Server.Slots, v.Server.Spare = nil, nil }, "leader=a server=standby slots=missing -> slots(; spare a,c)"},
		{"who comes after it is promoted", standby, func(v *View) { quorumOn(v); source(v) }, "leader=a server=standby -> nothing"},
		{"not on one that never is", standby, func(v *View) {
			quorumOn(v)
			v.Server.Slots, v.Server.Spare = nil, nil
			v.Self.Tags = cluster.Tags{"nofailover": true}
		}, "leader=a server=standby -> nothing"},
		{"they hold no log", standby, func(v *View) { quorumOn(v); v.Server.Spare = []string{"c"} }, "leader=a server=standby slots=old -> slots(; spare a,c)"},
		{"before it leads", leader, func(v *View) { quorumOn(v); v.Server.Spare = []string{"c"} }, "leader=self server=primary slots=missing -> slots(b,c)"},
		{"and somebody streams", leader, func(v *View) {
			quorumOn(v)
			v.Server.Spare, v.Server.Replicas = []string{"b", "c"}, nil
			v.Memory.Story = Story{Kind: cluster.KindCrash, From: "z", Begun: v.Wall, Served: now - settles/2, End: 1000}
			v.Memory.Sync.Rule, v.Memory.Sync.Written = quorum.Any(1, "b", "c"), quorum.Any(1, "b", "c")
		}, "leader=self server=primary -> nothing"},
		{"the leader drops it", leader, led, "leader=self server=primary slots=missing -> slots(b)"},
		{"not while it is in use", leader, source, "leader=self server=primary -> nothing"},
		{"nor again if it stays", leader, func(v *View) { led(v); v.Memory.Left = "c" }, "leader=self server=primary -> nothing"},
		{"nobody has one: who had it left", leader, func(v *View) { v.Server.Slots = []string{"b", "c", "d"} }, "leader=self server=primary slots=missing -> slots(b,c)"},
		{"somebody else's stays", leader, func(v *View) {
			v.Server.Slots = []string{"b", "c", "d"}
			v.Memory.Left = "d"
		}, "leader=self server=primary -> nothing"},
		{"whose it is can not be seen", leader, func(v *View) {
			v.Server.Slots = []string{"b", "c", "d"}
			v.State.Problems = []cluster.Problem{{Key: cluster.DirRecorded + "d"}}
		}, "leader=self server=primary -> nothing"},
		{"who left is dropped by whom he streamed from", standby, func(v *View) {
			source(v)
			v.Server.Slots, v.Memory.Swept = []string{"c", "d"}, epoch
		}, "leader=a server=standby slots=old -> slots(c)"},
		{"one that is away keeps its slot on the leader", leader, func(v *View) {
			led(v)
			v.State.Members[2].State = cluster.StateStopped
			v.Server.Slots = []string{"b"}
		}, "leader=self server=primary slots=missing -> slots(b,c)"},
	})
}

// Who has more than its new leader had does not go to him before it knows better.
func TestAhead(t *testing.T) {
	taken := func(at pg.LSN) func(*View) { // c takes the key of a
		return func(v *View) {
			v.State.Leader = &cluster.Leader{Name: "c", Lease: 9, Mod: 50}
			v.State.Term = &cluster.Term{Mod: 50, Leader: "c", Timeline: 2, LSN: at, Reserved: 3}
			v.State.Members[0].Role = cluster.RoleReplica
		}
	}
	leads := func(tl pg.Timeline, rows ...cluster.HistoryRow) func(*View) {
		return func(v *View) {
			taken(999)(v)
			v.State.Members[2].Role, v.State.Members[2].Timeline = cluster.RolePrimary, tl
			v.State.History = append(v.State.History, rows...)
		}
	}
	const so = "leader=c server=standby upstream=10.0.0.a:5432 "
	check(t, []row{
		{"with what he had it goes to him at once", standby, taken(1000), so + "-> follow(c)"},
		{"with more it waits", standby, taken(999), so + "ahead=1 -> nothing"},
		{"also while he writes, and does not say what", standby, leads(3), so + "ahead=1 -> nothing"},
		{"it measures its log if he never does", standby, func(v *View) {
			leads(3)(v)
			v.Memory.Rejoin = Rejoin{Leader: "c", Epoch: 50, Stuck: now - stuckAfter, Asked: now - 1}
		}, so + "ahead=1 stuck=10s -> stop"},
		{"not before it asked whether he lets it in", standby, func(v *View) {
			leads(3)(v)
			v.Memory.Rejoin = Rejoin{Leader: "c", Epoch: 50, Stuck: now - stuckAfter}
		}, so + "ahead=1 stuck=10s -> identify(c)"},
		{"nor where he does not: it stays as it is", standby, func(v *View) {
			leads(3)(v)
			v.Memory.Rejoin = Rejoin{Leader: "c", Epoch: 50, Stuck: now - stuckAfter, Tries: 1, Asked: now - 1, Refused: "role \"replicator\" is not permitted to log in"}
		}, so + "ahead=1 source=refuses -> nothing"},
		{"as where what it is on is none of his ancestors", standby, func(v *View) {
			leads(8, cluster.HistoryRow{Timeline: 5, LSN: 999})(v)
			v.Server.Timeline, v.State.Term.Reserved = 6, 8
			v.Memory.Rejoin = Rejoin{Leader: "c", Epoch: 50, Stuck: now - stuckAfter, Asked: now - 1}
		}, so + "ahead=1 stuck=10s -> stop"},
		{"who has not said that he writes is waited for", standby, func(v *View) {
			taken(999)(v)
			v.Memory.Rejoin = Rejoin{Leader: "c", Epoch: 50, Stuck: now - stuckAfter}
		}, so + "ahead=1 -> nothing"},
		{"he began no timeline", standby, leads(2), so + "-> follow(c)"},
		{"his began behind it", standby, leads(3, cluster.HistoryRow{Timeline: 2, LSN: 1000}), so + "-> follow(c)"},
		{"his began before its end", standby, leads(3, cluster.HistoryRow{Timeline: 2, LSN: 999}), so + "forked=1 -> stop"},
	})
}
