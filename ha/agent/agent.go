package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/dcs/etcd"
	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/latest"
	"howdah/lease"
	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/pg"
	"howdah/pki"
	"howdah/postgres"
	"howdah/spec"
)

// Compatible is the Patroni version whose interfaces members publish; its peers
// and tools parse it.
const Compatible = "4.1.4"

// lookFor is how long one look at the server may take.
const lookFor = 2 * time.Second

// Grace is how long the agent may take to end: the loop, which hands over and
// stops the server, then what the loop stands on (at most three parts).
const Grace = loopGrace + 3*partGrace

const (
	loopGrace = time.Minute
	partGrace = 5 * time.Second
)

// rereadAfter is how long the watch may be silent before the store is read anew:
// a watch that lost an event must not hide a vacancy for ever.
const rereadAfter = 10 * time.Second

// An Inside is what an agent lets its doors see.
type Inside struct {
	Shown *latest.Value[ha.Shown] // what it knows, after every turn
	Store dcs.Store
	Agree func(context.Context, ha.Plea) error // gives this member's word, or says why not
}

// A Door answers those who come to the agent. Its part runs beside the loop,
// from before the first turn until after the last.
type Door func(Inside) lifecycle.Part

// Run is the agent of one node, until ctx ends; then it hands over, stops the
// server and returns. Once leave is closed it returns at the next quiet moment and
// leaves server and key to its successor, as it does at any moment when it is killed.
func Run(ctx context.Context, leave <-chan struct{}, node spec.Node, log *slog.Logger, doors ...Door) error {
	if err := node.Agent.Timers.Validate(); err != nil {
		return fmt.Errorf("timers of %s: %w", node.Member, err)
	}
	store, err := etcd.OpenNode(node)
	if err != nil {
		return err
	}
	defer store.Close()
	server, err := postgres.Open(postgres.Options{Node: node, Log: log})
	if err != nil {
		return err
	}
	if err := server.Refresh(ctx); err != nil {
		log.Warn("the server has not taken up its settings", logkey.Error, err)
	}
	// What the predecessor was entitled to ends when its page says so.
	before, _ := lease.Read(node.Paths.Page)
	page, err := lease.Create(node.Paths.Page)
	if err != nil {
		return err
	}
	defer page.Close()

	h := &hands{
		node: node, store: store, server: server, page: page, log: log,
		answers: make(chan answered, 4), ended: make(chan worked, 1), looks: make(chan look, 1),
		progress: make(chan [2]int64, 1), probes: make(chan probed, 4), moves: make(chan worked, 1),
	}
	h.loop = &Loop{Self: Self(node), Timers: node.Agent.Timers, Hands: h, Log: log}
	if node.VIP.Address != "" {
		h.loop.VIP = func() ha.VIP {
			v := nodefile.ReadVIP(node)
			return ha.VIP{Address: v.Address, Held: v.Held, Problem: v.Problem}
		}
	}
	if node.Watchdog.On() {
		h.loop.Watchdog = func() ha.Watchdog {
			w := nodefile.ReadWatchdog(node)
			return ha.Watchdog{
				Required: node.Watchdog.Required(), Ready: w.Ready, Armed: w.Armed,
				Timeout: node.Watchdog.Timeout(node.Agent.Timers), Problem: w.Problem,
			}
		}
	}
	if hangs := nodefile.ReadHangs(node); hangs.Problem.Code != "" {
		h.loop.Hung = ha.Hung{Problem: hangs.Problem, Until: h.Boot() + ha.EndedFor}
	}
	h.leave = leave
	h.beats.wake = make(chan struct{}, 1)
	peers, err := pki.Open(node.TLS)
	if err != nil {
		return err
	}
	h.appeals.open(peers)
	if h.loop.Grant, err = wordOf(node); err != nil {
		log.Warn("the word that was given is not known", logkey.Error, err)
	}
	h.loop.Resume(server.SyncNote())
	h.loop.Inherit(ha.Page{Primary: before.Role == lease.Primary, Epoch: before.Epoch, Deadline: before.Deadline})

	parts := []lifecycle.Part{
		{Name: "postgres", Run: server.Run, Grace: partGrace},
		{Name: "store", Run: h.watch, Grace: partGrace},
		{Name: "beats", Run: h.beats.run, Grace: partGrace},
	}
	for _, d := range doors {
		parts = append(parts, d(Inside{Shown: &h.shown, Store: store, Agree: h.Agree}))
	}
	return lifecycle.Run(ctx, append(parts, lifecycle.Part{Name: "loop", Run: h.run, Grace: loopGrace})...)
}

