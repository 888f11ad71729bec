package admin

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"howdah/exposition"
	"howdah/pgwire"
	"howdah/test/linted"
)

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		query string
		want  Command
		tag   string
	}{
		{"SHOW POOLS", Command{Verb: Show, Arg: "pools"}, "SHOW"},
		{" show\tPools\n; ", Command{Verb: Show, Arg: "pools"}, "SHOW"},
		{"select version;", Command{Verb: Show, Arg: "version"}, "SHOW"},
		{`"show" "stats"`, Command{Verb: Show, Arg: "stats"}, "SHOW"},
		{"SHOW TimeZone", Command{Verb: Show, Arg: "timezone"}, "SHOW"},
		{"PAUSE", Command{Verb: Pause}, "PAUSE"},
		{`pause "My ""db"""`, Command{Verb: Pause, Arg: `My "db"`}, "PAUSE"},
		{"RESUME demo", Command{Verb: Resume, Arg: "demo"}, "RESUME"},
		{"kill_client 12", Command{Verb: KillClient, Arg: "12", Client: 12}, "KILL_CLIENT"},
		{"kill_client x", Command{Verb: KillClient, Arg: "x"}, "KILL_CLIENT"},
		{"shutdown Wait_For_Clients", Command{Verb: Shutdown, Arg: "WAIT_FOR_CLIENTS"}, "SHUTDOWN"},
		{"set default_pool_size = 21", Command{Verb: Set, Arg: "default_pool_size", Value: "21"}, "SET default_pool_size=21"},
		{"SET ignore_startup_parameters TO 'a, ''b'''", Command{Verb: Set, Arg: "ignore_startup_parameters", Value: "a, 'b'"}, "SET ignore_startup_parameters=a, 'b'"},
		{"set logfile=''", Command{Verb: Set, Arg: "logfile", Value: ""}, "SET logfile="},
		{"set client_encoding to 'UTF8'", Command{Verb: Set, Arg: "client_encoding", Value: "UTF8"}, "SET"},
	} {
		c, err := Parse(tt.query)
		if err != nil || c != tt.want || c.Tag() != tt.tag {
			t.Errorf("%q: %+v, %v, tag %q; want %+v, %q", tt.query, c, err, c.Tag(), tt.want, tt.tag)
		}
	}
}

// What a real PgBouncer 1.18 answered, and where it differs 1.25's source.
func TestWhatIsNoCommand(t *testing.T) {
	invalid := func(q string) string { return "invalid command '" + q + "', use SHOW HELP;" }
	for _, query := range []string{
		"", ";", "begin", "commit", "SHOW", "SHOW pools extra", "SELECT 1", "SHOW FOO", "RELOAD x", "SUSPEND x", "SHUTDOWN foo",
		"show pools; show pools", "SHOW pools --", "set a", "set = b", "pause 'demo'", "show pools\x00", "PAUSE ünï",
	} {
		if _, err := Parse(query); err == nil || err.Error() != invalid(query) {
			t.Errorf("%q: %v", query, err)
		}
	}
	for _, query := range []string{
		"ABCDEFGHIJKLMNOPQRS", "PAUSE " + strings.Repeat("a", 64), "set " + strings.Repeat("a", 64) + " = b", "set a = '" + strings.Repeat("b", 255) + "'", `set "" = b`,
	} {
		if _, err := Parse(query); err == nil || err.Error() != "bad arguments" {
			t.Errorf("%.20q: %v", query, err)
		}
	}
	if _, err := Parse(strings.Repeat("a ", 1<<20)); err == nil || len(err.Error()) > 2*queryMax {
		t.Error("an error repeats a query of any length")
	}
}

