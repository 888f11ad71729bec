package node

import (
	"errors"
	"time"

	"howdah/ha"
	"howdah/ha/watchdog"
	"howdah/lease"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/problem"
	"howdah/spec"
)

// A vigil is the guard's share of the watchdog: ha.Vigil says when the device is
// petted, and what it does is told to the agent in a file.
type vigil struct {
	node    spec.Node
	dev     *watchdog.Device
	timeout time.Duration
	spare   time.Duration
	alone   bool // no other guard of this supervisor has a device to open
	leaves  func() bool

	said   nodefile.Watchdog
	told   bool
	err    error         // why it is not ready, or not armed, as it was last found
	looked time.Duration // when an idle device was last looked at
	failed time.Duration // when it was last found that it can not be armed
}

// idleLook is how often a device is looked at that is not armed, and armLook how late
// a guard sees that it is to be, where a promotion waits for that.
const (
	idleLook = time.Second
	armLook  = 50 * time.Millisecond
)

func newVigil(n spec.Node, alone bool, leaves func() bool) *vigil {
	w := n.Watchdog
	if !w.On() {
		return nil
	}
	return &vigil{
		node: n, dev: &watchdog.Device{Path: w.Device, Mock: w.Mock}, timeout: w.Timeout(n.Agent.Timers),
		spare: n.Agent.Timers.Margin * 3 / 4, alone: alone, leaves: leaves,
	}
}

// watch looks after the device, by what the guard has just seen and decided. It
// returns when the guard must look again at the latest.
func (g *Guard) watch(f facts, m memory, again time.Duration) time.Duration {
	v := g.Vigil
	if v == nil {
		return again
	}
	look := ha.Vigil{
		Now: lease.Now(), Safe: f.safe(), Might: m.Right.Role == lease.Primary,
		Armed: v.dev.Armed(), Timeout: v.timeout, Spare: v.spare,
	}
	if f.asPrimary() {
		look.Page = ha.Page{Primary: true, Epoch: f.Page.Epoch, Deadline: f.Page.Deadline}
	}
	care, next := look.Judge()
	if next > 0 {
		again = min(again, next)
	}
	switch care {
	case ha.Arm:
		if v.failed > 0 && look.Now-v.failed < idleLook {
			return min(again, v.failed+idleLook)
		}
		if v.err = v.able(); v.err == nil {
			v.err = v.dev.Arm(v.timeout)
		}
		if v.failed = 0; v.err != nil {
			v.failed = look.Now
			break
		}
		g.Log.Info("watchdog armed", logkey.Path, v.dev.Path, "timeout", v.timeout)
	case ha.Pet:
		if v.err = v.dev.Pet(); v.err != nil {
			v.dev.Leave() // it counts on, and is opened anew
		}
	case ha.Disarm:
		if v.err = v.dev.Disarm(); v.err == nil {
			g.Log.Info("watchdog disarmed", logkey.Path, v.dev.Path)
		}
	case ha.Rest:
		if !v.dev.Armed() && (look.Now-v.looked >= idleLook || !v.told) {
			v.looked, v.err = look.Now, v.able()
		}
	}
	g.tell(care)
	if !v.dev.Armed() && v.node.Watchdog.Required() {
		again = min(again, look.Now+armLook)
	}
	return again
}

var errSeveral = errors.New("this machine has several servers, and one device: it can not tell whose supervisor is to be petted for")

// able says why the device could not be armed.
func (v *vigil) able() error {
	if !v.alone {
		return errSeveral
	}
	return v.dev.Look()
}

// tell says to the agent, and in the log, what has become of the device, once.
func (g *Guard) tell(care ha.Care) {
	v := g.Vigil
	err := v.err
	now := nodefile.Watchdog{Ready: err == nil, Armed: v.dev.Armed()}
	if err != nil && (v.node.Watchdog.Required() || care == ha.Pet) {
		now.Problem = problem.Error{
			Code: "watchdog-missing", What: "the watchdog of " + v.node.Member + " does not watch", Why: err.Error(),
			Do: "see that the device is there and nobody else has it open (`modprobe softdog` where there is none), or give the inventory another patroni_watchdog_mode; with required no member leads without, and one that leads already goes on unwatched",
		}
	}
	if now == v.said && v.told {
		return
	}
	if err != nil {
		g.Log.Warn("watchdog does not watch", logkey.Path, v.dev.Path, logkey.Error, err)
	}
	if err := nodefile.WriteWatchdog(v.node, now); err != nil {
		g.Log.Warn("the agent was not told of the watchdog", logkey.Error, err)
		return
	}
	v.said, v.told = now, true
}

// retire is the end of this guard. A device is left counting only where it must be: a
// supervisor is to come that takes it over in time, or there is something to watch.
func (g *Guard) retire() {
	v := g.Vigil
	if v == nil || !v.dev.Armed() {
		return
	}
	f, _ := g.look(memory{})
	successor := v.leaves() && !v.node.Watchdog.Required()
	if f.safe() || successor {
		v.err = v.dev.Disarm()
		g.Log.Info("watchdog disarmed", logkey.Path, v.dev.Path, logkey.Error, v.err)
		g.tell(ha.Disarm)
		return
	}
	err := v.dev.Pet()
	g.Log.Warn("watchdog left counting", logkey.Path, v.dev.Path, "timeout", v.timeout, logkey.Error, err)
	v.dev.Leave()
}
