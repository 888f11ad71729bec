package pooler

import (
	"net/netip"
	"slices"
	"time"

	"howdah/access/pool"
)

// Where several servers are as good as each other, the place of a session is chosen
// when it begins, as a proxy before a pooler on each of them would: all its connections
// lead there, whichever connections others have left. It moves when its place is none
// any more, between two transactions, and while it waits for a server that is not there.

// shunFor is how long a place that did not answer is chosen last. Whoever is gone for
// longer is no place any more by then.
const shunFor = 5 * time.Second

// place chooses one for a client that begins; on the loop.
func (d *room) place(from netip.Addr) string {
	if d.Place == nil {
		return ""
	}
	now := d.loop.now
	return d.Place(from, func(place string) int64 {
		if until, ok := d.shunned[place]; ok && now < until {
			return -1
		}
		return int64(d.book.At(place))
	})
}

// adrift says that a place is none any more, and that there are others.
func (d *room) adrift(place string) bool {
	return len(d.course.Places) > 0 && !slices.Contains(d.course.Places, place)
}

// move gives c, which has no server, another place.
func (d *room) move(c *client) {
	c.adrift = false
	if c.id == pool.None || d.Place == nil {
		return
	}
	if to := d.place(c.from.Addr()); to != c.key.Place {
		c.key.Place = to
		d.book.Move(c.id, to, d.loop.now)
	}
}

// shun has those who wait at a place that does not answer go to others.
func (d *room) shun(key pool.Key) {
	if key.Place == "" {
		return
	}
	if d.shunned == nil {
		d.shunned = map[string]time.Duration{}
	}
	d.shunned[key.Place] = d.loop.now + shunFor
	for _, id := range d.book.Waiting(key) {
		if c := d.clients[id]; c != nil {
			d.move(c)
		}
	}
}

// leave has the client of s go on at another place than that of s, which ends under it.
func (s *server) leave() {
	if s.key.Place != "" {
		s.room.shun(s.key)
		s.client.adrift = true
	}
}
