package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/hba"
	"howdah/access/pool"
	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/cluster"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/secret"
	"howdah/spec"
)

// pools are the ways in whose clients share connections: the port of this node's
// own server, and the services that lead to a pooler.
type pools struct {
	pooler *pooler.Pooler
	own    *pooler.Door // nil: there is no such port
	rolls  []*pooler.Roll
}

// Settings of pools that no inventory changes.
const (
	maxPrepared = 200 // max_prepared_statements of PgBouncer since 1.24
	resetQuery  = "DISCARD ALL"
)

// openPools opens the pools of n. Its own server is reached by its socket, whose
// directory only PostgreSQL's own user may enter, as whoever has proven to be that
// user: the server's rules of who may come from where are not asked again, so the
// pool has rules of its own. Servers elsewhere are reached over TLS, with what the
// user's own proof was worth.
func (g *Gateway) openPools(n spec.Node) (*pools, error) {
	p := &pools{}
	roll, err := pooler.NewRoll(n.Paths.Sockets, n.Postgres.Port, spec.Superuser, g.wait)
	if err != nil {
		return nil, err
	}
	p.rolls = append(p.rolls, roll)
	var doors []*pooler.Door
	door := func(name string, log *slog.Logger) *pooler.Door {
		settings := pool.Defaults()
		if mode, ok := pool.ParseMode(n.Pool.Mode); ok && mode != pool.Inherit {
			settings.PoolMode = mode
		}
		d := &pooler.Door{
			Name: name, Settings: settings, Users: users(n.Objects.Roles), Prepared: maxPrepared, ResetQuery: resetQuery, Ignore: n.Pool.Ignore,
			Secret: roll.Secret, Rules: rules(n.Pool.HBA, log), TLS: g.server, OnlyTLS: n.Pool.TLS, Log: log,
		}
		doors = append(doors, d)
		return d
	}
	if n.Pool.Listen != "" {
		p.own = door("pool", g.log.With("pool", n.Pool.Listen))
		// As Pigsty's pgbouncer.ini has it.
		p.own.Admins = []string{spec.Superuser}
		if n.Objects.Admin != "" {
			p.own.Admins = append(p.own.Admins, n.Objects.Admin)
		}
		if n.Objects.Monitor != "" {
			p.own.Watchers = append(p.own.Watchers, n.Objects.Monitor)
		}
		p.own.Dial = pooler.Local(n.Paths.Sockets, n.Postgres.Port)
	}
	config, err := pki.ClientConfig(n.TLS)
	if err != nil {
		return nil, err
	}
	secrets, err := nodefile.Secrets(n)
	if err != nil {
		g.log.Warn("nobody but this node's own server is asked who may log in", logkey.Error, err)
	}
	for _, port := range g.ports {
		if !port.pooled() {
			continue
		}
		d := door(port.name, port.front.log.With("service", port.name))
		d.Settings.DownWait = g.wait
		d.Settings.MaxClientConn = port.service.MaxConn
		d.Excuse = func() string { message, _ := port.excuse(); return message }
		way := &way{
			port: port, node: n, config: config, local: pooler.Local(n.Paths.Sockets, n.Postgres.Port),
			roll: roll.Config, Superuser: secrets[spec.SecretSuper],
		}
		d.Dial = way.dial
		roll, err := pooler.NewRoll(n.Paths.Sockets, n.Postgres.Port, spec.Superuser, g.wait)
		if err != nil {
			return nil, err
		}
		roll.Else = way.secret
		d.Secret = roll.Secret
		p.rolls = append(p.rolls, roll)
		port.door = d
	}
	if p.pooler, err = pooler.New(g.log, doors...); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pools) close() {
	for _, r := range p.rolls {
		r.Close()
	}
}

// users are what the inventory says of single users' pools.
func users(roles []spec.Role) map[string]pool.Override {
	all := map[string]pool.Override{}
	for _, r := range roles {
		var o pool.Override
		if mode, ok := pool.ParseMode(r.PoolMode); ok {
			o.PoolMode = mode
		}
		if r.PoolLimit > 0 {
			limit := r.PoolLimit
			o.MaxConnections = &limit
		}
		if o != (pool.Override{}) {
			all[r.Name] = o
		}
	}
	return all
}

