// Package agent is the loop of high availability: it looks at the store and the
// server, lets ha.Decide think, and begins what it decides.
//
// A Loop's Turn looks, decides, begins and returns; it never waits. Whatever may
// take time (a request to the store, work on the server) is begun through Hands
// and ends as a fact of a later turn. Run gives it real hands; the simulator
// gives it models, and calls the same Turn.
package agent

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/logkey"
	"howdah/pg"
	"howdah/spec"
)

// Hands is what a turn needs of the world.
type Hands interface {
	// Boot is CLOCK_BOOTTIME, which runs while the machine sleeps.
	Boot() time.Duration
	// Wall is for people.
	Wall() time.Time
	// Store is the newest snapshot of the store; false: there was none yet.
	Store() (cluster.State, bool)
	// Server is the newest look at the server, and when it began (0: never).
	Server() (pg.Status, time.Duration)
	// Page tells guard and gateway what this node may do.
	Page(ha.Page) error
	// Ask begins a request to the store; its end comes back through Answered.
	Ask(lane ha.Lane, a ha.Action, r dcs.Request)
	// Work begins work on the server; its end comes back through Worked.
	Work(a ha.Action)
	// GiveUp ends the work under way early; its end still comes back.
	GiveUp()
	// Heard is when that member's machine last answered anything at all; 0: not
	// known. Who is asked for is listened to from then on; "" is nobody.
	Heard(member string) time.Duration
	// Prove begins a commit that tries the setting; what is seen of it comes back
	// through Probed. It ends the one before.
	Prove(a ha.Prove)
	// Move begins to move slots on; its end comes back through Moved.
	Move(a ha.Advance)
	// Appeal asks other members for their word; what they say comes back through Rounded.
	Appeal(a ha.Appeal)
	// AtOnce freezes or thaws the server.
	AtOnce(a ha.Action) error
}

// A Loop is one agent. It is used by one goroutine.
type Loop struct {
	Self   ha.Self
	Timers spec.Timers
	Hands  Hands
	Log    *slog.Logger
	// VIP tells what the role of the virtual address last said; nil: there is none.
	VIP func() ha.VIP
	// Watchdog tells what the guard last said of it; nil: there is none.
	Watchdog func() ha.Watchdog

	// Hung is what the guard says of the agents before.
	Hung ha.Hung
	// Grant is the last word that this member gave.
	Grant ha.Grant

	stopping bool

	round   *ha.Round
	asking  bool // for the others' word
	job     ha.Job
	ended   *ha.Ended
	next    ha.Action // what takes the place of work that was given up
	lock    bool
	answer  *ha.Answer
	note    bool
	noted   *ha.Answer
	probe   quorum.Probe
	probeAt time.Duration
	moving  bool
	moved   *ha.Ended
	last    string      // trail and actions last logged
	said    ha.Decision // the last one that was looked at for that
	view    ha.View     // of the last turn
	decided ha.Decision // about it; its memory is the next one's
	pageErr string
}

// Inherit takes over the right that a predecessor's page still gives.
func (l *Loop) Inherit(p ha.Page) {
	sync := l.decided.Memory.Sync
	l.decided.Memory = ha.Inherit(p, l.Timers.Lease, l.Timers.Margin)
	l.decided.Memory.Sync = sync
}

// Resume takes over what a predecessor kept beside the server's setting of
// synchronous_standby_names.
func (l *Loop) Resume(note string) { l.decided.Memory.Sync = ha.Resume(note) }

// Stop asks the agent to end: to hand over, stop the server and go.
func (l *Loop) Stop() { l.stopping = true }

// Done says that the agent has ended what it had to.
func (l *Loop) Done() bool { return l.decided.Memory.Leaving.Done }

// AtRest says that this is a good moment to leave the server to another agent.
func (l *Loop) AtRest() bool {
	v := l.view
	v.Now, v.Job, v.LockBusy, v.NoteBusy, v.Moving, v.RoundBusy = l.Hands.Boot(), l.job, l.lock, l.note, l.moving, l.asking
	return !l.stopping && l.next == nil && l.ended == nil && ha.AtRest(&v, &l.decided)
}

// Answered brings the end of a request.
func (l *Loop) Answered(lane ha.Lane, a ha.Answer) {
	if lane == ha.Lock {
		l.lock, l.answer = false, &a
	} else {
		l.note, l.noted = false, &a
	}
}

// Worked brings the end of work on the server.
func (l *Loop) Worked(e ha.Ended) {
	l.job, l.ended = ha.Job{}, &e
}

// Patience is how long a request to the store may take, by the last turn.
func (l *Loop) Patience() time.Duration { return max(l.decided.Patience, l.Timers.Retry) }

// Probed brings what was seen of the commit that tries the setting.
func (l *Loop) Probed(p quorum.Probe, at time.Duration) {
	if p.Number == l.probe.Number && !l.probe.Done {
		l.probe, l.probeAt = p, at
	}
}

// Moved brings the end of a move.
func (l *Loop) Moved(e ha.Ended) { l.moving, l.moved = false, &e }

// Rounded brings what the others said.
func (l *Loop) Rounded(r ha.Round) { l.asking, l.round = false, &r }

