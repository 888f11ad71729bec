package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
)

// drain has the gateways hold their clients before a planned change stops the
// server, so that nobody notices. True: there is nothing to wait for any more.
//
// The story: while the checkpoint is written, the gateways are told who comes
// next, log in there ahead of time, and say so. Then they are asked to begin no more
// transactions here; each acknowledges when those that it knows of have ended. When all
// have, or at the end of the grace, the server is stopped: from there on there is
// no way back. Until then any trouble ends in undrain, and clients go on as if
// nothing had been. A gateway that did not acknowledge is named on the page of the
// change; whether the change goes on without it, the configuration says.
//
// It is a courtesy and nothing rests on it: what the wait costs is bounded by the
// grace, counted from the first word of it, whatever the store or a gateway does.
func (t *turn) drain(to string) bool {
	if len(t.State.Gateways) == 0 {
		return true
	}
	sw := &t.m.Switch
	if sw.Held == 0 {
		sw.Held = t.Now
	}
	c := t.State.Config
	end := sw.Held + c.Drain()
	d, mod := t.drainOpen()
	asked := d.Hold && d.To == to
	var late []string
	for _, g := range t.State.Gateways {
		switch {
		case !asked || g.Held != d.Mod:
			late = append(late, g.Host)
		case g.Open > 0:
			late = append(late, fmt.Sprintf("%s:%d", g.Host, g.Open))
		}
	}
	names := strings.Join(late, ",")
	switch {
	case len(late) == 0:
		t.note("drain=done")
	case t.Now >= end && c.DrainAborts() && !t.Stopping:
		t.note("drain=failed(%s)", names)
		t.clearFailover()
		return false
	case t.Now >= end:
		t.note("drain=over(%s)", names)
		reason := "not drained in time: " + names
		if s := &t.m.Story; !slices.Contains(s.Reason, reason) {
			s.Reason = append(slices.Clip(s.Reason), reason)
		}
	case asked:
		t.note("drain=awaited(%s)", names)
		t.wakeBy(end)
		return false
	default:
		t.note("drain=asked")
		t.putDrain(to, true, mod)
		t.wakeBy(end)
		return false
	}
	t.heldSince(d.Mod)
	t.m.Story.phase("drained", t.Wall)
	return true
}

// heldSince has the story say when the first gateway began to hold its clients, by the
// clock of its node, and never before there was anything to hold them for.
func (t *turn) heldSince(generation int64) {
	var first time.Time
	for _, g := range t.State.Gateways {
		if g.Held == generation && !g.HeldAt.IsZero() && (first.IsZero() || g.HeldAt.Before(first)) {
			first = g.HeldAt
		}
	}
	if s := &t.m.Story; !first.IsZero() && s.Kind != "" {
		asked := s.Begun
		if n := len(s.Phases); n > 0 {
			asked = s.Begun.Add(s.Phases[n-1].After)
		}
		if first.Before(asked) {
			first = asked
		}
		if first.After(t.Wall) {
			first = t.Wall
		}
		s.phase(cluster.PhaseHeld, first)
	}
}

// announce tells the gateways who comes next.
func (t *turn) announce(to string) {
	if t.m.Switch.Told == 0 {
		t.m.Switch.Told = t.Now
	}
	if d, mod := t.drainOpen(); len(t.State.Gateways) > 0 && d.To != to {
		t.putDrain(to, false, mod)
	}
}

// readyIn is how long gateways may take to log in at whoever comes next. Nobody
// is held for that; and who could not be reached by then will not be.
const readyIn = 3 * time.Second

// prepared says that the gateways have done what they can ahead of time, or may
// take no longer. What they did later would be done while clients are held, on
// the machines that have to be quick then.
func (t *turn) prepared(to string) bool {
	sw := &t.m.Switch
	if sw.Held != 0 {
		return true
	}
	d, _ := t.drainOpen()
	var late []string
	for _, g := range t.State.Gateways {
		if d.To != to || g.Ready != d.Mod {
			late = append(late, g.Host)
		}
	}
	if len(late) == 0 || sw.Told != 0 && t.Now >= sw.Told+readyIn {
		return true
	}
	t.announce(to)
	t.note("switchover=%s", to)
	t.note("gateways=awaited(%s)", strings.Join(late, ","))
	t.wakeBy(sw.Told + readyIn)
	return false
}

// undrain calls off a drain that leads nowhere any more.
func (t *turn) undrain() bool {
	t.m.Switch.Held, t.m.Switch.Told = 0, 0
	d, mod := t.drainOpen()
	if !d.Open() {
		return false
	}
	t.note("drain=off")
	t.put(cluster.KeyDrain, cluster.Drain{}.Encode(), mod)
	return true
}

// drainOpen is the drain of this reign, if there is one, and the revision to put over.
func (t *turn) drainOpen() (d cluster.Drain, mod int64) {
	if t.State.Drain == nil {
		return d, 0
	}
	mod = t.State.Drain.Mod
	if t.State.Drain.From == t.Self.Name && t.State.Drain.Epoch == t.m.Right.Epoch {
		d = *t.State.Drain
	}
	return d, mod
}

func (t *turn) putDrain(to string, hold bool, mod int64) {
	t.put(cluster.KeyDrain, cluster.Drain{From: t.Self.Name, To: to, Epoch: t.m.Right.Epoch, Hold: hold}.Encode(), mod)
}
