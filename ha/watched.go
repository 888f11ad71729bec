package ha

import (
	"slices"
	"time"

	"howdah/problem"
)

// A Watchdog is the device that resets this machine, as the guard last told of it.
// The zero Watchdog is none.
type Watchdog struct {
	Required bool // nothing here begins to write without it
	Ready    bool // it could be armed
	Armed    bool // it counts
	Timeout  time.Duration
	Problem  problem.Error // why it is not ready, or not armed
}

// codeWatchdog is what a member says of itself that may not lead without the device.
const codeWatchdog = "watchdog-missing"

// watched tells of the watchdog.
func (t *turn) watched() {
	w := &t.Watchdog
	if w.Armed || t.Now-t.m.Unarmed > unarmedFor {
		t.m.Unarmed = 0
	}
	if w.Armed && t.m.Right.Epoch > 0 {
		t.note("watchdog=armed")
	}
	if w.Problem.Code != "" {
		t.problems = append(t.problems, w.Problem)
	}
}

// armFor is how long a guard may take to arm the device for one that leads, and
// unarmedFor how long a member whose guard did not stays back.
const (
	armFor     = 3 * time.Second
	unarmedFor = 30 * time.Second
)

// unwatched says that this member may not lead: its watchdog is required, and can not
// be armed, or was not when it led.
func (t *turn) unwatched() bool {
	w, since := &t.Watchdog, t.m.Unarmed
	if !w.Required || w.Armed || w.Ready && (since == 0 || t.Now-since <= armFor) || t.maintained() {
		return false
	}
	t.note("watchdog=missing")
	return true
}

// unarmed says that nothing may begin to write yet: the watchdog is required, and
// does not count. The guard arms it as soon as the page names a leader.
func (t *turn) unarmed() bool {
	w := &t.Watchdog
	if !w.Required || w.Armed || t.maintained() {
		return false
	}
	t.note("watchdog=unarmed")
	if t.m.Unarmed == 0 {
		t.m.Unarmed = t.Now
	}
	t.wakeBy(t.Now + soon)
	return true
}

// barred says of another member that it may not lead, by its own word: its watchdog
// is required and missing.
func (t *turn) barred(member string) bool {
	w, _ := t.State.Why(member)
	return slices.ContainsFunc(w.Problems, func(p problem.Error) bool { return p.Code == codeWatchdog })
}

// Opens says that an action makes the server write.
func Opens(a Action) bool {
	switch a := a.(type) {
	case Promote:
		return true
	case Start:
		return !a.Standby
	}
	return false
}
