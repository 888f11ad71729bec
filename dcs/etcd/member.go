package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"howdah/dcs"
	"howdah/pki"
)

// A host that vanished sends nothing, not even a refusal. The kernel finds out
// about a connection that waits for an answer within unanswered, and asks an
// idle one once a second; gRPC itself would not ask more often than every 10 s.
const (
	unanswered  = time.Second
	connectWait = 500 * time.Millisecond
	fresh       = 1500 * time.Millisecond // a member that answered this lately may be sent a transaction unasked
)

// A member is one server of the store and the connection to it.
type member struct {
	endpoint string
	client   *clientv3.Client
	answered atomic.Int64 // nanoseconds since began
	renewals atomic.Pointer[renewals]

	mu      sync.Mutex
	trusted context.Context // ends when the member kept a question waiting that another one answered
	distr   context.CancelFunc
}

var began = time.Now()

func newMember(endpoint string, peers *pki.Peers) (*member, error) {
	m := &member{endpoint: endpoint}
	m.trusted, m.distr = context.WithCancel(context.Background())
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: time.Second, Interval: time.Second, Count: 2,
	}}
	secure := insecure.NewCredentials()
	if peers != nil {
		secure = &credentialsNow{peers}
	}
	var err error
	m.client, err = clientv3.New(clientv3.Config{
		Endpoints:            []string{endpoint},
		Logger:               zap.NewNop(), // it would tell of every retry
		MaxUnaryRetries:      1,            // that is: no retry
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: unanswered, // also TCP_USER_TIMEOUT
		DialOptions: []grpc.DialOption{
			grpc.WithTransportCredentials(secure), // in place of the client's own, which would keep the files of its beginning
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", addr)
			}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: connectWait,
			}),
			grpc.WithChainUnaryInterceptor(noteSent),
			grpc.WithChainStreamInterceptor(failFast),
		},
	})
	return m, err
}

// credentialsNow are the node's certificates as they are at each handshake.
type credentialsNow struct{ peers *pki.Peers }

func (c *credentialsNow) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.peers.To("")).ClientHandshake(ctx, authority, conn)
}

func (c *credentialsNow) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("nobody dials a client")
}

func (c *credentialsNow) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(c.peers.To("")).Info()
}

func (c *credentialsNow) Clone() credentials.TransportCredentials { return c }

func (c *credentialsNow) OverrideServerName(string) error {
	return errors.New("a server has the name by which it is dialled")
}

// sentKey finds, in a context, the flag to raise once a request may have left.
type sentKey struct{}

// noteSent lets a request fail at once when there is no connection, and says
// whether it may have been sent: gRPC knows a peer only for a request that was
// given to a connection.
func noteSent(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var p peer.Peer
	err := next(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false), grpc.Peer(&p))...)
	if flag, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok && (err == nil || p.Addr != nil) {
		flag.Store(true)
	}
	return err
}

func failFast(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, append(opts, grpc.WaitForReady(false))...)
	if flag, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok && err == nil {
		flag.Store(true)
	}
	return s, err
}

// call asks m one thing. Its error is dcs.ErrUnavailable if nothing was applied
// for certain: no connection took the request, or the member refused it before
// looking at it because it knows no leader.
func call[T any](ctx context.Context, m *member, do func(context.Context, *member) (T, error)) (T, error) {
	var left atomic.Bool
	v, err := do(clientv3.WithRequireLeader(context.WithValue(ctx, sentKey{}, &left)), m)
	if err == nil {
		m.answered.Store(int64(time.Since(began)))
		return v, nil
	}
	if !left.Load() || errors.Is(err, rpctypes.ErrNoLeader) {
		return v, fmt.Errorf("%w (%s: %w)", dcs.ErrUnavailable, m.endpoint, err)
	}
	return v, fmt.Errorf("%s: %w", m.endpoint, err)
}

// sent hides that the last of several requests was never sent.
func sent(err error) error {
	if errors.Is(err, dcs.ErrUnavailable) {
		return errors.New(err.Error())
	}
	return err
}

func (m *member) answeredWithin(d time.Duration) bool {
	at := m.answered.Load()
	return at != 0 && time.Since(began)-time.Duration(at) < d
}

// distrust ends what waits on this member in silence: its watches.
func (m *member) distrust() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.distr()
	m.trusted, m.distr = context.WithCancel(context.Background())
}

// trust returns a context that ends when the member is distrusted.
func (m *member) trust() context.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trusted
}

// kept is the answer to a keep-alive.
type kept struct {
	ttl  time.Duration // 0: there is no such lease
	term uint64
}

// keepAlive renews a lease once. The client's own KeepAliveOnce asks again and
// again while there is no connection, and hides the term of a lease not found; it
// also makes a stream for each, which is most of what a renewal costs.
func (m *member) keepAlive(ctx context.Context, id dcs.LeaseID) (kept, error) {
	if r := m.renewals.Swap(nil); r != nil { // nobody else has it now
		k, err := m.ask(ctx, r, id)
		if err == nil || ctx.Err() != nil {
			return k, err
		}
		// It had ended since, with its connection or its leader.
	}
	r := &renewals{}
	var life context.Context
	life, r.end = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if r.stream, err = pb.NewLeaseClient(m.client.ActiveConnection()).LeaseKeepAlive(life); err != nil {
		r.end()
		return kept{}, rpctypes.Error(err)
	}
	return m.ask(ctx, r, id)
}

// renewals is a stream for one renewal at a time.
type renewals struct {
	stream pb.Lease_LeaseKeepAliveClient
	end    context.CancelFunc
}

// ask renews a lease by r, and keeps r for the next if it answered.
func (m *member) ask(ctx context.Context, r *renewals, id dcs.LeaseID) (kept, error) {
	mine := context.AfterFunc(ctx, r.end)
	if flag, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		flag.Store(true)
	}
	err := r.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)})
	var resp *pb.LeaseKeepAliveResponse
	if err == nil || errors.Is(err, io.EOF) { // why it has ended, Recv says
		resp, err = r.stream.Recv()
	}
	if !mine() {
		err = cmp.Or(err, context.Cause(ctx)) // its answer is still to come
	}
	if err != nil {
		r.end()
		return kept{}, rpctypes.Error(err)
	}
	if !m.renewals.CompareAndSwap(nil, r) {
		r.end()
	}
	return kept{ttl: time.Duration(resp.TTL) * time.Second, term: resp.Header.RaftTerm}, nil
}
