package gateway

import (
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"howdah/access/route"
	"howdah/cluster"
	"howdah/spec"
)

func options(text string) func(*spec.Node) {
	return func(n *spec.Node) {
		n.Gateway.Wait = 20 * time.Second
		services := n.Gateway.Fronts[0].Services
		for i := range services {
			services[i].Options = text
		}
	}
}

// A server takes as many sessions as the options of the service say; so many
// clients more wait for one of them to end, and the others are told.
func TestAFullServerHasAQueue(t *testing.T) {
	w := newWorld(t, options("inter 2s rise 3 fall 3 slowstart 30s maxconn 1 maxqueue 1 weight 100"))
	server := newFake(t)
	w.lead(server.addr, time.Minute)
	first, second := w.dial("default"), w.dial("default")
	first.Write(startup("one"))
	one := server.next(t, startup("one"))
	second.Write(startup("two"))
	p := w.g.ports[2]
	queued := func(n int) func() bool {
		return func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.queued == n }
	}
	eventually(t, "the second waits", queued(1))
	third := w.dial("default")
	third.Write(startup("three"))
	if b, _ := io.ReadAll(third); !strings.Contains(string(b), "C53300") {
		t.Errorf("the third hears %q", b)
	}
	if row := w.rows()["demo-default/a"]; row["slim"] != "1" || row["qlimit"] != "1" {
		t.Errorf("limits %s and %s on the page", row["slim"], row["qlimit"])
	}
	one.Close()
	first.Close()
	server.next(t, startup("two"))
	eventually(t, "nobody waits", queued(0))
	if n := server.count.Load(); n != 2 {
		t.Errorf("%d connections reached the server", n)
	}
}

func TestWhoWaitsForAFullServerInVainIsTold(t *testing.T) {
	w := newWorld(t, options("maxconn 1"))
	server := newFake(t)
	w.lead(server.addr, time.Minute)
	first, second := w.dial("default"), w.dial("default")
	first.Write(startup("one"))
	server.next(t, startup("one"))
	began := time.Now()
	second.Write(startup("two"))
	b, _ := io.ReadAll(second)
	if took := time.Since(began); !strings.Contains(string(b), "C53300") || took < queueFor || took > queueFor+2*time.Second {
		t.Errorf("it hears %q after %s", b, took)
	}
}

// A server that came back weighs less for a while, where there are others.
func TestSlowStart(t *testing.T) {
	w := newWorld(t, options("slowstart 10s"))
	p := w.g.ports[1]
	both := []route.Backend{{Member: "b", Weight: 100, Up: true}, {Member: "c", Weight: 100, Up: true}}
	now := time.Now()
	weights := func(at time.Duration, usable []route.Backend) (got []int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, b := range p.room(usable, now.Add(at)) {
			got = append(got, b.Weight)
		}
		return got
	}
	see := func(up bool) {
		backends := []route.Backend{both[0], {Member: "c", Weight: 100, Up: up}}
		p.follow(route.Service{Backends: backends})
	}
	see(true)
	if got := weights(0, both); got[1] != 100 {
		t.Errorf("weights %v at the start", got)
	}
	see(false)
	see(true)
	p.mu.Lock()
	now = p.server("c").lastChange
	p.mu.Unlock()
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Second, 10}, {5 * time.Second, 50}, {10 * time.Second, 100}} {
		if got := weights(tt.after, both); got[0] != 100 || got[1] != tt.want {
			t.Errorf("weights %v %s after it came back, want 100 and %d", got, tt.after, tt.want)
		}
	}
	var b balance
	if got := b.pick("roundrobin", p.room(both[1:], now), netip.Addr{}, nil).Member; got != "c" {
		t.Errorf("alone it is not chosen, but %q", got)
	}
}

// What was set by hand outlives the gateway.
func TestTheNextGatewayKnowsWhatWasSet(t *testing.T) {
	w := newWorld(t, nil)
	w.lead("127.0.0.1:1", time.Minute)
	w.member("b", "127.0.0.1:2", nil)
	w.see()
	if !w.g.ports[1].set("b", "drain") || !w.g.ports[0].set("a", "maint") {
		t.Fatal("nothing was set")
	}
	modes := func() string {
		g, err := New(w.g.node, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		g.fronts[0].see(w.picture)
		all, _ := g.fronts[0].routes.Get()
		var text []string
		for _, s := range all[:2] {
			for _, b := range s.Backends {
				if b.Mode != route.Ready {
					text = append(text, s.Name+" "+b.Member+" "+string(b.Mode))
				}
			}
		}
		return strings.Join(text, ", ")
	}
	if got := modes(); got != "primary a maint, replica b drain" {
		t.Errorf("the next gateway has %q", got)
	}
	w.g.ports[0].set("a", "ready")
	if got := modes(); got != "replica b drain" {
		t.Errorf("after ready it has %q", got)
	}
}

func TestLimitsAreHAProxys(t *testing.T) {
	for text, want := range map[string]cluster.Limits{
		"": {}, "inter 3s": {}, "slowstart 500": {SlowStart: 500 * time.Millisecond},
		"inter 1s slowstart 1d maxconn 3000 maxqueue 128": {MaxConn: 3000, MaxQueue: 128, SlowStart: 24 * time.Hour},
	} {
		if got, err := (cluster.Service{Options: text}).Limits(); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"maxconn many", "maxconn", "slowstart -1", "maxqueue 1.5", "slowstart xd"} {
		if got, err := (cluster.Service{Options: text}).Limits(); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
