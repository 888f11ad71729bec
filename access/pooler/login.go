package pooler

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"howdah/access/login"
	"howdah/access/pool"
	"howdah/pgwire"
	"howdah/scram"
)

// A Backend is a connection to a server, before anything was sent.
type Backend struct {
	Conn net.Conn
	TLS  *tls.Config // how it is encrypted; nil: not at all
	// Again connects to the same server, to cancel.
	Again func(context.Context) (net.Conn, error)
	// Waits says of a process of the server whether it waits for standbys to confirm a
	// commit; nil: nobody can.
	Waits func(ctx context.Context, pid uint32) (bool, error)
	// Gate says whether what the server says now may be passed on; nil: always.
	Gate func() bool
	Tag  any // the caller's, for Follow
	// Reads says that it is a standby's: what is lost there has changed nothing, and may
	// be asked of another.
	Reads bool
	Done  func() // called once, when the connection has ended; nil: nobody is to know
	// Rise makes one that was made ahead of time (Door.Warm) one like the others:
	// its Gate, Tag and Done from now on. ok is false while it is too early.
	Rise func() (gate func() bool, tag any, done func(), ok bool)
}

// login opens a connection for the book, in a goroutine of its own; it ends as
// mail to the loop.
func (d *room) login(id pool.Server, key pool.Key) {
	credential := d.credential(key.User)
	ctx, stop := within(context.Background(), d.Settings.ServerConnectTimeout)
	if d.entering == nil {
		d.entering = map[pool.Server]*entry{}
	}
	e := &entry{stop: stop}
	d.entering[id] = e
	ctx = context.WithValue(ctx, aiming{}, func(tag any) {
		d.loop.post(func() {
			e.aimed, e.tag = true, tag
			e.steer(d.course) // it may have changed since
		})
	})
	dial := d.way(key.Place)
	go func() {
		defer stop()
		s := &server{room: d, key: key, id: id, status: 'I'}
		w, fd, err := s.enter(ctx, dial, credential)
		if !d.loop.post(func() { d.arrived(s, w, fd, err) }) && err == nil {
			closeFD(fd)
			s.release()
		}
	}()
}

// way is how a place is connected to, or whichever server there is where it is none.
func (d *Door) way(place string) func(context.Context) (Backend, error) {
	if place == "" {
		return d.Dial
	}
	return func(ctx context.Context) (Backend, error) { return d.DialAt(ctx, place) }
}

// arrived is the end of a login; on the loop.
func (d *room) arrived(s *server, w *welcome, fd int, err error) {
	now := d.loop.now
	delete(d.entering, s.id)
	if err == nil && d.course.Keep != nil && d.course.Keep(s.backend.Tag) != Stay {
		closeFD(fd)
		err = errDeposed
	}
	if err == nil {
		if err = s.attach(fd); err != nil {
			closeFD(fd)
		}
	}
	if err != nil {
		s.release()
		f := pool.Failure{Down: true, Code: pool.ProtocolViolation, Text: "connect failed"}
		if d.Excuse != nil {
			f.Text = d.Excuse()
		}
		if r, ok := errors.AsType[*login.Rejection](err); ok {
			f = pool.Failure{Down: r.Code == pgwire.CannotConnectNow || r.Code == "57P01", Code: r.Code, Text: r.Message}
		} else if errors.Is(err, login.ErrKind) || errors.Is(err, login.ErrMethod) || errors.Is(err, login.ErrServer) {
			f = pool.Failure{Code: pool.ProtocolViolation, Text: err.Error()}
		}
		d.log.Warn("server login failed", "server", s.String(), "error", err)
		d.book.Failed(s.id, f, now)
		if errors.Is(err, errDeposed) || errors.Is(err, context.Canceled) {
			d.book.Hurry(now) // there is somebody else to go to
		} else if f.Down {
			d.shun(s.key)
		}
		return
	}
	d.servers = at(d.servers, int(s.id))
	d.servers[s.id], s.joined = s, now
	d.welcomes[s.key] = w
	d.book.Ready(s.id, now)
}

// attach has the loop move what comes from fd.
func (s *server) attach(fd int) error {
	s.loop, s.fd, s.events = s.room.loop, fd, readable
	return s.loop.add(fd, s, s.events)
}

