// Package sim runs a whole cluster in one goroutine from one seed: the real
// ha.Decide through the real turn of the agent, with models of the store, of
// PostgreSQL, of the network and of the people and faults that act on them.
//
// Time is virtual: a heap of events ordered by instant and number. Nothing
// else has an order of its own (no goroutine, no iteration over a map, no
// clock), so a seed always gives the same run, and a failing one can be
// replayed with its log. After every event the laws of the design are checked
// against the true state of the models, which no agent ever sees (laws.go).
package sim

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"time"

	"howdah/ha"
	"howdah/spec"
)

// A World is one simulated cluster.
type World struct {
	Seed   uint64
	Timers spec.Timers
	Stats  Stats
	Log    []string // what happened, if Verbose
	Failed *Failure // the first law that was broken

	verbose bool
	rng     *rand.Rand
	now     time.Duration
	events  events
	seq     uint64

	rates  rates
	nodes  []*node
	store  *store
	client *client
	mutant *Mutant
	laws   laws
	heard  func(*ha.Decision)
	met    func(fault string, s state)
	ambush ambush
	fatal  fatal

	gateways *gateways
	scrawl   scrawl // what somebody wrote over a key

	far      *node // the primary of another cluster, which this one follows; nil: it follows none
	shadowed bool  // another cluster follows this one
	follows  bool  // until it is promoted

	wiping   bool // the store is losing everything at this moment
	mended   bool // nothing is broken since, and nothing is to be until the next chaos
	hanging  bool // disks hang
	aways    bool // the store is away for longer than leases last
	alone    bool // a leader that loses the store asks nobody for his word
	straying bool // somebody who is no agent writes the leader key at this moment
	watched  bool // every machine has a watchdog
	promises bool // it is to live so
	quorum   bool // it lives in synchronous mode: what is acknowledged is never lost
	priority bool // it is to begin so by priority (synchronous_mode: on), and people change their minds about it

	branches int // log branches made so far
	systems  int // database systems made so far
	pids     int
}

// Stats are counts of one run.
type Stats struct {
	Turns, Events, Looks   int
	Faults, Promotions     int
	Acknowledged, Lost     int
	Seen                   int // rows that a start brought up unacknowledged, and a client found
	Cancelled              int // rows whose wait for standbys was cancelled
	Rewinds, Clones, Aside int
	Swaps                  int // clusters that began to follow another
	Restored               int // of the copies, those that began with a backup
	Needless               int // rewinds or copies of a server that had not diverged
	Collisions             int // two branches of one timeline number (known, W20)
	Simulated              time.Duration
	Loaded                 time.Duration // with clients that write
	LongestWithout         time.Duration // a primary, once there was one
	Frozen, Thawed         int
	Restores               int // that the leader was asked for
	Away, Given            int // times the store was away for long; and words of members that they will not take over
	Strays, Righted        int // leader keys that no agent wrote; and that were a member's again before they were removed
	Hung, Resets           int // guards that hung together with their agent; and machines that their watchdog reset
	Ended                  int // agents that their guard ended because they hung
	Asked                  int // agents asked to stop, and what a person put
	ShutOut                int // servers that were ended for letting nobody in
	Wiped, Decided         int // stores that lost everything; and what was next after them a person had to say
}

func (s *Stats) add(o Stats) {
	longest := max(s.LongestWithout, o.LongestWithout)
	v, w := reflect.ValueOf(s).Elem(), reflect.ValueOf(o)
	for i := range v.NumField() {
		v.Field(i).SetInt(v.Field(i).Int() + w.Field(i).Int())
	}
	s.LongestWithout = longest
}

// A Failure is a law that did not hold.
type Failure struct {
	Law  string
	At   time.Duration
	What string
}

func (f *Failure) Error() string { return fmt.Sprintf("%s at %s: %s", f.Law, f.At, f.What) }

// Options say what to run.
type Options struct {
	Seed    uint64
	Nodes   int // 0: drawn
	Timers  *spec.Timers
	Calm    bool // no faults but those asked for
	Dense   bool // short quiet times, whatever is drawn
	Verbose bool
	Mutant  *Mutant
	Restore bool                        // people bring the cluster back to a moment
	Wipe    bool                        // the store loses everything, again and again
	Away    bool                        // the store is away for longer than leases last, again and again
	Stray   bool                        // somebody who is no agent writes the leader key
	Watch   bool                        // every machine has a watchdog, and guards hang
	Hang    bool                        // disks hang
	Quorum  bool                        // commits wait for standbys
	On      bool                        // … and that by priority, until somebody says otherwise
	Follow  bool                        // it begins as a standby cluster
	Swap    bool                        // it changes places with one that follows it
	Heard   func(*ha.Decision)          // told every decision that does something, or says what the last did not
	Met     func(fault string, s state) // told every fault, and how the cluster is then
}

