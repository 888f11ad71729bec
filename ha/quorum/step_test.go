package quorum

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"howdah/cluster"
)

// each is the letters of s.
func each(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "")
}

// walk takes the steps that lead from what is to want, each with success, and
// tells them as Patroni's tests do: what of the two was set, to which number, of
// whom. Probes are left out: every setting is proven at once.
func walk(t *testing.T, mode string, sync cluster.Sync, from, want Names) string {
	t.Helper()
	v := View{Self: "a", Mode: mode, Want: want, Sync: sync, Memory: Memory{Written: from, Rule: from}}
	v.Sync.Mod = 1
	var told []string
	for range 20 {
		d := Next(v)
		v.Memory, v.Probe.Waited = d.Memory, false
		switch s := d.Step.(type) {
		case nil:
			return strings.Join(told, ", ")
		case Publish:
			if s.Over != v.Sync.Mod {
				t.Fatalf("%s: over %d, want %d", s, s.Over, v.Sync.Mod)
			}
			next, err := cluster.ParseSync([]byte(s.Value))
			if err != nil {
				t.Fatal(err)
			}
			next.Mod = v.Sync.Mod + 1
			v.Sync = next
			told = append(told, strings.TrimSpace(fmt.Sprintf("quorum %d %s", next.Quorum, strings.Join(next.Standby, ""))))
		case Set:
			n, err := ParseNames(s.Names)
			if err != nil {
				t.Fatal(err)
			}
			who := strings.Join(n.List, "")
			if n.Blocks() {
				who = "nobody"
			}
			told = append(told, strings.TrimSpace(fmt.Sprintf("sync %d %s", n.Num, who)))
		case Prove:
			v.Probe.Number++
			v.Probe.Names, v.Probe.LSN, v.Probe.Done, v.Senders = s.Names, 1, true, nil
			if v.Memory.Written.Blocks() {
				v.Probe.Done, v.Probe.Waited = false, true
				continue
			}
			for _, name := range v.Memory.Written.List {
				v.Senders = append(v.Senders, Sender{name, true, 1, 1})
			}
		}
		if m := v.Memory; !Holds(v.Sync, m.Rule) && v.Sync.Leader == "a" {
			t.Fatalf("/sync %+v does not cover %q", v.Sync, m.Rule)
		}
	}
	t.Fatalf("no end: %s", told)
	return ""
}

