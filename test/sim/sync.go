package sim

import (
	"slices"
	"time"

	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/pg"
)

// Synchronous replication, as syncrep.c does it: each WAL sender goes by its own
// reading of the setting, and backends wait once the checkpointer has said so.

// A sender is a WAL sender of this server, of one connection.
type sender struct {
	of      *server
	link    int
	reading quorum.Names
	flushed pg.LSN // what it has heard of its standby
}

// priority is its place in the setting that it has read; 0: it does not count.
func (x *sender) priority() int {
	i := slices.IndexFunc(x.reading.List, func(name string) bool { return name == x.of.n.name || name == "*" })
	switch {
	case i < 0:
		return 0
	case !x.reading.First:
		return 1
	}
	return i + 1
}

// waiting is a commit that waits for standbys.
type waiting struct {
	end  pg.LSN
	done func()
	lost func() // its session has ended; nil: nobody asks
}

// acknowledged lets done happen when the commit that ends here is acknowledged.
func (s *server) acknowledged(done, lost func()) {
	if !s.flag {
		done()
		return
	}
	s.waiting = append(s.waiting, waiting{s.end, done, lost})
}

// forget ends the sessions that wait: whoever waited does not know what became of it.
func (s *server) forget() {
	all := s.waiting
	s.senders, s.waiting = nil, nil
	for _, c := range all {
		if c.lost != nil {
			c.lost()
		}
	}
}

// cancel ends the wait of some commits, as their clients or a person may: each is
// there for everybody to see, and was not acknowledged. Our own probe takes the end
// of the wait for an answer, with a warning that nobody reads.
func (s *server) cancel() {
	var rest []waiting
	all := s.waiting
	s.waiting = nil
	for _, c := range all {
		switch {
		case s.w.chance(0.5):
			rest = append(rest, c)
		case c.lost != nil:
			c.done()
		default:
			s.w.Stats.Cancelled++
		}
	}
	s.waiting = append(rest, s.waiting...)
}

// synchronize is a new setting. A running server takes it up bit by bit.
func (s *server) synchronize(a ha.Synchronize) {
	names, err := quorum.ParseNames(a.Names)
	if err != nil {
		panic(err)
	}
	old := s.names
	s.names, s.note = names, a.Memory
	if s.proc == pg.ProcessNone || old.Is(names) {
		return
	}
	w, life := s.w, s.life
	for _, x := range s.senders {
		s.later(w.draw(0, 50*time.Millisecond), func() { x.reading = s.names })
	}
	s.later(w.draw(0, 60*time.Millisecond), func() {
		if s.life == life {
			s.defined()
		}
	})
}

// defined is the checkpointer's word: do backends wait at all?
func (s *server) defined() {
	s.flag = !s.names.Async()
	if s.flag {
		return
	}
	all := s.waiting
	s.waiting = nil
	for _, c := range all {
		c.done()
	}
}

// sends begins a WAL sender for o, which took the slot of the one before.
func (s *server) sends(o *server) {
	s.senders = slices.DeleteFunc(s.senders, func(x *sender) bool { return x.of == o })
	s.senders = append(s.senders, &sender{of: o, link: o.link, reading: s.names, flushed: o.end})
}

// confirm carries what o has flushed to its sender. What is on its way arrives,
// whatever became of the receiver since.
func (s *server) confirm(o *server) {
	if s.names.Async() && !s.flag && len(s.waiting) == 0 && s.note == "" {
		return // as without synchronous replication
	}
	i := slices.IndexFunc(s.senders, func(x *sender) bool { return x.of == o && x.link == o.link })
	if i < 0 {
		return
	}
	x, end, life := s.senders[i], o.end, s.life
	s.w.after(s.w.draw(s.w.rates.delay/8, s.w.rates.delay/2), func() {
		if s.life != life || !s.n.up {
			return
		}
		if s.n.cutPeers || o.n.cutPeers {
			s.w.after(time.Second, func() { // wal_receiver_status_interval
				if o.stream == s && o.link == x.link {
					s.confirm(o)
				}
			})
			return
		}
		heard := func() {
			x.flushed = max(x.flushed, end)
			s.release(x)
		}
		if s.frozen {
			s.waits = append(s.waits, heard)
		} else {
			heard()
		}
	})
}

