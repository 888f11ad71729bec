package quorum

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math/bits"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// The model is a cluster small enough to be tried in every way. It has the store
// (term and /sync), servers with logs, and members that follow, refuse, pledge,
// take the key, promote, reconfigure, stop and lose their disks, in any order and
// at any speed: whoever does nothing for a while is slow, partitioned or dead.
// What they decide is decided by Next, Promise and Elect.
//
// Time is absent, so nothing rests on a lease, a clock or a timeout.

const (
	most     = 6 // members, named a to f
	nobodyAt = 7 // the bit of the standby that is never there
)

// A rule is Names in two bytes: n of the members in of; 0 of none is async.
type rule struct{ n, of uint8 }

func (r rule) names() Names {
	switch {
	case r.n == 0:
		return Names{}
	case r == (rule{1, 1 << nobodyAt}):
		return Nobody()
	}
	return Any(int(r.n), members(r.of)...)
}

func ruleOf(n Names) rule { return rule{uint8(n.Num), mask(n.List)} }

// loosen is what a mixture of both allows, said once more for the model.
func loosen(a, b rule) rule {
	if a.n == 0 || b.n == 0 {
		return rule{}
	}
	return rule{min(a.n, b.n), a.of | b.of}
}

func member(i int) string {
	if i == nobodyAt {
		return nobody
	}
	return string(rune('a' + i))
}

func members(m uint8) []string {
	var names []string
	for i := range 8 {
		if m>>i&1 != 0 {
			names = append(names, member(i))
		}
	}
	return names
}

func mask(names []string) (m uint8) {
	for _, n := range names {
		if n == nobody {
			m |= 1 << nobodyAt
		} else {
			m |= 1 << (n[0] - 'a')
		}
	}
	return m
}

// A key is /sync.
type key struct {
	leader, voters, quorum uint8
	old                    bool // of what was seen: it is another by now
}

func (k key) sync() cluster.Sync {
	return cluster.Sync{Mod: 1, Leader: member(int(k.leader)), Quorum: int(k.quorum), Standby: members(k.voters)}
}

// covers is the first invariant of Holds, said once more for the model.
func (k key) covers(r rule) bool {
	of := r.of &^ (1 << k.leader)
	return k.voters == 0 || r.n > 0 && bits.OnesCount8(k.voters|of) <= int(k.quorum+r.n)
}

func keyOf(s cluster.Sync) key {
	return key{leader: s.Leader[0] - 'a', voters: mask(s.Standby), quorum: uint8(s.Quorum)}
}

// A wal is the epochs of a log's entries, four bits each, the first lowest. One
// leader writes all of an epoch in order, so the same epoch at the same place is
// the same entry, with the same log before it.
type wal uint32

func (l wal) len() int          { return (bits.Len32(uint32(l)) + 3) / 4 }
func (l wal) at(i int) uint8    { return uint8(l >> (4 * i) & 15) }
func (l wal) last() uint8       { return l.at(max(l.len()-1, 0)) }
func (l wal) add(e uint8) wal   { return l | wal(e)<<(4*l.len()) }
func (l wal) first(n int) wal   { return l & (1<<(4*n) - 1) }
func (l wal) prefix(o wal) bool { return o.first(l.len()) == l }

func (l wal) common(o wal) wal {
	n := 0
	for n < min(l.len(), o.len()) && l.at(n) == o.at(n) {
		n++
	}
	return l.first(n)
}

func (l wal) position() Position {
	return Position{Timeline: pg.Timeline(l.last()), LSN: pg.LSN(l.len())}
}

