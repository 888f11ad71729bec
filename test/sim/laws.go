package sim

import (
	"fmt"
	"math"
	"slices"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/pg"
)

// laws is what must be remembered to check the laws of ARCHITECTURE.md.
type laws struct {
	system    pg.SystemID
	acks      []ack                   // acknowledged since the last settlement
	person    bool                    // a person named the next leader, or took the servers over: what he costs is his
	meddled   bool                    // a person did so once, or had a store or a restore begin anew
	timelines map[pg.Timeline]*branch // begun since commits wait for standbys
	excused   bool                    // something happened since that may cost what the elected did not have
	hole      bool                    // two branches of one timeline met: nothing more is judged
	written   bool                    // somebody writes
	without   time.Duration           // since when nobody does
	vacancy   time.Duration           // when the leader key last went away
	given     bool                    // it was given up then: its holder's server would not start
	floor     *branch                 // that the last restore has begun: nobody leads any more without it
	former    former                  // who held the key of a store that was lost
}

// An ack is one row, and the log it was acknowledged from.
type ack struct {
	b    *branch
	end  pg.LSN
	id   int
	seen bool // it was not acknowledged: a client found it, after the server had been started with it
	lost bool // whoever was elected since did not have it, or it was acknowledged in the hole of maintenance
}

// holder is the node whose name the leader key truly carries.
func (w *World) holder() (*node, dcs.KV) {
	stray := w.store.newest.leader.Mod != 0 && w.store.newest.leader.Lease == 0
	if p := w.store.newest; p.leader.Mod != 0 && !stray || !stray && p.read().Initialize.System != 0 || w.now >= w.laws.former.until {
		return p.holder, p.leader
	}
	return w.laws.former.node, w.laws.former.key
}

// A former holder's lease counts until its end, although the store knows it no more.
type former struct {
	node  *node
	key   dcs.KV
	until time.Duration
}

func (w *World) paused() bool { return w.store.newest.read().Config.Pause() }

// check is called after every event: laws 1 and 3 as strictly as the models
// allow. Who could acknowledge a commit at this instant holds the leader key at
// this instant, so there is at most one.
func (w *World) check() {
	if w.laws.hole {
		return
	}
	writers := 0
	holder, _ := w.holder()
	for _, n := range w.nodes {
		if !n.server.writes() || n.page.Deadline == math.MaxInt64 {
			continue // maintenance mode, as far as this node knows
		}
		if n.server.flag && holder != n {
			continue // it writes, and can acknowledge nothing: law 2 looks after what it does
		}
		writers++
		if w.follows {
			w.fail("law 1", "%s could acknowledge a write, in a cluster that follows another one", n.name)
		}
		if holder != n && !w.paused() && (holder != nil || !w.backed(n, n.page.Epoch)) {
			w.fail("law 3", "%s could acknowledge a write; the leader key is %s's (page %+v, boot %s)", n.name, name(holder), n.page, n.boot())
		}
		if writers > 1 && !w.paused() {
			w.fail("law 1", "two servers could acknowledge writes at once, %s is one", n.name)
		}
	}
	switch {
	case writers == 0 && w.laws.written:
		w.laws.written, w.laws.without = false, w.now
	case writers > 0 && !w.laws.written:
		if w.laws.written = true; w.laws.without > 0 {
			w.Stats.LongestWithout = max(w.Stats.LongestWithout, w.now-w.laws.without)
		}
	}
}

func name(n *node) string {
	if n == nil {
		return "nobody"
	}
	return n.name
}

// checkRight is law 4: nothing begins that leads to writes without the key.
func (w *World) checkRight(n *node, what string) {
	w.checkWatched(n, what)
	if !n.server.names.Async() {
		return // whoever waits for standbys acknowledges nothing without them: pledges are looked at instead
	}
	if holder, _ := w.holder(); holder != n && !w.laws.hole {
		w.fail("law 4", "%s: %s begins while the leader key is %s's", n.name, what, name(holder))
	}
}

// checkFence: a server is silenced only when its right is not provable.
func (w *World) checkFence(n *node) {
	holder, kv := w.store.newest.holder, w.store.newest.leader
	p := n.proof
	if holder == n && p.Primary && p.Epoch == kv.Mod && n.boot() < p.Deadline && !w.laws.hole {
		w.fail("law 6", "%s: frozen %s before its deadline, and the leader key is its own", n.name, p.Deadline-n.boot())
	}
}

