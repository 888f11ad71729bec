package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"howdah/dcs"
	"howdah/dcs/dcstest"
	"howdah/dcs/embed/embedtest"
	"howdah/dcs/etcd"
	"howdah/latest"
	"howdah/pki"
)

func TestMain(m *testing.M) { embedtest.Main(m) }

var bases atomic.Int64

// base is nobody else's.
func base() string { return fmt.Sprintf("/service/t%d/", bases.Add(1)) }

func open(t *testing.T, c *embedtest.Cluster, base string, endpoints ...string) *etcd.Store {
	t.Helper()
	peers, err := pki.Open(c.Nodes[0].TLS)
	if err != nil {
		t.Fatal(err)
	}
	if len(endpoints) == 0 {
		endpoints = c.Endpoints()
	}
	s, err := etcd.Open(etcd.Options{Endpoints: endpoints, Base: base, TLS: peers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

func fixture(t *testing.T, c *embedtest.Cluster) dcstest.Fixture {
	t.Helper()
	var relays []*relay
	var through []string
	for _, endpoint := range c.Endpoints() {
		r := newRelay(t, endpoint)
		relays = append(relays, r)
		through = append(through, r.url)
	}
	base, other := base(), base()
	return dcstest.Fixture{
		Store:   open(t, c, base, through...),
		Witness: open(t, c, base),
		Foreign: open(t, c, other),
		Lease:   time.Second,
		Cut: func() {
			for _, r := range relays {
				r.cut()
			}
		},
		Swallow: func(on bool) {
			for _, r := range relays {
				r.lose(on)
			}
		},
	}
}

func TestContractOneMember(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 1, false))
	dcstest.Test(t, func(t *testing.T) dcstest.Fixture { return fixture(t, c) })
}

func TestContractThreeMembersTLS(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, true))
	dcstest.Test(t, func(t *testing.T) dcstest.Fixture { return fixture(t, c) })
}

// A primary renews, with 500 ms for each try.
type primary struct {
	store *etcd.Store
	lease dcs.LeaseID
	mod   int64
	took  []time.Duration
	tries int // renewals without an answer in a row
	worst int
}

func newPrimary(t *testing.T, s *etcd.Store) *primary {
	t.Helper()
	p := &primary{store: s}
	p.lease = must(t, s, dcs.Request{Kind: dcs.Grant, TTL: 5 * time.Second}).Lease
	p.mod = must(t, s, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("leader", "me", p.lease)}}).Revision
	return p
}

// renew tries once.
func (p *primary) renew(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	asked := time.Now()
	resp, err := p.store.Do(ctx, dcs.Request{
		Kind: dcs.Renew, Lease: p.lease,
		If:  []dcs.Cond{dcs.ValueIs("leader", "me"), dcs.ModIs("leader", p.mod)},
		Ops: []dcs.Op{dcs.Put("status", time.Now().String(), 0)},
	})
	p.took = append(p.took, time.Since(asked))
	if err != nil {
		p.tries++
		p.worst = max(p.worst, p.tries)
		if errors.Is(err, dcs.ErrLease) {
			t.Errorf("renewal = %v; want the lease to live", err)
		}
		return err
	}
	p.tries = 0
	if !resp.OK {
		t.Error("the leader key changed under the primary")
	}
	return nil
}

func must(t *testing.T, s dcs.Store, r dcs.Request) dcs.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := s.Do(ctx, r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return resp
}

