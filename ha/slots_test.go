package ha

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// keeps gives a cluster a permanent logical and a permanent physical slot, and what
// more its configuration says.
func keeps(v *View, more string) {
	text := `{"slots":{"sub":{"type":"logical","database":"app","plugin":"pgoutput"},"ph":{}}` + more + `}`
	v.State.Config.Data = nil
	if err := json.Unmarshal([]byte(text), &v.State.Config.Data); err != nil {
		panic(err)
	}
	v.State.Config.Mod = 7
	v.Memory.SetAt = 7 // its parameters are another test's
	v.Server.Version, v.Server.Major = 150001, 15
}

var (
	sub = pg.Slot{Name: "sub", Logical: true, Database: "app", Plugin: "pgoutput", At: 900, Xmin: 700}
	ph  = pg.Slot{Name: "ph", At: 800}
)

// has gives a server slots besides those of members.
func has(v *View, slots ...pg.Slot) {
	for _, s := range v.Server.Slots {
		v.Server.Held = append(v.Server.Held, pg.Slot{Name: s})
	}
	for _, s := range slots {
		v.Server.Held = append(v.Server.Held, s)
		if !s.Logical {
			v.Server.Slots = append(v.Server.Slots, s.Name)
		}
	}
}

func TestPermanentSlotsOfTheLeader(t *testing.T) {
	const so = "leader=self server=primary "
	whole := func(v *View) {
		keeps(v, "")
		has(v, sub, ph)
		v.Server.Ours = []string{"sub"}
	}
	check(t, []row{
		{"the physical one is made beside those of members", leader, func(v *View) { keeps(v, "") }, so + "slots=missing -> slots(b,c,ph)"},
		{"then the logical one", leader, func(v *View) { keeps(v, ""); has(v, ph) }, so + "slots=logical -> logical slots(sub)"},
		{"and that is all", leader, whole, so + "-> nothing"},
		{"one that a standby brought along is taken over", leader, func(v *View) { whole(v); v.Server.Ours = nil }, so + "slots=logical -> logical slots(sub)"},
		{"one of another plugin gives way", leader, func(v *View) { whole(v); v.Server.Held[len(v.Server.Held)-2].Plugin = "wal2json" }, so + "slots=logical -> logical slots(sub; drop sub)"},
		{"not while it is read", leader, func(v *View) {
			whole(v)
			h := &v.Server.Held[len(v.Server.Held)-2]
			h.Plugin, h.Active = "wal2json", true
		}, so + "slots=logical -> logical slots(; drop sub)"},
		{"one whose log is gone is not made anew", leader, func(v *View) { whole(v); v.Server.Held[len(v.Server.Held)-2].Lost = true }, so + "-> nothing"},
		{"nobody wants it any more", leader, func(v *View) { whole(v); v.State.Config.Data = map[string]any{"ttl": 1.0} }, so + "slots=missing -> slots(b,c)"},
		{"the logical one goes, too", leader, func(v *View) {
			whole(v)
			v.State.Config.Data = map[string]any{"slots": map[string]any{"ph": nil}}
		}, so + "slots=logical -> logical slots(; drop sub)"},
		{"but not one that is somebody's own", leader, func(v *View) {
			whole(v)
			v.Server.Ours = nil
			v.State.Config.Data = map[string]any{"slots": map[string]any{"ph": nil}}
		}, so + "-> nothing"},
		{"nor one that is to be left alone", leader, func(v *View) {
			whole(v)
			v.State.Config.Data = map[string]any{"ignore_slots": []any{map[string]any{"name": "sub"}, map[string]any{"type": "physical"}}}
		}, so + "-> nothing"},
		{"what is said can not be read whole: nothing goes", leader, func(v *View) {
			whole(v)
			v.State.Config.Data = map[string]any{"slots": map[string]any{"sub": "logical"}}
		}, so + "-> nothing"},
		{"nothing is said at all: nothing goes", leader, func(v *View) { whole(v); v.State.Config.Data = nil }, so + "-> nothing"},
		{"from 17 on it is brought to standbys by the server", leader, func(v *View) { whole(v); v.Server.Major = 17 }, so + "slots=logical -> logical slots(sub)"},
		{"which then does so", leader, func(v *View) {
			whole(v)
			v.Server.Major = 17
			v.Server.Held[len(v.Server.Held)-2].Failover = true
		}, so + "-> nothing"},
		{"a cluster that writes has none of the others' kind", leader, func(v *View) {
			keeps(v, "")
			v.State.Config.Data["slots"] = map[string]any{"s": map[string]any{"cluster_type": "standby"}}
		}, so + "-> nothing"},
	})
}

