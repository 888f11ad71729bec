package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"howdah/ha"
	"howdah/ha/quorum"
	"howdah/pg"
	"howdah/postgres"
	"howdah/postgres/postgrestest"
)

// seeds is how many lives of the model the contract is held against.
const seeds = 10

// What holds in simulation holds on a machine: the model keeps the contract that
// the real server keeps. There is no agent here, nor a cluster; the contract
// itself is whoever acts, and time passes while it waits.
func TestContract(t *testing.T) {
	for seed := uint64(1); seed <= seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			postgrestest.Test(t, func(t *testing.T) postgrestest.World {
				w := New(Options{Seed: seed, Calm: true})
				w.nodes = nil
				w.laws.hole = true // nobody holds a leader key here
				return &lab{t: t, w: w}
			})
		})
	}
}

// lab is the contract's world of modelled servers.
type lab struct {
	t *testing.T
	w *World
}

func (l *lab) Server(name string) postgrestest.Server {
	n := newNode(l.w, len(l.w.nodes))
	n.name, n.up, n.booted = name, true, l.w.now
	l.w.nodes = append(l.w.nodes, n)
	return &modelled{l, n.server}
}

func (l *lab) Upstream(name string) pg.Upstream {
	return pg.Upstream{Name: name, Host: l.w.node(name).host, Port: 5432}
}

func (l *lab) Write(name string, rows int) error {
	s := l.w.node(name).server
	if !s.writes() {
		return errors.New(name + " does not write")
	}
	for range rows {
		l.w.client.next++
		s.commit(l.w.client.next, 128)
	}
	return nil
}

func (l *lab) Smart(name string) { l.w.node(name).server.stopSmart(time.Hour) }

func (l *lab) Rows(name string) int {
	s := l.w.node(name).server
	if !s.look().Answers {
		return -1
	}
	count, end := 0, s.end
	for b := s.branch; b != nil; b = b.parent {
		for _, r := range b.rows {
			if r.end <= end {
				count++
			}
		}
		end = min(end, b.fork)
	}
	return count
}

func (l *lab) Wait(what string, holds func() bool) {
	l.t.Helper()
	if !l.pass(20*time.Second, holds) {
		l.t.Fatalf("waited in vain: %s", what)
	}
}

func (l *lab) Has(string) bool { return true }

// pass lets time pass until holds. What a law says of it counts for nothing: the
// contract throws away what an agent would have kept.
func (l *lab) pass(limit time.Duration, holds func() bool) bool {
	for end := l.w.now + limit; !holds(); {
		if len(l.w.events) == 0 || l.w.events[0].at > end {
			l.w.now = end
			return holds()
		}
		l.w.step()
	}
	return true
}

// modelled is one server of the model, whose work is waited for.
type modelled struct {
	*lab
	s *server
}

var _ postgrestest.Server = (*modelled)(nil)

func (m *modelled) work(a ha.Action, progress func(done, total int64)) (lsn pg.LSN, path string, err error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	ended := false
	m.s.work(a, progress, func(l pg.LSN, p, e string) {
		ended, lsn, path = true, l, p
		if e != "" {
			err = errors.New(e)
		}
	})
	if !m.pass(time.Hour, func() bool { return ended }) {
		m.t.Fatalf("%s: %s comes to no end", m.s.n.name, a)
	}
	return lsn, path, err
}

func (m *modelled) do(a ha.Action) error {
	_, _, err := m.work(a, nil)
	return err
}

func (m *modelled) Look(context.Context) pg.Status                      { return m.s.look() }
func (m *modelled) Init(context.Context, func(done, total int64)) error { return m.do(ha.Initdb{}) }
func (m *modelled) Clone(_ context.Context, from pg.Upstream, progress func(done, total int64)) error {
	_, _, err := m.work(ha.Clone{From: from}, progress)
	return err
}

func (m *modelled) Restore(_ context.Context, system pg.SystemID, progress func(done, total int64)) (string, error) {
	_, from, err := m.work(ha.Clone{Repository: true, System: system}, progress)
	return from, err
}

