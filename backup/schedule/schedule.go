// Package schedule says what a member does next about its repository.
//
// It is a pure function of what is there: who leads, which backups there are,
// when they are wanted, what others hold. That a backup was missed, because the
// node was off or another one led, follows from the backups; nothing is
// remembered but a failure, after which there is a pause.
package schedule

import (
	"slices"
	"time"

	"howdah/backup/repo"
	"howdah/spec"
)

// A View is what a member knows of its repository and the others'.
type View struct {
	Now   time.Time // in the zone of Times
	Leads time.Time // since when; zero: it does not
	First bool      // a cluster without a backup makes one
	Times []spec.BackupTime

	Stanza  bool          // the repository knows the server's database
	Filled  bool          // since this member leads, the archive was given what a predecessor owed it
	Backups []repo.Backup // of the database, in this repository
	Shared  bool          // the repository is all members': what one stores, all have
	Wanted  bool          // this member is to hold the leader's backups
	Source  string        // a member whose repository has what this one lacks; "": there is none
	Looked  bool          // a leader has asked the others what they have
	Hole    string        // a segment that is missing in the archive after the last backup; "": none
	Asked   repo.Type     // by a person; "": nothing
	Failed  time.Time     // the last attempt, if it came to nothing
}

// Settle is how long a leader leads before it begins by itself: until then there
// is more to do than a backup.
const Settle = 10 * time.Second

// Pause is what lies between an attempt that failed and the next.
const Pause = time.Minute

// A Step is the next thing to do.
type Step struct {
	Do   Deed
	Type repo.Type // of Take
	From string    // of Copy
	Why  string
}

// A Deed is a kind of step.
type Deed string

// The deeds.
const (
	Rest      Deed = "rest"
	Introduce Deed = "introduce" // tell the repository which database it is of
	Fill      Deed = "fill"      // archive what a former leader did not get to
	Take      Deed = "take"      // make a backup
	Copy      Deed = "copy"      // from another member's repository
)

// Next is the next step.
func Next(v View) Step {
	if v.Leads.IsZero() {
		if v.Wanted && v.Source != "" && !v.Shared {
			return Step{Do: Copy, From: v.Source, Why: "the leader's backups have a second home"}
		}
		return Step{Do: Rest}
	}
	rest := v.Now.Before(v.Failed.Add(Pause))
	switch settled := !v.Now.Before(v.Leads.Add(Settle)); {
	case !v.Stanza && !rest:
		return Step{Do: Introduce}
	case !v.Stanza:
		return Step{Do: Rest}
	case !v.Filled && !rest:
		return Step{Do: Fill}
	case v.Asked != "":
		return Step{Do: Take, Type: v.Asked, Why: "a person asked"}
	case rest || !settled || !v.Looked && !v.Shared:
		return Step{Do: Rest}
	case v.Source != "" && !v.Shared:
		return Step{Do: Copy, From: v.Source, Why: "another member has newer backups"}
	}
	if t, why := due(v); t != "" {
		return Step{Do: Take, Type: t, Why: why}
	}
	if v.Hole != "" && len(v.Backups) > 0 {
		return Step{Do: Take, Type: repo.Incr, Why: "segment " + v.Hole + " is missing in the archive, and what follows it can only be reached from a backup after it"}
	}
	return Step{Do: Rest}
}

// due is what the lines ask for. A line is kept by any backup that holds as
// much as its own would.
func due(v View) (repo.Type, string) {
	if len(v.Backups) == 0 {
		if v.First {
			return repo.Full, "there is none yet"
		}
		return "", ""
	}
	for _, t := range []repo.Type{repo.Full, repo.Diff, repo.Incr} {
		i := -1
		for n, b := range v.Backups {
			if rank(b.Type) <= rank(t) {
				i = n
			}
		}
		for _, line := range v.Times {
			if repo.Type(line.Type) != t {
				continue
			}
			if i < 0 {
				return t, "there is none of its kind"
			}
			if next := line.Next(time.Unix(v.Backups[i].Start, 0).In(v.Now.Location())); !next.IsZero() && !next.After(v.Now) {
				return t, "due since " + next.Format(time.DateTime)
			}
		}
	}
	return "", ""
}

func rank(t repo.Type) int { return slices.Index([]repo.Type{repo.Full, repo.Diff, repo.Incr}, t) }

// Soonest is when the lines ask for something next; zero: never.
func Soonest(v View) time.Time {
	var soonest time.Time
	for _, line := range v.Times {
		if next := line.Next(v.Now); !next.IsZero() && (soonest.IsZero() || next.Before(soonest)) {
			soonest = next
		}
	}
	return soonest
}

// An Offer is another member's repository, as it says of itself.
type Offer struct {
	Member  string
	Leads   bool
	Mark    string        // another one when anything has changed there
	Backups []repo.Backup // of the same database
}

// Source is whose repository a member copies from. One that does not lead takes
// the leader's, unless it has seen its last change; a leader takes whose newest
// backup is newer than its own, and goes on from there.
func Source(leads bool, own []repo.Backup, seen map[string]string, offers []Offer) string {
	if !leads {
		for _, o := range offers {
			if o.Leads && seen[o.Member] != o.Mark {
				return o.Member
			}
		}
		return ""
	}
	best := Offer{Backups: own}
	for _, o := range offers {
		if newest(o) > newest(best) {
			best = o
		}
	}
	return best.Member
}

func newest(o Offer) int64 {
	if len(o.Backups) == 0 {
		return 0
	}
	return o.Backups[len(o.Backups)-1].Stop
}
