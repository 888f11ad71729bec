package ha

import (
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
)

var abc = cluster.Failsafe{"a": "", "b": "", "c": ""}

// silenced is a view of a, which leads b and c, when half of its right is over.
func silenced() View {
	v := leader()
	v.State.Config.Data = map[string]any{"ttl": 30.0}
	v.State.Failsafe, v.State.FailsafeAt = abc, 45
	v.Memory.Right.Sent, v.Memory.Lease.Sent = now-3*time.Second, now-3*time.Second
	v.LockBusy = true
	return v
}

func promisedTo(v *View, quorum int, names ...string) {
	v.State.Sync = cluster.Sync{Leader: "a", Quorum: quorum, Standby: names, Mod: 20}
}

func appealed(d Decision) string {
	for _, a := range d.Actions {
		if a, ok := a.(Appeal); ok {
			return strings.ReplaceAll(a.To, "\n", " ")
		}
	}
	return ""
}

// Whoever could take over is asked; where that can not be said, nobody is.
func TestAppeal(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*View)
		want string
	}{
		{"everybody on record", func(*View) {}, "b c"},
		{"not while the store confirms", func(v *View) { v.Memory.Right.Sent = now - time.Second }, ""},
		{"not once the right is over", func(v *View) { v.Memory.Right.Sent = now - 5*time.Second }, ""},
		{"one that is listed and no more on record", func(v *View) {
			v.State.Members, v.State.Recorded = v.State.Members[:2], v.State.Recorded[:2]
		}, "b c"},
		{"one that may come to be listed", func(v *View) {
			v.Memory.Listed = Listed{Open: true, Over: 45, Names: []string{"a", "b", "c", "d"}}
		}, "b c d"},
		{"without a list somebody unknown could take over", func(v *View) { v.State.Failsafe, v.State.FailsafeAt = nil, 0 }, ""},
		{"the mode is off", func(v *View) { v.State.Config.Data["failsafe_mode"] = false }, ""},
		{"in words", func(v *View) { v.State.Config.Data["failsafe_mode"] = "off" }, ""},
		{"and on", func(v *View) { v.State.Config.Data["failsafe_mode"] = true }, "b c"},
		{"a configuration that can not be read", func(v *View) { v.State.Config.Data = nil }, ""},
		{"maintenance fences nobody", func(v *View) { v.State.Config.Data["pause"] = true }, ""},
		{"they are being asked", func(v *View) { v.RoundBusy = true }, ""},
		{"voters, where a promotion takes pledges", func(v *View) {
			promisedTo(v, 1, "b", "c")
			v.State.Failsafe, v.State.FailsafeAt = nil, 0
		}, "b c"},
		{"everybody, where no voter is left: a person may name one", func(v *View) { promisedTo(v, 0) }, "b c"},
		{"but not while their list is being changed", func(v *View) {
			promisedTo(v, 1, "b", "c")
			v.Memory.Sync.Memory = quorum.Memory{Open: true, Over: 20}
		}, ""},
	} {
		v := silenced()
		tt.with(&v)
		if d := Decide(v); appealed(d) != tt.want {
			t.Errorf("%s: asks %q, want %q: %s", tt.name, appealed(d), tt.want, d)
		}
	}
}

// Who is alone goes on by itself: nobody could take over.
func TestAloneWithoutAStore(t *testing.T) {
	v := silenced()
	v.State.Members, v.State.Recorded, v.State.Failsafe = v.State.Members[:1], v.State.Recorded[:1], cluster.Failsafe{"a": ""}
	d := Decide(v)
	if r := d.Memory.Right; r.Sent != now || r.By != "a" || appealed(d) != "" {
		t.Errorf("right %+v: %s", r, d)
	}
	v.Memory.Listed = Listed{Open: true, Over: 45, Names: []string{"a", "b"}}
	if d := Decide(v); appealed(d) != "b" || d.Memory.Right.Sent == now {
		t.Errorf("one that may have been listed is not asked: %s", d)
	}
}

