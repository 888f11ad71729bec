package pooler

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"howdah/access/admin"
	"howdah/access/hba"
	"howdah/access/login"
	"howdah/access/pool"
	"howdah/logkey"
	"howdah/pgwire"
	"howdah/secret"
)

// A guest is a client who has not proven herself yet, in the care of a
// goroutine of her own.
type guest struct {
	door *Door
	conn net.Conn // encrypted, if she wanted that
	raw  net.Conn
	at   time.Time // when she came
	tls  *tls.Conn
	wire *wire
	in   []byte // read ahead
	from netip.Addr
	port uint16

	life   context.Context // of the gateway
	inside atomic.Bool     // she may stay beyond the time for a login
	leave  func()          // the lobby

	key        pool.Key
	params     parameters
	negotiate  []byte // what she is told of the protocol
	streams    bool   // she is one of replication, of a database if it is logical
	logical    bool
	rest       string // options, as they are passed on to a server of replication
	credential login.Credential
}

// A refusal is why a guest is sent away.
type refusal struct{ code, text, reason string }

func (r *refusal) Error() string {
	if r.reason != "" {
		return r.text + ": " + r.reason
	}
	return r.text
}

func refused(format string, args ...any) error {
	return &refusal{code: pool.ProtocolViolation, text: fmt.Sprintf(format, args...)}
}

// errSilent ends a guest to whom there is nothing to say.
var errSilent = errors.New("nothing to say")

// greet is the beginning of a session: the first packet, encryption, the proof.
func (p *Pooler) greet(ctx context.Context, d *Door, conn net.Conn, leave func()) {
	g := &guest{door: d, conn: conn, raw: conn, life: ctx, leave: leave, at: time.Now()}
	ctx, stop := within(ctx, time.Duration(d.loginWithin.Load()))
	defer stop()
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3})
		if a, ok := t.RemoteAddr().(*net.TCPAddr); ok {
			g.from, g.port = a.AddrPort().Addr().Unmap(), a.AddrPort().Port()
		}
	}
	defer context.AfterFunc(ctx, func() {
		if !g.inside.Load() {
			_ = conn.SetDeadline(time.Unix(1, 0))
		}
	})()
	err := p.admit(ctx, g)
	if err == nil {
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && errors.Is(context.Cause(ctx), context.DeadlineExceeded) && !g.inside.Load() {
		err = refused("client_login_timeout")
	}
	defer conn.Close()
	if errors.Is(context.Cause(ctx), errFull) {
		_ = conn.SetDeadline(time.Now().Add(refusePatience))
		_, _ = g.conn.Write(pgwire.AppendError(nil, pgwire.TooManyConnections, errFull.Error(), ""))
		return
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		d.log.Info("client refused", "client", g.key.Database+"/"+g.key.User, logkey.Addr, g.from, logkey.Error, r.Error())
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if r.text != "" {
			_, _ = g.conn.Write(appendNotice(nil, 'E', "FATAL", r.code, r.text))
		}
		if t, ok := conn.(interface{ CloseWrite() error }); ok {
			if g.tls != nil {
				_ = g.tls.CloseWrite()
			}
			_ = t.CloseWrite()
			_, _ = io.CopyN(io.Discard, conn, 64<<10) // what is unread turns the end into a reset, and the message is lost
		}
	}
}

// admit takes a guest as far as the loop.
func (p *Pooler) admit(ctx context.Context, g *guest) error {
	first, err := g.first(ctx)
	if err != nil {
		return err
	}
	if first.Code == pgwire.CancelRequest {
		if len(first.Body) == len(cancelKey{}) {
			p.cancel(ctx, g.door, cancelKey(first.Body))
		}
		return errSilent
	}
	if g.door.OnlyTLS && g.tls == nil {
		return refused("SSL required")
	}
	if err := g.startup(first); err != nil {
		return err
	}
	d := g.door
	if g.key.Database == admin.Database && len(d.Admins)+len(d.Watchers) > 0 {
		return p.console(ctx, g)
	}
	if g.streams {
		return p.stream(ctx, g)
	}
	at := d.room(g.key)
	id, err := at.join(ctx, g)
	if err != nil {
		return err
	}
	c := &client{room: at, id: id, key: g.key, params: g.params, from: netip.AddrPortFrom(g.from, g.port), joined: g.at.Sub(p.began)}
	if len(g.negotiate) > 0 {
		_, err = g.conn.Write(g.negotiate)
	}
	c.secret = d.key()
	var fd int
	if err == nil {
		_ = g.raw.SetDeadline(time.Time{})
		fd, err = detach(g.raw)
	}
	if err != nil {
		at.loop.post(func() { at.book.Leave(c.id) })
		return err
	}
	if g.tls != nil {
		c.tls = g.tls
	}
	if g.wire != nil {
		g.wire.socket = &c.socket
	}
	if len(g.in) > 0 {
		c.pend = g.in
	}
	d.proved(g.key.User, g.credential)
	// From here on the client is the loop's.
	if !at.loop.post(func() { at.comes(c, fd) }) {
		closeFD(fd)
	}
	return nil
}

