package ha

import (
	"time"

	"howdah/cluster"
	"howdah/pg"
)

// silentFor is how long a leader's server may answer nothing at all: Patroni's
// ttl, after which its leader, too, has lost the key to somebody else.
const silentFor = 30 * time.Second

// silent is the leader whose server runs and does not answer.
//
// The story: the disk hangs, or every backend waits for a lock that is never
// given. Nobody can write, and the key is renewed for ever. A loaded server looks
// the same from here, but it goes on writing its log, and the standbys say how
// much of it they have: as long as that moves it is left alone. One that was
// silent to us and to them for so long is killed, if somebody could take over, and
// goes the way of a crashed one: the key is offered to whoever has all of its log,
// and if nobody has it starts in place. Neither loses a commit.
func (t *turn) silent() {
	t.note("server=silent")
	t.lookBy(t.ServerAt + soon)
	q := t.quietSince(func(m cluster.Member) pg.LSN { return max(m.XlogLocation, m.ReceiveLSN) })
	switch {
	case t.Stopping && q > handoverFor:
		t.work(Stop{})
	case q < silentFor:
		t.wakeBy(t.Now + silentFor - q)
	case t.candidates():
		t.note("silent=overdue")
		t.begin(cluster.KindCrash, t.Self.Name, "PostgreSQL answered nothing for "+silentFor.String()+", and no standby received log from it")
		t.work(Kill{})
	}
}

// started is the leader whose server starts, as an agent before this one began
// it: it has no more time than one of ours (see working).
func (t *turn) started() {
	t.note("server=starting")
	t.lookBy(t.ServerAt + soon)
	q := t.quietSince(func(cluster.Member) pg.LSN { return 0 })
	if q < t.Timers.Start && (!t.Stopping || t.recovers()) {
		t.wakeBy(t.Now + t.Timers.Start - q)
		return
	}
	t.note("start=overdue")
	t.work(Kill{})
}

// quietSince is for how long the server of this process id was quiet, to us and
// to the others, whose published positions are what position says.
func (t *turn) quietSince(position func(cluster.Member) pg.LSN) time.Duration {
	var heard pg.LSN
	for _, m := range t.State.Members {
		if m.Name != t.Self.Name {
			heard = max(heard, position(m))
		}
	}
	q := &t.m.Quiet
	if q.PID != t.Server.PID || q.Since == 0 || heard > q.Heard {
		*q = Quiet{PID: t.Server.PID, Since: t.Now, Heard: heard}
	}
	return t.Now - q.Since
}