// A right goes on from before the others were asked, when enough have answered.
func TestRound(t *testing.T) {
	sent := now - time.Second
	for _, tt := range []struct {
		name string
		with func(*View)
		by   string // "": it does not
	}{
		{"all", func(*View) {}, "b\nc"},
		{"not all", func(v *View) { v.Round.Granted = []string{"c"} }, ""},
		{"another epoch's", func(v *View) { v.Round.Epoch = epoch - 1 }, ""},
		{"the right was over by then", func(v *View) { v.Memory.Right.Sent = now - 5*time.Second }, ""},
		{"somebody joined meanwhile", func(v *View) { v.State.Recorded = append(v.State.Recorded, cluster.Recorded{Name: "d"}) }, ""},
		{"one voter of two", func(v *View) {
			promisedTo(v, 1, "b", "c")
			v.Round.Granted = []string{"c"}
		}, "c"},
		{"two of four, of whom two can elect", func(v *View) {
			v.State.Recorded = append(v.State.Recorded, cluster.Recorded{Name: "d"}, cluster.Recorded{Name: "e"})
			promisedTo(v, 1, "b", "c", "d", "e")
		}, ""},
	} {
		v := silenced()
		v.Round = &Round{Epoch: epoch, Sent: sent, For: 5 * time.Second, Granted: []string{"c", "b"}}
		tt.with(&v)
		r := Decide(v).Memory.Right
		if went := r.Sent == sent; went != (tt.by != "") || r.By != tt.by {
			t.Errorf("%s: right %+v, want by %q", tt.name, r, tt.by)
		}
	}
}

// A leader keeps the list of whom it knows, and takes it away when nobody is to be asked.
func TestList(t *testing.T) {
	listed := func(d Decision) string {
		for _, a := range d.Actions {
			switch a := a.(type) {
			case Put:
				if a.Key == cluster.KeyFailsafe {
					return a.Value
				}
			case Drop:
				if a.Key == cluster.KeyFailsafe {
					return "dropped"
				}
			}
		}
		return ""
	}
	const all = `{"a":"","b":"","c":""}`
	for _, tt := range []struct {
		name string
		with func(*View)
		want string
	}{
		{"it is there", func(*View) {}, ""},
		{"there is none", func(v *View) { v.State.Failsafe, v.State.FailsafeAt = nil, 0 }, all},
		{"somebody joined", func(v *View) { v.State.Failsafe = cluster.Failsafe{"a": "", "b": ""} }, all},
		{"somebody left", func(v *View) { v.State.Failsafe = cluster.Failsafe{"a": "", "b": "", "c": "", "d": ""} }, all},
		{"it may be that another is on its way", func(v *View) {
			v.Memory.Listed = Listed{Open: true, Over: 45, Names: []string{"a", "b", "c", "d"}}
		}, all},
		{"nothing over the present one is", func(v *View) {
			v.Memory.Listed = Listed{Open: true, Over: 44, Names: []string{"a", "b", "c", "d"}}
		}, ""},
		{"the mode is off", func(v *View) { v.State.Config.Data["failsafe_mode"] = false }, "dropped"},
		{"nobody knows whether it is", func(v *View) { v.State.Config.Data, v.State.Failsafe = nil, nil }, ""},
		{"not without a right", func(v *View) { v.State.Failsafe, v.Memory.Right = nil, Right{} }, ""},
	} {
		v := silenced()
		v.Memory.Right.Sent = now - time.Second
		tt.with(&v)
		d := Decide(v)
		if got := listed(d); got != tt.want {
			t.Errorf("%s: %q, want %q: %s", tt.name, got, tt.want, d)
		}
		if m := d.Memory.Listed; tt.want == all && (m.Over != v.State.FailsafeAt || !m.Open || len(m.Names) < 3) {
			t.Errorf("%s: remembers %+v", tt.name, m)
		}
	}
}

// Who is not on the list stands for no election, and nobody waits for it.
func TestUnlisted(t *testing.T) {
	b, c := cluster.Pledge{Member: "b", LSN: 1000, Witness: true}, cluster.Pledge{Member: "c", LSN: 1200}
	check(t, []row{
		{"on the list", vacant, func(v *View) {
			v.State.Failsafe = cluster.Failsafe{"a": "", "b": ""}
			pledged(v, b, c)
		}, "leader=none after=40 rank=0 -> acquire(after 40)"},
		{"not on it", vacant, func(v *View) {
			v.State.Failsafe = cluster.Failsafe{"a": "", "c": ""}
			pledged(v, b, c)
		}, "leader=none after=40 candidate=unlisted -> nothing"},
		{"the last leader's own are listed whatever it says", vacant, func(v *View) {
			v.State.Failsafe, v.State.Term.Leader = cluster.Failsafe{"a": "", "c": ""}, "b"
			pledged(v, b, c)
		}, "leader=none after=40 last-leader=self -> acquire(after 40)"},
		{"Patroni's list is Patroni's", vacant, func(v *View) {
			v.State.Failsafe, v.State.Recorded = cluster.Failsafe{"a": "", "c": ""}, v.State.Recorded[1:]
			pledged(v, b)
			v.State.Pledges = append(v.State.Pledges, cluster.Pledge{Member: "c", Epoch: epoch, Timeline: 2, LSN: 1})
		}, "leader=none after=40 rank=0 -> acquire(after 40)"},
	})
}

