package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"howdah/access/names"
	"howdah/cluster"
	"howdah/nodefile"
	"howdah/spec"
)

// views is a cluster of three that leader leads.
func views(leader string) []names.View {
	v := names.View{Known: true, Zone: spec.Zone{Cluster: "pg-test", Suffix: ".pigsty"}, Picture: cluster.Picture{Leader: leader}}
	for i := range 3 {
		name, addr := "pg-test-"+strconv.Itoa(i+1), "10.10.10.1"+strconv.Itoa(i+1)
		v.Zone.Members = append(v.Zone.Members, spec.Named{Name: name, Address: addr})
		v.Picture.Members = append(v.Picture.Members, cluster.PictureMember{Name: name, Host: addr, Running: true})
	}
	return []names.View{v}
}

// serve runs a server of one table and returns where it listens.
func serve(t *testing.T, upstreams ...string) (s *server, udp, tcp string) {
	t.Helper()
	s = &server{log: slog.New(slog.DiscardHandler), slots: make(chan struct{}, forwards), upstreams: upstreams}
	s.table.Set(names.Make(views("pg-test-1"), []string{"fd00::10 six.pigsty"}))
	servers, err := s.listen([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, len(servers))
	for _, srv := range servers {
		go func() { ended <- srv.ActivateAndServe() }()
	}
	t.Cleanup(func() {
		stop(servers)
		for range servers {
			<-ended
		}
	})
	return s, servers[0].PacketConn.LocalAddr().String(), servers[1].Listener.Addr().String()
}

func ask(t *testing.T, network, addr, name string, kind uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	a, _, err := (&dns.Client{Net: network, Timeout: 20 * time.Second}).Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	return a
}

// What the supervisor is told follows the leader; who was asked for no file tells nobody.
func TestTell(t *testing.T) {
	n := spec.Node{Paths: spec.Paths{Run: t.TempDir()}}
	for _, file := range []string{"", "/etc/hosts"} {
		n.DNS.Hosts = file
		for leader, addr := range map[string]string{"pg-test-1": "10.10.10.11", "pg-test-2": "10.10.10.12"} {
			if err := tell(n, views(leader)); err != nil {
				t.Fatal(err)
			}
			told := nodefile.ReadNames(n)
			if file == "" && told != nil || file != "" && !slices.Contains(told, addr+" pg-test-primary") {
				t.Errorf("%q, while %s leads: %q", file, leader, told)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	_, udp, tcp := serve(t)
	for _, tt := range []struct {
		name string
		kind uint16
		want string // code and addresses
	}{
		{"pg-test.pigsty", dns.TypeA, "NOERROR 10.10.10.11"},
		{"Pg-TEST.pigsty", dns.TypeA, "NOERROR 10.10.10.11"},
		{"pg-test.pigsty", dns.TypeAAAA, "NOERROR"},
		{"pg-test.pigsty", dns.TypeMX, "NOERROR"},
		{"six.pigsty", dns.TypeAAAA, "NOERROR fd00::10"},
		{"six.pigsty", dns.TypeANY, "NOERROR fd00::10"},
		{"pg-test-replica", dns.TypeA, "NOERROR 10.10.10.12 10.10.10.13"},
		{"pg-test-9", dns.TypeA, "NXDOMAIN"},
		{"example.org", dns.TypeA, "REFUSED"},
	} {
		for _, at := range [][2]string{{"udp", udp}, {"tcp", tcp}} {
			a := ask(t, at[0], at[1], tt.name, tt.kind)
			got := dns.RcodeToString[a.Rcode]
			for _, rr := range a.Answer {
				switch rr := rr.(type) {
				case *dns.A:
					got += " " + rr.A.String()
				case *dns.AAAA:
					got += " " + rr.AAAA.String()
				}
				if h := rr.Header(); h.Ttl != ttl || h.Name != dns.Fqdn(tt.name) {
					t.Errorf("%s: %s", tt.name, rr)
				}
			}
			if got != tt.want || a.Authoritative != (a.Rcode != dns.RcodeRefused) {
				t.Errorf("%s %s %s: %s, authoritative %v; want %s", at[0], tt.name, dns.TypeToString[tt.kind], got, a.Authoritative, tt.want)
			}
		}
	}
}

// The library that programs use hears of a failover in the next answer, and that
// a name without a holder is to be asked for again.
func TestGoFollows(t *testing.T) {
	s, udp, tcp := serve(t)
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		addr := udp
		if strings.HasPrefix(network, "tcp") {
			addr = tcp
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	for _, leader := range []string{"pg-test-1", "pg-test-3"} {
		s.table.Set(names.Make(views(leader), nil))
		got, err := r.LookupHost(t.Context(), "pg-test-primary.pigsty.")
		if want := []string{strings.Replace(leader, "pg-test-", "10.10.10.1", 1)}; err != nil || !slices.Equal(got, want) {
			t.Errorf("the primary is %v, %v; want %v", got, err, want)
		}
	}
	s.table.Set(names.Make(views(""), nil))
	_, err := r.LookupHost(t.Context(), "pg-test-primary.pigsty.")
	if e, ok := err.(*net.DNSError); !ok || e.IsNotFound || !e.IsTemporary {
		t.Errorf("without a leader: %v; want a failure that passes", err)
	}
}

// What is not ours goes to another resolver, for our own networks and where it is asked for.
func TestOthersAreAsked(t *testing.T) {
	_, other, _ := serve(t) // it refuses strangers' names, and knows pg-test's
	s := &server{slots: make(chan struct{}, 1), upstreams: []string{other}}
	q := new(dns.Msg).SetQuestion("pg-test.pigsty.", dns.TypeA)
	from := func(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 9} }
	for _, tt := range []struct {
		name   string
		client string
		with   func(*dns.Msg)
		want   int
		many   int
	}{
		{"a private client", "10.1.2.3", nil, dns.RcodeSuccess, 1},
		{"a stranger", "8.8.8.8", nil, dns.RcodeRefused, 0},
		{"who does not want it", "10.1.2.3", func(q *dns.Msg) { q.RecursionDesired = false }, dns.RcodeRefused, 0},
		{"no question", "10.1.2.3", func(q *dns.Msg) { q.Question = nil }, dns.RcodeFormatError, 0},
		{"another class", "10.1.2.3", func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused, 0},
		{"an update", "10.1.2.3", func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented, 0},
	} {
		q := q.Copy()
		if tt.with != nil {
			tt.with(q)
		}
		if a := s.answer(q, from(tt.client)); a.Rcode != tt.want || len(a.Answer) != tt.many || a.Id != q.Id {
			t.Errorf("%s: %s", tt.name, a)
		}
	}
	s.slots <- struct{}{}
	if a := s.answer(q, from("10.1.2.3")); a.Rcode != dns.RcodeRefused {
		t.Errorf("more than can be asked at a time: %s", a)
	}
}

// An answer that is too large for a datagram says so, and is whole over TCP.
func TestLargeAnswers(t *testing.T) {
	s, udp, tcp := serve(t)
	var records []string
	for i := range 120 {
		records = append(records, fmt.Sprintf("10.1.2.%d many.pigsty", i))
	}
	s.table.Set(names.Make(nil, records))
	a := ask(t, "udp", udp, "many.pigsty", dns.TypeA)
	if a.Compress = true; !a.Truncated || a.Len() > dns.MinMsgSize { // names were compressed on the wire
		t.Errorf("over UDP %d bytes, truncated %v", a.Len(), a.Truncated)
	}
	if a := ask(t, "tcp", tcp, "many.pigsty", dns.TypeA); a.Truncated || len(a.Answer) != len(records) {
		t.Errorf("over TCP %d addresses, truncated %v", len(a.Answer), a.Truncated)
	}
}
