package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
)

const (
	connections = 512              // at once; the one that says nothing for longest makes room for the next
	headWithin  = 5 * time.Second  // the first byte, a handshake, and the head of a request
	bodyWithin  = 10 * time.Second // a whole request
	idleFor     = 30 * time.Second // between two requests of one connection
	headBytes   = 16 << 10
	retryBind   = 200 * time.Millisecond // while the address is taken, as by a predecessor that is ending
)

// Run serves until ctx ends. An address that can not be bound is tried again:
// the interface is not worth an agent.
func (s *Server) Run(ctx context.Context) error {
	l, err := s.bind(ctx)
	if err != nil {
		return nil // asked to end before it could listen
	}
	return s.Serve(ctx, l)
}

func (s *Server) bind(ctx context.Context) (net.Listener, error) {
	said := ""
	for {
		l, err := (&net.ListenConfig{Control: deferred}).Listen(ctx, "tcp", s.Node.Agent.Listen)
		if err == nil {
			return l, nil
		}
		if err.Error() != said {
			said = err.Error()
			s.Log.Error("api does not listen", logkey.Error, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryBind):
		}
	}
}

// deferred has the kernel keep a connection to itself until something is said on
// it (tcp(7), TCP_DEFER_ACCEPT): other members knock three times a second to learn
// whether this machine is there, and that wakes nobody here.
func deferred(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(headWithin/time.Second))
	})
}

// Serve answers on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	front := newFront(l, s.protect)
	h := &http.Server{
		Handler: front.serve(s), ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: headWithin, ReadTimeout: bodyWithin, WriteTimeout: 2 * bodyWithin, IdleTimeout: idleFor, MaxHeaderBytes: headBytes,
		ConnState: front.state, ConnContext: front.known, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1 alone
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(front) }()
	select {
	case err := <-ended:
		front.Close()
		return err
	case <-ctx.Done():
	}
	h.Close()
	front.Close()
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// protect gives the connection TLS, or not, by its first byte: 0x16 begins a
// handshake, and no request. nil refuses it.
func (s *Server) protect(c net.Conn, first byte) net.Conn {
	const handshake = 0x16
	plain := s.Node.Agent.REST.Cert == ""
	if first == handshake {
		s.renewed()
	}
	config := s.tls.Load()
	switch {
	case plain && first != handshake:
		return c
	case plain:
		config = s.peers
	case first != handshake:
		return nil
	}
	if config == nil {
		return nil
	}
	return tls.Server(c, config)
}

// A front accepts connections for an HTTP server, which sees one only once it
// has said something. Who says nothing costs a goroutine and a file, and is the
// first to go when there are too many.
type front struct {
	listener net.Listener
	protect  func(net.Conn, byte) net.Conn
	ready    chan net.Conn
	done     chan struct{}
	begun    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	quiet  map[net.Conn]uint64 // without a request under way, by when it came
	busy   map[net.Conn]bool
	count  uint64
}

func newFront(l net.Listener, protect func(net.Conn, byte) net.Conn) *front {
	f := &front{
		listener: l, protect: protect, ready: make(chan net.Conn), done: make(chan struct{}),
		quiet: map[net.Conn]uint64{}, busy: map[net.Conn]bool{},
	}
	f.begun.Go(f.accept)
	return f
}

func (f *front) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			if f.over() {
				return
			}
			// Out of files, most likely: what is quiet makes room.
			f.shed()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		f.admit(c)
		f.begun.Go(func() { f.greet(c) })
	}
}

// greet waits for the first byte.
func (f *front) greet(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(headWithin))
	var first [1]byte
	if _, err := c.Read(first[:]); err != nil {
		f.drop(c)
		return
	}
	p := &peeked{Conn: c, first: first[0], unread: true}
	served := f.protect(p, first[0])
	if served == nil {
		f.drop(c)
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	f.renew(c)
	select {
	case f.ready <- served:
	case <-f.done:
		f.drop(c)
	}
}

// Accept implements net.Listener.
func (f *front) Accept() (net.Conn, error) {
	select {
	case c := <-f.ready:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (f *front) Addr() net.Addr { return f.listener.Addr() }

// Close ends everything.
func (f *front) Close() error {
	f.mu.Lock()
	was := f.closed
	f.closed = true
	for c := range f.quiet {
		c.Close()
	}
	f.mu.Unlock()
	if was {
		return nil
	}
	close(f.done)
	err := f.listener.Close()
	f.begun.Wait()
	return err
}

func (f *front) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

func (f *front) admit(c net.Conn) {
	f.mu.Lock()
	if f.closed {
		c.Close()
	}
	f.count++
	f.quiet[c] = f.count
	many := len(f.quiet)+len(f.busy) > connections
	f.mu.Unlock()
	if many {
		f.shed()
	}
}

// shed closes the connection that has been quiet for longest.
func (f *front) shed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var oldest net.Conn
	for c, n := range f.quiet {
		if oldest == nil || n < f.quiet[oldest] {
			oldest = c
		}
	}
	if oldest != nil {
		oldest.Close()
		delete(f.quiet, oldest)
	}
}

func (f *front) renew(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.quiet[c]; ok {
		f.count++
		f.quiet[c] = f.count
	}
}

func (f *front) drop(c net.Conn) {
	c.Close()
	f.mu.Lock()
	delete(f.quiet, c)
	delete(f.busy, c)
	f.mu.Unlock()
}

// serve has h answer, and keeps the connection meanwhile. Until its request is
// whole a connection is quiet, however many bytes of it have come.
func (f *front) serve(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connection{}).(net.Conn)
		f.mu.Lock()
		delete(f.quiet, c)
		f.busy[c] = true
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.busy, c)
			f.count++
			f.quiet[c] = f.count
		}()
		h.ServeHTTP(w, r)
	})
}

// connection is the key of a request's raw connection.
type connection struct{}

func (f *front) known(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connection{}, raw(c))
}

// state forgets connections that the HTTP server has closed.
func (f *front) state(c net.Conn, s http.ConnState) {
	if s == http.StateClosed {
		f.drop(raw(c))
	}
}

// raw is what the listener accepted.
func raw(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if p, ok := c.(*peeked); ok {
		c = p.Conn
	}
	return c
}

// peeked is a connection whose first byte was read already.
type peeked struct {
	net.Conn
	first  byte
	unread bool
}

func (p *peeked) Read(b []byte) (int, error) {
	if !p.unread || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.unread = false
	b[0] = p.first
	return 1, nil
}