// A leader says with its position where the slots are, and which rows they hold back.
func TestPositionsOfPermanentSlots(t *testing.T) {
	v := leader()
	keeps(&v, "")
	has(&v, sub, ph, pg.Slot{Name: "other", Logical: true, At: 1, Xmin: 5})
	v.Server.Ours = []string{"sub"}
	v.Server.Held[0].Xmin = 650 // b
	v.Memory.Right.Sent, v.Memory.Lease.Sent = 0, 0
	turn := turn{View: v, m: v.Memory}
	st, err := cluster.ParseStatus([]byte(turn.status()))
	if err != nil {
		t.Fatal(err)
	}
	if st.Slots["sub"] != 900 || st.Slots["ph"] != 800 || st.Slots["other"] != 0 || st.Epoch != epoch || st.Xmins["sub"] != 700 || st.Xmins["b"] != 650 {
		t.Errorf("status %+v", st)
	}
}

func TestPermanentSlotsOfAStandby(t *testing.T) {
	const so = "leader=a server=standby "
	led := func(v *View) { // the leader has both
		v.State.Status = cluster.Status{Epoch: epoch, Slots: map[string]pg.LSN{"sub": 900, "ph": 800}, Xmins: map[string]uint32{"sub": 700}}
		v.Server.Replayed = 1000
		v.State.Members[2].ReplicationState = cluster.ReplicationStreaming
	}
	fresh := func(v *View) {
		keeps(v, "")
		led(v)
		has(v, ph)
		v.Memory.Copies = Copies{Of: Streamed{epoch, v.Server.PID}, Since: now, Lacking: now - adoptAfter - adoptRank}
	}
	whole := func(v *View) {
		fresh(v)
		has(v, sub)
		v.Server.Ours = []string{"sub"}
		v.Memory.Copies.Lacking = 0
		v.Memory.Copies.Slots = []Copy{{Name: "sub", Need: 700, Safe: true}}
	}
	native := func(v *View) { whole(v); v.Server.Major, v.Server.Version = 17, 170000 }
	at := func(lsn pg.LSN, name string) func(*View) {
		return func(v *View) { whole(v); v.State.Status.Slots[name] = lsn }
	}
	const unsafe = "slots=unsafe(sub) "
	check(t, []row{
		{"a physical slot as the leader's", standby, func(v *View) { keeps(v, ""); led(v) }, so + "slots=missing -> slots(ph)"},
		{"the logical one is copied", standby, fresh, so + unsafe + "slots=lacking -> adopt(sub of a)"},
		{"not at once", standby, func(v *View) { fresh(v); v.Memory.Copies.Lacking = 0 }, so + unsafe + "slots=lacking -> nothing"},
		{"not before the leader has it", standby, func(v *View) { fresh(v); delete(v.State.Status.Slots, "sub") }, so + "-> nothing"},
		{"one standby after the other", standby, func(v *View) { fresh(v); v.State.Members[2].ReplicationState = "" }, so + unsafe + "slots=lacking slots=await(c) -> nothing"},
		{"the first by name before the second", standby, func(v *View) {
			fresh(v)
			v.State.Members[2].Name, v.State.Recorded[2].Name = "aa", "aa"
			v.Memory.Copies.Lacking = now - adoptAfter
		}, so + unsafe + "slots=lacking -> nothing"},
		{"never on who is not to lead", standby, func(v *View) { fresh(v); v.Self.Tags = cluster.Tags{"nofailover": true} }, so + "-> nothing"},
		{"a copy that could not be made is not tried again at once", standby, func(v *View) {
			fresh(v)
			v.Memory.Failed = Failed{What: "adopt(sub of a)", Code: "x", Times: 1, Until: now + time.Second}
		}, so + unsafe + "slots=lacking adopt=failed(x) -> nothing"},
		{"with both it rests", standby, whole, so + "-> nothing"},
		{"the leader's reader went on", standby, at(950, "sub"), so + "slots=behind -> advance(sub)"},
		{"no further than it has replayed", standby, func(v *View) { at(950, "sub")(v); v.Server.Replayed = 900 }, so + "-> nothing"},
		{"and the physical one's", standby, at(950, "ph"), so + "slots=behind -> advance(ph)"},
		{"once at a time", standby, func(v *View) { at(950, "ph")(v); v.Moving = true }, so + "-> nothing"},
		{"what a leader before said is on another timeline, perhaps", standby, func(v *View) {
			at(950, "sub")(v)
			v.State.Status.Epoch = epoch - 1
		}, so + "-> nothing"},
		{"one that does not move is copied anew", standby, func(v *View) {
			whole(v)
			v.Memory.Copies.Stuck, v.Memory.Copies.Lacking = "sub", now-time.Minute
		}, so + unsafe + "slots=lacking -> adopt(sub of a)"},
		{"not one copy after the other", standby, func(v *View) {
			whole(v)
			c := &v.Memory.Copies
			c.Stuck, c.Lacking, c.Last = "sub", now-time.Minute, now-time.Second
		}, so + unsafe + "slots=lacking -> nothing"},
		{"nobody wants it any more", standby, func(v *View) {
			whole(v)
			v.State.Config.Data = map[string]any{"slots": map[string]any{"ph": nil}}
		}, so + "slots=old -> logical slots(; drop sub)"},
		{"another plugin", standby, func(v *View) { whole(v); v.Server.Held[len(v.Server.Held)-1].Plugin = "x" }, so + unsafe + "slots=old -> logical slots(; drop sub)"},
		{"from 17 on the server does it", standby, func(v *View) { native(v); v.Server.Held[len(v.Server.Held)-1].Synced = true }, so + "-> nothing"},
		{"what is from its own reign stands in its way", standby, func(v *View) { native(v); v.Server.Held[len(v.Server.Held)-1].Failover = true }, so + unsafe + "slots=old -> logical slots(; drop sub)"},
		{"nothing is copied there", standby, func(v *View) { fresh(v); v.Server.Major = 17 }, so + unsafe + "-> nothing"},
	})
}

