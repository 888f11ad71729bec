// Package mem is a model of etcd: State, the machine itself, and Server and
// Store, which serve it to tests as a dcs.Store.
//
// State has no clock, goroutine or randomness: the simulator owns time and
// chance and drives it. What it models was read from etcd's source (lease/
// lessor.go, server/etcdserver/txn) and is held to the real server by dcstest:
// one revision for each change that changes something, whole-second leases with
// a floor, keys that go with their lease, and an expiry that somebody has to
// carry out (etcd's leader scans every 500 ms) and that a new leader puts off.
package mem

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"howdah/dcs"
)

// Rules are the store's manners with leases.
type Rules struct {
	Unit  time.Duration // a lease lasts a whole number of these
	Floor time.Duration // a shorter lease is made this long without an error
}

// Etcd are the rules of a member that elects within 500 ms.
func Etcd() Rules { return Rules{Unit: time.Second, Floor: time.Second} }

// A lease is alive until somebody removes it; due is when somebody may.
type lease struct {
	ttl time.Duration
	due time.Duration
}

// A State is the whole store at one revision. It is not safe for concurrent use.
type State struct {
	// OnChange, if set, is told every new revision, in order, before the call
	// that made it returns; it must not call back.
	OnChange func(dcs.Snapshot)

	rules    Rules
	revision int64
	keys     map[string]dcs.KV // never changed in place: snapshots share it
	leases   map[dcs.LeaseID]lease
	granted  dcs.LeaseID // the last id given out
}

// New returns an empty store.
func New(r Rules) *State {
	return &State{
		rules:    r,
		revision: 1, // as a fresh etcd says
		keys:     map[string]dcs.KV{},
		leases:   map[dcs.LeaseID]lease{},
	}
}

// Snapshot returns every key at the present revision.
func (s *State) Snapshot() dcs.Snapshot { return dcs.Snapshot{Revision: s.revision, Keys: s.keys} }

// Apply carries out r at now. Its errors are certain: nothing was changed,
// except that a failed Renew may have kept the lease alive.
func (s *State) Apply(now time.Duration, r dcs.Request) (dcs.Response, error) {
	switch r.Kind {
	case dcs.Read:
		return dcs.Response{OK: true, Revision: s.revision, Snapshot: s.Snapshot()}, nil
	case dcs.Commit:
		return s.commit(r)
	case dcs.Grant:
		s.granted++
		ttl := s.round(r.TTL)
		s.leases[s.granted] = lease{ttl: ttl, due: now + ttl}
		return dcs.Response{OK: true, Revision: s.revision, Lease: s.granted, TTL: ttl}, nil
	case dcs.Renew, dcs.Keep:
		l, ok := s.leases[r.Lease]
		if ok && now >= l.due {
			// etcd's leader lets a renewal of an overdue lease wait for its end.
			s.revoke(r.Lease)
			ok = false
		}
		if !ok {
			return dcs.Response{}, fmt.Errorf("renew lease %x: %w", int64(r.Lease), dcs.ErrLease)
		}
		l.due = now + l.ttl
		s.leases[r.Lease] = l
		resp, err := s.commit(r) // of a Keep nothing
		resp.TTL = l.ttl
		return resp, err
	case dcs.Revoke:
		if _, ok := s.leases[r.Lease]; !ok {
			return dcs.Response{}, fmt.Errorf("revoke lease %x: %w", int64(r.Lease), dcs.ErrLease)
		}
		s.revoke(r.Lease)
		return dcs.Response{OK: true, Revision: s.revision}, nil
	default:
		return dcs.Response{}, fmt.Errorf("unknown kind of request %d", r.Kind)
	}
}

// Stale answers a Keep as a member of a store does that led it until just now: it
// says that the lease lives, and nobody else knows.
func (s *State) Stale(r dcs.Request) (dcs.Response, error) {
	l, ok := s.leases[r.Lease]
	if !ok {
		return dcs.Response{}, fmt.Errorf("renew lease %x: %w", int64(r.Lease), dcs.ErrLease)
	}
	return dcs.Response{OK: true, Revision: s.revision, TTL: l.ttl}, nil
}

