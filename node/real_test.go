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
	p := lease.Page{Role: lease.Primary, Epoch: 3, Deadline: lease.Now() + 300*time.Millisecond}
	if err := w.Set(p); err != nil {
		t.Fatal(err)
	}
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
	startGuard(t, n)
	frozen := func() bool { return postgres.Frozen(n.Postgres.Data) }
	const margin = 500 * time.Millisecond // between the agent's deadline and the lease's end
	var worst time.Duration
	for range 5 {
		waitFor(t, "PostgreSQL is frozen", frozen)
		wait(t, 50*time.Millisecond) // in which the client would see an acknowledgement
		var last time.Duration
		for more := true; more; {
			select {
			case last = <-acknowledged:
			default:
				more = false
			}
		}
		if last == 0 {
			t.Error("nothing was acknowledged while the right lived")
		}
		worst = max(worst, last-p.Deadline)
		if late := last - p.Deadline; late > margin {
			t.Errorf("a commit was acknowledged %s after the deadline", late)
		}
		p.Deadline = lease.Now() + 300*time.Millisecond
		if err := w.Set(p); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "PostgreSQL runs again", func() bool { return !frozen() })
	}
	t.Logf("last acknowledgement at most %s after the deadline (the agent's margin is %s)", worst, margin)
	p.Deadline = lease.Now() + time.Hour
	if err := w.Set(p); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "PostgreSQL runs again", func() bool { return !frozen() })
	cancel()
	<-done
}