// A node is one member, with what it would find on its disk and what it would not.
type node struct {
	log     wal
	vow     uint8 // refused: this epoch and those before; on disk
	copied  bool  // the data was lost and copied anew, and has not caught up since
	follow  uint8 // the epoch whose leader it streams from; 0: nobody
	prime   uint8 // the epoch that it leads, in its own view; 0: it is a standby
	writes  bool  // it is promoted
	pledged uint8 // the epoch of its pledge in the store …
	pledge  wal   // … and the position there

	// Of a leader.
	rule, wrote rule // the loosest rule truly in force; what was written last
	known       rule // what its memory takes for the loosest
	view        key  // /sync as last seen
	open        bool
	flies       bool        // a publish is on its way, over what /sync is now …
	flying      key         // … with this value
	acks        [most]uint8 // how much of the log each standby has confirmed to it
	read        key         // of a candidate that does not compare: what it once read …
	readEpoch   uint8       // … and of which epoch
}

// A world is a state of the model.
type world struct {
	epoch  uint8
	leader [8]uint8 // by epoch
	began  [8]wal   // the log with which that leader took the key
	acked  [8]uint8 // how much of its log the leader of that epoch has acknowledged
	sync   key
	node   [most]node
}

// A model is a bounded world and a way to be wrong.
type model struct {
	nodes, epochs, log int
	losses             bool // disks are lost
	start              rule // of the first leader
	wants              []rule
	wrong              mutant

	steps map[stepKey]stepValue
	told  bool // events are to be named
	seen  struct{ taken, promoted, acknowledged, published, late, proven, fetched, returned int }
}

// A mutant is a way to be wrong that the model must find.
type mutant int

const (
	right mutant = iota
	settingShrinksFirst
	unproven
	provenUnflushed
	forgetsOpen
	receiverStays
	refusalForgotten
	quorumWithoutOne
	quorumReset
	syncNotCompared
	epochNotCompared
	behindPromoted
	copyPledges
	settingLate
)

var mutants = map[mutant]string{
	settingShrinksFirst: "the setting shrinks before /sync covers it",
	unproven:            "/sync fits a setting that is not proven to be in force",
	provenUnflushed:     "/sync fits a setting that nobody has flushed under",
	forgetsOpen:         "a publish without an answer is forgotten",
	receiverStays:       "a pledge without the WAL receiver gone",
	refusalForgotten:    "a refusal that a crash forgets",
	quorumWithoutOne:    "quorum instead of quorum+1 pledges",
	quorumReset:         "a new leader begins with quorum 0",
	syncNotCompared:     "/sync read before the swap and not compared",
	epochNotCompared:    "the epoch read before the swap and not compared",
	behindPromoted:      "a candidate behind is promoted",
	copyPledges:         "a member with copied data pledges",
	settingLate:         "a new leader promotes before its setting is in force",
}

type stepKey struct {
	self              int
	sync              key
	open              bool
	rule, wrote, want rule
	proof             bool
}

type stepValue struct {
	kind   byte // s, p, v or -
	set    rule
	value  key
	known  rule
	opened bool
}

// next is Next, asked once for each question.
func (m *model) next(k stepKey) stepValue {
	if v, ok := m.steps[k]; ok {
		return v
	}
	v := View{
		Self: member(k.self), Mode: cluster.SyncQuorum, Want: k.want.names(), Sync: k.sync.sync(),
		Memory: Memory{Written: k.wrote.names(), Rule: k.rule.names(), Open: k.open, Over: 1, Seen: 1, Loaded: true},
	}
	if k.proof {
		v.Probe = Probe{Number: 2, Names: k.wrote.names().String(), LSN: 1, Done: true}
		if v.Memory.Written.Blocks() {
			v.Probe.Done, v.Probe.Waited = false, true
		}
		for _, name := range members(k.wrote.of &^ (1 << nobodyAt)) {
			v.Senders = append(v.Senders, Sender{name, true, 1, 1})
		}
	}
	d := Next(v)
	out := stepValue{kind: '-', known: ruleOf(d.Memory.Rule), opened: d.Memory.Open}
	switch s := d.Step.(type) {
	case Set:
		n, _ := ParseNames(s.Names)
		out.kind, out.set = 's', ruleOf(n)
	case Publish:
		value, _ := cluster.ParseSync([]byte(s.Value))
		out.kind, out.value = 'p', keyOf(value)
	case Prove:
		out.kind = 'v'
	}
	m.steps[k] = out
	return out
}