// changed is told every new revision of the store.
func (w *World) changed(before, after *picture) {
	old, had := before.Keys[cluster.KeyLeader]
	now, has := after.Keys[cluster.KeyLeader]
	if w.verbose {
		switch {
		case had && !has:
			w.say("store: revision %d: the leader key of %s is gone", after.Revision, old.Value)
		case has && old.Mod != now.Mod:
			w.say("store: revision %d: leader is %s", after.Revision, now.Value)
		}
	}
	if had && !has {
		w.laws.vacancy, w.laws.given = w.now, !w.store.expiring
	}
	if w.laws.hole {
		return
	}
	if sys := after.read().Initialize.System; sys != 0 && sys != w.laws.system {
		if w.laws.system != 0 {
			w.fail("law 7", "the cluster was system %s, and is now %s", w.laws.system, sys)
		}
		w.laws.system = sys
	}
	w.restoring(before, after)
	w.turned(before, after)
	if w.straying {
		return // nobody holds it, and nobody gave it up
	}
	if had && old.Lease != 0 && (!has || string(now.Value) != string(old.Value)) {
		w.keyLeft(w.node(string(old.Value)), old, now, has)
	}
	if has && old.Mod != now.Mod {
		if st := before.read(); had && old.Lease == 0 && st.Term != nil && string(now.Value) != st.Term.Leader {
			w.fail("election", "%s put its key over one that nobody held, and %s led last", now.Value, st.Term.Leader)
		}
		w.ambushed(w.node(string(now.Value)), w.node(string(old.Value)))
		w.keyTaken(w.node(string(now.Value)), before, had)
		w.restored(w.node(string(now.Value)), now)
	}
}

// keyLeft is law 5: the key goes only from a server that is dead or cleanly
// shut down, or with the lease at its end.
func (w *World) keyLeft(n *node, old, now dcs.KV, has bool) {
	s := n.server
	closed := s.proc == pg.ProcessStopping && s.control.State == pg.ControlShutDown
	if s.proc == pg.ProcessNone || closed || w.paused() || s.flag || w.follows || !has && w.wiping {
		return
	}
	if !has && w.store.expiring {
		return // its holder's deadline has passed: law 3 looks after the rest
	}
	w.fail("law 5", "the leader key left %s while its server is %s", n.name, s)
}

// keyTaken: whoever is elected is not behind anybody who could have been.
func (w *World) keyTaken(n *node, before *picture, had bool) {
	st := before.read()
	if st.Initialize.System == 0 {
		if w.laws.system != 0 { // of a store that was lost: who puts it back has everything, or a person named it
			w.left(n, !w.laws.person)
		}
		return
	}
	if sys := n.server.control.System; sys != st.Initialize.System {
		w.fail("law 7", "%s took the leader key with system %s, the cluster is %s", n.name, sys, st.Initialize.System)
	}
	w.left(n, had && st.Leader != nil && st.Leader.Name != n.name)
	if st.Term == nil || st.Term.Leader == n.name || w.paused() {
		return
	}
	if had { // from a leader who offered it, or whom his voters gave up
		if h := st.Handover; st.Sync.Active() && (h == nil || !h.Open() || h.Epoch != st.Epoch()) {
			w.checkPledges(n, st)
		}
		return
	}
	if f := st.Failover; f.Leader == "" && f.Member == n.name {
		return // a person named it, whatever its position
	}
	if st.Sync.Active() {
		w.checkPledges(n, st)
		return
	}
	own, ok := st.Pledge(n.name)
	if !ok || own.Epoch != st.Epoch() {
		w.fail("election", "%s was elected without a position for epoch %d in the store", n.name, st.Epoch())
		return
	}
	for _, p := range st.Pledges {
		o := w.node(p.Member)
		if p.Member == st.Term.Leader && w.laws.given {
			continue // it stands back; that it did comes with its position, which nobody awaits
		}
		if p.Epoch != own.Epoch || p.NoFailover || o == n || o.wellSince > w.laws.vacancy && w.now-o.wellSince < 4*w.Timers.Grace {
			continue
		}
		if p.Timeline > own.Timeline || p.Timeline == own.Timeline && p.LSN > own.LSN {
			w.fail("election", "%s was elected at %d/%s although %s, which is well, has %d/%s", n.name, own.Timeline, own.LSN, p.Member, p.Timeline, p.LSN)
		}
	}
}

