package pooler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"howdah/access/pool"
)

// A Course is where the connections of a door may lead from now on.
type Course struct {
	// Keep says what becomes of the connection with that tag; nil: all stay.
	Keep func(tag any) Verdict
	// Gate is what the answers of a connection that retires must pass from now on;
	// nil, or if it returns that: the same as before.
	Gate func(tag any) func() bool
	// Hold gives no server to anybody. Those who have one go on until they give it
	// back, and whoever wants one waits.
	Hold bool
	// Places are where sessions may be that have one (Door.Place); none: they stay where
	// they are.
	Places []string
}

// A Verdict is what becomes of a connection.
type Verdict uint8

// Verdicts.
const (
	Stay   Verdict = iota
	Retire         // it ends when its client gives it back
	End            // at once
)

// errDeposed ends a login to a server that is none any more.
var errDeposed = errors.New("it is no longer one of the service")

// Follow sets the course. Clients between transactions do not notice. Those that
// were waiting for a server get the next one at once; logins under way to a server
// that is none any more begin anew, for it may be a machine that will never answer.
func (d *Door) Follow(c Course) {
	d.pooler.tell(func(h *hall) { h.rooms[d.index].follow(c) })
}

func (d *room) follow(c Course) {
	moves := !slices.Equal(c.Places, d.course.Places)
	d.course = c
	now := d.loop.now
	for _, e := range d.entering {
		e.steer(c)
	}
	d.steer(c)
	for _, s := range d.servers {
		if s == nil || s.hup || c.Keep == nil {
			continue
		}
		v := c.Keep(s.backend.Tag)
		if x := s.client; v == Retire && x != nil && x.mode == pool.Session {
			v = End // it would never give it back
		}
		switch {
		case v == Stay:
		case v == Retire:
			if c.Gate != nil {
				if gate := c.Gate(s.backend.Tag); gate != nil {
					s.backend.Gate = gate
				}
			}
			d.book.Retire(s.id, now)
		case s.client == nil:
			s.end(errDeposed.Error())
		default:
			s.cut(errDeposed.Error())
		}
	}
	for _, x := range d.clients {
		switch {
		case !moves || x == nil || !d.adrift(x.key.Place):
		case x.server != nil:
			x.adrift = true
		default:
			d.move(x)
		}
	}
	d.book.Hold(c.Hold, now)
	d.book.Hurry(now)
}

// An entry is a login under way.
type entry struct {
	stop  context.CancelFunc
	aimed bool
	tag   any // of the server that it leads to
}

// steer ends a login to a server that is none of the course. One that has not chosen yet will
// choose by what is true then.
func (e *entry) steer(c Course) {
	if e.aimed && c.Keep != nil && c.Keep(e.tag) != Stay {
		e.stop()
	}
}

// aiming is the key of what a Dial is to be told of, in its context.
type aiming struct{}

// Aim says, of a Dial or DialAt that has this context, which server it is about to connect to:
// when that is none any more the context ends. tag is what Backend.Tag will be.
func Aim(ctx context.Context, tag any) {
	if aim, ok := ctx.Value(aiming{}).(func(any)); ok {
		aim(tag)
	}
}

// A watch tells how many transactions are going on.
type watch struct {
	which func(tag any) bool
	tell  func(open int)
	last  int
}

// Watch tells how many of the connections that which names are in use, at once and
// whenever that has changed, on a loop's thread, until it is called again (nil:
// no more). A client that keeps its server between transactions does not count
// there.
func (d *Door) Watch(which func(tag any) bool, tell func(open int)) {
	var mu sync.Mutex
	open, sum, unknown := make([]int, len(d.rooms)), 0, len(d.rooms)
	d.pooler.tell(func(h *hall) {
		d := h.rooms[d.index]
		d.watch = nil
		if which == nil {
			return
		}
		d.watch = &watch{which: which, last: -1, tell: func(n int) {
			mu.Lock()
			defer mu.Unlock()
			if d.watch.last < 0 {
				unknown--
			}
			sum += n - open[h.index]
			open[h.index] = n
			if unknown == 0 {
				tell(sum)
			}
		}}
	})
}

// look tells the watch.
func (d *room) look() {
	w, open := d.watch, 0
	for _, s := range d.servers {
		if s != nil && s.client != nil && w.which(s.backend.Tag) && (s.client.mode != pool.Session || !s.clean()) {
			open++
		}
	}
	if open != w.last {
		w.tell(open)
		w.last = open
	}
}

