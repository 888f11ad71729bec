package sim

import (
	"fmt"
	"math"
	"slices"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/ha/agent"
	"howdah/ha/quorum"
	"howdah/pg"
)

// A node is one machine: an agent, a supervisor that restarts it and guards by
// the lease page, and a server. It is the agent's Hands.
type node struct {
	w    *World
	name string
	up   bool
	host string
	tags cluster.Tags

	booted time.Duration // true time of the last boot
	drift  int64         // of its boot clock, in parts per million
	server *server
	made   *branch // data that a restore has made beside the server's

	loop     *agent.Loop // nil: the agent is dead
	agentGen int
	stopped  bool // the agent ended because it was asked to
	wanted   bool // nobody asks it to end, any more
	stall    time.Duration
	pending  []func() // what reached a stalled agent
	timer    int
	last     ha.Decision
	turning  bool // a turn is under way that may be cut short

	seen    *picture
	watchAt time.Duration
	unknown bool

	leaderWas *cluster.Leader // for the mutant that loses events
	lost      *lostEvent
	opened    bool   // for the mutant that founds twice
	early     string // for the one whose setting comes first: what its agent wrote

	status    pg.Status
	statusAt  time.Duration
	looking   bool
	lookAgain bool
	giveUp    func()
	probing   int // counts the probes begun

	page  ha.Page  // what stands in tmpfs
	given ha.Grant // and beside it
	proof ha.Page  // the longest right that ever stood there for its epoch
	guard int
	froze bool    // the guard froze the server, while right was its right
	right ha.Page // the last page that let the server answer as primary

	dog   dog
	pulse ha.Pulse // what its guard knows of the agent

	cutStore bool          // its requests and its watch go nowhere
	cutPeers bool          // no replication to or from it
	away     time.Duration // since when it is off, or out of reach of the others; 0: it is not
	slow     time.Duration // how many times slower its work is
	lag      time.Duration // that replication to it may take besides

	wellSince time.Duration // nothing was wrong with it since
}

func newNode(w *World, i int) *node {
	n := &node{w: w, name: string(rune('a' + i)), host: fmt.Sprintf("10.0.0.%d", i+1), slow: 1}
	n.drift = int64(w.rng.IntN(401)) - 200
	n.server = &server{w: w, n: n, data: pg.DataMissing, proc: pg.ProcessNone}
	return n
}

// slowed is how long work of length d takes here.
func (n *node) slowed(d time.Duration) time.Duration { return min(d*n.slow, d+20*time.Second) }

// reach says that the network carries replication between two machines.
func (w *World) reach(a, b *node) bool { return a.up && b.up && !a.cutPeers && !b.cutPeers }

// boot is CLOCK_BOOTTIME there, which begins at each boot and runs a little off.
func (n *node) boot() time.Duration {
	d := n.w.now - n.booted
	return time.Second + d + d/1000000*time.Duration(n.drift)
}

// when is the true instant at which boot() will have reached b.
func (n *node) when(b time.Duration) time.Duration {
	d := b - time.Second
	at := n.booted + d - d/1000000*time.Duration(n.drift)
	for i := 0; i < 3; i++ { // the drift of the drift
		dd := at - n.booted
		at += d - (dd + dd/1000000*time.Duration(n.drift))
	}
	return at
}

// Life and death.

func (n *node) powerOn() {
	if n.up {
		return
	}
	n.w.say("%s: machine on", n.name)
	n.up, n.booted = true, n.w.now
	n.given = n.given.Rebooted()
	n.absent()
	n.page, n.right, n.froze = ha.Page{}, ha.Page{}, false
	n.stopped, n.wanted = false, true
	n.wellSince = n.w.now
	n.vigil()
	n.w.after(n.w.draw(100*time.Millisecond, 5*time.Second), n.startAgent)
}

func (n *node) powerOff() {
	if !n.up {
		return
	}
	n.w.say("%s: machine off (%s)", n.name, n.server)
	n.up = false
	n.absent()
	n.killAgent()
	s := n.server
	s.restartpoint(0.3)
	s.frozen, s.waits = false, nil
	s.begin(pg.ProcessNone)
	s.recovering = false
	n.page, n.right, n.froze = ha.Page{}, ha.Page{}, false
	n.guard++
	n.dog = dog{broken: n.dog.broken}
	n.proof = ha.Page{}
	n.wellSince = 1 << 62
}

