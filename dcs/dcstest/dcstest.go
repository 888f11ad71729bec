// Package dcstest is the contract of dcs.Store. The model and the real thing
// pass the same tests, so what is proven with the one holds for the other.
package dcstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"howdah/dcs"
	"howdah/latest"
)

// A Fixture is a store on trial: an empty base of a server that others use too.
type Fixture struct {
	Store   dcs.Store     // the one on trial
	Witness dcs.Store     // another client of the same base, never disturbed
	Foreign dcs.Store     // a client of another base in the same server
	Lease   time.Duration // the shortest lease the server gives
	Cut     func()        // breaks the connections of Store; it may make new ones
	Swallow func(on bool) // while on, what Store asks arrives and no answer comes back
}

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// slack is what the server may take to end a lease that is due, and we to see it.
const slack = 1500 * time.Millisecond

// Test holds every store that open makes to the contract.
func Test(t *testing.T, open func(t *testing.T) Fixture) {
	run := func(name string, test func(t *testing.T, f Fixture)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
	run("a new base is empty", newBase)
	run("a commit needs all its conditions", conditions)
	run("revisions tell what happened when", revisions)
	run("one request is one revision", oneRevision)
	run("other bases are invisible", otherBases)
	run("of two that acquire one wins", acquire)
	run("a revoked lease takes its keys along at once", revoke)
	run("a renewal keeps the lease and confirms", renew)
	run("a lease ends when it is due, not before", expire)
	run("an unknown lease is told", unknownLease)
	run("a watch shows every state in the end", watch)
	run("a watch survives its connection", watchCut)
	run("a lost answer is neither yes nor no", lostAnswer)
	run("a deadline is kept", deadline)
}

func newBase(t *testing.T, f Fixture) {
	got := do(t, f.Store, dcs.Request{Kind: dcs.Read})
	if !got.OK || len(got.Snapshot.Keys) != 0 || got.Snapshot.Revision != got.Revision || got.Revision == 0 {
		t.Errorf("read = %+v; want no keys at a revision", got)
	}
}

func conditions(t *testing.T, f Fixture) {
	mod := put(t, f.Store, "a", "1")
	put(t, f.Store, "b", "2")
	for _, tt := range []struct {
		name string
		cond []dcs.Cond
		want bool
	}{
		{"none", nil, true},
		{"absent, and is", []dcs.Cond{dcs.Absent("x")}, true},
		{"absent, but is not", []dcs.Cond{dcs.Absent("a")}, false},
		{"revision", []dcs.Cond{dcs.ModIs("a", mod)}, true},
		{"another revision", []dcs.Cond{dcs.ModIs("a", mod-1)}, false},
		{"a revision of what is not", []dcs.Cond{dcs.ModIs("x", mod)}, false},
		{"value", []dcs.Cond{dcs.ValueIs("a", "1")}, true},
		{"another value", []dcs.Cond{dcs.ValueIs("a", "2")}, false},
		{"a value of what is not", []dcs.Cond{dcs.ValueIs("x", "")}, false},
		{"both hold", []dcs.Cond{dcs.ValueIs("a", "1"), dcs.ValueIs("b", "2")}, true},
		{"one does not", []dcs.Cond{dcs.ValueIs("a", "1"), dcs.ValueIs("b", "3")}, false},
	} {
		before := do(t, f.Store, dcs.Request{Kind: dcs.Read})
		for _, ops := range [][]dcs.Op{nil, {dcs.Put("c", tt.name, 0)}} {
			got := do(t, f.Store, dcs.Request{Kind: dcs.Commit, If: tt.cond, Ops: ops})
			if got.OK != tt.want {
				t.Errorf("%s: commit of %d changes = %t; want %t", tt.name, len(ops), got.OK, tt.want)
			}
		}
		after := do(t, f.Store, dcs.Request{Kind: dcs.Read})
		changed := string(after.Snapshot.Keys["c"].Value) == tt.name
		if changed != tt.want {
			t.Errorf("%s: changed = %t; want %t (%v, then %v)", tt.name, changed, tt.want, before.Snapshot, after.Snapshot)
		}
	}
}

func revisions(t *testing.T, f Fixture) {
	first := put(t, f.Store, "a", "1")
	second := put(t, f.Store, "a", "2")
	kv := read(t, f.Store).Keys["a"]
	if kv.Create != first || kv.Mod != second || second <= first || string(kv.Value) != "2" || kv.Key != "a" || kv.Lease != 0 {
		t.Errorf("a = %+v; want 2, created at %d, put at %d", kv, first, second)
	}
	do(t, f.Store, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Delete("a")}})
	if kv, ok := read(t, f.Store).Keys["a"]; ok {
		t.Errorf("a = %+v; want it deleted", kv)
	}
	third := put(t, f.Store, "a", "3")
	if kv := read(t, f.Store).Keys["a"]; kv.Create != third || kv.Mod != third {
		t.Errorf("a = %+v; want it created anew at %d", kv, third)
	}
}

