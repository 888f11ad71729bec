package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
	"howdah/spec"
)

// demo is a healthy cluster: a leads, b replicates, c replicates for offline
// queries. Positions are in bytes behind a.
func demo() (spec.Front, cluster.Picture) {
	f := spec.Front{
		Cluster: "demo", Namespace: "/service", PoolPort: 6432, Dest: cluster.DestPool, Services: cluster.DefaultServices(),
		Members: []spec.Instance{
			{Name: "a", Vars: map[string]any{"pg_role": "primary", "pg_seq": 1}},
			{Name: "b", Vars: map[string]any{"pg_role": "replica", "pg_seq": 2}},
			{Name: "c", Vars: map[string]any{"pg_role": "offline", "pg_seq": 3}},
		},
	}
	p := cluster.Picture{Epoch: 7, Leader: "a"}
	for i, name := range []string{"a", "b", "c"} {
		p.Members = append(p.Members, cluster.PictureMember{
			Name: name, Role: cluster.Replicates, State: cluster.ReplicationStreaming, Running: true,
			Host: fmt.Sprintf("10.10.10.1%d", i+1), Port: 5432, APIURL: fmt.Sprintf("http://10.10.10.1%d:8008/patroni", i+1),
			Receive: &cluster.Lag{Known: true}, Replay: &cluster.Lag{Known: true}, Tags: cluster.Tags{},
		})
	}
	lead(&p, "a")
	return f, p
}

// lead makes name the leader of a new reign, and a promoted one.
func lead(p *cluster.Picture, name string) {
	p.Leader = name
	p.Epoch++
	for i := range p.Members {
		m := &p.Members[i]
		m.Role, m.Primary = cluster.Replicates, false
		if m.Name == name {
			m.Role, m.Primary, m.State = cluster.Leads, true, cluster.StateRunning
			m.Receive, m.Replay = nil, nil
		}
	}
}

// gone takes members out of the picture, and the lead with them.
func gone(p *cluster.Picture, names ...string) {
	p.Members = slices.DeleteFunc(p.Members, func(m cluster.PictureMember) bool { return slices.Contains(names, m.Name) })
	if slices.Contains(names, p.Leader) {
		p.Leader = ""
	}
}

func row(p *cluster.Picture, name string) *cluster.PictureMember {
	return &p.Members[slices.IndexFunc(p.Members, func(m cluster.PictureMember) bool { return m.Name == name })]
}

// usable is "service: members" for each service.
func usable(t *testing.T, f spec.Front, v View) string {
	t.Helper()
	table, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range table.Routes(v) {
		var to []string
		for _, b := range s.Usable() {
			to = append(to, b.Member)
		}
		if s.Err != "" {
			to = append(to, "!"+s.Err)
		}
		out = append(out, strings.TrimSpace(s.Name+": "+strings.Join(to, " ")))
	}
	return strings.Join(out, "; ")
}

