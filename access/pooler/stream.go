package pooler

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"howdah/access/admin"
	"howdah/access/login"
	"howdah/access/pool"
	"howdah/logkey"
	"howdah/pgwire"
)

// A stream is a client of replication: the WAL of a server, or what is decoded of it. She has a
// server of her own from her login to her end, whatever the mode of the pool, and all they say
// to each other passes as it is. It is long and rare, so it is moved by two goroutines, beside the loop. She
// counts among clients; her server is a WAL sender, which max_wal_senders limits, and
// counts among none of a pool's.
//
// At a change of leader it ends, when its server has sent all that it wrote: clients of
// replication connect again by themselves, and go on from their slot.
type stream struct {
	id       pool.Client
	key      pool.Key
	logical  bool
	guest    *guest
	server   *server
	conn     net.Conn // to the server, encrypted if it is
	secret   cancelKey
	gate     atomic.Pointer[func() bool]
	received atomic.Uint64 // since the last tally
	sent     atomic.Uint64
}

// replication reads the parameter of that name: asked says that the client is one of replication,
// logical that a database comes with it (src/backend/tcop/backend_startup.c).
func replication(value string) (asked, logical bool, err error) {
	switch strings.ToLower(value) {
	case "database":
		return true, true, nil
	case "true", "on", "yes", "1":
		return true, false, nil
	case "", "false", "off", "no", "0":
		return false, false, nil
	}
	return false, false, refused("invalid value for parameter \"replication\": \"%s\"", value)
}

// stream is the whole session of a client of replication, in the goroutine of her guest.
func (p *Pooler) stream(ctx context.Context, g *guest) error {
	d := g.door.rooms[0]
	id, err := d.join(ctx, g)
	if err != nil {
		return err
	}
	defer d.loop.post(func() { d.book.Leave(id) })
	x := &stream{id: id, key: g.key, logical: g.logical, guest: g, secret: d.key()}
	w, err := x.connect(ctx, d)
	if err != nil {
		if r, ok := errors.AsType[*login.Rejection](err); ok {
			return &refusal{code: r.Code, text: r.Message}
		}
		text := "connect failed"
		if d.Excuse != nil {
			text = d.Excuse()
		}
		return &refusal{code: pgwire.CannotConnectNow, text: text, reason: err.Error()}
	}
	defer x.server.release()
	defer x.conn.Close()
	if !d.loop.call(func() { err = d.follows(x) }) {
		return errSilent
	}
	if err != nil {
		return &refusal{code: pgwire.CannotConnectNow, text: err.Error()}
	}
	defer d.loop.call(func() {
		d.tally(x)
		delete(d.hall.streams, x.secret)
	})
	g.stay()
	defer context.AfterFunc(g.life, x.end)()
	d.log.Info("replication begins", "client", x.String(), logkey.Addr, g.from, "logical", x.logical)
	err = x.run(w)
	d.log.Info("replication ended", "client", x.String(), logkey.Error, err)
	return errSilent
}

// connect logs in to the server of x.
func (x *stream) connect(ctx context.Context, d *room) (*welcome, error) {
	var limit time.Duration
	d.loop.call(func() { limit = d.Settings.ServerConnectTimeout })
	ctx, stop := within(ctx, limit)
	defer stop()
	x.server = &server{room: d, key: x.key, id: pool.None, startup: x.guest.verbatim()}
	w, conn, _, err := x.server.connect(ctx, d.way(x.key.Place), x.guest.credential)
	if err != nil {
		x.server.release()
		return nil, err
	}
	x.conn = conn
	if gate := x.server.backend.Gate; gate != nil {
		x.gate.Store(&gate)
	}
	return w, nil
}

// verbatim are the parameters of the startup message that a server of replication is told.
func (g *guest) verbatim() []string {
	value := "true"
	if g.logical {
		value = "database"
	}
	all := []string{"replication", value}
	if g.rest != "" {
		all = append(all, "options", g.rest)
	}
	for i, value := range g.params {
		if value != "" {
			all = append(all, tracked[i], value)
		}
	}
	return all
}

