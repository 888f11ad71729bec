package ha

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
	case v.State.Handover != nil, v.State.Drain != nil, m.Switch != Switch{}, m.Crash != Crash{}:
		return false
	}
	return !d.Page.Primary || !m.Lease.old(v.Now) && v.Now < d.Page.Deadline
}
