package ha

// What a member does ahead of time that may lead in a moment. Nothing rests on any
// of it: whatever is not done by then is done once the key is taken.

// heir says that the leader, who is about to stop, has told the gateways that this
// member comes next.
func (t *turn) heir() bool {
	d, l := t.State.Drain, t.State.Leader
	return d != nil && l != nil && d.To == t.Self.Name && d.From == l.Name && d.Epoch == l.Mod && l.Name != t.Self.Name
}

// expect has the lease confirmed in time, since who takes a key counts his right
// from there, and the server looked at often while the leader's shuts down.
func (t *turn) expect() {
	l, live := t.State.Member(t.State.LeaderName())
	down := live && !l.Running()
	if (down || t.heir()) && t.Now-t.m.Lease.Sent > t.m.Lease.TTL/4 {
		t.confirm()
	}
	if down && t.heir() {
		t.lookBy(t.ServerAt + soon)
	}
}