// TestWhereServicesLead is the contract's table of what a connection to each
// port observes, and what lies between its columns.
func TestWhereServicesLead(t *testing.T) {
	for _, tt := range []struct {
		name string
		with func(*spec.Front, *cluster.Picture)
		want string
	}{
		{"healthy", nil, "primary: a; replica: b; default: a; offline: c"},
		{"no replica up: the primary as backup", func(_ *spec.Front, p *cluster.Picture) {
			gone(p, "b", "c")
		}, "primary: a; replica: a; default: a; offline:"},
		{"only the offline one left beside the primary", func(_ *spec.Front, p *cluster.Picture) {
			gone(p, "b")
		}, "primary: a; replica: a; default: a; offline: c"},
		{"no offline one: ordinary replicas", func(_ *spec.Front, p *cluster.Picture) {
			gone(p, "c")
		}, "primary: a; replica: b; default: a; offline: b"},
		{"primary lost", func(_ *spec.Front, p *cluster.Picture) {
			gone(p, "a")
		}, "primary:; replica: b; default:; offline: c"},
		{"leader moved: the roles of the inventory do not matter", func(_ *spec.Front, p *cluster.Picture) {
			lead(p, "b")
			row(p, "a").Receive = &cluster.Lag{Known: true}
		}, "primary: b; replica: a; default: b; offline: c"},
		{"the offline one leads", func(_ *spec.Front, p *cluster.Picture) {
			lead(p, "c")
		}, "primary: c; replica: a b; default: c; offline: a"},
		{"the key is taken and the promotion is under way", func(_ *spec.Front, p *cluster.Picture) {
			lead(p, "b")
			row(p, "b").Primary = false
		}, "primary:; replica: a; default:; offline: c"},
		{"the leader is about to hand over", func(_ *spec.Front, p *cluster.Picture) {
			p.Drain = &cluster.PictureDrain{From: "a", To: "b", Hold: true, Generation: 9}
		}, "primary:; replica: b; default:; offline: c"},
		{"it is, and there is no replica", func(_ *spec.Front, p *cluster.Picture) {
			gone(p, "b", "c")
			p.Drain = &cluster.PictureDrain{From: "a", To: "b", Hold: true, Generation: 9}
		}, "primary:; replica:; default:; offline:"},
		{"it only says to whom", func(_ *spec.Front, p *cluster.Picture) {
			p.Drain = &cluster.PictureDrain{From: "a", To: "b", Generation: 9}
		}, "primary: a; replica: b; default: a; offline: c"},
		{"the leader's server restarts", func(_ *spec.Front, p *cluster.Picture) {
			row(p, "a").Running = false
		}, "primary:; replica: b; default:; offline: c"},
		{"nobody holds the key, and the old primary does not know", func(_ *spec.Front, p *cluster.Picture) {
			p.Leader = ""
			row(p, "a").Role = cluster.Replicates
		}, "primary:; replica: b; default:; offline: c"},
		{"noloadbalance", func(_ *spec.Front, p *cluster.Picture) {
			row(p, "b").Tags[cluster.TagNoLoadBalance] = true
		}, "primary: a; replica: a; default: a; offline: c"},
		{"weight 0 drains", func(f *spec.Front, _ *cluster.Picture) {
			f.Members[1].Vars["pg_weight"] = 0
		}, "primary: a; replica: a; default: a; offline: c"},
		{"offline queries on a replica", func(f *spec.Front, _ *cluster.Picture) {
			f.Members[1].Vars["pg_offline_query"] = true
		}, "primary: a; replica: b; default: a; offline: b c"},
		{"a member that the inventory does not have", func(f *spec.Front, _ *cluster.Picture) {
			f.Members = f.Members[:1]
		}, "primary: a; replica: b c; default: a; offline: b"},
		{"a standby cluster has no primary", func(_ *spec.Front, p *cluster.Picture) {
			row(p, "a").Role = cluster.LeadsStandby
		}, "primary:; replica: b; default:; offline: c"},
	} {
		f, p := demo()
		if tt.with != nil {
			tt.with(&f, &p)
		}
		if got := usable(t, f, View{Known: true, Picture: p}); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	f, p := demo()
	row(&p, "a").Role = cluster.LeadsStandby
	table, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range table.Routes(View{Known: true, Picture: p}) {
		for _, b := range s.Backends {
			if b.Epoch != 0 {
				t.Errorf("%s: %s has to prove a right that nobody in a standby cluster has", s.Name, b.Member)
			}
		}
	}
	f, p = demo()
	if got := usable(t, f, View{Picture: p}); got != "primary:; replica:; default:; offline:" {
		t.Errorf("before the store was seen: %s", got)
	}
}

func TestChecks(t *testing.T) {
	for _, tt := range []struct {
		path string
		with func(*cluster.Picture)
		want string // who passes
	}{
		{"", nil, "a"},
		{"/", nil, "a"},
		{"/primary", nil, "a"},
		{"/master", nil, "a"},
		{"/read-write", nil, "a"},
		{"/leader", nil, "a"},
		{"/standby-leader", nil, ""},
		{"/standby_leader", func(p *cluster.Picture) { row(p, "a").Role = cluster.LeadsStandby }, "a"},
		{"/leader", func(p *cluster.Picture) { row(p, "a").Role = cluster.LeadsStandby }, "a"},
		{"/primary", func(p *cluster.Picture) { row(p, "a").Role = cluster.LeadsStandby }, ""},
		{"/replica", nil, "b c"},
		{"/read-only", nil, "a b c"},
		{"/health", nil, "a b c"},
		{"/health", func(p *cluster.Picture) { row(p, "b").Running = false }, "a c"},
		{"/sync", nil, ""},
		{"/sync", func(p *cluster.Picture) { row(p, "b").Role = cluster.SyncStandby }, "b"},
		{"/synchronous", func(p *cluster.Picture) { row(p, "b").Role = cluster.SyncStandby }, "b"},
		{"/async", func(p *cluster.Picture) { row(p, "b").Role = cluster.SyncStandby }, "c"},
		{"/asynchronous", func(p *cluster.Picture) { row(p, "b").Role = cluster.QuorumStandby }, "c"},
		{"/quorum", func(p *cluster.Picture) { row(p, "b").Role = cluster.QuorumStandby }, "b"},
		{"/read-only-sync", func(p *cluster.Picture) { row(p, "b").Role = cluster.SyncStandby }, "a b"},
		{"/read-only-synchronous", nil, "a"},
		{"/read-only-quorum", func(p *cluster.Picture) { row(p, "c").Role = cluster.QuorumStandby }, "a c"},
		{"/nonsense", nil, ""},
		{"/synchro", nil, ""},
		{"/replica?lag=1MB", func(p *cluster.Picture) { row(p, "b").Replay.Behind = 1<<20 + 1 }, "c"},
		{"/replica?lag=1MB", func(p *cluster.Picture) { row(p, "b").Replay.Behind = 1 << 20 }, "b c"},
		{"/replica?lag=100", func(p *cluster.Picture) { row(p, "b").Replay.Behind = 101 }, "c"},
		{"/replica?lag=1%20kB", func(p *cluster.Picture) { row(p, "b").Replay.Behind = 1025 }, "c"},
		{"/replica?lag=much", func(p *cluster.Picture) { row(p, "b").Replay.Behind = 1 << 40 }, "b c"},
		{"/replica?lag=1MB", func(p *cluster.Picture) { row(p, "b").Replay.Known = false }, "b c"},
		{"/replica?replication_state=streaming", func(p *cluster.Picture) { row(p, "b").State = cluster.ReplicationInRecovery }, "c"},
		{"/replica?tag_zone=a", func(p *cluster.Picture) { row(p, "c").Tags["zone"] = "a" }, "c"},
		{"/replica?tag_zone=a&tag_big=true", func(p *cluster.Picture) {
			row(p, "b").Tags["zone"], row(p, "c").Tags["zone"], row(p, "c").Tags["big"] = "a", "a", true
		}, "c"},
		{"/read-only?tag_zone=a", nil, "a"},
		{"/health?tag_zone=a", nil, ""},
		{"/replica", func(p *cluster.Picture) { row(p, "b").Primary = true }, "c"},
	} {
		_, p := demo()
		if tt.with != nil {
			tt.with(&p)
		}
		var pass []string
		for _, m := range p.Members {
			if ok, _ := parseCheck(tt.path).passes(p, m); ok {
				pass = append(pass, m.Name)
			}
		}
		if got := strings.Join(pass, " "); got != tt.want {
			t.Errorf("%s: %q passes, want %q", tt.path, got, tt.want)
		}
	}
}

func TestSelectors(t *testing.T) {
	for _, tt := range []struct{ selector, want string }{
		{"[]", "a b c"},
		{"[*]", "a b c"},
		{"@", "a b c"},
		{"[? pg_role == `replica`]", "b"},
		{"[? pg_role == `\"replica\"`]", "b"},
		{"[? pg_role == 'replica']", "b"},
		{"[? pg_seq > `1`]", "b c"},
		{"[? pg_instance == 'c' || pg_seq == `1`]", "a c"},
		{"[? pg_lag <= `16`]", "a b c"},
		{"[? missing]", ""},
		{"[? pg_role == `\\`odd`]", ""},
		{"[1:]", "b c"},
		{"[0]", "!selector: it gives an object, not a list of members"},
		{"[].pg_role", "!selector: it gives a list with a string in it, not members"},
		{"length(@)", "!selector: it gives a number, not a list of members"},
	} {
		f, p := demo()
		f.Services = []cluster.Service{{Name: "s", Port: 1, Check: "/health", Selector: tt.selector}}
		if got := strings.TrimPrefix(usable(t, f, View{Known: true, Picture: p}), "s: "); strings.TrimPrefix(got, "s:") != tt.want {
			t.Errorf("%s: %q, want %q", tt.selector, got, tt.want)
		}
	}
}

func TestBadServicesAreNamed(t *testing.T) {
	for _, tt := range []struct {
		with func(*cluster.Service)
		want string
	}{
		{func(s *cluster.Service) { s.Selector = "[? pg_role" }, `selector "[? pg_role"`},
		{func(s *cluster.Service) { s.Selector = "" }, `selector ""`},
		{func(s *cluster.Service) { s.Selector = "[? pg_role == `replica]" }, "selector"},
		{func(s *cluster.Service) { s.Backup = "]" }, `backup "]"`},
		{func(s *cluster.Service) { s.Dest = "somewhere" }, `dest is "somewhere"`},
		{func(s *cluster.Service) { s.Dest = "70000" }, `dest is "70000"`},
		{func(s *cluster.Service) { s.Balance = "fair" }, `balance is "fair"`},
	} {
		f, _ := demo()
		tt.with(&f.Services[2])
		table, err := Compile(f)
		if problem.Code(err) != "service-invalid" || !strings.Contains(err.Error(), "service default") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Compile = %v; want service-invalid with service default and %q", err, tt.want)
		}
		// The others are served, and that one says why it is not.
		_, p := demo()
		for i, s := range table.Routes(View{Known: true, Picture: p}) {
			if i == 2 && (len(s.Backends) > 0 || !strings.Contains(s.Err, tt.want)) || i != 2 && (len(s.Usable()) == 0 || s.Err != "") {
				t.Errorf("%s leads to %v, %q", s.Name, s.Usable(), s.Err)
			}
		}
	}
	f, _ := demo()
	f.Members[0].Vars["odd"] = func() {}
	if table, err := Compile(f); table != nil || problem.Code(err) != "service-invalid" || !strings.Contains(err.Error(), "member a") {
		t.Errorf("Compile = %v; want the member's name", err)
	}
}

