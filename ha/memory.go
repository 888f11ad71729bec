package ha

import (
	"slices"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// Memory is what one turn leaves to the next. The zero Memory is that of an
// agent that has just started; Inherit adds what its predecessor left behind.
type Memory struct {
	Lease  Lease
	Right  Right
	Former Right // the last that ended because the store did not know our lease

	Timers spec.Timers   // in force since the dynamic configuration was last read; zero: it never was
	Pace   time.Duration // how long the store takes to answer: the slowest of late

	Giving    int64         // epoch of a key whose release was asked for: it may be gone
	LastLock  time.Duration // when a lock request was last begun
	LockAfter time.Duration // after a refusal: no change of the leader key before
	Appealed  time.Duration // when the others were last asked for their word
	LastNote  time.Duration // when this member was last published
	NoteAfter time.Duration // after a refusal: no publication before
	Wrote     int64         // revision of our last publication: older snapshots do not show it yet

	Unarmed   time.Duration // since when what writes waits for the watchdog; 0: it does not
	Paused    bool          // the predecessor's last word was maintenance
	Taken     int64         // epoch that this agent took itself, rather than found
	Reserved  pg.Timeline   // with it: what the server begins when it is promoted
	Standby   bool          // with it: the cluster follows another one
	Upstream  pg.Upstream   // whom the server was last told to follow by this agent
	Promoting bool          // a promotion was asked for, and the server was not seen primary, or down, since
	Silenced  time.Time     // since when the server, which could write, may not answer; zero: it may
	Under     int64         // epoch under which the server last wrote by right
	Let       time.Duration // the last turn whose page let it write
	Streamed  Streamed
	Pointed   Streamed // the start, found under way, that was pointed at the leader of that epoch
	Swept     int64    // epoch in which this standby's own old slots were dropped
	Listed    Listed   // of those who may take over, as last put
	Left      string   // slots of members that stream from another one, or have left, as last dropped
	Copies    Copies   // of logical slots, on a standby
	Away      []away   // members that do not show themselves, while their slots have a limit
	Disk      Disk
	Vacancy   Vacancy
	Offer     Offer
	Quiet     Quiet
	Jam       Jam
	Logins    Logins
	Crash     Crash
	Lower     Lower
	Switch    Switch
	Rejoin    Rejoin
	Request   Request
	Reinit    Reinit
	Reload    bool // a person wants the configuration read anew
	Sync      Sync
	Doors     Doors
	Fence     quorum.Fence  // what this voter did for its last pledge
	Doubted   time.Duration // since when a voter has given this leader up
	Copied    Copied
	Copying   int // ways in which data were copied, and that did not lead to a whole copy
	Suspicion Suspicion
	Alone     time.Time     // since when no standby counts, in a synchronous mode that is not strict; zero: one does
	Set       string        // the dynamic parameters that the server was last given; "": none yet
	SetAt     int64         // Mod of the configuration that was found to say so
	Refused   problem.Error // what it did not take of them
	Restart   int           // process id of a postmaster that a person wants restarted
	Vacant    time.Duration // since when a new cluster's founder does not show itself
	Founding  bool          // this agent ran initdb for a cluster that is being created
	Failed    Failed
	Leaving   Leaving

	Replicas []pg.Replica  // as the primary last saw them
	Story    Story         // of the change of leader that is under way or just done
	Told     time.Duration // when the last decision was last published
}

// Inherit is the memory of an agent whose predecessor left a valid page: its
// right ends when the page says so. A page of maintenance has no end and is no
// right: it stands until the store was read, and with the store away for longer.
func Inherit(p Page, ttl, margin time.Duration) Memory {
	switch {
	case !p.Primary:
		return Memory{}
	case p.Deadline == forever:
		return Memory{Paused: true, Under: p.Epoch}
	}
	return Memory{Right: Right{Epoch: p.Epoch, Sent: p.Deadline - ttl + margin, TTL: ttl}, Under: p.Epoch}
}

// Lease is the lease this node's keys hang on.
type Lease struct {
	ID   int64
	TTL  time.Duration
	For  time.Duration // what it was granted for; 0: by a predecessor
	Sent time.Duration // when the last renewal that was confirmed was sent
	Kept time.Duration // when the last that was not was sent
}

// heard is when the last request was sent that the store answered.
func (l Lease) heard() time.Duration { return max(l.Sent, l.Kept) }

// old says that the lease is renewed before the leader key is hung on it: to take the
// key does not extend it.
func (l Lease) old(now time.Duration) bool { return l.ID == 0 || l.Sent == 0 || now-l.Sent > l.TTL/2 }

// Right is the proof that the leader key is ours: confirmed by the store in
// answer to what was sent at Sent.
type Right struct {
	Epoch int64
	Sent  time.Duration
	TTL   time.Duration
	By    string // the members, one a line, by whose word it goes on since the store confirms nothing; ""
}

// Streamed is the epoch whose leader the server with this process id streamed from.
type Streamed struct {
	Epoch int64
	PID   int
}

// Vacancy is a time without a leader.
type Vacancy struct {
	Open  bool
	After int64 // the epoch that ended
	Since time.Duration
	Wall  time.Time
	Lost  bool // the leader was gone from the store with its key
	// Witness: this node streamed from the leader of that epoch until it was lost.
	Witness bool
	// Ready: since when the positions of all that count are known.
	Ready time.Duration
}

// Offer is the leader key held out to others.
type Offer struct {
	Wanted bool
	Since  time.Duration
	Over   int64 // revision of the handover key before
	Closed bool  // certainly none of ours is open or on its way
}

// Quiet is the silence of a leader's server that runs.
type Quiet struct {
	PID   int
	Since time.Duration
	Heard pg.LSN // the furthest that a standby said to have by then
}

// Crash is the death of the primary under a leader that lives.
type Crash struct {
	At       time.Duration // 0: none
	Measured bool
	End      pg.LSN
	Offered  bool // an offer was made and withdrawn, or is not worth making
	Starts   int  // attempts to start in place that failed
}

// Switch is a planned change of leader.
type Switch struct {
	Key         int64 // Mod of the failover key that asked for it; -1: this node is leaving
	To          string
	Since       time.Duration
	Checkpoints int           // that were made for it
	Told        time.Duration // since when the gateways are to know who comes next; 0: they are not
	Held        time.Duration // since when the gateways are asked to hold their clients; 0: they are not
	Stopped     bool          // the server was told to stop
}

// Rejoin is the way back of a server whose history may have forked.
type Rejoin struct {
	Leader    string
	Epoch     int64 // of that leader
	Measured  bool
	End       pg.LSN
	Forked    bool  // as a running standby it found that the leader's history is another
	Lost      int64 // bytes beyond the fork
	Kept      bool
	Recovered bool
	Failures  int
	Aside     bool          // decided: a fresh copy
	Stuck     time.Duration // since when a standby does not stream from a leader that runs
	Tries     int           // restarts spent on that
	Asked     time.Duration // when the leader was last asked whether it lets this member in; 0: it is to be asked
	Refused   string        // what it said; "": it does
	Direct    bool          // nothing came from the member that it is to stream from: from the leader, then
}

// Request is what a person asked and is being taken off the store.
type Request struct {
	Mod  int64  // 0: nothing
	Kind string // "": it is not to be carried out
}

// Sync is how synchronous_standby_names and /sync are moved.
type Sync struct {
	quorum.Memory
	Disk    string        // the memory on disk, beside the setting
	Resumed bool          // it was gone on from, with /sync in view
	At      time.Duration // since when the setting is in force for every new session
	Proved  time.Duration // when a probe was last begun
}

// Doors are those of a primary that was started with them shut.
type Doors struct {
	PID   int
	End   pg.LSN        // what it may show ends there, or before
	Since time.Duration // when it was first seen to run
}

// Suspicion is when log last came from the leader of an epoch.
type Suspicion struct {
	Epoch   int64
	Flushed pg.LSN
	Moved   time.Duration
}

// Copied is a copy that streams, and what its leader had when that was first seen.
type Copied struct {
	Epoch    int64
	Revision int64
}

// Resume is what an agent's predecessor left beside the setting.
func Resume(disk string) Sync { return Sync{Memory: quorum.ParseMemory(disk), Disk: disk} }

// Reinit is a fresh copy that a person asked for.
type Reinit struct {
	Asked bool
	Begun bool // the old data are out of use
}

// Failed is the last work on the server that failed, and when it may be tried again.
type Failed struct {
	What string
	Code string
	Err  string
	// Problem is what Err says, for a person; without a code it is no problem
	// of his.
	Problem problem.Error
	Times   int
	Until   time.Duration
}

// Leaving is the end of the agent.
type Leaving struct {
	Asked    time.Duration // since when a crashed primary has kept it; 0: none has
	Down     time.Duration // since when the server is seen to be down; 0: it is not
	Resigned bool
	Done     bool
}

// Story is what a failover's page will tell.
type Story struct {
	Kind   string
	From   string
	Reason []string
	Begun  time.Time
	Phases []cluster.Phase
	Whole  bool // the key was taken over an offer: this server has all that the old leader had

	Served time.Duration // since then this server is a primary that lets clients in
	End    pg.LSN        // where its log ended at that moment
	Wrote  time.Duration // since then what is written can be acknowledged
}

// phase notes the end of a phase, once.
func (s *Story) phase(name string, at time.Time) {
	if s.Kind == "" {
		return
	}
	if s.reached(name) {
		return
	}
	s.Phases = append(s.Phases[:len(s.Phases):len(s.Phases)], cluster.Phase{Name: name, After: at.Sub(s.Begun)})
}

// over says that another story may begin: the last one may wait for a gateway still.
func (s *Story) over() bool { return s.Kind == "" || s.reached(cluster.PhaseWrites) }

// reached says that the phase has ended.
func (s *Story) reached(name string) bool {
	return slices.ContainsFunc(s.Phases, func(p cluster.Phase) bool { return p.Name == name })
}

// remember folds the answers that came in since the last turn into memory.
func (t *turn) remember() {
	if t.Answer != nil {
		t.answered(*t.Answer)
	}
	if n := t.Noted; n != nil {
		switch {
		case n.OK:
			t.m.Wrote = n.Revision
		case n.NoLease:
			// It may have been sent with a lease before the present one: the renewal
			// that is due now says what became of that.
			t.m.LastLock, t.m.NoteAfter = 0, t.Now+2*soon
		default:
			// Refused because the snapshot is behind, or unknown: not again at once.
			t.m.NoteAfter = t.Now + 2*soon
		}
	}
	if t.Ended != nil {
		t.ended(*t.Ended)
	}
	if t.Moved != nil {
		t.moved(*t.Moved)
	}
	t.lost()
	t.rounded()
}

// answered folds the answer of the lock lane.
func (t *turn) answered(a Answer) {
	m := &t.m
	if !a.Unknown {
		m.pace(t.Now - a.Sent)
	}
	if a.NoLease {
		// The store is certain: whatever hung on the lease is gone or going.
		if m.Right.Epoch > 0 {
			m.Former = m.Right
		}
		m.Lease = Lease{}
		if !t.anew() { // of a store that lost everything the old one's word counts on
			m.Right = Right{}
		}
		return
	}
	if !a.OK || a.Unknown {
		m.LockAfter = t.Now + 2*soon
	}
	if a.Unknown {
		// It may have been applied. The deadline does not move; the watch, or the
		// next renewal, will tell.
		return
	}
	switch act := a.Action.(type) {
	case GrantLease:
		m.Lease = Lease{ID: a.Lease, TTL: a.TTL, For: act.TTL, Sent: a.Sent}
	case Renew:
		m.Lease.ID, m.Lease.TTL = act.Lease, a.TTL
		if act.Bare {
			m.Lease.Kept = a.Sent
		} else {
			m.Lease.Sent = a.Sent
		}
		if act.Epoch > 0 {
			m.Paused = false // whether the key is ours is known
		}
		switch {
		case act.Epoch == 0:
		case a.OK:
			m.Right, m.Giving = Right{Epoch: act.Epoch, Sent: a.Sent, TTL: a.TTL}, 0
		case m.Right.Epoch == act.Epoch:
			m.Right = Right{} // the key is not ours any more
		}
	case Acquire, Take, Retake, Revert, Lift, Subject, Open:
		if a.OK {
			// The lease was last kept alive at Lease.Sent: taking a key does not extend it.
			m.Right = Right{Epoch: a.Revision, Sent: m.Lease.Sent, TTL: m.Lease.TTL}
			term := termOf(a.Action)
			m.Taken, m.Reserved, m.Standby = a.Revision, term.Reserved, term.Standby
			_, m.Story.Whole = a.Action.(Take)
			m.Story.phase("elected", t.Wall)
		}
	case Release:
		m.Right = Right{}
	case Resign:
		m.Lease, m.Right, m.Leaving.Resigned = Lease{}, Right{}, true
	}
}

// lost drops a right that the newest snapshot contradicts: a watched delete or
// overwrite of the key fences at once.
func (t *turn) lost() {
	r := &t.m.Right
	if r.Epoch == 0 || !t.Known || t.State.Revision < r.Epoch || t.anew() {
		return
	}
	l, term := t.State.Leader, t.State.Term
	switch {
	case l == nil || l.Name != t.Self.Name || t.State.Stray():
		*r = Right{}
	case l.Mod == r.Epoch:
	case l.Lease == t.m.Lease.ID && t.m.Lease.Sent > 0 && term != nil && term.Mod == l.Mod && term.Kind == cluster.TermRetaken && term.Over == r.Epoch:
		// Our own request, which the watch tells of before its answer has come.
		*r = Right{Epoch: l.Mod, Sent: t.m.Lease.Sent, TTL: t.m.Lease.TTL}
	default:
		*r = Right{}
	}
}

// retryAfter is the pause after the n-th failure of the same work.
func retryAfter(n int) time.Duration {
	return min(250*time.Millisecond<<min(n, 10), 10*time.Second)
}

// ended folds the outcome of work on the server.
func (t *turn) ended(e Ended) {
	m := &t.m
	// "Nobody knows" is an answer: a measure is not tried again, and what failed
	// before it (a start, which makes this node stand back) is not forgotten for it.
	asks := false
	switch e.Action.(type) {
	case Measure, Identify:
		asks = true
	}
	if e.Err != "" && !asks {
		f := &m.Failed
		if f.What != e.Action.String() {
			*f = Failed{What: e.Action.String()}
		}
		f.Times++
		f.Code, f.Err, f.Problem, f.Until = e.Code, e.Err, e.Problem, e.At+retryAfter(f.Times)
	} else if m.Failed.What == e.Action.String() {
		m.Failed = Failed{}
	}
	ok := e.Err == ""
	switch a := e.Action.(type) {
	case Measure:
		if m.Crash.At > 0 {
			m.Crash.Measured, m.Crash.End = true, e.LSN // 0 when it could not be measured
		}
		m.Rejoin.Measured, m.Rejoin.End = true, e.LSN
		m.Story.phase("measured", t.Wall)
	case Identify:
		m.met(e)
	case Keep:
		m.Rejoin.Kept = ok
	case Recover:
		m.Rejoin.Recovered = true
	case Rewind:
		if ok {
			m.Rejoin = Rejoin{Leader: m.Rejoin.Leader, Epoch: m.Rejoin.Epoch, Lost: m.Rejoin.Lost, Measured: true}
		} else if e.Code != codeDiskFull { // a copy would need more room, not less
			m.Rejoin.Failures++
		}
	case MoveAside, Clone:
		if c, clone := a.(Clone); clone && (!ok || c.Repository) {
			m.Copying++ // what was brought back, and must be copied again, would be the same
		}
		if ok {
			m.Rejoin = Rejoin{Leader: m.Rejoin.Leader, Epoch: m.Rejoin.Epoch, Lost: m.Rejoin.Lost}
		}
	case Whole:
		m.Copying = 0
	case Start:
		if !ok && !a.Standby {
			if m.Crash.At == 0 {
				m.Crash.At = e.At // it was shut down in good order, and is none the better for it
			}
			m.Crash.Starts++
		}
		if ok && !a.Standby {
			m.Story.phase("started", t.Wall)
		}
		if ok && a.Standby {
			m.Upstream = a.Up
		}
	case Follow:
		if !ok {
			m.Pointed = Streamed{}
		} else {
			m.Upstream = a.Up
		}
	case Configure:
		if ok {
			m.Set, m.Refused = a.Parameters, e.Problem
			m.Reload = m.Reload && !a.Reread
		}
	case Fence:
		if ok {
			m.Fence = e.Fence
			m.Story.phase("fenced", t.Wall)
		}
	case Synchronize:
		if ok {
			m.Sync.Disk, m.Sync.At = a.Memory, e.At
		}
	case Checkpoint:
		m.Switch.Checkpoints++
	case Adopt:
		if ok {
			m.Copies = Copies{Last: e.At}
		}
	case Promote:
		if ok {
			m.Story.phase("promoted", t.Wall)
		}
	}
}

// failing says that the given work failed and must not be tried again yet.
func (t *turn) failing(a Action) bool {
	f := t.m.Failed
	if f.What != a.String() || t.Now >= f.Until {
		return false
	}
	t.note("%s=failed(%s)", firstWord(f.What), f.Code)
	t.wakeBy(f.Until)
	return true
}

// work begins a on the server unless it has just failed.
func (t *turn) work(a Action) {
	if start, ok := a.(Start); ok && !start.Standby && t.m.Giving != 0 && t.m.Giving == t.m.Right.Epoch {
		t.note("release=asked") // what led to that may be otherwise by now, and the key may be gone
		t.lookBy(t.ServerAt + soon)
		return
	}
	if start, ok := a.(Start); ok {
		if c, due := t.unset(); due && !t.failing(c) {
			a = c // the first start with a setting may be the only one for long
		} else if !start.Standby && t.synchronous() && !t.Server.Shut {
			a = Shut{} // see doors.go
		}
	}
	if Opens(a) && t.unarmed() {
		return
	}
	if !t.failing(a) {
		t.do(a)
		if _, ok := a.(Promote); ok {
			t.m.Promoting = true
		}
		t.lookBy(t.ServerAt + soon)
	}
}

// stopped says that it is work on a server that does not run: once one runs, it
// does not matter any more that it failed.
func stopped(what string) bool {
	switch firstWord(what) {
	case "initdb", "clone", "rewind", "recover", "start", "measure", "keep", "move", "install":
		return true
	}
	return false
}

// codeDiskFull is the problem of a full disk: nothing is broken, and everything
// goes on by itself when there is room. What would need still more is not tried.
const codeDiskFull = "disk-full"

func firstWord(s string) string {
	for i, r := range s {
		if r == ' ' || r == '(' {
			return s[:i]
		}
	}
	return s
}