// Self is who the node is to its peers.
func Self(n spec.Node) ha.Self {
	_, port, _ := net.SplitHostPort(n.Agent.Listen)
	scheme := "http://"
	if n.Agent.REST.Cert != "" {
		scheme = "https://"
	}
	return ha.Self{
		Name: n.Member, Host: n.Address, Port: n.Postgres.Port, Version: Compatible, Tags: n.Agent.Tags,
		ConnURL: "postgres://" + net.JoinHostPort(n.Address, strconv.Itoa(n.Postgres.Port)) + "/postgres",
		APIURL:  scheme + net.JoinHostPort(n.Address, port) + "/patroni",
		Founder: n.Agent.Founder, Config: first(n.Agent), Copies: n.Backup.Replicas,
	}
}

// first is what a new cluster's dynamic configuration has over Patroni's defaults.
func first(a spec.Agent) map[string]any {
	all := map[string]any{}
	maps.Copy(all, a.Begin)
	maps.Copy(all, a.Config)
	return all
}

// hands are the real ones: goroutines that bring their ends back to one loop.
type hands struct {
	node   spec.Node
	store  dcs.Store
	server *postgres.Server
	page   *lease.Writer
	// entitled is until when the page lets this server write.
	entitled time.Duration
	log      *slog.Logger
	loop     *Loop

	snapshots latest.Value[dcs.Snapshot]
	blind     atomic.Bool // the watch is lost, and no snapshot came since
	parsed    uint64      // version of the snapshot that state was made of
	reader    cluster.Reader
	state     cluster.State
	known     bool

	shown latest.Value[ha.Shown]

	status   pg.Status
	statusAt time.Duration
	looking  bool
	again    bool // look once more when the look under way ends

	answers  chan answered
	ended    chan worked
	looks    chan look
	progress chan [2]int64
	probes   chan probed
	moves    chan worked
	probing  context.CancelFunc // ends the probe before
	beats    beats
	appeals  appeals
	giveUp   context.CancelFunc
	leave    <-chan struct{}
	begun    sync.WaitGroup
	ctx      context.Context // of everything begun; ends with the loop
}

type answered struct {
	lane   ha.Lane
	answer ha.Answer
	err    error
}

type worked struct {
	ended ha.Ended
	took  time.Duration
	look  look // taken after it: what was seen before is no longer so
}

type probed struct {
	probe quorum.Probe
	at    time.Duration
}

type look struct {
	at     time.Duration
	status pg.Status
}

// watch keeps the newest snapshot of the store.
func (h *hands) watch(ctx context.Context) error {
	return h.store.Watch(ctx, &h.snapshots, func(err error) {
		if h.blind.CompareAndSwap(false, true) { // once: it is tried again several times a second
			h.log.Warn("watch lost", logkey.Error, err)
		}
	})
}

