package ha_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/ha"
	"howdah/pg"
	"howdah/spec"
)

// at is the boot clock of the views below.
const at = time.Hour

// running is a view of demo-1 alone, a primary under the leader key of epoch 5.
func running() ha.View {
	const system = pg.SystemID(7000000000000000001)
	return ha.View{
		Now: at, Wall: time.Unix(1e9, 0), Self: ha.Self{Name: "demo-1"}, Timers: spec.Safe(), Known: true,
		State: cluster.State{
			Revision: 9, Initialize: cluster.Initialize{System: system},
			Leader: &cluster.Leader{Name: "demo-1", Lease: 3, Mod: 5}, Term: &cluster.Term{Mod: 5, Leader: "demo-1"},
			Members:  []cluster.Member{{Name: "demo-1", Lease: 3, State: cluster.StateRunning, Role: cluster.RolePrimary}},
			Recorded: []cluster.Recorded{{Name: "demo-1"}},
		},
		Server: pg.Status{
			Data: pg.DataPresent, Process: pg.ProcessRunning, PID: 100, Answers: true, Timeline: 1, Flushed: 1 << 20,
			Control: pg.Control{State: pg.ControlInProduction, System: system, Timeline: 1},
		},
		ServerAt: at,
		Memory: ha.Memory{
			Lease: ha.Lease{ID: 3, TTL: 5 * time.Second, Sent: at}, Right: ha.Right{Epoch: 5, Sent: at, TTL: 5 * time.Second},
			LastLock: at, Under: 5,
		},
	}
}

func does(d ha.Decision, a ha.Action) bool { return slices.Contains(d.Actions, a) }

func paused() cluster.Config { return cluster.Config{Data: map[string]any{"pause": true}} }

// An agent that is replaced during maintenance finds a page without an end. It
// is no right to lead, and while the store was not read nothing is fenced.
func TestAnAgentReplacedDuringAPause(t *testing.T) {
	v := running()
	safe := spec.Safe()
	v.Known, v.State = false, cluster.State{}
	v.Memory = ha.Inherit(ha.Page{Primary: true, Epoch: 5, Deadline: math.MaxInt64}, safe.Lease, safe.Margin)
	if v.Memory.Right.Epoch != 0 {
		t.Errorf("inherited %+v: a right without an end", v.Memory.Right)
	}
	d := ha.Decide(v)
	if does(d, ha.Freeze{}) || d.Page.Deadline != math.MaxInt64 || !d.Page.Primary {
		t.Errorf("store not read yet: %s, page %+v", d, d.Page)
	}

	// The pause is over by the time the store is read: now the key decides.
	v.Memory, v.Known, v.State = d.Memory, true, running().State
	d = ha.Decide(v)
	if !does(d, ha.Freeze{}) || d.Page.Deadline > v.Now {
		t.Errorf("resumed, not confirmed: %s, page %+v; want it frozen", d, d.Page)
	}
}

func TestAServerThatWasFrozenBeforeThePause(t *testing.T) {
	v := running()
	v.State.Config = paused()
	v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
	if d := ha.Decide(v); !does(d, ha.Thaw{}) {
		t.Errorf("the key is ours: %s", d)
	}
	v.State.Leader, v.Memory.Right = nil, ha.Right{}
	if d := ha.Decide(v); !does(d, ha.Thaw{}) {
		t.Errorf("nobody led since: %s", d)
	}
	v.State.Term.Mod = 8
	if d := ha.Decide(v); does(d, ha.Thaw{}) {
		t.Errorf("another one led since: %s", d)
	}
}

// A publication may be refused for a lease that has been replaced meanwhile.
func TestANoteOfAnOldLeaseFencesNobody(t *testing.T) {
	v := running()
	v.Noted = &ha.Answer{Action: ha.Put{}, NoLease: true}
	d := ha.Decide(v)
	if does(d, ha.Freeze{}) || d.Memory.Right.Epoch != 5 {
		t.Errorf("%s, right %+v", d, d.Memory.Right)
	}
	if !slices.ContainsFunc(d.Actions, func(a ha.Action) bool { _, ok := a.(ha.Renew); return ok }) {
		t.Errorf("%s: want the renewal that tells for certain", d)
	}
}

