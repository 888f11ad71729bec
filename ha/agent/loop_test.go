package agent

import (
	"log/slog"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/spec"
)

// still hands carry nothing out and note what they were told.
type still struct {
	now    time.Duration
	state  cluster.State
	known  bool
	server pg.Status
	at     time.Duration

	pages  []ha.Page
	work   []ha.Action
	gaveUp int
}

func (h *still) Boot() time.Duration                 { return h.now }
func (h *still) Wall() time.Time                     { return time.Time{} }
func (h *still) Store() (cluster.State, bool)        { return h.state, h.known }
func (h *still) Server() (pg.Status, time.Duration)  { return h.server, h.at }
func (h *still) Page(p ha.Page) error                { h.pages = append(h.pages, p); return nil }
func (h *still) Ask(ha.Lane, ha.Action, dcs.Request) {}
func (h *still) Work(a ha.Action)                    { h.work = append(h.work, a) }
func (h *still) Heard(string) time.Duration          { return 0 }
func (h *still) Prove(ha.Prove)                      {}
func (h *still) Move(ha.Advance)                     {}
func (h *still) GiveUp()                             { h.gaveUp++ }
func (h *still) Appeal(ha.Appeal)                    {}
func (h *still) AtOnce(ha.Action) error              { return nil }
func stillLoop(h *still) *Loop {
	return &Loop{Self: ha.Self{Name: "a"}, Timers: spec.Safe(), Hands: h, Log: slog.New(slog.DiscardHandler)}
}

// A restarted agent that has not looked yet knows nothing: a page that called
// its standby an expired primary would have the guard freeze it.
func TestThePageStandsUntilTheServerWasLookedAt(t *testing.T) {
	h := &still{now: time.Hour}
	l := stillLoop(h)
	l.Turn()
	if len(h.pages) > 0 {
		t.Errorf("before the first look the page became %v", h.pages[0])
	}
	h.server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessRunning, Standby: true, Answers: true, Recovering: true}
	h.at = h.now
	l.Turn()
	if len(h.pages) != 1 || h.pages[0].Primary {
		t.Errorf("after it the page is %v, want a replica's", h.pages)
	}
}

// A kill that waits for the end of given up work comes before what the same
// turn decides.
func TestAKillTakesItsPlaceFirst(t *testing.T) {
	h := &still{now: time.Hour, at: time.Hour, known: true}
	l := stillLoop(h)
	l.work(ha.Start{}, h.now)
	l.work(ha.Kill{}, h.now)
	if h.gaveUp != 1 || len(h.work) != 1 {
		t.Fatalf("given up %d times, begun %v", h.gaveUp, h.work)
	}
	h.server = pg.Status{Data: pg.DataPresent, Process: pg.ProcessRemains}
	l.Worked(ha.Ended{Action: ha.Start{}, At: h.now, Err: "given up"})
	l.Turn()
	if len(h.work) != 2 || h.work[1] != ha.Action(ha.Kill{}) {
		t.Errorf("begun %v, want the kill second", h.work)
	}
	l.Worked(ha.Ended{Action: ha.Kill{}, At: h.now})
	h.server.Process = pg.ProcessNone
	l.Turn()
	if len(h.work) != 2 {
		t.Errorf("begun %v, want one kill", h.work)
	}
}

// What a predecessor kept beside its setting outlives it, whatever its page says:
// without it every agent that comes would have commits wait until all is proven anew.
func TestResumeOutlivesInherit(t *testing.T) {
	l := stillLoop(&still{now: time.Hour})
	kept := quorum.Memory{Written: quorum.Any(1, "b", "c"), Rule: quorum.Any(1, "b", "c")}
	l.Resume(kept.Encode())
	l.Inherit(ha.Page{Primary: true, Epoch: 5, Deadline: time.Hour + time.Second})
	if got := l.decided.Memory.Sync.Memory; !got.Rule.Is(kept.Rule) || !got.Written.Is(kept.Written) || l.decided.Memory.Right.Epoch != 5 {
		t.Errorf("resumed with %+v, right %+v", got, l.decided.Memory.Right)
	}
}
