package hba

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const file = `# the pooler's rules
local   all            all                                  peer map=os
local   pgbouncer      "all",ann                            trust
hostssl "all"          all           all                    cert map="the map"
host    replication    repl          10.0.0.0/8             scram-sha-256
host    sameuser       all           10.0.0.0   255.0.0.0   md5   # a comment
hostnossl all          all           0.0.0.0/0              reject
host    app, "it's",b  @readers,bob  2001:db8::/32          password
host    all            all           samenet                scram-sha-256
host    all            root          samehost               trust
`

func rules(t *testing.T) Rules {
	t.Helper()
	rs, problems := Parse(file, func(name string) (string, error) {
		if name != "readers" {
			return "", errors.New("not there")
		}
		return "carl, dora\n# nobody\nemil\n", nil
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return rs
}

func TestMatch(t *testing.T) {
	rs := rules(t)
	own := []netip.Prefix{netip.MustParsePrefix("192.168.1.7/24"), netip.MustParsePrefix("fd00::7/64")}
	tcp := func(addr string, tls bool, db, user string) Client {
		return Client{Addr: netip.MustParseAddr(addr), TLS: tls, Database: db, User: user, Own: own}
	}
	for _, tt := range []struct {
		name string
		c    Client
		line int // 0: none
	}{
		{"a socket", Client{Unix: true, Database: "app", User: "ann"}, 2},
		{"a database called all", tcp("192.0.2.1", true, "all", "x"), 4},
		{"replication", Client{Addr: netip.MustParseAddr("10.1.2.3"), TLS: true, User: "repl", Replication: true}, 5},
		{"replication by another", Client{Addr: netip.MustParseAddr("10.1.2.3"), TLS: true, User: "ann", Replication: true}, 0},
		{"a database called replication", tcp("10.1.2.3", true, "replication", "repl"), 0},
		{"her own database", tcp("10.1.2.3", true, "ann", "ann"), 6},
		{"her own database, in IPv6 that means IPv4", tcp("::ffff:10.1.2.3", true, "ann", "ann"), 6},
		{"another's database", tcp("10.1.2.3", true, "bob", "ann"), 0},
		{"without TLS", tcp("10.1.2.3", false, "bob", "ann"), 7},
		{"a reader", tcp("2001:db8::1", true, "it's", "emil"), 8},
		{"no reader", tcp("2001:db8::1", true, "it's", "ann"), 0},
		{"readers elsewhere", tcp("2001:db9::1", true, "it's", "emil"), 0},
		{"the same net", tcp("192.168.1.9", true, "app", "ann"), 9},
		{"the same net of IPv6", tcp("fd00::9%eth0", true, "app", "ann"), 9},
		{"another net", tcp("192.168.2.9", true, "app", "root"), 0},
	} {
		r, ok := rs.Match(tt.c)
		if r.Line != tt.line || ok != (tt.line > 0) {
			t.Errorf("%s: line %d, want %d", tt.name, r.Line, tt.line)
		}
	}
	if rs[0].Map != "os" || rs[0].Method != Peer || rs[2].Map != "the map" {
		t.Errorf("maps: %+v, %+v", rs[0], rs[2])
	}
}

func TestLinesThatAreSkipped(t *testing.T) {
	for line, why := range map[string]string{
		"hos all all all trust":                             "unknown type",
		"hostgssenc all all all trust":                      "not supported",
		"host":                                              "a name expected",
		"host all":                                          "a name expected",
		"host all all":                                      "an address expected",
		"host all all 10.0.0.0/8":                           "method",
		"host all all 10.0.0.0 trust":                       "no mask",
		"host all all 10.0.0.0 ::ff00 trust":                "no mask",
		"host all all 10.0.0.0/33 trust":                    "mask",
		"host all all 10.0.0.0/-1 trust":                    "mask",
		"host all all 10.0.0.1/8 trust":                     "bits",
		"host all all fe80::1%eth0/128 trust":               "no address",
		"host all all db.example.org trust":                 "names of hosts",
		"host all +admins all trust":                        "+admins",
		"host samerole all all trust":                       "samerole",
		"host all /^a all trust":                            "/^a",
		"host all all all ident":                            "ident",
		"host all all all ldap ldapserver=x":                "ldap",
		"host all all all trust map=x":                      "cert and peer",
		"host all all all scram-sha-256 clientcert=1":       "clientcert",
		"host all all all peer":                             "unix socket",
		"host all all all cert":                             "hostssl",
		"local all all trust trust":                         "parameter",
		`local all "ann trust`:                              "a name expected",
		"local all ann, trust":                              "method",
		"local @nobody all trust":                           "not there",
		"local all @loop trust":                             "not included",
		`host all all "10.0.0.0/8" trust`:                   "an address expected",
		`"host" all all all trust`:                          "unknown type",
		`host all all all "trust"`:                          "method",
		strings.Repeat("x", 5000):                           "unknown type",
		"local all all trust\x00":                           "method",
		"host all all 10.0.0.0/8 255.0.0.0 scram-sha-256":   "method",
		"host all all 1.2.3.4/0x8 scram-sha-256":            "mask",
		"host all all 256.0.0.0/8 scram-sha-256":            "no address",
		"local all all scram-sha-256 map":                   "map",
		"hostssl all all all cert map=":                     "",
		"local all all reject # the rest of the line, even": "",
	} {
		rs, problems := Parse("\n"+line+"\nlocal all all trust\n", func(name string) (string, error) {
			if name == "loop" {
				return "@loop", nil
			}
			return "", errors.New("not there")
		})
		if why == "" {
			if len(problems) > 0 || len(rs) != 2 {
				t.Errorf("%q: %v", line, problems)
			}
			continue
		}
		if len(problems) != 1 || problems[0].Line != 2 || !strings.Contains(problems[0].What, why) || len(rs) != 1 || rs[0].Line != 3 {
			t.Errorf("%.60q: %v and %d rules, want one problem about %q", line, problems, len(rs), why)
		}
	}
}

// An address matches a network exactly if net/netip says that it is inside.
func TestNetworks(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "4") {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "b")))
		}
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "b"))).Unmap()
	})
	rapid.Check(t, func(t *rapid.T) {
		base := addr.Draw(t, "net")
		p, err := base.Prefix(rapid.IntRange(0, base.BitLen()).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		client := addr.Draw(t, "client")
		if rapid.Bool().Draw(t, "near") {
			b := base.AsSlice()
			b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			client, _ = netip.AddrFromSlice(b)
		}
		rs, problems := Parse("host all all "+p.String()+" trust", nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		_, ok := rs.Match(Client{Addr: client, Database: "d", User: "u"})
		if ok != p.Contains(client.Unmap()) {
			t.Fatalf("%s in %s: %v", client, p, ok)
		}
	})
}

func TestMaps(t *testing.T) {
	m, problems := ParseMap("# system users\nos root all\nos www \"web app\" # hers\nos www other\nquoted x \"all\"\nbad line\nre /^x y\n\"open\n")
	if len(problems) != 3 || problems[0].Line != 6 || problems[1].Line != 7 || problems[2].Line != 8 {
		t.Errorf("problems: %v", problems)
	}
	for _, tt := range []struct {
		name, system, user string
		want               bool
	}{
		{"", "ann", "ann", true},
		{"", "ann", "bob", false},
		{"", "", "", false},
		{"os", "root", "anybody", true},
		{"os", "www", "web app", true},
		{"os", "www", "other", true},
		{"os", "www", "ann", false},
		{"os", "ann", "ann", false},
		{"none", "root", "root", false},
		{"quoted", "x", "all", true},
		{"quoted", "x", "ann", false},
	} {
		if got := m.Allows(tt.name, tt.system, tt.user); got != tt.want {
			t.Errorf("map %q: %q as %q: %v", tt.name, tt.system, tt.user, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file)
	f.Add("host all all ::/0 ::/0 trust\nlocal \"")
	f.Fuzz(func(t *testing.T, text string) {
		rs, problems := Parse(text, func(string) (string, error) { return text, nil })
		if lines := strings.Count(text, "\n") + 1; len(rs)+len(problems) > lines {
			t.Fatalf("%d rules and %d problems of %d lines", len(rs), len(problems), lines)
		}
		for _, addr := range []string{"10.0.0.1", "::1"} {
			rs.Match(Client{Addr: netip.MustParseAddr(addr), Database: "d", User: "u"})
		}
		rs.Match(Client{Unix: true})
		ParseMap(text)
	})
}
