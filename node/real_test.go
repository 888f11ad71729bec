package node

import (
	"context"
	"testing"
	"time"

	"howdah/lease"
	"howdah/postgres"
	"howdah/test/testpg"
)

// A real primary with a client that commits as fast as it can: no commit is
// acknowledged after the deadline, and after a renewal it goes on where it was.
func TestTheGuardFreezesPostgreSQL(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	s.Query("create table n (at timestamptz)")
	n := testNode(t)
	n.Postgres.Data = s.Node.Postgres.Data
	w, err := lease.Create(n.Paths.Page)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := lease.Page{Role: lease.Primary, Epoch: 3}
	renew := func(d time.Duration) {
		t.Helper()
		p.Deadline = lease.Now() + d
		if err := w.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	const long = 1500 * time.Millisecond // that a busy machine's client needs for a commit
	acknowledged := make(chan time.Duration, 1<<16)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := s.Exec(ctx, "insert into n values (now())"); err == nil {
				acknowledged <- lease.Now()
			}
		}
	}()
	frozen := func() bool { return postgres.Frozen(n.Postgres.Data) }
	const margin = 500 * time.Millisecond // between the agent's deadline and the lease's end
	var last, worst time.Duration
	goesOn := func() {
		t.Helper()
		select {
		case last = <-acknowledged:
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was acknowledged while the right lived")
		}
	}
	goesOn()
	renew(long)
	startGuard(t, n)
	for range 5 {
		waitFor(t, "PostgreSQL is frozen", frozen)
		wait(t, 50*time.Millisecond) // in which the client would see an acknowledgement
		for more := true; more; {
			select {
			case last = <-acknowledged:
			default:
				more = false
			}
		}
		worst = max(worst, last-p.Deadline)
		if late := last - p.Deadline; late > margin {
			t.Errorf("a commit was acknowledged %s after the deadline", late)
		}
		renew(long)
		goesOn()
	}
	renew(time.Hour)
	t.Logf("last acknowledgement at most %s after the deadline (the agent's margin is %s)", worst, margin)
	cancel()
	<-done
}
