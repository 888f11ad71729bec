package ha

import (
	"fmt"
	"time"

	"howdah/cluster"
	"howdah/pg"
	"howdah/problem"
)

// jamTold is how long a log may not be flushed before a person is told; silentFor, before
// somebody else takes over.
const jamTold = 5 * time.Second

// Jam is a log that is not flushed.
type Jam struct {
	PID   int
	At    pg.LSN // it is flushed up to here
	Since time.Duration
}

// jammed is the leader whose server answers questions and commits nothing.
//
// The story: the disk of the log hangs, or the process that flushes it was stopped with
// the lock. What is asked is answered from memory, so the server looks well; every
// commit waits for ever, and the key is renewed. It shows in the log itself: there is
// more of it than is flushed, somebody waits for that, and the end of what is flushed
// does not move. A busy disk moves it. After a moment a person is told; after as long
// as a server may be silent it is killed, if somebody could take over, and goes the way
// of a crashed one. Processes that the disk does not let end count as gone once they are
// killed: they never run again (postgres, doomed).
func (t *turn) jammed() bool {
	s, j := &t.Server, &t.m.Jam
	switch {
	case !s.Unflushed:
		*j = Jam{}
		return false
	case j.Since == 0 || s.PID != j.PID || s.Flushed != j.At:
		*j = Jam{PID: s.PID, At: s.Flushed, Since: t.ServerAt}
	}
	long := t.ServerAt - j.Since
	t.lookBy(t.ServerAt + 10*soon)
	if long < jamTold {
		return false
	}
	t.note("log=jammed")
	t.problems = append(t.problems, problem.Error{
		Code: "log-jammed", What: t.Self.Name + " answers, and can commit nothing",
		Why: fmt.Sprintf("its log was flushed up to %s, and no further since more than %s, while sessions wait for that", j.At, jamTold),
		Do:  fmt.Sprintf("look at the disk of its log, and for processes of PostgreSQL that are stopped. After %s it is killed, and a member that has everything takes over", silentFor),
	})
	if long < silentFor || !t.candidates() {
		return false
	}
	t.note("jammed=overdue")
	t.begin(cluster.KindCrash, t.Self.Name, "PostgreSQL flushed no log for "+silentFor.String()+", though sessions waited for it")
	t.work(Kill{})
	return true
}
