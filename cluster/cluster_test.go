package cluster

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/pg"
)

// What others wrote before us, or write a little differently, reads the same.
func TestTolerantReading(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value string
		parse func([]byte) (any, error)
		want  any
	}{
		{"status: legacy number", "24587753", as(ParseStatus), Status{Optime: 24587753}},
		{"status: numbers and objects in strings", `{"optime":"67","slots":"{\"a\":5}","retain_slots":"[\"c\",\"b\"]"}`, as(ParseStatus), Status{Optime: 67, Slots: map[string]pg.LSN{"a": 5}, RetainSlots: []string{"b", "c"}}},
		{"status: nulls", `{"optime":null,"slots":null}`, as(ParseStatus), Status{}},
		{"sync: empty", "", as(ParseSync), Sync{}},
		{"sync: off", `{"leader":null,"sync_standby":null}`, as(ParseSync), Sync{}},
		{"sync: before quorum", `{"leader": "a", "sync_standby": " c , b,"}`, as(ParseSync), Sync{Leader: "a", Standby: []string{"b", "c"}}},
		{"sync: quorum in a string", `{"leader":"a","quorum":"1","sync_standby":"b,c"}`, as(ParseSync), Sync{Leader: "a", Quorum: 1, Standby: []string{"b", "c"}}},
		{"failover: legacy text", "a: b", as(ParseFailover), Failover{Leader: "a", Member: "b"}},
		{"failover: legacy candidate", ":b", as(ParseFailover), Failover{Member: "b"}},
		{"failover: empty", "", as(ParseFailover), Failover{}},
		{"failover: nulls", `{"leader":null,"member":"b","scheduled_at":null}`, as(ParseFailover), Failover{Member: "b"}},
		{"failover: Z and fractions", `{"leader":"a","scheduled_at":"2026-11-20T12:00:00.000Z"}`, as(ParseFailover), Failover{Leader: "a", ScheduledAt: noon}},
		{"failover: a space", `{"leader":"a","scheduled_at":"2026-11-20 12:00+00"}`, as(ParseFailover), Failover{Leader: "a", ScheduledAt: noon}},
		{"member: URL", "postgres://u:p@h:5433/postgres?application_name=http://h:8008/patroni", member("a"), Member{Name: "a", ConnURL: "postgres://u:p@h:5433/postgres", APIURL: "http://h:8008/patroni"}},
		{"member: Patroni 3", `{"role": "master", "state": "running", "conn_url": "postgres://h/postgres", "new": [1]}`, member("a"), Member{Name: "a", Role: RolePrimary, State: StateRunning, ConnURL: "postgres://h/postgres"}},
		{"history: three columns", "[[1, 50331976, \"why\"]]", as(ParseHistory), History{{Timeline: 1, LSN: 50331976, Reason: "why"}}},
		{"initialize: running", "", as(ParseInitialize), Initialize{Present: true}},
		{"initialize: done", "7401234567890123456", as(ParseInitialize), Initialize{Present: true, System: 7401234567890123456}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.parse([]byte(tt.value))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s\n got %+v, %v\nwant %+v", tt.value, got, err, tt.want)
			}
		})
	}
}