// A member gives its word only where it could keep it.
func TestAgree(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*View, *Decision)
		ok   bool
	}{
		{"a standby that follows", func(*View, *Decision) {}, true},
		{"the server was not looked at: it may have refused the epoch already", func(v *View, _ *Decision) { v.ServerAt = 0 }, false},
		{"it has", func(v *View, _ *Decision) { v.Server.Refused = epoch }, false},
		{"the store was not seen", func(v *View, _ *Decision) { v.Known = false }, false},
		{"another leads", func(v *View, _ *Decision) { v.State.Leader.Name = "c" }, false},
		{"a later epoch", func(v *View, _ *Decision) { v.State.Leader.Mod, v.State.Term.Mod = epoch+1, epoch+1 }, false},
		{"the key is gone", func(v *View, _ *Decision) { v.State.Leader = nil }, false},
		{"it stands for election", func(_ *View, d *Decision) { d.Memory.Vacancy.Open = true }, false},
		{"it has pledged", func(v *View, _ *Decision) { v.State.Pledges = []cluster.Pledge{{Member: "b", Epoch: epoch}} }, false},
		{"it is about to", func(v *View, _ *Decision) { v.Job.Action = Fence{Epoch: epoch} }, false},
		{"the key is held out to it", func(v *View, _ *Decision) { v.State.Handover = &cluster.Handover{Epoch: epoch, To: "b"} }, false},
	} {
		v := standby()
		d := Decision{}
		tt.with(&v, &d)
		g, err := Agree(&v, &d, Plea{Name: "a", Epoch: epoch, For: 5 * time.Second})
		if (err == nil) != tt.ok || tt.ok && g != (Grant{Epoch: epoch, Until: now + 5*time.Second, For: 5 * time.Second}) {
			t.Errorf("%s: %+v, %v", tt.name, g, err)
		}
	}
}

// A real Patroni leads by the words of others, too. Its request names no epoch and no time: the
// word is for the key that was last seen to be its own, and for as long as it may count on it.
func TestAgreeWithPatroni(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*View, *Decision)
		ok   bool
	}{
		{"a leader that is Patroni's", func(*View, *Decision) {}, true},
		{"after one of ours", func(v *View, _ *Decision) { v.State.Term = &cluster.Term{Mod: epoch - 5, Leader: "b"} }, true},
		{"a member of ours", func(v *View, _ *Decision) { v.State.Recorded = append(v.State.Recorded, cluster.Recorded{Name: "p"}) }, false},
		{"it does not lead", func(v *View, _ *Decision) { v.State.Leader.Name = "c" }, false},
		{"the key is gone", func(v *View, _ *Decision) { v.State.Leader = nil }, false},
		{"a key that nobody holds", func(v *View, _ *Decision) {
			v.State.Leader.Lease, v.State.Term = 0, &cluster.Term{Mod: epoch - 5, Leader: "b"}
		}, false},
		{"it stands for election", func(_ *View, d *Decision) { d.Memory.Vacancy.Open = true }, false},
		{"it has refused that leader", func(v *View, _ *Decision) { v.Server.Refused = epoch }, false},
	} {
		v := standby()
		d := Decision{}
		v.State.Term = nil
		v.State.Leader = &cluster.Leader{Name: "p", Lease: 9, Mod: epoch}
		v.State.Config.Data = map[string]any{"ttl": 20.0}
		tt.with(&v, &d)
		g, err := Agree(&v, &d, Plea{Name: "p"})
		if (err == nil) != tt.ok || tt.ok && g != (Grant{Epoch: epoch, Until: now + 25*time.Second, For: 25 * time.Second}) {
			t.Errorf("%s: %+v, %v", tt.name, g, err)
		}
	}
}

// Nobody takes over from a leader of Patroni's while the word lasts, and somebody does after.
func TestGivenToPatroni(t *testing.T) {
	v := vacant()
	v.State.Term = &cluster.Term{Mod: epoch - 5, Leader: "b"}
	v.Grant = Grant{Epoch: epoch, Until: now + time.Second, For: 25 * time.Second}
	if d := Decide(v); !slices.Contains(d.Trail, "given=40") || d.Memory.Vacancy.Open {
		t.Errorf("stands for election: %s", d)
	}
	v.Grant.Until = now
	if d := Decide(v); slices.Contains(d.Trail, "given=40") {
		t.Errorf("a word that is over is kept: %s", d)
	}
}

// What a member has given is kept in an election, and shown.
func TestGiven(t *testing.T) {
	v := vacant()
	v.Grant = Grant{Epoch: epoch, Until: now + time.Second, For: 5 * time.Second}
	d := Decide(v)
	if !slices.Contains(d.Trail, "given=40") || d.Memory.Vacancy.Open {
		t.Errorf("stands for election: %s", d)
	}
	if s := Show(v, d); s.Given != v.Grant {
		t.Errorf("shows %+v", s.Given)
	}
}