func (n *node) killAgent() {
	if n.loop == nil {
		return
	}
	n.w.say("%s: agent dead", n.name)
	if n.w.mutant.Undurable {
		n.server.refused = 0
	}
	n.agentGen++
	n.loop, n.seen, n.pending, n.stall = nil, nil, nil, 0
	n.leaderWas, n.lost = nil, nil
	n.watchAt = 0
	if n.giveUp != nil {
		n.giveUp()
		n.giveUp = nil
	}
}

// crashAgent kills the agent; the supervisor starts another within 200 ms.
func (n *node) crashAgent() {
	if n.loop == nil {
		return
	}
	writes := n.giveUp != nil
	n.killAgent()
	n.w.after(n.w.draw(20*time.Millisecond, 200*time.Millisecond), func() {
		if writes { // it does not end before what it writes has
			n.server.onDisk(n.startAgent)
		} else {
			n.startAgent()
		}
	})
}

func (n *node) startAgent() {
	if !n.up || n.loop != nil || n.stopped {
		return
	}
	n.agentGen++
	t := n.w.Timers
	if n.w.mutant.NoMargin {
		t.Margin = 0
	}
	n.loop = &agent.Loop{
		Self: ha.Self{
			Name: n.name, Host: n.host, Port: 5432, Version: cluster.PatroniVersion,
			ConnURL: "postgres://" + n.host + ":5432/postgres", APIURL: "http://" + n.host + ":8008/patroni",
			Config: n.w.begins(), Copies: n.w.copies(), Tags: n.tags,
		},
		Timers: t, Hands: n, Log: silent, Grant: n.given,
	}
	if n.w.watched {
		n.loop.Watchdog = n.watchdog
	}
	n.loop.Resume(n.server.note)
	n.loop.Inherit(n.page)
	if n.page.Deadline == math.MaxInt64 {
		n.proof = ha.Page{} // what the predecessor had proved went with it: a page of maintenance proves nothing
	}
	n.status, n.statusAt, n.looking, n.lookAgain, n.unknown = pg.Status{}, 0, false, false, false
	n.w.say("%s: agent starts (page %+v)", n.name, n.page)
	n.notify()
	n.turn()
	n.reread()
}

// reread is the agent's own reading of the store when the watch was long silent.
func (n *node) reread() {
	gen, before := n.agentGen, n.seen
	n.w.after(10*time.Second, func() {
		if n.agentGen != gen {
			return
		}
		if n.seen == before {
			n.notify()
		}
		n.reread()
	})
}

// stopAgent asks the agent to end; start begins it again.
func (n *node) stopAgent() {
	if n.loop != nil {
		n.w.say("%s: agent asked to stop", n.name)
		n.w.Stats.Asked++
		n.wanted = false
		n.loop.Stop()
		n.deliver(func() {})
	}
}

func (n *node) start() {
	n.stopped, n.wanted = false, true
	n.startAgent()
}

// Facts and turns.

// deliver brings the agent a fact, and lets it take its turn.
func (n *node) deliver(fact func()) {
	if n.loop == nil {
		return
	}
	if n.stall > n.w.now {
		n.pending = append(n.pending, fact)
		return
	}
	fact()
	n.turn()
}

// stallFor lets the agent do nothing for d.
func (n *node) stallFor(d time.Duration) {
	if n.loop == nil {
		return
	}
	gen := n.agentGen
	n.stall = max(n.stall, n.w.now+d)
	n.w.at(n.stall, func() {
		if n.agentGen == gen && n.stall <= n.w.now {
			n.wake()
		}
	})
}

// wake ends a stall: what has come meanwhile is there all at once.
func (n *node) wake() {
	n.stall = 0
	facts := n.pending
	n.pending = nil
	for _, f := range facts {
		f()
	}
	n.turn()
}

func (n *node) turn() {
	if n.loop == nil || n.stall > n.w.now {
		return
	}
	w := n.w
	w.Stats.Turns++
	said, trail := "", n.last.Trail
	if w.verbose {
		said = n.last.String()
	}
	if n.takes() {
		n.crashAgent()
		return
	}
	d := &n.last
	if w.verbose && d.String() != said {
		w.say("%s: %s", n.name, d)
	}
	if w.heard != nil && (len(d.Actions) > 0 || !slices.Equal(d.Trail, trail)) {
		w.heard(d)
	}
	w.decided(n, d)
	if n.loop.Done() {
		w.say("%s: agent done", n.name)
		n.killAgent()
		n.stopped = !n.wanted
		n.w.after(n.w.draw(20*time.Millisecond, 200*time.Millisecond), n.startAgent)
		return
	}
	n.rest()
}