// The cases and what Patroni does in them are those of its
// tests/test_quorum.py (4.1), the order of steps also that of its docs; where we
// go another way, it says why.
func TestLikePatroni(t *testing.T) {
	const (
		mixed  = "WAL senders read a setting one after another: for a moment one of both lists may be enough"
		seen   = "backends have to be seen waiting before anything is promised"
		wider  = "both are asked instead of nobody being eligible"
		direct = "one setting less"
		proven = "fits at once, because the new setting is proven before"
	)
	for _, tt := range []struct {
		name    string
		quorum  int
		voters  string
		numsync int
		sync    string
		active  string
		wanted  int
		patroni string
		ours    string // "" if the same
		why     string
	}{
		{"add the first", 0, "", 0, "", "b", 2, "sync 1 b, quorum 0 b", "sync 1 nobody, sync 1 b, quorum 0 b", seen},
		{"add many at first", 0, "", 0, "", "bcde", 2, "sync 2 bcde, quorum 3 bcde, quorum 2 bcde", "sync 1 nobody, sync 2 bcde, quorum 2 bcde", seen + "; " + proven},
		{"rest", 0, "b", 1, "b", "b", 2, "", "", ""},
		{"add by quorum", 0, "b", 1, "b", "bc", 1, "quorum 1 bc, sync 1 bc", "", ""},
		{"add by acknowledgements", 0, "b", 1, "b", "bc", 2, "sync 2 bc, quorum 1 bc, quorum 0 bc", "quorum 1 bc, sync 2 bc, quorum 0 bc", mixed},
		{"add many", 0, "b", 1, "b", "bcde", 2, "sync 2 bc, quorum 3 bcde, sync 2 bcde, quorum 2 bcde", "quorum 3 bcde, sync 2 bcde, quorum 2 bcde", mixed + "; " + direct},
		{"alone", 0, "b", 1, "b", "", 1, "quorum 0, sync 0", "", ""},
		{"swap the only one", 0, "b", 1, "b", "c", 1, "quorum 0, sync 1 c, quorum 0 c", "quorum 1 bc, sync 1 c, quorum 0 c", wider},
		{"interrupted, the new one went", 0, "b", 2, "bc", "b", 2, "sync 1 b", "quorum 1 bc, sync 1 b, quorum 0 b", mixed},
		{"interrupted, go on", 0, "b", 2, "bc", "bc", 2, "quorum 1 bc, quorum 0 bc", "quorum 0 bc", proven},
		{"interrupted, and lower", 0, "b", 2, "bc", "bc", 1, "quorum 1 bc, sync 1 bc", "", ""},
		{"quorum ahead, the new one went", 1, "bc", 1, "b", "b", 1, "quorum 0 b", "", ""},
		{"quorum ahead, go on", 1, "bc", 1, "b", "bc", 1, "sync 1 bc", "", ""},
		{"quorum ahead, one more", 1, "bc", 1, "b", "bcd", 1, "sync 1 bc, quorum 2 bcd, sync 1 bcd", "quorum 2 bcd, sync 1 bcd", direct},
		{"quorum ahead, all of them", 1, "bc", 1, "b", "bc", 2, "sync 2 bc, quorum 0 bc", "", ""},
		{"remove two", 2, "bcde", 2, "bcde", "bc", 2, "sync 2 bc, quorum 0 bc", "", ""},
		{"remove one", 2, "bcde", 2, "bcde", "bcd", 2, "sync 2 bcd, quorum 1 bcd", "", ""},
		{"remove and lower", 2, "bcde", 2, "bcde", "bc", 1, "sync 2 bc, quorum 1 bc, sync 1 bc", "", ""},
		{"remove more than may be missing", 1, "bcde", 3, "bcde", "bc", 1, "sync 3 bcd, quorum 1 bc, sync 1 bc", "quorum 3 bcde, sync 1 bc, quorum 1 bc", mixed},
		{"raise", 2, "bcde", 2, "bcde", "bcde", 3, "sync 3 bcde, quorum 1 bcde", "", ""},
		{"lower", 2, "bcde", 2, "bcde", "bcde", 1, "quorum 3 bcde, sync 1 bcde", "", ""},
		{"add and lower", 2, "bcde", 2, "bcde", "bcdef", 1, "quorum 4 bcdef, sync 1 bcdef", "", ""},
		{"remove and raise", 2, "bcde", 2, "bcde", "bcd", 3, "sync 3 bcd, quorum 1 bcd, quorum 0 bcd", "sync 3 bcd, quorum 0 bcd", proven},
		{"remove with all to acknowledge", 0, "bc", 2, "bc", "b", 2, "quorum 0 b, sync 1 b", "quorum 1 bc, sync 1 b, quorum 0 b", mixed},
		{"swap one of two", 0, "bc", 2, "bc", "bd", 2, "quorum 0 b, sync 2 bd, quorum 1 bd, quorum 0 bd", "quorum 1 bcd, sync 2 bd, quorum 0 bd", mixed},
		{"too little in /sync", 0, "bc", 1, "bc", "bc", 1, "quorum 1 bc", "quorum 0, quorum 1 bc", "nothing is known of what was acknowledged meanwhile"},
	} {
		sync := cluster.Sync{Leader: "a", Quorum: tt.quorum, Standby: each(tt.voters)}
		want := Names{}
		if tt.active != "" {
			want = Any(min(tt.wanted, len(tt.active)), each(tt.active)...)
		}
		from := Names{}
		if tt.numsync > 0 {
			from = Any(tt.numsync, each(tt.sync)...)
		}
		ours := tt.ours
		if tt.why == "" {
			ours = tt.patroni
		}
		if got := walk(t, cluster.SyncQuorum, sync, from, want); got != ours {
			t.Errorf("%s:\n got %s\nwant %s\n(Patroni %s)", tt.name, got, ours, tt.patroni)
		}
	}
}

