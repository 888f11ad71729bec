// Package pooler lets many clients share few connections to servers, by
// PgBouncer's rules: the data path of access/pool's decisions.
//
// A client is greeted, encrypted and asked for her secret by a goroutine of her
// own; from then on her bytes move on one loop with its own epoll (loop.go),
// where no query costs a goroutine, a channel or an allocation. Messages are
// told by type and length and their bodies jumped over; only names of prepared
// statements are rewritten, and parameters, errors and ends of transactions
// read.
//
// It never lets anybody reach a database as a user whose secret she did not
// prove. It knows nothing of clusters: where servers are, a Door says.
//
// Sources: "Frontend/Backend Protocol"; PgBouncer's documentation and its
// client.c, server.c, prepare.c.
package pooler

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/login"
	"howdah/access/pool"
	"howdah/logkey"
	"howdah/pgwire"
)

// A Pooler is the pools of one process.
type Pooler struct {
	log   *slog.Logger
	doors []*Door
	halls []*hall // of each loop; what begins is in the first
	began time.Time
	mock  []byte // this process's secret for who does not exist

	spread  Spread
	mu      sync.Mutex
	still   int // nothing moves between loops while it is more than 0
	burdens []pool.Burden
	moved   time.Duration // when something last did; the first loop's

	lobby lobby // clients that are not logged in yet

	// Before asks who served here before us to cancel what the client with that key does;
	// nil: nobody did.
	Before func(key [8]byte)

	accepting sync.WaitGroup
	leaves    sync.Once
	leaving   chan struct{} // closed: nobody is taken in any more
}

// A cancelKey is the body of BackendKeyData: a process and its secret.
type cancelKey [8]byte

// Limits of the beginning of a session.
const (
	greetAtOnce    = 4096 // clients that have not proven themselves
	startupMost    = 128  // parameters
	nameMax        = 127  // of a user; a database has 63
	acceptPause    = 10 * time.Millisecond
	refusePatience = 50 * time.Millisecond
)

// New makes a pooler of these doors, with as many loops as befits the machine.
func New(log *slog.Logger, doors ...*Door) (*Pooler, error) {
	return newPooler(log, Spread{Loops: min(max(runtime.GOMAXPROCS(0)/coresOfLoop, 1), loopsMost), Spread: pool.DefaultSpread()}, doors...)
}

// PostgreSQL needs most of a machine's cores for what a loop passes on. More than one loop is
// switched off until it has been measured on a machine with the cores.
const (
	coresOfLoop = 4
	loopsMost   = 1
)

func newPooler(log *slog.Logger, spread Spread, doors ...*Door) (*Pooler, error) {
	p := &Pooler{log: log, doors: doors, began: time.Now(), mock: make([]byte, 32), leaving: make(chan struct{}), spread: spread}
	p.burdens = make([]pool.Burden, spread.Loops)
	_, _ = rand.Read(p.mock)
	for i, d := range doors {
		d.index = i
		d.open(p)
	}
	for range spread.Loops {
		h, err := newHall(p)
		if err != nil {
			return nil, err
		}
		p.halls = append(p.halls, h)
	}
	return p, nil
}

func (d *Door) open(p *Pooler) {
	d.pooler = p
	d.log = d.Log
	if d.log == nil {
		d.log = p.log
	}
	d.guests, d.seats = pool.NewLedger(), pool.NewLedger()
	d.homes = map[pool.Key]*room{}
	d.credentials = map[string]login.Credential{}
}

// configure has s hold from now on; on the loop, or before there is one.
func (d *room) configure(s pool.Settings) {
	d.Settings = s
	d.book.Configure(s, d.Databases, d.Users)
	d.loginWithin.Store(int64(s.ClientLoginTimeout))
	d.idleNext = 0
	for _, u := range d.Users {
		d.owns = d.owns || u.QueryTimeout != nil || u.IdleTransactionTimeout != nil || u.TransactionTimeout != nil
		if t := u.ClientIdleTimeout; t != nil && *t > 0 && (d.idleOfUsers == 0 || *t < d.idleOfUsers) {
			d.idleOfUsers = *t
		}
	}
}

// Run moves bytes until ctx ends; then every session ends.
func (p *Pooler) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		for _, h := range p.halls {
			h.loop.post(h.close)
		}
	})
	defer stop()
	var others sync.WaitGroup
	defer others.Wait()
	for _, h := range p.halls[1:] {
		others.Go(h.loop.run)
	}
	p.halls[0].loop.run()
	return nil
}