// rest looks at the server if it is time for that, and else lets time pass until
// the next turn or the next look. To look takes no turn: what was decided knew of it.
func (n *node) rest() {
	w := n.w
	if !n.looking && n.last.Look <= n.boot() {
		n.look()
	}
	wake := n.last.Wake
	if !n.looking {
		wake = min(wake, n.last.Look)
	}
	n.timer++
	timer, gen := n.timer, n.agentGen
	w.at(max(n.when(wake), w.now+time.Millisecond), func() {
		switch {
		case n.timer != timer || n.agentGen != gen || n.loop == nil || n.stall > w.now:
		case n.boot() < n.last.Wake:
			n.rest()
		default:
			n.turn()
		}
	})
}

// look begins a look at the server.
func (n *node) look() {
	if n.looking {
		n.lookAgain = true
		return
	}
	n.w.Stats.Looks++
	n.looking = true
	at, gen := n.boot(), n.agentGen
	early := n.server.look()
	d := n.w.draw(500*time.Microsecond, 4*time.Millisecond) * n.slow
	if n.server.proc == pg.ProcessRunning && !n.server.frozen && n.w.now < n.server.silentTill {
		d = min(time.Second, n.server.silentTill-n.w.now)
	}
	var seen func()
	n.w.after(d, func() { seen() })
	seen = func() {
		if n.agentGen != gen {
			return
		}
		if n.server.hung() && n.server.blind {
			n.server.onDisk(seen)
			return
		}
		st := early
		if n.w.chance(0.5) {
			st = n.server.look()
		}
		n.looking = false
		n.deliver(func() { n.saw(st, at) })
		if n.lookAgain && n.loop != nil {
			n.lookAgain = false
			n.look()
		}
	}
}

func (n *node) saw(st pg.Status, at time.Duration) {
	if at >= n.statusAt {
		n.status, n.statusAt = n.w.mutant.status(n, st), at
	}
}

// died tells the agent that the postmaster is gone, as its pidfd does.
func (n *node) died() {
	gen := n.agentGen
	n.w.after(n.w.draw(200*time.Microsecond, 3*time.Millisecond), func() {
		if n.agentGen == gen && n.loop != nil {
			n.look()
		}
	})
}

// Hands.

// Boot implements agent.Hands.
func (n *node) Boot() time.Duration { return n.boot() }

// Wall implements agent.Hands.
func (n *node) Wall() time.Time { return n.w.wall() }

// Store implements agent.Hands.
func (n *node) Store() (cluster.State, bool) {
	if n.seen == nil {
		return cluster.State{}, false
	}
	return n.w.mutant.state(n, n.seen.read()), true
}

// Server implements agent.Hands.
func (n *node) Server() (pg.Status, time.Duration) { return n.status, n.statusAt }

// Page implements agent.Hands.
func (n *node) Page(p ha.Page) error {
	if p.Primary && p.Deadline < math.MaxInt64 && (p.Epoch != n.proof.Epoch || p.Deadline > n.proof.Deadline) {
		n.proof = p
	}
	if p != n.page {
		n.page = p
		n.judge()
		n.w.wrote(n, "Page")
	}
	return nil
}

// Ask implements agent.Hands.
func (n *node) Ask(lane ha.Lane, a ha.Action, r dcs.Request) {
	if n.w.verbose {
		n.w.say("%s: asks %s", n.name, a)
	}
	n.w.store.ask(n, lane, a, n.w.mutant.request(n, a, r))
	if renew, ok := a.(ha.Renew); ok && renew.Epoch > 0 {
		n.w.renews(n)
	}
	if n.w.fatal != nil {
		n.w.wrote(n, asks(n, a, r)+"/sent")
	}
}