// successors gives every world that can come next.
func (m *model) successors(w *world, emit func(world, string)) {
	say := func(next world, format string, args ...any) {
		text := ""
		if m.told {
			text = fmt.Sprintf(format, args...)
		}
		emit(next, text)
	}
	for i := range m.nodes {
		n := &w.node[i]
		if n.flies {
			m.land(w, i, say)
		}
		switch {
		case n.prime != 0 && n.writes:
			m.lead(w, i, say)
		case n.prime != 0:
			m.promote(w, i, say)
		default:
			m.stand(w, i, say)
		}
		if m.losses && n.prime == 0 && !n.copied {
			for j := range m.nodes {
				if j != i && w.node[j].log != n.log && !w.node[j].copied {
					next := *w
					lost := &next.node[i]
					// The refusal is lost with the disk; the pledge in the store is not.
					*lost = node{log: w.node[j].log, copied: true, vow: max(n.pledged, w.epoch-1), pledged: n.pledged, pledge: n.pledge}
					say(next, "%s loses its disk and is copied from %s", member(i), member(j))
				}
			}
		}
	}
}

// land applies a publish that is on its way; one that never lands is lost.
func (m *model) land(w *world, i int, say func(world, string, ...any)) {
	m.seen.late++
	next := *w
	next.put(w.node[i].flying)
	say(next, "the publish of %s is applied: %v", member(i), next.sync.sync())
}

// put writes /sync: what was seen of it before is old, and no publish over what
// it was can be applied any more.
func (w *world) put(to key) {
	w.sync = to
	w.sync.old = false
	for i := range w.node {
		n := &w.node[i]
		n.view.old, n.flying, n.flies = true, key{}, false
	}
}

// lead is a primary: whether anybody else leads by now it does not know.
func (m *model) lead(w *world, i int, say func(world, string, ...any)) {
	n := &w.node[i]
	if n.log.len() < m.log {
		next := *w
		next.node[i].log = n.log.add(n.prime)
		say(next, "%s writes entry %d", member(i), n.log.len()+1)
	}
	// As far as enough standbys have confirmed, everything is acknowledged.
	confirmed := make([]int, 0, most)
	for j := range m.nodes {
		if n.rule.of>>j&1 != 0 {
			confirmed = append(confirmed, int(n.acks[j]))
		}
	}
	slices.Sort(confirmed)
	upto := n.log.len()
	if n.rule.n > 0 {
		upto = 0
		if at := len(confirmed) - int(n.rule.n); at >= 0 {
			upto = confirmed[at]
		}
	}
	if upto > int(w.acked[n.prime]) && n.log.at(upto-1) == n.prime {
		next := *w
		next.acked[n.prime] = uint8(upto)
		m.seen.acknowledged++
		say(next, "%s acknowledges up to entry %d in epoch %d", member(i), upto, n.prime)
	}
	if n.view.old && n.prime == w.epoch {
		next := *w
		l := &next.node[i]
		l.view, l.open = w.sync, false
		say(next, "%s sees /sync %v", member(i), w.sync.sync())
	}
	k := stepKey{self: i, sync: n.view, open: n.open, rule: n.known, wrote: n.wrote}
	k.sync.old = false
	for _, k.want = range m.wants {
		if k.want.of>>i&1 != 0 {
			continue
		}
		if m.wrong == settingShrinksFirst && n.wrote != k.want {
			next := *w
			next.node[i].set(k.want, true)
			say(next, "%s sets %s", member(i), k.want.names())
		}
		switch v := m.next(k); v.kind {
		case 's':
			next := *w
			next.node[i].set(v.set, m.wrong == unproven)
			say(next, "%s sets %s", member(i), v.set.names())
		case 'p':
			// The store takes it from the holder of the key only, over what it has seen.
			if n.prime != w.epoch || n.view.old || n.flies && n.flying == v.value {
				continue
			}
			m.seen.published++
			next := *w
			l := &next.node[i]
			l.flying, l.flies, l.open = v.value, true, m.wrong != forgetsOpen
			say(next, "%s publishes %v", member(i), v.value.sync())
		}
	}
	if n.rule != n.wrote && m.provable(n) {
		k.want, k.proof = n.wrote, true
		v := m.next(k)
		m.seen.proven++
		next := *w
		next.node[i].rule, next.node[i].known = n.wrote, v.known
		say(next, "%s has proven %s", member(i), n.wrote.names())
	}
	next := *w
	next.node[i].stop()
	say(next, "%s stops", member(i))
}