// New returns a world with its machines off.
func New(o Options) *World {
	w := &World{
		Seed: o.Seed, promises: o.Quorum || o.On, verbose: o.Verbose, mutant: o.Mutant, heard: o.Heard, met: o.Met,
		rng: rand.New(rand.NewPCG(o.Seed, 0x9E3779B97F4A7C15)),
		now: time.Hour,
	}
	if w.mutant == nil {
		w.mutant = &Mutant{}
	}
	w.Timers = drawTimers(w)
	if o.Timers != nil {
		w.Timers = *o.Timers
	}
	w.rates = drawRates(w, o.Calm)
	switch {
	case o.Dense:
		w.rates.between = min(w.rates.between, 5*time.Second)
	case o.Timers == nil && w.rates.between > patient*w.Timers.Renew:
		w.Timers.Renew = unhurried(w.Timers)
	}
	count := o.Nodes
	if count == 0 {
		count = []int{3, 3, 3, 3, 2, 5}[w.rng.IntN(6)]
	}
	w.store = newStore(w)
	for i := range count {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	w.client = &client{w: w}
	if o.Restore {
		w.restores()
	}
	if o.Wipe {
		w.wipes()
	}
	if o.Away {
		w.appeals()
	} else {
		w.alone = w.chance(0.25) && !o.Calm
	}
	if o.Stray {
		w.strays()
	}
	if o.Watch {
		w.watchdogs()
	}
	if o.Follow {
		w.follow()
	}
	if o.Swap {
		w.shadow()
	}
	if o.Hang {
		w.disks()
	}
	if o.On {
		w.priorities()
	}
	return w
}

// an event happens at an instant; those of one instant in the order they were made.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

// events is a heap; container/heap would allocate for every event.
type events []event

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (h *events) push(e event) {
	*h = append(*h, e)
	all := *h
	i := len(all) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(all[up]) {
			break
		}
		all[i] = all[up]
		i = up
	}
	all[i] = e
}

func (h *events) pop() event {
	all := *h
	first, n := all[0], len(all)-1
	e := all[n]
	all[n] = event{}
	*h = all[:n]
	if n == 0 {
		return first
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && all[down+1].before(all[down]) {
			down++
		}
		if !all[down].before(e) {
			break
		}
		all[i] = all[down]
		i = down
	}
	all[i] = e
	return first
}

// after lets do happen d from now.
func (w *World) after(d time.Duration, do func()) { w.at(w.now+max(d, 0), do) }

func (w *World) at(t time.Duration, do func()) {
	w.seq++
	w.events.push(event{max(t, w.now), w.seq, do})
}

// step lets the next event happen and checks the laws.
func (w *World) step() {
	e := w.events.pop()
	w.pass(e.at)
	w.Stats.Events++
	e.do()
	w.check()
}

// run lets time pass until t, or until a law is broken.
func (w *World) run(t time.Duration) {
	for w.Failed == nil && len(w.events) > 0 && w.events[0].at <= t {
		w.step()
	}
	if w.Failed == nil {
		w.pass(t)
	}
}

// pass lets it be t.
func (w *World) pass(t time.Duration) {
	w.Stats.Simulated += t - w.now
	if w.client.on {
		w.Stats.Loaded += t - w.now
	}
	w.now = t
}

// until lets time pass until holds, for as long as limit; it says whether it came to be.
func (w *World) until(limit time.Duration, holds func() bool) bool {
	for end := w.now + limit; w.Failed == nil && w.now < end; w.run(min(end, w.now+250*time.Millisecond)) {
		if holds() {
			return true
		}
	}
	return w.Failed == nil && holds()
}

// say enters a line in the log. Arguments are formatted only if somebody reads.
func (w *World) say(format string, args ...any) {
	if !w.verbose {
		return
	}
	w.Log = append(w.Log, fmt.Sprintf("%12s ", (w.now-time.Hour).Round(100*time.Microsecond))+fmt.Sprintf(format, args...))
}

func (w *World) fail(law, format string, args ...any) {
	if w.Failed == nil {
		w.Failed = &Failure{law, w.now - time.Hour, fmt.Sprintf(format, args...)}
		w.say("LAW BROKEN: %s", w.Failed.Error())
	}
}

// draw returns a duration between lo and hi.
func (w *World) draw(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)))
}

// scale returns a value between lo and hi, of every order of magnitude alike.
func scale[T ~int64 | ~float64](w *World, lo, hi T) T {
	return T(float64(lo) * math.Pow(float64(hi)/float64(lo), w.rng.Float64()))
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// wall is the clock on everybody's wall.
func (w *World) wall() time.Time {
	return noon.Add(w.now - time.Hour)
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func (w *World) node(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	if w.far != nil && w.far.name == name {
		return w.far
	}
	return nil
}

var silent = slog.New(slog.DiscardHandler)