func oneRevision(t *testing.T, f Fixture) {
	put(t, f.Store, "old", "")
	got := do(t, f.Store, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{
		dcs.Put("a", "1", 0), dcs.Put("b", "2", 0), dcs.Delete("old"), dcs.Delete("never"),
	}})
	snap := read(t, f.Store)
	for _, key := range []string{"a", "b"} {
		if mod := snap.Keys[key].Mod; mod != got.Revision {
			t.Errorf("%s was put at %d; want the answer's revision %d", key, mod, got.Revision)
		}
	}
	if len(snap.Keys) != 2 {
		t.Errorf("keys = %v; want a and b", snap.Keys)
	}
}

func otherBases(t *testing.T, f Fixture) {
	put(t, f.Foreign, "theirs", "")
	put(t, f.Store, "ours", "")
	if keys := slices.Collect(maps.Keys(read(t, f.Store).Keys)); !slices.Equal(keys, []string{"ours"}) {
		t.Errorf("keys = %v; want ours", keys)
	}
	if got := do(t, f.Store, dcs.Request{Kind: dcs.Commit, If: []dcs.Cond{dcs.Absent("theirs")}}); !got.OK {
		t.Error("a condition saw a key of another base")
	}
}

func acquire(t *testing.T, f Fixture) {
	for round := range 10 {
		var won [2]bool
		var wg sync.WaitGroup
		for i, s := range []dcs.Store{f.Store, f.Witness} {
			wg.Go(func() {
				won[i] = do(t, s, dcs.Request{
					Kind: dcs.Commit,
					If:   []dcs.Cond{dcs.Absent("leader")},
					Ops:  []dcs.Op{dcs.Put("leader", fmt.Sprint(i), 0)},
				}).OK
			})
		}
		wg.Wait()
		if won[0] == won[1] {
			t.Fatalf("round %d: won = %v; want exactly one", round, won)
		}
		winner := "0"
		if won[1] {
			winner = "1"
		}
		if got := string(read(t, f.Store).Keys["leader"].Value); got != winner {
			t.Errorf("round %d: leader = %s; want %s", round, got, winner)
		}
		do(t, f.Store, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Delete("leader")}})
	}
}

func revoke(t *testing.T, f Fixture) {
	w := observe(t, f.Store)
	lease := grant(t, f.Store, time.Minute)
	do(t, f.Witness, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{
		dcs.Put("a", "", lease), dcs.Put("b", "", lease), dcs.Put("c", "", 0),
	}})
	if got := read(t, f.Store).Keys["a"].Lease; got != lease {
		t.Errorf("a hangs on lease %x; want %x", got, lease)
	}
	put(t, f.Store, "b", "freed") // a put without a lease cuts the tie
	asked := time.Now()
	do(t, f.Store, dcs.Request{Kind: dcs.Revoke, Lease: lease})
	if keys := read(t, f.Store).Keys; len(keys) != 2 {
		t.Errorf("keys = %v; want b and c", keys)
	}
	w.until(t, "a is gone", func(s dcs.Snapshot) bool { _, ok := s.Keys["a"]; return !ok && len(s.Keys) == 2 })
	if took := time.Since(asked); took > slack {
		t.Errorf("the watcher saw it after %s", took)
	}
	_, err := try(t, f.Store, dcs.Request{Kind: dcs.Revoke, Lease: lease})
	if !errors.Is(err, dcs.ErrLease) {
		t.Errorf("revoke again = %v; want ErrLease", err)
	}
}