// checkPledges is law 4 in synchronous mode: a majority of the voters that /sync
// names, in the sense of its quorum, takes nothing more from the leader that is lost.
func (w *World) checkPledges(n *node, st *cluster.State) {
	pledged := 0
	for _, p := range st.Pledges {
		if p.Fenced && p.Epoch == st.Epoch() && st.Sync.Has(p.Member) {
			pledged++
			if o := w.node(p.Member).server; o.refused < p.Epoch {
				w.fail("law 4", "%s has pledged for epoch %d, and has refused only %d", p.Member, p.Epoch, o.refused)
			} else if l := st.Term; l != nil && o.stream != nil && o.stream.n.name == l.Leader {
				w.fail("law 4", "%s has pledged for epoch %d, and takes log from %s all the same", p.Member, p.Epoch, l.Leader)
			}
		}
	}
	if !st.Sync.Has(n.name) || pledged <= st.Sync.Quorum {
		w.fail("law 4", "%s was elected with %d pledges of %v, quorum %d", n.name, pledged, st.Sync.Standby, st.Sync.Quorum)
	}
}

// left notes what a new leader does not have, for that much may be lost with it;
// a leader who was handed the key has everything.
func (w *World) left(n *node, handed bool) {
	s := n.server
	for i := range w.laws.acks {
		a := &w.laws.acks[i]
		if a.lost || s.branch != nil && s.branch.has(s.end, a.b, a.end) {
			continue
		}
		if w.quorum && !w.laws.person {
			w.fail("law 2", "%s took the leader key without row %d, %s at %d/%s", n.name, a.id, a.how(), a.b.tl, a.end)
		}
		if a.lost = true; handed && !w.paused() {
			w.fail("loss", "%s was handed the leader key without row %d, acknowledged at %d/%s", n.name, a.id, a.b.tl, a.end)
		}
	}
}

// acknowledged is law 2 for what was acknowledged after somebody else took the key.
func (w *World) acknowledged(n *node, a ack) {
	if holder, _ := w.holder(); w.quorum && !w.laws.person && holder != nil && holder != n && !w.paused() && !w.laws.hole {
		if s := holder.server; s.branch == nil || !s.branch.has(s.end, a.b, a.end) {
			w.fail("law 2", "%s: row %d was %s there, and %s, who leads, does not have it", n.name, a.id, a.how(), holder.name)
		}
	}
}

// how somebody came to rely on the row.
func (a ack) how() string {
	if a.seen {
		return "seen"
	}
	return "acknowledged"
}

// sees is told that a client came in to n's server: what it was started with is
// there for the client, acknowledged or not, and from now on for good.
func (w *World) sees(n *node) {
	s := n.server
	end := s.recovered
	if s.recovered = 0; end == 0 || !w.quorum {
		return
	}
	known := map[int]bool{}
	for _, a := range w.laws.acks {
		known[a.id] = true
	}
	for b := s.branch; b != nil; b = b.parent {
		for _, r := range b.rows {
			if a := (ack{b: b, end: r.end, id: r.id, seen: true}); r.end <= end && !known[r.id] {
				w.laws.acks = append(w.laws.acks, a)
				w.Stats.Seen++
				w.acknowledged(n, a)
			}
		}
		end = min(end, b.fork)
	}
}

// checkDiscard is law 7: a log that is thrown away from at on was kept aside,
// unless nothing in it was a commit, or somebody else has it.
func (w *World) checkDiscard(s *server, b *branch, at pg.LSN) {
	for x, end := s.branch, s.end; x != nil; x, end = x.parent, min(end, x.fork) {
		for i := len(x.rows) - 1; i >= 0; i-- {
			r := x.rows[i]
			if b.has(at, x, r.end) {
				break
			}
			if r.end > end || w.has(x, r.end, s.n) {
				continue
			}
			if !slices.ContainsFunc(s.kept, func(k span) bool { return k.from < r.end && k.b.has(k.to, x, r.end) }) {
				w.fail("law 7", "%s throws row %d away (%d/%s), which nobody else has and which was not kept", s.n.name, r.id, x.tl, r.end)
				return
			}
		}
	}
}

// has says that somebody but n has what lies on b up to at.
func (w *World) has(b *branch, at pg.LSN, n *node) bool {
	for _, o := range w.nodes {
		if o != n && o.server.branch != nil && o.server.branch.has(o.server.end, b, at) {
			return true
		}
	}
	return false
}

