package ha

import (
	"fmt"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// A cluster that writes is made to follow another one.
//
// The story: two clusters are to change places. The other one follows this one, and a
// person names it in standby_cluster. Its server is asked who it is: unless it has this
// log, and nearly all of it, nothing happens here and a person hears why. Then the leader
// stops its server, which sends whoever is connected the last of the log, and asks
// again. Only once the other one has flushed everything up to the end does the leader
// turn the term, in one transaction over its own epoch and that very configuration
// (Subject); the promises to voters end with it, for nobody commits here any more. From
// there on the key is a seat (upstream.go), and the other cluster may be promoted: nothing
// that was acknowledged here is missing there. If it does not get there in time, the
// server goes on as the primary that it was.
//
// A request whose answer is lost may still be on its way. So before anything is started
// as a primary again the key is taken anew: the request finds another epoch then.

// Lower is what a leader knows of the cluster that it is to follow.
type Lower struct {
	Epoch  int64         // of the reign that is to end
	Config int64         // Mod of the configuration that asks for it
	Other  pg.Elsewhere  // what the other one said last
	Err    string        // why it said nothing
	Asked  time.Duration // when that was; 0: it was not asked yet
	Since  time.Duration // when the server was told to stop; 0: it was not
	Sent   bool          // the term may have been turned
	Why    string        // why it is not done now
	Until  time.Duration // and not tried again before
}

const (
	lowerFor   = 10 * time.Second // how long the other cluster may take to have the rest of the log
	lowerAgain = 15 * time.Second // between two attempts
	lowerNear  = 16 << 20         // bytes that the other cluster may lack before the server is stopped for it
)

// meet has the other cluster say who it is, every so often.
func (t *turn) meet(up pg.Upstream, every time.Duration) {
	if at := t.m.Lower.Asked + every; t.m.Lower.Asked > 0 && t.Now < at {
		t.wakeBy(at)
		return
	}
	t.work(Identify{Up: up, Timeline: max(t.Server.Timeline, t.Server.Control.Timeline)})
}

// met folds what the other cluster said, or the leader of this one.
func (m *Memory) met(e Ended) {
	m.Rejoin.Asked, m.Rejoin.Refused = e.At, e.Err
	m.Lower.Other, m.Lower.Err, m.Lower.Asked = e.Other, e.Err, e.At
}

// unlowered puts off what can not be done now.
func (t *turn) unlowered(why string) {
	l := &t.m.Lower
	t.note("demotion=refused")
	*l = Lower{Epoch: l.Epoch, Config: l.Config, Why: why, Until: t.Now + lowerAgain}
	t.wakeBy(l.Until)
}

// lower is the part of a leader that writes: it says whether it stops its server.
func (t *turn) lower() bool {
	s, c, l := &t.Server, t.State.Config, &t.m.Lower
	if !c.StandbyCluster() || t.State.Unknown(cluster.KeyConfig) {
		*l = Lower{}
		return false
	}
	if l.Config != c.Mod || l.Epoch != t.m.Right.Epoch {
		*l = Lower{Config: c.Mod, Epoch: t.m.Right.Epoch}
	}
	up, known := t.remote(c)
	if !known || t.Stopping || t.State.Unknown(cluster.KeySync) {
		return false
	}
	t.note("demotion=asked")
	switch {
	case t.Now < l.Until:
		t.wakeBy(l.Until)
		return false
	case l.Asked == 0 || t.Now > l.Asked+time.Second:
		t.meet(up, 0)
		return true
	}
	if lacks := l.lacks(s); lacks != "" {
		t.unlowered(up.Name + " " + lacks)
		return false
	}
	t.note("demotion=stop")
	l.Since, l.Asked = t.Now, 0
	t.work(Stop{})
	return true
}

// lowered is the part of that leader once its server is down; false: it is started again.
func (t *turn) lowered() bool {
	s, c, l := &t.Server, t.State.Config, &t.m.Lower
	if l.Since == 0 || l.Epoch != t.m.Right.Epoch {
		return false
	}
	up, known := t.remote(c)
	switch {
	case !known || c.Mod != l.Config || t.Stopping || s.Standby || s.Control.State != pg.ControlShutDown || t.State.Unknown(cluster.KeyConfig):
		t.note("demotion=withdrawn")
	case l.has(s.Control):
		t.note("demotion=%s", up.Name)
		if t.State.Revision < t.m.Wrote {
			t.note("store=behind")
			return true
		}
		if t.lockDue(t.Timers.Renew / 4) {
			l.Sent = true
			t.ask(Subject{Lease: t.m.Lease.ID, Epoch: t.m.Right.Epoch, Config: c.Mod, Term: t.term(cluster.KindDemotion)})
		}
		return true
	case t.Now < l.Since+lowerFor:
		t.note("demotion=awaited")
		t.meet(up, 10*soon)
		return true
	default:
		t.note("demotion=late")
	}
	if l.Sent {
		t.m.Taken = 0
	}
	why := "did not get the rest of what was written here"
	if l.Err != "" {
		why = l.silent()
	}
	sent := l.Sent
	t.unlowered(up.Name + " " + why)
	if sent {
		t.wakeBy(t.Now)
	}
	return sent
}

// lacks is why the other cluster is not one that follows this server, which leads; "": it is.
func (l *Lower) lacks(s *pg.Status) string {
	switch o := l.Other; {
	case l.Err != "":
		return l.silent()
	case o.System != s.Control.System:
		return fmt.Sprintf("is of another system, %s", o.System)
	case o.Timeline != s.Timeline:
		return fmt.Sprintf("is on timeline %d and this cluster on %d: it does not follow this one", o.Timeline, s.Timeline)
	case o.Common+lowerNear < s.Flushed:
		return fmt.Sprintf("lacks %d bytes of what was written here", s.Flushed.Behind(o.Common))
	}
	return ""
}

func (l *Lower) silent() string { return "does not answer: " + l.Err }

// has says that the other cluster has all that a server has which was shut down.
func (l *Lower) has(c pg.Control) bool {
	return l.Asked > 0 && l.Err == "" && l.Other.System == c.System && l.Other.Common > c.Checkpoint
}