// Connections that were made ahead of time are kept for as long as a change of
// the primary may take, and log in as many at a time as a pool's do.
const (
	warmFor    = 30 * time.Second
	warmLogins = 4
)

// Warm makes as many connections as the pools have to the server that dial reaches,
// ahead of the time when the door leads there: whoever wants a server then has one at
// once. Until then nobody gets them. Backend.Rise says that the time has come. done is
// called when each of them is there, or is known not to be.
func (d *Door) Warm(dial func(context.Context) (Backend, error), done func()) {
	var logins sync.WaitGroup
	free := make(chan struct{}, warmLogins)
	logins.Add(len(d.rooms))
	missed := d.pooler.tell(func(h *hall) {
		h.rooms[d.index].heats(dial, &logins, free)
		logins.Done()
	})
	logins.Add(-missed) // the pooler ends
	go func() {
		logins.Wait()
		done()
	}()
}

// heats makes as many connections ahead of time as this room's pools have.
func (d *room) heats(dial func(context.Context) (Backend, error), logins *sync.WaitGroup, free chan struct{}) {
	d.cool()
	d.warmth++
	d.warmed = d.loop.now
	warmth, limit := d.warmth, d.Settings.ServerConnectTimeout
	for _, r := range d.book.Rows(d.warmed) {
		n := 0
		for state, all := range r.Servers {
			if pool.State(state) != pool.Login {
				n += all
			}
		}
		for range n {
			s := &server{room: d, key: r.Key, id: pool.None, status: 'I'}
			credential := d.credential(r.Key.User)
			logins.Go(func() {
				free <- struct{}{}
				defer func() { <-free }()
				ctx, stop := within(context.Background(), limit)
				defer stop()
				w, fd, err := s.enter(ctx, dial, credential)
				if err != nil {
					d.log.Debug("no connection ahead of time", "server", s.String(), "error", err)
					s.release()
					return
				}
				s.greeting = w
				if !d.loop.post(func() { d.heat(s, fd, warmth) }) {
					closeFD(fd)
					s.release()
				}
			})
		}
	}
}

// heat takes in a connection that was made ahead of time; on the loop.
func (d *room) heat(s *server, fd, warmth int) {
	if warmth != d.warmth || s.attach(fd) != nil {
		closeFD(fd)
		s.release()
		return
	}
	d.warm = append(d.warm, s)
}

// Cool ends the connections that were made ahead of time.
func (d *Door) Cool() { d.pooler.tell(func(h *hall) { h.rooms[d.index].cool() }) }

func (d *room) cool() {
	d.warmth++ // also those that are still on their way
	if unused := len(d.warm); unused+d.claimed > 0 {
		d.log.Info("connections were made ahead of time", "used", d.claimed, "unused", unused)
		d.claimed = 0
	}
	for _, s := range slices.Clone(d.warm) {
		s.end("not needed")
	}
}

// claim is a connection for key that was made ahead of time, and whose time has come.
func (d *room) claim(key pool.Key) *server {
	for {
		i := slices.IndexFunc(d.warm, func(s *server) bool { return s.key == key })
		if i < 0 {
			return nil
		}
		s := d.warm[i]
		gate, tag, done, ok := s.backend.Rise()
		switch {
		case !ok:
			return nil // not there, or not yet
		case s.spoke():
			done()
			s.end("idle server got dirty")
			continue
		}
		d.warm = slices.Delete(d.warm, i, i+1)
		d.claimed++
		s.release()
		s.backend.Gate, s.backend.Tag, s.backend.Done = gate, tag, done
		return s
	}
}

// seat makes s, which was made ahead of time, the server that the book has opened.
func (d *room) seat(s *server, id pool.Server) {
	s.id = id
	w := s.greeting
	s.greeting = nil
	if d.welcomes[s.key] == nil {
		for i, p := range w.status {
			if p.name == "in_hot_standby" { // it was, when it said so
				w.status[i].value = "off"
			}
		}
		d.welcomes[s.key] = w
	}
	d.servers = at(d.servers, int(id))
	d.servers[id], s.joined = s, s.loop.now
	d.book.Ready(id, s.loop.now)
}