// Agree is this member's word to a leader that lost the store, or why it gives none. The
// loop keeps it from now on; it is given once it would outlive the agent, too.
func (l *Loop) Agree(p ha.Plea) (ha.Grant, error) {
	v := l.view
	v.Now, v.Job, v.Grant = l.Hands.Boot(), l.job, l.Grant
	g, err := ha.Agree(&v, &l.decided, p)
	if err != nil {
		return g, err
	}
	if g.Epoch == l.Grant.Epoch {
		g.Until, g.For = max(g.Until, l.Grant.Until), max(g.For, l.Grant.For)
	}
	l.Grant = g
	return g, nil
}

// Progress brings how far the work under way is.
func (l *Loop) Progress(done, total int64) { l.job.Done, l.job.Total = done, total }

// Shown is what the agent knows after its last turn.
func (l *Loop) Shown() ha.Shown {
	v := l.view
	v.Job = l.job // as it is after what the turn began
	return ha.Show(v, l.decided)
}

// Turn looks, decides and begins; it returns what was decided.
func (l *Loop) Turn() ha.Decision {
	v := &l.view // large, like a decision: both are made where they stay
	state, known := l.Hands.Store()
	switch {
	case state.Initialize.System != 0:
		v.Before = nil
	case v.State.Initialize.System != 0: // until now: the store has lost it
		before := v.State
		v.Before = &before
	}
	v.State, v.Known = state, known
	v.Server, v.ServerAt = l.Hands.Server()
	v.Now, v.Wall, v.Self, v.Timers = l.Hands.Boot(), l.Hands.Wall(), l.Self, l.Timers
	v.Job, v.Ended, v.LockBusy, v.Answer, v.NoteBusy, v.Noted = l.job, l.ended, l.lock, l.answer, l.note, l.noted
	v.Moving, v.Moved = l.moving, l.moved
	v.Grant, v.Round, v.RoundBusy = l.Grant, l.round, l.asking
	v.Probe, v.ProbeAt, v.Stopping, v.Memory = l.probe, l.probeAt, l.stopping, l.decided.Memory
	listen := ""
	if leader := v.State.LeaderName(); v.State.Sync.Active() && leader != l.Self.Name {
		listen = leader
	}
	v.Heard, v.Hung = l.Hands.Heard(listen), l.Hung
	if l.VIP != nil {
		v.VIP = l.VIP()
	}
	if l.Watchdog != nil {
		v.Watchdog = l.Watchdog()
	}
	l.decided = ha.Decide(*v)
	d := &l.decided
	l.ended, l.answer, l.noted, l.moved, l.round = nil, nil, nil, nil, nil
	l.say(d)

	// The page goes first: nothing begins to write before the guard knows. Until
	// the server was looked at, what the predecessor wrote stands.
	if v.ServerAt > 0 {
		if err := l.Hands.Page(d.Page); err != nil && l.pageErr != err.Error() {
			l.pageErr = err.Error()
			l.Log.Error("lease page not written", logkey.Error, err)
		}
	}
	if l.next != nil && l.job.Action == nil {
		// Before anything that this turn decided without knowing of it.
		a := l.next
		l.next = nil
		l.work(a, l.view.Now)
	}
	var notes []ha.Action
	for _, a := range d.Actions {
		switch a.Lane() {
		case ha.Now:
			if err := l.Hands.AtOnce(a); err != nil {
				l.Log.Error("not done", logkey.Action, a.String(), logkey.Error, err)
			}
		case ha.Lock:
			l.lock = true
			l.Hands.Ask(ha.Lock, a, Request(l.Self.Name, a))
		case ha.Note:
			notes = append(notes, a)
		case ha.Server:
			l.work(a, l.view.Now)
		case ha.Peers:
			l.asking = true
			l.Hands.Appeal(a.(ha.Appeal))
		case ha.Aside:
			if m, ok := a.(ha.Advance); ok {
				l.moving = true
				l.Hands.Move(m)
				continue
			}
			p := a.(ha.Prove)
			l.probe, l.probeAt = quorum.Probe{Number: p.Number, Names: p.Names}, l.view.Now
			l.Hands.Prove(p)
		}
	}
	if len(notes) > 0 && !l.note {
		l.note = true
		l.Hands.Ask(ha.Note, notes[0], Notes(notes))
	}
	return *d
}

// work begins work on the server. Only a kill may take the place of work that
// is under way, which is given up for it.
func (l *Loop) work(a ha.Action, now time.Duration) {
	if l.job.Action != nil {
		if _, kill := a.(ha.Kill); kill && l.next == nil && l.job.Action != a {
			l.next = a
			l.Hands.GiveUp()
		}
		return
	}
	l.job = ha.Job{Action: a, Since: now}
	l.Hands.Work(a)
}

// say logs a decision when it changes. Nearly always it does not, or only in
// what is not logged: then no line is made.
func (l *Loop) say(d *ha.Decision) {
	if slices.Equal(d.Trail, l.said.Trail) && slices.Equal(d.Actions, l.said.Actions) {
		return
	}
	l.said = *d
	level := slog.LevelDebug
	for _, a := range d.Actions {
		switch a.(type) {
		case ha.Renew, ha.Put:
		default:
			level = slog.LevelInfo
		}
	}
	ctx := context.Background()
	if !l.Log.Enabled(ctx, level) {
		l.last = ""
		return
	}
	if s := d.String(); s != l.last {
		l.last = s
		l.Log.Log(ctx, level, "decision", logkey.Trail, d.Trail, logkey.Action, actions(*d), logkey.Epoch, d.Memory.Right.Epoch)
	}
}

func actions(d ha.Decision) []string {
	var names []string
	for _, a := range d.Actions {
		names = append(names, a.String())
	}
	return names
}
