package pooler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	// Again connects to the same server, to cancel.
	Again func(context.Context) (net.Conn, error)
}

// login opens a connection for the book, in a goroutine of its own; it ends as
// mail to the loop.
func (d *Door) login(id pool.Server, key pool.Key) {
	p := d.pooler
	credential := d.credentials[key.User]
	go func() {
		ctx, stop := context.WithTimeout(context.Background(), connectWithin)
		defer stop()
		s := &server{door: d, key: key, id: id, status: 'I'}
		w, fd, err := s.enter(ctx, credential)
		if !p.loop.post(func() { d.arrived(s, w, fd, err) }) && err == nil {
			closeFD(fd)
		}
	}()
}

// arrived is the end of a login; on the loop.
func (d *Door) arrived(s *server, w *welcome, fd int, err error) {
	now := d.pooler.loop.now
	if err == nil {
		s.loop, s.fd, s.events = d.pooler.loop, fd, readable
		if err = s.loop.add(fd, s, s.events); err != nil {
			closeFD(fd)
		}
	}
	if err != nil {
		f := pool.Failure{Down: true, Code: pool.ProtocolViolation, Text: "connect failed"}
		if r, ok := errors.AsType[*login.Rejection](err); ok {
			f = pool.Failure{Down: r.Code == pgwire.CannotConnectNow || r.Code == "57P01", Code: r.Code, Text: r.Message}
		} else if errors.Is(err, login.ErrKind) || errors.Is(err, login.ErrMethod) || errors.Is(err, login.ErrServer) {
			f = pool.Failure{Code: pool.ProtocolViolation, Text: err.Error()}
		}
		d.log.Warn("server login failed", "server", s.key.Database+"/"+s.key.User, "error", err)
		d.book.Failed(s.id, f, now)
		return
	}
	d.servers = at(d.servers, int(s.id))
	d.servers[s.id] = s
	d.welcomes[s.key] = w
	d.book.Ready(s.id, now)
}

// enter connects and logs in.
func (s *server) enter(ctx context.Context, credential login.Credential) (*welcome, int, error) {
	b, err := s.door.Dial(ctx)
	if err != nil {
		return nil, -1, err
	}
	conn := b.Conn
	s.again = b.Again
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	w, err := s.talk(conn, credential)
	if err != nil {
		conn.Close()
		return nil, -1, err
	}
	_ = conn.SetDeadline(time.Time{})
	fd, err := detach(conn)
	return w, fd, err
}

// talk speaks the protocol up to the first ReadyForQuery.
func (s *server) talk(conn net.Conn, credential login.Credential) (*welcome, error) {
	body := []byte{0, 3, 0, 0}
	for _, text := range []string{"user", s.key.User, "database", s.key.Database} {
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