// close ends everything; on the loop.
func (h *hall) close() {
	h.ending = true
	for _, d := range h.rooms {
		d.ends()
	}
	for _, x := range h.streams {
		x.end()
	}
	h.loop.end()
}

// Serve takes clients in through d until ctx ends.
func (p *Pooler) Serve(ctx context.Context, l net.Listener, d *Door) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	accepts := sync.OnceFunc(p.accepting.Done)
	p.accepting.Add(1)
	defer accepts()
	served := make(chan struct{})
	defer close(served)
	go func() {
		select {
		case <-p.leaving:
			l.Close()
		case <-served:
		}
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	p.everywhere(func(h *hall) { d.listens(l) })
	spare := newSpare()
	defer spare.close()
	var told time.Time // that the lobby is full
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case p.left():
			accepts()
			<-ctx.Done() // guests are on their way in
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			spare.refuse(l)
			continue
		default:
			p.log.Warn("accept", logkey.Error, err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		guest, drop := context.WithCancelCause(ctx)
		leave, full := p.lobby.enter(drop)
		if full && time.Since(told) > time.Second {
			told = time.Now()
			p.log.Warn("clients are sent away while they log in", logkey.Error, errFull)
		}
		wg.Go(func() {
			defer leave()
			defer drop(nil)
			p.greet(guest, d, c, leave)
		})
	}
}

// left says that nobody is taken in any more.
func (p *Pooler) left() bool {
	select {
	case <-p.leaving:
		return true
	default:
		return false
	}
}

// refuse sends a client away that was not even asked who it is.
func refuse(c net.Conn, why string) {
	_ = c.SetDeadline(time.Now().Add(refusePatience))
	_, _ = c.Write(pgwire.AppendError(nil, pgwire.TooManyConnections, why, ""))
	c.Close()
}

// passedOn is set in the last byte of a key that another gateway has passed on,
// and in none that is given to a client: nobody passes it on again.
const passedOn = 1

// key is a new one for a client of d.
func (d *Door) key() (k cancelKey) {
	_, _ = rand.Read(k[:])
	if d.Tag != 0 {
		binary.LittleEndian.PutUint16(k[2:], d.Tag)
	}
	k[7] &^= passedOn
	return k
}

// cancel has the server of the session that key names cancel what it does, or
// whoever else has such a session.
func (p *Pooler) cancel(ctx context.Context, d *Door, key cancelKey) {
	own := key
	own[7] &^= passedOn
	var s *server
	var at *hall
	var turn uint64
	var limit time.Duration
	here := false
	p.everywhere(func(h *hall) {
		limit = h.rooms[d.index].Settings.CancelWaitTimeout
		if x := h.streams[own]; x != nil {
			here, s, at = true, x.server, h
			return
		}
		c := h.keys[own]
		if c == nil {
			return
		}
		here = true
		if c.server == nil || c.server.job != 0 {
			return
		}
		if _, ok := c.room.book.Cancel(c.id); ok { // which keeps them where they are
			s, at, turn = c.server, h, c.server.turn
		}
	})
	ctx, stop := within(ctx, limit)
	defer stop()
	if !here && p.Before != nil {
		p.Before(own)
	}
	if !here && key == own && d.Elsewhere != nil {
		key[7] |= passedOn
		d.Elsewhere(ctx, key)
	}
	if s == nil {
		return
	}
	if s.frees(ctx, at.loop, turn) {
		s.ask(ctx)
	}
	// Until the server has closed, the signal may still be on its way.
	at.loop.call(func() {
		if !s.hup && s.id != pool.None {
			s.room.book.Canceled(s.id, at.loop.now)
		}
	})
}

// within ends ctx after a time; 0: it does not.
func within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// ask sends a cancel request for what s does.
func (s *server) ask(ctx context.Context) {
	conn, err := s.backend.Again(ctx)
	if err != nil {
		s.room.log.Warn("cancel request not delivered", logkey.Error, err)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	b := append([]byte{0, 0, 0, 16, 4, 210, 22, 46}, s.cancel[:]...) // 1234, 5678
	if _, err := conn.Write(b); err == nil {
		_, _ = conn.Read(b[:1])
	}
}