func (m *modelled) Rewind(_ context.Context, from pg.Upstream) error {
	return m.do(ha.Rewind{From: from})
}
func (m *modelled) Recover(context.Context) error { return m.do(ha.Recover{}) }
func (m *modelled) Start(_ context.Context, up *pg.Upstream) error {
	if up == nil {
		return m.do(ha.Start{})
	}
	return m.do(ha.Start{Standby: true, Up: *up})
}

func (m *modelled) Promote(_ context.Context, tl pg.Timeline) error {
	return m.do(ha.Promote{Timeline: tl})
}

func (m *modelled) Refuse(_ context.Context, epoch int64) (f quorum.Fence, err error) {
	m.s.fenced = func(got quorum.Fence) { f = got }
	err = m.do(ha.Fence{Epoch: epoch})
	return f, err
}
func (m *modelled) Whole(context.Context) error { return m.do(ha.Whole{}) }
func (m *modelled) Shut(context.Context) error  { return m.do(ha.Shut{}) }
func (m *modelled) Admit(context.Context) error { return m.do(ha.Admit{}) }
func (m *modelled) Follow(_ context.Context, up pg.Upstream) error {
	return m.do(ha.Follow{Up: up})
}

func (m *modelled) Stop(_ context.Context, mode postgres.Mode) error {
	if mode == postgres.Fast {
		return m.do(ha.Stop{})
	}
	m.s.crash(false)
	m.Wait("its end", func() bool { return m.s.proc == pg.ProcessNone })
	return nil
}
func (m *modelled) Kill(context.Context) error   { return m.do(ha.Kill{}) }
func (m *modelled) Freeze(context.Context) error { m.s.freeze(); return nil }
func (m *modelled) Thaw(context.Context) error   { m.s.thaw(); return nil }
func (m *modelled) Slots(_ context.Context, want, spare []string) error {
	return m.do(ha.Slots{Names: strings.Join(want, ","), Spare: strings.Join(spare, ",")})
}
func (m *modelled) Logical(context.Context, []pg.Slot, []string) error { return nil } // changes nothing that is modelled
func (m *modelled) Advance(context.Context, []pg.Slot) (string, error) { return "", nil }
func (m *modelled) Adopt(ctx context.Context, _ pg.Upstream, _ []string) error {
	return m.Stop(ctx, postgres.Fast)
}
func (m *modelled) Checkpoint(context.Context) error { return m.do(ha.Checkpoint{}) }
func (m *modelled) Fill(context.Context)             {}
func (m *modelled) End(context.Context) (pg.LSN, error) {
	lsn, _, err := m.work(ha.Measure{}, nil)
	return lsn, err
}

func (m *modelled) Identify(_ context.Context, up pg.Upstream, tl pg.Timeline) (pg.Elsewhere, error) {
	err := m.do(ha.Identify{Up: up, Timeline: tl})
	return m.s.met, err
}

func (m *modelled) Synchronize(_ context.Context, names, note string) error {
	return m.do(ha.Synchronize{Names: names, Memory: note})
}

// Adjust changes nothing that is modelled.
func (m *modelled) Adjust(context.Context, map[string]string) error { return nil }

// Reload changes nothing that is modelled.
func (m *modelled) Reload(context.Context) error { return nil }

func (m *modelled) Keep(_ context.Context, from pg.LSN, tl pg.Timeline) (string, error) {
	_, path, err := m.work(ha.Keep{From: from, Timeline: tl}, nil)
	return path, err
}

func (m *modelled) MoveAside(context.Context) (string, error) {
	_, path, err := m.work(ha.MoveAside{}, nil)
	return path, err
}

func (m *modelled) Install(_ context.Context, made, aside string) error {
	_, _, err := m.work(ha.Install{Made: made, Aside: aside}, nil)
	return err
}

// Died is a hint to look: here, that there is nothing to see any more.
func (m *modelled) Died() <-chan struct{} {
	died := make(chan struct{})
	if m.s.pid > 0 && m.s.proc == pg.ProcessNone {
		close(died)
	}
	return died
}