// run is the loop. It ends when ctx has ended and the loop says that all is done.
func (h *hands) run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer h.begun.Wait()
	defer cancel()
	h.ctx = work
	asked, leave, leaving := ctx.Done(), h.leave, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	beat := h.node.Agent.Timers.Still() / 3 // what the guard waits for
	var reread time.Duration
	for {
		d := h.loop.Turn()
		h.shown.Set(h.loop.Shown())
		if h.loop.Done() {
			return nil
		}
		if leaving && h.loop.AtRest() {
			h.log.Info("left to a successor")
			return nil
		}
		for rests := true; rests; {
			rests = false
			now := h.Boot()
			h.page.Beat()
			if !h.looking && d.Look <= now {
				h.look()
			}
			wake := d.Wake
			if !h.looking {
				wake = min(wake, d.Look)
			}
			_, seen := h.snapshots.Get()
			if seen == h.parsed && now-reread > rereadAfter {
				reread = now
				h.reread()
			}
			timer.Reset(max(min(wake-h.Boot(), beat), time.Millisecond))
			select {
			case <-asked:
				asked = nil
				h.log.Info("stopping")
				h.loop.Stop()
			case <-leave:
				leave, leaving = nil, true
				h.log.Info("leaving at the next quiet moment")
			case <-h.snapshots.Changed(h.parsed):
				reread = now
			case a := <-h.answers:
				h.loop.Answered(a.lane, a.answer)
				if a.err != nil {
					h.log.Debug("request not answered", logkey.Action, a.answer.Action.String(), logkey.Error, a.err)
				}
			case w := <-h.ended:
				h.worked(w)
			case p := <-h.progress:
				h.loop.Progress(p[0], p[1])
			case r := <-h.appeals.rounds:
				h.loop.Rounded(r)
			case p := <-h.appeals.asked:
				word, err := h.loop.Agree(p.Plea)
				p.said <- agreed{word, err}
			case p := <-h.probes:
				h.loop.Probed(p.probe, p.at)
			case m := <-h.moves:
				h.loop.Moved(m.ended)
				h.saw(m.look)
			case l := <-h.looks:
				h.looking = false
				h.saw(l)
				if h.again {
					h.again = false
					h.look()
				}
			case <-h.server.Died():
				h.again = h.looking // that one may have begun before the death
				h.look()
			case <-timer.C:
				rests = h.Boot() < d.Wake // only a look is due: what was decided knew of it
			}
		}
	}
}

func (h *hands) worked(w worked) {
	h.giveUp()
	if w.ended.Err != "" {
		h.log.Warn("work failed", logkey.Action, w.ended.Action.String(), logkey.Error, w.ended.Err, logkey.Took, w.took)
	} else {
		h.log.Info("work done", logkey.Action, w.ended.Action.String(), logkey.Took, w.took)
	}
	h.loop.Worked(w.ended)
	h.saw(w.look)
}

// saw takes a look for the newest, unless a later one was taken meanwhile.
func (h *hands) saw(l look) {
	if l.at >= h.statusAt {
		h.status, h.statusAt = l.status, l.at
	}
}

// reread reads the whole store once and publishes it like the watch does,
// unless that has something newer by then.
func (h *hands) reread() {
	patience := h.loop.Patience()
	h.begun.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, patience)
		defer cancel()
		resp, err := h.store.Do(ctx, dcs.Request{Kind: dcs.Read})
		if err != nil {
			return
		}
		h.snapshots.SetIf(resp.Snapshot, func(newest dcs.Snapshot) bool { return resp.Snapshot.Revision > newest.Revision })
	})
}

// look begins a look at the server, if none is under way.
func (h *hands) look() {
	if h.looking {
		return
	}
	h.looking = true
	h.begun.Go(func() { h.looks <- h.lookNow() })
}

func (h *hands) lookNow() look {
	ctx, cancel := context.WithTimeout(h.ctx, lookFor)
	defer cancel()
	at := h.Boot()
	return look{at, h.server.Look(ctx)}
}

// Boot implements Hands.
func (h *hands) Boot() time.Duration { return lease.Now() }

// Wall implements Hands.
func (h *hands) Wall() time.Time { return time.Now() }

// Store implements Hands.
func (h *hands) Store() (cluster.State, bool) {
	if snap, version := h.snapshots.Get(); version > h.parsed {
		if h.blind.CompareAndSwap(true, false) {
			h.log.Info("store seen again")
		}
		h.parsed = version
		// A watch that lags behind a reread repeats what is over.
		if !h.known || snap.Revision >= h.state.Revision {
			h.known, h.state = true, h.reader.Parse(snap.Revision, snap.Keys)
		}
	}
	return h.state, h.known
}

// Server implements Hands.
func (h *hands) Server() (pg.Status, time.Duration) { return h.status, h.statusAt }

