package sim

import (
	"errors"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/mem"
	"howdah/ha"
	"howdah/ha/agent"
)

// scan is how often etcd's leader looks for leases that are due.
const scan = 500 * time.Millisecond

// store is etcd as the agents meet it: mem.State behind a network that delays
// and loses. Its own members are not modelled, only what can be seen of their
// elections: requests that hang and leases that start again.
type store struct {
	w        *World
	state    *mem.State
	newest   *picture
	reader   cluster.Reader
	outage   bool
	held     []func() // requests that wait for a leader
	expiry   time.Duration
	expiring bool // keys that go now go with the end of their lease
}

// A picture is one revision, parsed once for all who see it.
type picture struct {
	dcs.Snapshot
	leader dcs.KV // the leader key; without a Mod there is none
	holder *node  // whose name it carries
	reader *cluster.Reader
	state  cluster.State
	parsed bool
}

func (p *picture) read() *cluster.State {
	if !p.parsed {
		p.parsed, p.state = true, p.reader.Parse(p.Revision, p.Keys)
	}
	return &p.state
}

func newStore(w *World) *store {
	s := &store{w: w, state: mem.New(mem.Etcd())}
	s.newest = &picture{Snapshot: s.state.Snapshot(), reader: &s.reader}
	s.state.OnChange = func(snap dcs.Snapshot) {
		before := s.newest
		s.newest = &picture{Snapshot: snap, reader: &s.reader}
		if kv, ok := snap.Keys[cluster.KeyLeader]; ok {
			s.newest.leader = kv
			if kv.Lease != 0 { // no agent puts it without
				s.newest.holder = w.node(string(kv.Value))
			}
		}
		w.changed(before, s.newest)
		w.gateways.see(s.newest)
		for _, n := range w.nodes {
			n.notify()
		}
	}
	return s
}

var errTimeout = errors.New("no answer in time")

// apply carries a request out now.
func (s *store) apply(r dcs.Request) (dcs.Response, error) {
	if r.Kind == dcs.Keep && s.w.chance(s.w.rates.lose) {
		return s.state.Stale(r)
	}
	s.expiring = r.Kind == dcs.Renew || r.Kind == dcs.Keep // of a lease that is overdue: then it ends
	resp, err := s.state.Apply(s.w.now, r)
	s.expiring = false
	s.schedule()
	return resp, err
}

// schedule expects the next end of a lease.
func (s *store) schedule() {
	due, ok := s.state.NextDue()
	if !ok || s.outage || s.expiry > s.w.now && s.expiry <= due+scan {
		return
	}
	at := max(due, s.w.now) + s.w.draw(0, scan)
	s.expiry = at
	s.w.at(at, func() {
		if s.expiry == at {
			s.expiry = 0
		}
		if !s.outage {
			s.expiring = true
			s.state.Expire(s.w.now)
			s.expiring = false
			s.schedule()
		}
	})
}

// lead is what a new leader of etcd does.
func (s *store) lead() {
	s.state.RestartLeases(s.w.now, s.w.draw(0, 500*time.Millisecond))
	s.w.say("etcd: new leader, leases start again")
	s.schedule()
}

func (s *store) setOutage(on bool) {
	if s.outage == on {
		return
	}
	s.outage = on
	if on {
		s.w.say("etcd: no majority")
		return
	}
	s.lead()
	held := s.held
	s.held = nil
	for _, f := range held {
		s.w.after(s.w.draw(0, 2*time.Second), f) // long after its client gave up
	}
	for _, n := range s.w.nodes {
		n.notify()
	}
}

// ask sends a request of n and brings the answer, or the end of its patience, back.
func (s *store) ask(n *node, lane ha.Lane, a ha.Action, r dcs.Request) {
	w, sent, gen := s.w, n.boot(), n.agentGen
	answered := false
	answer := func(resp dcs.Response, err error) {
		if answered || n.agentGen != gen {
			return
		}
		answered = true
		out := agent.Answer(a, resp, err)
		out.Sent = sent
		if out.Unknown {
			n.unknown = true
			w.say("%s: %s: unknown", n.name, a)
		} else {
			n.unknown = false
		}
		n.deliver(func() {
			if _, renewed := a.(ha.Renew); renewed && w.mutant.FromAnswer {
				out.Sent = n.boot()
			}
			n.loop.Answered(lane, out)
		})
	}
	w.after(w.Timers.Retry, func() { answer(dcs.Response{}, errTimeout) })
	travel := func() time.Duration {
		if w.chance(w.rates.slow) {
			return w.draw(0, 8*time.Second)
		}
		return w.draw(w.rates.delay/4, w.rates.delay)
	}
	if n.cutStore || w.chance(w.rates.lose) {
		return
	}
	arrive := func() {
		resp, err := s.apply(r)
		if w.fatal != nil && n.agentGen == gen {
			w.wrote(n, asks(n, a, r)+"/applied")
		}
		if w.chance(w.rates.lose) {
			return
		}
		w.after(travel(), func() {
			if !n.cutStore {
				answer(resp, err)
			}
		})
	}
	w.after(travel()+w.mutant.held(n, r), func() {
		switch {
		case n.cutStore, !n.up && w.chance(0.5):
		case s.outage && w.chance(0.5):
			s.held = append(s.held, arrive)
		case s.outage:
		default:
			arrive()
		}
	})
}

// notify lets n's watch bring the newest picture, in order.
func (n *node) notify() {
	w := n.w
	if n.loop == nil || n.cutStore || w.store.outage {
		return
	}
	p, gen := w.store.newest, n.agentGen
	w.mutant.watched(n, p)
	at := max(n.watchAt, w.now+w.draw(w.rates.delay/4, w.rates.delay))
	if w.chance(w.rates.breaks) {
		at += w.draw(0, 2*time.Second) // the stream broke and begins again
	}
	n.watchAt = at
	w.at(at, func() {
		if n.agentGen != gen || n.cutStore || w.store.outage || n.seen != nil && p.Revision <= n.seen.Revision {
			return
		}
		n.deliver(func() { n.seen = p })
	})
}

// put is what a person does to the store.
func (s *store) put(key, value string) {
	s.w.say("person: put %s %s", key, value)
	s.w.Stats.Asked++
	if !s.outage {
		_, _ = s.apply(dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(key, value, 0)}})
	}
}
