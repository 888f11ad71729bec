package ha

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// notes are the keys that a decision publishes.
func notes(d Decision) string {
	var keys []string
	for _, a := range d.Actions {
		switch a := a.(type) {
		case Put:
			keys = append(keys, a.Key)
		case Drop:
			keys = append(keys, "-"+a.Key)
		}
	}
	return strings.Join(keys, " ")
}

// shown is a view whose store shows all that this node would say of itself.
func shown(base func() View) func() View {
	return func() View {
		v := base()
		v.Memory.LastNote, v.Memory.Told = 0, 0
		for _, a := range Decide(v).Actions {
			if p, ok := a.(Put); ok {
				show(&v, p)
			}
		}
		return v
	}
}

func show(v *View, p Put) {
	s := cluster.Parse(v.State.Revision, map[string]cluster.KV{p.Key: {Key: p.Key, Value: []byte(p.Value), Mod: v.State.Revision, Lease: p.Lease}})
	switch {
	case strings.HasPrefix(p.Key, cluster.DirMembers):
		for i, m := range v.State.Members {
			if m.Name == v.Self.Name {
				v.State.Members[i] = s.Members[0]
			}
		}
	case strings.HasPrefix(p.Key, cluster.DirWhy):
		v.State.Whys = s.Whys
	}
}

func TestPublish(t *testing.T) {
	const me, why = "members/b", "howdah/why/b"
	for _, tt := range []row{
		{"what is shown is not said again", shown(standby), nil, ""},
		{"a position waits for the renewal", shown(standby), func(v *View) { v.Server.Flushed++; v.Memory.LastNote = now }, ""},
		{"and goes out then", shown(standby), func(v *View) { v.Server.Flushed++ }, me},
		{"what others decide by goes out at once", shown(standby), func(v *View) {
			v.Memory.LastNote, v.Server.Timeline = now, 3
		}, me},
		{"a stream that is lost, too", shown(standby), func(v *View) { v.Memory.LastNote, v.Server.Streaming = now, false }, me + " " + why},
		{"that it may be a rewind's source, too", shown(func() View {
			v := leader()
			v.Server.Control.Timeline = 1
			return v
		}), func(v *View) {
			v.Memory.LastNote, v.Memory.Told, v.Server.Control.Timeline = now, now, v.Server.Timeline
		}, "members/a"},
		{"maintenance is acknowledged", shown(standby), func(v *View) {
			v.Memory.LastNote, v.State.Config.Data = now, map[string]any{"pause": true}
		}, me + " " + why},
		{"a new lease carries this member anew", shown(standby), func(v *View) { v.Memory.LastNote, v.Memory.Lease.ID = now, 11 }, me},
		{"one publication at a time", shown(standby), func(v *View) { v.Server.Flushed++; v.NoteBusy = true }, ""},
		{"none before the last is seen", shown(standby), func(v *View) { v.Server.Flushed++; v.Memory.Wrote = v.State.Revision + 1 }, ""},
		{"none right after a refusal", shown(standby), func(v *View) { v.Server.Flushed++; v.Memory.NoteAfter = now + soon }, ""},
		{"none without a lease", shown(standby), func(v *View) { v.Server.Flushed++; v.Memory.Lease = Lease{} }, ""},
		{"none once resigned", shown(standby), func(v *View) { v.Server.Flushed++; v.Memory.Leaving.Resigned = true }, ""},
		{"none before the server was looked at", shown(standby), func(v *View) { v.ServerAt = 0 }, ""},
		{"who has joined is recorded", shown(standby), func(v *View) { v.State.Recorded = v.State.Recorded[:1] }, "howdah/members/b"},
		{"not with another cluster's data", shown(standby), func(v *View) {
			v.State.Recorded = v.State.Recorded[:1]
			v.Server.Control.System++
			v.Memory.Told = now
		}, ""},
		{"nor without data", shown(standby), func(v *View) {
			v.State.Recorded = v.State.Recorded[:1]
			v.Memory.Told = now
			down(&v.Server)
			v.Server.Data = pg.DataMissing
		}, me},
		{"a change of mind is told", shown(standby), func(v *View) { v.State.Whys = nil }, why},
		{"once a renewal", shown(standby), func(v *View) { v.State.Whys = nil; v.Memory.Told = now }, ""},
		{"a leader tells where the timelines parted", leader, func(v *View) { v.State.History = nil }, "history"},
		{"what the lost log had is added to the page", standby, func(v *View) {
			down(&v.Server)
			v.Server.Control.Timeline = 1
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true, End: 700}
			v.State.Failovers = []cluster.FailoverPage{{Number: 3, From: "b", To: "a", Mod: 31}}
			v.Memory.LastNote, v.Memory.Told = now, now
		}, me + " howdah/failovers/000003"},
		{"a page that says it already stays", standby, func(v *View) {
			down(&v.Server)
			v.Server.Control.Timeline = 1
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true, End: 700}
			v.State.Failovers = []cluster.FailoverPage{{Number: 3, From: "b", To: "a", Mod: 31, LostBytes: new(int64)}}
		}, me},
		{"and an older one is of another log", standby, func(v *View) {
			down(&v.Server)
			v.Server.Control.Timeline = 1
			v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true, End: 700}
			v.State.Failovers = []cluster.FailoverPage{{Number: 2, From: "b", To: "a", Mod: 30}, {Number: 3, From: "b", To: "a", Mod: 31, LostBytes: new(int64)}}
		}, me},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.base()
			if tt.with != nil {
				tt.with(&v)
			}
			if got := notes(Decide(v)); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A member says of itself what Patroni's readers know.