// set writes the setting; from now on it may be in force, here or there.
func (n *node) set(to rule, believed bool) {
	n.rule, n.known, n.wrote = loosen(n.rule, to), loosen(n.known, to), to
	if believed {
		n.known = to
	}
}

// stop ends a leader. What it had sent to the store may still arrive there.
func (n *node) stop() {
	*n = node{log: n.log, vow: n.vow, copied: n.copied, pledged: n.pledged, pledge: n.pledge, flies: n.flies, flying: n.flying, read: n.read, readEpoch: n.readEpoch}
}

// provable says that the setting is in force alone, and that enough of those who
// count by it have everything.
func (m *model) provable(n *node) bool {
	if n.wrote == (rule{1, 1 << nobodyAt}) {
		return true
	}
	flushed := 0
	for j := range m.nodes {
		if n.wrote.of>>j&1 != 0 && int(n.acks[j]) == n.log.len() {
			flushed++
		}
	}
	return n.wrote.n > 0 && (flushed >= int(n.wrote.n) || m.wrong == provenUnflushed)
}

// promote is a node that has taken the key.
func (m *model) promote(w *world, i int, say func(world, string, ...any)) {
	n := &w.node[i]
	if n.log.len() < m.log {
		next := *w
		p := &next.node[i]
		p.log, p.writes = n.log.add(n.prime), true
		m.seen.promoted++
		say(next, "%s is promoted in epoch %d", member(i), n.prime)
	}
	next := *w
	next.node[i].stop()
	say(next, "%s gives up before it is promoted", member(i))
}

// stand is a standby.
func (m *model) stand(w *world, i int, say func(world, string, ...any)) {
	n := &w.node[i]
	for e := max(n.log.last(), n.follow+1); e <= w.epoch; e++ {
		l := w.leader[e]
		leader := &w.node[l]
		if e == 0 || int(l) == i || leader.prime != e || !leader.writes || !Refusal(n.vow).Allows(int64(e)) {
			continue
		}
		next := *w
		s := &next.node[i]
		s.follow, s.log = e, n.log.common(leader.log)
		next.node[l].acks[i] = uint8(s.log.len())
		say(next, "%s follows %s of epoch %d", member(i), member(int(l)), e)
	}
	if n.follow != 0 {
		l := w.leader[n.follow]
		leader := &w.node[l]
		if leader.prime == n.follow && n.log.len() < leader.log.len() {
			next := *w
			s := &next.node[i]
			s.log = leader.log.first(n.log.len() + 1)
			s.copied = n.copied && s.log != leader.log
			next.node[l].acks[i] = uint8(s.log.len())
			say(next, "%s flushes entry %d and confirms it", member(i), s.log.len())
		}
		next := *w
		next.node[i].follow = 0
		say(next, "%s streams no more", member(i))
	}
	if m.wrong == refusalForgotten && n.vow != 0 {
		next := *w
		next.node[i].vow = 0
		say(next, "%s crashes and forgets what it refused", member(i))
	}
	if n.vow < w.epoch {
		// Between the refusal and the end of its WAL receiver it is as one that
		// has not refused yet, but for what a pledge needs.
		next := *w
		s := &next.node[i]
		s.vow = w.epoch
		if m.wrong != receiverStays {
			s.follow = 0
		}
		say(next, "%s refuses epoch %d", member(i), w.epoch)
	}
	if n.vow != 0 {
		m.pledge(w, i, say)
	}
	if int(w.epoch) < m.epochs {
		m.elect(w, i, say)
	}
}

