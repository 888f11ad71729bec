package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/problem"
)

// shutFor is how long clients may be kept waiting before a person is told.
const shutFor = 3 * time.Second

// admit lets clients in to a primary that was started in synchronous mode, once
// what it shows them is on enough standbys. It says whether that is work on the server.
//
// The story: a commit waits for standbys, and the postmaster dies. Recovery shows
// what was written, acknowledged or not; a client that read it, and then saw the
// host lost, would find it gone under the successor. So in synchronous mode every
// start as a primary is with its doors shut (work): nobody comes in but members that
// replicate, and we. They are opened when as many as acknowledge a commit have
// flushed where the log ended at the first look. From there on what lies before
// that end is as good as acknowledged: whoever may be promoted by /sync has it
// (ha/quorum, DESIGN.md, "History").
//
// A promoted standby is not shut: what its clients could read they can read.
func (t *turn) admit() bool {
	s := &t.Server
	d := &t.m.Doors
	if !s.Shut || !s.Primary() {
		*d = Doors{}
		return false
	}
	if d.PID != s.PID || d.Since == 0 {
		*d = Doors{PID: s.PID, End: s.Flushed, Since: t.Now}
	}
	open, why := t.confirmed(d.End)
	t.note("doors=%s", why)
	if open {
		if t.failing(Admit{}) {
			return false
		}
		t.work(Admit{})
		return true
	}
	t.lookBy(t.ServerAt + soon)
	if t.Now-d.Since >= shutFor {
		t.problems = append(t.problems, problem.Error{
			Code: "clients-shut-out", What: t.Self.Name + " was started and lets no client in yet",
			Why: "what it would show them is not on enough standbys: " + why,
			Do:  "start a member that replicates; or accept for a while what may be lost: `howdah degrade`",
		})
	}
	return false
}

// confirmed says that what lies before end is on as many standbys as acknowledge a
// commit, and how many that are; or that nothing is promised.
func (t *turn) confirmed(end pg.LSN) (bool, string) {
	if !t.synchronous() {
		return true, "asynchronous"
	}
	names, err := quorum.ParseNames(t.Server.SyncNames)
	switch {
	case err != nil || t.State.Unknown(cluster.KeySync):
		return false, "sync-unknown"
	case names.Async() && len(t.State.Sync.Standby) == 0:
		return true, "nobody-waits" // not strict, and nobody but this leader may lead
	case names.Async() || names.Wild() || !quorum.Holds(t.State.Sync, names):
		return false, "sync-uncovered"
	}
	var have []string
	for _, r := range t.Server.Replicas {
		named := slices.ContainsFunc(names.List, func(name string) bool { return strings.EqualFold(name, r.Name) })
		if named && r.State == "streaming" && r.Flushed >= end && !slices.Contains(have, strings.ToLower(r.Name)) {
			have = append(have, strings.ToLower(r.Name))
		}
	}
	return len(have) >= names.Num, fmt.Sprintf("confirmed(%d/%d)", len(have), names.Num)
}