func TestMember(t *testing.T) {
	for _, tt := range []struct {
		name  string
		base  func() View
		with  func(*View)
		state string
		role  string
	}{
		{"a primary", leader, nil, cluster.StateRunning, cluster.RolePrimary},
		{"a standby", standby, nil, cluster.StateRunning, cluster.RoleReplica},
		{"without data", standby, func(v *View) { down(&v.Server); v.Server.Data = pg.DataMissing }, cluster.StateStopped, cluster.RoleUninitialized},
		{"copying", standby, func(v *View) { down(&v.Server); v.Server.Data = pg.DataPartial; v.Job.Action = Clone{} }, cluster.StateCreatingReplica, cluster.RoleUninitialized},
		{"a primary that died", leader, func(v *View) { down(&v.Server) }, cluster.StateCrashed, cluster.RoleReplica},
		{"one shut down", leader, func(v *View) { down(&v.Server); v.Server.Control.State = pg.ControlShutDown }, cluster.StateStopped, cluster.RoleReplica},
		{"one that would not start", leader, func(v *View) { down(&v.Server); v.Memory.Failed = Failed{What: Start{}.String(), Times: 1} }, cluster.StateStartFailed, cluster.RoleReplica},
		{"a leader that starts", leader, func(v *View) { v.Server.Process, v.Server.Answers = pg.ProcessStarting, false }, cluster.StateStarting, cluster.RolePrimary},
		{"whose agent leaves", standby, func(v *View) { v.Stopping = true }, cluster.StateStopping, cluster.RoleReplica},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.base()
			if tt.with != nil {
				tt.with(&v)
			}
			m := (&turn{View: v, m: v.Memory}).self()
			if m.State != tt.state || m.Role != tt.role {
				t.Errorf("%s %s, want %s %s", m.State, m.Role, tt.state, tt.role)
			}
		})
	}
}

// Who took the key over an offer had everything that the old leader had; who
// took a key that was lost cannot know yet.
func TestWhatAPageKnowsToBeLost(t *testing.T) {
	for _, tt := range []struct {
		took Action
		want string
	}{
		{Take{Epoch: epoch, Handover: 60}, "0"},
		{Acquire{}, "unknown"},
	} {
		v := leader()
		v.State.Failovers = nil
		v.Memory.Story = Story{Kind: cluster.KindSwitchover, From: "z", Begun: v.Wall}
		v.Answer = &Answer{Action: tt.took, OK: true, Revision: v.Memory.Right.Epoch}
		var page *cluster.FailoverPage
		for _, a := range Decide(v).Actions {
			if p, ok := a.(Put); ok && strings.HasPrefix(p.Key, cluster.DirFailovers) {
				read, err := cluster.ParseFailoverPage([]byte(p.Value))
				if err != nil {
					t.Fatal(err)
				}
				page = &read
			}
		}
		got := "no page"
		if page != nil {
			got = "unknown"
			if page.LostBytes != nil {
				got = strconv.FormatInt(*page.LostBytes, 10)
			}
		}
		if got != tt.want {
			t.Errorf("after %s: lost %s, want %s", tt.took, got, tt.want)
		}
	}
}

