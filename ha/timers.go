package ha

import (
	"fmt"
	"time"

	"howdah/cluster"
	"howdah/problem"
	"howdah/spec"
)

// tune makes the timers those that rule: the node's own, and over them what the
// dynamic configuration sets under howdah. Patroni's ttl, loop_wait and
// retry_timeout rule only beside a member that is Patroni's own, since every
// configuration has them; what is no timer (how far behind a candidate may be,
// how long a crashed primary may take to start) is obeyed by Patroni's names.
//
// What can not be read, or can not be kept, changes nothing: what was last read
// stays in force, and whoever leads tells a person.
func (t *turn) tune() {
	own, before := t.Timers, t.m.Timers
	c := t.State.Config
	if !t.Known || t.State.Unknown(cluster.KeyConfig) || c.Data == nil {
		if before != (spec.Timers{}) {
			t.Timers = before
		}
		return
	}
	want, err := own.Set(c)
	if other := t.patroni(); other != "" && !t.anew() { // who is ours, such a store does not say
		t.note("patroni=%s", other)
		want, err = own.As(c), nil
	}
	if err == nil {
		err = want.Validate()
	}
	if w := t.Watchdog.Timeout; err == nil && w > 0 && w > want.Watched() {
		err = fmt.Errorf("lease: %s is too short for the watchdog, which fires after %s: that may be %s at most", want.Lease, w, want.Watched())
	}
	inForce := before
	inForce.MaxLag, inForce.Start = want.MaxLag, want.Start
	if err == nil && want != own && want != inForce {
		err = want.Over(t.m.Pace)
	}
	if err != nil {
		now := own
		if before != (spec.Timers{}) {
			now = before
		}
		t.untuned(problem.Error{
			Code: "timers-refused", What: t.Self.Name + " does not take the timers of the dynamic configuration", Why: err.Error(),
			Do: "correct them (`howdah edit-config`); those before stay in force: lease " + now.Lease.String() + ", renewed every " + now.Renew.String(),
		})
		want = now
	}
	if slow := want.Over(t.m.Pace); slow != nil && err == nil {
		t.untuned(problem.Error{
			Code: "store-slow", What: t.Self.Name + " may lose its right to lead while it is well", Why: slow.Error(),
			Do: "look at the network between the members of etcd and at their disks; or give the cluster slower timers (`howdah edit-config --set howdah.lease=10s`)",
		})
	}
	want.MaxLag = max(0, c.Int(own.MaxLag, "maximum_lag_on_failover"))
	if _, set := c.Lookup("howdah", cluster.SetStart); !set && c.StartTimeout() {
		want.Start = max(c.PrimaryStartTimeout(), time.Millisecond) // 0: whoever can shall take over at once
	}
	t.Timers, t.m.Timers = want, want
}

// untuned tells of a problem that is everybody's alike, once.
func (t *turn) untuned(p problem.Error) {
	if t.State.LeaderName() == t.Self.Name {
		t.problems = append(t.problems, p)
	}
}

// patroni is a member that runs and is Patroni's own: ours enter themselves in
// the list that outlives their lease before they have a server to run.
func (t *turn) patroni() string {
	for i := range t.State.Members { // large: not copied to be passed over
		m := &t.State.Members[i]
		if m.Name == t.Self.Name || !m.Running() || m.Role == cluster.RoleUninitialized || t.State.Ours(m.Name) {
			continue
		}
		return m.Name
	}
	return ""
}

// pace takes in how long the store took to answer. One slow answer is
// remembered for some twenty that are not.
func (m *Memory) pace(took time.Duration) {
	switch {
	case took <= 0:
	case took > m.Pace:
		m.Pace = took
	default:
		m.Pace -= (m.Pace - took) / 16
	}
}
