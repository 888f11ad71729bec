package ha

import (
	"fmt"

	"howdah/cluster"
	"howdah/problem"
)

// A login gets so many tries before a person is told that nobody is let in, and before
// somebody else takes over: one that was not answered may be this agent's own standstill.
const (
	shutOutTold = 2
	shutOutOver = 3
)

// Logins is what a leader saw of them in its epoch.
type Logins struct {
	Epoch int64
	PID   int
	From  int  // answered when it began
	Let   bool // somebody was let in since
}

// shutOut is the leader whose server serves those who are in, and lets nobody else in.
//
// The story: the postmaster hangs, or can make no process any more, or whoever logs in
// waits for a lock on the roles. Our standing connection answers, so the server looks
// well, and every client that comes waits for ever. A server that has no place left turns
// clients away, which is an answer, and one under load lets somebody in now and then:
// both are left alone. After some tries a person is told; after as long as a server may
// be silent it is killed, if somebody could take over, and goes the way of a crashed one.
// One that let nobody in since it leads is not: what keeps clients out (a directory that
// is asked for passwords) may well keep them out of the next, and would go round.
func (t *turn) shutOut() bool {
	l, m := &t.Server.Logins, &t.m.Logins
	if m.Epoch != t.m.Right.Epoch || m.PID != t.Server.PID {
		*m = Logins{Epoch: t.m.Right.Epoch, PID: t.Server.PID, From: l.Answered}
	}
	m.Let = m.Let || l.Answered > m.From
	if l.Silent < shutOutTold {
		return false
	}
	t.note("logins=silent")
	t.problems = append(t.problems, problem.Error{
		Code: "logins-silent", What: t.Self.Name + " serves those who are connected, and lets nobody else in",
		Why: fmt.Sprintf("logins got no answer %d times or more, nor did anybody else come in meanwhile", shutOutTold),
		Do:  fmt.Sprintf("look at the postmaster, at limits of processes and memory, and in pg_locks for a lock on pg_authid or pg_database. After %s it is killed, if it let somebody in before, and a member that has everything takes over", silentFor),
	})
	switch {
	case !m.Let:
		t.note("logins=never")
		return false
	case l.Silent < shutOutOver || l.Since < silentFor || !t.candidates():
		return false
	}
	t.note("logins=overdue")
	t.begin(cluster.KindCrash, t.Self.Name, "PostgreSQL let nobody in for "+silentFor.String())
	t.work(Kill{})
	return true
}
