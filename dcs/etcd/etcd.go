// Package etcd is a dcs.Store in etcd, embedded or external, through its own
// client.
//
// It keeps one connection to each member and decides itself what may be asked
// again, because the client's balancer neither notices a silent member within
// our deadlines nor tells which requests were never sent: reading, granting,
// keeping alive and revoking are asked of a second member when the first is
// slow (first.go); a transaction is sent once.
//
// A renewal is confirmed the way notes on etcd's leases demand: the keep-alive
// answer carries a raft term, and a quorum-committed transaction after it
// carries the same one, so the member that extended the lease still led then
// (etcd-io/etcd#15247 tells of one that did not).
package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/pki"
	"howdah/spec"
)

// Options say where the store is and which keys are ours.
type Options struct {
	Endpoints []string   // client URLs of every member, the nearest first
	Base      string     // "/service/demo/"
	TLS       *pki.Peers // nil: without
}

// A Store is the keys below one base.
type Store struct {
	base string

	mu      sync.Mutex
	members []*member // the one to ask first comes first
	home    *member   // the nearest
	numbers numbers
	back    time.Time // when it is asked first again
	away    time.Duration
}

var _ dcs.Store = (*Store)(nil)

// Open makes a store; it connects when it is first asked.
func Open(o Options) (*Store, error) {
	s := &Store{base: o.Base}
	for _, endpoint := range o.Endpoints {
		m, err := newMember(endpoint, o.TLS)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("etcd member %s: %w", endpoint, err), s.Close())
		}
		s.members = append(s.members, m)
	}
	if len(s.members) == 0 {
		return nil, errors.New("etcd: no endpoints")
	}
	s.home = s.members[0]
	return s, nil
}

// OpenNode makes the store of a node's cluster. It asks the node's own member
// first, and again some time after that failed: then the loss of another host does
// not delay a renewal at all, and no member works for all nodes.
func OpenNode(n spec.Node) (*Store, error) { return OpenBase(n, n.Base()) }

// OpenBase makes the store of another cluster that shares the node's etcd.
func OpenBase(n spec.Node, base string) (*Store, error) {
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, m := range n.Etcd.Members {
		if m.Name == n.Etcd.Member {
			endpoints = slices.Insert(endpoints, 0, m.Client)
		} else {
			endpoints = append(endpoints, m.Client)
		}
	}
	return Open(Options{Endpoints: endpoints, Base: base, TLS: peers})
}

