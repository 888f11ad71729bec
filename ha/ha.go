// Package ha decides what one node of a cluster should do next: keep leading,
// follow, stand for election, hand over, fence itself, rejoin.
//
// Decide is a pure function of a View. It reads no clock, asks nobody and
// starts nothing: facts come in, plain actions and the trail of reasons go out,
// and what must be remembered until the next turn is in Memory, in plain sight.
// The loop in ha/agent carries the actions out; the simulator in test/sim calls
// the same turn with models of the store and of PostgreSQL.
//
// Rules follow Patroni's (../docs/decisions), with the laws of the design on top: the
// deadline counts from when a renewal was sent; the key changes hands by
// compare-and-swap over the epoch that was seen; a key is given up only by a
// server that is verifiably dead or cleanly shut down; what cannot be seen is
// unknown and never "there is no leader".
//
// One remedy, one file: fence.go, lease.go, lead.go, crash.go, handover.go, heir.go, drain.go,
// elect.go, follow.go, rejoin.go, copy.go, upstream.go, restore.go, bootstrap.go, request.go, outside.go, silent.go, publish.go,
// doors.go, patient.go, rebuild.go, failsafe.go, listed.go, jammed.go, shutout.go, slots.go, disk.go, watched.go;
// timers.go says how fast all of it is.
package ha