// A value that can not be read is unknown, and never taken for absent (law 6).
func TestMalformedIsUnknown(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		ok         func(State) bool // what must hold besides
	}{
		{KeyLeader, "", func(s State) bool { return s.Leader != nil && s.Epoch() == 9 }},
		{KeyInitialize, "soon", func(s State) bool { return s.Initialize.Present }},
		{KeyConfig, "[]", func(s State) bool { return s.Config.Mod == 9 }},
		{KeyStatus, `{"optime":{}}`, nil},
		{KeyStatus, `-1`, nil},
		{KeySync, "{", nil},
		{KeySync, `{"leader":"a","quorum":-1}`, func(s State) bool { return !s.Sync.Active() }},
		{KeyFailover, `{"leader":"a","scheduled_at":"tomorrow"}`, func(s State) bool { return !s.Failover.Asked() }},
		{KeyFailover, `[1]`, nil},
		{KeyHistory, "null", func(s State) bool { return s.History.Timeline() == 0 }},
		{KeyHistory, `[[1]]`, nil},
		{KeyFailsafe, "7", nil},
		{KeyTerm, "x", func(s State) bool { return s.Term != nil && s.Epoch() == 9 }},
		{KeyHandover, `{"to":"b","epoch":3,"lsn":"nine"}`, func(s State) bool { return s.Handover != nil && s.Handover.To == "" }},
		{KeyHandover, `{"to":"b","epoch":3}`, func(s State) bool { return s.Handover != nil && s.Handover.To == "" }},
		{DirMembers + "a", "{", func(s State) bool { return len(s.Members) == 1 && s.Members[0].Name == "a" }},
		{DirMembers + "a", `{"state":"running","timeline":"x"}`, func(s State) bool { return s.Members[0].Running() }},
		{DirMembers, "{}", nil},
		{DirPledges + "a", `{}`, func(s State) bool { return len(s.Pledges) == 0 }},
		{DirRequests + "a", `"restart"`, func(s State) bool { return len(s.Requests) == 0 }},
		{DirRecorded + "a", ``, func(s State) bool { return len(s.Recorded) == 1 }},
	} {
		s := Parse(9, map[string]KV{tt.key: {Key: tt.key, Value: []byte(tt.value), Mod: 9}})
		if !s.Unknown(tt.key) {
			t.Errorf("%s = %q is not unknown", tt.key, tt.value)
		}
		if tt.ok != nil && !tt.ok(s) {
			t.Errorf("%s = %q gives %+v", tt.key, tt.value, s)
		}
		if p := PictureOf(s); len(p.Problems) == 0 {
			t.Errorf("%s = %q: the picture hides the problem", tt.key, tt.value)
		}
	}
}

// demo is three members in the middle of their life.
func demo() map[string]KV {
	keys := map[string]KV{}
	put := func(key, value string) {
		keys[key] = KV{Key: key, Value: []byte(value), Mod: int64(10 + len(keys)), Lease: 7}
	}
	put(KeyInitialize, "7401234567890123456")
	put(KeyConfig, `{"ttl":30,"synchronous_mode":"quorum","pause":true,"howdah":{"lease":"5s"}}`)
	put(KeyLeader, "pg-1")
	put(KeyStatus, `{"optime":5000}`)
	put(KeySync, Sync{Leader: "pg-1", Quorum: 1, Standby: []string{"PG-2"}}.Encode())
	put(KeyHistory, `[[1,100,"no recovery target specified"]]`)
	put(KeyTerm, Term{Leader: "pg-1", Timeline: 2, LSN: 100, Kind: KindCrash}.Encode())
	put(KeyFailover, Failover{Leader: "pg-1", ScheduledAt: noon}.Encode())
	put(DirMembers+"pg-3", `{"conn_url":"postgres://10.10.10.13:5433/postgres","state":"starting","role":"replica"}`)
	put(DirMembers+"pg-2", `{"conn_url":"postgres://[::1]/postgres","state":"running","role":"replica","replay_lsn":4000,"receive_lsn":4900,"replication_state":"streaming","timeline":2}`)
	put(DirMembers+"pg-1", `{"conn_url":"postgres://10.10.10.11:5432/postgres","state":"running","role":"primary","xlog_location":5000,"timeline":2}`)
	for _, name := range []string{"pg-1", "pg-4"} {
		put(DirRecorded+name, Recorded{Name: name, Joined: noon}.Encode())
	}
	put(DirPledges+"pg-2", Pledge{Epoch: 12, LSN: 4900}.Encode())
	put(DirRequests+"pg-3", Request{ID: "1", Kind: RequestReinit, At: noon}.Encode())
	put(DirWhy+"pg-1", Why{At: noon, Trail: []string{"leader=self"}}.Encode())
	put(DirFailovers+"9", FailoverPage{Epoch: 9, Kind: KindCrash}.Encode())
	put(DirFailovers+"12", FailoverPage{Epoch: 12, Kind: KindSwitchover}.Encode())
	put("howdah/later", "whatever a newer version keeps here")
	return keys
}

