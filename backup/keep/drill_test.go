package keep

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"howdah/backup/schedule"
	"howdah/spec"
)

// A member makes one drill at a time, when a member asks for it, and says so meanwhile.
func TestAskedForADrill(t *testing.T) {
	k, clients := door(t)
	if err := clients["b"].Drill(t.Context()); err == nil || !strings.Contains(err.Error(), "makes no drills") {
		t.Errorf("of one that makes none: %v", err)
	}
	end, began := make(chan error), make(chan struct{})
	k.Rehearse = func(ctx context.Context) error {
		began <- struct{}{}
		select {
		case err := <-end:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.makeDrills(ctx) }()
	for _, outcome := range []error{nil, errors.New("the backup is broken")} { // the next is made whatever became of this
		if err := clients["b"].Drill(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-began
		if s, err := clients["b"].State(t.Context()); err != nil || s.Drilling.IsZero() {
			t.Errorf("while one is made: %+v, %v", s, err)
		}
		if err := clients["b"].Drill(t.Context()); err == nil || !strings.Contains(err.Error(), "is being made") {
			t.Errorf("a second one: %v", err)
		}
		if err := clients["c"].Drill(t.Context()); err == nil {
			t.Error("another cluster's member may ask")
		}
		end <- outcome
		until(t, "it is over", func() bool { return k.State(t.Context()).Drilling.IsZero() })
	}
	if err := clients["b"].Drill(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-began
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The leader has one made when it is due, once, and where the backup is. It
// remembers that as long as it leads.
func TestDueDrill(t *testing.T) {
	k, _ := door(t)
	k.desk.Stanzas[0] = led(t) // its backups are of 1970
	k.node.Backup.Members, k.node.Backup.Bucket = k.node.Backup.Members[:1], spec.Bucket{Name: "b", Endpoint: "s3.lab"}
	k.leads = func() bool { return true }
	line, err := spec.ParseDrillTime("* * * * *")
	if err != nil {
		t.Fatal(err)
	}
	k.drillTime = &line
	k.Rehearse = func(context.Context) error { return nil }
	asked := func() bool {
		k.rehearse(t.Context())
		k.mu.Lock()
		defer k.mu.Unlock()
		is := !k.drilling.IsZero()
		if is {
			<-k.drills
			k.drilling = time.Time{}
		}
		return is
	}
	if asked() {
		t.Error("it does not lead yet, and has one made")
	}
	k.state.since = time.Now().Add(-2 * schedule.Settle)
	if !asked() {
		t.Error("it is due, and none is made")
	}
	k.state.rehearsing.looked = time.Time{}
	if asked() {
		t.Error("one was asked for just now, and another is")
	}
	k.state.rehearsing = rehearsing{asked: time.Now().Add(-25 * time.Hour)}
	if err := os.MkdirAll(k.node.Paths.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	broke := &Drill{Began: time.Now().Add(-time.Hour), Verdict: Broke, Why: "no room"}
	if err := broke.Record(k.node, -1, -1); err != nil {
		t.Fatal(err)
	}
	if asked() {
		t.Error("one broke an hour ago, and another is made")
	}
	k.state.rehearsing.looked = time.Time{}
	passed := &Drill{Began: time.Now().Add(-10 * time.Minute), Verdict: Passed}
	if err := passed.Record(k.node, -1, -1); err != nil {
		t.Fatal(err)
	}
	if !asked() {
		t.Error("one passed ten minutes ago, and the next is not made")
	}
	if s := k.State(t.Context()); s.DrillDue.IsZero() || s.Free <= 0 || s.Drill == nil || !s.Drill.Said.Equal(passed.Began) {
		t.Errorf("it says %+v, of %+v", s, s.Drill)
	}
}