func renew(t *testing.T, f Fixture) {
	got := do(t, f.Store, dcs.Request{Kind: dcs.Grant, TTL: f.Lease})
	lease := got.Lease
	if got.TTL < f.Lease {
		t.Fatalf("granted %s; want at least %s", got.TTL, f.Lease)
	}
	mod := do(t, f.Store, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("leader", "me", lease)}}).Revision
	mine := []dcs.Cond{dcs.ValueIs("leader", "me"), dcs.ModIs("leader", mod)}
	began := time.Now()
	for i := 0; time.Since(began) < got.TTL+slack; i++ {
		// Every second one finds that its condition does not hold; the lease
		// lives on all the same.
		holds := i%2 == 0
		conds := mine
		if !holds {
			conds = []dcs.Cond{dcs.ValueIs("leader", "other")}
		}
		status := fmt.Sprint(i)
		if i%3 == 2 {
			if r := do(t, f.Store, dcs.Request{Kind: dcs.Keep, Lease: lease}); !r.OK || r.TTL != got.TTL {
				t.Fatalf("kept: %+v; want OK and %s", r, got.TTL)
			}
			pause(t, f.Lease/4)
			continue
		}
		r := do(t, f.Store, dcs.Request{Kind: dcs.Renew, Lease: lease, If: conds, Ops: []dcs.Op{dcs.Put("status", status, 0)}})
		if r.OK != holds || r.TTL != got.TTL {
			t.Fatalf("renewal %d = %+v; want OK=%t and %s", i, r, holds, got.TTL)
		}
		kv := read(t, f.Store).Keys["status"]
		if wrote := string(kv.Value) == status; wrote != holds || holds && kv.Mod != r.Revision {
			t.Fatalf("renewal %d: status = %+v; written %t, want %t at %d", i, kv, wrote, holds, r.Revision)
		}
		pause(t, f.Lease/4)
	}
	if r := do(t, f.Store, dcs.Request{Kind: dcs.Renew, Lease: lease, If: mine}); !r.OK {
		t.Error("a renewal without changes did not confirm")
	}
	if kv := read(t, f.Store).Keys["leader"]; kv.Mod != mod {
		t.Errorf("leader = %+v; want it unchanged since %d", kv, mod)
	}
}

func expire(t *testing.T, f Fixture) {
	w := observe(t, f.Witness)
	got := do(t, f.Store, dcs.Request{Kind: dcs.Grant, TTL: f.Lease})
	do(t, f.Store, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("leader", "me", got.Lease), dcs.Put("stays", "", 0)}})
	pause(t, f.Lease/2)
	sent := time.Now()
	do(t, f.Store, dcs.Request{Kind: dcs.Renew, Lease: got.Lease})
	answered := time.Now()
	w.until(t, "the key was seen", func(s dcs.Snapshot) bool { _, ok := s.Keys["leader"]; return ok })
	w.until(t, "the key is gone", func(s dcs.Snapshot) bool { _, ok := s.Keys["leader"]; return !ok })
	if lived := time.Since(sent); lived < got.TTL {
		t.Errorf("the key lived %s after the renewal was sent; want at least %s", lived, got.TTL)
	}
	if lived := time.Since(answered); lived > got.TTL+slack {
		t.Errorf("the key lived %s after the renewal was answered; want at most %s", lived, got.TTL+slack)
	}
	if _, ok := read(t, f.Store).Keys["stays"]; !ok {
		t.Error("a key without a lease went too")
	}
	if _, err := try(t, f.Store, dcs.Request{Kind: dcs.Renew, Lease: got.Lease}); !errors.Is(err, dcs.ErrLease) {
		t.Errorf("renewal of what has ended = %v; want ErrLease", err)
	}
}

