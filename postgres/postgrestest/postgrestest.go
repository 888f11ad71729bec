// Package postgrestest is the contract of one PostgreSQL server as the agent
// uses it. The real server and the simulator's model of it pass the same suite,
// so that what holds in simulation holds on a machine.
package postgrestest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"howdah/ha/agent"
	"howdah/pg"
	"howdah/postgres"
)

// A Server is one PostgreSQL data directory and what may run on it.
// postgres.Server documents each method.
type Server interface {
	agent.Server
	Reload(ctx context.Context) error
	Died() <-chan struct{}
}

var _ Server = (*postgres.Server)(nil)

// A World is where the servers of one test live, real or modelled.
type World interface {
	Server(name string) Server           // a new one, its data directory absent
	Upstream(name string) pg.Upstream    // how the others reach it
	Write(name string, rows int) error   // returns once that server has acknowledged them
	Rows(name string) int                // how many a reader sees there; -1 if it cannot be read
	Wait(what string, holds func() bool) // lets time pass until it holds; fails the test if it never does
	Smart(name string)                   // SIGTERM from outside, with a client that stays
	Has(program string) bool             // pg_rewind is not everywhere
}

// Test is the contract.
func Test(t *testing.T, open func(t *testing.T) World) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"life of a primary", life},
		{"a standby streams and takes over without loss", switchover},
		{"a crashed primary comes back", crash},
		{"a smart shutdown from outside can be ended", smart},
		{"a diverged primary is rewound", diverged},
		{"a clone that failed is begun again", partial},
		{"frozen is not dead", frozen},
		{"a standby follows whom it is told", follow},
		{"a promotion goes to the timeline that was reserved", reserved},
		{"a server says who it is", identified},
		{"a standby's data is not started as a primary", refuse},
		{"slots are those wanted", slots},
		{"nothing is thrown away", kept},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, &bench{t, open(t)}) })
	}
}

// bench is a world with the few steps that every test takes.
type bench struct {
	*testing.T
	World
}