// The page of a lost leader counts from when clients had their last answer.
func TestALostLeaderIsMissedFromItsLastSign(t *testing.T) {
	const lease = 5 * time.Second
	wall := leader().Wall // when the lease ended, as seen here
	for _, tt := range []struct {
		name   string
		with   func(*View)
		ago    time.Duration // the story begins so long before that
		reason string
	}{
		{"its last commit", func(v *View) { v.Server.Replaying = wall.Add(-4300 * time.Millisecond) }, 4300 * time.Millisecond, "4.3s after its last commit"},
		{"that was before etcd elected as well", func(v *View) { v.Server.Replaying = wall.Add(-7 * time.Second) }, 7 * time.Second, "7s after its last commit"},
		{"an old commit is no sign", func(v *View) { v.Server.Replaying = wall.Add(-time.Minute) }, lease, "renewed last about 5s before"},
		{"nor is none", nil, lease, "renewed last about 5s before"},
		{"a clock that is ahead: it was frozen at its deadline", func(v *View) { v.Server.Replaying = wall.Add(time.Second) }, 500 * time.Millisecond, "500ms after its last commit"},
		{"who was not there cannot know", func(v *View) { v.Memory.Streamed = Streamed{}; v.Server.Replaying = wall.Add(-4 * time.Second) }, 0, "has ended"},
		{"a key that was given up", func(v *View) {
			v.State.Members = append(v.State.Members, member("a", cluster.RoleReplica, lease.Nanoseconds()))
			v.Server.Replaying = wall.Add(-4 * time.Second)
		}, 0, "given up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := vacant()
			if tt.with != nil {
				tt.with(&v)
			}
			first := Decide(v) // sees the vacancy, with an old position
			v.Memory, v.Now, v.Wall = first.Memory, v.Now+20*time.Millisecond, v.Wall.Add(20*time.Millisecond)
			v.ServerAt = v.Now
			s := Decide(v).Memory.Story
			if ago := wall.Sub(s.Begun); ago != tt.ago || len(s.Reason) != 1 || !strings.Contains(s.Reason[0], tt.reason) {
				t.Errorf("begins %s before, because %q; want %s, %q", ago, s.Reason, tt.ago, tt.reason)
			}
			if tt.ago > 0 && (len(s.Phases) != 1 || s.Phases[0] != cluster.Phase{Name: "lease ended", After: tt.ago}) {
				t.Errorf("phases are %v", s.Phases)
			}
		})
	}
}

// A leader that was frozen at its deadline and comes back to its key was silent
// from the deadline on.
func TestAFrozenLeaderIsMissedFromItsDeadline(t *testing.T) {
	v := leader()
	v.Memory.Right.Sent = now - 5*time.Second
	v.Memory = Decide(v).Memory // freezes
	begun := v.Wall
	v.Now, v.Wall = v.Now+3*time.Second, v.Wall.Add(3*time.Second)
	v.Server.Process, v.Server.Answers = pg.ProcessFrozen, false
	v.State.Leader, v.State.Members, v.State.Revision = nil, v.State.Members[1:], 60
	v.Memory.Lease.Sent = v.Now
	d := Decide(v)
	if s := d.Memory.Story; !s.Begun.Equal(begun) || len(s.Phases) != 1 || s.Phases[0].After != 3*time.Second {
		t.Errorf("%s: the story is %+v, want it to begin at %s", d, s, begun)
	}
}

// One put a second and member: a leader's position goes out with its renewals.
func TestPositionsArePutOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		base func() View
		ago  time.Duration // since it was last put
		want bool
	}{
		{"a standby's, once a renewal", standby, time.Second, true},
		{"but no more", standby, 900 * time.Millisecond, false},
		{"a leader's is in the status", leader, time.Second, false},
		{"and now and then in its own key", leader, 10 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.base()
			v.Server.Flushed += 100
			for i, m := range v.State.Members { // nothing else differs from what is published
				if m.Name == v.Self.Name {
					v.State.Members[i] = (&turn{View: v, m: v.Memory}).self()
					v.State.Members[i].Name, v.State.Members[i].Lease, v.State.Members[i].XlogLocation = m.Name, m.Lease, 1000
				}
			}
			v.Memory.LastNote = v.Now - tt.ago
			put := slices.ContainsFunc(Decide(v).Actions, func(a Action) bool {
				p, ok := a.(Put)
				return ok && p.Key == cluster.DirMembers+v.Self.Name
			})
			if put != tt.want {
				t.Errorf("put: %v, want %v", put, tt.want)
			}
		})
	}
}

