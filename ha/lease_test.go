package ha

import (
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

func TestLease(t *testing.T) {
	due := func(v *View) { v.Memory.LastLock = now - time.Minute }
	none := func(v *View) { due(v); v.Memory.Lease, v.Memory.Right = Lease{}, Right{} }
	check(t, []row{
		{"a follower's renewal confirms no key", standby, due, "leader=a server=standby -> keep"},
		{"a leader's confirms the key", leader, due, "leader=self server=primary -> renew(epoch 40)"},
		{"not before it is due", standby, nil, "leader=a server=standby -> nothing"},
		{"one that is behind hurries", standby, func(v *View) {
			v.Memory.LastLock, v.Memory.Lease.Sent = now-400*time.Millisecond, now-2*time.Second
		}, "leader=a server=standby -> keep"},
		{"a key that is not confirmed yet hurries", leader, func(v *View) {
			v.Memory.LastLock, v.Memory.Right = now-300*time.Millisecond, Right{}
			v.Server = standby().Server
		}, "leader=self(unconfirmed) -> renew(epoch 40)"},
		{"one request at a time", leader, func(v *View) { due(v); v.LockBusy = true }, "leader=self server=primary -> nothing"},
		{"without a lease one is asked for", standby, none, "leader=a server=standby -> grant lease(5s)"},
		{"but not from a store that was never read", standby, func(v *View) { none(v); v.Known = false }, "store=unseen -> nothing"},
		{"a predecessor's lease is adopted with its key", leader, func(v *View) {
			none(v)
			v.Server = standby().Server
		}, "leader=self(unconfirmed) -> renew(epoch 40)"},
		{"a key on a lease that is lost is hung on the present one", leader, func(v *View) {
			due(v)
			v.State.Leader.Lease = 6
		}, "leader=self server=primary -> retake(epoch 40)"},
		{"after a refusal the key is let alone for a moment", leader, func(v *View) {
			due(v)
			v.State.Leader.Lease, v.Memory.LockAfter = 6, now+soon
		}, "leader=self server=primary -> nothing"},
		{"who has resigned renews nothing", standby, func(v *View) {
			due(v)
			v.Memory.Leaving.Resigned = true
		}, "leader=a server=standby -> nothing"},
	})
}

// The deadline counts from when the renewal was sent, and moves only with an
// answer that is certain.
func TestRight(t *testing.T) {
	sent := now - 200*time.Millisecond
	before := leader().Memory.Right
	renewed := Renew{Lease: lease, Epoch: epoch}
	for _, tt := range []struct {
		name   string
		answer Answer
		with   func(*View)
		right  Right
		lease  int64
	}{
		{"confirmed", Answer{Action: renewed, Sent: sent, OK: true, TTL: 5 * time.Second}, nil, Right{epoch, sent, 5 * time.Second, ""}, lease},
		{"the store made the lease shorter", Answer{Action: renewed, Sent: sent, OK: true, TTL: 3 * time.Second}, nil, Right{epoch, sent, 3 * time.Second, ""}, lease},
		{"no answer in time", Answer{Action: renewed, Sent: sent, Unknown: true}, nil, before, lease},
		{"the key is not ours", Answer{Action: renewed, Sent: sent, TTL: 5 * time.Second}, nil, Right{}, lease},
		{"an epoch that is past", Answer{Action: Renew{Lease: lease, Epoch: 12}, Sent: sent, TTL: 5 * time.Second}, nil, before, lease},
		{"the lease is gone", Answer{Action: renewed, Sent: sent, NoLease: true}, nil, Right{}, lease}, // the snapshot shows it still, and that it was ours: asked for once more
		{"taking a key does not extend the lease", Answer{Action: Acquire{Lease: lease}, Sent: sent, OK: true, Revision: 60}, nil, Right{60, before.Sent, 5 * time.Second, ""}, lease},
		{"nor does a renewal that was not confirmed", Answer{Action: Renew{Lease: lease, Bare: true}, Sent: sent, OK: true, TTL: 5 * time.Second}, nil, before, lease},
		{"given up", Answer{Action: Release{Epoch: epoch}, Sent: sent, OK: true, Revision: 60}, nil, Right{}, lease},
		{"the watch shows another's key", Answer{Action: renewed, Sent: sent, OK: true, TTL: 5 * time.Second}, func(v *View) {
			v.State.Leader = &cluster.Leader{Name: "b", Lease: 8, Mod: 45}
		}, Right{}, lease},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := leader()
			v.Answer = &tt.answer
			if tt.with != nil {
				tt.with(&v)
			}
			m := Decide(v).Memory
			if m.Right != tt.right || m.Lease.ID != tt.lease {
				t.Errorf("right %+v, lease %d; want %+v, %d", m.Right, m.Lease.ID, tt.right, tt.lease)
			}
		})
	}
}

// The timeline of a promotion is the one that was reserved with the key that is
// held, not with one that was held before.
func TestTheReservedTimeline(t *testing.T) {
	term := func(mod int64, who string, tl pg.Timeline) *cluster.Term {
		return &cluster.Term{Mod: mod, Leader: who, Reserved: tl}
	}
	for _, tt := range []struct {
		name     string
		taken    int64
		reserved pg.Timeline
		term     *cluster.Term
		want     pg.Timeline
	}{
		{"the answer came before the watch", 50, 7, term(40, "a", 6), 7},
		{"the answer was lost, and the watch tells", 30, 5, term(50, "b", 7), 7},
		{"the agent is another one since", 0, 0, term(50, "b", 7), 7},
		{"a real Patroni reserves nothing", 0, 0, nil, 0},
	} {
		v := standby()
		v.State.Term = tt.term
		v.Memory.Taken, v.Memory.Reserved, v.Memory.Right = tt.taken, tt.reserved, Right{Epoch: 50, Sent: now, TTL: 5 * time.Second}
		if got := (&turn{View: v, m: v.Memory}).promotion().Timeline; got != tt.want {
			t.Errorf("%s: timeline %d, want %d", tt.name, got, tt.want)
		}
	}
	for _, a := range []Action{Acquire{Term: term(0, "b", 7).Encode()}, Take{Term: term(0, "b", 7).Encode()}, Retake{Term: term(0, "b", 7).Encode()}, Revert{Term: term(0, "b", 7).Encode()}} {
		if got := termOf(a).Reserved; got != 7 {
			t.Errorf("%s reserved %d", a, got)
		}
	}
}

func TestDeadline(t *testing.T) {
	v := leader()
	tr := &turn{View: v, m: v.Memory}
	end := v.Memory.Right.Sent + 5*time.Second - v.Timers.Margin
	if got := tr.deadline(); got != end {
		t.Errorf("deadline %s, want %s: the lease from when it was sent, less the margin", got, end)
	}
	for at, want := range map[time.Duration]bool{end - 1: true, end: false} {
		if tr.Now = at; tr.leading() != want {
			t.Errorf("%s before the deadline leading is %v", end-at, !want)
		}
	}
	if (&turn{View: v}).leading() {
		t.Error("leading without a right")
	}
}