// pledge publishes the pledge that the node's own facts allow.
func (m *model) pledge(w *world, i int, say func(world, string, ...any)) {
	n := &w.node[i]
	f := Fence{Member: member(i), Refusal: Refusal(n.vow), Durable: 1, Cleared: 2, Gone: 3, Read: 4, At: n.log.position(), Whole: !n.copied || m.wrong == copyPledges}
	if n.follow != 0 && m.wrong != receiverStays {
		f.Gone = 0
	}
	if _, missing := Promise(f); missing != "" || n.pledged > n.vow || n.pledged == n.vow && n.pledge == n.log {
		return
	}
	next := *w
	next.node[i].pledged, next.node[i].pledge = n.vow, n.log
	say(next, "%s pledges for epoch %d at %d entries", member(i), n.vow, n.log.len())
}

// elect is a candidate.
func (m *model) elect(w *world, i int, say func(world, string, ...any)) {
	n := &w.node[i]
	sync, epoch := w.sync, w.epoch
	if m.wrong == syncNotCompared || m.wrong == epochNotCompared {
		if n.read != w.sync || n.readEpoch != w.epoch {
			next := *w
			next.node[i].read, next.node[i].readEpoch = w.sync, w.epoch
			say(next, "%s reads %v of epoch %d", member(i), w.sync.sync(), w.epoch)
		}
		sync, epoch = n.read, n.readEpoch
		if epoch == 0 || m.wrong == syncNotCompared && epoch != w.epoch || m.wrong == epochNotCompared && epoch == w.epoch && sync != w.sync {
			return
		}
	}
	b := Ballot{
		Self: member(i), Mode: cluster.SyncQuorum, Epoch: int64(epoch), Leader: member(int(w.leader[epoch])), Timeline: pg.Timeline(epoch),
		Sync: sync.sync(), Whole: !n.copied || m.wrong == copyPledges, At: n.log.position(),
	}
	switch m.wrong {
	case quorumWithoutOne:
		b.Sync.Quorum--
	case behindPromoted:
		b.At = Position{Timeline: pg.Timeline(epoch), LSN: 15}
	}
	for j := range m.nodes {
		if p := &w.node[j]; p.pledged != 0 {
			stored := cluster.Pledge{Member: member(j), Epoch: int64(p.pledged), Timeline: p.pledge.position().Timeline, LSN: p.pledge.position().LSN, Fenced: true}
			read, _ := Stored(stored)
			b.Pledges = append(b.Pledges, read)
		}
	}
	switch act := Elect(b).Act.(type) {
	case Fetch:
		from := &w.node[act.From[0]-'a']
		if from.prime == 0 && from.follow == 0 && from.pledged == w.epoch && n.follow == 0 && n.log != from.log && n.log.prefix(from.log) && !from.copied {
			m.seen.fetched++
			next := *w
			next.node[i].log = from.log
			say(next, "%s fetches from %s up to %d entries", member(i), act.From, from.log.len())
		}
	case Take:
		if n.follow != 0 && m.wrong != receiverStays {
			return
		}
		if i == int(w.leader[epoch]) {
			m.seen.returned++
		}
		m.seen.taken++
		next := *w
		next.epoch++
		value, _ := cluster.ParseSync([]byte(act.Sync))
		if m.wrong == quorumWithoutOne {
			value, _ = Succeed(sync.sync(), member(i))
		}
		next.put(keyOf(value))
		for j := range next.node {
			if m.wrong != epochNotCompared {
				next.node[j].pledged, next.node[j].pledge = 0, 0 // they count no more
			}
		}
		c := &next.node[i]
		begin := act.Begin()
		c.follow, c.prime, c.view = 0, next.epoch, next.sync
		c.rule, c.wrote, c.known = ruleOf(begin.Rule), ruleOf(begin.Written), ruleOf(begin.Rule)
		switch m.wrong {
		case quorumWithoutOne:
			c.rule.n = uint8(bits.OnesCount8(next.sync.voters)) - next.sync.quorum
			c.wrote, c.known = c.rule, c.rule
		case quorumReset:
			next.sync.quorum = 0
			c.view = next.sync
		case settingLate:
			c.rule = rule{}
		}
		next.leader[next.epoch], next.began[next.epoch] = uint8(i), n.log
		say(next, "%s takes the key over epoch %d, /sync is %v, it begins with %q", member(i), epoch, next.sync.sync(), act.Names)
	}
}