func TestWhereOnAMember(t *testing.T) {
	for _, tt := range []struct {
		dest, ofDefault string
		pool            int
		want            string
	}{
		{"default", "pgbouncer", 6432, "10.10.10.11:6432"},
		{"default", "postgres", 6432, "10.10.10.11:5432"},
		{"default", "", 6432, "10.10.10.11:6432"},
		{"default", "pgbouncer", 0, "10.10.10.11:5432"},
		{"", "postgres", 6432, "10.10.10.11:5432"},
		{"postgres", "pgbouncer", 6432, "10.10.10.11:5432"},
		{"pgbouncer", "postgres", 6432, "10.10.10.11:6432"},
		{"8008", "pgbouncer", 6432, "10.10.10.11:8008"},
	} {
		f, p := demo()
		f.Dest, f.PoolPort = tt.ofDefault, tt.pool
		f.Services = []cluster.Service{{Name: "s", Port: 1, Check: "/", Selector: "[]", Dest: tt.dest}}
		table, err := Compile(f)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := table.Routes(View{Known: true, Picture: p})[0].Backend("a"); b.Addr != tt.want {
			t.Errorf("dest %q, default %q, pool %d: %s, want %s", tt.dest, tt.ofDefault, tt.pool, b.Addr, tt.want)
		}
	}
	f, p := demo()
	p.Members[0].Host = "fd00::1"
	table, _ := Compile(f)
	if b, _ := table.Routes(View{Known: true, Picture: p})[2].Backend("a"); b.Addr != "[fd00::1]:5432" {
		t.Errorf("IPv6: %s", b.Addr)
	}
}