// Mode on: any of /sync may be promoted, so its quorum is always 0, and it is
// empty while more than one setting may be in force.
func TestPriority(t *testing.T) {
	first := func(names string) Names {
		n := Any(len(names), each(names)...)
		n.First = true
		return n
	}
	for _, tt := range []struct {
		name, voters string
		from, want   Names
		steps        string
	}{
		{"first", "", Names{}, first("b"), "sync 1 nobody, sync 1 b, quorum 0 b"},
		{"rest", "b", first("b"), first("b"), ""},
		{"add", "b", first("b"), first("bc"), "quorum 0, sync 2 bc, quorum 0 bc"},
		{"remove", "bc", first("bc"), first("b"), "quorum 0, sync 1 b, quorum 0 b"},
		{"swap", "b", first("b"), first("c"), "quorum 0, sync 1 c, quorum 0 c"},
		{"none, not strict", "b", first("b"), Names{}, "quorum 0, sync 0"},
		{"none from the beginning, strict", "", Names{}, Nobody(), "sync 1 nobody"},
		{"from mode quorum", "b", Any(1, "b"), first("b"), "sync 1 b"},
	} {
		sync := cluster.Sync{Leader: "a", Standby: each(tt.voters)}
		if got := walk(t, cluster.SyncOn, sync, tt.from, tt.want); got != tt.steps {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.steps)
		}
	}
}