// rules reads who may come in by the inventory; nil: everybody, by password.
func rules(all []spec.AccessRule, log *slog.Logger) hba.Rules {
	if len(all) == 0 {
		return nil
	}
	var text strings.Builder
	for _, r := range all {
		for _, line := range r.Lines {
			text.WriteString(line + "\n")
		}
	}
	rules, problems := hba.Parse(text.String(), func(string) (string, error) {
		return "", errors.New("files of names are not read")
	})
	for _, p := range problems {
		log.Warn("rule of the pool skipped", "rule", p.String())
	}
	if rules == nil {
		rules = hba.Rules{} // they are all wrong: nobody comes in
	}
	return rules
}

// pooled says that the service's clients share connections to servers. Only a
// node with a server of its own can tell who may log in; another one leads to
// the members' poolers.
func (p *port) pooled() bool {
	n := p.front.gateway.node
	if n.Pool.Listen == "" || n.Cluster != p.front.Cluster || n.Namespace != p.front.Namespace {
		return false
	}
	dest := p.service.Dest
	if dest == "" || dest == cluster.DestDefault {
		dest = p.front.Dest
	}
	return dest == "" || dest == cluster.DestPool
}

// A way is how a pool of a service gets its servers.
type way struct {
	port   *port
	node   spec.Node
	config *tls.Config
	local  func(context.Context) (pooler.Backend, error)
	roll   *pgconn.Config // how this node's own server is asked who may log in

	Superuser secret.Text
}

// secret asks the servers of the service for what they know of a user's password,
// as their superuser: where their rules let that one in from here.
func (w *way) secret(ctx context.Context, user string) (text string, known bool, err error) {
	s, _ := w.port.route()
	err = errNobody
	for _, b := range s.Usable() {
		if b.Member == w.node.Member || w.config == nil || w.Superuser == "" {
			continue
		}
		c := w.roll.Copy()
		host, port, _ := net.SplitHostPort(b.Addr)
		number, _ := strconv.Atoi(port)
		c.Host, c.Port, c.Password = host, uint16(number), w.Superuser.Reveal()
		c.TLSConfig = w.config.Clone()
		c.TLSConfig.ServerName = host
		roll := pooler.Roll{Config: c}
		within, stop := context.WithTimeout(ctx, dialWithin)
		text, known, err = roll.Once(within, user)
		stop()
		roll.Close()
		if err == nil {
			return text, known, nil
		}
	}
	return "", false, err
}

// reign is which server a connection leads to: the tag of those of a service.
type reign struct {
	member string
	epoch  int64
}

// dial connects to a server that the service leads to now.
func (w *way) dial(ctx context.Context) (pooler.Backend, error) {
	p := w.port
	s, _ := p.route()
	usable := s.Usable()
	if len(usable) == 0 {
		return pooler.Backend{}, errNobody
	}
	p.mu.Lock()
	b := p.balance.pick(s.Balance, usable, netip.Addr{}, func(member string) int64 { return p.server(member).now })
	p.mu.Unlock()
	var gate func() bool
	let := func() {}
	if b.Epoch != 0 {
		from, done, err := p.front.right(b)
		if err != nil {
			return pooler.Backend{}, err
		}
		let, gate = done, func() bool { return from.open(b.Epoch) }
	}
	began := time.Now()
	back, err := w.reach(ctx, b)
	if err != nil {
		let()
		p.failed(b.Member)
		return back, err
	}
	back.Gate, back.Tag = gate, reign{b.Member, b.Epoch}
	p.mu.Lock()
	v := p.server(b.Member)
	v.now++
	v.total++
	v.most = max(v.most, v.now)
	v.lastSession = time.Now()
	v.rate.add(v.lastSession)
	v.connect.add(time.Since(began))
	p.mu.Unlock()
	back.Done = func() {
		let()
		p.mu.Lock()
		v.now--
		p.mu.Unlock()
	}
	return back, nil
}

func (w *way) reach(ctx context.Context, b route.Backend) (pooler.Backend, error) {
	if b.Member == w.node.Member {
		return w.local(ctx)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{Timeout: dialWithin, KeepAliveConfig: keepAlive}
		return d.DialContext(ctx, "tcp", b.Addr)
	}
	conn, err := dial(ctx)
	back := pooler.Backend{Conn: conn, Again: dial}
	if w.config != nil {
		host, _, _ := net.SplitHostPort(b.Addr)
		back.TLS = w.config.Clone()
		back.TLS.ServerName = host
	}
	return back, err
}

// follows has the pool of the service drop the connections to servers that are
// none any more.
func (p *port) follows(s route.Service) {
	if p.door == nil {
		return
	}
	p.door.Follow(func(tag any) bool {
		r, ok := tag.(reign)
		if !ok {
			return true
		}
		x := session{member: r.member, epoch: r.epoch}
		return x.stays(s)
	})
}
