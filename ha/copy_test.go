package ha

import (
	"testing"
	"time"

	"howdah/pg"
	"howdah/spec"
)

// A member without data gets them in the ways that it was told, one after the other,
// and not at once when none has worked; a backup that led nowhere is not brought back again.
func TestCopies(t *testing.T) {
	at := standby()
	at.Self.Copies = []string{spec.CopyRepository, spec.CopyBase}
	at.Server = pg.Status{Data: pg.DataMissing, Process: pg.ProcessNone}
	up := pg.Upstream{Name: "a", Host: "10.0.0.a", Port: 5432, Slot: "b", Epoch: epoch}
	restore, base := Clone{From: up, Repository: true, System: system}, Clone{From: up}
	turn := func(what, want string, ended *Ended) {
		t.Helper()
		at.Ended = ended
		if ended != nil {
			ended.At = at.Now
		}
		d := Decide(at)
		if got := acts(d); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		at.Memory = d.Memory
	}
	turn("at first", "leader=a data=missing copy=repository -> clone(repository)", nil)
	turn("no backup", "leader=a data=missing copy=base repository=replica-repository -> clone(a)", &Ended{Action: restore, Err: "none", Code: "replica-repository"})
	turn("no base backup either", "leader=a data=missing clone=failed() -> nothing", &Ended{Action: base, Err: "refused"})
	at.Now, at.ServerAt = at.Now+time.Minute, at.ServerAt+time.Minute
	at.Memory.Lease.Sent = at.Now
	turn("a while later", "leader=a data=missing copy=repository -> keep, clone(repository)", nil)
	turn("it worked, and was moved aside all the same", "leader=a data=missing copy=base -> clone(a)", &Ended{Action: restore})
	at.Server.Data = pg.DataPresent
	at.Ended = &Ended{Action: Whole{}}
	at.Memory = Decide(at).Memory
	at.Server.Data = pg.DataMissing
	turn("after a copy that was whole", "leader=a data=missing copy=repository -> clone(repository)", nil)

	at.Self.Copies = nil
	turn("nothing was said", "leader=a data=missing -> clone(a)", nil)
	at.Self.Copies = []string{spec.CopyRepository}
	at.Memory.Copying = 0
	turn("no other way", "leader=a data=missing clone=failed(x) -> nothing", &Ended{Action: restore, Err: "none", Code: "x"})
}

// A backup's control file is a primary's, of an older timeline perhaps: it is started
// as what it is to be, and neither measured against the history nor rewound.
func TestARestoredBackupIsStarted(t *testing.T) {
	v := standby()
	v.Server = pg.Status{
		Data: pg.DataPresent, Process: pg.ProcessNone, Standby: true, Copied: true,
		Control: pg.Control{State: pg.ControlInProduction, System: system, Timeline: 1, Checkpoint: 300, Redo: 300},
	}
	v.Memory.Rejoin = Rejoin{Leader: "a", Epoch: epoch, Measured: true}
	if got, want := acts(Decide(v)), "leader=a timeline=1? -> start(standby of a)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	v.Server.Copied = false
	if got := acts(Decide(v)); got == "leader=a timeline=1? -> start(standby of a)" {
		t.Errorf("a primary's own data: %s", got)
	}
}