func TestStoppingWithoutTheStore(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*ha.View)
		want ha.Action // nil: it has ended
	}{
		{"never read, running", func(v *ha.View) { v.Known, v.State = false, cluster.State{} }, ha.Stop{}},
		{"never read, frozen", func(v *ha.View) {
			v.Known, v.State, v.Memory.Right = false, cluster.State{}, ha.Right{}
			v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
		}, ha.Kill{}},
		{"never read, down", func(v *ha.View) {
			v.Known, v.State = false, cluster.State{}
			v.Server.Process, v.Server.Answers = pg.ProcessNone, false
		}, nil},
		{"lost, down, and the lease long over", func(v *ha.View) {
			v.Server.Process, v.Server.Answers = pg.ProcessNone, false
			v.Memory.Lease.Sent, v.Memory.Right.Sent = at-11*time.Second, at-11*time.Second
		}, nil},
		{"data unreadable, nothing runs, not leading", func(v *ha.View) {
			v.Server = pg.Status{Data: pg.DataUnreadable, Process: pg.ProcessNone}
			v.State.Leader, v.Memory.Right, v.Memory.Leaving.Resigned = nil, ha.Right{}, true
		}, nil},
	} {
		v := running()
		v.Stopping = true
		tt.with(&v)
		d := ha.Decide(v)
		if tt.want == nil != d.Memory.Leaving.Done || tt.want != nil && !does(d, tt.want) {
			t.Errorf("%s: %s, ended %t", tt.name, d, d.Memory.Leaving.Done)
		}
	}
}

// A leader that lost its disk holds a key that it can do nothing with.
func TestALostDiskGivesTheKeyUp(t *testing.T) {
	v := running()
	v.Server = pg.Status{Data: pg.DataUnreadable, Process: pg.ProcessNone}
	if d := ha.Decide(v); !does(d, ha.Release{Epoch: 5}) {
		t.Errorf("nothing runs: %s", d)
	}
	v.Server.Process = pg.ProcessRemains
	if d := ha.Decide(v); does(d, ha.Release{Epoch: 5}) {
		t.Errorf("something may run: %s", d)
	}
}

// Two nodes ran initdb; the one whose system does not count makes room for a copy.
func TestTheFounderThatLostMovesAside(t *testing.T) {
	v := running()
	v.State.Leader.Name, v.Memory.Right = "demo-2", ha.Right{}
	v.Server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessNone, Control: pg.Control{State: pg.ControlShutDown, System: 7000000000000000002}}
	v.Memory.Founding = true
	d := ha.Decide(v)
	if !does(d, ha.MoveAside{}) {
		t.Errorf("our own initdb: %s", d)
	}
	v.Memory.Founding = false
	if d := ha.Decide(v); does(d, ha.MoveAside{}) {
		t.Errorf("data from elsewhere: %s", d)
	}
}

// pg_basebackup's log stream looks like a standby that has everything.
func TestACloneIsNoCandidate(t *testing.T) {
	v := running()
	v.State.Members = append(v.State.Members, cluster.Member{Name: "demo-2", Lease: 4, State: cluster.StateCreatingReplica})
	v.State.Failover = cluster.Failover{Mod: 7, Leader: "demo-1"}
	v.Server.Replicas = []pg.Replica{{Name: "demo-2", State: "streaming", Flushed: 1 << 20}}
	v.Server.Slots = []string{"demo_2"}
	d := ha.Decide(v)
	if does(d, ha.Checkpoint{}) || !strings.Contains(d.String(), "candidate=awaited") {
		t.Errorf("being copied: %s", d)
	}
	v.State.Members[1].State = cluster.StateRunning
	if d := ha.Decide(v); !does(d, ha.Checkpoint{}) {
		t.Errorf("running: %s", d)
	}
}

// The page of a failover is put until it is seen: the first put may be refused
// or lost.
func TestAStoryIsToldUntilItIsSeen(t *testing.T) {
	v := running()
	v.Memory.Story = ha.Story{Kind: cluster.KindCrash, From: "demo-2", Begun: v.Wall.Add(-time.Second)}
	page := func(d ha.Decision) (value string) {
		for _, a := range d.Actions {
			if p, ok := a.(ha.Put); ok && strings.HasPrefix(p.Key, cluster.DirFailovers) {
				value = p.Value
			}
		}
		return value
	}
	first := ha.Decide(v)
	if page(first) == "" {
		t.Fatalf("nothing told: %s", first)
	}
	v.Memory, v.Noted = first.Memory, &ha.Answer{Action: first.Actions[0], Unknown: true}
	v.Now += time.Second
	lost := ha.Decide(v)
	v.Memory, v.Noted = lost.Memory, nil
	v.Now += time.Second
	if d := ha.Decide(v); page(d) == "" {
		t.Errorf("the put was lost, and it is not told again: %s", d)
	}
	p, err := cluster.ParseFailoverPage([]byte(page(first)))
	if err != nil {
		t.Fatal(err)
	}
	p.Number = 1
	v.State.Failovers = []cluster.FailoverPage{p}
	if d := ha.Decide(v); page(d) != "" || d.Memory.Story.Kind != "" {
		t.Errorf("seen, and told again: %s", d)
	}
}

