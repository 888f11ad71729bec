package gateway

import (
	"sync"
	"time"

	"howdah/access/pooler"
	"howdah/access/route"
	"howdah/cluster"
	"howdah/logkey"
)

// A planned change of leader, as the gateways have it: while the leader prepares,
// connections to its successor are made; then nothing new is begun there
// (access/route), and when what was going on has ended it is said so in the store.
// Nothing here decides anything: the leader waits for a moment, and goes on.

// holdMost is how long clients are held for one drain, come what may: what else
// there is to wait for (a server that does not end its shutdown, say) they
// wait for as they always do.
const holdMost = 2 * cluster.DrainMost

// A standing is what this gateway says of itself in the store.
type standing struct {
	epoch int64 // the newest that the routes follow
	ready int64 // generation of the drain for which all is done that can be ahead of time; 0: none
	held  int64 // generation of the drain for which clients are held; 0: none
	open  int   // transactions that were going on when they first were, or 0
	// heldAt is since when they have been.
	heldAt time.Time

	served   int64     // the newest reign whose leader has answered a client here
	servedAt time.Time // when it first did so, or again after it had been away

	refused string // a restart that came to nothing, and why
}

// A draining is the drain that is being obeyed.
type draining struct {
	mu    sync.Mutex
	is    cluster.PictureDrain
	epoch int64
	since time.Time            // clients have been held
	doors int                  // that count
	open  map[*pooler.Door]int // transactions that go on
	valve *time.Timer
	tired int64 // generation that has lasted for too long
}

// drain takes up what the picture says of one, after the routes have. Pictures come one after another.
func (f *front) drain(p cluster.Picture) {
	var want cluster.PictureDrain
	if p.Drain != nil {
		want = *p.Drain
	}
	g := &f.draining
	g.mu.Lock()
	before, epoch := g.is, g.epoch
	g.is, g.epoch = want, p.Epoch
	if before == want {
		g.mu.Unlock()
		return
	}
	if g.valve != nil {
		g.valve.Stop()
		g.valve = nil
		if !want.Hold {
			time.AfterFunc(holdMost, f.release) // whom nobody serves until then
		}
	}
	g.open, g.doors = map[*pooler.Door]int{}, 0
	g.mu.Unlock()
	if want.To != "" && (want.To != before.To || !want.Hold) {
		f.prewarm(want)
	}
	switch {
	case want.Hold:
		f.hold(want)
	case before != (cluster.PictureDrain{}):
		if want == (cluster.PictureDrain{}) && epoch == p.Epoch {
			f.log.Info("drain called off", logkey.Member, before.From)
			f.pooled(func(d *pooler.Door) { d.Cool() })
		}
		f.letGo()
	}
}

// pooled are the doors of the front.
func (f *front) pooled(each func(*pooler.Door)) {
	for _, p := range f.ports {
		if p.door != nil {
			each(p.door)
		}
	}
	if f.own != nil {
		each(f.own)
	}
}

// prewarm makes connections to the server that is to lead, for every service that
// leads to the one that does, and says so in the store.
func (f *front) prewarm(d cluster.PictureDrain) {
	routes, _ := f.routes.Get()
	var doors sync.WaitGroup
	for i, p := range f.ports {
		if p.door == nil || i >= len(routes) || !routes[i].Leading {
			continue
		}
		doors.Add(1)
		p.door.Warm(p.way.next(d.To), doors.Done)
	}
	go func() {
		doors.Wait()
		f.draining.mu.Lock()
		defer f.draining.mu.Unlock()
		if f.draining.is == d {
			f.stand(func(s *standing) { s.ready = d.Generation })
		}
	}()
}

// hold has the doors say when what goes on at the leader has ended.
func (f *front) hold(d cluster.PictureDrain) {
	f.log.Info("clients held", logkey.Member, d.From, "to", d.To, "generation", d.Generation)
	g := &f.draining
	var doors []*pooler.Door
	for _, p := range f.ports {
		if p.door != nil {
			doors = append(doors, p.door)
		}
	}
	own := f.own != nil && f.gateway.node.Member == d.From
	if own {
		f.own.Follow(pooler.Course{Hold: true})
		doors = append(doors, f.own)
	}
	g.mu.Lock()
	g.doors, g.since = len(doors), time.Now().Round(0)
	since := g.since
	g.valve = time.AfterFunc(holdMost, func() { f.tire(d) })
	g.mu.Unlock()
	for _, door := range doors {
		which := func(tag any) bool { r, ok := tag.(reign); return ok && r.member == d.From }
		if door == f.own {
			which = func(any) bool { return true }
		}
		door.Watch(which, func(open int) { f.count(d.Generation, door, open) })
	}
	if len(doors) == 0 {
		f.stand(func(s *standing) { s.held, s.open, s.heldAt = d.Generation, 0, since })
	}
}

// count takes in how many transactions go on at a door, on the thread of its loop. The
// store is told when all doors are known, and when nothing goes on any more.
func (f *front) count(generation int64, door *pooler.Door, open int) {
	g := &f.draining
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.is.Generation != generation {
		return
	}
	_, known := g.open[door]
	g.open[door] = open
	sum := 0
	for _, n := range g.open {
		sum += n
	}
	if last := !known && len(g.open) == g.doors; last || len(g.open) == g.doors && sum == 0 {
		f.stand(func(s *standing) { s.held, s.open, s.heldAt = generation, sum, g.since })
	}
}

// letGo is the end of a drain.
func (f *front) letGo() {
	f.pooled(func(d *pooler.Door) { d.Watch(nil, nil) })
	if f.own != nil {
		f.own.Follow(pooler.Course{})
	}
	f.stand(func(s *standing) { s.ready, s.held, s.open, s.heldAt = 0, 0, 0, time.Time{} })
}

// tire ends a hold that has lasted for too long.
func (f *front) tire(d cluster.PictureDrain) {
	f.draining.mu.Lock()
	mine := f.draining.is == d
	if mine {
		f.draining.tired = d.Generation
	}
	f.draining.mu.Unlock()
	if !mine {
		return
	}
	f.log.Warn("clients were held for too long, and are let go", logkey.Member, d.From, "generation", d.Generation)
	f.letGo()
	f.change(func(v *route.View) { v.LetGo = d.Generation })
	f.release()
}

// release ends the hold of services whose leader has gone and has had no successor in time.
func (f *front) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	routes, _ := f.routes.Get()
	for i, p := range f.ports {
		if p.holds && f.draining.over() {
			p.holds = false
			p.follows(routes[i])
		}
	}
}

// over says that no drain asks to hold clients, or none any more.
func (g *draining) over() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.is.Hold || g.tired == g.is.Generation
}

// stand changes what this gateway says of itself.
func (f *front) stand(alter func(*standing)) {
	f.standMu.Lock()
	defer f.standMu.Unlock()
	now, version := f.standing.Get()
	before := now
	alter(&now)
	if version == 0 || now != before {
		f.standing.Set(now)
	}
}