// join takes a guest into the book, at a place where that is one of several, and has her prove
// who she is; whoever may not come in has left it again.
func (d *room) join(ctx context.Context, g *guest) (id pool.Client, err error) {
	disabled := false
	if !d.loop.call(func() {
		g.key.Place = d.place(g.from)
		if id, err = d.book.Join(g.key); err == nil {
			disabled = d.book.Disabled(g.key.Database)
		}
	}) {
		return id, errSilent
	}
	if err != nil {
		return id, refused("%s", err)
	}
	if err = g.prove(ctx); err == nil && disabled { // which is nobody's business who is not proven
		err = refused("database \"%s\" is disabled", g.key.Database)
	}
	if err != nil {
		d.loop.post(func() { d.book.Leave(id) })
	}
	return id, err
}

// first reads what the client begins with, encrypted if it asks for that.
func (g *guest) first(context.Context) (pgwire.First, error) {
	for range 4 { // TLS, GSSAPI, startup, and one to spare
		if len(g.in) == 0 {
			if err := g.more(); err != nil {
				return pgwire.First{}, err
			}
		}
		if g.in[0] == pgwire.TLSRecord && g.tls == nil && g.door.TLS != nil {
			if err := g.encrypt(); err != nil {
				return pgwire.First{}, err
			}
			if g.tls.ConnectionState().NegotiatedProtocol != "postgresql" {
				return pgwire.First{}, errSilent // direct TLS goes with ALPN, lest another protocol be taken for ours
			}
			continue
		}
		f, n, err := pgwire.ReadFirst(g.in)
		for n == 0 && err == nil {
			if err := g.more(); err != nil {
				return pgwire.First{}, err
			}
			f, n, err = pgwire.ReadFirst(g.in)
		}
		if err != nil {
			return f, refused("bad packet header: '%x'", g.in[:min(8, len(g.in))])
		}
		f.Body = bytes.Clone(f.Body)
		g.in = g.in[n:]
		switch f.Code {
		case pgwire.SSLRequest:
			if len(g.in) > 0 {
				return f, refused("received unencrypted data after SSL request")
			}
			if g.door.TLS == nil || g.tls != nil {
				if _, err := io.WriteString(g.conn, "N"); err != nil {
					return f, err
				}
				continue
			}
			if _, err := io.WriteString(g.conn, "S"); err != nil {
				return f, err
			}
			if err := g.encrypt(); err != nil {
				return f, err
			}
		case pgwire.GSSENCRequest:
			if len(g.in) > 0 {
				return f, refused("received unencrypted data after GSSAPI encryption request")
			}
			if _, err := io.WriteString(g.conn, "N"); err != nil {
				return f, err
			}
		default:
			return f, nil
		}
	}
	return pgwire.First{}, refused("client re-sent startup pkt")
}

// stay has the guest go on beyond the time for a login, and makes room for others who log in.
func (g *guest) stay() {
	g.leave()
	g.inside.Store(true)
	_ = g.raw.SetDeadline(time.Time{})
}

