package conf_test

import (
	"strings"
	"testing"

	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/spec"
)

func node(with func(*spec.Node)) spec.Node {
	n := spec.Node{
		Cluster: "demo", Member: "demo-1", Address: "10.0.0.1",
		Paths:    spec.Paths{Sockets: "/run/demo"},
		Postgres: spec.Postgres{Port: 5432, Parameters: map[string]string{}},
	}
	if with != nil {
		with(&n)
	}
	return n
}

func TestSettings(t *testing.T) {
	least := map[string]int{"max_connections": 300, "max_worker_processes": 8}
	for _, tt := range []struct {
		name       string
		with       func(*spec.Node)
		facts      conf.Facts
		key, value string
	}{
		{"its own address", nil, conf.Facts{}, "listen_addresses", "10.0.0.1"},
		{"its own parameter wins over a default", func(n *spec.Node) { n.Postgres.Parameters["shared_buffers"] = "8GB" }, conf.Facts{}, "shared_buffers", "8GB"},
		{"not over what we rest on", func(n *spec.Node) { n.Postgres.Parameters["restart_after_crash"] = "on" }, conf.Facts{}, "restart_after_crash", "off"},
		{"whom to follow is not a parameter", func(n *spec.Node) { n.Postgres.Parameters["primary_conninfo"] = "host=x" }, conf.Facts{}, "primary_conninfo", ""},
		{"minimal is too little", func(n *spec.Node) { n.Postgres.Parameters["wal_level"] = "minimal" }, conf.Facts{}, "wal_level", "replica"},
		{"logical is not", func(n *spec.Node) { n.Postgres.Parameters["wal_level"] = "logical" }, conf.Facts{}, "wal_level", "logical"},
		{"a primary's own limit", nil, conf.Facts{Least: least}, "max_connections", "100"},
		{"a standby's is its primary's at least", nil, conf.Facts{Standby: true, Least: least}, "max_connections", "300"},
		{"a standby's may be more", func(n *spec.Node) { n.Postgres.Parameters["max_connections"] = "500" }, conf.Facts{Standby: true, Least: least}, "max_connections", "500"},
		{"a socket directory with a comma", func(n *spec.Node) { n.Paths.Sockets = "/run/a,b" }, conf.Facts{}, "unix_socket_directories", `"/run/a,b"`},
		{"no TLS without a key", nil, conf.Facts{}, "ssl", ""},
		{"TLS with one", nil, conf.Facts{Key: "/k"}, "ssl", "on"},
	} {
		if got := conf.Settings(node(tt.with), tt.facts)[tt.key]; got != tt.value {
			t.Errorf("%s: %s = %q, want %q", tt.name, tt.key, got, tt.value)
		}
	}
}

func TestFollowing(t *testing.T) {
	up := pg.Upstream{Name: "demo-2", Host: "10.0.0.2", Port: 5433, Slot: "demo_1"}
	s := conf.Following(node(nil), up, "/var/a b/pgpass")
	for _, part := range []string{"host=10.0.0.2", "port=5433", "application_name=demo-1", "user=replicator", "passfile='/var/a b/pgpass'", "sslmode=prefer"} {
		if !strings.Contains(s["primary_conninfo"], part) {
			t.Errorf("primary_conninfo %q lacks %s", s["primary_conninfo"], part)
		}
	}
	if host, port := conf.HostPort(s["primary_conninfo"]); host != "10.0.0.2" || port != "5433" || s["primary_slot_name"] != "demo_1" {
		t.Errorf("follows %s:%s by slot %q", host, port, s["primary_slot_name"])
	}
	nobody := conf.Following(node(nil), pg.Upstream{}, "")
	if got, ok := nobody["primary_conninfo"]; got != "" || !ok {
		t.Errorf("nobody: primary_conninfo %q, %v, want it set to nothing", got, ok)
	}
	tls := node(func(n *spec.Node) { n.TLS = spec.TLS{CA: "/ca", Cert: "/c", Key: "/k"} })
	if c := conf.Conninfo(tls, up, "").String(); !strings.Contains(c, "sslmode=verify-ca sslrootcert=/ca") {
		t.Errorf("with TLS: %s", c)
	}
}

