package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/cluster"
	"howdah/listen"
	"howdah/logkey"
	"howdah/pgwire"
)

// A port is one service of one cluster: its listener and its sessions.
type port struct {
	front   *front
	index   int // among the front's services
	name    string
	service cluster.Service
	limits  cluster.Limits
	counts  counts
	door    *pooler.Door // of a pooled service; else nil
	way     *way         // to its servers
	holds   bool         // its clients are held; under the front's lock

	mu       sync.Mutex
	sessions map[*session]struct{}
	keys     map[pgwire.Key]*session
	servers  map[string]*server // by member: those that ever served
	balance  balance
	rate     rate          // of connections
	joined   rate          // of sessions
	current  int64         // sessions
	most     int64         // at once
	up       bool          // somebody serves
	queued   int           // clients that wait for a server with room
	changed  time.Time     // when that changed; zero: never
	down     time.Duration // nobody did, until then

	waiting, waitingMost atomic.Int64 // clients without a server yet
}

// counts are what a listener has seen.
type counts struct {
	now, most                          atomic.Int64 // connections
	accepted, refused, waited, dropped atomic.Int64
}

// A server is what this port had to do with one member.
type server struct {
	now, most, total int64        // sessions
	in, out          atomic.Int64 // bytes from and to clients
	errors, cut      int64        // refused connections, and sessions cut
	rate             rate
	connect          mean

	up                                 bool
	returned                           bool // it was down before it came up
	lastSession, lastChange, downSince time.Time
	down                               time.Duration // before downSince
	changes                            int64         // from up to down
}

func newPort(f *front, index int, s cluster.Service) *port {
	p := &port{
		front: f, index: index, service: s, name: listen.Name(f.Front, s),
		sessions: map[*session]struct{}{}, keys: map[pgwire.Key]*session{}, servers: map[string]*server{},
	}
	p.limits, _ = s.Limits() // what can not be read was refused with the inventory, and limits nothing
	if p.service.MaxConn <= 0 {
		p.service.MaxConn = 5000 // Pigsty's default
	}
	return p
}

// usable are the backends that it leads to now.
func (p *port) usable() []route.Backend {
	s, _ := p.route()
	return s.Usable()
}

// route is where the service leads now, and the version of that.
func (p *port) route() (route.Service, uint64) {
	all, version := p.front.routes.Get()
	if version == 0 {
		return route.Service{}, 0
	}
	return all[p.index], version
}

// serve accepts until ctx ends; sessions end with it.
func (p *port) serve(ctx context.Context, l *net.TCPListener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		l.Close()
		p.cut("the gateway stops", func(*session) bool { return true })
	})()
	wg.Go(func() { p.sweep(ctx) })
	leaving := p.front.gateway.succession.leaving
	defer context.AfterFunc(leaving, func() { l.Close() })()
	spare := newSpare()
	defer spare.close()
	slots := make(chan struct{}, p.service.MaxConn)
	for {
		select {
		case slots <- struct{}{}: // whoever is too many waits in the kernel's queue, as HAProxy lets them
		case <-leaving.Done(): // its sessions go over
			<-ctx.Done()
			return nil
		case <-ctx.Done():
			return nil
		}
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case leaving.Err() != nil:
			<-ctx.Done()
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			<-slots
			p.counts.refused.Add(1)
			spare.refuse(l)
			continue
		default:
			<-slots
			p.front.log.Warn("accept", "service", p.name, logkey.Error, err)
			select {
			case <-time.After(10 * time.Millisecond): // of a connection that is gone, or out of memory
			case <-ctx.Done():
			}
			continue
		}
		p.came()
		wg.Go(func() {
			defer func() {
				p.counts.now.Add(-1)
				<-slots
			}()
			p.handle(ctx, c)
		})
	}
}

// came counts a client.
func (p *port) came() {
	p.counts.accepted.Add(1)
	raise(&p.counts.most, p.counts.now.Add(1))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate.add(time.Now())
}

// A session in which nothing moves for idleFor ends (HAProxy's timeout client and
// server, in Pigsty); sweepEvery is how exactly.
const (
	idleFor    = 24 * time.Hour
	sweepEvery = 10 * time.Minute
)

func (p *port) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.endIdle(now)
		case <-ctx.Done():
			return
		}
	}
}

// endIdle cuts the sessions that have been idle for too long at now.
func (p *port) endIdle(now time.Time) {
	p.cut(fmt.Sprintf("nothing moved for %s", idleFor), func(x *session) bool {
		if moved := x.moved.Load(); moved != x.seen || x.idle.IsZero() {
			x.seen, x.idle = moved, now
		}
		return now.Sub(x.idle) >= idleFor
	})
}