import (
	"fmt"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// Self is who this node is.
type Self struct {
	Name    string
	Host    string // where peers reach PostgreSQL
	Port    int
	ConnURL string
	APIURL  string
	Version string       // published; Patroni's peers parse it
	Tags    cluster.Tags // of its description; nil: those that it has published stay

	Founder string         // who creates the cluster; "": whoever comes first
	Copies  []string       // how its data are made where others have them, one after the other; none: basebackup
	Config  map[string]any // what a new cluster's dynamic configuration has besides
}

// A View is everything one decision may rest on, built once per turn.
type View struct {
	Now    time.Duration // boot clock (CLOCK_BOOTTIME) when the facts were gathered
	Wall   time.Time     // for people and schedules, never for safety
	Self   Self
	Timers spec.Timers

	Known bool          // the store was read at least once
	State cluster.State // the newest snapshot of it
	// Before is the newest snapshot that had a cluster in it, if this agent saw one
	// and the present one has none (rebuild.go).
	Before *cluster.State

	Server   pg.Status
	ServerAt time.Duration // boot clock when the look at the server began; 0: never looked

	Job       Job           // the work on the server that is under way
	Ended     *Ended        // work on the server that ended since the last turn
	LockBusy  bool          // a request about lease or leader key is under way
	Answer    *Answer       // its answer, since the last turn
	NoteBusy  bool          // a request that publishes is under way
	Noted     *Answer       // its answer, since the last turn
	Heard     time.Duration // boot clock when the leader's machine last answered anything; 0: not known
	Probe     quorum.Probe  // the last commit that tried the setting
	ProbeAt   time.Duration // boot clock when that was last reported
	Moving    bool          // slots are being moved on
	Moved     *Ended        // the end of that, since the last turn
	Grant     Grant         // the last that this member gave, to whomever
	RoundBusy bool          // the others are being asked
	Round     *Round        // what they said, since the last turn
	Stopping  bool          // the agent was asked to end
	VIP       VIP           // what the role of the virtual address says
	Watchdog  Watchdog      // what the guard says of it
	Hung      Hung          // what the guard said of the agents before

	Memory Memory
}

// A VIP is the virtual address as its role on this node last told of it. The zero
// VIP is none. It is shown and decides nothing here: its role goes by the page.
type VIP struct {
	Address string
	Held    bool
	Problem problem.Error
}

// A Job is work on the server under way.
type Job struct {
	Action Action // nil: none
	Since  time.Duration
	Done   int64 // progress, in bytes, where it is known
	Total  int64
}

// Ended is the outcome of work on the server.
type Ended struct {
	Action Action
	At     time.Duration
	Err    string // "" is success
	Code   string // the problem's code, if it had one
	// Problem is the whole of it.
	Problem problem.Error
	LSN     pg.LSN // Measure: end of the log on disk
	Path    string // Keep, MoveAside: where things are now
	Fence   quorum.Fence
	Slot    string       // Advance: one that does not move
	Other   pg.Elsewhere // Identify
}

// An Answer is what the store said to a request. Unknown means that it may or
// may not have been applied.
type Answer struct {
	Action   Action
	Sent     time.Duration // boot clock just before it was sent
	OK       bool          // every condition held
	Unknown  bool
	NoLease  bool // the store is certain that the lease is gone
	Revision int64
	Lease    int64
	TTL      time.Duration
}

// A Page is what guard and gateway may rely on; see package lease.
type Page struct {
	Primary  bool
	Epoch    int64
	Deadline time.Duration
}

// A Decision is what to do, why, and what to remember.
type Decision struct {
	Trail   []string
	Actions []Action
	Page    Page
	Memory  Memory
	Wake    time.Duration // boot clock of the next turn, if nothing happens before
	Look    time.Duration // boot clock of the next look at the server

	Patience time.Duration // time allowed to one request to the store
}

// String prints trail and actions on one line.
func (d Decision) String() string {
	var acts []string
	for _, a := range d.Actions {
		acts = append(acts, a.String())
	}
	if len(acts) == 0 {
		acts = []string{"nothing"}
	}
	return strings.Join(d.Trail, " ") + " -> " + strings.Join(acts, ", ")
}

// turn is a decision being made.
type turn struct {
	View
	m Memory
	d Decision

	problems []problem.Error // found in this turn, for a person
	lasting  *lasting        // the permanent slots; nil: not asked for in this turn
}

// Decide returns what this node should do about v, with the facts that led there.
func Decide(v View) Decision {
	t := &turn{View: v, m: v.Memory}
	if t.anew() && t.State.Config.Data == nil {
		t.State.Config.Data = t.Before.Config.Data // timers and maintenance are as they were
	}
	t.tune()
	t.d.Wake = v.Now + t.Timers.Renew
	t.d.Look = v.ServerAt + t.Timers.Renew
	t.remember()
	t.d.Patience = t.Timers.Patience(t.m.Pace)
	t.decide()
	t.virtual()
	t.publish()
	t.d.Page = t.page()
	t.d.Memory = t.m
	return t.d
}

func (t *turn) decide() {
	if t.ServerAt == 0 {
		t.note("server=unseen")
		t.lookBy(t.Now)
		return
	}
	t.observe()
	t.watched()
	t.hung()
	t.disk()
	t.fence()
	t.lease()
	t.appeal()
	switch {
	case !t.Known && !t.Stopping:
		t.note("store=unseen")
	case t.abandoned():
	case t.working():
	case t.Server.Data == pg.DataUnreadable && !t.Stopping:
		t.note("data=unreadable")
		if t.leading() && t.Server.Process == pg.ProcessNone {
			t.release() // a lost disk: nothing runs on it, and nothing will
		}
	case t.Server.Process == pg.ProcessRemains:
		// Whatever comes next, it needs a data directory that nobody holds.
		t.note("server=remains")
		t.work(Kill{})
	case t.Server.Process == pg.ProcessFrozen && !t.writes():
		// A standby on its way to write, silenced at the deadline: let go on without
		// the key, it would end its promotion.
		t.note("server=frozen")
		if !t.leading() {
			t.work(Kill{})
			break
		}
		t.do(Thaw{})
		t.lookBy(t.ServerAt + soon)
	case t.Server.Process == pg.ProcessStopping && t.m.Failed.What == (Stop{}).String():
		// It was given its time. What hangs in a shutdown (an archiver, a standby
		// that takes nothing) is not worth a node that never comes back.
		t.note("stop=overdue")
		t.work(Kill{})
	case t.installs():
	case !t.Stopping && t.foreign():
	case t.stopping():
	case t.rebuild():
	case t.paused():
	case t.outside():
	case t.stray():
	case t.leading() || t.State.LeaderName() == t.Self.Name:
		t.lead()
	case t.State.LeaderName() != "":
		t.follow()
	case t.State.Leader != nil || t.State.Unknown(cluster.KeyInitialize):
		t.note("leader=unknown") // somebody leads; we cannot read who
	case t.State.Initialize.System == 0:
		t.bootstrap()
	default:
		t.elect()
	}
}

// note adds a fact to the trail.
func (t *turn) note(format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	if t.d.Trail == nil {
		t.d.Trail = make([]string, 0, 8)
	}
	t.d.Trail = append(t.d.Trail, format)
}

// do adds an action.
func (t *turn) do(a Action) { t.d.Actions = append(t.d.Actions, a) }

// wakeBy asks for a turn at the given instant at the latest.
func (t *turn) wakeBy(at time.Duration) { t.d.Wake = min(t.d.Wake, max(at, t.Now)) }

// lookBy asks for a fresh look at the server at the given instant at the latest.
// "Soon" counts from the last look: counted from this turn, every turn would put it off.
func (t *turn) lookBy(at time.Duration) { t.d.Look = min(t.d.Look, max(at, t.Now)) }

// soon is the pause between looks while something is about to change.
const soon = 20 * time.Millisecond

// observe drops what memory holds about a server that is no longer so.
func (t *turn) observe() {
	s := &t.Server
	if s.Answers || s.PID == 0 || !t.leading() {
		t.m.Quiet = Quiet{}
	}
	if s.Process == pg.ProcessNone || s.Primary() {
		t.m.Promoting = false // from here on its process tells, or its answer
	}
	if s.Process != pg.ProcessNone && s.Process != pg.ProcessRemains && t.Job.Action == nil {
		t.m.Rejoin.Measured, t.m.Rejoin.Kept, t.m.Rejoin.Recovered = false, false, false
	}
	if s.Process == pg.ProcessRunning && t.m.Failed.Times > 0 && stopped(t.m.Failed.What) {
		t.m.Failed = Failed{}
	}
	if s.Process == pg.ProcessRunning && t.m.Reinit.Begun {
		t.m.Reinit = Reinit{}
	}
	if theirs := t.State.Initialize.System; theirs != 0 && (s.Data != pg.DataPresent || s.Control.System == theirs) {
		t.m.Founding = false // until then what our initdb made may have lost the race: see foreign
	}
}
