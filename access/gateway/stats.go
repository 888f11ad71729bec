package gateway

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/logkey"
)

// began is when this process started to count.
var began = time.Now()

// A stat is one row of HAProxy's statistics: a service's frontend, one of its
// servers, or its backend. What we have no number for stays zero.
type stat struct {
	proxy, server string // "demo-primary", "FRONTEND", "BACKEND" or a member
	kind          int    // 0 frontend, 1 backend, 2 server
	iid, sid      int

	current, most, limit, total   int64 // sessions
	in, out                       int64 // bytes from and to clients
	refused                       int64 // connections that found no server or no descriptor
	connectErrors                 int64
	clientAborts, serverAborts    int64
	status                        string
	up, check                     bool // counted in; passes its check
	mode                          route.Mode
	weight                        int
	active, backup                int
	checkFailures, checkDowns     int64
	lastChange, downtime          time.Duration
	lastSession                   time.Duration // -1: never
	rate                          rateNow
	queued, queuedMost            int64
	queueLimit                    int64 // 0: none
	addr, algorithm, why          string
	connects, averageMS, greatest int64
}

// A rate is how many events there are in a second. It is used under a lock.
type rate struct {
	second      int64
	count, last int64
	most        int64
}

// rateNow is what a rate is at one moment.
type rateNow struct{ now, most int64 }

func (r *rate) add(now time.Time) {
	r.roll(now)
	r.count++
	r.most = max(r.most, r.count)
}

func (r *rate) roll(now time.Time) {
	switch s := now.Unix(); {
	case s == r.second:
	case s == r.second+1:
		r.second, r.last, r.count = s, r.count, 0
	default:
		r.second, r.last, r.count = s, 0, 0
	}
}

func (r *rate) read(now time.Time) rateNow {
	r.roll(now)
	return rateNow{max(r.last, r.count), r.most}
}

// stats are the rows of every service, in HAProxy's order.
func (g *Gateway) stats() []stat {
	var rows []stat
	for i, p := range g.ports {
		rows = append(rows, p.stats(i+1)...)
	}
	return rows
}

// statusOf is what HAProxy calls a server's state.
func statusOf(b route.Backend) string {
	switch {
	case b.Mode == route.Maint:
		return "MAINT"
	case !b.Up:
		return "DOWN"
	case b.Mode == route.Drain || b.Weight == 0:
		return "DRAIN"
	}
	return "UP"
}

func (p *port) stats(iid int) []stat {
	s, _ := p.route()
	var pooled pooler.Load
	if p.door != nil { // before the lock, which the loop takes too
		pooled = p.door.Load()
		p.waiting.Store(int64(pooled.Waiting))
		raise(&p.waitingMost, int64(pooled.Waiting))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	c := &p.counts
	front := stat{
		proxy: p.name, server: "FRONTEND", kind: 0, iid: iid, status: "OPEN", up: true,
		current: c.now.Load(), most: c.most.Load(), limit: int64(p.service.MaxConn), total: c.accepted.Load(),
		refused: c.refused.Load(), rate: p.rate.read(now), lastSession: -1,
	}
	back := stat{
		proxy: p.name, server: "BACKEND", kind: 1, iid: iid, status: "DOWN", limit: int64(p.service.MaxConn) / 10,
		lastSession: -1, algorithm: s.Balance, queued: p.waiting.Load(), queuedMost: p.waitingMost.Load(),
		refused: c.refused.Load(), clientAborts: c.dropped.Load(), most: p.most, rate: p.joined.read(now),
		lastChange: now.Sub(cmp.Or(p.changed, began)), downtime: p.down,
	}
	if len(s.Usable()) > 0 {
		back.status, back.up, back.check = "UP", true, true
	} else if !p.changed.IsZero() {
		back.downtime += now.Sub(p.changed)
	}
	rows := []stat{front}
	for i, b := range s.Backends {
		v := p.server(b.Member)
		row := stat{
			proxy: p.name, server: b.Member, kind: 2, iid: iid, sid: i + 1, status: statusOf(b), up: b.Open(), check: b.Up,
			mode: b.Mode, weight: b.Weight, addr: b.Addr, why: b.Trail,
			current: v.now, most: v.most, total: v.total, limit: int64(p.limits.MaxConn), queueLimit: int64(p.limits.MaxQueue), in: v.in.Load(), out: v.out.Load(),
			connectErrors: v.errors, serverAborts: v.cut, checkDowns: v.changes, checkFailures: v.changes,
			lastChange: now.Sub(cmp.Or(v.lastChange, began)), downtime: v.down, lastSession: -1,
			rate: v.rate.read(now), connects: v.total + v.errors,
		}
		if !v.downSince.IsZero() {
			row.downtime += now.Sub(v.downSince)
		}
		if !v.lastSession.IsZero() {
			row.lastSession = now.Sub(v.lastSession)
		}
		row.averageMS, row.greatest = v.connect.milliseconds()
		if b.Backup {
			row.backup = 1
		} else {
			row.active = 1
		}
		if row.up {
			back.active, back.backup = back.active+row.active, back.backup+row.backup
			if !b.Backup {
				back.weight += b.Weight
			}
		}
		back.checkDowns += v.changes
		if row.lastSession >= 0 && (back.lastSession < 0 || row.lastSession < back.lastSession) {
			back.lastSession = row.lastSession
		}
		rows = append(rows, row)
	}
	// Members that left the service carried bytes too.
	for _, v := range p.servers {
		back.current, back.total = back.current+v.now, back.total+v.total
		back.in, back.out = back.in+v.in.Load(), back.out+v.out.Load()
		back.connectErrors, back.serverAborts = back.connectErrors+v.errors, back.serverAborts+v.cut
		back.connects += v.total + v.errors
	}
	back.in, back.out = back.in+int64(pooled.Received), back.out+int64(pooled.Sent)
	rows[0].in, rows[0].out = back.in, back.out
	return append(rows, back)
}

// mean is a running mean of the last thousand or so, and the greatest of all.
type mean struct {
	of       float64 // milliseconds
	count    int
	greatest time.Duration
}

func (m *mean) add(d time.Duration) {
	m.count = min(m.count+1, 1024)
	m.of += (float64(d)/float64(time.Millisecond) - m.of) / float64(m.count)
	m.greatest = max(m.greatest, d)
}

func (m *mean) milliseconds() (average, greatest int64) {
	return int64(m.of + 0.5), m.greatest.Milliseconds()
}

// set is what a person does to one server of one service by hand. It reports
// whether there was anything to do.
func (p *port) set(member, action string) bool {
	if action == "shutdown" {
		p.cut("an operator asked for it", func(x *session) bool { return x.member == member })
		return true
	}
	mode := route.Mode(action)
	if action == "ready" {
		mode = route.Ready
	}
	did := false
	p.front.change(func(v *route.View) {
		i := slices.IndexFunc(v.Settings, func(s route.Setting) bool { return s.Service == p.service.Name && s.Member == member })
		switch {
		case i >= 0 && v.Settings[i].Mode == mode, i < 0 && mode == route.Ready:
			return
		case i >= 0:
			v.Settings = slices.Delete(slices.Clone(v.Settings), i, i+1)
		}
		did = true
		if mode != route.Ready {
			v.Settings = append(slices.Clip(v.Settings), route.Setting{Service: p.service.Name, Member: member, Mode: mode})
		}
	})
	if did {
		if err := p.front.gateway.remember(); err != nil {
			p.front.log.Warn("set until the gateway ends", logkey.Error, err)
		}
	}
	return did
}

func seconds(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(int64(d/time.Second), 10)
}
