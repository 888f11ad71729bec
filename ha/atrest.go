package ha

import "howdah/cluster"

// AtRest says that an agent which ended now would leave its successor nothing but
// what that one finds by itself: a server that nobody works on, no change of leader that
// is under way, and, on a leader, most of a lease.
//
// To end at another moment is safe, too (it is what a kill does); it costs time.
func AtRest(v *View, d *Decision) bool {
	m := &d.Memory
	switch {
	case v.Job.Action != nil, v.LockBusy, v.NoteBusy, v.Moving, v.RoundBusy: // their ends would be told to nobody
		return false
	case opened(v.State), m.Switch != Switch{}, m.Crash != Crash{}:
		return false
	}
	return !d.Page.Primary || !m.Lease.old(v.Now) && v.Now < d.Page.Deadline
}

// opened says that the leader of the present epoch offers his key, or has clients held.
// Both keys stay in the store when that is over, with an older epoch or nothing in them.
func opened(s cluster.State) bool {
	if s.Leader == nil {
		return false
	}
	h, d := s.Handover, s.Drain
	return h != nil && h.Epoch == s.Leader.Mod || d != nil && d.Open() && d.Epoch == s.Leader.Mod
}
