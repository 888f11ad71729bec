package ha

import (
	"howdah/pg"
	"howdah/spec"
)

// copy makes this member's data from what others have.
//
// The ways are tried one after the other, as the inventory has them: a base backup of
// the leader (up), which costs it the reading, or a backup out of a repository, whose
// log is fetched there as well until this server streams. What comes of it is a copy
// like the other: no voter, and no candidate, before it streamed past what the leader
// had (whole). A backup that had to be given up for another copy is not tried twice.
//
// A standby cluster archives nothing, and has nobody's backups.
func (t *turn) copy(up pg.Upstream) {
	a, ways := Clone{From: up}, t.Self.Copies
	if len(ways) > 0 && !t.standbyCluster() {
		n := t.m.Copying % len(ways)
		if f := t.m.Failed; n == 0 && t.m.Copying > 0 && firstWord(f.What) == "clone" && t.Now < f.Until {
			t.note("clone=failed(%s)", f.Code)
			t.wakeBy(f.Until)
			return
		}
		a.Repository = ways[n] == spec.CopyRepository
		switch f := t.m.Failed; {
		case a.Repository:
			a.System = t.State.Initialize.System
			t.note("copy=repository")
		case f.What == Clone{Repository: true}.String():
			t.note("copy=base repository=%s", f.Code)
		default:
			t.note("copy=base")
		}
	}
	t.work(a)
}
