package ha

import (
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// Two clusters change places: this one stops for it only if the other has its log, and
// follows only once that has all of it.
func TestLower(t *testing.T) {
	asked := func(v *View) { v.State.Config = asks(elsewhere) }
	met := func(e pg.Elsewhere) func(*View) {
		return func(v *View) {
			asked(v)
			v.Memory.Lower = Lower{Epoch: epoch, Config: 5, Other: e, Asked: now - 10*time.Millisecond}
		}
	}
	near := pg.Elsewhere{System: system, Timeline: 2, Common: 990}
	stopped := func(e pg.Elsewhere, more func(*View)) func(*View) {
		return func(v *View) {
			met(e)(v)
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDown
			v.Memory.Lower.Since = now - time.Second
			if more != nil {
				more(v)
			}
		}
	}
	with := func(change func(*pg.Elsewhere)) pg.Elsewhere {
		e := near
		change(&e)
		return e
	}
	lead, wait := "leader=self server=primary demotion=asked ", "leader=self "
	check(t, []row{
		{"the other one is asked who it is", leader, asked, lead + "-> identify(10.9.9.9:5433)"},
		{"it follows: the server stops", leader, met(near), lead + "demotion=stop -> stop"},
		{"what it said is of yesterday", leader, func(v *View) { met(near)(v); v.Memory.Lower.Asked = now - time.Minute }, lead + "-> identify(10.9.9.9:5433)"},
		{"what it said was for another configuration", leader, func(v *View) { met(near)(v); v.Memory.Lower.Config = 4 }, lead + "-> identify(10.9.9.9:5433)"},
		{"or in another reign", leader, func(v *View) { met(near)(v); v.Memory.Lower.Epoch = 30 }, lead + "-> identify(10.9.9.9:5433)"},
		{"it does not answer", leader, func(v *View) { met(near)(v); v.Memory.Lower.Err = "no route" }, lead + "demotion=refused -> nothing"},
		{"it is of another system", leader, met(with(func(e *pg.Elsewhere) { e.System++ })), lead + "demotion=refused -> nothing"},
		{"it was promoted already", leader, met(with(func(e *pg.Elsewhere) { e.Timeline = 3 })), lead + "demotion=refused -> nothing"},
		{"it lacks too much", leader, func(v *View) { met(near)(v); v.Server.Flushed = 990 + lowerNear + 1 }, lead + "demotion=refused -> nothing"},
		{"it is not tried again at once", leader, func(v *View) {
			asked(v)
			v.Memory.Lower = Lower{Epoch: epoch, Config: 5, Why: "x", Until: now + time.Second}
		}, lead + "-> nothing"},
		{"down, it is asked again", leader, stopped(near, func(v *View) { v.Memory.Lower.Asked = 0; v.Server.Control.Checkpoint = 1000 }), wait + "demotion=awaited -> identify(10.9.9.9:5433)"},
		{"it lacks the last record", leader, stopped(near, func(v *View) { v.Server.Control.Checkpoint = 990 }), wait + "demotion=awaited -> nothing"},
		{"it has everything", leader, stopped(near, nil), wait + "demotion=10.9.9.9:5433 -> subject(epoch 40, config 5)"},
		{"it was promoted meanwhile, and has everything", leader, stopped(with(func(e *pg.Elsewhere) { e.Timeline = 3 }), nil), wait + "demotion=10.9.9.9:5433 -> subject(epoch 40, config 5)"},
		{"what was put is not seen yet", leader, stopped(near, func(v *View) { v.Memory.Wrote = 60 }), wait + "demotion=10.9.9.9:5433 store=behind -> nothing"},
		{"it takes too long: it goes on as it was", leader, stopped(near, func(v *View) {
			v.Server.Control.Checkpoint = 1000
			v.Memory.Lower.Since = now - lowerFor
			v.Memory.Offer = Offer{Closed: true}
		}), wait + "demotion=late demotion=refused server=down shutdown=clean -> start(primary)"},
		{"nobody asks any more", leader, stopped(near, func(v *View) { v.State.Config.Mod, v.Memory.Offer = 6, Offer{Closed: true} }), wait + "demotion=withdrawn demotion=refused server=down shutdown=clean -> start(primary)"},
		{"it crashed while it stopped", leader, stopped(near, func(v *View) {
			v.Server.Control.State = pg.ControlInProduction
			v.Memory.Crash = Crash{At: now, Measured: true, End: 1000, Offered: true}
			v.Memory.Offer = Offer{Closed: true}
		}), wait + "demotion=withdrawn demotion=refused server=down -> start(primary)"},
		{"its term may have been turned: the key is taken anew first", leader, stopped(near, func(v *View) {
			v.Server.Control.Checkpoint = 1000
			v.Memory.Lower.Since, v.Memory.Lower.Sent = now-lowerFor, true
		}), wait + "demotion=late demotion=refused -> nothing"},
		{"which is the next turn", leader, func(v *View) {
			asked(v)
			down(&v.Server)
			v.Server.Control.State = pg.ControlShutDown
			v.Memory.Taken = 0
			v.Memory.Lower = Lower{Epoch: epoch, Config: 5, Why: "x", Until: now + time.Second}
		}, wait + "right=inherited -> retake(epoch 40)"},
		{"turned, it follows", tapping, func(v *View) {
			down(&v.Server)
			v.Server.Standby, v.Server.Control = false, pg.Control{State: pg.ControlShutDown, System: system, Timeline: 2, Checkpoint: 900}
			v.Memory.Lower = Lower{Other: near, Asked: now}
		}, wait + "cluster=standby server=down data=primary -> start(standby of 10.9.9.9:5433)"},
		{"another agent asks before it does", tapping, func(v *View) {
			down(&v.Server)
			v.Server.Standby, v.Server.Control = false, pg.Control{State: pg.ControlShutDown, System: system, Timeline: 2, Checkpoint: 900}
		}, wait + "cluster=standby server=down data=primary -> identify(10.9.9.9:5433)"},
	})

	v := leader()
	met(with(func(e *pg.Elsewhere) { e.System++ }))(&v)
	if codes := problemCodes(v); !slices.Equal(codes, []string{"standby-demotion"}) {
		t.Errorf("a person hears %v", codes)
	}
	v = leader()
	stopped(near, nil)(&v)
	d := Decide(v)
	i := slices.IndexFunc(d.Actions, func(a Action) bool { _, ok := a.(Subject); return ok })
	if i < 0 {
		t.Fatalf("%s", d)
	}
	term, err := cluster.ParseTerm([]byte(d.Actions[i].(Subject).Term))
	if err != nil || !term.Standby || term.Kind != cluster.KindDemotion || term.Leader != "a" {
		t.Errorf("the term is %+v, %v", term, err)
	}
	if trail := strings.Join(d.Trail, " "); !strings.Contains(trail, "demotion=10.9.9.9:5433") {
		t.Errorf("it says %s", trail)
	}
}