func TestNext(t *testing.T) {
	base := View{
		Self: "a", Mode: cluster.SyncQuorum, Want: Any(1, "b", "c"),
		Sync:   cluster.Sync{Mod: 7, Leader: "a", Quorum: 1, Standby: []string{"b", "c"}},
		Memory: Memory{Written: Any(1, "b", "c"), Rule: Any(1, "b", "c")},
	}
	proving := func(v *View) { // from ANY 1 (b,c) to ANY 2 (b,c), read by all and flushed by all
		v.Want, v.Memory.Written, v.Memory.Seen = Any(2, "b", "c"), Any(2, "b", "c"), 3
		v.Probe = Probe{Number: 4, Names: "ANY 2 (b,c)", LSN: 10, Done: true}
		v.Senders = []Sender{{"b", true, 1, 10}, {"c", true, 1, 10}}
	}
	for _, tt := range []struct {
		name string
		with func(*View)
		want string
	}{
		{"all is as it should be", func(*View) {}, `rule="ANY 1 (b,c)" -> rest`},
		{"no key", func(v *View) { v.Sync = cluster.Sync{} }, `rule="ANY 1 (b,c)" sync=none -> publish({"leader":"a","quorum":0,"sync_standby":null})`},
		{"of a former leader, who is among those who count", func(v *View) {
			v.Sync.Leader, v.Sync.Standby = "b", []string{"a", "c"}
		}, `rule="ANY 1 (b,c)" sync=of-b -> publish({"leader":"a","quorum":1,"sync_standby":"b,c"})`},
		{"of a former leader, which the setting does not fit", func(v *View) {
			v.Sync.Leader, v.Sync.Standby = "d", []string{"a", "c"}
		}, `rule="ANY 1 (b,c)" sync=of-d -> publish({"leader":"a","quorum":0,"sync_standby":null})`},
		{"the case of a name does not matter", func(v *View) { v.Self, v.Sync.Standby = "A", []string{"B", "c"} }, `rule="ANY 1 (b,c)" -> rest`},
		{"somebody changed the setting", func(v *View) { n := Any(1, "*"); v.Shown = &n }, `foreign=ANY 1 (*) rule="ANY 1 (*,b,c)" sync=uncovered -> publish({"leader":"a","quorum":0,"sync_standby":null})`},
		{"the memory is lost", func(v *View) { n := Any(1, "b", "c"); v.Shown, v.Memory = &n, Memory{} }, `foreign=ANY 1 (b,c) rule="" sync=uncovered -> publish({"leader":"a","quorum":0,"sync_standby":null})`},
		{"… and nobody but this leader is eligible", func(v *View) {
			v.Memory, v.Sync.Quorum, v.Sync.Standby = Memory{}, 0, nil
		}, `rule="" toward="__patroni_strict_sync_replica_placeholder__" -> set(__patroni_strict_sync_replica_placeholder__)`},
		{"an answer is missing: the same again", func(v *View) { v.Memory.Open, v.Memory.Over = true, 7 }, `rule="ANY 1 (b,c)" publish=unknown -> publish({"leader":"a","quorum":1,"sync_standby":"b,c"})`},
		{"… before any setting", func(v *View) { v.Want, v.Memory.Open, v.Memory.Over = Any(1, "b"), true, 7 }, `rule="ANY 1 (b,c)" toward="ANY 1 (b)" publish=unknown -> publish({"leader":"a","quorum":1,"sync_standby":"b,c"})`},
		{"it is seen by its revision", func(v *View) { v.Want, v.Memory.Open, v.Memory.Over = Any(1, "b"), true, 6 }, `rule="ANY 1 (b,c)" toward="ANY 1 (b)" -> set(ANY 1 (b))`},
		{"not proven: probe", func(v *View) { proving(v); v.Probe = Probe{} }, `rule="ANY 1 (b,c)" -> prove(ANY 2 (b,c))`},
		{"a probe from before counts for nothing", func(v *View) { proving(v); v.Probe.Number = 3 }, `rule="ANY 1 (b,c)" -> prove(ANY 2 (b,c))`},
		{"a probe of another setting", func(v *View) { proving(v); v.Probe.Names = "ANY 1 (b,c)" }, `rule="ANY 1 (b,c)" -> prove(ANY 2 (b,c))`},
		{"the probe waits", func(v *View) { proving(v); v.Probe.LSN = 0 }, `rule="ANY 1 (b,c)" -> rest`},
		{"one has not read it", func(v *View) { proving(v); v.Senders[1].Flushed = 9 }, `senders=stale(c) rule="ANY 1 (b,c)" -> rest`},
		{"one that went has not read it", func(v *View) { proving(v); v.Senders = append(v.Senders, Sender{"d", true, 1, 99}) }, `senders=stale(d) rule="ANY 1 (b,c)" -> rest`},
		{"one that came has not read it", func(v *View) { proving(v); v.Senders[0].Priority = 0 }, `senders=stale(b) rule="ANY 1 (b,c)" -> rest`},
		{"two of one name would count for two", func(v *View) { proving(v); v.Senders = append(v.Senders, Sender{"B", true, 1, 10}) }, `senders=stale(B) rule="ANY 1 (b,c)" -> rest`},
		{"all have read it: probe again", proving, `loaded rule="ANY 1 (b,c)" -> prove(ANY 2 (b,c))`},
		{"too few have flushed the second", func(v *View) { proving(v); v.Memory.Loaded = true; v.Senders = v.Senders[:1] }, `flushed=1/2 rule="ANY 1 (b,c)" -> rest`},
		{"the second is not acknowledged", func(v *View) { proving(v); v.Memory.Loaded, v.Probe.Done = true, false }, `rule="ANY 1 (b,c)" -> rest`},
		{"proven", func(v *View) { proving(v); v.Memory.Loaded = true }, `proven="ANY 2 (b,c)" rule="ANY 2 (b,c)" fit -> publish({"leader":"a","quorum":0,"sync_standby":"b,c"})`},
		{"it waits for ever, and the wish has changed", func(v *View) { proving(v); v.Probe.Done, v.Want = false, Any(1, "b") }, `loaded rule="ANY 1 (b,c)" toward="ANY 1 (b)" -> set(ANY 1 (b))`},
		{"off", func(v *View) { v.Mode = cluster.SyncOff }, `mode=off -> forget`},
		{"off, and the own setting", func(v *View) {
			v.Mode, v.Sync, v.Own = cluster.SyncOff, cluster.Sync{}, Any(1, "x")
		}, `mode=off -> set(ANY 1 (x))`},
		{"off already", func(v *View) { v.Mode, v.Sync, v.Memory.Written = cluster.SyncOff, cluster.Sync{}, Names{} }, `mode=off -> rest`},
	} {
		v := base
		tt.with(&v)
		if got := Next(v).String(); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// What was probed before a Set proves nothing of what it writes, also if the same
// was in force before; and what may be in force is remembered from before it on.
func TestSetForgets(t *testing.T) {
	v := View{
		Self: "a", Mode: cluster.SyncQuorum, Want: Any(1, "b"),
		Sync:   cluster.Sync{Mod: 7, Leader: "a", Quorum: 1, Standby: []string{"b", "c"}},
		Probe:  Probe{Number: 5, Names: "ANY 1 (b)", LSN: 10, Done: true},
		Memory: Memory{Written: Any(1, "b", "c"), Rule: Any(1, "b", "c"), Seen: 3, Loaded: true},
	}
	m := Next(v).Memory
	if m.Seen != 5 || m.Loaded || m.Written.String() != "ANY 1 (b)" || m.Rule.String() != "ANY 1 (b,c)" {
		t.Errorf("after the set: %+v", m)
	}
	v.Memory = m
	if got, want := Next(v).String(), `rule="ANY 1 (b,c)" -> prove(ANY 1 (b))`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever becomes of each step, and whatever is wanted meanwhile, /sync covers
// every rule that may be in force; and once nothing happens, the end is reached.
func TestStepsLost(t *testing.T) {
	names := []string{"b", "c", "d", "e", "f"}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 0))
		some := func() Names {
			var s []string
			for _, n := range names {
				if r.IntN(2) == 0 {
					s = append(s, n)
				}
			}
			if len(s) == 0 {
				return Names{}
			}
			return Any(1+r.IntN(len(s)), s...)
		}
		mode := []string{cluster.SyncQuorum, cluster.SyncOn}[r.IntN(2)]
		v := View{Self: "a", Mode: mode}
		truly := Names{} // the loosest that may be in force
		disk := Memory{}
		var flying []Publish
		apply := func(p Publish) {
			if p.Over == v.Sync.Mod {
				mod := v.Sync.Mod + 1
				v.Sync, _ = cluster.ParseSync([]byte(p.Value))
				v.Sync.Mod = mod
			}
		}
		for turn := range 120 {
			quiet := turn > 80
			if !quiet && r.IntN(4) == 0 {
				if v.Want = some(); mode == cluster.SyncOn && !v.Want.Async() {
					v.Want.First, v.Want.Num = true, len(v.Want.List)
				}
			}
			if len(flying) > 0 && (quiet || r.IntN(3) == 0) {
				i := r.IntN(len(flying))
				apply(flying[i])
				flying = append(flying[:i], flying[i+1:]...)
			}
			d := Next(v)
			v.Memory = d.Memory
			if _, ok := d.Step.(Set); ok {
				disk = d.Memory
			}
			if !quiet && r.IntN(10) == 0 {
				// The agent died, before or after the step went out.
				if p, ok := d.Step.(Publish); ok && r.IntN(2) == 0 {
					flying = append(flying, p)
				}
				if r.IntN(5) == 0 {
					disk = Memory{}
				}
				v.Memory, v.Probe = Resume(disk, v.Sync), Probe{}
				continue
			}
			switch s := d.Step.(type) {
			case Publish:
				if quiet || r.IntN(2) == 0 {
					apply(s)
				} else {
					flying = append(flying, s)
				}
			case Set:
				n, _ := ParseNames(s.Names)
				truly = Loosen(truly, n)
			case Prove:
				if !quiet && r.IntN(3) == 0 {
					break
				}
				// All read it, and those who count flush it.
				v.Probe = Probe{Number: max(v.Probe.Number, v.Memory.Seen) + 1, Names: s.Names, LSN: 1, Done: !v.Memory.Written.Blocks(), Waited: true}
				v.Senders = nil
				for _, n := range v.Memory.Written.List {
					v.Senders = append(v.Senders, Sender{n, true, 1, 1})
				}
				if v.Memory.Loaded || v.Memory.Written.Blocks() {
					truly = v.Memory.Written
				}
			}
			if v.Sync.Active() && !Holds(v.Sync, truly) {
				t.Fatalf("seed %d, turn %d: /sync %+v does not cover %q", seed, turn, v.Sync, truly)
			}
			if mode == cluster.SyncOn && v.Sync.Quorum != 0 {
				t.Fatalf("seed %d: quorum %d in mode on", seed, v.Sync.Quorum)
			}
		}
		want := cluster.Sync{Mod: v.Sync.Mod, Leader: "a", Quorum: len(v.Want.List) - v.Want.Num, Standby: v.Want.List}
		if v.Sync.Encode() != want.Encode() || v.Memory.Written.String() != v.Want.String() {
			t.Fatalf("seed %d: ends with /sync %+v and %q, want %+v and %q", seed, v.Sync, v.Memory.Written, want, v.Want)
		}
	}
}

