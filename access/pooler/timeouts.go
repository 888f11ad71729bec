package pooler

import (
	"time"

	"howdah/access/admin"
	"howdah/access/pool"
)

// expire ends the sessions that have taken too long for something, when the loop
// looks at its clock for that: as exact as PgBouncer (tickEvery). Nothing but the
// time is noted when a query begins or ends, and nothing waits for any one of them.
// The messages are PgBouncer's, whose session ends with them too.
func (d *room) expire(now time.Duration) {
	set := &d.Settings
	if set.QueryTimeout > 0 || set.IdleTransactionTimeout > 0 || set.TransactionTimeout > 0 || d.owns {
		for _, s := range d.servers {
			if s == nil || s.client == nil {
				continue
			}
			if why := s.overdue(now); why != "" {
				s.breaks(why)
			}
		}
	}
	// Nobody becomes idle for long at once, so that most looks are spared.
	shortest := set.ClientIdleTimeout
	if of := d.idleOfUsers; of > 0 && (shortest == 0 || of < shortest) {
		shortest = of
	}
	if shortest > 0 && now >= d.idleNext {
		d.idleNext = now + shortest
		for _, c := range d.clients {
			if c == nil {
				continue
			}
			limit := or(d.Users[c.key.User].ClientIdleTimeout, set.ClientIdleTimeout)
			switch {
			case limit == 0 || !c.welcomed || c.server != nil || c.pend != nil || c.wonder != nil:
			case now-c.last > limit:
				c.fail("client_idle_timeout")
			default:
				d.idleNext = min(d.idleNext, c.last+limit)
			}
		}
	}
}

// overdue says which limit the server's client has passed; "": none.
func (s *server) overdue(now time.Duration) string {
	set, own := &s.room.Settings, pool.Override{}
	if s.room.owns {
		own = s.room.Users[s.key.User]
	}
	over := func(since, limit time.Duration) bool { return limit > 0 && now-since > limit }
	switch {
	case s.busy && over(max(s.began, s.client.last), or(own.QueryTimeout, set.QueryTimeout)): // the data of a COPY may take its time
		return "query timeout"
	case !s.busy && s.status != 'I' && over(s.rested, or(own.IdleTransactionTimeout, set.IdleTransactionTimeout)):
		return "idle transaction timeout"
	case (s.busy || s.status != 'I') && over(s.opened, or(own.TransactionTimeout, set.TransactionTimeout)):
		return "transaction timeout"
	}
	return ""
}

// turn ends a stats_period when its time has come.
func (d *room) turn(now time.Duration) {
	if now-d.turned < d.Settings.StatsPeriod {
		return
	}
	d.turned = now
	d.window.Turn(d.loop.began.Add(now), d.totals())
}

// totals are the counts as the console shows them.
func (n *stats) totals() admin.Totals {
	return admin.Totals{
		ServerAssignments: n.assigned, Xacts: n.xacts, Queries: n.queries, Received: n.received, Sent: n.sent,
		XactTime: n.xactTime, QueryTime: n.queryTime, WaitTime: n.waitTime,
		ClientParses: n.parses, ServerParses: n.serverParses, Binds: n.binds,
	}
}