// A copy lacks nothing once the leader keeps, for this standby, every row that it may
// ask for: not before its slot there has passed what the leader's own held back at first.
func TestWhenACopyIsSafe(t *testing.T) {
	v := standby()
	keeps(&v, "")
	has(&v, ph, sub)
	v.Server.Ours = []string{"sub"}
	v.Server.Replayed = 900
	copyAt := &v.Server.Held[len(v.Server.Held)-1]
	turn := func(leads uint32, ours uint32, here uint32) (unsafe bool) {
		v.State.Status = cluster.Status{Epoch: epoch, Slots: map[string]pg.LSN{"sub": 900, "ph": 800}, Xmins: map[string]uint32{"sub": leads}}
		if ours != 0 {
			v.State.Status.Xmins["b"] = ours
		}
		copyAt.Xmin = here
		d := Decide(v)
		v.Memory = d.Memory
		return strings.Contains(strings.Join(d.Trail, " "), "slots=unsafe(sub)")
	}
	const wrapped = 5 // transaction ids begin anew
	for i, tt := range []struct {
		leads, ours, here uint32
		unsafe            bool
		why               string
	}{
		{4294967200, 0, 4294967190, true, "the leader keeps nothing for us"},
		{4294967210, 4294967190, 4294967190, true, "rows from 190 to 210 may be gone"},
		{4294967250, 4294967209, 4294967209, true, "still"},
		{4294967280, 4294967210, 4294967209, true, "the copy is behind what is kept for us"},
		{wrapped, 4294967210, 4294967210, false, "all from 210 on was kept"},
		{wrapped + 9, wrapped, wrapped, false, "and stays so"},
	} {
		if got := turn(tt.leads, tt.ours, tt.here); got != tt.unsafe {
			t.Errorf("step %d (%s): unsafe %v, want %v; %+v", i, tt.why, got, tt.unsafe, v.Memory.Copies)
		}
	}
	v.Server.PID++ // it was started anew: what the leader keeps is not known
	if !turn(wrapped+20, 0, wrapped+9) {
		t.Error("safe at once after a start")
	}
	v.Now += unsafeFor
	v.ServerAt = v.Now
	v.Memory.Lease.Sent = v.Now
	d := Decide(v)
	if !told(d, "slot-unsafe") {
		t.Errorf("nobody is told: %s", d)
	}
}

// told says that a decision publishes a problem.
func told(d Decision, code string) bool {
	return slices.ContainsFunc(d.Actions, func(a Action) bool {
		p, ok := a.(Put)
		return ok && strings.Contains(p.Value, `"`+code+`"`)
	})
}

