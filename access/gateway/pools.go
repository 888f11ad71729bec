package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
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
	"howdah/postgres"
	"howdah/secret"
	"howdah/spec"
)

var errLetsNobodyIn = errors.New("the server lets nobody in yet: what it was started with is not confirmed")

// pools are the ways in whose clients share connections: the port of this node's
// own server, and the services that lead to a pooler.
type pools struct {
	pooler *pooler.Pooler
	own    *pooler.Door // nil: there is no such port
	rolls  []*pooler.Roll
	ways   []*way

	lookout pooler.Lookout // at this node's own server
}

// resetQuery is PgBouncer's server_reset_query, which no inventory changes.
const resetQuery = "DISCARD ALL"

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
	p.rolls, p.lookout.Config = append(p.rolls, roll), roll.Config.Copy
	var doors []*pooler.Door
	door := func(name string, log *slog.Logger) *pooler.Door {
		d := &pooler.Door{
			Name: name, Settings: settings(n.Pool, log), Databases: databases(n.Objects.Databases), Users: users(n.Objects.Roles, log),
			ResetQuery: resetQuery, Ignore: n.Pool.Ignore, Secret: roll.Secret, Rules: rules(n.Pool.HBA, log),
			TLS: g.server, OnlyTLS: n.Pool.TLS, Log: log, Outlive: true, Tag: tagOf(n.Member),
			Admins: []string{spec.Superuser}, // with those below as Pigsty's pgbouncer.ini has it
		}
		if n.Objects.Admin != "" {
			d.Admins = append(d.Admins, n.Objects.Admin)
		}
		if n.Objects.Monitor != "" {
			d.Watchers = append(d.Watchers, n.Objects.Monitor)
		}
		doors = append(doors, d)
		return d
	}
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return nil, err
	}
	if n.Pool.Listen != "" {
		p.own = door("pool", g.log.With("pool", n.Pool.Listen))
		local := pooler.Local(n.Paths.Sockets, n.Postgres.Port)
		p.own.Dial = func(ctx context.Context) (pooler.Backend, error) {
			if postgres.Shut(n) {
				return pooler.Backend{}, errLetsNobodyIn // as while it starts: to be refused would end those who wait
			}
			back, err := local(ctx)
			back.Waits = p.lookout.Waits
			return back, err
		}
		for _, f := range g.fronts {
			if f.Cluster == n.Cluster && f.Namespace == n.Namespace {
				f.own = p.own
				_, port, _ := net.SplitHostPort(n.Pool.Listen)
				p.own.Elsewhere = f.elsewhere(port, peers)
			}
		}
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
		d.Elsewhere = port.front.elsewhere(strconv.Itoa(port.service.Port), peers)
		d.Excuse = func() string { message, _ := port.excuse(); return message }
		way := &way{
			port: port, node: n, peers: peers, local: pooler.Local(n.Paths.Sockets, n.Postgres.Port),
			roll: roll.Config, Superuser: secrets[spec.SecretSuper],
		}
		d.Dial, d.DialAt, d.Place = way.dial, way.dialAt, way.place
		roll, err := pooler.NewRoll(n.Paths.Sockets, n.Postgres.Port, spec.Superuser, g.wait)
		if err != nil {
			return nil, err
		}
		roll.Else = way.secret
		d.Secret = roll.Secret
		p.rolls, p.ways = append(p.rolls, roll), append(p.ways, way)
		port.door, port.way, d.Fate = d, way, port.front.fate
		d.Came, d.Left = port.came, func() { port.counts.now.Add(-1) }
		if p.own != nil && port.front.own == p.own {
			p.own.Fate = port.front.fate // its transactions are the same leader's
		}
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
	for _, w := range p.ways {
		w.asked.close()
	}
	p.lookout.Close()
}

// settings are what the inventory says of all pools, over PgBouncer's defaults.
func settings(p spec.Pool, log *slog.Logger) pool.Settings {
	s := pool.Defaults()
	if mode, ok := pool.ParseMode(p.Mode); ok && mode != pool.Inherit {
		s.PoolMode = mode
	}
	for name, value := range p.Parameters {
		if err := s.Set(name, value); err != nil { // of a description that another release wrote
			log.Warn("setting of the pool is ignored", logkey.Error, err)
		}
	}
	return s
}