// enter connects by dial and logs in; what is returned is for the loop.
func (s *server) enter(ctx context.Context, dial func(context.Context) (Backend, error), credential login.Credential) (*welcome, int, error) {
	w, _, under, err := s.connect(ctx, dial, credential)
	if err != nil {
		return nil, -1, err
	}
	fd, err := detach(s.backend.Conn)
	if under != nil && err == nil {
		under.socket = &s.socket
	}
	return w, fd, err
}

// connect connects by dial and logs in. conn is encrypted, if it is to be, over under.
func (s *server) connect(ctx context.Context, dial func(context.Context) (Backend, error), credential login.Credential) (w *welcome, conn net.Conn, under *wire, err error) {
	b, err := dial(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	s.backend = b
	conn = b.Conn
	called := context.AfterFunc(ctx, func() { _ = b.Conn.SetDeadline(time.Unix(1, 0)) })
	defer called()
	if b.TLS != nil {
		under, conn, err = s.encrypt(ctx)
	}
	if err == nil {
		w, err = s.talk(conn, credential)
	}
	if err == nil && !called() {
		err = ctx.Err()
	}
	if err != nil {
		b.Conn.Close()
		return nil, nil, nil, cmp.Or(ctx.Err(), err)
	}
	_ = b.Conn.SetDeadline(time.Time{})
	return w, conn, under, nil
}

// encrypt asks the server for TLS, and takes nothing else.
func (s *server) encrypt(ctx context.Context) (*wire, net.Conn, error) {
	conn := s.backend.Conn
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // 1234, 5679
		return nil, nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, nil, err
	}
	if answer[0] != 'S' {
		return nil, nil, fmt.Errorf("%w: server refused SSL", login.ErrServer)
	}
	w := &wire{Conn: conn}
	c := tls.Client(w, s.backend.TLS)
	s.tls = c
	return w, c, c.HandshakeContext(ctx)
}

// release says that the connection has ended.
func (s *server) release() {
	if done := s.backend.Done; done != nil {
		s.backend.Done = nil
		done()
	}
}

// talk speaks the protocol up to the first ReadyForQuery.
func (s *server) talk(conn net.Conn, credential login.Credential) (*welcome, error) {
	body := []byte{0, 3, 0, 0}
	for _, text := range append([]string{"user", s.key.User, "database", s.key.Database}, s.startup...) {
		body = append(append(body, text...), 0)
	}
	body = append(body, 0)
	n := len(body) + 4
	if _, err := conn.Write(append([]byte{0, 0, byte(n >> 8), byte(n)}, body...)); err != nil {
		return nil, err
	}
	random := make([]byte, scram.NonceSize)
	_, _ = rand.Read(random)
	exchange := login.NewClient(s.key.User, credential, random)
	w := &welcome{}
	var in, out []byte
	proven := false
	for {
		m, used, err := pgwire.ReadMessage(in, namesMax)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", login.ErrServer, err)
		}
		if used == 0 {
			var more [4096]byte
			got, err := conn.Read(more[:])
			in = append(in, more[:got]...)
			if got == 0 && err != nil {
				return nil, err
			}
			continue
		}
		if !proven {
			var verdict login.Verdict
			out, verdict, err = exchange.Feed(m, out[:0])
			if err != nil {
				return nil, err
			}
			if len(out) > 0 {
				if _, err := conn.Write(out); err != nil {
					return nil, err
				}
			}
			proven = verdict == login.Proven
			in = in[used:]
			continue
		}
		switch m.Type {
		case pgwire.ParameterStatus:
			name, rest, ok := cstring(m.Body)
			value, _, ok2 := cstring(rest)
			if !ok || !ok2 {
				return nil, login.ErrServer
			}
			w.status = append(w.status, parameter{string(name), string(value)})
			if i := isTracked(name); i >= 0 {
				w.params[i], s.params[i] = string(value), string(value)
			}
		case pgwire.BackendKeyData:
			copy(s.cancel[:], m.Body)
		case pgwire.ErrorResponse:
			r := pgwire.ReadReport(m.Body)
			if len(r.Code) != 5 {
				r.Code = pool.ProtocolViolation
			}
			return nil, &login.Rejection{Report: r}
		case pgwire.ReadyForQuery:
			if used != len(in) {
				return nil, fmt.Errorf("%w: it goes on speaking", login.ErrServer)
			}
			return w, nil
		}
		in = in[used:]
	}
}

func closeFD(fd int) { _ = unix.Close(fd) }
