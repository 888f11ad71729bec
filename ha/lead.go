package ha

import (
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// lead is the turn of the node whose name the leader key carries.
func (t *turn) lead() {
	if !t.leading() {
		// The renewal that confirms it is under way or due; the fence watches the rest.
		t.note("leader=self(unconfirmed)")
		t.lookBy(t.ServerAt + soon)
		return
	}
	t.note("leader=self")
	if t.standbyCluster() {
		t.leadStandby()
		return
	}
	t.m.Rejoin, t.m.Vacancy = Rejoin{}, Vacancy{}
	t.m.Reinit = Reinit{} // a leader has nobody to copy from
	s := &t.Server
	if s.Process != pg.ProcessFrozen && t.turns() {
		return
	}
	switch s.Process {
	case pg.ProcessFrozen:
		t.thaw()
	case pg.ProcessNone:
		t.m.Replicas = lastSeen(t.m.Replicas, s.Replicas)
		t.leadDown()
	case pg.ProcessStopping:
		t.note("server=stopping")
		t.lookBy(t.ServerAt + soon)
	case pg.ProcessStarting:
		t.started()
	case pg.ProcessRunning:
		switch {
		case !s.Answers:
			t.silent()
		case s.Recovering:
			t.note("server=standby")
			if t.unwatched() {
				t.work(Stop{}) // and give the key up: whoever has one may lead
				return
			}
			if !t.unsure() && t.ready() && t.room() {
				if names := t.unsafe(); len(names) > 0 {
					t.note("slots=unsafe(%s)", strings.Join(names, ",")) // their readers may miss something from here on
				}
				t.work(t.promotion())
			}
		default:
			t.leadPrimary()
		}
	}
}

// promotion is to the timeline that was reserved with the key. The answer to who
// took it comes before the watch tells of it, perhaps.
func (t *turn) promotion() Promote {
	if t.m.Taken == t.m.Right.Epoch { // else it was learned from the store
		return Promote{Timeline: t.m.Reserved}
	}
	if term := t.State.Term; term != nil && term.Leader == t.Self.Name {
		return Promote{Timeline: term.Reserved}
	}
	return Promote{}
}

// termOf is the term that begins with the taking of a key.
func termOf(a Action) cluster.Term {
	var text string
	switch a := a.(type) {
	case Acquire:
		text = a.Term
	case Take:
		text = a.Term
	case Retake:
		text = a.Term
	case Revert:
		text = a.Term
	case Lift:
		text = a.Term
	case Subject:
		text = a.Term
	case Open:
		text = a.Term
	}
	term, err := cluster.ParseTerm([]byte(text))
	if err != nil {
		return cluster.Term{}
	}
	return term
}

// thaw lets a frozen server go on if nobody else may have written since: the
// key is ours, and taken over the very epoch under which the server last wrote.
func (t *turn) thaw() {
	epoch := t.m.Right.Epoch
	term := t.State.Term
	switch {
	case t.m.Under == epoch, t.m.Under != 0 && term != nil && term.Mod == epoch && term.Over == t.m.Under:
		t.note("fence=over")
		t.do(Thaw{})
	case t.State.Revision < epoch:
		t.note("fence=unsure") // our own taking of the key is not in the snapshot yet
	default:
		t.note("fence=foreign")
		t.work(Kill{})
	}
	t.lookBy(t.ServerAt + soon)
}

// leadPrimary is the steady state: the server writes, and the cluster follows.
func (t *turn) leadPrimary() {
	t.note("server=primary")
	s := &t.Server
	t.m.Replicas = s.Replicas
	t.m.Crash = Crash{}
	if !s.Shut {
		t.told()
	}
	t.restored()
	switch {
	case t.jammed():
	case t.shutOut():
	case t.withdraw(): // before a switchover, whose own offer is still to come: one that was refused begins anew
	case t.switchover():
	case t.undrain():
	case t.admit():
	case t.asked():
	case t.lower():
	case t.relieved():
	case t.doubted():
	case t.synchronize():
	case t.synchronous() && t.slots(): // before a checkpoint, which may take long: commits wait for standbys
	case s.Control.Timeline != s.Timeline && !t.settling():
		// Until then pg_rewind would read the old timeline here.
		t.note("checkpoint=due")
		t.work(Checkpoint{})
	case t.slots():
	case t.logical():
	case t.configure():
	}
	t.history()
	t.patient()
	t.undemoted()
}

// settling says that no standby confirms what this new primary writes yet. Until one
// does nothing is acknowledged, and all that can wait waits: disks are slow enough. Not
// for long: the only standby left may be one that is rewound first, after our checkpoint.
func (t *turn) settling() bool {
	s := &t.m.Story
	return s.Kind != "" && !s.reached(cluster.PhaseWrites) && t.synchronous() && (s.Served == 0 || t.Now < s.Served+settles)
}

// settles is what standbys that need nothing of a new primary but its log take to confirm.
const settles = time.Second

// slots keeps one physical slot for every other member of the cluster. One that this
// server had ready as a standby, and that nobody has come for, is made to hold the log.
func (t *turn) slots() bool {
	t.gone()
	kept, _ := t.physical()
	missing, settling := t.leftBehind(), t.settling()
	lacks := func(name string) bool {
		slot := cluster.SlotName(name)
		return name != t.Self.Name && (!slices.Contains(t.Server.Slots, slot) || !settling && slices.Contains(t.Server.Spare, slot)) && !t.elsewhere(name) && !t.expired(name)
	}
	for _, slot := range kept {
		missing = missing || !slices.Contains(t.Server.Slots, slot)
	}
	for _, m := range t.State.Members {
		missing = missing || lacks(m.Name)
	}
	for _, r := range t.State.Recorded {
		missing = missing || lacks(r.Name)
	}
	if !missing {
		return false // as nearly always: not worth a list
	}
	var want []string
	for _, name := range t.State.Names() {
		if name != t.Self.Name && !t.elsewhere(name) && !t.expired(name) {
			want = append(want, cluster.SlotName(name))
		}
	}
	want = append(want, t.kept()...)
	slices.Sort(want)
	want = slices.Compact(want)
	t.note("slots=missing")
	t.work(Slots{Names: strings.Join(want, ",")})
	return true
}

// leftBehind says that there are slots here of members that stream from another
// one now, or have left: nobody moves them, and they would hold the log for ever.
// Those that stay in spite of it (somebody else's) are not tried again.
func (t *turn) leftBehind() bool {
	left := t.orphans()
	for _, m := range t.State.Members {
		slot := cluster.SlotName(m.Name)
		here := slices.ContainsFunc(t.Server.Replicas, func(r pg.Replica) bool { return r.Name == m.Name })
		if m.Name != t.Self.Name && !here && slices.Contains(t.Server.Slots, slot) && t.elsewhere(m.Name) {
			left = append(left, slot)
		}
	}
	before := t.m.Left
	t.m.Left = strings.Join(left, ",")
	return t.m.Left != "" && t.m.Left != before
}

// orphans are the slots here that no member has.
func (t *turn) orphans() []string {
	if len(t.State.Problems) > 0 {
		return nil // a member may be there and not be read
	}
	var all []string
	kept := t.kept()
	for _, slot := range t.Server.Slots {
		has := slices.Contains(kept, slot) || slices.ContainsFunc(t.State.Recorded, func(r cluster.Recorded) bool {
			return cluster.SlotName(r.Name) == slot && !t.expired(r.Name)
		})
		for i := range t.State.Members { // large: not copied to be looked at
			has = has || cluster.SlotName(t.State.Members[i].Name) == slot
		}
		if !has {
			all = append(all, slot)
		}
	}
	return all
}

// lastSeen keeps the replicas as they were while the primary still answered.
func lastSeen(old, new []pg.Replica) []pg.Replica {
	if len(new) > 0 {
		return new
	}
	return old
}