// Page implements Hands.
func (h *hands) Page(p ha.Page) error {
	out := lease.Page{Role: lease.Replica, Epoch: p.Epoch, Deadline: p.Deadline}
	if p.Primary {
		out.Role = lease.Primary
	}
	h.entitled = p.Deadline
	return h.page.Set(out)
}

// Ask implements Hands.
func (h *hands) Ask(lane ha.Lane, a ha.Action, r dcs.Request) {
	patience := h.loop.Patience()
	h.begun.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, patience)
		defer cancel()
		sent := h.Boot()
		resp, err := h.store.Do(ctx, r)
		out := Answer(a, resp, err)
		out.Sent = sent
		h.answers <- answered{lane, out, err}
	})
}

// Work implements Hands.
func (h *hands) Work(a ha.Action) {
	ctx, cancel := context.WithTimeout(h.ctx, Allowed(a))
	h.giveUp = cancel
	if c, ok := a.(ha.Configure); ok && c.Reread {
		h.rereadNode()
	}
	begun, entitled := h.Boot(), h.entitled
	h.begun.Go(func() {
		if ha.Opens(a) && h.Boot() >= entitled {
			// This process was held up since the decision, and the right has ended.
			h.ended <- worked{ha.Ended{Action: a, At: h.Boot(), Err: "the right to lead ended before it began"}, 0, h.lookNow()}
			return
		}
		e := Perform(ctx, h.server, a, func(done, total int64) {
			select {
			case h.progress <- [2]int64{done, total}:
			default: // the loop is busy: the next one will do
			}
		})
		e.At = h.Boot()
		h.ended <- worked{e, e.At - begun, h.lookNow()}
	})
}

// rereadNode takes over what the node's description says of its server now.
func (h *hands) rereadNode() {
	n, err := nodefile.Load(h.node.Paths.Dir)
	if err != nil {
		h.log.Warn("node not read anew", logkey.Error, err)
		return
	}
	h.server.Configure(n.Postgres.Parameters, n.Postgres.HBA)
}

// Prove implements Hands.
func (h *hands) Prove(a ha.Prove) {
	if h.probing != nil {
		h.probing()
	}
	ctx, cancel := context.WithCancel(h.ctx)
	h.probing = cancel
	tell := func(p quorum.Probe) {
		p.Number = a.Number
		select {
		case h.probes <- probed{p, h.Boot()}:
		case <-ctx.Done():
		}
	}
	h.begun.Go(func() {
		defer cancel()
		err := h.server.Probe(ctx, func(p postgres.Probe) {
			tell(quorum.Probe{Names: p.Names, LSN: p.LSN, Waited: p.Waited, Done: p.Done})
		})
		if err != nil && ctx.Err() == nil {
			h.log.Warn("the setting could not be tried", logkey.Error, err)
			tell(quorum.Probe{}) // it proves nothing: another is made
		}
	})
}

// Move implements Hands.
func (h *hands) Move(a ha.Advance) {
	h.begun.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, Allowed(a))
		defer cancel()
		e := Perform(ctx, h.server, a, nil)
		e.At = h.Boot()
		if e.Err != "" {
			h.log.Warn("slots not moved on", logkey.Error, e.Err)
		}
		h.moves <- worked{ended: e, look: h.lookNow()}
	})
}

// GiveUp implements Hands.
func (h *hands) GiveUp() { h.giveUp() }

// AtOnce implements Hands.
func (h *hands) AtOnce(a ha.Action) error {
	ctx, cancel := context.WithTimeout(h.ctx, time.Second)
	defer cancel()
	e := Perform(ctx, h.server, a, nil)
	if _, freeze := a.(ha.Freeze); freeze && e.Err == "" {
		// Every process was seen stopped. A look would tell no more, and may have to
		// wait for one that is under way and asks the very server.
		s := h.status
		s.Process, s.Answers = pg.ProcessFrozen, false
		h.saw(look{h.Boot(), s})
	} else {
		h.again = h.looking
		h.look()
	}
	if e.Err != "" {
		return errors.New(e.Err)
	}
	return nil
}
