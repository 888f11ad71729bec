package ha

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// back puts the record of a restore to timeline 4 on member a.
func back(phase string) func(*View) {
	return func(v *View) {
		v.State.Restore = &cluster.Restore{
			Mod: 47, ID: "x", Member: "a", To: "noon", Timeline: 4, Phase: phase, Made: "restore-x", Aside: "kept/before-x",
		}
	}
}

func and(with ...func(*View)) func(*View) {
	return func(v *View) {
		for _, f := range with {
			f(v)
		}
	}
}

func isDown(v *View) { down(&v.Server) }

// inPlace has the server on the data of the restore, shut down.
func inPlace(v *View) {
	down(&v.Server)
	v.Server.Standby, v.Server.Control = false, pg.Control{State: pg.ControlShutDown, System: system, Timeline: 4}
}

func TestRestore(t *testing.T) {
	check(t, []row{
		{"what is being made concerns nobody", leader, back(cluster.RestoreMaking), "leader=self server=primary -> nothing"},
		{"asked, the leader ends its server", leader, back(cluster.RestoreAsked), "leader=self restore=asked -> stop"},
		{"and then says that it has turned", leader, and(back(cluster.RestoreAsked), isDown), "leader=self restore=asked -> revert(epoch 40)"},
		{
			"not over a timeline that somebody has begun meanwhile", leader,
			and(back(cluster.RestoreAsked), func(v *View) { v.State.Term.Timeline = 4 }), "leader=self restore=stale server=primary -> nothing",
		},
		{
			"not in a switchover whose server is down", leader,
			and(back(cluster.RestoreAsked), isDown, func(v *View) {
				v.Server.Control.State, v.Memory.Switch.Stopped = pg.ControlShutDown, true
				v.Memory.Switch.To = "b"
			}),
			"leader=self restore=waits server=down(planned) offer=made -> put howdah/handover",
		},
		{"it is asked of the member that led", standby, back(cluster.RestoreAsked), "leader=a server=standby -> nothing"},
		{"turned, the data are exchanged before anything starts", leader, and(back(cluster.RestoreTurned), isDown), "restore=turned -> install(restore-x)"},
		{
			"also between the two renames", leader,
			and(back(cluster.RestoreTurned), isDown, func(v *View) { v.Server.Data, v.Server.Control = pg.DataMissing, pg.Control{} }), "restore=turned -> install(restore-x)",
		},
		{"what runs on the old data is ended", leader, back(cluster.RestoreTurned), "restore=turned -> kill"},
		{
			"also without the key", leader,
			and(back(cluster.RestoreTurned), isDown, func(v *View) { v.State.Leader = nil; v.Memory.Right = Right{} }), "restore=turned -> install(restore-x)",
		},
		{
			"in place, the server is started like one that was shut down", leader,
			and(back(cluster.RestoreTurned), inPlace, func(v *View) { v.Memory.Offer.Closed = true }), "leader=self server=down shutdown=clean -> start(primary)",
		},
		{"when it is done, data that are lost are copied as ever", standby, and(back(cluster.RestoreDone), func(v *View) {
			v.State.Restore.Member = "b"
			down(&v.Server)
			v.Server.Data, v.Server.Control = pg.DataMissing, pg.Control{}
		}), "leader=a data=missing -> clone(a)"},
	})
}

// After the turn a log of before wins nothing, however long it is.
func TestNobodyFromBeforeTheRestoreLeads(t *testing.T) {
	all := func(v *View) {
		pledged(v, cluster.Pledge{Member: "b", LSN: 1000, Witness: true}, cluster.Pledge{Member: "c", LSN: 900})
		v.Memory.Vacancy.Since = now - time.Minute
	}
	votes := func(v *View) {
		quorumOn(v)
		vote(v, "b", 1000)
		vote(v, "c", 900)
		v.Memory.Vacancy = Vacancy{Open: true, After: epoch, Since: now - time.Minute}
	}
	for _, tt := range []struct {
		name string
		base func() View
		with func(*View)
	}{
		{"an election", vacant, all},
		{"a person's wish", vacant, and(all, func(v *View) { v.State.Failover = cluster.Failover{Mod: 48, Member: "b"} })},
		{"a ballot", vacant, votes},
		{"a person's wish in synchronous mode", vacant, and(votes, func(v *View) { v.State.Failover = cluster.Failover{Mod: 48, Member: "b"} })},
		{"an offer", standby, func(v *View) {
			v.State.Handover = &cluster.Handover{Mod: 49, From: "a", Epoch: epoch, Timeline: 2, LSN: 1000}
		}},
	} {
		takes := func(with func(*View)) bool {
			v := tt.base()
			with(&v)
			for _, a := range Decide(v).Actions {
				switch a.(type) {
				case Acquire, Take:
					return true
				}
			}
			return false
		}
		if !takes(tt.with) {
			v := tt.base()
			tt.with(&v)
			t.Errorf("%s: without a restore b does not take the key: %s", tt.name, Decide(v))
		}
		if !takes(and(tt.with, back(cluster.RestoreAsked))) {
			t.Errorf("%s: b does not take the key of a leader that has not turned", tt.name)
		}
		for _, phase := range []string{cluster.RestoreTurned, cluster.RestoreDone} {
			if takes(and(tt.with, back(phase))) {
				t.Errorf("%s: b takes the key with a log of before the restore (%s)", tt.name, phase)
			}
		}
		if !takes(and(tt.with, back(cluster.RestoreDone), func(v *View) { v.State.Restore.Timeline = 2 })) {
			t.Errorf("%s: b does not take the key with the restore's own log", tt.name)
		}
		if takes(and(tt.with, func(v *View) { v.State.Problems = append(v.State.Problems, cluster.Problem{Key: cluster.KeyRestore}) })) {
			t.Errorf("%s: b takes the key although the restore cannot be read", tt.name)
		}
	}
}

// Whoever follows the leader of a restore that was undone is on a timeline that
// is none of the leader's ancestors.
func TestOnATimelineThatWasUndone(t *testing.T) {
	check(t, []row{{
		"it stops, to rejoin", standby, and(back(cluster.RestoreDone), func(v *View) {
			v.State.History = cluster.History{{Timeline: 1, LSN: 700, At: "2026-11-20T12:00:00+00:00", Leader: "a"}}
			v.Server.Streaming = false
		}), "leader=a server=standby streaming=no restore=undone -> stop",
	}})
}
