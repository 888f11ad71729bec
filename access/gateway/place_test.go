package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"howdah/access/hba"
	"howdah/access/pool"
	"howdah/access/pooler"
	"howdah/cluster"
	"howdah/spec"
)

// The place of a session of a pooled service: the member with the fewest for its
// weight, equals in turn; none where only the leader will do.
func TestWhereASessionIsPlaced(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) {
		n.Gateway.Fronts[0].Members = []spec.Instance{
			{Name: "a", Vars: map[string]any{"pg_role": "primary"}},
			{Name: "b", Vars: map[string]any{"pg_role": "replica"}},
			{Name: "c", Vars: map[string]any{"pg_role": "replica", "pg_weight": 50}},
		}
	})
	w.lead("127.0.0.1:1", 0)
	w.member("b", "127.0.0.1:2", nil)
	w.member("c", "127.0.0.1:3", nil)
	w.see()
	sessions := map[string]int64{}
	place := func(service string) string {
		t.Helper()
		for _, p := range w.g.ports {
			if p.service.Name == service {
				return (&way{port: p}).place(netip.MustParseAddr("10.0.0.1"), func(member string) int64 { return sessions[member] })
			}
		}
		t.Fatalf("there is no service %s", service)
		return ""
	}
	if got := place("primary"); got != "" {
		t.Errorf("a session of the primary has the place %q", got)
	}
	for range 30 {
		sessions[place("replica")]++
	}
	if sessions["b"] != 20 || sessions["c"] != 10 {
		t.Errorf("30 sessions, at weights 100 and 50: %v", sessions)
	}
	clear(sessions)
	turns := map[string]int{}
	for range 30 { // each has left before the next one comes
		turns[place("replica")]++
	}
	if turns["b"] != 20 || turns["c"] != 10 {
		t.Errorf("30 sessions one after another: %v", turns)
	}
	sessions["b"], sessions["c"] = 1, 1000
	if got := place("replica"); got != "b" {
		t.Errorf("the next one comes to %s of %v", got, sessions)
	}
	sessions["b"] = -1
	if got := place("replica"); got != "c" {
		t.Errorf("with b silent the next one comes to %s", got)
	}
	sessions["c"] = -1
	if got := place("replica"); got == "" {
		t.Error("with both silent there is no place")
	}
	for _, m := range []string{"b", "c"} {
		w.member(m, "127.0.0.1:2", func(m *cluster.PictureMember) { m.Running, m.State = false, cluster.StateStopped })
	}
	w.see()
	clear(sessions)
	if got := place("replica"); got != "a" {
		t.Errorf("without a replica the place is %q, want the primary", got)
	}
}

// What is said of a service changes more often than its servers: a login to one of them goes on until that is
// none any more.
func TestALoginOutlivesWhatIsSaidOfItsServer(t *testing.T) {
	w := newWorld(t, func(n *spec.Node) {
		n.Gateway.Fronts[0].Members = []spec.Instance{
			{Name: "a", Vars: map[string]any{"pg_role": "primary"}},
			{Name: "b", Vars: map[string]any{"pg_role": "replica"}},
			{Name: "c", Vars: map[string]any{"pg_role": "replica"}},
		}
	})
	b, c := newFake(t), newFake(t)
	w.lead("127.0.0.1:1", time.Hour)
	w.member("b", b.addr, nil)
	roll, err := pooler.NewRoll(t.TempDir(), 1, spec.Superuser, 0)
	if err != nil {
		t.Fatal(err)
	}
	rules, problems := hba.Parse("host all all all trust\n", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p := w.g.ports[slices.IndexFunc(w.g.ports, func(p *port) bool { return p.service.Name == "replica" })]
	p.way = &way{port: p, node: w.g.node, roll: roll.Config}
	p.door = &pooler.Door{
		Name: "test", Settings: pool.Defaults(), Dial: p.way.dial, DialAt: p.way.dialAt, Place: p.way.place,
		Rules: rules, Secret: func(context.Context, string) (string, bool, error) { return "", true, nil },
	}
	all, err := pooler.New(slog.New(slog.DiscardHandler), p.door)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { _ = all.Serve(ctx, l, p.door) })
	wg.Go(func() { _ = all.Run(ctx) })
	w.see()

	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write(startup("demo")); err != nil {
		t.Fatal(err)
	}
	server := b.next(t, nil)
	if _, err := server.Read(make([]byte, 4096)); err != nil { // the pool's own startup packet, which is never answered
		t.Fatal(err)
	}
	before, _ := p.route()
	w.member("a", "127.0.0.1:1", func(m *cluster.PictureMember) { primary(m); m.Running = false })
	w.see()
	w.member("c", c.addr, nil)
	w.see()
	if now, _ := p.route(); slices.Equal(before.Backends, now.Backends) {
		t.Fatalf("nothing has changed: %+v", now)
	}
	silent(t, server, 100*time.Millisecond)
	w.member("b", b.addr, func(m *cluster.PictureMember) { m.Running, m.State = false, cluster.StateStopped })
	w.see()
	closed(t, server)
	c.next(t, nil)
	if b.count.Load() != 1 {
		t.Errorf("%d logins to a server that stayed one", b.count.Load())
	}
}