// broken says which promise the world breaks, if any.
func (m *model) broken(w *world) string {
	for e := uint8(1); e <= w.epoch; e++ {
		for later := e + 1; later <= w.epoch; later++ {
			for x := w.began[e].len(); x < int(w.acked[e]); x++ {
				if w.began[later].at(x) != e {
					return fmt.Sprintf("entry %d, acknowledged in epoch %d, is not in the log with which %s took epoch %d", x+1, e, member(int(w.leader[later])), later)
				}
			}
		}
	}
	if n := &w.node[w.leader[w.epoch]]; m.wrong == right && n.prime == w.epoch && !w.sync.covers(n.rule) {
		return fmt.Sprintf("/sync %v does not cover %q", w.sync.sync(), n.rule.names())
	}
	return ""
}

func (m *model) begin() world {
	w := world{epoch: 1}
	all := uint8(1<<m.nodes - 1)
	for i := range m.nodes {
		w.node[i] = node{log: 1, follow: 1}
	}
	a := &w.node[0]
	a.follow, a.prime, a.writes = 0, 1, true
	a.rule, a.wrote, a.known = m.start, m.start, m.start
	if m.start.n > 0 {
		w.sync = key{voters: all &^ 1, quorum: uint8(m.nodes-1) - m.start.n}
	}
	a.view = w.sync
	w.began[1] = 0
	w.acked[1] = 1
	for i := 1; i < m.nodes; i++ {
		a.acks[i] = 1
	}
	return w
}

// canonical is the world with its members renamed in an order that their own
// state gives: two worlds that differ in names alone are one. What Next, Promise
// and Elect decide does not depend on names (they order what is equal, no more).
func (m *model) canonical(w *world) world {
	var sign [most]uint64
	for i := range m.nodes {
		n := &w.node[i]
		s := uint64(n.log)<<40 | uint64(n.vow)<<37 | uint64(n.follow)<<34 | uint64(n.prime)<<31 | uint64(n.pledged)<<28 | uint64(n.pledge)<<8
		if n.copied {
			s |= 1
		}
		if n.writes {
			s |= 2
		}
		if w.sync.voters>>i&1 != 0 {
			s |= 4
		}
		if int(w.sync.leader) == i {
			s |= 8
		}
		for e := uint8(1); e <= w.epoch; e++ {
			l := &w.node[w.leader[e]]
			s = s*31 + uint64(l.acks[i])*7 + uint64(l.rule.of>>i&1)<<3 + uint64(l.wrote.of>>i&1)<<4 + uint64(l.view.voters>>i&1)<<5 + uint64(l.flying.voters>>i&1)<<6
			if int(w.leader[e]) == i {
				s += 1009
			}
		}
		sign[i] = s
	}
	order := [most]int{0, 1, 2, 3, 4, 5}
	slices.SortStableFunc(order[:m.nodes], func(a, b int) int { return cmp.Compare(sign[a], sign[b]) })
	var to [most]int
	for at, i := range order {
		to[i] = at
	}
	rename := func(m uint8) uint8 {
		out := m & (1 << nobodyAt)
		for i, at := range to {
			out |= m >> i & 1 << at
		}
		return out
	}
	out := *w
	name := func(k *key) { k.leader, k.voters = uint8(to[k.leader]), rename(k.voters) }
	for e := uint8(1); e <= w.epoch; e++ {
		out.leader[e] = uint8(to[w.leader[e]])
	}
	name(&out.sync)
	for i := range m.nodes {
		n := w.node[i]
		n.rule.of, n.wrote.of, n.known.of = rename(n.rule.of), rename(n.wrote.of), rename(n.known.of)
		for _, k := range []*key{&n.view, &n.flying, &n.read} {
			if *k != (key{}) {
				name(k)
			}
		}
		acks := n.acks
		for j := range m.nodes {
			n.acks[to[j]] = acks[j]
		}
		out.node[to[i]] = n
	}
	return out
}

