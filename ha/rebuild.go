package ha

import (
	"encoding/json"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
)

// rebuild is the turn of a member whose store lost everything, while the members
// that knew the cluster live.
//
// The story: the disks of etcd are gone, or its keys were removed, or it was put
// back to what it was some time ago (whoever does that takes away what says who
// leads). Nothing in it says any more that there is a leader, a term, a database
// system. But the servers run, and their agents remember what the store last said.
// So the last leader puts it back, in one transaction over the absence of all of it,
// under an epoch of its own: PostgreSQL goes on where it stood. It must be certain
// that nobody was elected after it before the store was lost, which is so when
//
//   - commits waited for standbys: of the voters so many say that its epoch is the
//     last that they heard of, and that they have pledged nothing against it, that
//     the rest could elect nobody (the same intersection as in ha/quorum);
//   - they did not: its lease, as the lost store had confirmed it, has not ended;
//   - or, in any case: every member that was on record says so.
//
// Everybody else waits, with the server left as it is. What nobody who lives can be
// certain of (the leader is gone too, or every agent was started anew) a person
// decides: `howdah failover --to`.
func (t *turn) rebuild() bool {
	if !t.anew() {
		return false
	}
	b, s := t.Before, &t.Server
	t.note("store=anew")
	epoch := max(b.Epoch(), t.m.Taken, t.m.Right.Epoch, t.m.Former.Epoch)
	own := cluster.Pledge{
		Member: t.Self.Name, Epoch: epoch, Timeline: max(s.Timeline, s.Control.Timeline), LSN: s.Flushed,
		NoFailover: true, Refused: s.Refused >= epoch || t.m.Fence.Refusal >= quorum.Refusal(epoch),
	}
	t.tell(own)
	if f := t.State.Failover; f.Leader == "" && f.Member != "" && f.ScheduledAt.IsZero() {
		if t.note("asked-for=%s", f.Member); f.Member == t.Self.Name {
			t.bootstrap()
		}
		return true
	}
	switch {
	case s.Control.System != b.Initialize.System:
		t.note("system=%s foreign(%s)", s.Control.System, b.Initialize.System)
		return true
	case b.Term == nil || b.Term.Leader != t.Self.Name || epoch != b.Epoch():
		t.note("awaits=%s", t.lastKnown())
		return true
	case s.Data != pg.DataPresent || t.Stopping:
		t.note("data=%s", s.Data)
		return true
	case !t.alone(own):
		return true
	case t.m.Lease.old(t.Now):
		t.note("lease=old")
		t.confirm()
		return true
	}
	term := t.reign(cluster.TermRetaken)
	term.Over = epoch
	t.ask(Open{
		Lease: t.m.Lease.ID, Claim: t.State.Initialize.Mod, System: s.Control.System,
		Config: b.Config.Encode(), Term: term.Encode(), Back: putBack(b, b.Sync),
	})
	return true
}

// putBack is what the store knew besides, and what must not be forgotten with it.
func putBack(b *cluster.State, sync cluster.Sync) string {
	back := map[string]string{}
	if sync.Active() {
		back[cluster.KeySync] = sync.Encode()
	}
	if b.Restore != nil {
		back[cluster.KeyRestore] = b.Restore.Encode()
	}
	if b.History != nil {
		back[cluster.KeyHistory] = b.History.Encode()
	}
	for _, r := range b.Recorded {
		back[cluster.DirRecorded+r.Name] = r.Encode()
	}
	for _, p := range b.Failovers {
		back[p.Key()] = p.Encode()
	}
	text, _ := json.Marshal(back) // of strings: it cannot fail
	return string(text)
}

// anew says that the store, which had a cluster in it when this agent last looked,
// has none.
func (t *turn) anew() bool {
	s := &t.State
	return t.Known && t.Before != nil && s.Leader == nil && s.Term == nil && s.Initialize.System == 0 && !s.Unknown(cluster.KeyInitialize)
}

// lastKnown is who led when the store was last seen.
func (t *turn) lastKnown() string {
	if b := t.Before; b.Term != nil {
		return b.Term.Leader
	}
	return "failover --to"
}

// tell lets the others know which epoch this member heard of last. It hangs on the
// member's lease: who is gone says nothing.
func (t *turn) tell(own cluster.Pledge) {
	seen, ok := t.State.Pledge(t.Self.Name)
	same := ok && seen.Epoch == own.Epoch && seen.Timeline == own.Timeline && seen.Refused == own.Refused
	if same || own.Epoch == 0 || t.m.Lease.ID == 0 || t.m.Lease.Sent == 0 || t.quiet() {
		return
	}
	t.do(Put{Key: cluster.DirPledges + t.Self.Name, Value: own.Encode(), Lease: t.m.Lease.ID, Over: -1})
}

// alone says that nobody can have been elected after this leader.
func (t *turn) alone(own cluster.Pledge) bool {
	b := t.Before
	voters, all := 0, true
	for _, name := range b.Names() {
		if name == t.Self.Name {
			continue
		}
		p, ok := t.State.Pledge(name)
		if !ok {
			t.note("awaits=%s", name)
			all = false
			continue
		}
		if p.Epoch > own.Epoch || p.Timeline > own.Timeline {
			t.note("later=%s(%d)", name, p.Epoch)
			return false
		}
		if b.Sync.Has(name) && !p.Refused {
			voters++
		}
	}
	switch {
	case all:
		t.note("heard=all")
		return true
	case !t.Server.MayWrite() || t.Server.Process == pg.ProcessNone:
		// It may have been shut down for another to lead, who took the key over the
		// offer, without a pledge and before its lease had ended.
		t.note("server=down")
		return false
	case b.Sync.Active() || b.Unknown(cluster.KeySync):
		// A change of /sync that was on its way may have counted others.
		if m := t.m.Sync; b.Unknown(cluster.KeySync) || m.Open && m.Over == b.Sync.Mod || b.Sync.Leader != t.Self.Name {
			t.note("sync=unsure")
			return false
		}
		t.note("voters=%d", voters)
		return voters > 0 && voters >= len(b.Sync.Standby)-b.Sync.Quorum
	}
	if t.leading() || t.Now < t.until(t.m.Former) {
		t.note("right=live")
		return true
	}
	return false
}

// until is when a right ends.
func (t *turn) until(r Right) time.Duration {
	if r.Epoch == 0 {
		return 0
	}
	return r.Sent + r.TTL - t.Timers.Margin
}
