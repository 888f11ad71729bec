package mem_test

import (
	"errors"
	"testing"
	"time"

	"howdah/dcs"
	"howdah/dcs/dcstest"
	"howdah/dcs/mem"
)

func TestContract(t *testing.T) {
	dcstest.Test(t, func(t *testing.T) dcstest.Fixture {
		server := mem.Serve(mem.Rules{Unit: 100 * time.Millisecond, Floor: 300 * time.Millisecond})
		store := server.Open("/service/a/")
		return dcstest.Fixture{
			Store:   store,
			Witness: server.Open("/service/a/"),
			Foreign: server.Open("/service/b/"),
			Lease:   300 * time.Millisecond,
			Cut:     server.Break,
			Swallow: func(on bool) {
				if !on {
					store.Faults(nil)
					return
				}
				store.Faults(func(dcs.Request) mem.Fault { return mem.Fault{Lose: true} })
			},
		}
	})
}

func TestARefusedRequestIsUnavailable(t *testing.T) {
	store := mem.Serve(mem.Etcd()).Open("/")
	store.Faults(func(r dcs.Request) mem.Fault { return mem.Fault{Refuse: r.Kind == dcs.Commit} })
	_, err := store.Do(t.Context(), dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("a", "", 0)}})
	if !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("commit = %v; want ErrUnavailable", err)
	}
	if got, err := store.Do(t.Context(), dcs.Request{Kind: dcs.Read}); err != nil || len(got.Snapshot.Keys) != 0 {
		t.Errorf("read = %+v, %v; want nothing applied", got, err)
	}
}

// The simulator drives time itself.
func TestTheCallerSaysWhenALeaseEnds(t *testing.T) {
	s := mem.New(mem.Etcd())
	var told []int64
	s.OnChange = func(snap dcs.Snapshot) { told = append(told, snap.Revision) }
	apply := func(now time.Duration, r dcs.Request) dcs.Response {
		t.Helper()
		resp, err := s.Apply(now, r)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		return resp
	}
	lease := apply(0, dcs.Request{Kind: dcs.Grant, TTL: 2500 * time.Millisecond})
	if lease.TTL != 3*time.Second {
		t.Errorf("granted %s; want whole seconds", lease.TTL)
	}
	apply(0, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("leader", "a", lease.Lease)}})
	before := s.Snapshot()
	has := func() bool { _, ok := s.Snapshot().Keys["leader"]; return ok }

	s.Expire(2999 * time.Millisecond)
	if !has() {
		t.Error("the key went before its time")
	}
	s.RestartLeases(2*time.Second, 500*time.Millisecond) // a new leader of etcd
	if due, ok := s.NextDue(); !ok || due != 5500*time.Millisecond {
		t.Errorf("next due %s, %t; want 5.5s", due, ok)
	}
	s.Expire(5499 * time.Millisecond)
	if !has() {
		t.Error("the key went although its lease started again")
	}
	s.Expire(5500 * time.Millisecond)
	if has() {
		t.Error("the key outlived its lease")
	}
	if _, ok := before.Keys["leader"]; !ok {
		t.Error("an old snapshot changed")
	}
	if len(told) != 2 || told[1] != told[0]+1 {
		t.Errorf("told of revisions %v; want a put and a delete", told)
	}
	if _, err := s.Apply(6*time.Second, dcs.Request{Kind: dcs.Renew, Lease: lease.Lease}); !errors.Is(err, dcs.ErrLease) {
		t.Errorf("renewal = %v; want ErrLease", err)
	}
}

// Due and not yet ended: etcd does not let a renewal bring a lease back.
func TestAnOverdueLeaseIsNotRenewed(t *testing.T) {
	s := mem.New(mem.Etcd())
	lease, _ := s.Apply(0, dcs.Request{Kind: dcs.Grant, TTL: time.Second})
	if _, err := s.Apply(0, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("leader", "a", lease.Lease)}}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply(time.Second, dcs.Request{Kind: dcs.Renew, Lease: lease.Lease})
	if _, ok := s.Snapshot().Keys["leader"]; !errors.Is(err, dcs.ErrLease) || ok {
		t.Errorf("renewal = %v, key there %t; want ErrLease and the key gone", err, ok)
	}
}
