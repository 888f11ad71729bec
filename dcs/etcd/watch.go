package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	mvccpb "go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"howdah/dcs"
	"howdah/latest"
)

const (
	readWait = time.Second            // allowed to the read that begins a watch
	pauseMax = 250 * time.Millisecond // between two attempts
)

var (
	errSilent = errors.New("the member watched keeps silent")
	errAnew   = errors.New("etcd counts from the beginning again: it was lost, or put back")
)

// Watch implements dcs.Store. It reads the wire itself, because the client's
// watcher begins again without telling, and may wait for a dead member for ever.
func (s *Store) Watch(ctx context.Context, into *latest.Value[dcs.Snapshot], lost func(error)) error {
	var last int64 // the newest revision handed over
	pause := pauseMax / 16
	for {
		before := last
		err := s.follow(ctx, into, &last)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		lost(fmt.Errorf("watch %s: %w", s.base, err))
		if last > before {
			pause = pauseMax / 16
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(pause*2, pauseMax)
	}
}

// follow hands over a fresh snapshot and then every change until something breaks.
func (s *Store) follow(ctx context.Context, into *latest.Value[dcs.Snapshot], last *int64) error {
	readCtx, cancelRead := context.WithTimeout(ctx, readWait)
	got, m, err := s.read(readCtx)
	cancelRead()
	if err != nil {
		return err
	}
	snap := got.Snapshot
	if snap.Revision < *last {
		return errAnew
	}
	*last = snap.Revision
	into.Set(snap)
	count := numberingOf(snap)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(m.trust(), func() { cancel(errSilent) })()
	broken := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("%s: %w", m.endpoint, rpctypes.Error(err))
	}
	stream, err := pb.NewWatchClient(m.client.ActiveConnection()).Watch(clientv3.WithRequireLeader(ctx))
	if err != nil {
		return broken(err)
	}
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:           []byte(s.base),
		RangeEnd:      []byte(clientv3.GetPrefixRangeEnd(s.base)),
		StartRevision: snap.Revision - count.from + 1,
	}}}); err != nil {
		return broken(err)
	}
	for {
		resp, err := stream.Recv()
		switch {
		case err != nil:
			return broken(err)
		case resp.CompactRevision != 0:
			return broken(rpctypes.ErrCompacted)
		case resp.Canceled:
			return broken(errors.New(resp.CancelReason))
		case len(resp.Events) == 0: // created, or progress
			continue
		}
		snap = s.advance(snap, resp.Events, count.from)
		if numberingOf(snap) != count {
			return broken(errAnew)
		}
		*last = snap.Revision
		s.numbers.set(count, snap.Revision)
		into.Set(snap)
	}
}

// advance applies events to a copy; etcd does not split a revision.
func (s *Store) advance(snap dcs.Snapshot, events []*mvccpb.Event, from int64) dcs.Snapshot {
	keys := maps.Clone(snap.Keys)
	for _, ev := range events {
		kv := s.relative(ev.Kv, from)
		snap.Revision = kv.Mod
		if ev.Type == mvccpb.Event_DELETE {
			delete(keys, kv.Key)
		} else {
			keys[kv.Key] = kv
		}
	}
	snap.Keys = keys
	return snap
}
