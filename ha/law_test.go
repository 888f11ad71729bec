package ha

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"howdah/cluster"
	"howdah/pg"
)

// drawView bends one of the good views in any number of ways.
func drawView(t *rapid.T) View {
	v := rapid.SampledFrom([]func() View{leader, standby, vacant}).Draw(t, "base")()
	odd := func(what string) bool { return rapid.IntRange(0, 4).Draw(t, what) == 0 }
	after := func(what string) time.Duration {
		return now - rapid.SampledFrom([]time.Duration{0, 10, 1000, 3000, 4400, 4600, 60000}).Draw(t, what)*time.Millisecond
	}
	if odd("process") {
		v.Server.Process = rapid.SampledFrom([]pg.Process{
			pg.ProcessNone, pg.ProcessRemains, pg.ProcessStarting, pg.ProcessRunning, pg.ProcessStopping, pg.ProcessFrozen,
		}).Draw(t, "is")
		v.Server.Answers = v.Server.Process == pg.ProcessRunning && !odd("silent")
	}
	if odd("data") {
		v.Server.Data = rapid.SampledFrom([]pg.DataState{pg.DataMissing, pg.DataPartial, pg.DataPresent, pg.DataUnreadable}).Draw(t, "is")
	}
	if odd("control") {
		v.Server.Control.State = rapid.SampledFrom([]pg.ControlState{
			pg.ControlShutDown, pg.ControlShutDownInRecovery, pg.ControlInProduction, pg.ControlInArchiveRecovery, pg.ControlShuttingDown,
		}).Draw(t, "is")
		v.Server.Control.Timeline = pg.Timeline(rapid.IntRange(1, 3).Draw(t, "timeline"))
	}
	if odd("signal") {
		v.Server.Standby = !v.Server.Standby
	}
	if odd("streaming") {
		v.Server.Streaming = !v.Server.Streaming
	}
	if odd("leader") {
		name := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "is")
		v.State.Leader = &cluster.Leader{Name: name, Lease: 7, Mod: int64(rapid.IntRange(39, 42).Draw(t, "epoch"))}
		if odd("none") {
			v.State.Leader = nil
		}
	}
	if odd("right") {
		v.Memory.Right = Right{Epoch: int64(rapid.IntRange(0, 42).Draw(t, "of")), Sent: after("sent"), TTL: 5 * time.Second}
	}
	if odd("under") {
		v.Memory.Under = int64(rapid.IntRange(0, 42).Draw(t, "epoch"))
	}
	if odd("lease") {
		v.Memory.Lease = Lease{ID: int64(rapid.IntRange(0, 9).Draw(t, "id")), TTL: 5 * time.Second, Sent: after("kept")}
	}
	if odd("handover") {
		v.State.Handover = &cluster.Handover{Mod: 49, From: "a", To: rapid.SampledFrom([]string{"", "b", "c"}).Draw(t, "to"), Epoch: int64(rapid.IntRange(39, 41).Draw(t, "of")), Timeline: 2, LSN: 1000}
	}
	if odd("pledges") {
		pledged(&v, cluster.Pledge{Member: "b", LSN: 1000, Witness: true}, cluster.Pledge{Member: "c", LSN: pg.LSN(rapid.IntRange(900, 1100).Draw(t, "c at"))})
	}
	if odd("failover") {
		v.State.Failover = cluster.Failover{Mod: 48, Leader: rapid.SampledFrom([]string{"", "a"}).Draw(t, "from"), Member: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "to")}
	}
	if odd("gateways") {
		v.State.Gateways = []cluster.Gateway{{Host: "h", Held: int64(rapid.IntRange(50, 51).Draw(t, "held")), Open: rapid.IntRange(0, 1).Draw(t, "open"), Served: int64(rapid.IntRange(39, 41).Draw(t, "served"))}, {Host: "i"}}
		v.State.Drain = &cluster.Drain{Mod: 50, From: "a", To: rapid.SampledFrom([]string{"b", "c"}).Draw(t, "to"), Epoch: int64(rapid.IntRange(39, 41).Draw(t, "of")), Hold: !odd("told")}
	}
	if odd("restore") {
		v.State.Restore = &cluster.Restore{
			Mod: 47, ID: "x", Member: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "of"), Timeline: pg.Timeline(rapid.IntRange(1, 4).Draw(t, "begins")), Made: "restore-x", Aside: "kept/x",
			Phase: rapid.SampledFrom([]string{cluster.RestoreMaking, cluster.RestoreAsked, cluster.RestoreTurned, cluster.RestoreDone}).Draw(t, "phase"),
		}
	}
	if odd("job") {
		v.Job = Job{Action: rapid.SampledFrom([]Action{
			Promote{}, Start{}, Start{Standby: true}, Stop{}, Kill{}, Measure{}, Clone{}, Rewind{},
		}).Draw(t, "is"), Since: after("since")}
	}
	if odd("pause") {
		v.State.Config.Data = map[string]any{"pause": true}
	}
	if odd("follows another") {
		term := *v.State.Term
		term.Standby, v.State.Term, v.Memory.Standby = true, &term, true
		if !odd("lifted") {
			v.State.Config.Data = map[string]any{"standby_cluster": map[string]any{"host": "10.9.9.9"}, "pause": odd("pause")}
			v.State.Config.Mod = 3
		}
	}
	if odd("synchronous") {
		quorumOn(&v)
		v.Server.Shut = odd("shut")
	}
	if odd("memory") {
		v.Memory.Switch = Switch{Key: 48, To: "b", Stopped: odd("stopped"), Since: after("switch"), Checkpoints: rapid.IntRange(0, 2).Draw(t, "checkpoints")}
		if odd("told") {
			v.Memory.Switch.Told = after("told")
		}
		if odd("asked to hold") {
			v.Memory.Switch.Held = after("held")
		}
		v.Memory.Crash = Crash{At: after("crash"), Measured: odd("measured"), End: 1000, Starts: rapid.IntRange(0, 3).Draw(t, "starts"), Offered: odd("offered")}
		v.Memory.Offer = Offer{Wanted: odd("wanted"), Since: after("offer"), Over: 49, Closed: odd("closed")}
		v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true, End: pg.LSN(rapid.IntRange(0, 700).Draw(t, "end")), Kept: odd("kept"), Failures: rapid.IntRange(0, 3).Draw(t, "failures")}
	}
	if odd("answer") {
		v.Answer = &Answer{Action: Renew{Lease: v.Memory.Lease.ID, Epoch: v.Memory.Right.Epoch, Bare: v.Memory.Right.Epoch == 0 && odd("bare")}, Sent: after("asked"), OK: odd("ok"), Unknown: odd("unknown"), NoLease: odd("no lease"), TTL: 5 * time.Second}
	}
	v.Stopping, v.LockBusy, v.NoteBusy, v.Known = odd("stopping"), odd("lock"), odd("note"), !odd("unseen")
	if !v.Known {
		v.State = cluster.State{}
	}
	return v
}

