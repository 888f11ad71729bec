package embed

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"howdah/cluster"
	"howdah/logkey"
	"howdah/pki"
	"howdah/spec"
)

// A host that carries both the PostgreSQL primary and etcd's leader costs more
// when it dies: first etcd elects (writes refused), then every lease starts
// again at its full length, the dead primary's among them. So a member that
// leads on the primary's node hands leadership away.
//
// Handing over restarts every lease as well, which would lengthen the life of
// a primary that is already dead. Therefore: only in the second after the
// primary renewed, only while every member is well, at most once a minute.
const (
	yieldEvery = time.Minute
	yieldRetry = 10 * time.Second // after a member was found unwell
	yieldPoll  = 200 * time.Millisecond
)

// A yielder knows one member's reasons to give up leadership.
type yielder struct {
	server *etcdserver.EtcdServer
	local  *clientv3.Client // calls the server directly: no socket
	node   spec.Node
	log    *slog.Logger

	leading bool
	since   time.Time // leading
	primary string    // member named by the leader key
	lease   clientv3.LeaseID
	moved   time.Time
}

// yield keeps leadership off the primary's node until ctx ends. It sleeps
// unless leadership or the leader key changes.
func yield(ctx context.Context, server *etcdserver.EtcdServer, node spec.Node, log *slog.Logger) {
	if len(node.Etcd.Members) < 2 {
		return
	}
	select {
	case <-server.ReadyNotify():
	case <-server.StopNotify():
		return
	case <-ctx.Done():
		return
	}
	local := v3client.New(server)
	defer local.Close()
	y := &yielder{server: server, local: local, node: node, log: log}
	for ctx.Err() == nil {
		y.follow(ctx)
		pause(ctx, time.Second) // the watch was compacted or cancelled: begin again
	}
}

// follow watches the leader key and acts, until the watch ends.
func (y *yielder) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key := y.node.Base() + cluster.KeyLeader
	got, err := y.local.Get(ctx, key, clientv3.WithSerializable())
	if err != nil {
		return
	}
	y.primary, y.lease = "", 0
	for _, kv := range got.Kvs {
		y.primary, y.lease = string(kv.Value), clientv3.LeaseID(kv.Lease)
	}
	events := y.local.Watch(ctx, key, clientv3.WithRev(got.Header.Revision+1))
	for {
		changed := y.server.LeaderChangedNotify()
		leading := y.server.Leader() == y.server.MemberID()
		if leading && !y.leading {
			y.since = time.Now()
		}
		y.leading = leading
		var again <-chan time.Time
		if y.leading && y.primary == y.node.Member {
			again = time.After(y.try(ctx))
		}
		select {
		case <-changed:
		case <-again:
		case resp, ok := <-events:
			if !ok || resp.Err() != nil {
				return
			}
			for _, ev := range resp.Events {
				y.primary, y.lease = string(ev.Kv.Value), clientv3.LeaseID(ev.Kv.Lease)
			}
		case <-ctx.Done():
			return
		}
	}
}

// try hands leadership away if now is the time, and says when to look again.
func (y *yielder) try(ctx context.Context) time.Duration {
	if rest := yieldEvery - time.Since(y.moved); !y.moved.IsZero() && rest > 0 {
		return rest
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	lease, err := y.local.TimeToLive(ctx, y.lease)
	if err != nil || lease.GrantedTTL <= 0 {
		return yieldPoll
	}
	// A new leader of etcd starts every lease afresh, which looks like a
	// renewal; only after a whole lease does a long rest prove one.
	whole := time.Duration(lease.GrantedTTL)*time.Second + y.node.Etcd.Misses()
	if rest := whole - time.Since(y.since); rest > 0 {
		return rest
	}
	if lease.TTL < lease.GrantedTTL-1 { // whole seconds, rounded down
		return yieldPoll
	}
	to, err := y.successor(ctx)
	if err != nil {
		return yieldRetry
	}
	y.moved = time.Now()
	if err := y.server.MoveLeader(ctx, uint64(y.server.MemberID()), to); err != nil {
		y.log.Warn("etcd leadership not moved", logkey.Error, err)
		return yieldEvery
	}
	y.log.Info("etcd leadership moved off the primary's node",
		logkey.Took, time.Since(y.moved).Round(time.Millisecond))
	return yieldEvery
}

// successor asks every other member how it is and returns the one that has
// applied the most. One that is unwell or behind is an error.
func (y *yielder) successor(ctx context.Context) (uint64, error) {
	const behind = 1000 // entries: a second or more of work
	tls, err := pki.ClientConfig(y.node.TLS)
	if err != nil {
		return 0, err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: y.node.Etcd.Endpoints(), TLS: tls, Logger: zap.NewNop()})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	var best, applied uint64
	for _, m := range y.node.Etcd.Members {
		if m.Name == y.node.Etcd.Member {
			continue
		}
		s, err := client.Status(ctx, m.Client)
		if err != nil {
			return 0, fmt.Errorf("member %s: %w", m.Name, err)
		}
		if len(s.Errors) > 0 || s.IsLearner || s.Leader != uint64(y.server.MemberID()) ||
			s.RaftAppliedIndex+behind < y.server.AppliedIndex() {
			return 0, fmt.Errorf("member %s is not well", m.Name)
		}
		if best == 0 || s.RaftAppliedIndex > applied {
			best, applied = s.Header.MemberId, s.RaftAppliedIndex
		}
	}
	return best, nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