func unknownLease(t *testing.T, f Fixture) {
	const nobody = dcs.LeaseID(0x7fff_ffff_0000_0001)
	for _, r := range []dcs.Request{
		{Kind: dcs.Renew, Lease: nobody},
		{Kind: dcs.Keep, Lease: nobody},
		{Kind: dcs.Revoke, Lease: nobody},
		{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("other", "", 0), dcs.Put("leader", "me", nobody)}},
	} {
		if resp, err := try(t, f.Store, r); !errors.Is(err, dcs.ErrLease) {
			t.Errorf("kind %d with an unknown lease = %+v, %v; want ErrLease", r.Kind, resp, err)
		}
	}
	if keys := read(t, f.Store).Keys; len(keys) != 0 {
		t.Errorf("keys = %v; want none: nothing was applied", keys)
	}
}

func watch(t *testing.T, f Fixture) {
	put(t, f.Witness, "before", "")
	w := observe(t, f.Store)
	w.until(t, "the first snapshot is whole", func(s dcs.Snapshot) bool { _, ok := s.Keys["before"]; return ok })
	var last int64
	for i := range 50 {
		last = put(t, f.Witness, fmt.Sprintf("k%d", i%7), fmt.Sprint(i))
		put(t, f.Foreign, "noise", fmt.Sprint(i))
	}
	w.until(t, "the last change is seen", func(s dcs.Snapshot) bool { return s.Revision >= last })
	w.same(t, read(t, f.Witness))
}

func watchCut(t *testing.T, f Fixture) {
	w := observe(t, f.Store)
	for i := range 3 {
		mod := put(t, f.Witness, "a", fmt.Sprint(i))
		w.until(t, "the change is seen", func(s dcs.Snapshot) bool { return s.Keys["a"].Mod == mod })
		put(t, f.Witness, fmt.Sprintf("gone%d", i), "")
		f.Cut()
		// What happens meanwhile must be found after.
		do(t, f.Witness, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Delete(fmt.Sprintf("gone%d", i))}})
		w.untilLost(t, i+1)
	}
	mod := put(t, f.Witness, "b", "last")
	w.until(t, "the change after is seen", func(s dcs.Snapshot) bool { return s.Keys["b"].Mod == mod })
	w.same(t, read(t, f.Witness))
}

func lostAnswer(t *testing.T, f Fixture) {
	lease := grant(t, f.Store, time.Minute)
	put(t, f.Store, "warm", "")
	f.Swallow(true)
	for i, r := range []dcs.Request{
		{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put("a", "1", 0)}},
		{Kind: dcs.Renew, Lease: lease, Ops: []dcs.Op{dcs.Put("b", "1", 0)}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		resp, err := f.Store.Do(ctx, r)
		cancel()
		if err == nil || errors.Is(err, dcs.ErrLease) {
			t.Errorf("request %d without an answer = %+v, %v; want an unknown error", i, resp, err)
		}
		if i == 0 && errors.Is(err, dcs.ErrUnavailable) {
			t.Errorf("request %d was sent and says ErrUnavailable: %v", i, err)
		}
	}
	f.Swallow(false)
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		got, err := f.Store.Do(ctx, dcs.Request{Kind: dcs.Read})
		cancel()
		if err == nil {
			if string(got.Snapshot.Keys["a"].Value) != "1" {
				t.Errorf("keys = %v; want a: it was applied", got.Snapshot.Keys)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer again after %s: %v", patience, err)
		}
	}
}