func TestParse(t *testing.T) {
	s := Parse(99, demo())
	if len(s.Problems) > 0 {
		t.Fatalf("problems: %v", s.Problems)
	}
	if got := s.Names(); !slices.Equal(got, []string{"pg-1", "pg-2", "pg-3", "pg-4"}) {
		t.Errorf("names = %v", got)
	}
	if s.Leader == nil || s.Leader.Name != "pg-1" || s.Leader.Lease != 7 || s.Epoch() != s.Leader.Mod {
		t.Errorf("leader = %+v, epoch %d", s.Leader, s.Epoch())
	}
	if s.Timeline() != 2 || s.History.Timeline() != 2 {
		t.Errorf("timeline = %d, by history %d, want 2", s.Timeline(), s.History.Timeline())
	}
	if m, ok := s.Member("pg-2"); !ok || m.ReceiveLSN != 4900 || m.Mod == 0 || m.Lease != 7 {
		t.Errorf("member pg-2 = %+v", m)
	}
	if p, ok := s.Pledge("pg-2"); !ok || p.LSN != 4900 {
		t.Errorf("pledge of pg-2 = %+v", p)
	}
	if r, ok := s.Request("pg-3"); !ok || r.Kind != RequestReinit || r.Member != "pg-3" {
		t.Errorf("request for pg-3 = %+v", r)
	}
	if w, ok := s.Why("pg-1"); !ok || w.Trail[0] != "leader=self" {
		t.Errorf("why of pg-1 = %+v", w)
	}
	if len(s.Failovers) != 2 || s.Failovers[0].Epoch != 9 || s.Failovers[1].Key() != DirFailovers+"12" {
		t.Errorf("failovers = %+v, want the older first", s.Failovers)
	}
	keys := demo()
	delete(keys, KeyLeader)
	if s := Parse(99, keys); s.Leader != nil || s.Epoch() != keys[KeyTerm].Mod {
		t.Errorf("without a leader: %+v, epoch %d; want that of the last term", s.Leader, s.Epoch())
	}
	delete(keys, KeyStatus)
	keys[keyOptime] = KV{Value: []byte("77")}
	if s := Parse(99, keys); s.Status.Optime != 77 {
		t.Errorf("legacy position = %d, want 77", s.Status.Optime)
	}
	if s := Parse(0, nil); s.Epoch() != 0 || s.Timeline() != 0 || s.Initialize.Present || len(s.Problems) > 0 {
		t.Errorf("nothing parses as %+v", s)
	}
}

func TestPicture(t *testing.T) {
	p := PictureOf(Parse(99, demo()))
	if p.Generation != 99 || p.Leader != "pg-1" || !p.Paused || p.System == 0 || p.Starting || p.Optime != 5000 {
		t.Errorf("picture = %+v", p)
	}
	if !slices.Equal(p.Away, []string{"pg-4"}) {
		t.Errorf("away = %v, want the recorded member that is silent", p.Away)
	}
	if p.Scheduled == nil || p.Scheduled.From != "pg-1" || !p.Scheduled.At.Equal(noon) {
		t.Errorf("scheduled = %+v", p.Scheduled)
	}
	for _, want := range []struct {
		name, title, state, host string
		port                     int
		lag                      int64
		known                    bool
	}{
		{"pg-1", "Leader", "running", "10.10.10.11", 5432, 0, true},
		{"pg-2", "Quorum Standby", "streaming", "::1", 5432, 100, true},
		{"pg-3", "Replica", "starting", "10.10.10.13", 5433, 0, false},
	} {
		m, ok := p.Member(want.name)
		lag, known := m.Lag()
		if !ok || m.Role.Title() != want.title || m.State != want.state || m.Host != want.host || m.Port != want.port || lag != want.lag || known != want.known {
			t.Errorf("%s = %+v (title %s, lag %d %t), want %+v", want.name, m, m.Role.Title(), lag, known, want)
		}
	}
	if _, ok := p.Member("pg-4"); ok {
		t.Error("pg-4 does not show itself, but has a row")
	}
	for _, tt := range []struct{ config, leader, standby string }{
		{`{"synchronous_mode":"on"}`, "Leader", "Sync Standby"},
		{`{"synchronous_mode":"off"}`, "Leader", "Replica"},
		{`{"standby_cluster":{"host":"h"},"synchronous_mode":"on"}`, "Standby Leader", "Replica"},
	} {
		keys := demo()
		keys[KeyConfig] = KV{Value: []byte(tt.config)}
		p := PictureOf(Parse(1, keys))
		if l, s := p.Members[0].Role.Title(), p.Members[1].Role.Title(); l != tt.leader || s != tt.standby {
			t.Errorf("%s: roles %s, %s; want %s, %s", tt.config, l, s, tt.leader, tt.standby)
		}
	}
	keys := demo()
	delete(keys, KeyStatus)
	if _, known := PictureOf(Parse(1, keys)).Members[1].Lag(); known {
		t.Error("without the leader's position the lag is known")
	}
}