func TestSettings(t *testing.T) {
	f, p := demo()
	for _, tt := range []struct {
		name string
		set  Setting
		want string
	}{
		{"drain", Setting{Service: "replica", Member: "b", Mode: Drain}, "replica: a"},
		{"maintenance", Setting{Service: "replica", Member: "b", Mode: Maint}, "replica: a"},
		{"ready", Setting{Service: "replica", Member: "b"}, "replica: b"},
		{"weight", Setting{Service: "replica", Member: "b", Weight: new(int)}, "replica: a"},
		{"of another service", Setting{Service: "offline", Member: "b", Mode: Drain}, "replica: b"},
	} {
		got := usable(t, f, View{Known: true, Picture: p, Settings: []Setting{tt.set}})
		if !strings.Contains(got, tt.want+";") {
			t.Errorf("%s: %s; want %s", tt.name, got, tt.want)
		}
	}
}

func TestTrails(t *testing.T) {
	f, p := demo()
	lead(&p, "b")
	row(&p, "c").Tags[cluster.TagNoLoadBalance] = true
	gone(&p, "a")
	table, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	all := table.Routes(View{Known: true, Picture: p, Settings: []Setting{{Service: "primary", Member: "b", Mode: Drain}}})
	for _, tt := range []struct {
		service int
		member  string
		want    string
	}{
		{0, "b", "role=primary check=/primary leader=yes set=drain -> out"},
		{2, "b", "role=primary check=/primary leader=yes -> in"},
		{2, "c", "role=offline check=/primary leader=no -> out"},
		{1, "a", "role=primary backup check=/read-only member=absent -> out"},
		{1, "c", "role=offline backup check=/read-only noloadbalance -> out"},
	} {
		if b, _ := all[tt.service].Backend(tt.member); b.Trail != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.member, all[tt.service].Name, b.Trail, tt.want)
		}
	}
}

