package ha

import (
	"strconv"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// stuckAfter is how long a standby may fail to stream from a leader that runs
// before its log is measured against the leader's history.
const stuckAfter = 10 * time.Second

// follow is the turn of a member while another one leads.
func (t *turn) follow() {
	leader := t.State.LeaderName()
	t.note("leader=" + leader)
	t.m.Crash, t.m.Switch, t.m.Vacancy = Crash{}, Switch{}, Vacancy{}
	t.m.Offer = Offer{}
	if epoch := t.State.Epoch(); t.m.Rejoin.Leader != leader || t.m.Rejoin.Epoch != epoch {
		t.m.Rejoin = Rejoin{Leader: leader, Epoch: epoch}
	}
	s := t.Server
	if t.writes() && s.Process != pg.ProcessNone {
		// Somebody else holds the key: whatever this server still does is void.
		t.note("server=writes")
		t.work(Kill{})
		return
	}
	if t.reinit() {
		return
	}
	switch s.Process {
	case pg.ProcessNone:
		t.rejoin()
	case pg.ProcessStarting, pg.ProcessStopping:
		t.note("server=%s", s.Process)
		up, _ := t.upstream()
		if now := (Streamed{t.State.Epoch(), s.PID}); s.Process == pg.ProcessStarting && s.Standby && up.Host != "" && t.m.Pointed != now {
			// An agent before us began it, perhaps under another leader: it may be
			// waiting for log from there, and will not say so before it has it.
			if a := (Follow{Up: up}); !t.failing(a) {
				t.m.Pointed = now
				t.work(a)
			}
		}
		t.lookBy(t.ServerAt + soon)
	case pg.ProcessRunning:
		if !s.Answers {
			t.note("server=silent")
			t.lookBy(t.ServerAt + soon)
			return
		}
		t.note("server=standby")
		if !t.offered() && !t.asked() && !t.configure() {
			t.stream()
		}
	}
}

// upstream is the leader as a server to copy or stream from; ok is false until
// it has said that it is a primary.
func (t *turn) upstream() (pg.Upstream, bool) {
	m, live := t.State.Member(t.State.LeaderName())
	if !live {
		return pg.Upstream{}, false
	}
	host, text := m.Host()
	port, _ := strconv.Atoi(text)
	return pg.Upstream{Name: m.Name, Host: host, Port: port, Slot: cluster.SlotName(t.Self.Name)},
		m.Role == cluster.RolePrimary && m.Running()
}

// stream keeps a running standby on its leader.
func (t *turn) stream() {
	s := t.Server
	up, ready := t.upstream()
	r := &t.m.Rejoin
	if up.Host == "" {
		t.note("leader=unpublished")
		return
	}
	if s.Upstream != up.Addr() || s.Slot != up.Slot {
		t.note("upstream=%s", s.Upstream)
		t.work(Follow{Up: up})
		return
	}
	if s.Streaming {
		r.Stuck, r.Tries = 0, 0
		t.m.Streamed = Streamed{t.State.Leader.Mod, s.PID}
		if len(s.Slots) > 0 && t.m.Swept != t.State.Leader.Mod {
			// Slots from when this server led would hold its log for ever.
			t.note("slots=old")
			t.m.Swept = t.State.Leader.Mod
			t.work(Slots{})
		}
		t.m.Story = Story{}
		return
	}
	t.note("streaming=no")
	t.lookBy(t.ServerAt + 10*soon)
	if at, forked := t.fork(s.Timeline); ready && forked && s.Flushed > at {
		// The leader's timeline left ours before the end of our log.
		t.note("forked=%d", at.Behind(s.Flushed))
		r.End, r.Measured, r.Forked = s.Flushed, false, true
		t.work(Stop{})
		return
	}
	if s.Problem.Code == codeDiskFull {
		t.note("disk=full") // it streams again when there is room; a fresh copy would need more
		r.Stuck = 0
		return
	}
	if !ready {
		r.Stuck = 0
		return
	}
	if r.Stuck == 0 {
		r.Stuck = t.Now
	}
	if t.Now-r.Stuck < stuckAfter {
		return
	}
	// Nothing forked, and still nothing arrives: look at the whole log; a second
	// time round only a fresh copy can help (the leader no longer has what we need).
	t.note("stuck=%s", (t.Now - r.Stuck).Round(time.Second))
	r.Tries++
	r.Stuck, r.Measured, r.Forked = 0, false, true
	r.Aside = r.Tries > 1
	t.work(Stop{})
}

// fork returns where the cluster's history left the given timeline, and whether
// it did. The leader publishes the history after its promotion.
func (t *turn) fork(tl pg.Timeline) (pg.LSN, bool) {
	for _, row := range t.State.History {
		if row.Timeline == tl {
			return row.LSN, true
		}
	}
	return 0, false
}