// begun is told every timeline that a promotion begins. In synchronous mode each number is
// reserved with the key: two servers begin the same one only where a person had a hand in it.
func (w *World) begun(b *branch) {
	if !w.quorum || w.laws.hole {
		return
	}
	if w.laws.timelines == nil {
		w.laws.timelines = map[pg.Timeline]*branch{}
	}
	if o := w.laws.timelines[b.tl]; o != nil && o.system == b.system && !w.laws.meddled {
		w.fail("timelines", "timeline %d is begun at %s, and was at %s before", b.tl, b.fork, o.fork)
	}
	w.laws.timelines[b.tl] = b
}

// collision is the known hole W20: counted, and the end of judging this run.
func (w *World) collision(a, b *server) {
	if !w.laws.hole {
		w.say("%s and %s: one timeline number, two branches (W20)", a.n.name, b.n.name)
		w.laws.hole = true
		w.Stats.Collisions++
	}
}

// decided is told every decision: what no decision may hold.
func (w *World) decided(n *node, d *ha.Decision) {
	for _, a := range d.Actions {
		if _, kill := a.(ha.Kill); kill && slices.Contains(d.Trail, "logins=overdue") {
			w.overdue(n)
		}
		if a, ok := a.(ha.Acquire); ok && a.Lease == 0 {
			w.fail("law 4", "%s acquires without a lease", n.name)
		}
	}
}

// overdue is the law of logins: a server is ended for letting nobody in only if nobody
// came in for as long as a silent one is left alone, up to the last look at it.
func (w *World) overdue(n *node) {
	const slack = 3 * time.Second // how long that look took
	s, seen := n.server, n.when(n.statusAt)
	w.Stats.ShutOut++
	if s.begun < seen && (seen > s.shutTill+slack || seen-s.shutFrom < 30*time.Second-slack) {
		w.fail("logins", "%s is ended at %s for letting nobody in from %s to %s", n.name, seen, s.shutFrom, s.shutTill)
	}
}

// settled says that the cluster is whole: one primary that holds the key, and
// every machine that is on follows it and has all it has. What is missing is said.
func (w *World) settled() (bool, string) {
	if w.follows {
		return w.followed()
	}
	holder, _ := w.holder()
	if holder == nil {
		return false, "nobody leads"
	}
	p := holder.server
	if !p.writes() || p.proc != pg.ProcessRunning {
		return false, fmt.Sprintf("%s leads and does not write: %s", holder.name, p)
	}
	if w.draining() {
		return false, holder.name + " has clients held, and does not hand over"
	}
	if p.shut {
		return false, holder.name + " leads and lets nobody in"
	}
	if st := w.store.newest.read(); w.quorum && (!st.Sync.Active() || st.Sync.Leader != holder.name || len(st.Sync.Standby) == 0) {
		return false, fmt.Sprintf("/sync is %s, %s leads", st.Sync.Encode(), holder.name)
	} else if o := w.overlooked(st); o != "" {
		return false, o
	}
	for _, n := range w.nodes {
		s := n.server
		switch {
		case n.page.Deadline == math.MaxInt64 && !w.paused():
			return false, n.name + " takes the cluster for paused"
		case n == holder || !n.up || n.stopped:
		case s.proc != pg.ProcessRunning || s.frozen || !s.recovering:
			return false, fmt.Sprintf("%s is no standby: %s", n.name, s)
		case s.stream != p:
			return false, fmt.Sprintf("%s does not stream from %s: %s", n.name, holder.name, s)
		case s.branch != p.branch || s.end != p.end:
			return false, fmt.Sprintf("%s is behind %s", n.name, holder.name)
		}
		if n.up && !n.stopped {
			if _, ok := w.store.newest.Keys[cluster.DirMembers+n.name]; !ok {
				return false, n.name + " is not published"
			}
		}
	}
	return true, ""
}

// settle counts what was lost since the last settlement and, where nothing may
// be, says so.
func (w *World) settle() {
	holder, _ := w.holder()
	p := holder.server
	lost := 0
	for _, a := range w.laws.acks {
		if !p.branch.has(p.end, a.b, a.end) {
			if lost++; !w.laws.excused || !a.lost || w.quorum && !w.laws.person {
				w.fail("loss", "row %d, %s at %d/%s, is not on %s", a.id, a.how(), a.b.tl, a.end, holder.name)
			}
		}
	}
	w.Stats.Lost += lost
	w.laws.acks, w.laws.excused, w.laws.person = w.laws.acks[:0], false, false
	// What everybody has needs no proof any more.
	for _, n := range w.nodes {
		for b := n.server.branch; b != nil; b = b.parent {
			b.rows = nil
		}
		n.server.kept = nil
	}
}