func (g *guest) more() error {
	var b [4096]byte
	n, err := g.conn.Read(b[:])
	g.in = append(g.in, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// encrypt does TLS's handshake.
func (g *guest) encrypt() error {
	ahead := g.in
	g.in = nil
	g.wire = &wire{Conn: g.raw}
	var under net.Conn = g.wire
	if len(ahead) > 0 {
		under = &readAhead{g.wire, ahead}
	}
	g.tls = tls.Server(under, g.door.TLS)
	if err := g.tls.Handshake(); err != nil {
		g.door.log.Info("TLS handshake failed", logkey.Addr, g.from, logkey.Error, err)
		g.tls = nil
		return errSilent
	}
	g.conn = g.tls
	return nil
}

// readAhead gives what was read before anything else.
type readAhead struct {
	*wire
	ahead []byte
}

// Read implements net.Conn.
func (r *readAhead) Read(b []byte) (int, error) {
	if len(r.ahead) > 0 {
		n := copy(b, r.ahead)
		r.ahead = r.ahead[n:]
		return n, nil
	}
	return r.wire.Read(b)
}

// startup reads the startup message.
func (g *guest) startup(f pgwire.First) error {
	switch {
	case f.Code>>16 == 2:
		return refused("old V2 protocol not supported")
	case f.Code>>16 != 3:
		return refused("bad packet header: '%08x'", f.Code)
	}
	var unknown []string // protocol extensions
	body := f.Body
	for n := 0; ; n++ {
		name, rest, ok := cstring(body)
		if !ok || n > startupMost {
			return refused("invalid startup packet layout: expected terminator as last byte")
		}
		if len(name) == 0 {
			if len(rest) > 0 {
				return refused("invalid startup packet layout: expected terminator as last byte")
			}
			break
		}
		value, rest, ok := cstring(rest)
		if !ok {
			return refused("invalid startup packet layout: expected terminator as last byte")
		}
		body = rest
		switch key, text := string(name), string(value); {
		case key == "user":
			g.key.User = text
		case key == "database":
			g.key.Database = text
		case key == "options":
			g.rest = text
		case key == "replication":
			var err error
			if g.streams, g.logical, err = replication(text); err != nil {
				return err
			}
		case strings.HasPrefix(key, "_pq_."):
			unknown = append(unknown, key)
		default:
			if err := g.set(key, text, "unsupported startup parameter: "); err != nil {
				return err
			}
		}
	}
	if g.rest != "" && !g.streams {
		if err := g.options(g.rest); err != nil {
			return err
		}
	}
	if f.Code&0xffff != 0 || len(unknown) > 0 {
		g.negotiate = appendHead(nil, 'v', 8)
		g.negotiate = binary.BigEndian.AppendUint32(g.negotiate, 3<<16)
		g.negotiate = binary.BigEndian.AppendUint32(g.negotiate, uint32(len(unknown)))
		for _, u := range unknown {
			g.negotiate = append(append(g.negotiate, u...), 0)
		}
		binary.BigEndian.PutUint32(g.negotiate[1:], uint32(len(g.negotiate)-1))
	}
	if g.key.User == "" {
		return refused("no username supplied")
	}
	if g.key.Database == "" {
		g.key.Database = g.key.User
	}
	if len(g.key.User) > nameMax {
		return refused("username too long")
	}
	return nil
}

// set takes a parameter of the startup message.
func (g *guest) set(name, value, complaint string) error {
	if i := trackedIndex(name); i >= 0 {
		if value != "" || tracked[i] == "application_name" {
			g.params[i] = value
		}
		return nil
	}
	if slices.ContainsFunc(g.door.Ignore, func(s string) bool { return strings.EqualFold(s, name) }) {
		return nil
	}
	return refused("%s%s", complaint, name)
}

// options reads what libpq's clients give in PGOPTIONS.
func (g *guest) options(text string) error {
	ignore := slices.Contains(g.door.Ignore, "options")
	bad := refused("unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed")
	fields := splitOptions(text)
	for i := 0; i < len(fields); i++ {
		item, ok := strings.CutPrefix(fields[i], "--")
		if !ok {
			if item, ok = strings.CutPrefix(fields[i], "-c"); !ok {
				return bad
			}
			if item == "" {
				if i++; i == len(fields) {
					return bad
				}
				item = fields[i]
			}
		}
		name, value, ok := strings.Cut(item, "=")
		if !ok {
			return bad
		}
		if err := g.set(strings.ReplaceAll(name, "-", "_"), value, "unsupported startup parameter in options: "); err != nil && !ignore {
			return err
		}
	}
	return nil
}

// splitOptions splits at blanks that no backslash stands before
// (src/backend/utils/init/postinit.c, pg_split_opts).
func splitOptions(text string) []string {
	var all []string
	var one strings.Builder
	has := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			one.WriteByte(text[i])
			has = true
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			if has {
				all = append(all, one.String())
				one.Reset()
				has = false
			}
		default:
			one.WriteByte(c)
			has = true
		}
	}
	if has {
		all = append(all, one.String())
	}
	return all
}

// prove has the client prove who she is.
func (g *guest) prove(ctx context.Context) error {
	d := g.door
	method, rule := hba.MD5, hba.Rule{} // a verifier makes SCRAM of it
	if d.Rules != nil {
		var ok bool
		rule, ok = d.Rules.Match(hba.Client{Database: g.key.Database, User: g.key.User, Addr: g.from, TLS: g.tls != nil, Replication: g.streams && !g.logical})
		if !ok {
			return refused("no authentication method is found")
		}
		method = rule.Method
	}
	text, known, err := d.Secret(ctx, g.key.User)
	if err != nil {
		return &refusal{code: pgwire.CannotConnectNow, text: "the server that knows who may log in does not answer", reason: err.Error()}
	}
	ask := login.Ask{
		Method: method, User: g.key.User, Known: known, Credential: login.Parse(secret.Text(text)),
		Mock: d.pooler.mock, MapName: rule.Map,
	}
	_, _ = rand.Read(ask.Random[:])
	if g.tls != nil {
		if certs := g.tls.ConnectionState().PeerCertificates; len(certs) > 0 && len(g.tls.ConnectionState().VerifiedChains) > 0 {
			ask.Certificate = certs[0].Subject.CommonName
		}
	}
	s, out, verdict := login.Begin(ask, nil)
	for {
		if len(out) > 0 {
			if _, err := g.conn.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		switch verdict {
		case login.Proven:
			g.credential = s.Credential()
			return nil
		case login.Refused:
			return &refusal{reason: s.Refusal().Error()} // it has been told
		}
		var used int
		used, out, verdict = s.Feed(g.in, out)
		g.in = g.in[used:]
		if used > 0 || verdict != login.More {
			continue
		}
		if len(g.in) > s.Limit() {
			return errSilent
		}
		if err := g.more(); err != nil {
			return err
		}
	}
}
