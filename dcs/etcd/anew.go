package etcd

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"howdah/cluster"
	"howdah/dcs"
)

// Revisions never go back, for epochs are revisions, and members keep on disk which
// they refuse. But an etcd whose data were lost counts from one again, and one that
// was put back to a snapshot counts some of its revisions twice. Whoever finds that
// a linearizable read answers with less than was seen before puts a number beside
// the keys: from then on everybody adds so many times span to what etcd says.
//
// Without the number nothing is added. A transaction holds only while the number is
// the one that its conditions were counted by.
const (
	span  = 1 << 40 // far more than a store counts in its life; 4,000 of them fit into what is read, and into a float64
	never = -1      // no key was put at that revision
)

// numbers is how a Store counts.
type numbers struct {
	counted atomic.Value // the number as it stood there when last looked at
	newest  atomic.Int64 // the highest revision that was handed over
}

// A counted is the number's key: what stands there, and what is therefore added.
type counted struct {
	text  string
	there bool
	from  int64
}

func (n *numbers) now() counted {
	c, _ := n.counted.Load().(counted)
	return c
}

func (n *numbers) set(c counted, revision int64) {
	n.counted.Store(c)
	for {
		was := n.newest.Load()
		if revision <= was || n.newest.CompareAndSwap(was, revision) {
			return
		}
	}
}

// numbering is how the store counts, by what stands in it.
func (s *Store) numbering(kvs []*mvccpb.KeyValue) counted {
	for _, kv := range kvs {
		if string(kv.Key) == s.base+cluster.KeyNumbering {
			return countedBy(kv.Value)
		}
	}
	return counted{}
}

func numberingOf(snap dcs.Snapshot) counted {
	if kv, ok := snap.Keys[cluster.KeyNumbering]; ok {
		return countedBy(kv.Value)
	}
	return counted{}
}

// countedBy reads the number. What can not be read adds nothing; should revisions
// seem to go back, a number replaces it.
func countedBy(value []byte) counted {
	c := counted{text: string(value), there: true}
	if n, err := strconv.ParseInt(c.text, 10, 13); err == nil && n > 0 {
		c.from = n * span
	}
	return c
}

// same is the condition that the store counts so.
func (s *Store) same(c counted) clientv3.Cmp {
	key := s.base + cluster.KeyNumbering
	if !c.there {
		return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	}
	return clientv3.Compare(clientv3.Value(key), "=", c.text)
}

// renumber makes the store, which said kvs, count on from newest.
func (s *Store) renumber(ctx context.Context, m *member, kvs []*mvccpb.KeyValue, newest int64) error {
	key := s.base + cluster.KeyNumbering
	var mod int64
	for _, kv := range kvs {
		if string(kv.Key) == key {
			mod = kv.ModRevision
		}
	}
	_, err := call(ctx, m, func(ctx context.Context, m *member) (*clientv3.TxnResponse, error) {
		return m.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", mod)). // another may have been first
			Then(clientv3.OpPut(key, strconv.FormatInt(newest/span+1, 10))).
			Commit()
	})
	if err != nil {
		return fmt.Errorf("count on from %d: %w", newest, err)
	}
	return nil
}
