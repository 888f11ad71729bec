package schedule

import (
	"cmp"
	"slices"
	"time"

	"howdah/spec"
)

// A Rehearsal is what a leader knows when it asks itself whether a restore is to
// be rehearsed, and beside which member.
type Rehearsal struct {
	Now   time.Time // in the zone of Time
	Time  *spec.BackupTime
	Leads time.Time // since when; zero: it does not
	First time.Time // when the oldest backup was complete; zero: there is none
	Last  time.Time // when the last drill began that said something of a backup; zero: there was none
	Broke time.Time // when one began that has said nothing, after that; zero: none has
	Asked time.Time // when this leader last asked somebody
	// Who could make one: every member that answers, the leader among them.
	Members []Rehearser
}

// A Rehearser is a member beside which a restore could be rehearsed.
type Rehearser struct {
	Member string
	Leads  bool
	Busy   bool      // it is making one, or is full of other work
	Room   bool      // for the newest backup, with some left
	Holds  bool      // the newest backup is in its repository
	Last   time.Time // when one was made beside it
}

// After one that has said nothing, and after asking somebody of whom nothing was
// heard, there is a pause: a drill is work for a machine.
const (
	drillAgain  = 24 * time.Hour
	drillAnswer = time.Hour
)

// Due is when the next drill is due: the line's first time after the last, or
// after the oldest backup that there is; zero: never.
func (r Rehearsal) Due() time.Time {
	if r.Time == nil || r.First.IsZero() {
		return time.Time{}
	}
	since := r.Last
	if since.Before(r.First) {
		since = r.First
	}
	return r.Time.Next(since.In(r.Now.Location()))
}

// Beside is the member that is to make a drill now; "" if it is not the time. It
// is one that does not lead, if another has room: with what is in its repository,
// if it can, for that is what is left when the leader's host is lost; and of
// several the one that made none for the longest. Where nobody has room somebody is
// asked all the same, and says so.
func (r Rehearsal) Beside() string {
	due := r.Due()
	switch {
	case r.Leads.IsZero() || r.Now.Before(r.Leads.Add(Settle)) || due.IsZero() || r.Now.Before(due):
		return ""
	case r.Now.Before(r.Broke.Add(drillAgain)) || r.Now.Before(r.Asked.Add(drillAnswer)):
		return ""
	case len(r.Members) == 0 || slices.ContainsFunc(r.Members, func(m Rehearser) bool { return m.Busy }):
		return ""
	}
	no := func(is bool) int {
		if is {
			return 0
		}
		return 1
	}
	return slices.MinFunc(r.Members, func(a, b Rehearser) int {
		return cmp.Or(
			cmp.Compare(no(a.Room), no(b.Room)), cmp.Compare(no(!a.Leads), no(!b.Leads)), cmp.Compare(no(a.Holds), no(b.Holds)),
			a.Last.Compare(b.Last), cmp.Compare(a.Member, b.Member),
		)
	}).Member
}
