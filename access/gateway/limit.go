package gateway

import (
	"errors"
	"time"

	"howdah/access/route"
)

// queueFor is how long a client waits for a server that is full (HAProxy's
// timeout queue, in Pigsty).
const queueFor = 3 * time.Second

var (
	errFull = errors.New("every server has as many sessions as it may")
	errMany = errors.New("too many clients wait for a server")
)

// room are those of left that may have one more session, by the limits that the
// service's options set. One that has come up a moment ago weighs less, so that
// others do most of the work while its memory fills; alone it still does all.
// The port's lock is held.
func (p *port) room(left []route.Backend, now time.Time) []route.Backend {
	l := p.limits
	if l.MaxConn == 0 && l.SlowStart == 0 {
		return left
	}
	var free []route.Backend
	for _, b := range left {
		v := p.server(b.Member)
		if l.MaxConn > 0 && v.now >= int64(l.MaxConn) {
			continue
		}
		if up := now.Sub(v.lastChange); l.SlowStart > 0 && v.returned && up < l.SlowStart {
			b.Weight = max(1, b.Weight*int(up)/int(l.SlowStart))
		}
		free = append(free, b)
	}
	return free
}

// queue counts x among those who wait for room, once, and says when that is in
// vain. The number of servers they wait for is given.
func (x *session) queue(servers int) error {
	p := x.port
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case x.queued.IsZero() && p.limits.MaxQueue > 0 && p.queued >= p.limits.MaxQueue*servers:
		return errMany
	case x.queued.IsZero():
		x.queued = time.Now()
		p.queued++
	case time.Since(x.queued) > queueFor:
		return errMany
	}
	return nil
}

// unqueue is the end of that.
func (x *session) unqueue() {
	x.port.mu.Lock()
	defer x.port.mu.Unlock()
	if !x.queued.IsZero() {
		x.port.queued--
		x.queued = time.Time{}
	}
}