// TestLaws asks thousands of pictures, also those that make no sense.
func TestLaws(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	coin := func() bool { return r.IntN(2) == 0 }
	states := []string{cluster.StateRunning, cluster.ReplicationStreaming, cluster.StateStarting, ""}
	roles := []cluster.Role{cluster.Replicates, cluster.SyncStandby, cluster.QuorumStandby}
	for i := range 2000 {
		if t.Failed() {
			return
		}
		f, p := demo()
		for j := range p.Members {
			m := &p.Members[j]
			m.Running, m.Primary, m.State = coin(), coin(), states[r.IntN(len(states))]
			if m.Role = roles[r.IntN(len(roles))]; m.Name == p.Leader {
				m.Role = cluster.Leads
			}
			m.Replay = &cluster.Lag{LSN: 1, Behind: r.Int64N(100) - 10, Known: coin()}
			if coin() {
				m.Tags = cluster.Tags{"noloadbalance": coin(), "zone": pg.LSN(3)}
			}
			if coin() {
				m.Host = ""
			}
		}
		if coin() {
			gone(&p, []string{"a", "b", "c"}[r.IntN(3)])
		}
		if r.IntN(4) == 0 {
			p.Leader = "stranger"
			for j := range p.Members {
				p.Members[j].Role = cluster.Replicates
			}
		}
		table, err := Compile(f)
		if err != nil {
			t.Fatal(err)
		}
		v := View{Known: coin(), Picture: p}
		for range r.IntN(3) {
			v.Settings = append(v.Settings, Setting{Service: "replica", Member: "b", Mode: []Mode{Ready, Drain, Maint}[r.IntN(3)]})
		}
		all := table.Routes(v)
		if again := table.Routes(v); fmt.Sprint(all) != fmt.Sprint(again) {
			t.Fatalf("%d: the same view, other routes:\n%v\n%v", i, all, again)
		}
		for _, s := range all {
			seen := map[string]bool{}
			for _, b := range s.Backends {
				if seen[b.Member] {
					t.Errorf("%d: %s is twice in %s", i, b.Member, s.Name)
				}
				seen[b.Member] = true
				if b.Open() != strings.HasSuffix(b.Trail, "-> in") {
					t.Errorf("%d: %s of %s: open %v, but %q", i, b.Member, s.Name, b.Open(), b.Trail)
				}
			}
			main := slices.ContainsFunc(s.Backends, func(b Backend) bool { return !b.Backup && b.Open() })
			for _, b := range s.Usable() {
				m, here := p.Member(b.Member)
				switch {
				case !v.Known || !here || b.Addr == "" || b.Weight == 0 || b.Mode != Ready:
					t.Errorf("%d: %s leads to %+v", i, s.Name, b)
				case b.Backup && main:
					t.Errorf("%d: %s leads to a backup beside a main one: %+v", i, s.Name, b)
				case s.Leading && (b.Member != p.Leader || !m.Primary || !m.Running || b.Epoch != p.Epoch):
					t.Errorf("%d: %s leads to %+v, who does not lead", i, s.Name, m)
				case m.Primary && b.Epoch == 0:
					t.Errorf("%d: %s leads to %+v: it may write, and nothing proves that it may", i, s.Name, m)
				}
			}
		}
	}
}