// search visits every world that can be reached, nearest first, but no more than
// limit, and tells the story of the first that is broken.
func (m *model) search(limit int) (worlds int, complete bool, story []string) {
	m.steps = map[stepKey]stepValue{}
	seed := maphash.MakeSeed()
	name := func(w *world) uint64 {
		c := m.canonical(w)
		return maphash.Comparable(seed, c)
	}
	first := m.begin()
	from := map[uint64]uint64{name(&first): 0} // who was reached from whom, by their hashes
	why, bad := "", uint64(0)
	for at := []world{first}; len(at) > 0 && why == ""; {
		var ahead []world
		for i := range at {
			if len(from) >= limit || why != "" {
				break
			}
			here := name(&at[i])
			m.successors(&at[i], func(next world, _ string) {
				h := name(&next)
				if _, was := from[h]; was || why != "" {
					return
				}
				from[h] = here
				if why = m.broken(&next); why != "" {
					bad = h
				}
				ahead = append(ahead, next)
			})
		}
		if len(from) >= limit && why == "" {
			return len(from), false, nil
		}
		at = ahead
	}
	if why == "" {
		return len(from), true, nil
	}
	var path []uint64
	for h := bad; from[h] != 0; h = from[h] {
		path = append(path, h)
	}
	m.told = true
	w := first
	for _, h := range slices.Backward(path) {
		var then world
		event := ""
		m.successors(&w, func(next world, text string) {
			if event == "" && name(&next) == h {
				then, event = next, text
			}
		})
		w, story = then, append(story, event)
	}
	return len(from), true, append(story, why)
}

func tell(story []string) string {
	var b strings.Builder
	for i, s := range story {
		fmt.Fprintf(&b, "\n%3d %s", i+1, s)
	}
	return b.String()
}