// A page ends with the first answer that a client of a gateway had, if one waited.
func TestAPageEndsWhenClientsAreAnswered(t *testing.T) {
	written := []cluster.Phase{{Name: cluster.PhaseWrites, After: 300 * time.Millisecond}}
	seen := func(v *View) {
		v.Memory.Story.Phases, v.Memory.Story.Wrote = written, now-100*time.Millisecond
		v.State.Failovers = []cluster.FailoverPage{{
			Number: 3, Mod: 31, Epoch: epoch, Kind: cluster.KindCrash, From: "z", To: v.Self.Name, At: v.Memory.Story.Begun, Phases: written, LostBytes: new(int64),
		}}
	}
	serves := func(v *View, epoch int64) {
		v.State.Gateways = []cluster.Gateway{{Host: "h"}, {Host: "i", Served: epoch, ServedAt: v.Wall.Add(-10 * time.Millisecond)}}
	}
	for _, tt := range []struct {
		name string
		with func(*View)
		want string
		open bool // the story may still change
	}{
		{"there is no gateway", func(*View) {}, "000001 over 0: writes", true},
		{"and the page is seen", seen, "", false},
		{"nobody was answered yet", func(v *View) { seen(v); serves(v, epoch-1) }, "", true},
		{"one was at once", func(v *View) { serves(v, epoch) }, "000001 over 0: writes routed", true},
		{"one was before it began", func(v *View) {
			seen(v)
			serves(v, epoch)
			v.State.Gateways[1].ServedAt = v.Memory.Story.Begun
		}, "", true},
		{"one was since, and what others added stays", func(v *View) { seen(v); serves(v, epoch) }, "000003 over 31: writes routed lost", true},
		{"one that is answered late did not wait", func(v *View) {
			seen(v)
			serves(v, epoch)
			v.Memory.Story.Wrote = now - routedIn
		}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := leader()
			v.State.Failovers = nil
			v.Memory.Story = Story{Kind: cluster.KindCrash, From: "z", Begun: v.Wall.Add(-time.Second)}
			tt.with(&v)
			d := Decide(v)
			got := ""
			for _, a := range d.Actions {
				p, ok := a.(Put)
				if !ok || !strings.HasPrefix(p.Key, cluster.DirFailovers) {
					continue
				}
				page, err := cluster.ParseFailoverPage([]byte(p.Value))
				if err != nil {
					t.Fatal(err)
				}
				got = fmt.Sprintf("%s over %d:", strings.TrimPrefix(p.Key, cluster.DirFailovers), p.Over)
				for _, ph := range page.Phases {
					got += " " + ph.Name
				}
				if page.LostBytes != nil {
					got += " lost"
				}
			}
			if got != tt.want {
				t.Errorf("put %q, want %q", got, tt.want)
			}
			if open := d.Memory.Story.Kind != ""; open != tt.open {
				t.Errorf("the story is open: %v, want %v", open, tt.open)
			}
		})
	}
}

// Whoever promotes the data of an old primary begins a timeline, and reserves it with the key.
func TestAnOldPrimaryReservesATimeline(t *testing.T) {
	for _, tt := range []struct {
		leader string // of the timeline after its own
		want   pg.Timeline
	}{{"a", 3}, {"b", 4}} {
		v := leader()
		down(&v.Server)
		v.State.History = append(v.State.History, cluster.HistoryRow{Timeline: 2, LSN: 900, Leader: tt.leader})
		v.State.Term.Reserved = 3
		if got := (&turn{View: v}).reign(cluster.KindCrash).Reserved; got != tt.want {
			t.Errorf("after a reign of %s timeline %d is reserved, want %d", tt.leader, got, tt.want)
		}
	}
}