// databases are what the inventory says of single databases' pools.
func databases(all []spec.Database) map[string]pool.Override {
	own := map[string]pool.Override{}
	for _, d := range all {
		o := pool.Override{
			PoolSize: limit(d.PoolSize), MinPoolSize: limit(d.PoolSizeMin), ReservePoolSize: limit(d.PoolReserve), MaxConnections: limit(d.PoolLimit),
		}
		o.PoolMode, _ = pool.ParseMode(d.PoolMode)
		if o != (pool.Override{}) && d.State != spec.Absent {
			own[d.Name] = o
		}
	}
	return own
}

// limit is n, unless it is Pigsty's word for "as everywhere", which is less than 0.
func limit(n *int) *int {
	if n == nil || *n < 0 {
		return nil
	}
	return n
}

// users are what the inventory says of single users' pools.
func users(roles []spec.Role, log *slog.Logger) map[string]pool.Override {
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
		for name, value := range r.PoolParameters {
			if err := o.SetUser(name, value); err != nil { // of a description that another release wrote
				log.Warn("setting of a user's pools is ignored", "user", r.Name, logkey.Error, err)
			}
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
	port  *port
	node  spec.Node
	peers *pki.Peers
	local func(context.Context) (pooler.Backend, error)
	roll  *pgconn.Config // how this node's own server is asked who may log in

	Superuser secret.Text

	asked asked
}

// secret asks the servers of the service for what they know of a user's password,
// as their superuser: where their rules let that one in from here.
func (w *way) secret(ctx context.Context, user string) (text string, known bool, err error) {
	s, _ := w.port.route()
	err = errNobody
	for _, b := range s.Usable() {
		c := w.asks(b)
		if b.Member == w.node.Member || c == nil {
			continue
		}
		roll := pooler.Roll{Config: c()}
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
	return w.open(ctx, b)
}

// dialAt connects to a member, if the service leads to it now.
func (w *way) dialAt(ctx context.Context, member string) (pooler.Backend, error) {
	s, _ := w.port.route()
	usable := s.Usable()
	i := slices.IndexFunc(usable, func(b route.Backend) bool { return b.Member == member })
	if i < 0 {
		return pooler.Backend{}, errNobody
	}
	return w.open(ctx, usable[i])
}

// place chooses the member for a session of a service that leads to several: the one
// that has the fewest for its weight, and of equals each in turn, unless the inventory
// has another way. What leads to the leader has no places: there is only ever one.
func (w *way) place(from netip.Addr, count func(member string) int64) string {
	p := w.port
	s, _ := p.route()
	usable := s.Usable()
	if s.Leading || len(usable) == 0 {
		return ""
	}
	if answer := slices.DeleteFunc(slices.Clone(usable), func(b route.Backend) bool { return count(b.Member) < 0 }); len(answer) > 0 {
		usable = answer
	}
	how := s.Balance
	if how == "roundrobin" || how == "static-rr" {
		how = "leastconn"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.balance.pick(how, usable, from, count).Member
}

func (w *way) open(ctx context.Context, b route.Backend) (pooler.Backend, error) {
	p := w.port
	open, let, err := w.gate(b)
	if err != nil {
		return pooler.Backend{}, err
	}
	tag := reign{b.Member, b.Epoch}
	pooler.Aim(ctx, tag)
	began := time.Now()
	back, err := w.reach(ctx, b)
	if err != nil {
		let()
		p.failed(b.Member)
		return back, err
	}
	back.Gate, back.Tag, back.Reads = open, tag, b.Epoch == 0
	back.Done = w.opened(b, time.Since(began), let)
	return back, nil
}

// gate is what b's answers must pass (nil: nothing), and how to let go of it.
func (w *way) gate(b route.Backend) (open func() bool, let func(), err error) {
	if b.Epoch == 0 {
		return nil, func() {}, nil
	}
	from, let, err := w.port.front.right(b)
	return (&gate{from, b.Epoch, w.port.front}).pass, let, err
}

// opened counts a connection to b, until what it returns is called.
func (w *way) opened(b route.Backend, took time.Duration, let func()) (closed func()) {
	p := w.port
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.server(b.Member)
	v.now++
	v.total++
	v.most = max(v.most, v.now)
	v.lastSession = time.Now()
	v.rate.add(v.lastSession)
	v.connect.add(took)
	return func() {
		let()
		p.mu.Lock()
		v.now--
		p.mu.Unlock()
	}
}

// next connects to a member that is to lead, ahead of the time when it does.
func (w *way) next(member string) func(context.Context) (pooler.Backend, error) {
	return func(ctx context.Context) (pooler.Backend, error) {
		s, _ := w.port.route()
		b, _ := s.Backend(member)
		if b.Addr == "" {
			return pooler.Backend{}, errNobody
		}
		began := time.Now()
		back, err := w.reach(ctx, b)
		took := time.Since(began)
		back.Rise = func() (func() bool, any, func(), bool) {
			s, _ := w.port.route()
			b, ok := s.Backend(member)
			if !ok || !b.Open() || b.Epoch == 0 {
				return nil, nil, nil, false
			}
			open, let, err := w.gate(b)
			if err != nil {
				return nil, nil, nil, false
			}
			return open, reign{member, b.Epoch}, w.opened(b, took, let), true
		}
		return back, err
	}
}

func (w *way) reach(ctx context.Context, b route.Backend) (pooler.Backend, error) {
	if b.Member == w.node.Member {
		back, err := w.local(ctx)
		back.Waits = w.waits(b)
		return back, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		d := net.Dialer{Timeout: dialWithin, KeepAliveConfig: keepAlive}
		return d.DialContext(ctx, "tcp", b.Addr)
	}
	conn, err := dial(ctx)
	back := pooler.Backend{Conn: conn, Again: dial, Waits: w.waits(b)}
	if w.peers != nil {
		host, _, _ := net.SplitHostPort(b.Addr)
		back.TLS = w.peers.To(host)
	}
	return back, err
}

// follows sets the course of the service's pool. While its leader is about to hand
// over, and until the next one is there, clients are held rather than sent to look
// for somebody. The front's lock is held.
func (p *port) follows(s route.Service) {
	if p.door == nil {
		return
	}
	usable := s.Usable()
	somebody := len(usable) > 0
	var places []string
	for _, b := range usable {
		if !s.Leading {
			places = append(places, b.Member)
		}
	}
	switch {
	case somebody:
		p.holds = false
	case slices.ContainsFunc(s.Backends, func(b route.Backend) bool { return b.Held }):
		p.holds = true
	}
	p.door.Follow(pooler.Course{Hold: p.holds, Places: places, Gate: p.gateOf(s), Keep: func(tag any) pooler.Verdict {
		r, ok := tag.(reign)
		if !ok {
			return pooler.Stay
		}
		x := session{member: r.member, epoch: r.epoch}
		b, _ := s.Backend(r.member)
		switch stays := x.stays(s); {
		case stays && b.Held && somebody:
			return pooler.Retire
		case stays && (b.Epoch == 0) == (r.epoch == 0):
			return pooler.Stay
		case r.epoch == 0 && b.Epoch != 0:
			// A replica that took the key. What began there on a standby writes nothing
			// in the same transaction, and ends in peace.
			return pooler.Retire
		}
		return pooler.End
	}})
}

// gateOf is what connections that were opened to no leader must pass that lead to one now.
func (p *port) gateOf(s route.Service) func(tag any) func() bool {
	return func(tag any) func() bool {
		r, _ := tag.(reign)
		b, ok := s.Backend(r.member)
		if !ok || r.epoch != 0 || b.Epoch == 0 {
			return nil
		}
		return func() bool {
			from, let, err := p.front.right(b)
			if err != nil {
				return false
			}
			defer let()
			return (&gate{from, b.Epoch, p.front}).pass()
		}
	}
}