// A member dies, hangs, or stops: renewals go on, the watch too.
func TestAMemberLost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leader bool // the one lost leads
		lose   func(c *embedtest.Cluster, i int)
		back   func(c *embedtest.Cluster, i int)
		tries  int // renewals of 500 ms that may be without an answer
	}{
		{"a follower is killed", false, (*embedtest.Cluster).Kill, (*embedtest.Cluster).Launch, 1},
		{"the leader is killed", true, (*embedtest.Cluster).Kill, (*embedtest.Cluster).Launch, 3}, // one election
		{"a follower hangs", false, freeze, thaw, 1},
		{"the leader hangs", true, freeze, thaw, 3},
		{"the leader stops", true, func(c *embedtest.Cluster, i int) { c.Stop(i) }, (*embedtest.Cluster).Launch, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := embedtest.Start(t, embedtest.Nodes(t, 3, false))
			lost := c.Leader()
			if !tt.leader {
				lost = (lost + 1) % 3
			}
			// The client talks to the member that will be lost, the worst case.
			endpoints := c.Endpoints()
			endpoints[0], endpoints[lost] = endpoints[lost], endpoints[0]
			b := base()
			store := open(t, c, b, endpoints...)
			p := newPrimary(t, store)
			var seen latest.Value[dcs.Snapshot]
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- store.Watch(ctx, &seen, func(err error) { t.Logf("lost: %v", err) }) }()
			for range 5 {
				if err := p.renew(t); err != nil {
					t.Errorf("renewal with every member well: %v", err)
				}
			}

			at := time.Now()
			tt.lose(c, lost)
			for p.renew(t) != nil {
				if time.Since(at) > 5*time.Second {
					t.Fatal("no renewal for 5 s")
				}
			}
			t.Logf("renewed again %s after the loss, %d tries without an answer", time.Since(at).Round(time.Millisecond), p.worst)
			if p.worst > tt.tries {
				t.Errorf("%d renewals without an answer; want at most %d", p.worst, tt.tries)
			}
			witness := open(t, c, b, slices.Delete(slices.Clone(c.Endpoints()), lost, lost+1)...)
			mod := must(t, witness, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("after", "", 0)}}).Revision
			wait, stop := context.WithTimeout(t.Context(), 3*time.Second)
			defer stop()
			for snap, version := seen.Get(); snap.Keys["after"].Mod != mod; {
				var err error
				if snap, version, err = seen.Wait(wait, version); err != nil {
					t.Fatalf("the watch did not see the change within 3 s: %v", err)
				}
			}
			t.Logf("the watch saw a change %s after the loss", time.Since(at).Round(time.Millisecond))

			tt.back(c, lost)
			c.Wait()
			if err := p.renew(t); err != nil {
				t.Errorf("renewal with the member back: %v", err)
			}
			cancel()
			<-done
		})
	}
}

func freeze(c *embedtest.Cluster, i int) { c.Signal(i, syscall.SIGSTOP) }
func thaw(c *embedtest.Cluster, i int)   { c.Signal(i, syscall.SIGCONT) }

func TestNobodyThereIsUnavailable(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 1, false))
	store := open(t, c, base())
	must(t, store, dcs.Request{Kind: dcs.Read})
	c.Kill(0)
	for _, kind := range []dcs.Kind{dcs.Read, dcs.Grant, dcs.Renew, dcs.Keep, dcs.Revoke, dcs.Commit} {
		var err error
		for range 3 { // the first may find a connection that is just breaking
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			_, err = store.Do(ctx, dcs.Request{Kind: kind, Lease: 1, TTL: time.Minute})
			cancel()
			if errors.Is(err, dcs.ErrUnavailable) {
				break
			}
		}
		if !errors.Is(err, dcs.ErrUnavailable) {
			t.Errorf("kind %d with nobody there = %v; want ErrUnavailable", kind, err)
		}
	}
	c.Launch(0)
	c.Wait()
	// The connection comes back by itself; a question that meets it coming is lost.
	var err error
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		_, err = store.Do(ctx, dcs.Request{Kind: dcs.Read})
		cancel()
		if err == nil {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Errorf("the member is back: %v", err)
}

// What the notes call W19: an answer from a leader that is none any more. A
// member cut off from the others must not confirm anything.
func TestWithoutAQuorumNothingIsConfirmed(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 3, false))
	leader := c.Leader()
	store := open(t, c, base(), c.Endpoints()[leader])
	p := newPrimary(t, store)
	if err := p.renew(t); err != nil {
		t.Fatal(err)
	}
	for i := range c.Nodes {
		if i != leader {
			c.Signal(i, syscall.SIGSTOP)
		}
	}
	for range 4 {
		if err := p.renew(t); err == nil {
			t.Error("a renewal was confirmed by one member of three")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if resp, err := store.Do(ctx, dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ValueIs("leader", "me")}}); err == nil {
			t.Errorf("a condition was checked by one member of three: %+v", resp)
		}
		cancel()
	}
}

func BenchmarkRenew(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			c := embedtest.Start(b, embedtest.Nodes(b, n, n == 3))
			peers, err := pki.Open(c.Nodes[0].TLS)
			if err != nil {
				b.Fatal(err)
			}
			s, err := etcd.Open(etcd.Options{Endpoints: c.Endpoints(), Base: base(), TLS: peers})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			granted, err := s.Do(b.Context(), dcs.Request{Kind: dcs.Grant, TTL: 5 * time.Second})
			if err != nil {
				b.Fatal(err)
			}
			var took []time.Duration
			for b.Loop() {
				asked := time.Now()
				if _, err := s.Do(b.Context(), dcs.Request{
					Kind: dcs.Renew, Lease: granted.Lease, Ops: []dcs.Op{dcs.Put("status", "x", 0)},
				}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(asked))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}
