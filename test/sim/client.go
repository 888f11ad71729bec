package sim

import (
	"math"
	"time"

	"howdah/pg"
)

// A client tries every node and writes a numbered row wherever it is let: it
// trusts nobody, so two servers that acknowledge at once are both believed.
type client struct {
	w    *World
	on   bool
	life int // changes with every start and stop
	next int
}

func (c *client) write(life int) {
	w := c.w
	if c.life != life {
		return
	}
	for _, n := range w.nodes {
		if s := n.server; s.writes() && !s.shut {
			w.sees(n)
			c.next++
			s.commit(c.next, pg.LSN(100+w.rng.IntN(4000))&^7)
			a := ack{b: s.branch, end: s.end, id: c.next}
			s.acknowledged(func() {
				holder, _ := w.holder()
				a.lost = holder != n && n.page.Deadline == math.MaxInt64
				w.laws.acks = append(w.laws.acks, a)
				w.Stats.Acknowledged++
				w.acknowledged(n, a)
				w.gateways.answered(n)
			}, nil)
		}
	}
	w.after(w.draw(0, 2*w.rates.commit), func() { c.write(life) })
}

func (c *client) start() {
	if c.on {
		return
	}
	c.on = true
	c.life++
	life := c.life
	c.w.after(time.Millisecond, func() { c.write(life) })
}

func (c *client) stop() {
	c.on = false
	c.life++
}