func TestProblemsOfSlots(t *testing.T) {
	for _, tt := range []struct {
		code string
		base func() View
		with func(*View)
	}{
		{"slot-lost", leader, func(v *View) { lost := sub; lost.Lost = true; has(v, lost, ph) }},
		{"slot-refused", leader, func(v *View) { v.State.Config.Data["slots"] = map[string]any{"sub": "logical"} }},
		{"slot-refused", leader, func(v *View) { has(v, pg.Slot{Name: "sub"}) }},
		{"slot-refused", leader, func(v *View) {
			v.State.Config.Data["slots"] = map[string]any{"b": map[string]any{"database": "app", "plugin": "pgoutput"}}
		}},
		{"slot-forgotten", standby, func(v *View) { other := sub; other.Name = "other"; has(v, other, sub, ph) }},
	} {
		v := tt.base()
		keeps(&v, "")
		v.Memory.Told = 0
		if d := Decide(v); told(d, tt.code) {
			t.Errorf("%s: told where there is nothing to tell: %s", tt.code, d)
		}
		tt.with(&v)
		if d := Decide(v); !told(d, tt.code) {
			t.Errorf("%s: not told: %s", tt.code, d)
		}
		v.State.Config.Data["ignore_slots"] = []any{map[string]any{"type": "logical"}}
		if d := Decide(v); tt.code == "slot-forgotten" && told(d, tt.code) {
			t.Errorf("told of one that is to be left alone: %s", d)
		}
	}
}

// With member_slots_ttl the slot of a member that is away goes in time; without it stays.
func TestASlotOfWhoIsAway(t *testing.T) {
	gone := func(more string) func(*View) {
		return func(v *View) {
			keeps(v, more)
			v.State.Config.Data["slots"] = nil
			v.State.Recorded = []cluster.Recorded{{Name: "a"}, {Name: "b"}, {Name: "c"}}
			v.State.Members = v.State.Members[:2]
			v.Server.Slots = []string{"b", "c"}
			v.Server.Replicas = v.Server.Replicas[:1]
		}
	}
	since := func(v *View, ago time.Duration) { v.Memory.Away = []away{{"c", now - ago}} }
	const so = "leader=self server=primary "
	check(t, []row{
		{"for ever", leader, gone(""), so + "-> nothing"},
		{"for so long", leader, func(v *View) { gone(`,"member_slots_ttl":"30min"`)(v); since(v, 29*time.Minute) }, so + "-> nothing"},
		{"and no longer", leader, func(v *View) { gone(`,"member_slots_ttl":"30min"`)(v); since(v, 30*time.Minute) }, so + "slots=missing -> slots(b)"},
		{"not at all", leader, gone(`,"member_slots_ttl":0`), so + "slots=missing -> slots(b)"},
		{"counted from when this node leads", leader, gone(`,"member_slots_ttl":1`), so + "-> nothing"},
		{"who is back has one", leader, func(v *View) {
			gone(`,"member_slots_ttl":0`)(v)
			v.State.Members = append(v.State.Members, member("c", cluster.RoleReplica, 3))
			v.Server.Slots = []string{"b"}
		}, so + "slots=missing -> slots(b,c)"},
	})
	v := leader()
	gone(`,"member_slots_ttl":60`)(&v)
	since(&v, time.Second)
	turn := turn{View: v, m: v.Memory}
	st, _ := cluster.ParseStatus([]byte(turn.status()))
	if len(st.RetainSlots) != 1 || st.RetainSlots[0] != "c" {
		t.Errorf("retained are %v, want c", st.RetainSlots)
	}
}

// With a permanent logical slot every member holds its rows back at the leader, and from
// 17 on the server brings slots along.
func TestParametersOfLogicalSlots(t *testing.T) {
	for _, tt := range []struct {
		major int
		want  string
	}{
		{15, `{"hot_standby_feedback":"on","work_mem":"1MB"}`},
		{17, `{"hot_standby_feedback":"on","sync_replication_slots":"on","work_mem":"1MB"}`},
	} {
		v := standby()
		keeps(&v, `,"postgresql":{"parameters":{"work_mem":"1MB","hot_standby_feedback":"off"}}`)
		v.Server.Major, v.Memory.SetAt = tt.major, 0
		d := Decide(v)
		got := ""
		for _, a := range d.Actions {
			if c, ok := a.(Configure); ok {
				got = c.Parameters
			}
		}
		if got != tt.want {
			t.Errorf("%d: parameters %s, want %s (%s)", tt.major, got, tt.want, d)
		}
	}
}