// A server of another cluster: under a name of its own, since that one may have a member
// of ours; verified if it is kin.
func TestFollowingAnotherCluster(t *testing.T) {
	n := node(nil)
	n.Cluster, n.Member, n.TLS.CA, n.Postgres.Delay, n.Postgres.Kin = "far", "far-1", "/ca", "2h", []string{"10.1.1.1"}
	for _, tt := range []struct {
		up        pg.Upstream
		has, lack string
	}{
		{pg.Upstream{Name: "x", Host: "10.1.1.1", Port: 5433, Foreign: true}, "application_name=far:far-1 sslmode=verify-ca", "target_session_attrs"},
		{pg.Upstream{Name: "x", Host: "10.1.1.2", Port: 5433, Foreign: true}, "sslmode=prefer", "verify-ca"},
		{pg.Upstream{Name: "x", Host: "a,b", Port: 5433, Foreign: true}, "target_session_attrs=read-write", "verify-ca"},
		{pg.Upstream{Name: "far-2", Host: "10.1.1.1", Port: 5433}, "application_name=far-1", "far:far-1"},
	} {
		words := strings.Join(strings.Fields(conf.Conninfo(n, tt.up, "").String()), " ")
		for _, want := range strings.Fields(tt.has) {
			if !strings.Contains(words, want) {
				t.Errorf("%+v: %s lacks %s", tt.up, words, want)
			}
		}
		if strings.Contains(words, tt.lack) {
			t.Errorf("%+v: %s has %s", tt.up, words, tt.lack)
		}
	}
	up := pg.Upstream{Name: "x", Host: "h", Port: 1, Delay: "5min"}
	if got := conf.Following(n, up, "")["recovery_min_apply_delay"]; got != "5min" {
		t.Errorf("delay %q, want that of the other cluster's", got)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":         `''`,
		"on":       `'on'`,
		`it's`:     `'it''s'`,
		`C:\x`:     `'C:\\x'`,
		"a\nb":     `'a\nb'`,
		"'; x = 1": `'''; x = 1'`,
	} {
		if got := conf.Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestStripRecovery(t *testing.T) {
	in := "# comment\nwork_mem = '8MB'\nprimary_conninfo = 'host=old'\nRECOVERY_TARGET_TIME='x'\n"
	got, changed := conf.StripRecovery(in)
	if want := "# comment\nwork_mem = '8MB'\n"; got != want || !changed {
		t.Errorf("got %q, %v, want %q", got, changed, want)
	}
	if _, changed := conf.StripRecovery(got); changed {
		t.Error("clean text was changed")
	}
}

// Of somebody's configuration stays what clients would notice.
func TestManners(t *testing.T) {
	text := "# DateStyle = 'german'\nport = 5433\nDateStyle='iso, dmy'\n  timezone 'Asia/Tokyo' # here\narchive_command = 'rm timezone'\ninclude 'more.conf'\ntimezone_x = 1\nshared_preload_libraries = 'pg_cron'\n"
	if got, want := conf.Manners(text), "DateStyle='iso, dmy'\ntimezone 'Asia/Tokyo' # here\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRules(t *testing.T) {
	plain := conf.Rules(node(nil), false)
	if !strings.Contains(plain, "\nhost all all 0.0.0.0/0 scram-sha-256\n") {
		t.Errorf("without an inventory nobody gets in:\n%s", plain)
	}
	tls := conf.Rules(node(func(n *spec.Node) { n.TLS.Cert = "/c" }), false)
	if strings.Contains(tls, "\nhost ") || !strings.Contains(tls, "\nhostssl all all") {
		t.Errorf("with TLS a connection in clear is let in:\n%s", tls)
	}
	own := node(func(n *spec.Node) {
		n.Postgres.HBA = []spec.AccessRule{
			{Title: "everywhere", Lines: []string{"host a a 0.0.0.0/0 reject"}},
			{Title: "where writes go", Role: "primary", Lines: []string{"host b b 0.0.0.0/0 md5"}},
			{Title: "where they do not", Role: "replica", Lines: []string{"host c c 0.0.0.0/0 md5"}},
		}
	})
	for _, tt := range []struct {
		standby bool
		in, out string
	}{{false, "host b b 0.0.0.0/0 md5", "host c c 0.0.0.0/0 md5"}, {true, "host c c 0.0.0.0/0 md5", "host b b 0.0.0.0/0 md5"}} {
		text := conf.Rules(own, tt.standby)
		if !strings.Contains(text, "\n"+tt.in) || !strings.Contains(text, "\n# "+tt.out) || !strings.Contains(text, "\nhost a a") {
			t.Errorf("standby %v: want %q and not %q in\n%s", tt.standby, tt.in, tt.out, text)
		}
		if strings.Contains(text, "all all 0.0.0.0/0") {
			t.Errorf("everybody is let in beside the inventory's rules:\n%s", text)
		}
	}
	for line := range strings.Lines(plain) {
		if strings.HasSuffix(strings.TrimSpace(line), "trust") && !strings.HasPrefix(line, "local ") {
			t.Errorf("trusted from the network: %s", line)
		}
	}
}

func TestPassfile(t *testing.T) {
	got := conf.Passfile(map[string]string{"b": `p:w\`, "a": "x"})
	if want := "*:*:*:a:x\n*:*:*:b:p\\:w\\\\\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