// No world that the bounds allow breaks a promise. NIGHTLY raises the bounds;
// what is complete within them must stay so, and everything must happen in it.
func TestModel(t *testing.T) {
	half := func(of uint8) rule { return rule{uint8(Half(bits.OnesCount8(of) + 1)), of} }
	for _, tt := range []struct {
		name     string
		m        model
		limit    int // worlds; 0: only nightly
		nightly  int // worlds; 0: complete within limit
		happened func(model) bool
	}{
		{
			"3 nodes, a failover, more, fewer and no acknowledgements",
			model{nodes: 3, epochs: 2, log: 2, start: half(6), wants: []rule{{1, 2}, {2, 6}, {}}},
			700_000, 0,
			func(m model) bool {
				return min(m.seen.taken, m.seen.acknowledged, m.seen.published, m.seen.late, m.seen.proven, m.seen.fetched, m.seen.returned) > 0
			},
		},
		{"3 nodes, a failover, every setting", model{nodes: 3, epochs: 2, log: 2, start: half(6), wants: wants(3)}, 0, 1_200_000, nil},
		{"3 nodes, a failover, every setting, none at first", model{nodes: 3, epochs: 2, log: 2, wants: wants(3)}, 0, 1_200_000, nil},
		{"3 nodes, two commits, a failover, every setting", model{nodes: 3, epochs: 2, log: 3, start: half(6), wants: wants(3)}, 0, 3_000_000, nil},
		{
			"3 nodes, two failovers",
			model{nodes: 3, epochs: 3, log: 2, start: half(6)},
			250_000, 0,
			func(m model) bool { return min(m.seen.promoted, m.seen.returned, m.seen.fetched) > 0 },
		},
		{"3 nodes, two failovers, two commits", model{nodes: 3, epochs: 3, log: 3, start: half(6)}, 0, 3_000_000, nil},
		{
			"3 nodes, a failover, disks lost",
			model{nodes: 3, epochs: 2, log: 2, start: half(6), losses: true},
			150_000, 0,
			func(m model) bool { return m.seen.taken > 0 },
		},
		{"3 nodes, two failovers, disks lost", model{nodes: 3, epochs: 3, log: 2, start: half(6), losses: true}, 0, 2_000_000, nil},
		{"3 voters, a failover", model{nodes: 4, epochs: 2, log: 2, start: half(14)}, 300_000, 0, nil},
		{"3 voters, a failover, settings", model{nodes: 4, epochs: 2, log: 2, start: half(14), wants: []rule{half(14), {2, 6}, {1, 2}, {}}}, 0, 2_000_000, nil},
		{"5 nodes, a failover", model{nodes: 5, epochs: 2, log: 2, start: half(30)}, 50_000, 2_000_000, nil},
		{"5 voters, a failover", model{nodes: 6, epochs: 2, log: 2, start: half(62)}, 50_000, 2_000_000, nil},
		{"5 voters, a failover, settings", model{nodes: 6, epochs: 2, log: 2, start: half(62), wants: []rule{half(62), {2, 14}}}, 50_000, 2_000_000, nil},
	} {
		limit := tt.limit
		if os.Getenv("NIGHTLY") != "" {
			limit = max(limit, tt.nightly)
		}
		if limit == 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			n, complete, story := tt.m.search(limit)
			t.Logf("%d worlds, complete: %t, in %s, events %+v", n, complete, time.Since(began).Round(time.Millisecond), tt.m.seen)
			switch {
			case story != nil:
				t.Error(tell(story))
			case tt.nightly == 0 && !complete:
				t.Errorf("not complete within %d worlds", limit)
			case tt.happened != nil && !tt.happened(tt.m):
				t.Error("something never happened")
			}
		})
	}
}

// Each way to be wrong loses a commit that was acknowledged; the log tells how.
func TestMutants(t *testing.T) {
	for wrong := settingShrinksFirst; wrong <= settingLate; wrong++ {
		t.Run(mutants[wrong], func(t *testing.T) {
			t.Parallel()
			m := &model{nodes: 3, epochs: 2, log: 2, start: rule{1, 6}, wants: wants(3), wrong: wrong}
			switch wrong {
			case quorumReset, epochNotCompared, settingLate:
				m.epochs, m.wants = 3, nil
			case syncNotCompared:
				m.wants = []rule{{}}
			case copyPledges:
				m.losses = true
			}
			n, _, story := m.search(400_000)
			t.Logf("%d worlds%s", n, tell(story))
			if story == nil {
				t.Error("not found")
			}
		})
	}
}

// wants are all settings that a leader of n members may want.
func wants(n int) []rule {
	all := []rule{{}}
	for of := uint8(1); of < 1<<n; of++ {
		for k := 1; k <= bits.OnesCount8(of) && bits.OnesCount8(of) < n; k++ {
			all = append(all, rule{uint8(k), of})
		}
	}
	return all
}