// release acknowledges what x may (SyncRepReleaseWaiters).
func (s *server) release(x *sender) {
	if x.priority() == 0 || x.reading.Async() {
		return
	}
	var counted []*sender
	for _, o := range s.senders {
		if o.priority() > 0 {
			counted = append(counted, o)
		}
	}
	num := x.reading.Num
	if len(counted) < num {
		return
	}
	var upTo pg.LSN
	if x.reading.First {
		slices.SortStableFunc(counted, func(a, b *sender) int { return a.priority() - b.priority() })
		upTo = counted[0].flushed
		for _, o := range counted[:num] {
			upTo = min(upTo, o.flushed)
		}
	} else {
		var all []pg.LSN
		for _, o := range counted {
			all = append(all, o.flushed)
		}
		slices.Sort(all)
		upTo = all[len(all)-num]
	}
	var rest []waiting
	var done []func()
	for _, c := range s.waiting {
		if c.end <= upTo {
			done = append(done, c.done)
		} else {
			rest = append(rest, c)
		}
	}
	s.waiting = rest
	for _, f := range done {
		f()
	}
}

// Move implements agent.Hands. No slot of the model has a place of its own.
func (n *node) Move(a ha.Advance) { panic("no slots are modelled: " + a.String()) }

// Prove implements agent.Hands.
func (n *node) Prove(a ha.Prove) {
	w, gen, s := n.w, n.agentGen, n.server
	n.probing++
	this := n.probing
	tell := func(p quorum.Probe) {
		p.Number = a.Number
		at := n.boot()
		w.after(w.draw(100*time.Microsecond, 2*time.Millisecond), func() {
			if n.agentGen == gen && n.probing == this {
				n.deliver(func() { n.loop.Probed(p, at) })
			}
		})
	}
	var commit func()
	commit = func() {
		if n.agentGen != gen || n.probing != this {
			return
		}
		if s.frozen || s.proc != pg.ProcessRunning || s.recovering || w.now < s.silentTill {
			tell(quorum.Probe{})
			return
		}
		if s.hung() {
			s.blocked = append(s.blocked, func() { w.after(0, commit) })
			return
		}
		p := quorum.Probe{Names: s.names.String()}
		s.write(96)
		w.wrote(n, "Prove/committed")
		p.LSN = s.end
		p.Waited = s.flag
		s.acknowledged(func() {
			p := p
			p.Done = true
			tell(p)
		}, func() { tell(quorum.Probe{}) })
		if w.mutant.Unproven {
			if p.Done = !p.Waited || !s.names.Blocks(); p.Done {
				tell(p)
			}
		}
		if p.Waited {
			tell(p)
		}
	}
	w.after(w.draw(time.Millisecond, 8*time.Millisecond), commit)
}

// refuses says that the log of that leader is taken no more.
func (s *server) refuses(up pg.Upstream) bool {
	return up.Name != "" && s.refused > 0 && up.Epoch <= s.refused
}

// fence is the order of postgres.Refuse, with time between its steps.
func (s *server) fence(a ha.Fence, in func(time.Duration, func()), end func(string)) {
	w := s.w
	step := func(do func()) { in(w.draw(time.Millisecond, 10*time.Millisecond), do) }
	f := quorum.Fence{Member: s.n.name, Whole: !s.copied}
	step(func() {
		if !w.mutant.Unrefused {
			s.refused = max(s.refused, a.Epoch)
		}
		f.Refusal, f.Durable = quorum.Refusal(max(s.refused, a.Epoch)), s.n.boot()
		step(func() {
			if s.data != pg.DataPresent || s.frozen || s.proc != pg.ProcessNone && (s.proc != pg.ProcessRunning || !s.recovering) {
				end("not a standby")
				return
			}
			s.up = pg.Upstream{}
			f.Cleared = s.n.boot()
			step(func() {
				if !w.mutant.Receiving {
					s.link++
					s.stream, s.broken = nil, 0
				}
				f.Gone = s.n.boot()
				step(func() {
					if s.data != pg.DataPresent || s.frozen || s.proc != pg.ProcessNone && (s.proc != pg.ProcessRunning || !s.recovering) {
						end("not a standby")
						return
					}
					f.Read, f.At = s.n.boot(), quorum.Position{Timeline: s.branch.tl, LSN: s.end}
					if s.fenced != nil {
						s.fenced(f)
					}
					end("")
				})
			})
		})
	})
}

// Heard implements agent.Hands.
func (n *node) Heard(member string) time.Duration {
	o := n.w.node(member)
	if o == nil {
		return 0
	}
	heard := n.w.now
	for _, x := range []*node{n, o} {
		if x.away > 0 {
			heard = min(heard, x.away)
		}
	}
	return max(n.boot()-(n.w.now-heard), 0)
}

// absent notes since when nothing of n is heard.
func (n *node) absent() {
	switch gone := !n.up || n.cutPeers; {
	case !gone:
		n.away = 0
	case n.away == 0:
		n.away = n.w.now
	}
}