// run welcomes the client and moves bytes until one of both ends.
func (x *stream) run(w *welcome) error {
	g := x.guest
	b := append(append([]byte(nil), g.negotiate...), 'R', 0, 0, 0, 8, 0, 0, 0, 0)
	for _, p := range w.status {
		b = appendMessage(b, 'S', p.name, p.value)
	}
	b = append(append(appendHead(b, 'K', len(x.secret)), x.secret[:]...), 'Z', 0, 0, 0, 5, 'I')
	if _, err := g.conn.Write(b); err != nil {
		return err
	}
	there := make(chan error, 1)
	go func() {
		_, err := x.conn.Write(g.in)
		if err == nil {
			err = x.move(x.conn, g.conn, &x.received, nil)
		}
		_ = x.server.backend.Conn.SetDeadline(time.Unix(1, 0))
		_, _ = io.Copy(io.Discard, g.conn) // what is unread turns the end into a reset, and what she is still to get is lost
		there <- err
	}()
	err := x.move(g.conn, x.conn, &x.sent, x.open)
	_ = g.raw.SetDeadline(time.Now().Add(farewell))
	if g.tls != nil {
		_ = g.tls.CloseWrite()
	}
	if t, ok := g.raw.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	return cmp.Or(<-there, err)
}

const (
	streamChunk = 64 << 10
	gateEvery   = 5 * time.Millisecond
	farewell    = time.Second
)

// move copies from one to the other until its end. Nothing is passed on that open, if there is
// one, does not allow.
func (x *stream) move(to io.Writer, from io.Reader, count *atomic.Uint64, open func() bool) error {
	b := make([]byte, streamChunk)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if open != nil && !open() {
				return errDeposed
			}
			if _, err := to.Write(b[:n]); err != nil {
				return err
			}
			count.Add(uint64(n))
		}
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}

// open waits at a shut gate, as long as one may be.
func (x *stream) open() bool {
	for began := time.Now(); time.Since(began) < shutFor && x.guest.life.Err() == nil; time.Sleep(gateEvery) {
		if gate := x.gate.Load(); gate == nil || (*gate)() {
			return true
		}
	}
	return false
}

// end ends both connections, from any goroutine.
func (x *stream) end() {
	_ = x.server.backend.Conn.SetDeadline(time.Unix(1, 0))
	_ = x.guest.raw.SetDeadline(time.Unix(1, 0))
}

// String names the client in logs.
func (x *stream) String() string { return x.key.Database + "/" + x.key.User }

// follows takes a stream in, unless its server has become none; on the loop.
func (d *room) follows(x *stream) error {
	if keep := d.course.Keep; keep != nil && keep(x.server.backend.Tag) != Stay {
		return errDeposed
	}
	d.hall.streams[x.secret] = x
	x.server.joined = d.loop.now
	return nil
}

// streams are those of the door; on the loop.
func (d *room) streams(yield func(*stream) bool) {
	for _, x := range d.hall.streams {
		if x.guest.door == d.Door && !yield(x) {
			return
		}
	}
}

// steer has the streams follow a course; on the loop.
func (d *room) steer(c Course) {
	for x := range d.streams {
		tag := x.server.backend.Tag
		switch {
		case c.Keep == nil:
		case c.Keep(tag) == End:
			x.end()
		case c.Keep(tag) == Retire && c.Gate != nil: // it ends with its server, when that has sent everything
			if gate := c.Gate(tag); gate != nil {
				x.gate.Store(&gate)
			}
		}
	}
}

// tally counts what a stream has moved since the last time; on the loop.
func (d *room) tally(x *stream) {
	n := d.counted(x.key.Pair())
	n.received += x.received.Swap(0)
	n.sent += x.sent.Swap(0)
}

// sockets are what the console shows of x; on the loop.
func (x *stream) sockets() (client, server admin.Socket) {
	kind, at := "physical", x.server.room.loop.began.Add(x.server.joined)
	if x.logical {
		kind = "logical"
	}
	server = admin.Socket{
		ID: 2*(uint64(x.id)+1<<31) + 2, Link: x.server.room.clientID(x.id), User: x.key.User, Database: x.key.Database, Replication: kind,
		State: "active", Addr: "unix", Connected: at, Requested: at, PID: x.server.pid(),
	}
	client = server
	client.ID, client.Link, client.PID, client.Connected, client.Requested = server.Link, server.ID, 0, x.guest.at, x.guest.at
	client.Application = x.guest.params[slices.Index(tracked[:], "application_name")]
	if x.guest.from.IsValid() {
		client.Addr, client.Port = x.guest.from.String(), int(x.guest.port)
	}
	if x.guest.tls != nil {
		client.TLS = "TLS"
	}
	return client, server
}