func raise(most *atomic.Int64, to int64) {
	for {
		old := most.Load()
		if old >= to || most.CompareAndSwap(old, to) {
			return
		}
	}
}

// A spare descriptor lets a client be told that there are no more.
type spare struct{ f *os.File }

func newSpare() *spare {
	f, _ := os.Open(os.DevNull)
	return &spare{f}
}

func (s *spare) close() {
	if s.f != nil {
		s.f.Close()
	}
}

// refuse accepts one client on the spare descriptor and sends it away.
func (s *spare) refuse(l *net.TCPListener) {
	s.close()
	l.SetDeadline(time.Now().Add(50 * time.Millisecond)) // another may have taken the descriptor, or the client
	if c, err := l.AcceptTCP(); err == nil {
		c.SetDeadline(time.Now().Add(50 * time.Millisecond))
		c.Write(pgwire.AppendError(nil, pgwire.TooManyConnections, "the gateway has no file descriptors left", "raise the limit of open files (LimitNOFILE)"))
		c.Close()
	}
	l.SetDeadline(time.Time{})
	s.f, _ = os.Open(os.DevNull)
}

// follow cuts the sessions whose server is no longer one.
func (p *port) follow(s route.Service) {
	p.mu.Lock()
	now := time.Now()
	for _, b := range s.Backends {
		v := p.server(b.Member)
		if v.up == b.Up && !v.lastChange.IsZero() {
			continue
		}
		if !v.lastChange.IsZero() && !b.Up {
			v.changes++
		}
		if b.Up && !v.downSince.IsZero() {
			v.down += now.Sub(v.downSince)
			v.downSince = time.Time{}
		} else if !b.Up {
			v.downSince = now
		}
		v.returned = b.Up && !v.lastChange.IsZero()
		v.up, v.lastChange = b.Up, now
	}
	if up := len(s.Usable()) > 0; up != p.up || p.changed.IsZero() {
		if up && !p.changed.IsZero() {
			p.down += now.Sub(p.changed)
		}
		p.up, p.changed = up, now
	}
	// A replica that took the key may write from now on: what its sessions hear
	// must pass a gate. A leader whose key moved to another lease goes on.
	for x := range p.sessions {
		if b, ok := s.Backend(x.member); ok && b.Epoch != x.epoch && b.Epoch != 0 && b.Reigns(x.epoch) {
			x.rise(b)
		}
	}
	p.mu.Unlock()
	p.cut("its server is no longer one of the service", func(x *session) bool { return !x.stays(s) })
	p.follows(s)
}

// failed notes that a server refused a connection.
func (p *port) failed(member string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.server(member)
	v.errors++
}

// server is what is known of member; the lock is held.
func (p *port) server(member string) *server {
	v := p.servers[member]
	if v == nil {
		v = &server{}
		p.servers[member] = v
	}
	return v
}

// cut ends the sessions that which names.
func (p *port) cut(why string, which func(*session) bool) {
	p.mu.Lock()
	var gone []*session
	for x := range p.sessions {
		if which(x) {
			gone = append(gone, x)
		}
	}
	p.mu.Unlock()
	members := map[string]int{}
	for _, x := range gone {
		members[x.member]++
		x.cut(errors.New(why))
	}
	if len(gone) > 0 {
		p.front.log.Info("sessions cut", "service", p.name, "sessions", fmt.Sprint(members), "why", why)
	}
}

// join makes x a session with member b, unless b stopped to serve meanwhile.
func (p *port) join(x *session, b route.Backend) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.member, x.epoch = b.Member, b.Epoch
	// Under the lock of follow: either it sees the session, or we its routes.
	if s, _ := p.route(); !x.stays(s) || len(p.room([]route.Backend{b}, time.Now())) == 0 {
		return false
	}
	p.sessions[x] = struct{}{}
	v := p.server(b.Member)
	v.now++
	v.total++
	v.most = max(v.most, v.now)
	v.lastSession = time.Now()
	v.rate.add(v.lastSession)
	v.connect.add(x.connected)
	p.joined.add(v.lastSession)
	p.current++
	p.most = max(p.most, p.current)
	x.stats = v
	return true
}

// leave is the end of a session that joined.
func (p *port) leave(x *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, x)
	if x.key != "" && p.keys[x.key] == x {
		delete(p.keys, x.key)
	}
	x.stats.now--
	p.current--
	if x.why != nil {
		x.stats.cut++
	}
}