// A leader whose server crashed, and whose agent is told to end, goes on as if it
// were to stay: what was acknowledged last may be nowhere else. It does for as long
// as an agent is given.
func TestACrashedLeaderRecoversBeforeItLeaves(t *testing.T) {
	for _, tt := range []struct {
		name  string
		with  func(*ha.View)
		wants ha.Action
	}{
		{"the end of the log is measured, to be offered", nil, ha.Measure{}},
		{"nobody has it: it starts in place", func(v *ha.View) {
			v.Memory.Crash = ha.Crash{At: at, Offered: true}
			v.Memory.Offer.Closed = true
		}, ha.Start{}},
		{"it has tried", func(v *ha.View) { v.Memory.Crash = ha.Crash{At: at, Starts: 1} }, ha.Release{Epoch: running().Memory.Right.Epoch}},
		{"its time is over", func(v *ha.View) { v.Memory.Leaving.Asked = at - time.Minute }, ha.Release{Epoch: running().Memory.Right.Epoch}},
		{"a start that takes long, too long", func(v *ha.View) {
			v.Job = ha.Job{Action: ha.Start{}, Since: at - 2*time.Minute}
			v.Memory.Leaving.Asked = at - time.Minute
		}, ha.Kill{}},
		{"a start that a predecessor began, too long", func(v *ha.View) {
			v.Server.Process, v.Server.PID = pg.ProcessStarting, 5
			v.Memory.Leaving.Asked = at - time.Minute
		}, ha.Kill{}},
	} {
		v := running()
		v.Stopping, v.Memory.Taken = true, 5
		v.State.Members = append(v.State.Members, cluster.Member{Name: "demo-2", State: cluster.StateRunning, Role: cluster.RoleReplica})
		v.Memory.Replicas = []pg.Replica{{Name: "demo-2", State: "streaming", Flushed: 1 << 20}}
		v.Server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessNone, Control: v.Server.Control}
		if tt.with != nil {
			tt.with(&v)
		}
		if d := ha.Decide(v); !does(d, tt.wants) {
			t.Errorf("%s: %s, want %s", tt.name, d, tt.wants)
		}
	}
	v := running()
	v.Stopping, v.Job = true, ha.Job{Action: ha.Start{}, Since: at - time.Minute}
	v.Server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessStarting, Control: v.Server.Control}
	if d := ha.Decide(v); does(d, ha.Kill{}) {
		t.Errorf("a recovery under way is given up at once: %s", d)
	}
}

func TestStoppingGivesLongWorkUp(t *testing.T) {
	for _, tt := range []struct {
		job  ha.Action
		kill bool
	}{{ha.Clone{}, true}, {ha.Start{Standby: true}, true}, {ha.Start{}, false}, {ha.Rewind{}, false}} {
		v := running()
		v.State.Leader.Name, v.Memory.Right, v.Stopping = "demo-2", ha.Right{}, true
		v.Server = pg.Status{Data: pg.DataPartial, Process: pg.ProcessNone}
		v.Job = ha.Job{Action: tt.job, Since: at}
		if tt.job == ha.Action(ha.Start{}) {
			v.State.Leader.Name = "demo-1"
		}
		if d := ha.Decide(v); does(d, ha.Kill{}) != tt.kill {
			t.Errorf("%s under way: %s", tt.job, d)
		}
	}
}

// The guard thaws what the page allows without telling the agent: a server that was
// seen frozen before the page last allowed writing is not known to be frozen.
func TestAFreezeThatWasLifted(t *testing.T) {
	v := running()
	v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
	v.State.Config = paused()
	d := ha.Decide(v)
	if d.Memory.Let != v.Now {
		t.Fatalf("maintenance let it write at %s, not %s", d.Memory.Let, v.Now)
	}
	v.Memory, v.Memory.Right = d.Memory, ha.Right{}
	v.State = running().State
	v.Now += time.Second
	if d = ha.Decide(v); !does(d, ha.Freeze{}) {
		t.Errorf("maintenance is over and nothing was looked at since: %s", d)
	}
	v.Memory, v.ServerAt = d.Memory, v.Now
	v.Memory.Right = ha.Right{}
	if d = ha.Decide(v); does(d, ha.Freeze{}) {
		t.Errorf("seen frozen since: %s", d)
	}
}