// round makes a lease as long as this store can count.
func (s *State) round(ttl time.Duration) time.Duration {
	if unit := s.rules.Unit; unit > 0 {
		ttl = (ttl + unit - 1) / unit * unit
	}
	return max(ttl, s.rules.Floor)
}

func (s *State) commit(r dcs.Request) (dcs.Response, error) {
	for _, c := range r.If {
		if !s.holds(c) {
			return dcs.Response{Revision: s.revision}, nil
		}
	}
	for i, op := range r.Ops {
		if slices.ContainsFunc(r.Ops[:i], func(o dcs.Op) bool { return o.Key == op.Key }) {
			return dcs.Response{}, fmt.Errorf("key %s is changed twice in one request", op.Key)
		}
		if op.Delete || op.Lease == 0 {
			continue
		}
		if _, ok := s.leases[op.Lease]; !ok {
			return dcs.Response{}, fmt.Errorf("put %s with lease %x: %w", op.Key, int64(op.Lease), dcs.ErrLease)
		}
	}
	s.change(r.Ops)
	return dcs.Response{OK: true, Revision: s.revision}, nil
}

func (s *State) holds(c dcs.Cond) bool {
	kv, exists := s.keys[c.Key]
	if c.Value != nil && (!exists || string(kv.Value) != *c.Value) {
		return false
	}
	if c.Value != nil && c.Mod == 0 {
		return true
	}
	return kv.Mod == c.Mod // a missing key has revision 0
}

// change makes one revision of ops, unless they change nothing.
func (s *State) change(ops []dcs.Op) {
	var next map[string]dcs.KV
	for _, op := range ops {
		old, exists := s.keys[op.Key]
		if op.Delete && !exists {
			continue
		}
		if next == nil {
			next = maps.Clone(s.keys)
		}
		if op.Delete {
			delete(next, op.Key)
			continue
		}
		kv := dcs.KV{Key: op.Key, Value: []byte(op.Value), Create: old.Create, Mod: s.revision + 1, Lease: op.Lease}
		if !exists {
			kv.Create = kv.Mod
		}
		next[op.Key] = kv
	}
	if next == nil {
		return
	}
	s.revision++
	s.keys = next
	if s.OnChange != nil {
		s.OnChange(s.Snapshot())
	}
}

// revoke ends a lease and its keys, in one revision.
func (s *State) revoke(id dcs.LeaseID) {
	delete(s.leases, id)
	var ops []dcs.Op
	for key, kv := range s.keys {
		if kv.Lease == id {
			ops = append(ops, dcs.Delete(key))
		}
	}
	s.change(ops)
}

// Expire ends every lease that is due at now, the longest overdue first. In
// etcd this happens up to half a second after the due time; when, is for the
// caller to say.
func (s *State) Expire(now time.Duration) {
	var over []dcs.LeaseID
	for id, l := range s.leases {
		if now >= l.due {
			over = append(over, id)
		}
	}
	slices.SortFunc(over, func(a, b dcs.LeaseID) int {
		return cmp.Or(cmp.Compare(s.leases[a].due, s.leases[b].due), cmp.Compare(a, b))
	})
	for _, id := range over {
		s.revoke(id)
	}
}

// Lose forgets everything, as a store does whose disks are gone. Its revisions go
// on far above (dcs/etcd sees to that).
func (s *State) Lose() {
	s.revision += 1 << 40
	s.keys, s.leases = map[string]dcs.KV{}, map[dcs.LeaseID]lease{}
	if s.OnChange != nil {
		s.OnChange(s.Snapshot())
	}
}

// Due tells when a lease may end.
func (s *State) Due(id dcs.LeaseID) (due time.Duration, ok bool) {
	l, ok := s.leases[id]
	return l.due, ok
}

// NextDue tells when the next lease is due, if there is one.
func (s *State) NextDue() (due time.Duration, ok bool) {
	for _, l := range s.leases {
		if !ok || l.due < due {
			due, ok = l.due, true
		}
	}
	return due, ok
}

// RestartLeases is what a new leader of etcd does at now: it does not know when
// leases were last renewed, so each starts again at its whole length plus extend
// (one election timeout).
func (s *State) RestartLeases(now, extend time.Duration) {
	for id, l := range s.leases {
		l.due = now + l.ttl + extend
		s.leases[id] = l
	}
}
