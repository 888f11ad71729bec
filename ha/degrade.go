package ha

import (
	"time"

	"howdah/problem"
)

// degrade is a person's word that commits need not wait where no standby is left.
//
// The story: both standbys of a strict cluster are down for the day, and its clients
// wait. Somebody decides that what is written until they are back may be lost with
// the leader's host, for an hour. From then on the mode is as if it were not strict:
// standbys that stream are waited for as ever; once none counts, /sync names the
// leader alone, nobody else may lead, and then commits stop waiting. A standby that
// is back counts again. When the hour is over commits wait, whether or not somebody
// is left. It is a wall clock's hour: it bounds what may be lost and decides nothing
// about who may lead.

// strict says that commits wait even where nobody is left to wait for.
func (t *turn) strict() bool { return t.State.Config.SynchronousModeStrict() && !t.degraded() }

func (t *turn) degraded() bool {
	d, ok := t.State.Config.Degraded()
	return ok && !d.Over(t.Wall)
}

// unprotected tells everybody of a mode that is not strict, in which no standby is left
// to wait for: the leader's alone is what it acknowledges, as long as that lasts.
func (t *turn) unprotected() {
	s := t.State.Sync
	if !s.Active() || len(s.Standby) > 0 || t.State.Config.SynchronousModeStrict() {
		t.m.Alone = time.Time{}
		return
	}
	if t.m.Alone.IsZero() {
		t.m.Alone = t.Wall
	}
	if t.Wall.Sub(t.m.Alone) < waitsLong {
		return // as at the beginning of every cluster
	}
	t.problems = append(t.problems, problem.Error{
		Code: "commits-degraded", What: "commits are acknowledged that no standby has",
		Why: "no replica counts since " + t.m.Alone.UTC().Format(time.RFC3339) + ", and synchronous_mode is not strict",
		Do:  "start a member that replicates. Until one has caught up nobody else may lead: what this host acknowledges is lost if it is, and then `howdah failover --to` names who goes on without",
	})
}

// accepted tells everybody, for as long as it lasts.
func (t *turn) accepted() {
	d, ok := t.State.Config.Degraded()
	if !ok || !t.State.Config.SynchronousModeStrict() {
		return
	}
	long := "until somebody takes it back"
	if !d.Until.IsZero() {
		long = "until " + d.Until.UTC().Format(time.RFC3339)
	}
	p := problem.Error{
		Code: "degraded", What: "commits are not waited for where no standby is left",
		Why: d.By + " accepted that at " + d.Since.UTC().Format(time.RFC3339) + ", " + long,
		Do:  "`howdah undegrade` as soon as standbys stream: what is acknowledged without them is lost with this host",
	}
	if d.Over(t.Wall) {
		p.What, p.Do = "the time is over in which commits were not waited for", "`howdah undegrade` takes the note away; commits wait already"
	}
	t.problems = append(t.problems, p)
}