// Work implements agent.Hands.
func (n *node) Work(a ha.Action) {
	w, gen := n.w, n.agentGen
	w.say("%s: begins %s", n.name, a)
	w.surprised(n)
	done := false
	var fence quorum.Fence
	finish := func(lsn pg.LSN, path, err string) {
		if done || n.agentGen != gen {
			return
		}
		done = true
		n.giveUp = nil
		e := ha.Ended{Action: a, At: n.boot(), LSN: lsn, Path: path, Err: err, Fence: fence, Other: n.server.met}
		w.say("%s: ended %s %s", n.name, a, err)
		w.wrote(n, typeOf(a)+"/ended")
		w.after(w.draw(500*time.Microsecond, 3*time.Millisecond), func() {
			if n.agentGen != gen {
				return
			}
			st, at := n.server.look(), n.boot()
			w.after(w.draw(100*time.Microsecond, time.Millisecond), func() {
				if n.agentGen == gen {
					n.deliver(func() { n.loop.Worked(e); n.saw(st, at) })
				}
			})
		})
	}
	n.server.fenced = func(f quorum.Fence) { fence = f }
	n.giveUp = n.server.work(a, func(done, total int64) {
		if n.agentGen == gen {
			n.deliver(func() { n.loop.Progress(done, total) })
		}
	}, finish)
	w.wrote(n, typeOf(a)+"/begun")
	w.after(agent.Allowed(a), func() {
		if !done && n.agentGen == gen && n.giveUp != nil {
			n.giveUp()
		}
	})
}

// GiveUp implements agent.Hands.
func (n *node) GiveUp() {
	if n.giveUp != nil {
		n.giveUp()
	}
}

// AtOnce implements agent.Hands.
func (n *node) AtOnce(a ha.Action) error {
	switch a.(type) {
	case ha.Freeze:
		if n.w.mutant.Awaits && n.server.hung() {
			break
		}
		n.server.freeze()
		n.saw(n.server.look(), n.boot())
	case ha.Thaw:
		n.server.thaw()
		n.look()
	}
	n.w.wrote(n, typeOf(a)+"/done")
	return nil
}

// The guard.

// judge is the guard's look at the page, after every change of it and at its
// deadline: the story of node/fence.go in the model's terms.
func (n *node) judge() {
	n.guard++
	guard := n.guard
	n.w.after(n.w.draw(0, n.w.rates.guard), func() {
		if n.guard == guard && n.up {
			n.guarded()
		}
	})
}

func (n *node) guarded() {
	if n.dog.hung > n.w.now {
		n.judgeIn(n.dog.hung - n.w.now)
		return
	}
	if n.w.mutant.Awaits && n.server.hung() {
		n.server.onDisk(n.judge)
		return
	}
	n.vigil()
	now := n.boot()
	p, s := n.page, n.server
	open := p.Primary && now < p.Deadline
	if n.froze {
		switch {
		case !s.frozen:
			n.froze = false
		case open && p.Epoch == n.right.Epoch:
			n.froze, n.right = false, p
			n.w.say("%s: guard: right renewed", n.name)
			s.thaw()
		case !p.Primary || open:
			n.froze = false // the agent decides
		}
	}
	if p.Primary {
		n.right = p
	} else if !n.froze {
		n.right = ha.Page{}
	}
	if !n.right.Primary {
		return
	}
	if now < n.right.Deadline {
		if n.right.Deadline < 1<<61 {
			n.guard++
			guard := n.guard
			n.w.at(n.when(n.right.Deadline)+n.w.draw(0, n.w.rates.guard), func() {
				if n.guard == guard && n.up {
					n.guarded()
				}
			})
		}
		return
	}
	if !s.frozen && s.proc != pg.ProcessNone && (!s.signal || p.Primary) {
		n.w.say("%s: guard: right over", n.name)
		n.froze = true
		s.freeze()
		if n.w.mutant.LetsGo {
			n.w.after(n.w.draw(500*time.Millisecond, 5*time.Second), s.thaw)
		}
		if n.w.watched {
			n.w.after(10*time.Millisecond, n.vigil) // the guard's next look, which sees it frozen
		}
	}
	if s.proc != pg.ProcessNone && !n.froze || s.proc == pg.ProcessStarting {
		n.judgeIn(10 * time.Millisecond)
	}
}

func (n *node) judgeIn(d time.Duration) {
	n.guard++
	guard := n.guard
	n.w.after(d, func() {
		if n.guard == guard && n.up {
			n.guarded()
		}
	})
}