// TestValuesThatCannotBeRead puts what is no value of its kind into every key,
// one at a time: a service leads to no server that does not pass its check.
func TestValuesThatCannotBeRead(t *testing.T) {
	good := map[string]string{
		cluster.KeyLeader: "a", cluster.KeyConfig: `{"ttl": 30}`, cluster.KeyStatus: `{"optime": 100}`, cluster.KeySync: `{"leader": "a", "sync_standby": "b"}`,
		cluster.KeyHistory: "[]", cluster.KeyFailover: "{}", cluster.KeyInitialize: "7388", cluster.KeyTerm: `{"timeline": 1}`,
		cluster.DirMembers + "a": `{"conn_url": "postgres://10.10.10.11:5432/postgres", "api_url": "http://10.10.10.11:8008/patroni", "state": "running", "role": "primary"}`,
		cluster.DirMembers + "b": `{"conn_url": "postgres://10.10.10.12:5432/postgres", "api_url": "http://10.10.10.12:8008/patroni", "state": "running", "role": "replica", "replication_state": "streaming", "receive_lsn": 100, "replay_lsn": 100}`,
	}
	f, _ := demo()
	table, err := Compile(f)
	if err != nil {
		t.Fatal(err)
	}
	whole := "primary: a; replica: b; default: a; offline: b"
	for key := range good {
		for _, value := range []string{good[key], "", "null", "[]", "{}", "0", "\"text\"", "{", "\x00\xff", `{"conn_url": 5}`, `{"conn_url": "postgres://[::1:5432/"}`, `{"tags": []}`, `{"state": {}}`, strings.Repeat("[", 10000)} {
			keys := map[string]cluster.KV{}
			for k, v := range good {
				keys[k] = cluster.KV{Key: k, Value: []byte(v), Mod: 5, Create: 5}
			}
			keys[key] = cluster.KV{Key: key, Value: []byte(value), Mod: 6, Create: 5}
			if key == cluster.KeyLeader { // an agent's, whatever it says
				keys[key] = cluster.KV{Key: key, Value: []byte(value), Mod: 6, Create: 5, Lease: 7}
			}
			p := cluster.PictureOf(cluster.Parse(9, keys))
			got := usable(t, f, View{Known: true, Picture: p})
			if value == good[key] && got != whole {
				t.Errorf("all is well: %s, want %s", got, whole)
			}
			for _, s := range table.Routes(View{Known: true, Picture: p}) {
				for _, b := range s.Usable() {
					if m, ok := p.Member(b.Member); !ok || m.Host == "" || s.Leading && b.Member != p.Leader {
						t.Errorf("%s = %q: %s leads to %+v", key, value, s.Name, b)
					}
				}
			}
			if !strings.HasPrefix(key, cluster.DirMembers) && key != cluster.KeyLeader && key != cluster.KeyConfig && got != whole {
				t.Errorf("%s = %q: %s, want %s", key, value, got, whole)
			}
		}
	}
}

// FuzzService looks for a service that breaks more than itself.
func FuzzService(f *testing.F) {
	for _, s := range cluster.DefaultServices() {
		f.Add(s.Selector, s.Backup, s.Check, s.Dest)
	}
	f.Add("[? pg_role == `a``b`]", "`", "/replica?lag=9999999999TB&tag_", "0")
	f.Fuzz(func(t *testing.T, selector, backup, check, dest string) {
		front, p := demo()
		front.Services = []cluster.Service{{Name: "s", Port: 1, Selector: selector, Backup: backup, Check: check, Dest: dest}}
		table, err := Compile(front)
		if err != nil {
			return
		}
		for _, s := range table.Routes(View{Known: true, Picture: p}) {
			for _, b := range s.Usable() {
				if b.Addr == "" {
					t.Errorf("nowhere: %+v", b)
				}
			}
		}
	})
}

// Whoever reads an inventory warns of the checks that nobody here answers.
func TestAnsweredChecksAreThoseThatAreKnown(t *testing.T) {
	paths := append([]string{
		"", "/x", "/raed-only", "/replica?lag=1MB", "/standby_leader", "/read-only-syn", "/sync/", "/xreplicax", "/read-only/x", "/healthy", "/patroni", "/quorum?tag_a=b",
		"/read-only-quorums", "/asyn",
	}, cluster.CheckPaths...)
	for _, path := range paths {
		if known := parseCheck(path).kind != never; cluster.Answered(path) != known {
			t.Errorf("%q: answered %v, known %v", path, cluster.Answered(path), known)
		}
	}
}