// Close implements dcs.Store.
func (s *Store) Close() error {
	var errs []error
	for _, m := range s.order() {
		if err := m.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Do implements dcs.Store.
func (s *Store) Do(ctx context.Context, r dcs.Request) (resp dcs.Response, err error) {
	switch r.Kind {
	case dcs.Read:
		resp, _, err = s.read(ctx)
	case dcs.Commit:
		resp, err = s.commit(ctx, r)
	case dcs.Grant:
		resp, err = s.grant(ctx, r.TTL)
	case dcs.Renew:
		resp, err = s.renew(ctx, r)
	case dcs.Keep:
		var k kept
		k, _, err = s.keep(ctx, r.Lease)
		resp = dcs.Response{OK: true, TTL: k.ttl}
	case dcs.Revoke:
		resp, err = s.revoke(ctx, r.Lease)
	default:
		err = fmt.Errorf("unknown kind of request %d", r.Kind)
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		err = fmt.Errorf("%w (%w)", dcs.ErrLease, err)
	}
	if err != nil {
		return dcs.Response{}, fmt.Errorf("etcd: %w", err)
	}
	return resp, nil
}

// read is everything below the base, and who said so.
func (s *Store) read(ctx context.Context) (dcs.Response, *member, error) {
	newest := s.numbers.newest.Load() // before the question: the answer is no older
	got, m, err := first(ctx, s, func(ctx context.Context, m *member) (*clientv3.GetResponse, error) {
		return m.client.Get(ctx, s.base, clientv3.WithPrefix())
	})
	if err != nil {
		return dcs.Response{}, nil, fmt.Errorf("read %s: %w", s.base, err)
	}
	count := s.numbering(got.Kvs)
	snap := dcs.Snapshot{Revision: got.Header.Revision + count.from, Keys: make(map[string]dcs.KV, len(got.Kvs))}
	if snap.Revision < newest {
		return dcs.Response{}, nil, errors.Join(errAnew, s.renumber(ctx, m, got.Kvs, newest))
	}
	s.numbers.set(count, snap.Revision)
	for _, kv := range got.Kvs {
		k := s.relative(kv, count.from)
		snap.Keys[k.Key] = k
	}
	return dcs.Response{OK: true, Revision: snap.Revision, Snapshot: snap}, m, nil
}

func (s *Store) relative(kv *mvccpb.KeyValue, from int64) dcs.KV {
	return dcs.KV{
		Key:    strings.TrimPrefix(string(kv.Key), s.base),
		Value:  kv.Value,
		Create: kv.CreateRevision + from,
		Mod:    kv.ModRevision + from,
		Lease:  dcs.LeaseID(kv.Lease),
	}
}

func (s *Store) grant(ctx context.Context, ttl time.Duration) (dcs.Response, error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	// Asked twice, it may grant a lease that nobody knows; that one ends by itself.
	got, _, err := first(ctx, s, func(ctx context.Context, m *member) (*clientv3.LeaseGrantResponse, error) {
		return m.client.Grant(ctx, seconds)
	})
	if err != nil {
		return dcs.Response{}, fmt.Errorf("grant lease: %w", err)
	}
	return dcs.Response{
		OK:       true,
		Revision: got.Revision + s.numbers.now().from,
		Lease:    dcs.LeaseID(got.ID),
		TTL:      time.Duration(got.TTL) * time.Second,
	}, nil
}

func (s *Store) revoke(ctx context.Context, id dcs.LeaseID) (dcs.Response, error) {
	got, _, err := first(ctx, s, func(ctx context.Context, m *member) (*clientv3.LeaseRevokeResponse, error) {
		return m.client.Revoke(ctx, clientv3.LeaseID(id))
	})
	if err != nil {
		return dcs.Response{}, fmt.Errorf("revoke lease %x: %w", int64(id), err)
	}
	return dcs.Response{OK: true, Revision: got.Header.Revision + s.numbers.now().from}, nil
}

// keep keeps a lease alive, and tells which member of the store says so.
func (s *Store) keep(ctx context.Context, id dcs.LeaseID) (kept, *member, error) {
	alive, m, err := first(ctx, s, func(ctx context.Context, m *member) (kept, error) {
		return m.keepAlive(ctx, id)
	})
	if err != nil {
		return kept{}, nil, fmt.Errorf("renew lease %x: %w", int64(id), err)
	}
	if alive.ttl <= 0 {
		// The member that says so may no longer lead: believe it only if a
		// quorum answers in the same term afterwards.
		newest := s.numbers.newest.Load()
		got, err := m.client.Get(ctx, s.base, clientv3.WithCountOnly())
		switch {
		case err != nil:
			return kept{}, nil, fmt.Errorf("lease %x said to be gone, not confirmed: %w", int64(id), err)
		case got.Header.Revision+s.numbers.now().from < newest:
			return kept{}, nil, fmt.Errorf("lease %x said to be gone: %w", int64(id), errAnew)
		case got.Header.RaftTerm != alive.term:
			return kept{}, nil, fmt.Errorf("lease %x said to be gone: %w", int64(id), errTerm)
		}
		return kept{}, nil, fmt.Errorf("renew lease %x: %w", int64(id), dcs.ErrLease)
	}
	return alive, m, nil
}

// renew keeps the lease alive, then commits in the same term. A store at its quota takes
// nothing more, and lets its leases live: there what was to be written is left out, and the
// conditions alone confirm the renewal, for whoever leads would stop for a lack of room else.
func (s *Store) renew(ctx context.Context, r dcs.Request) (dcs.Response, error) {
	alive, m, err := s.keep(ctx, r.Lease)
	if err != nil {
		return dcs.Response{}, err
	}
	resp, term, err := s.transact(ctx, m, r)
	if errors.Is(err, rpctypes.ErrNoSpace) && len(r.Ops) > 0 {
		bare := r
		bare.Ops = nil
		resp, term, err = s.transact(ctx, m, bare)
	}
	resp.TTL = alive.ttl
	switch {
	case err != nil:
		// The lease may live longer now, so this is not "nothing was sent".
		return dcs.Response{}, fmt.Errorf("confirm lease %x: %w", int64(r.Lease), sent(err))
	case term != alive.term:
		return dcs.Response{}, fmt.Errorf("confirm lease %x: %w", int64(r.Lease), errTerm)
	}
	return resp, nil
}

var errTerm = errors.New("etcd changed its leader between the answers")

// commit sends a transaction, once, to a member that certainly lives.
func (s *Store) commit(ctx context.Context, r dcs.Request) (dcs.Response, error) {
	m := s.order()[0]
	if !m.answeredWithin(fresh) {
		var err error
		_, m, err = first(ctx, s, func(ctx context.Context, m *member) (*clientv3.GetResponse, error) {
			return m.client.Get(ctx, s.base, clientv3.WithCountOnly())
		})
		if err != nil {
			// Only the question whether it lives was sent, not the transaction.
			return dcs.Response{}, fmt.Errorf("commit: %w (%w)", dcs.ErrUnavailable, err)
		}
	}
	resp, _, err := s.transact(ctx, m, r)
	if errors.Is(err, dcs.ErrUnavailable) && ctx.Err() == nil {
		s.demote(m)
		if next := s.order()[0]; next != m {
			resp, _, err = s.transact(ctx, next, r)
		}
	}
	if err != nil {
		return dcs.Response{}, fmt.Errorf("commit: %w", err)
	}
	return resp, nil
}

func (s *Store) transact(ctx context.Context, m *member, r dcs.Request) (resp dcs.Response, term uint64, err error) {
	count := s.numbers.now()
	// What is counted otherwise than we know was lost and begun anew since.
	conds := []clientv3.Cmp{s.same(count)}
	for _, c := range r.If {
		key := s.base + c.Key
		if c.Value != nil {
			conds = append(conds, clientv3.Compare(clientv3.Value(key), "=", *c.Value))
		}
		if c.Value == nil || c.Mod != 0 {
			mod := c.Mod
			if mod > 0 {
				if mod -= count.from; mod <= 0 {
					mod = never // of a store that is no more
				}
			}
			conds = append(conds, clientv3.Compare(clientv3.ModRevision(key), "=", mod))
		}
	}
	var ops []clientv3.Op
	for _, op := range r.Ops {
		switch key := s.base + op.Key; {
		case op.Delete:
			ops = append(ops, clientv3.OpDelete(key))
		default:
			ops = append(ops, clientv3.OpPut(key, op.Value, clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		}
	}
	if len(ops) == 0 {
		// Without any operation etcd takes the transaction for a serializable
		// read (txn.IsTxnSerializable) and answers from what this member
		// happens to know; a linearizable read makes it ask the quorum.
		ops = append(ops, clientv3.OpGet(s.base, clientv3.WithCountOnly()))
	}
	got, err := call(ctx, m, func(ctx context.Context, m *member) (*clientv3.TxnResponse, error) {
		return m.client.Txn(ctx).If(conds...).Then(ops...).Else(clientv3.OpGet(s.base + cluster.KeyNumbering)).Commit()
	})
	if err != nil {
		return resp, 0, err
	}
	if !got.Succeeded {
		if now := s.numbering(got.Responses[0].GetResponseRange().Kvs); now != count {
			s.numbers.counted.Store(now)
			return resp, 0, fmt.Errorf("%w (%w)", dcs.ErrUnavailable, errAnew) // nothing was done
		}
	}
	return dcs.Response{OK: got.Succeeded, Revision: got.Header.Revision + count.from}, got.Header.RaftTerm, nil
}
