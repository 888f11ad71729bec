package node

import (
	"testing"
	"time"

	"howdah/lease"
	"howdah/node/process"
	"howdah/spec"
)

func TestJudge(t *testing.T) {
	const now = 100 * time.Second
	server, later := process.ID{PID: 7, Start: 70}, process.ID{PID: 8, Start: 80}
	live := lease.Page{Role: lease.Primary, Epoch: 5, Deadline: now + 50*time.Millisecond}
	over := lease.Page{Role: lease.Primary, Epoch: 5, Deadline: now}
	// A primary with a live right, seen before.
	base := facts{Now: now, Page: live, Valid: true, Server: server, Memory: memory{Server: server, Right: live}}
	froze := func(f *facts) {
		f.Page, f.Frozen = over, true
		f.Memory = memory{Server: server, Right: over, Froze: true}
	}
	for _, tt := range []struct {
		name  string
		with  func(*facts)
		want  string
		again time.Duration // 0: not looked at
	}{
		{"a live right: look again at its deadline", nil, "page=primary epoch=5 right=live -> nothing", live.Deadline},
		{"a long right: look again soon", func(f *facts) { f.Page.Deadline = now + time.Hour }, "page=primary epoch=5 right=live -> nothing", now + glance},
		{"at the deadline", func(f *facts) { f.Page = over }, "page=primary epoch=5 right=over -> freeze", now + frozenLook},
		{"past it, seen for the first time", func(f *facts) { f.Page, f.Memory = over, memory{} }, "page=primary epoch=5 right=over -> freeze", 0},
		{"renewed in time", func(f *facts) { f.Memory.Right = over }, "page=primary epoch=5 right=live -> nothing", live.Deadline},
		{"no server", func(f *facts) { f.Server, f.Page = process.ID{}, over }, "server=none -> nothing", now + glance},
		{"never a primary", func(f *facts) { f.Page, f.Memory = lease.Page{}, memory{} }, "page=closed right=none -> nothing", 0},
		{"never a primary, no page", func(f *facts) { f.Valid, f.Memory = false, memory{} }, "page=invalid right=none -> nothing", 0},

		{"the page becomes invalid", func(f *facts) { f.Valid = false }, "page=invalid epoch=5 right=over -> freeze", 0},
		{"… of a server that started later", func(f *facts) { f.Valid, f.Server = false, later }, "page=invalid right=none -> nothing", 0},
		{"… of a standby that is not promoted yet", func(f *facts) { f.Valid, f.Standby = false, true }, "page=invalid epoch=5 standby=yes -> nothing", now + promoteLook},
		{"closed, right not over: the agent stops it", func(f *facts) { f.Page = lease.Page{} }, "page=closed epoch=5 right=live -> nothing", live.Deadline},
		{"closed, and it still runs at the deadline", func(f *facts) { f.Page, f.Memory.Right = lease.Page{}, over }, "page=closed epoch=5 right=over -> freeze", 0},
		{"closed, and another server started since", func(f *facts) { f.Page, f.Memory.Right, f.Server = lease.Page{}, over, later }, "page=closed right=none -> nothing", 0},
		{"a replica is never frozen", func(f *facts) { f.Page, f.Memory.Right = lease.Page{Role: lease.Replica}, over }, "page=replica right=none -> nothing", 0},
		{"a promotion that outlives its right", func(f *facts) { f.Page, f.Standby = over, true }, "page=primary epoch=5 right=over -> freeze", 0},

		{"frozen by us, nothing new", froze, "page=primary epoch=5 frozen=by-us -> nothing", now + frozenLook},
		{"frozen by us, same epoch again", func(f *facts) { froze(f); f.Page = live }, "page=primary epoch=5 right=renewed -> thaw", live.Deadline},
		{"frozen by us, another epoch", func(f *facts) { froze(f); f.Page = live; f.Page.Epoch = 6 }, "page=primary epoch=5 right=over agent=decides -> nothing", 0},
		{"frozen by us, another epoch, thawed by the agent", func(f *facts) { froze(f); f.Page, f.Frozen = live, false; f.Page.Epoch = 6 }, "page=primary epoch=5 right=new thawed=by-agent -> forget", live.Deadline},
		{"frozen by us, thawed by the agent in the same epoch", func(f *facts) { froze(f); f.Page, f.Frozen = live, false }, "page=primary epoch=5 right=renewed -> thaw", live.Deadline},
		{"frozen by us, then closed", func(f *facts) { froze(f); f.Page = lease.Page{} }, "page=closed epoch=5 right=over agent=decides -> nothing", 0},
		{"frozen by us, then replica", func(f *facts) { froze(f); f.Page.Role = lease.Replica }, "page=replica epoch=5 right=over agent=decides -> nothing", 0},
		{"frozen by us, no page", func(f *facts) { froze(f); f.Valid = false }, "page=invalid epoch=5 frozen=by-us -> nothing", 0},
		{"frozen by us, but something runs", func(f *facts) { froze(f); f.Frozen = false }, "page=primary epoch=5 frozen=no -> freeze", 0},
		{"frozen by us, killed, started as a replica", func(f *facts) { froze(f); f.Server, f.Frozen, f.Page = later, false, lease.Page{Role: lease.Replica} }, "page=replica right=none -> nothing", 0},
		{"frozen by a guard before us", func(f *facts) { froze(f); f.Memory = memory{} }, "page=primary found=frozen epoch=5 frozen=by-us -> nothing", 0},
		{"frozen by a person while the right lives", func(f *facts) { f.Frozen = true }, "page=primary epoch=5 right=live -> nothing", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := base
			if tt.with != nil {
				tt.with(&f)
			}
			v := judge(f)
			if v.String() != tt.want {
				t.Errorf("judge = %s\n   want %s", v, tt.want)
			}
			if tt.again != 0 && v.Again != tt.again {
				t.Errorf("looks again at %v; want %v", v.Again, tt.again)
			}
			if v.Again <= now && v.Do != freeze || v.Again > now+glance {
				t.Errorf("looks again at %v: not within (%v, %v]", v.Again, now, now+glance)
			}
		})
	}
}

// A right that begins and ends between two looks would be nobody's to end.
func TestNoRightIsShorterThanAGlance(t *testing.T) {
	s := spec.Safe()
	for what, right := range map[string]time.Duration{
		"what is left of a lease when a server begins to write": min(time.Second, s.Lease/4),
		"what the end of maintenance gives":                     s.Retry,
	} {
		if right <= glance {
			t.Errorf("%s is %s, a glance %s", what, right, glance)
		}
	}
}

// However long a look at all processes takes, a frozen server costs a tenth of a core.
func TestAFrozenServerIsLookedAtSparingly(t *testing.T) {
	for _, tt := range []struct{ took, again time.Duration }{
		{0, 0}, {time.Millisecond, 9 * time.Millisecond}, {20 * time.Millisecond, 180 * time.Millisecond}, {time.Second, frozenMost},
	} {
		if got := spared(time.Hour, time.Hour+tt.took) - tt.took - time.Hour; got != tt.again {
			t.Errorf("after a look of %s the next comes after %s, want %s", tt.took, got, tt.again)
		}
	}
}