func TestCheck(t *testing.T) {
	running := Facts{Databases: []DatabaseFact{{Name: "demo"}, {Name: "held", Paused: true}}, Clients: []Socket{{ID: 7, State: "active"}, {ID: 8, State: "login"}}}
	paused, covered, ending, free := running, running, running, running
	paused.Mode, covered.Fallback = Paused, true
	ending.Mode, ending.ShuttingDown = Paused, true
	free.Databases = free.Databases[:1]
	for _, tt := range []struct {
		query string
		f     Facts
		admin bool
		want  string
	}{
		{"show pools", running, false, ""},
		{"show fds", running, false, "admin access needed"},
		{"show fds", running, true, "SHOW FDS is not supported: sockets are handed over by the supervisor"},
		{"set timezone = utc", running, false, ""},
		{"set verbose = 1", running, false, "admin access needed"},
		{"kill_client 7", running, false, "admin access needed"},
		{"kill_client x", running, false, "admin access needed"},
		{"shutdown", running, false, "admin access needed"},
		{"reload", running, true, ""},
		{"pause", running, true, ""},
		{"pause", paused, true, "already suspended/paused"},
		{"pause demo", paused, true, "already suspended/paused"},
		{"pause held", running, true, ""},
		{"pause none", running, true, "no such database: none"},
		{"pause none", covered, true, ""},
		{"pause pgbouncer", running, true, "cannot pause admin db: pgbouncer"},
		{"kill pgbouncer", running, true, "cannot kill admin db: pgbouncer"},
		{"kill none", running, true, "no such database: none"},
		{"kill", running, true, ""},
		{"resume", running, true, "pooler is not paused/suspended"},
		{"resume", paused, true, ""},
		{"resume", ending, true, "pooler is shutting down"},
		{"resume demo", running, true, "database demo is not paused"},
		{"resume held", running, true, ""},
		{"resume none", covered, true, "no such database: none"},
		{"resume pgbouncer", running, true, "database pgbouncer is not paused"},
		{"enable", running, true, "a database is required"},
		{"disable none", running, true, "no such database: none"},
		{"disable pgbouncer", running, true, "cannot disable admin db: pgbouncer"},
		{"enable pgbouncer", running, true, "cannot enable admin db: pgbouncer"},
		{"disable demo", running, true, ""},
		{"reconnect", running, true, ""},
		{"reconnect none", running, true, "no such database: none"},
		{"reconnect pgbouncer", running, true, "cannot reconnect admin db: pgbouncer"},
		{"wait_close pgbouncer", running, true, "cannot wait in admin db: pgbouncer"},
		{"suspend", running, true, "cannot suspend with paused databases"},
		{"suspend", free, true, ""},
		{"suspend", paused, true, "already suspended/paused"},
		{"kill_client x", running, true, "invalid client pointer supplied"},
		{"kill_client 0", running, true, "invalid client pointer supplied"},
		{"kill_client 9", running, true, "client not found"},
		{"kill_client 8", running, true, "client not found"},
		{"kill_client 7", running, true, ""},
	} {
		c, err := Parse(tt.query)
		if err != nil {
			t.Errorf("%q: %v", tt.query, err)
			continue
		}
		if err := c.Check(tt.f, tt.admin); fmt.Sprint(err) != tt.want && (err != nil || tt.want != "") {
			t.Errorf("%q: %v, want %q", tt.query, err, tt.want)
		}
	}
}

