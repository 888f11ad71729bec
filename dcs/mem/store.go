package mem

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"howdah/dcs"
	"howdah/latest"
)

// scan is how often the server looks for leases that are due: as etcd does.
const scan = 500 * time.Millisecond

// A Server serves one State to the stores of a test, on the clock of package
// time; inside a synctest bubble that clock is virtual.
type Server struct {
	start time.Time

	mu     sync.Mutex
	state  *State
	expiry *time.Timer
	broken chan struct{} // closed at the next Break
	bases  map[string]*latest.Value[dcs.Snapshot]
}

// Serve starts a server with rules r.
func Serve(r Rules) *Server {
	s := &Server{
		start:  time.Now(),
		state:  New(r),
		broken: make(chan struct{}),
		bases:  map[string]*latest.Value[dcs.Snapshot]{},
	}
	s.state.OnChange = func(all dcs.Snapshot) {
		for base, v := range s.bases {
			old, _ := v.Get()
			if below := below(all, base); !same(old, below) {
				v.Set(below)
			}
		}
	}
	return s
}

// Break ends the stream of every watch; each begins again by itself.
func (s *Server) Break() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.broken)
	s.broken = make(chan struct{})
}

// RestartLeases behaves like a change of etcd's leader.
func (s *Server) RestartLeases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.RestartLeases(time.Since(s.start), 0)
	s.schedule()
}

// apply carries out a request whose keys are absolute.
func (s *Server) apply(r dcs.Request) (dcs.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp, err := s.state.Apply(time.Since(s.start), r)
	s.schedule()
	return resp, err
}

// schedule sets the timer for the next lease that is due; the caller holds mu.
func (s *Server) schedule() {
	if s.expiry != nil {
		s.expiry.Stop()
	}
	due, ok := s.state.NextDue()
	if !ok {
		return
	}
	s.expiry = time.AfterFunc(max(due-time.Since(s.start), 0).Truncate(scan)+scan, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state.Expire(time.Since(s.start))
		s.schedule()
	})
}

// view returns the newest snapshot below base and the channel that Break closes.
func (s *Server) view(base string) (*latest.Value[dcs.Snapshot], <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.bases[base]
	if v == nil {
		v = new(latest.Value[dcs.Snapshot])
		v.Set(below(s.state.Snapshot(), base))
		s.bases[base] = v
	}
	return v, s.broken
}

func below(all dcs.Snapshot, base string) dcs.Snapshot {
	keys := map[string]dcs.KV{}
	for key, kv := range all.Keys {
		if rel, ok := strings.CutPrefix(key, base); ok {
			kv.Key = rel
			keys[rel] = kv
		}
	}
	return dcs.Snapshot{Revision: all.Revision, Keys: keys}
}

func same(a, b dcs.Snapshot) bool {
	if len(a.Keys) != len(b.Keys) {
		return false
	}
	for key, kv := range a.Keys {
		if b.Keys[key].Mod != kv.Mod {
			return false
		}
	}
	return true
}

// A Fault is what happens to one request.
type Fault struct {
	Refuse bool          // it is never sent: ErrUnavailable
	Delay  time.Duration // it takes this long to arrive
	Lose   bool          // it is carried out, and the answer is lost
}

// A Store is one client of a Server.
type Store struct {
	server *Server
	base   string

	mu    sync.Mutex
	fault func(dcs.Request) Fault
}

var _ dcs.Store = (*Store)(nil)

// Open returns a client for the keys below base.
func (s *Server) Open(base string) *Store { return &Store{server: s, base: base} }

// Faults asks f, from now on, what is to happen to each request; nil is no fault.
func (c *Store) Faults(f func(dcs.Request) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

var errLost = errors.New("the answer was lost")

// Do implements dcs.Store.
func (c *Store) Do(ctx context.Context, r dcs.Request) (dcs.Response, error) {
	c.mu.Lock()
	decide := c.fault
	c.mu.Unlock()
	var f Fault
	if decide != nil {
		f = decide(r)
	}
	if f.Refuse {
		return dcs.Response{}, fmt.Errorf("refused: %w", dcs.ErrUnavailable)
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return dcs.Response{}, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return dcs.Response{}, err
	}
	resp, err := c.server.apply(c.absolute(r))
	if f.Lose {
		return dcs.Response{}, errLost
	}
	if r.Kind == dcs.Read && err == nil {
		resp.Snapshot = below(resp.Snapshot, c.base)
	}
	return resp, err
}

// absolute returns r with whole keys.
func (c *Store) absolute(r dcs.Request) dcs.Request {
	conds := make([]dcs.Cond, len(r.If))
	for i, cond := range r.If {
		cond.Key = c.base + cond.Key
		conds[i] = cond
	}
	ops := make([]dcs.Op, len(r.Ops))
	for i, op := range r.Ops {
		op.Key = c.base + op.Key
		ops[i] = op
	}
	r.If, r.Ops = conds, ops
	return r
}

var errBroken = errors.New("the stream broke")

// Watch implements dcs.Store.
func (c *Store) Watch(ctx context.Context, into *latest.Value[dcs.Snapshot], lost func(error)) error {
	view, broken := c.server.view(c.base)
	var seen uint64
	for {
		if snap, version := view.Get(); version > seen {
			into.Set(snap)
			seen = version
		}
		select {
		case <-view.Changed(seen):
		case <-broken:
			lost(errBroken)
			view, broken = c.server.view(c.base)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close implements dcs.Store.
func (c *Store) Close() error { return nil }
