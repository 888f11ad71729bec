package ha

import (
	"howdah/cluster"
	"howdah/pg"
)

// outside ends a shutdown that nobody of us asked for.
//
// The story: somebody sends the postmaster SIGTERM. That is a smart shutdown: it
// refuses new clients and waits for the present ones to leave, which a pool never
// does, so for the cluster the server is neither up nor down. A fast shutdown is
// asked for on top (clients are cut off, standbys get the last record), and what
// is down then is started again where it was, or led by another, as after any
// other end. A fast or immediate shutdown from outside only gets company: it
// ends by itself, and one that hangs is killed like one of ours.
//
// An agent that came after the one which asked for a shutdown takes it for one
// from outside, too: the same is right then.
func (t *turn) outside() bool {
	s := &t.Server
	if s.Process != pg.ProcessStopping || s.PID == 0 { // without a postmaster: a recovery of our own
		return false
	}
	if t.writes() && !t.leading() {
		return false // it is fenced, and then killed
	}
	t.note("stop=outside")
	if t.leading() && t.m.Story.over() {
		t.begin(cluster.KindRestart, t.Self.Name, "PostgreSQL was told to shut down, and not by its agent")
	}
	t.work(Stop{})
	return true
}