func TestAim(t *testing.T) {
	standbys := func(names string, with ...func([]Standby)) []Standby {
		var s []Standby
		for _, n := range each(names) {
			s = append(s, Standby{Name: n, Priority: 1, Streaming: true, Flushed: 100})
		}
		for _, w := range with {
			w(s)
		}
		return s
	}
	quorum, on := Wish{Mode: cluster.SyncQuorum, Strict: true}, Wish{Mode: cluster.SyncOn, Strict: true}
	gone := func(i ...int) func([]Standby) {
		return func(s []Standby) {
			for _, n := range i {
				s[n].Streaming = false
			}
		}
	}
	loose := func(w Wish) Wish { w.Strict = false; return w }
	count := func(w Wish, n int) Wish { w.Count = n; return w }
	for _, tt := range []struct {
		name string
		wish Wish
		have []Standby
		now  Names
		want string
	}{
		{"off", Wish{Mode: cluster.SyncOff, Strict: true}, standbys("bc"), Any(1, "b"), ""},
		{"two nodes", quorum, standbys("b"), Names{}, "ANY 1 (b)"},
		{"three nodes", quorum, standbys("bc"), Names{}, "ANY 1 (b,c)"},
		{"four", quorum, standbys("bcd"), Names{}, "ANY 2 (b,c,d)"},
		{"five", quorum, standbys("bcde"), Names{}, "ANY 2 (b,c,d,e)"},
		{"five, two gone: as many as before", quorum, standbys("bcde", gone(1, 3)), Names{}, "ANY 2 (b,d)"},
		{"five, three gone", quorum, standbys("bcde", gone(0, 1, 3)), Names{}, "ANY 1 (d)"},
		{"nobody there: as it is", quorum, standbys("bc", gone(0, 1)), Any(1, "b", "c"), "ANY 1 (b,c)"},
		{"nobody ever there", quorum, standbys("bc", gone(0, 1)), Names{}, nobody},
		{"nobody there, everybody was waited for", quorum, nil, Any(1, "*"), nobody},
		{"nobody there, not strict", loose(quorum), standbys("bc", gone(0, 1)), Any(1, "b", "c"), ""},
		{"counted", count(quorum, 2), standbys("bc"), Names{}, "ANY 2 (b,c)"},
		{"counted beyond", count(quorum, 5), standbys("bc"), Names{}, "ANY 2 (b,c)"},
		{"nosync is no data node", quorum, standbys("bcd", func(s []Standby) { s[0].NoSync = true }), Names{}, "ANY 1 (c,d)"},
		{"too far behind", Wish{Mode: cluster.SyncQuorum, MaxLag: 10}, standbys("bc", func(s []Standby) { s[0].Lag = 11 }), Names{}, "ANY 1 (c)"},
		{"far behind, no limit", quorum, standbys("bc", func(s []Standby) { s[0].Lag = 1 << 40 }), Names{}, "ANY 1 (b,c)"},
		{"on: by name", on, standbys("cb"), Names{}, "b"},
		{"on: who it is stays", on, standbys("bc"), Any(1, "c"), "c"},
		{"on: further is better", on, standbys("bc", func(s []Standby) { s[1].Flushed = 101 }), Names{}, "c"},
		{"on: who may lead", on, standbys("bc", func(s []Standby) { s[0].NoFailover = true }), Any(1, "b"), "c"},
		{"on: priority", on, standbys("bc", func(s []Standby) { s[1].Priority = 2; s[1].NoFailover = true }), Any(1, "b"), "c"},
		{"on: two", count(on, 2), standbys("bcd", gone(0)), Any(1, "b"), "2 (c,d)"},
		{"on: not strict, nobody", loose(on), nil, Any(1, "b"), ""},
	} {
		if got := Aim(tt.wish, tt.have, tt.now).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