func (b *bench) must(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

func (b *bench) refused(what string, err error) {
	b.Helper()
	if err == nil {
		b.Fatalf("%s: done, want an error", what)
	}
}

func (b *bench) primary(name string) Server {
	b.Helper()
	s := b.Server(name)
	b.must("init "+name, s.Init(b.Context(), nil))
	b.must("start "+name, s.Start(b.Context(), nil))
	return s
}

func (b *bench) standby(name, of string) Server {
	b.Helper()
	s, up := b.Server(name), b.Upstream(of)
	b.must("clone "+name, s.Clone(b.Context(), up, nil))
	b.must("start "+name, s.Start(b.Context(), &up))
	b.streams(name, s)
	return s
}

func (b *bench) streams(name string, s Server) {
	b.Helper()
	b.Wait(name+" streams", func() bool { return s.Look(b.Context()).Streaming })
}

func (b *bench) write(name string, rows int) {
	b.Helper()
	b.must("write to "+name, b.Write(name, rows))
}

func (b *bench) rows(name string, want int) {
	b.Helper()
	b.Wait(name+" shows the rows", func() bool { return b.Rows(name) == want })
}

func life(t *testing.T, b *bench) {
	ctx := t.Context()
	s := b.Server("a")
	if st := s.Look(ctx); st.Data != pg.DataMissing || st.Process != pg.ProcessNone || st.MayWrite() {
		t.Fatalf("before initdb: %+v", st)
	}
	b.refused("start of nothing", s.Start(ctx, nil))
	b.must("stop of nothing", s.Stop(ctx, postgres.Fast))
	b.must("kill of nothing", s.Kill(ctx))
	b.must("init", s.Init(ctx, nil))
	st := s.Look(ctx)
	if st.Data != pg.DataPresent || st.Process != pg.ProcessNone || !st.Control.Clean() || !st.Control.WasPrimary() || st.Control.System == 0 {
		t.Fatalf("after initdb: %+v", st)
	}
	b.refused("init of a present system", s.Init(ctx, nil))
	b.refused("promote of a stopped server", s.Promote(ctx, 0))
	b.refused("clone over a present system", s.Clone(ctx, b.Upstream("a"), nil))

	b.must("start", s.Start(ctx, nil))
	st = s.Look(ctx)
	if !st.Primary() || !st.MayWrite() || st.Timeline != 1 || st.Standby || st.PID == 0 || st.Flushed == 0 {
		t.Fatalf("a running primary: %+v", st)
	}
	b.refused("start of a running server", s.Start(ctx, nil))
	b.refused("promote of a primary", s.Promote(ctx, 0))
	b.refused("follow of a primary", s.Follow(ctx, b.Upstream("a")))
	b.refused("rewind of a running server", s.Rewind(ctx, b.Upstream("a")))
	_, err := s.End(ctx)
	b.refused("end of a running server's log", err)
	b.write("a", 10)
	if now := s.Look(ctx).Flushed; now <= st.Flushed {
		t.Fatalf("flushed %s after a write, before it %s", now, st.Flushed)
	}
	b.must("checkpoint", s.Checkpoint(ctx))
	b.must("reload", s.Reload(ctx))

	b.must("stop", s.Stop(ctx, postgres.Fast))
	b.must("second stop", s.Stop(ctx, postgres.Fast))
	if st = s.Look(ctx); st.Process != pg.ProcessNone || st.Control.State != pg.ControlShutDown || st.Answers || st.MayWrite() {
		t.Fatalf("a stopped primary: %+v", st)
	}
	if end, err := s.End(ctx); err != nil || end <= st.Control.Checkpoint {
		t.Fatalf("end of the log %s, %v: want beyond the shutdown checkpoint at %s", end, err, st.Control.Checkpoint)
	}
	b.must("start again", s.Start(ctx, nil))
	b.rows("a", 10)
}

func switchover(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	b.write("a", 10)
	var done, total int64
	c := b.Server("c")
	up := b.Upstream("a")
	b.must("clone", c.Clone(ctx, up, func(d, n int64) { done, total = d, n }))
	if done == 0 || total == 0 {
		t.Errorf("progress of the clone: %d of %d", done, total)
	}
	if st := c.Look(ctx); st.Data != pg.DataPresent || !st.Standby || st.Control.System != a.Look(ctx).Control.System {
		t.Fatalf("a fresh clone: %+v", st)
	}
	b.must("start standby", c.Start(ctx, &up))
	b.streams("c", c)
	st := c.Look(ctx)
	if st.Process != pg.ProcessRunning || !st.Recovering || st.Primary() || st.MayWrite() || st.Timeline != 1 || st.Upstream == "" {
		t.Fatalf("a standby: %+v", st)
	}
	b.write("a", 20)
	b.rows("c", 30)
	b.Wait("a sees its replica", func() bool {
		r := a.Look(ctx).Replicas
		return len(r) == 1 && r[0].Name == "c" && r[0].State == "streaming"
	})

	// A fast stop sends everything before it ends, the shutdown checkpoint included.
	b.must("stop", a.Stop(ctx, postgres.Fast))
	old := a.Look(ctx).Control
	if old.State != pg.ControlShutDown {
		t.Fatalf("the stopped primary is %q", old.State)
	}
	if at := c.Look(ctx).Flushed; at <= old.Checkpoint {
		t.Fatalf("the standby has %s, the shutdown checkpoint is at %s", at, old.Checkpoint)
	}
	b.must("promote", c.Promote(ctx, 0))
	if st = c.Look(ctx); !st.Primary() || st.Timeline != 2 || st.Standby {
		t.Fatalf("promoted: %+v", st)
	}
	b.write("c", 5)
	up = b.Upstream("c")
	b.must("start the old primary as a standby", a.Start(ctx, &up)) // it left cleanly: no rewind
	b.streams("a", a)
	b.rows("a", 35)
	b.Wait("a is on the new timeline", func() bool { return a.Look(ctx).Timeline == 2 })
}

func crash(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	b.write("a", 10)
	before := a.Look(ctx).Flushed
	b.must("kill", a.Kill(ctx))
	b.Wait("its death is told", func() bool {
		select {
		case <-a.Died():
			return true
		default:
			return false
		}
	})
	st := a.Look(ctx)
	if st.Process != pg.ProcessNone || st.Control.Clean() || !st.Control.WasPrimary() {
		t.Fatalf("after a kill: %+v", st)
	}
	end, err := a.End(ctx)
	if err != nil || end < before {
		t.Fatalf("end of the log %s, %v: it had flushed %s", end, err, before)
	}
	b.must("start after a crash", a.Start(ctx, nil))
	b.rows("a", 10)
	b.must("stop as in a crash", a.Stop(ctx, postgres.Immediate))
	b.must("recover", a.Recover(ctx))
	if st = a.Look(ctx); !st.Control.Clean() || st.Process != pg.ProcessNone || st.Control.Timeline != 1 {
		t.Fatalf("after crash recovery: %+v", st)
	}
	b.must("recover what is clean", a.Recover(ctx))
	b.must("start", a.Start(ctx, nil))
	b.rows("a", 10)
}

// smart is a shutdown that waits for a client: seen for what it is, by whoever
// was connected before, and ended by a fast one that loses nothing.
func smart(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	b.write("a", 10)
	c := b.standby("c", "a")
	for _, tt := range []struct {
		name  string
		s     Server
		state pg.ControlState
	}{{"c", c, pg.ControlShutDownInRecovery}, {"a", a, pg.ControlShutDown}} {
		before := tt.s.Look(ctx)
		b.Smart(tt.name)
		b.Wait(tt.name+" is stopping", func() bool { return tt.s.Look(ctx).Process == pg.ProcessStopping })
		if st := tt.s.Look(ctx); st.PID != before.PID || st.Answers != before.Answers || st.MayWrite() != before.MayWrite() {
			t.Errorf("%s in a smart shutdown: %+v, before it %+v", tt.name, st, before)
		}
		b.must("stop "+tt.name, tt.s.Stop(ctx, postgres.Fast))
		if st := tt.s.Look(ctx); st.Process != pg.ProcessNone || st.Control.State != tt.state {
			t.Fatalf("%s is %s, %q; want none, %q", tt.name, st.Process, st.Control.State, tt.state)
		}
		if tt.name == "c" {
			up := b.Upstream("a")
			b.must("start c again", c.Start(ctx, &up))
			b.streams("c", c)
		}
	}
	if at, last := c.Look(ctx).Flushed, a.Look(ctx).Control.Checkpoint; at <= last {
		t.Errorf("the standby has %s, the shutdown checkpoint is at %s", at, last)
	}
	b.must("start a again", a.Start(ctx, nil))
	b.rows("a", 10)
}

// divorce leaves a killed with rows of its own, and c promoted without them.
func (b *bench) divorce() (a, c Server) {
	ctx := b.Context()
	a = b.primary("a")
	b.write("a", 10)
	c = b.standby("c", "a")
	b.rows("c", 10)
	b.must("stop the standby", c.Stop(ctx, postgres.Fast))
	b.write("a", 7)
	b.must("kill", a.Kill(ctx))
	b.must("start the standby for itself", c.Start(ctx, &pg.Upstream{}))
	if st := c.Look(ctx); st.Upstream != "" || st.Streaming || !st.Recovering {
		b.Fatalf("a standby of nobody: %+v", st)
	}
	b.must("promote", c.Promote(ctx, 0))
	b.write("c", 3)
	return a, c
}

func diverged(t *testing.T, b *bench) {
	ctx := t.Context()
	a, _ := b.divorce()
	up := b.Upstream("c")
	b.must("recover", a.Recover(ctx))
	if b.Has("pg_rewind") {
		b.must("rewind", a.Rewind(ctx, up))
	} else { // its caller takes a fresh copy
		b.refused("rewind without its program", a.Rewind(ctx, up))
		if st := a.Look(ctx); st.Data != pg.DataPresent || st.Standby {
			t.Fatalf("not rewound: %+v", st)
		}
		_, err := a.MoveAside(ctx)
		b.must("move aside", err)
		b.must("clone", a.Clone(ctx, up, nil))
	}
	if st := a.Look(ctx); st.Data != pg.DataPresent || !st.Standby {
		t.Fatalf("rewound: %+v", st)
	}
	b.must("start as a standby", a.Start(ctx, &up))
	b.streams("a", a)
	b.rows("a", 13)
}

func partial(t *testing.T, b *bench) {
	ctx := t.Context()
	b.primary("a")
	b.write("a", 10)
	b.Server("gone")
	c := b.Server("c")
	b.refused("clone from a server that is down", c.Clone(ctx, b.Upstream("gone"), nil))
	if st := c.Look(ctx); st.Data != pg.DataPartial || st.Process != pg.ProcessNone {
		t.Fatalf("after a clone that failed: %+v", st)
	}
	up := b.Upstream("a")
	b.refused("start of half a clone", c.Start(ctx, &up))
	b.must("clone again", c.Clone(ctx, up, nil))
	b.must("start", c.Start(ctx, &up))
	b.rows("c", 10)
}

func frozen(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	c := b.standby("c", "a")
	b.write("a", 10)
	b.rows("c", 10)
	b.must("freeze", a.Freeze(ctx))
	st := a.Look(ctx)
	if st.Process != pg.ProcessFrozen || st.Answers || !st.MayWrite() {
		t.Fatalf("frozen: %+v", st)
	}
	b.must("second freeze", a.Freeze(ctx))
	b.refused("stop of a frozen server", a.Stop(ctx, postgres.Fast))
	at := c.Look(ctx).Flushed
	b.must("thaw", a.Thaw(ctx))
	if st = a.Look(ctx); !st.Primary() || st.Flushed < at {
		t.Fatalf("thawed: %+v, the standby had %s", st, at)
	}
	b.write("a", 1)
	b.must("freeze", a.Freeze(ctx))
	b.must("kill of a frozen server", a.Kill(ctx))
	if st = a.Look(ctx); st.Process != pg.ProcessNone {
		t.Fatalf("killed: %+v", st)
	}
}

func follow(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	c := b.standby("c", "a")
	d := b.standby("d", "a")
	b.write("a", 10)
	b.rows("c", 10)
	b.rows("d", 10)
	b.must("follow nobody", d.Follow(ctx, pg.Upstream{}))
	if st := d.Look(ctx); st.Upstream != "" || st.Slot != "" {
		t.Fatalf("following nobody: %+v", st)
	}
	b.Wait("d streams no more", func() bool { return !d.Look(ctx).Streaming })
	b.must("stop", a.Stop(ctx, postgres.Fast))
	b.must("promote", c.Promote(ctx, 0))
	b.must("follow c", d.Follow(ctx, b.Upstream("c")))
	b.streams("d", d)
	b.write("c", 5)
	b.rows("d", 15)
	b.Wait("d is on the new timeline", func() bool { return d.Look(ctx).Timeline == 2 })
}

// reserved: the timelines between were promised to others, who never came to them.
func reserved(t *testing.T, b *bench) {
	ctx := t.Context()
	on := func(s Server, name string, tl pg.Timeline) {
		t.Helper()
		b.Wait(fmt.Sprintf("%s is on timeline %d", name, tl), func() bool { return s.Look(ctx).Timeline == tl })
	}
	a := b.primary("a")
	c := b.standby("c", "a")
	d := b.standby("d", "a")
	b.write("a", 10)
	b.rows("c", 10)
	b.rows("d", 10)
	b.must("stop d", d.Stop(ctx, postgres.Fast))
	b.write("a", 3)
	b.rows("c", 13)
	b.must("stop a", a.Stop(ctx, postgres.Fast))
	b.must("promote to 4", c.Promote(ctx, 4))
	on(c, "c", 4)
	b.write("c", 5)
	up := b.Upstream("c")
	b.must("start d", d.Start(ctx, &up)) // it has yet to get there from timeline 1
	b.streams("d", d)
	b.rows("d", 18)
	on(d, "d", 4)
	b.must("start a as a standby", a.Start(ctx, &up))
	b.streams("a", a)
	on(a, "a", 4)
	b.must("stop a", a.Stop(ctx, postgres.Fast))
	b.must("stop d", d.Stop(ctx, postgres.Fast))

	// Who holds placeholders starts again: as a primary, after a crash, and as a standby.
	b.must("stop c", c.Stop(ctx, postgres.Fast))
	b.must("start c", c.Start(ctx, nil))
	on(c, "c", 4)
	b.write("c", 2)
	b.must("kill c", c.Kill(ctx))
	b.must("start c after a crash", c.Start(ctx, nil))
	on(c, "c", 4)
	b.must("start d", d.Start(ctx, &up))
	b.streams("d", d)
	b.rows("d", 20)
	e := b.standby("e", "c") // its history begins with timeline 4
	b.rows("e", 20)

	// The next one, on, while c has rows that nobody else has.
	b.must("stop d", d.Stop(ctx, postgres.Fast))
	b.must("stop e", e.Stop(ctx, postgres.Fast))
	b.write("c", 7)
	b.must("kill c", c.Kill(ctx))
	b.must("start e for itself", e.Start(ctx, &pg.Upstream{}))
	b.must("promote to 6", e.Promote(ctx, 6))
	on(e, "e", 6)
	b.write("e", 1)
	up = b.Upstream("e")
	b.must("start d", d.Start(ctx, &up))
	b.must("recover c", c.Recover(ctx))
	if b.Has("pg_rewind") {
		b.must("rewind c", c.Rewind(ctx, up))
	} else {
		_, err := c.MoveAside(ctx)
		b.must("move c aside", err)
		b.must("clone c", c.Clone(ctx, up, nil))
	}
	b.must("start c as a standby", c.Start(ctx, &up))
	for _, s := range []struct {
		Server
		name string
	}{{c, "c"}, {d, "d"}} {
		b.streams(s.name, s)
		b.rows(s.name, 21)
		on(s, s.name, 6)
	}
	var left []pg.Timeline
	for _, h := range e.Look(ctx).History {
		left = append(left, h.Timeline)
	}
	if !slices.Equal(left, []pg.Timeline{1, 4}) {
		t.Errorf("e comes from the timelines %v, want 1 and 4: nobody was on those between", left)
	}
}

func refuse(t *testing.T, b *bench) {
	ctx := t.Context()
	b.primary("a")
	up := b.Upstream("a")
	c := b.Server("c")
	b.must("clone", c.Clone(ctx, up, nil))
	b.refused("start of a fresh copy as a primary", c.Start(ctx, nil))
	b.must("start", c.Start(ctx, &up))
	b.must("stop", c.Stop(ctx, postgres.Fast))
	b.refused("start of a standby's data as a primary", c.Start(ctx, nil))
	b.must("start", c.Start(ctx, &up))
	b.streams("c", c)
}

func slots(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	want := func(names ...string) {
		t.Helper()
		b.must("slots", a.Slots(ctx, names, nil))
		if got := a.Look(ctx).Slots; !slices.Equal(got, names) {
			t.Fatalf("slots %v, want %v", got, names)
		}
	}
	want("c", "d")
	want("c", "d")
	want("d", "e")
	up := b.Upstream("a")
	up.Slot = "d"
	c := b.Server("c")
	b.must("clone", c.Clone(ctx, up, nil))
	b.must("start", c.Start(ctx, &up))
	b.streams("c", c)
	if got := c.Look(ctx).Slot; got != "d" {
		t.Fatalf("the standby uses slot %q, want d", got)
	}
	b.must("slots", a.Slots(ctx, []string{"e"}, nil))
	if got := a.Look(ctx).Slots; !slices.Equal(got, []string{"d", "e"}) {
		t.Fatalf("slots %v: one in use was dropped", got)
	}
	b.must("stop", c.Stop(ctx, postgres.Fast))
	b.Wait("the slot is dropped once nobody uses it", func() bool {
		b.must("slots", a.Slots(ctx, []string{"e"}, nil))
		return slices.Equal(a.Look(ctx).Slots, []string{"e"})
	})
	b.refused("a slot of a strange name", a.Slots(ctx, []string{"No!"}, nil))

	// A standby has one ready for whoever streams from it once it leads.
	spare := func(s agent.Server, want, spare []string) {
		t.Helper()
		b.must("slots", s.Slots(ctx, want, spare))
		all := slices.Sorted(slices.Values(slices.Concat(want, spare)))
		if got := s.Look(ctx); !slices.Equal(got.Slots, all) || !slices.Equal(got.Spare, spare) {
			t.Fatalf("slots %v, spare %v; want %v and %v", got.Slots, got.Spare, want, spare)
		}
	}
	up.Slot = "e"
	b.must("start", c.Start(ctx, &up))
	b.streams("c", c)
	spare(c, nil, []string{"a", "d"})
	spare(c, []string{"a"}, []string{"d"})
	spare(c, nil, []string{"a", "d"})
	d := b.Server("d")
	b.must("clone", d.Clone(ctx, b.Upstream("a"), nil))
	next := b.Upstream("c")
	next.Slot = "d"
	b.must("start", d.Start(ctx, &next))
	b.Wait("d streams from c", func() bool { return d.Look(ctx).Streaming })
	b.must("promote", c.Promote(ctx, 0))
	b.write("c", 2)
	b.rows("d", 2)
	b.Wait("its slot holds the log", func() bool { return slices.Equal(c.Look(ctx).Spare, []string{"a"}) })
	spare(c, []string{"a", "d"}, nil)
}

func kept(t *testing.T, b *bench) {
	ctx := t.Context()
	a, c := b.divorce()
	left := c.Look(ctx)
	end, err := a.End(ctx)
	b.must("end", err)
	path, err := a.Keep(ctx, left.Control.Redo, 1)
	if err != nil || path == "" {
		t.Fatalf("keep: %q, %v", path, err)
	}
	if path, err = a.Keep(ctx, end, 1); err != nil || path != "" {
		t.Fatalf("keep from the end on: %q, %v", path, err)
	}
	aside, err := a.MoveAside(ctx)
	if err != nil || aside == "" {
		t.Fatalf("move aside: %q, %v", aside, err)
	}
	if st := a.Look(ctx); st.Data != pg.DataMissing {
		t.Fatalf("moved aside: %+v", st)
	}
	up := b.Upstream("c")
	b.must("clone", a.Clone(ctx, up, nil))
	b.must("start", a.Start(ctx, &up))
	b.streams("a", a)
	b.rows("a", 13)
	_, err = a.MoveAside(ctx)
	b.refused("move aside under a running server", err)
}

// identified: one asks another, which may be primary or standby, how much of its log that has.
func identified(t *testing.T, b *bench) {
	ctx := t.Context()
	a := b.primary("a")
	c := b.standby("c", "a")
	b.write("a", 10)
	b.rows("c", 10)
	var e pg.Elsewhere
	ask := func(who string, tl pg.Timeline) {
		b.Wait(who+" says who it is", func() (ok bool) {
			var err error
			e, err = a.Identify(ctx, b.Upstream("c"), tl)
			return err == nil
		})
	}
	ask("the standby", 1)
	if want := (pg.Elsewhere{System: a.Look(ctx).Control.System, Timeline: 1, Common: c.Look(ctx).Flushed}); e != want {
		t.Errorf("the standby says %+v; want %+v", e, want)
	}
	b.must("stop", a.Stop(ctx, postgres.Fast))
	closed := a.Look(ctx).Control
	b.Wait("the standby has all of a server that was shut down", func() bool { ask("the standby", 1); return e.Common > closed.Checkpoint })
	b.must("promote", c.Promote(ctx, 0))
	b.write("c", 5)
	ask("the new primary", 1)
	if e.Timeline != 2 || e.Common <= closed.Checkpoint || e.Common >= c.Look(ctx).Flushed {
		t.Errorf("promoted, it says %+v", e)
	}
	if ask("the new primary", 7); e.Common != 0 {
		t.Errorf("of a timeline that it does not have it says %+v", e)
	}
	b.must("kill", c.Kill(ctx))
	_, err := a.Identify(ctx, b.Upstream("c"), 1)
	b.refused("word of a server that is down", err)
}