// What holds for every decision, whatever the view.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawView(t)
		d := Decide(v)
		if again := Decide(v); !reflect.DeepEqual(d, again) {
			t.Fatalf("equal views, other decisions:\n%s\n%s", d, again)
		}
		right := d.Memory.Right
		leading := right.Epoch > 0 && v.Now < right.Sent+right.TTL-v.Timers.Margin
		paused := v.Known && v.State.Config.Pause()
		follows := v.Memory.Taken != 0 && v.Memory.Taken == d.Memory.Right.Epoch && v.Memory.Standby || v.Known && d.Memory.Taken != d.Memory.Right.Epoch && v.State.Standby()
		lanes := map[Lane]int{}
		for _, a := range d.Actions {
			lanes[a.Lane()]++
			takes := a.Lane() == Lock && (strings.HasPrefix(a.String(), "acquire") || strings.HasPrefix(a.String(), "take"))
			if own := max(v.Server.Timeline, v.Server.Control.Timeline, v.Memory.Fence.At.Timeline); takes && own < v.State.Floor() {
				t.Fatalf("the key is taken with a log of timeline %d, and the restore began %d: %s", own, v.State.Floor(), d)
			}
			switch a := a.(type) {
			case Revert, Install:
				if v.Server.Process != pg.ProcessNone || v.State.Restore == nil || v.State.Restore.Member != v.Self.Name {
					t.Fatalf("%s with the server %s, for %+v:\n%s", a, v.Server.Process, v.State.Restore, d)
				}
			case Release:
				if v.Server.Process != pg.ProcessNone {
					t.Fatalf("law 5: released while the server is %s: %s", v.Server.Process, d)
				}
				if a.Epoch != right.Epoch {
					t.Fatalf("law 5: released epoch %d, holds %d: %s", a.Epoch, right.Epoch, d)
				}
			case Lift:
				if !leading || !follows || v.State.Config.StandbyCluster() || a.Config != v.State.Config.Mod {
					t.Fatalf("a standby cluster is promoted, and nobody asks for it: %s", d)
				}
			case Subject:
				if !leading || follows || !v.State.Config.StandbyCluster() || a.Config != v.State.Config.Mod || v.Server.Process != pg.ProcessNone || d.Memory.Lower.Other.Common <= v.Server.Control.Checkpoint {
					t.Fatalf("a cluster is to follow another one that has not all of it, or is not asked to: %s", d)
				}
			case Promote:
				if !leading {
					t.Fatalf("law 4: promoted without a right: %s", d)
				}
				if follows {
					t.Fatalf("promoted in a standby cluster: %s", d)
				}
			case Start:
				if !a.Standby && follows {
					t.Fatalf("started as a primary in a standby cluster: %s", d)
				}
				if !a.Standby && !leading {
					t.Fatalf("law 4: a primary started without a right: %s", d)
				}
				if !a.Standby && v.State.Sync.Active() && !v.Server.Shut {
					t.Fatalf("law 2: a primary started with its doors open: %s", d)
				}
			case Admit:
				if v.State.Sync.Active() && !slices.ContainsFunc(v.Server.Replicas, func(r pg.Replica) bool { return r.Flushed >= d.Memory.Doors.End }) {
					t.Fatalf("law 2: clients let in to what no standby has: %s", d)
				}
			case Thaw:
				alone := paused && v.State.Leader == nil && v.Memory.Under == v.State.Epoch() // nobody has led since
				if !leading && !alone && v.Server.MayWrite() {
					t.Fatalf("law 3: thawed a server that may write without a right: %s", d)
				}
			case Acquire:
				if term := v.State.Term; v.State.Leader != nil || term == nil || a.After != term.Mod {
					t.Fatalf("law 4: acquired not over the epoch that was seen: %s", d)
				}
				if v.Server.Data != pg.DataPresent && v.Server.Process == pg.ProcessNone {
					t.Fatalf("acquired without data: %s", d)
				}
			case Take:
				if l := v.State.Leader; l == nil || a.Epoch != l.Mod || a.Handover != v.State.Handover.Mod || v.State.Handover.Epoch != l.Mod {
					t.Fatalf("law 4: taken not over the offer that was seen: %s", d)
				}
				if v.Server.Flushed < v.State.Handover.LSN {
					t.Fatalf("law 5: taken by a server that is behind: %s", d)
				}
			case Retake:
				if l := v.State.Leader; l == nil || l.Name != v.Self.Name || a.Epoch != l.Mod {
					t.Fatalf("law 4: retook what was not its own: %s", d)
				}
			case Rewind, Clone, MoveAside:
				if v.Server.Process != pg.ProcessNone {
					t.Fatalf("law 7: %s under a server that is %s: %s", a, v.Server.Process, d)
				}
			}
		}
		if lanes[Lock] > 1 || lanes[Server] > 1 || lanes[Lock] > 0 && v.LockBusy {
			t.Fatalf("a lane was given more than one action: %s", d)
		}
		if v.Job.Action == nil && v.Server.MayWrite() && v.Server.Process != pg.ProcessFrozen && !leading && !paused && v.ServerAt > 0 && !slices.Contains(d.Actions, Action(Freeze{})) {
			t.Fatalf("law 3: a server that may write without a right is not fenced: %s", d)
		}
		if d.Page.Primary && !paused && d.Page.Deadline > v.Now && d.Page.Deadline > right.Sent+right.TTL-v.Timers.Margin {
			t.Fatalf("law 3: the page gives more than the lease: %+v", d.Page)
		}
		// Gateways only ever keep a planned change waiting, and that for no longer than the grace:
		// without them the decision is the same, but for that.
		if held := v.Memory.Switch.Held; len(v.State.Gateways) > 0 {
			w := v
			w.State.Gateways = nil
			if d := w.State.Drain; d != nil && d.To != v.Self.Name { // who comes next makes ready (heir.go)
				w.State.Drain = nil
			}
			e := Decide(w)
			keeps := slices.ContainsFunc(d.Trail, func(s string) bool {
				return s == "drain=asked" || strings.HasPrefix(s, "drain=awaited(") || strings.HasPrefix(s, "gateways=awaited(")
			})
			if v.Job.Action == nil && !keeps && !slices.Contains(d.Trail, "drain=off") && !reflect.DeepEqual(onServer(d), onServer(e)) {
				t.Fatalf("gateways change what is done:\n%s\nwithout them:\n%s", d, e)
			}
			if told := v.Memory.Switch.Told; held == 0 && told > 0 && v.Now-told >= readyIn && slices.ContainsFunc(d.Trail, func(s string) bool { return strings.HasPrefix(s, "gateways=") }) {
				t.Fatalf("a planned change waits too long for gateways to be ready: %s", d)
			}
			if keeps && held > 0 && v.Now-held >= time.Second {
				t.Fatalf("a planned change waits for gateways beyond the grace: %s", d)
			}
		}
		if d.Wake < v.Now {
			t.Fatalf("asks to be woken in the past: %s", d)
		}
	})
}

// onServer are the actions that change what server and leader key are.
func onServer(d Decision) (all []Action) {
	for _, a := range d.Actions {
		if a.Lane() != Note {
			all = append(all, a)
		}
	}
	return all
}