func TestConfig(t *testing.T) {
	empty := Config{}
	if empty.TTL() != 30*time.Second || empty.LoopWait() != 10*time.Second || empty.RetryTimeout() != 10*time.Second ||
		empty.MaximumLagOnFailover() != 1<<20 || empty.PrimaryStartTimeout() != 300*time.Second || empty.Pause() ||
		empty.SynchronousMode() != SyncOff || empty.SynchronousNodeCount() != 1 || empty.Encode() != "{}" || empty.Howdah() != nil {
		t.Errorf("defaults are not Patroni's")
	}
	c, err := ParseConfig([]byte(`{"ttl":"20","loop_wait":2,"master_start_timeout":0,"pause":"on","synchronous_mode":true,
		"synchronous_mode_strict":"yes","synchronous_node_count":0,"check_timeline":1,"failsafe_mode":"no","max_timelines_history":-1,
		"maximum_lag_on_failover":"16","postgresql":{"parameters":{"a":1,"b":true,"c":"x","d":null,"e":0.5}},"howdah":{"lease":"1500ms","n":1e300}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.TTL() != 20*time.Second || c.LoopWait() != 2*time.Second || c.PrimaryStartTimeout() != 0 || !c.Pause() ||
		c.SynchronousMode() != SyncOn || c.SynchronousNodeCount() != 1 || !c.CheckTimeline() || c.FailsafeMode() ||
		c.MaxTimelinesHistory() != 0 || c.MaximumLagOnFailover() != 16 {
		t.Errorf("read wrongly: %v", c.Data)
	}
	if got := c.Duration(0, "howdah", "lease"); got != 1500*time.Millisecond {
		t.Errorf("howdah.lease = %s", got)
	}
	if got := c.Int(3, "howdah", "n"); got != 3 {
		t.Errorf("a number beyond int64 = %d, want the default", got)
	}
	if got := c.Parameters(); !reflect.DeepEqual(got, map[string]string{"a": "1", "b": "on", "c": "x", "e": "0.5"}) {
		t.Errorf("parameters = %v", got)
	}
	if _, ok := c.Lookup("ttl", "deeper"); ok {
		t.Error("a path through a string leads somewhere")
	}
}

func TestTags(t *testing.T) {
	for _, tt := range []struct {
		tags       Tags
		nofailover bool
		priority   int
	}{
		{nil, false, 1},
		{Tags{TagNoFailover: true}, true, 0},
		{Tags{TagNoFailover: "on", TagFailoverPriority: 5.0}, true, 0},
		{Tags{TagNoFailover: false, TagFailoverPriority: 0.0}, false, 1}, // the word wins
		{Tags{TagFailoverPriority: 0.0}, true, 0},
		{Tags{TagFailoverPriority: -1.0}, true, 0},
		{Tags{TagFailoverPriority: "7"}, false, 7},
		{Tags{TagFailoverPriority: "high"}, false, 1},
	} {
		if got, n := tt.tags.NoFailover(), tt.tags.FailoverPriority(); got != tt.nofailover || n != tt.priority {
			t.Errorf("%v: nofailover %t, priority %d; want %t, %d", tt.tags, got, n, tt.nofailover, tt.priority)
		}
	}
	tags := Tags{TagCloneFrom: true, TagReplicateFrom: "a", TagNoStream: "yes", TagNoLoadBalance: true, TagSyncPriority: 0.0}
	if !tags.CloneFrom() || tags.ReplicateFrom() != "a" || !tags.NoStream() || !tags.NoLoadBalance() || !tags.NoSync() || tags.SyncPriority() != 0 {
		t.Errorf("%v read wrongly", tags)
	}
}

func TestMember(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://h/postgres": "h 5432", "postgres://[fe80::1]:6000/x": "fe80::1 6000", "": " ", "postgres://%zz": " ",
	} {
		host, port := (&Member{ConnURL: url}).Host()
		if got := host + " " + port; got != want {
			t.Errorf("host of %q = %q, want %q", url, got, want)
		}
	}
	yes := true
	for _, tt := range []struct {
		m    Member
		want bool
	}{
		{Member{Role: RolePrimary}, true},
		{Member{Role: RolePrimary, CheckpointAfterPromote: &yes}, true},
		{Member{Role: RolePrimary, CheckpointAfterPromote: &no}, false},
		{Member{Role: RoleReplica}, false},
	} {
		if got := tt.m.RewindSource(); got != tt.want {
			t.Errorf("%+v is a rewind source: %t", tt.m, got)
		}
	}
	if len(States) != 15 || States[5] != StateRunning || States[14] != StateCrashed {
		t.Error("the order of the states is Patroni's metric and frozen")
	}
}

func TestSlotName(t *testing.T) {
	for member, want := range map[string]string{
		"pg-test-1":             "pg_test_1",
		"Db1.Example.COM":       "db1_example_com",
		"a b":                   "au0032b",
		"zürich":                "zu0252rich",
		"象":                     "u35937",
		strings.Repeat("x", 70): strings.Repeat("x", 63),
	} {
		if got := SlotName(member); got != want {
			t.Errorf("SlotName(%q) = %q, want %q", member, got, want)
		}
	}
	got := SlotCollisions([]string{"c", "A-1", "a.1", "b", "B", "a.1"})
	if want := [][]string{{"A-1", "a.1"}, {"B", "b"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("collisions = %v, want %v", got, want)
	}
}

func TestTime(t *testing.T) {
	zone := time.FixedZone("", 5*3600+1800)
	for _, tt := range []time.Time{{}, noon, noon.Add(time.Microsecond), noon.In(zone).Add(time.Second / 2)} {
		back, err := ParseTime(FormatTime(tt))
		if err != nil || !back.Equal(tt) {
			t.Errorf("%s came back as %s, %v", tt, back, err)
		}
	}
	for _, bad := range []string{"2026-11-20T12:00:00", "12:00", "now", "2026-13-01T00:00:00Z"} {
		if got, err := ParseTime(bad); err == nil {
			t.Errorf("ParseTime(%q) = %s, want an error", bad, got)
		}
	}
}

// FuzzParse gives every key the same foreign bytes: nothing panics, every key
// is either read or unknown, and what was read can be written and read again.
func FuzzParse(f *testing.F) {
	for _, tt := range golden {
		f.Add([]byte(tt.value.Encode()))
	}
	for _, s := range []string{"", "null", "{}", "[]", "[[]]", `""`, "pg-1", "postgres://[", `{"leader":1}`, `{"optime":"x"}`, "\xff", `{"tags":{"a":"\ud800"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		keys := map[string]KV{}
		for _, key := range []string{
			KeyInitialize, KeyConfig, KeyLeader, KeyStatus, KeySync, KeyFailover, KeyHistory, KeyFailsafe, KeyTerm, KeyHandover,
			DirMembers + "a", DirRecorded + "a", DirPledges + "a", DirWhy + "a", DirFailovers + "1", DirRequests + "a",
		} {
			keys[key] = KV{Key: key, Value: value, Mod: 1}
		}
		s := Parse(1, keys)
		PictureOf(s)
		if s.Leader == nil || len(s.Members) != 1 || !s.Initialize.Present || s.Term == nil || s.Handover == nil {
			t.Fatalf("%q: a key that is there reads as absent: %+v", value, s)
		}
		s.Config.Parameters()
		s.Config.SynchronousMode()
		again := func(key, encoded string) {
			if s.Unknown(key) {
				return
			}
			if t2 := Parse(1, map[string]KV{key: {Value: []byte(encoded)}}); t2.Unknown(key) {
				t.Errorf("%s %q was read, but its own %q is not: %v", key, value, encoded, t2.Problems)
			}
		}
		again(KeyStatus, s.Status.Encode())
		again(KeySync, s.Sync.Encode())
		again(KeyFailover, s.Failover.Encode())
		again(KeyHistory, s.History.Encode())
		again(KeyConfig, s.Config.Encode())
		again(KeyFailsafe, s.Failsafe.Encode())
		again(DirMembers+"a", s.Members[0].Encode())
	})
}

// A reader that saw everything before says what one that begins now says.
func TestAReaderForgetsNothingAndKeepsNothing(t *testing.T) {
	var r Reader
	keys := map[string]KV{}
	for i, step := range []struct{ key, value string }{
		{KeyLeader, "a"},
		{DirMembers + "a", `{"state":"running","role":"primary","xlog_location":7}`},
		{DirMembers + "a", `{"state":"running","role":"primary","xlog_location":8}`},
		{DirMembers + "b", `{"state":`},
		{DirPledges + "b", `{"epoch":3,"lsn":5}`},
		{KeyHistory, `[[1,5,"x"]]`},
		{DirMembers + "b", `{"state":"running"}`},
		{DirMembers + "a", ""},
		{DirMembers + "a", `{"state":"running","role":"primary","xlog_location":8}`},
		{KeyStatus, `{"optime":9,"slots":{"a":9}}`},
		{KeyStatus, ""},
		{keyOptime, "77"},
	} {
		if step.value == "" {
			delete(keys, step.key)
		} else {
			keys[step.key] = KV{Value: []byte(step.value), Mod: int64(i + 1), Lease: int64(i)}
		}
		if got, want := r.Parse(int64(i), keys), Parse(int64(i), keys); !reflect.DeepEqual(got, want) {
			t.Errorf("step %d: %+v, want %+v", i, got, want)
		}
	}
	if len(r.known) != len(keys)-1 { // the leader is a name, and needs no reading
		t.Errorf("%d values are remembered of %d keys", len(r.known), len(keys))
	}
}

// Equal and Encode agree about every field.
func TestEqualIsEqualEncoded(t *testing.T) {
	values := map[string]any{
		"Name": "a", "Mod": int64(1), "Lease": int64(1), "CheckpointAfterPromote": new(bool),
		"Tags": Tags{"nosync": true}, "PendingRestartReason": map[string]PendingChange{"a": {"1", "2"}},
		"ScheduledRestart": map[string]any{"schedule": "x"},
	}
	typ := reflect.TypeFor[Member]()
	for i := range typ.NumField() {
		var m Member
		switch f, name := reflect.ValueOf(&m).Elem().Field(i), typ.Field(i).Name; {
		case values[name] != nil:
			f.Set(reflect.ValueOf(values[name]))
		case f.Kind() == reflect.String:
			f.SetString("x")
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
		case f.CanUint():
			f.SetUint(1)
		default:
			f.SetInt(1)
		}
		for _, o := range []Member{{}, m, {Tags: Tags{}}} {
			if got, want := m.Equal(&o), m.Encode() == o.Encode(); got != want || o.Equal(&m) != want {
				t.Errorf("%s: equal %v, encoded equal %v", typ.Field(i).Name, got, want)
			}
		}
	}
}

// A slip of the pen is no way to switch synchronous replication off.
func TestCheckModes(t *testing.T) {
	for _, good := range []any{nil, true, false, "on", "OFF", "quorum", "Quorum", 1.0} {
		if err := (Config{Data: map[string]any{"synchronous_mode": good}}).CheckModes(); err != nil {
			t.Errorf("synchronous_mode %v: %v", good, err)
		}
	}
	for _, bad := range []any{"qourum", "maybe", 2.0, "", map[string]any{}, []any{"on"}} {
		for _, key := range []string{"synchronous_mode", "synchronous_mode_strict"} {
			if err := (Config{Data: map[string]any{key: bad}}).CheckModes(); err == nil {
				t.Errorf("%s: %v is taken", key, bad)
			}
		}
	}
}

func TestUpstream(t *testing.T) {
	section := func(pairs ...any) Config {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return Config{Data: map[string]any{"standby_cluster": m}}
	}
	for _, tt := range []struct {
		c    Config
		want Upstream
		why  string // of the refusal; "": there is none
	}{
		{section("host", "10.1.1.1"), Upstream{Host: "10.1.1.1", Port: 5432}, ""},
		{section("host", "a, b", "port", 6000.0, "primary_slot_name", "far", "recovery_min_apply_delay", "1 h"), Upstream{"a,b", 6000, "far", "1 h"}, ""},
		{section("host", "a", "port", "6000", "create_replica_methods", []any{"basebackup"}), Upstream{Host: "a", Port: 6000}, ""},
		{section("port", 5432.0), Upstream{Port: 5432}, "standby_cluster.host"},
		{section("host", "a b"), Upstream{Port: 5432}, "standby_cluster.host"},
		{section("host", "a", "port", 70000.0), Upstream{Host: "a", Port: 5432}, "standby_cluster.port"},
		{section("host", "a", "primary_slot_name", "No"), Upstream{Host: "a", Port: 5432}, "primary_slot_name"},
		{section("host", "a", "recovery_min_apply_delay", "soon"), Upstream{Host: "a", Port: 5432}, "recovery_min_apply_delay"},
		{section("host", "a", "restore_command", "cp"), Upstream{Host: "a", Port: 5432}, "restore_command"},
		{section("host", "a", "archive_cleanup_command", "rm"), Upstream{Host: "a", Port: 5432}, "archive_cleanup_command"},
		{section("host", "a", "create_replica_methods", []any{"pgbackrest"}), Upstream{Host: "a", Port: 5432}, "create_replica_methods"},
		{section("host", "a", "hots", "b"), Upstream{Host: "a", Port: 5432}, "standby_cluster.hots"},
		{Config{Data: map[string]any{"standby_cluster": "a"}}, Upstream{}, "no object"},
	} {
		got, err := tt.c.Upstream()
		if got != tt.want || (err == nil) != (tt.why == "") || err != nil && !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %+v, %v; want %+v, %q", tt.c.Encode(), got, err, tt.want, tt.why)
		}
		if again := tt.c.CheckStandby(); (again == nil) != (err == nil) {
			t.Errorf("%s: checked %v, read %v", tt.c.Encode(), again, err)
		}
	}
	for _, none := range []Config{{}, section(), {Data: map[string]any{"standby_cluster": nil}}} {
		if err := none.CheckStandby(); err != nil || none.StandbyCluster() {
			t.Errorf("%s: %v", none.Encode(), err)
		}
	}
}

// The term says what the cluster is, and the configuration what somebody wants.
func TestStandby(t *testing.T) {
	wanted := Config{Data: map[string]any{"standby_cluster": map[string]any{"host": "h"}, "synchronous_mode": "on"}}
	for _, tt := range []struct {
		name string
		s    State
		want bool
	}{
		{"nothing is known", State{}, false},
		{"without a term", State{Config: wanted}, true},
		{"an ordinary term", State{Config: wanted, Term: &Term{Mod: 4}}, false},
		{"a term that follows", State{Term: &Term{Mod: 4, Standby: true}}, true},
		{"and leads", State{Term: &Term{Mod: 4, Standby: true}, Leader: &Leader{Name: "a", Mod: 4}}, true},
		{"a leader who put none", State{Config: wanted, Term: &Term{Mod: 4}, Leader: &Leader{Name: "a", Mod: 5}}, true},
		{"one that can not be read", State{Config: wanted, Term: &Term{Mod: 4}, Problems: []Problem{{Key: KeyTerm}}}, true},
	} {
		if got := tt.s.Standby(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		if mode := tt.s.SynchronousMode(); (mode == SyncOn) != (!tt.want && tt.s.Config.Data != nil) {
			t.Errorf("%s: synchronous mode %s", tt.name, mode)
		}
	}
}
