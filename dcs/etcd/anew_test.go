package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"howdah/dcs"
	"howdah/dcs/embed/embedtest"
	"howdah/latest"
)

// Every member's data are lost, and etcd counts from one again: whoever watches sees
// an empty store of a later revision, and nothing that was counted before holds.
func TestAStoreThatWasLostCountsOn(t *testing.T) {
	t.Parallel()
	c := embedtest.Start(t, embedtest.Nodes(t, 1, false))
	b := base()
	store := open(t, c, b)
	lease := must(t, store, dcs.Request{Kind: dcs.Grant, TTL: 5 * time.Second}).Lease
	var before dcs.Response
	for i := range 40 {
		before = must(t, store, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("key", fmt.Sprint(i), 0)}})
	}
	var seen latest.Value[dcs.Snapshot]
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Watch(ctx, &seen, func(error) {}) }()
	defer func() {
		cancel()
		<-done
	}()
	await := func(what string, so func(dcs.Snapshot) bool) dcs.Snapshot {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for snap, version := seen.Get(); ; {
			if version > 0 && so(snap) {
				return snap
			}
			var err error
			if snap, version, err = seen.Wait(ctx, version); err != nil {
				t.Fatalf("%s: not seen within 30 s; the last was %+v", what, snap)
			}
		}
	}
	await("the last put", func(s dcs.Snapshot) bool { return s.Revision >= before.Revision })

	c.Kill(0)
	if err := os.RemoveAll(c.Nodes[0].Etcd.Data); err != nil {
		t.Fatal(err)
	}
	c.Launch(0)
	c.Wait()
	empty := await("that the key is gone", func(s dcs.Snapshot) bool { return s.Keys["key"].Mod == 0 })
	if empty.Revision <= before.Revision {
		t.Errorf("the empty store has revision %d, it was %d", empty.Revision, before.Revision)
	}
	ask := func(r dcs.Request) (dcs.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return store.Do(ctx, r)
	}
	if _, err := ask(dcs.Request{Kind: dcs.Renew, Lease: lease}); !errors.Is(err, dcs.ErrLease) {
		t.Errorf("Renew of a lease of before = %v, want that there is none", err)
	}
	put := []dcs.Op{dcs.Put("key", "anew", 0)}
	if got, err := ask(dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ModIs("key", before.Revision)}, Ops: put}); err != nil || got.OK {
		t.Errorf("a transaction over what was = %+v, %v; want that it does not hold", got, err)
	}
	got, err := ask(dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.Absent("key")}, Ops: put})
	if err != nil || !got.OK || got.Revision <= empty.Revision {
		t.Errorf("a transaction over nothing = %+v, %v; want one that holds, after %d", got, err, empty.Revision)
	}
	if got, err := ask(dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ModIs("key", got.Revision)}, Ops: put}); err != nil || !got.OK {
		t.Errorf("a transaction over what is = %+v, %v; want one that holds", got, err)
	}
	await("what was put since", func(s dcs.Snapshot) bool { return s.Keys["key"].Mod > got.Revision })
	// Who comes now counts alike, without having seen anything.
	other := must(t, open(t, c, b), dcs.Request{Kind: dcs.Read}).Snapshot
	mine := must(t, store, dcs.Request{Kind: dcs.Read}).Snapshot
	if other.Revision != mine.Revision || other.Keys["key"].Mod != mine.Keys["key"].Mod {
		t.Errorf("another client counts %d, this one %d", other.Revision, mine.Revision)
	}
	// One that knows the old number does nothing by it, and learns.
	late := open(t, c, b)
	if got, err := late.Do(ctx, dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.ModIs("key", mine.Keys["key"].Mod)}, Ops: put}); err == nil && got.OK {
		if got.Revision <= mine.Revision {
			t.Errorf("a client that had read nothing counts %d after %d", got.Revision, mine.Revision)
		}
	} else if err != nil && !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("a client that had read nothing: %v, want that nothing was done", err)
	}
}
