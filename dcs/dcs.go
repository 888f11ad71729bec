// Package dcs is the shared memory of a cluster: a handful of keys below one
// base path, read as a snapshot, watched, changed by compare-and-swap, and
// held by leases.
//
// A Request is a plain value, and a Store carries it out; the simulator sends
// the same values to a model. Every failure that is not one of the sentinels
// below means *unknown*: the request may or may not have been applied (law 6).
// Keys are relative to the base ("leader", "members/pg-1"). dcs/dcstest is the
// contract; dcs/etcd, dcs/mem and a real embedded server keep it.
package dcs

import (
	"context"
	"errors"
	"time"

	"howdah/cluster"
	"howdah/latest"
)

// Errors a caller may branch on. Any other error is unknown.
var (
	// ErrLease says that the store is certain the lease does not exist (any
	// more); the request was not applied.
	ErrLease = errors.New("no such lease")
	// ErrUnavailable says that the store could not be asked: nothing was sent.
	ErrUnavailable = errors.New("store unavailable")
)

// A LeaseID names a lease; 0 is none.
type LeaseID = int64

// A KV is a key, its value and its history, as package cluster reads it. Mod
// changes with every put.
type KV = cluster.KV

// A Snapshot is every key below the base at one revision. Keys are read-only.
type Snapshot struct {
	Revision int64
	Keys     map[string]KV
}

// A Cond is one condition of a transaction on one key.
type Cond struct {
	Key   string
	Mod   int64   // 0: the key must be absent, unless Value is set
	Value *string // the value must equal this one (Mod is then ignored if 0)
}

// Absent asks that key does not exist.
func Absent(key string) Cond { return Cond{Key: key} }

// ModIs asks that key was last put at revision mod.
func ModIs(key string, mod int64) Cond { return Cond{Key: key, Mod: mod} }

// ValueIs asks that key exists with this value.
func ValueIs(key, value string) Cond { return Cond{Key: key, Value: &value} }

// An Op is one change of a transaction: a put, or a delete.
type Op struct {
	Key    string
	Value  string
	Lease  LeaseID // 0: the key outlives everyone
	Delete bool
}

// Put sets key to value for as long as lease lives (0: for ever).
func Put(key, value string, lease LeaseID) Op { return Op{Key: key, Value: value, Lease: lease} }

// Delete removes key.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Kind says what a Request asks for.
type Kind int

// What can be asked.
const (
	Read   Kind = iota // the whole base, linearizably
	Commit             // Ops, if every one of If holds
	Grant              // a lease of TTL
	Renew              // keep Lease alive, then Commit in the same term: the confirmed renewal
	Keep               // keep Lease alive; a member of the store may say so that leads it no more
	Revoke             // end Lease and every key that hangs on it, now
)

// A Request is one thing to ask of the store.
type Request struct {
	Kind  Kind
	If    []Cond
	Ops   []Op // in Commit and Renew; may be empty: then only the conditions are checked
	Lease LeaseID
	TTL   time.Duration
}

// A Response is the store's answer. OK is false when a condition did not hold;
// nothing was changed then (a Renew has still kept the lease alive).
type Response struct {
	OK       bool
	Revision int64         // of the store when it answered; the Mod of every key just put
	Snapshot Snapshot      // Read
	Lease    LeaseID       // Grant
	TTL      time.Duration // Grant, Renew, Keep: what the store gives, which may exceed what was asked
}

// A Store keeps the keys of one cluster.
type Store interface {
	// Do carries out one request within the deadline of ctx.
	Do(ctx context.Context, r Request) (Response, error)
	// Watch keeps into current until ctx ends: first a whole snapshot, then one
	// after every change, in order, none of them older than the one before.
	// When the stream breaks it says so through lost and begins again by itself.
	Watch(ctx context.Context, into *latest.Value[Snapshot], lost func(error)) error
	// Close gives up the connections.
	Close() error
}