// full has at least one of everything.
func full() Facts {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	total := Totals{1, 2, 3, 4, 5, 6 * time.Second, 7 * time.Millisecond, 8 * time.Microsecond, 9, 10, 11}
	return Facts{
		Now: now, Mode: Paused, Port: 6432, Consoles: 1, Fallback: true,
		Databases: []DatabaseFact{
			{Name: "zoo", Host: "a,b", Port: 5432, Database: "z", PoolSize: 20, ServerLifetime: time.Hour, LoadBalanceHosts: "round-robin", Disabled: true},
			{Name: "app", Port: 5432, Database: "app", ForceUser: "ann", PoolMode: "session", Paused: true},
		},
		Users:    []User{{Name: "ann", PoolSize: 5, PoolMode: "session"}, {Name: `a"b\`}},
		Pools:    []Pool{{Database: "app", User: "ann", ClientsActive: 3, ClientsWaiting: 2, Idle: 1, MaxWait: 1500 * time.Millisecond, Mode: "session"}},
		Clients:  []Socket{{ID: 17, Link: 18, User: "ann", Database: "app", State: "active", Addr: "::1", Port: 4, Connected: now, Wait: 2500 * time.Millisecond, TLS: "TLSv1.3", Pending: 9}, {ID: 19, State: "login"}},
		Servers:  []Socket{{ID: 18, Link: 17, User: "ann", Database: "app", State: "new", Addr: "unix", PID: 5, Prepared: 3}},
		Settings: []Setting{{Key: "pool_mode", Value: "session", Default: "session", Changeable: true}, {Key: "listen_port", Value: "6432"}},
		Stats:    []Stat{{Database: "app", Total: total, Last: total, Period: 2 * time.Second}},
		Caches:   []Cache{{"client_cache", 100, 2, 3}},
		Hosts:    []Host{{"db", 5 * time.Second, []string{"10.0.0.1", "10.0.0.2"}}}, Zones: []Zone{{"example.", 1 << 31, 1}}, Peers: []Peer{{ID: 2}},
	}
}

// table reads the answer to a SHOW as psql -A would print it.
func table(t *testing.T, name string, f Facts) string {
	t.Helper()
	b := AppendShow(nil, Command{Verb: Show, Arg: name}, f)
	var out strings.Builder
	width := -1
	for len(b) > 0 {
		m, n, err := pgwire.ReadMessage(b, 1<<20)
		if err != nil || n == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		b = b[n:]
		body := m.Body
		switch m.Type {
		case 'T':
			width = int(body[0])<<8 | int(body[1])
			for i, c := range views[name].description() {
				out.WriteString("|"[:min(i, 1)] + c.Name)
			}
		case 'D':
			if got := int(body[0])<<8 | int(body[1]); got != width {
				t.Errorf("%s: a row of %d values, %d columns", name, got, width)
			}
			out.WriteString("\n")
			body = body[2:]
			for i := range width {
				size := int(int32(uint32(body[0])<<24 | uint32(body[1])<<16 | uint32(body[2])<<8 | uint32(body[3])))
				if i > 0 {
					out.WriteString("|")
				}
				if body = body[4:]; size < 0 {
					out.WriteString("NULL")
					continue
				}
				out.Write(body[:size])
				body = body[size:]
			}
		case 'C':
			if string(body) != "SHOW\x00" {
				t.Errorf("%s: tag %q", name, body)
			}
		}
	}
	return out.String()
}

func TestRows(t *testing.T) {
	f := full()
	for name, want := range map[string]string{
		"version":        "PgBouncer 1.25.2",
		"state":          "active|no\npaused|yes\nsuspended|no",
		"config":         "listen_port|6432||no\npool_mode|session|session|yes",
		"databases":      "app|NULL|5432|app|ann|0|0|0|0|session|NULL|0|0|0|0|1|0\npgbouncer|NULL|6432|pgbouncer|pgbouncer|2|0|0|0|statement|NULL|0|0|0|1|0|0\nzoo|a,b|5432|z|NULL|20|0|0|3600|NULL|round-robin|0|0|0|0|0|1",
		"users":          "a\"b\\|||NULL|0|0|0|0\nann|        5||session|0|0|0|0",
		"pools":          "app|ann|3|2|0|0|0|0|0|1|0|0|0|1|500000|session|NULL\npgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement|NULL",
		"lists":          "databases|3\nusers|2\npeers|1\npools|2\npeer_pools|1\nfree_clients|0\nused_clients|3\nlogin_clients|1\nfree_servers|0\nused_servers|1\ndns_names|0\ndns_zones|0\ndns_queries|0\ndns_pending|0",
		"clients":        "C|ann|app|none|active|::1|4||0|2026-08-01 12:00:00 UTC||2|500000|0|0x11|0x12|0|TLSv1.3||0|17",
		"servers":        "S|ann|app|none|new|unix|0||0|||0|0|0|0x12|0x11|5|||3|18",
		"active_sockets": "C|ann|app|none|cl_active|::1|4||0|2026-08-01 12:00:00 UTC||2|500000|0|0x11|0x12|0|TLSv1.3||0|17|0|0|0|0|9|0|9",
		"stats":          "app|1|2|3|4|5|6000000|7000|8|9|10|11|0|1|1|2|2|3000000|2333|8|4|5|5\npgbouncer|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0",
		"stats_totals":   "app|1|2|3|4|5|6000000|7000|8|9|10|11\npgbouncer|0|0|0|0|0|0|0|0|0|0|0",
		"stats_averages": "app|0|1|1|2|2|3000000|2333|8|4|5|5\npgbouncer|0|0|0|0|0|0|0|0|0|0|0",
		"mem":            "client_cache|100|2|3|500",
		"dns_hosts":      "db|5|10.0.0.1,10.0.0.2",
		"dns_zones":      "example.|2147483648|1",
		"peers":          "2|NULL|0|0",
		"peer_pools":     "2|0|0|0|0",
	} {
		_, got, _ := strings.Cut(table(t, name, f), "\n")
		if got != want {
			t.Errorf("SHOW %s:\n%s\nwant\n%s", name, got, want)
		}
	}
	if got := table(t, "sockets", f); strings.Count(got, "\n") != 3 || !strings.Contains(got, "|sv_login|") || !strings.Contains(got, "|cl_login|") {
		t.Errorf("SHOW sockets:\n%s", got)
	}
	if got := table(t, "totals", f); !strings.Contains(got, "\ntotal_client_bytes|4\n") || !strings.HasSuffix(got, "\navg_ps_bind_count|5") || strings.Count(got, "\n") != 22 {
		t.Errorf("SHOW totals:\n%s", got)
	}
}

func TestEveryViewHasATypeForEachColumn(t *testing.T) {
	for name, v := range views {
		if n := len(strings.Fields(v.columns)); n != len(v.types) {
			t.Errorf("%s: %d columns, %d types", name, n, len(v.types))
		}
		if name != strings.ToLower(name) || !strings.Contains(help, strings.ToUpper(name)) {
			t.Errorf("%s is not in the help", name)
		}
		table(t, name, full())
		table(t, name, Facts{})
	}
}

func TestAveragesAreThoseOfTheLastPeriod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		now := time.Unix(1000, 0)
		n := rapid.Custom(func(t *rapid.T) Totals {
			u, d := rapid.Uint64Max(1<<30), rapid.Int64Range(0, 1<<40)
			return Totals{
				u.Draw(t, "a"), u.Draw(t, "x"), u.Draw(t, "q"), u.Draw(t, "r"), u.Draw(t, "s"),
				time.Duration(d.Draw(t, "xt")), time.Duration(d.Draw(t, "qt")), time.Duration(d.Draw(t, "wt")), 1, 2, 3,
			}
		})
		total := n.Draw(t, "before")
		w.Turn(now, map[string]Totals{"app": total})
		if s := w.Stat("app", total); s.average() != (Totals{}) || s.Total != total {
			t.Fatalf("averages before a period was over: %+v", s)
		}
		added := n.Draw(t, "added")
		w.Turn(now.Add(time.Minute), map[string]Totals{"app": total.Plus(added), "new": added})
		s := w.Stat("app", total.Plus(added).Plus(n.Draw(t, "since")))
		if s.Last != added || s.Period != time.Minute {
			t.Fatalf("the period added %+v, not %+v", s.Last, added)
		}
		a := s.average()
		if a.Queries != added.Queries/60 || added.Xacts > 0 && a.XactTime != added.XactTime/time.Duration(added.Xacts) {
			t.Fatalf("averages %+v of %+v", a, added)
		}
		if s := w.Stat("new", added); s.Last != added {
			t.Fatalf("a database that is new: %+v", s)
		}
	})
}

func TestForeignMessagesEndTheSession(t *testing.T) {
	for kind, want := range map[byte]string{
		'P': "extended query protocol not supported by admin console", 'B': "extended query protocol not supported by admin console",
		'F': "unsupported packet type for admin console: 70",
	} {
		b := AppendForeign(nil, kind)
		if !bytes.Contains(b, []byte("M"+want+"\x00")) || !bytes.HasSuffix(b, []byte("SFATAL\x00VFATAL\x00C08P01\x00Mbad packet\x00\x00")) {
			t.Errorf("%c: %q", kind, b)
		}
	}
}

func TestMetrics(t *testing.T) {
	var b exposition.Text
	f := full()
	f.Databases[0].Host = "a\"\\\nb"
	Metrics(&b, f)
	text := string(b.Bytes())
	linted.Metrics(t, b.Bytes())
	for _, line := range []string{
		"# TYPE pgbouncer_up gauge\npgbouncer_up 1\n",
		"pgbouncer_version 12502\n",
		`pgbouncer_list_items{list="used_clients"} 3` + "\n",
		`pgbouncer_database_server_lifetime{datname="zoo",host="a\"\\\nb",port="5432",real_datname="z"} 3600` + "\n",
		`pgbouncer_database_reserve_pool{datname="app",host="",port="5432",real_datname="app"} 0` + "\n",
		"# TYPE pgbouncer_stat_total_query_time counter\n" + `pgbouncer_stat_total_query_time{datname="app"} 0.007` + "\n",
		`pgbouncer_stat_avg_xact_time{datname="app"} 3` + "\n",
		"# TYPE pgbouncer_stat_avg_recv gauge\n" + `pgbouncer_stat_avg_recv{datname="app"} 2` + "\n",
		`pgbouncer_pool_active_clients{datname="app",user="ann",pool_mode="session",load_balance_hosts=""} 3` + "\n",
		`pgbouncer_pool_maxwait_us{datname="app",user="ann",pool_mode="session",load_balance_hosts=""} 500000` + "\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("missing %q", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Two pools of one database are one in the metrics; nobody is counted twice.
func TestTogether(t *testing.T) {
	one := Facts{
		Consoles: 1, Unlisted: Unlisted{Clients: 3, Login: 1, Servers: 2},
		Pools:     []Pool{{Database: "app", User: "ann", Mode: "session", ClientsActive: 3, Idle: 2, MaxWait: time.Second}},
		Databases: []DatabaseFact{{Name: "app", PoolSize: 20, Connections: 2}},
		Stats:     []Stat{{Database: "app", Total: Totals{Queries: 5, Sent: 7}}},
	}
	other := Facts{
		Unlisted:  Unlisted{Clients: 4, Servers: 1},
		Pools:     []Pool{{Database: "app", User: "ann", Mode: "session", ClientsWaiting: 4, Active: 1, MaxWait: 2 * time.Second}, {Database: "app", User: "ann", Mode: "transaction"}},
		Databases: []DatabaseFact{{Name: "app", PoolSize: 20, Connections: 1, Paused: true}, {Name: "new"}},
		Stats:     []Stat{{Database: "app", Total: Totals{Queries: 1}}},
	}
	want := Facts{
		Consoles: 1, Unlisted: Unlisted{Clients: 7, Login: 1, Servers: 3},
		Pools: []Pool{
			{Database: "app", User: "ann", Mode: "session", ClientsActive: 3, ClientsWaiting: 4, Idle: 2, Active: 1, MaxWait: 2 * time.Second},
			{Database: "app", User: "ann", Mode: "transaction"},
		},
		Databases: []DatabaseFact{{Name: "app", PoolSize: 40, Connections: 3, Paused: true}, {Name: "new"}},
		Stats:     []Stat{{Database: "app", Total: Totals{Queries: 6, Sent: 7}}},
	}
	got := Together([]Facts{one, other})
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var b exposition.Text
	Metrics(&b, got)
	linted.Metrics(t, b.Bytes())
	if line := `pgbouncer_list_items{list="used_clients"} 8` + "\n"; !strings.Contains(string(b.Bytes()), line) {
		t.Errorf("missing %q", line)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("show pools;")
	f.Add(`set "a""b" to 'c''d' ;`)
	f.Fuzz(func(t *testing.T, query string) {
		c, err := Parse(query)
		if err != nil {
			if len(err.Error()) > queryMax+64 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			AppendError(nil, err)
			return
		}
		if len(c.Arg) > argMax || len(c.Value) > valueMax {
			t.Fatalf("%+v is too long", c)
		}
		if err := c.Check(full(), true); err == nil && c.Verb == Show {
			AppendShow(nil, c, full())
		}
	})
}
