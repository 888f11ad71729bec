package ha

import (
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// Permanent slots are those of the section slots of the dynamic configuration: there
// whoever leads, so that who reads from one goes on where it was after a change of leader.
//
// The leader makes them, and publishes with its own position where each is. A standby
// has a physical one like the leader's, and moves it on. A logical one the server brings
// to its standbys by itself from 17 on. Before that it is copied as a file, with which
// the server has to start anew, and is moved on from then; a copy lacks nothing from the
// moment on at which the leader is seen to keep every row of the catalogs that it may
// ask for (safe). Rules follow Patroni's (slots.py).

// adoptAfter is the pause before a standby stops for the sake of a slot, and
// adoptRank how long each waits for the one before it: commits may wait for them.
const (
	adoptAfter = time.Second
	adoptRank  = 3 * time.Second
	adoptAgain = time.Minute // from one slot that turned out to be of no use to the next copy
	unsafeFor  = time.Minute // a copy is not safe at once; after this a person is told
)

// Copies are the copies of logical slots on a standby, as they were found to be.
type Copies struct {
	Of      Streamed      // the leader, and the start of this server, that it counts for
	Since   time.Duration // of these
	Lacking time.Duration // since when one is missing
	Last    time.Duration // when some were last brought here
	Pause   time.Duration // none is moved before, for the last try failed
	Stuck   string        // one that could not be moved on: it is copied anew
	Slots   []Copy
}

// A Copy is one of them.
type Copy struct {
	Name string
	Need uint32 // what the leader's own slot held back when the leader was first seen to hold rows back for us
	Safe bool
}

// lasting are permanent slots as they were read. sure is false where what the
// configuration says can not be read, or not all of it: then none is dropped.
type lasting struct {
	slots []cluster.PermanentSlot
	sure  bool
}

// permanent are the permanent slots of this member.
func (t *turn) permanent() (all []cluster.PermanentSlot, sure bool) {
	if t.lasting == nil {
		all, sure = t.configured()
		t.lasting = &lasting{all, sure}
	}
	return t.lasting.slots, t.lasting.sure
}

// configured reads them, and tells of those that can not be kept.
func (t *turn) configured() (all []cluster.PermanentSlot, sure bool) {
	c := &t.State.Config
	if !t.Known || t.State.Unknown(cluster.KeyConfig) || c.Data == nil {
		return nil, false
	}
	said, err := c.PermanentSlots()
	if len(said) == 0 && err == nil {
		return nil, true // as nearly always
	}
	if err != nil {
		t.untuned(problem.Error{
			Code: "slot-refused", What: "not all permanent slots can be kept", Why: strings.ReplaceAll(err.Error(), "\n", "; "),
			Do: "correct them under slots (`howdah edit-config`); the others are kept, and none is dropped meanwhile",
		})
	}
	follows := t.State.Standby()
	for _, p := range said {
		switch {
		case p.Of == "primary" && follows, p.Of == "standby" && !follows, p.Logical && follows:
		case t.ignored(p.Name, p.Kind(), p.Database, p.Plugin):
		case p.Name == cluster.SlotName(t.Self.Name) && !p.Logical: // Patroni: who reads it is this member
		case t.another(p):
			t.untuned(problem.Error{
				Code: "slot-refused", What: "the " + p.Kind() + " slot " + p.Name + " is not kept", Why: "a slot of the other kind has that name",
				Do: "drop that (`SELECT pg_drop_replication_slot('" + p.Name + "')`), or give this another name under slots (`howdah edit-config`)",
			})
		case p.Logical && slices.ContainsFunc(t.State.Names(), func(m string) bool { return cluster.SlotName(m) == p.Name }):
			t.untuned(problem.Error{
				Code: "slot-refused", What: "the logical slot " + p.Name + " is not kept", Why: "a member has the physical slot of that name",
				Do: "give it another name under slots (`howdah edit-config`)",
			})
		default:
			all = append(all, p)
		}
	}
	return all, err == nil
}

// another says that a slot of the other kind is here by that name.
func (t *turn) another(p cluster.PermanentSlot) bool {
	h, here := t.held(p.Name)
	return here && h.Logical != p.Logical
}

// ignored says that the configuration leaves a slot to its owner.
func (t *turn) ignored(name, kind, database, plugin string) bool {
	list, err := t.State.Config.IgnoredSlots()
	return err != nil || slices.ContainsFunc(list, func(m cluster.SlotMatcher) bool { return m.Matches(name, kind, database, plugin) })
}

func (t *turn) ignores(s pg.Slot) bool { return t.ignored(s.Name, s.Kind(), s.Database, s.Plugin) }

// physical are the names of the permanent physical slots.
func (t *turn) physical() (names []string, sure bool) {
	all, sure := t.permanent()
	for _, p := range all {
		if !p.Logical {
			names = append(names, p.Name)
		}
	}
	return names, sure
}

// kept are slots here that no member has and that stay nevertheless: permanent ones, those
// that are left to their owner, and all while it can not be told.
func (t *turn) kept() []string {
	names, sure := t.physical()
	for _, h := range t.Server.Held {
		if !h.Logical && !slices.Contains(names, h.Name) && (!sure || t.ignores(h)) {
			names = append(names, h.Name)
		}
	}
	return names
}

// held is a slot that is here.
func (t *turn) held(name string) (pg.Slot, bool) {
	i := slices.IndexFunc(t.Server.Held, func(s pg.Slot) bool { return s.Name == name })
	if i < 0 {
		return pg.Slot{}, false
	}
	return t.Server.Held[i], true
}

// unlike says that a slot that is here is not the one that is meant.
func unlike(h pg.Slot, p cluster.PermanentSlot) bool {
	return h.Logical && (h.Database != p.Database || h.Plugin != p.Plugin)
}

// discarded are logical slots that this node made, or brought here, and that nobody wants any more.
func (t *turn) discarded(all []cluster.PermanentSlot, sure bool) (names []string) {
	for _, name := range t.Server.Ours {
		h, here := t.held(name)
		wanted := slices.ContainsFunc(all, func(p cluster.PermanentSlot) bool { return p.Logical && p.Name == name })
		if sure && here && h.Logical && !h.Active && !wanted && !t.ignores(h) {
			names = append(names, name)
		}
	}
	return names
}

// logical keeps the permanent logical slots of a primary. It says whether that is work on the server.
func (t *turn) logical() bool {
	all, sure := t.permanent()
	drop := t.discarded(all, sure)
	var want []pg.Slot
	for _, p := range all {
		if !p.Logical {
			continue
		}
		h, here := t.held(p.Name)
		switch {
		case here && unlike(h, p):
			if drop = append(drop, p.Name); h.Active {
				continue // it can not go while somebody reads from it
			}
		case here && h.Lost:
			// Made anew it would go on as if nothing were missing.
			t.problems = append(t.problems, problem.Error{
				Code: "slot-lost", What: "nobody can read on from the logical slot " + p.Name,
				Why: "the server gave up the log that it needs (max_slot_wal_keep_size)",
				Do:  "drop it (`SELECT pg_drop_replication_slot('" + p.Name + "')`), it is made anew at once; then have its reader begin anew, for it lacks what came meanwhile",
			})
			continue
		case here && slices.Contains(t.Server.Ours, p.Name) && (h.Failover || t.Server.Major < pg.SyncsSlots):
			continue
		}
		want = append(want, pg.Slot{Name: p.Name, Logical: true, Database: p.Database, Plugin: p.Plugin})
	}
	if len(want) == 0 && len(drop) == 0 {
		return false
	}
	a := Logical{Want: pg.ListSlots(want), Drop: strings.Join(drop, ",")}
	if t.failing(a) {
		return false
	}
	t.note("slots=logical")
	t.work(a)
	return true
}

// forLogical are the parameters without which no logical slot can be kept on a standby.
func (t *turn) forLogical(parameters map[string]string) {
	if !t.State.LogicalSlots() {
		return
	}
	parameters["hot_standby_feedback"] = "on"
	if t.Server.Major >= pg.SyncsSlots {
		parameters["sync_replication_slots"] = "on"
	}
}

// standing keeps the permanent slots of a standby that streams. It says whether that
// is work on the server.
func (t *turn) standing() bool {
	all, sure := t.permanent()
	s, m := &t.Server, &t.m.Copies
	if len(all) == 0 && len(s.Ours) == 0 && len(s.Held) == len(s.Slots) {
		*m = Copies{}
		return false // as nearly always
	}
	if now := (Streamed{t.State.Leader.Mod, s.PID}); m.Of != now {
		*m = Copies{Of: now, Since: t.Now, Last: m.Last, Stuck: m.Stuck, Pause: m.Pause}
	}
	said := t.State.Status.Slots
	fresh := t.State.Status.Epoch == t.State.Leader.Mod // else they are positions on another timeline, perhaps
	copies := s.Major < pg.SyncsSlots && !t.tags(t.seen()).NoFailover() && t.sourceOf(t.Self.Name, t.tags(t.seen())) == ""
	drop := t.discarded(all, sure)
	var move []pg.Slot
	var lacking []string
	for _, p := range all {
		h, here := t.held(p.Name)
		lsn, led := said[p.Name]
		if p.Logical && (!copies || !led) {
			continue
		}
		to := min(lsn, s.Replayed)
		switch {
		case here && unlike(h, p):
			drop = append(drop, p.Name)
		case p.Logical && (!here || h.Lost || m.Stuck == p.Name):
			lacking = append(lacking, p.Name)
		case here && h.Logical == p.Logical && !h.Active && fresh && led && h.At != 0 && to > h.At:
			move = append(move, pg.Slot{Name: p.Name, Logical: p.Logical, Database: p.Database, At: to})
		}
	}
	for _, h := range s.Held {
		if !h.Logical || h.Active || h.Synced || t.ignores(h) {
			continue
		}
		wanted := slices.ContainsFunc(all, func(p cluster.PermanentSlot) bool { return p.Name == h.Name })
		switch {
		case s.Major >= pg.SyncsSlots && (h.Failover || wanted) && !slices.Contains(drop, h.Name):
			drop = append(drop, h.Name) // from when this server led: the leader's takes its place
		case s.Version > 0 && s.Version < 160000 && !wanted && sure && !slices.Contains(drop, h.Name):
			t.problems = append(t.problems, problem.Error{
				Code: "slot-forgotten", What: "the logical slot " + h.Name + " of " + t.Self.Name + " holds its log for nobody",
				Why: "it is from when this member led, and of a standby nobody can read",
				Do:  "drop it (`SELECT pg_drop_replication_slot('" + h.Name + "')` on that member), name it under slots (`howdah edit-config`) if it is to be kept wherever the leader is, or under ignore_slots if it is to stay",
			})
		}
	}
	t.safe(all)
	switch {
	case len(drop) > 0 && !t.failing(Logical{Drop: strings.Join(drop, ",")}):
		t.note("slots=old")
		t.work(Logical{Drop: strings.Join(drop, ",")})
		return true
	case len(move) > 0 && !t.Moving && t.Now >= m.Pause:
		t.note("slots=behind")
		t.do(Advance{Slots: pg.ListSlots(move)}) // beside all work: nothing that is urgent waits for it
	}
	return t.adopt(lacking)
}

// moved takes in the end of an Advance.
func (t *turn) moved(e Ended) {
	m := &t.m.Copies
	if e.Err != "" {
		m.Pause = t.Now + 10*time.Second
	}
	if e.Slot != "" {
		m.Stuck = e.Slot
	}
}

// adopt brings logical slots here that the leader has. For that this server stops, so
// one standby at a time does it, and only while all others stream.
func (t *turn) adopt(names []string) bool {
	m := &t.m.Copies
	if len(names) == 0 {
		m.Lacking = 0
		return false
	}
	t.note("slots=lacking")
	if m.Lacking == 0 {
		m.Lacking = t.Now
	}
	leader, rank := t.State.LeaderName(), time.Duration(0)
	for i := range t.State.Members {
		o := &t.State.Members[i]
		if o.Name == t.Self.Name || o.Name == leader {
			continue
		}
		if o.Name < t.Self.Name {
			rank++
		}
		if o.ReplicationState != cluster.ReplicationStreaming {
			t.note("slots=await(%s)", o.Name)
			return false
		}
	}
	due := m.Lacking + adoptAfter + rank*adoptRank
	if m.Last > 0 {
		due = max(due, m.Last+adoptAgain)
	}
	if t.Now < due {
		t.wakeBy(due)
		return false
	}
	up, ready := t.upstream()
	a := Adopt{From: up, Names: strings.Join(names, ",")}
	if !ready || t.failing(a) {
		return false
	}
	t.work(a)
	return true
}

// safe finds which logical slots would lose nothing, were this standby promoted now, and
// tells of those that would.
//
// A copy asks for rows of the catalogs from its catalog_xmin on. The leader keeps them
// for us once our own physical slot there holds them back, which hot_standby_feedback has
// it do; of those before, it kept what its own logical slot held back at that time (Need).
// So a copy is safe once ours there has passed Need, and the copy is not before ours there.
func (t *turn) safe(all []cluster.PermanentSlot) {
	s, m := &t.Server, &t.m.Copies
	st := &t.State.Status
	here := uint32(0)
	if st.Epoch == t.State.Leader.Mod {
		here = st.Xmins[cluster.SlotName(t.Self.Name)]
	}
	var next []Copy
	var unsafe []string
	for _, p := range all {
		if _, led := st.Slots[p.Name]; !p.Logical || !led || t.tags(t.seen()).NoFailover() {
			continue
		}
		c := Copy{Name: p.Name}
		if i := slices.IndexFunc(m.Slots, func(c Copy) bool { return c.Name == p.Name }); i >= 0 {
			c = m.Slots[i]
		}
		h, there := t.held(p.Name)
		there = there && h.Logical && !h.Lost && !unlike(h, p) && m.Stuck != p.Name
		switch {
		case s.Major >= pg.SyncsSlots:
			c.Safe = there && h.Synced
		case !there:
			c = Copy{Name: p.Name}
		case c.Safe || here == 0 || h.Xmin == 0:
		case c.Need == 0:
			c.Need = st.Xmins[p.Name]
			fallthrough
		default:
			c.Safe = c.Need != 0 && !before(here, c.Need) && !before(h.Xmin, here)
		}
		if next = append(next, c); !c.Safe {
			unsafe = append(unsafe, p.Name)
		}
	}
	m.Slots = next
	if len(unsafe) == 0 {
		return
	}
	t.note("slots=unsafe(%s)", strings.Join(unsafe, ","))
	if t.Now < m.Since+unsafeFor {
		t.wakeBy(m.Since + unsafeFor)
		return
	}
	t.problems = append(t.problems, problem.Error{
		Code: "slot-unsafe", What: "the logical slot " + strings.Join(unsafe, ", ") + " would lose changes if " + t.Self.Name + " were promoted",
		Why: "its copy there is missing, or may lack what its reader has not fetched yet",
		Do:  "see that its reader is connected and goes on: the copy becomes safe by itself then. `howdah why` says what it waits for. Switch over to another member meanwhile",
	})
}

// before says that one transaction id comes before another (transam.c, TransactionIdPrecedes).
func before(a, b uint32) bool { return int32(a-b) < 0 }

// unsafe are the logical slots that would lose changes if this standby were promoted.
func (t *turn) unsafe() (names []string) {
	for _, c := range t.m.Copies.Slots {
		if !c.Safe {
			names = append(names, c.Name)
		}
	}
	return names
}

// away is since when a member has not shown itself.
type away struct {
	Name  string
	Since time.Duration
}

// slotTTL is how long the slot of a member that is away is kept. Not for long while
// room is short: log that is kept for somebody is what fills a disk most.
func (t *turn) slotTTL() (ttl time.Duration, limited bool) {
	ttl, limited = t.State.Config.MemberSlotsTTL()
	if t.m.Disk.Mark >= diskLow && t.guarded() == cluster.DiskAct && (!limited || ttl > shortTTL) {
		return shortTTL, true
	}
	return ttl, limited
}

// shortTTL is what a member that restarts needs.
const shortTTL = time.Minute

// gone keeps since when each recorded member is away, for as long as this node leads. With
// member_slots_ttl the slot of one that is away for longer goes, and what it held.
func (t *turn) gone() {
	if _, limited := t.slotTTL(); !limited {
		t.m.Away = nil
		return
	}
	var now []away
	for _, r := range t.State.Recorded {
		if _, live := t.State.Member(r.Name); live || r.Name == t.Self.Name {
			continue
		}
		a := away{r.Name, t.Now}
		if i := slices.IndexFunc(t.m.Away, func(a away) bool { return a.Name == r.Name }); i >= 0 {
			a = t.m.Away[i]
		}
		now = append(now, a)
	}
	t.m.Away = now
}

// expired says that no slot is kept for a member, which has been away for too long.
func (t *turn) expired(name string) bool {
	ttl, limited := t.slotTTL()
	i := slices.IndexFunc(t.m.Away, func(a away) bool { return a.Name == name })
	if !limited || i < 0 {
		return false
	}
	over := t.m.Away[i].Since + ttl
	if t.Now < over {
		t.wakeBy(over)
		return false
	}
	return true
}

// positions adds to the leader's status where the permanent slots are.
func (t *turn) positions(st *cluster.Status) {
	st.RetainSlots = nil
	for _, a := range t.m.Away {
		if slot := cluster.SlotName(a.Name); slices.Contains(t.Server.Slots, slot) {
			st.RetainSlots = append(st.RetainSlots, slot)
		}
	}
	slices.Sort(st.RetainSlots)
	all, _ := t.permanent()
	if len(all) == 0 {
		return
	}
	st.Epoch = t.m.Right.Epoch
	logical := false
	for _, p := range all {
		if h, here := t.held(p.Name); here && h.At != 0 && h.Logical == p.Logical {
			st.Slots[p.Name] = h.At
			logical = logical || p.Logical
		}
	}
	if !logical {
		return
	}
	st.Xmins = map[string]uint32{}
	for _, h := range t.Server.Held {
		if h.Xmin != 0 {
			st.Xmins[h.Name] = h.Xmin
		}
	}
}