func deadline(t *testing.T, f Fixture) {
	put(t, f.Store, "warm", "")
	f.Swallow(true)
	defer f.Swallow(false)
	for _, kind := range []dcs.Kind{dcs.Read, dcs.Commit, dcs.Grant, dcs.Renew, dcs.Keep, dcs.Revoke} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		asked := time.Now()
		resp, err := f.Store.Do(ctx, dcs.Request{Kind: kind, Lease: 1, TTL: time.Minute})
		cancel()
		if took := time.Since(asked); err == nil || took > 700*time.Millisecond {
			t.Errorf("kind %d = %+v, %v after %s; want an error after 200 ms", kind, resp, err, took)
		}
	}
}

// try asks once, with time enough.
func try(t *testing.T, s dcs.Store, r dcs.Request) (dcs.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return s.Do(ctx, r)
}

func do(t *testing.T, s dcs.Store, r dcs.Request) dcs.Response {
	t.Helper()
	resp, err := try(t, s, r)
	if err != nil {
		t.Errorf("%+v: %v", r, err)
	}
	return resp
}

func read(t *testing.T, s dcs.Store) dcs.Snapshot {
	t.Helper()
	return do(t, s, dcs.Request{Kind: dcs.Read}).Snapshot
}

func put(t *testing.T, s dcs.Store, key, value string) (mod int64) {
	t.Helper()
	return do(t, s, dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(key, value, 0)}}).Revision
}

func grant(t *testing.T, s dcs.Store, ttl time.Duration) dcs.LeaseID {
	t.Helper()
	return do(t, s, dcs.Request{Kind: dcs.Grant, TTL: ttl}).Lease
}

// pause lets time pass that is part of what is tested.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// A watcher follows a store and holds it to the order of revisions.
type watcher struct {
	value latest.Value[dcs.Snapshot]
	lost  latest.Value[int]
}

func observe(t *testing.T, s dcs.Store) *watcher {
	t.Helper()
	w := new(watcher)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Watch(ctx, &w.value, func(error) {
			n, _ := w.lost.Get()
			w.lost.Set(n + 1)
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch = %v; want the end of its context", err)
		}
	})
	wg.Go(func() {
		var seen uint64
		var revision int64
		for {
			snap, version, err := w.value.Wait(ctx, seen)
			if err != nil {
				return
			}
			if snap.Revision < revision {
				t.Errorf("revision %d after %d", snap.Revision, revision)
			}
			for key, kv := range snap.Keys {
				if kv.Key != key || kv.Mod > snap.Revision || kv.Create > kv.Mod {
					t.Errorf("%s = %+v in a snapshot of %d", key, kv, snap.Revision)
				}
			}
			seen, revision = version, snap.Revision
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return w
}

func (w *watcher) until(t *testing.T, what string, holds func(dcs.Snapshot) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen uint64
	for {
		snap, version, err := w.value.Wait(ctx, seen)
		if err != nil {
			t.Fatalf("%s passed, and not yet: %s; last seen %+v", patience, what, snap)
		}
		if holds(snap) {
			return
		}
		seen = version
	}
}

func (w *watcher) untilLost(t *testing.T, times int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen uint64
	for {
		n, version, err := w.lost.Wait(ctx, seen)
		if err != nil {
			t.Fatalf("the watch told %d times that it was broken; want %d", n, times)
		}
		if n >= times {
			return
		}
		seen = version
	}
}

// same compares what the watch holds with what a read says.
func (w *watcher) same(t *testing.T, want dcs.Snapshot) {
	t.Helper()
	got, _ := w.value.Get()
	equal := maps.EqualFunc(got.Keys, want.Keys, func(a, b dcs.KV) bool {
		return a.Mod == b.Mod && a.Create == b.Create && a.Lease == b.Lease && string(a.Value) == string(b.Value)
	})
	if !equal {
		t.Errorf("watched %v; want %v", got.Keys, want.Keys)
	}
}
