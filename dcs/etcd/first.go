package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"howdah/dcs"
)

// overtake is how long a member may think before the next one is asked too.
const overtake = 150 * time.Millisecond

// How long after the nearest member did not answer it is asked first again: what
// that costs, if it is still silent, is overtake for one question.
const (
	awayMin = time.Second
	awayMax = 5 * time.Minute
)

// order returns the members, the one to ask first leading.
func (s *Store) order() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.members)
	if s.members[0] != s.home && !time.Now().Before(s.back) {
		toFront(all, s.home)
	}
	return all
}

func toFront(all []*member, m *member) {
	i := slices.Index(all, m)
	copy(all[1:i+1], all[:i])
	all[0] = m
}

// prefer puts m, which has answered, first. Watches follow: a member that is not
// asked may fall silent without anybody's notice.
func (s *Store) prefer(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.members[0]; before != m {
		toFront(s.members, m)
		before.distrust()
	}
	s.leave(m)
}

// demote puts m last.
func (s *Store) demote(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.members, m); i >= 0 {
		s.members = append(slices.Delete(s.members, i, i+1), m)
	}
	s.leave(s.members[0])
}

// leave notes who is asked first from now on: the longer the nearest member fails,
// the more seldom it is tried.
func (s *Store) leave(first *member) {
	now := time.Now()
	switch {
	case first == s.home:
		s.away, s.back = 0, time.Time{}
	case !now.Before(s.back):
		s.away = min(max(2*s.away, awayMin), awayMax)
		s.back = now.Add(s.away)
	}
}

// first asks one member after the other for something that may be asked twice:
// the next one as soon as one has failed, or has not answered within overtake.
// The first answer wins and its member is preferred from then on. The error is
// dcs.ErrUnavailable only if every attempt was.
func first[T any](ctx context.Context, s *Store, do func(context.Context, *member) (T, error)) (T, *member, error) {
	type answer struct {
		m   *member
		v   T
		err error
	}
	order := s.order()
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer, len(order))
	var asked []*member // and not answered yet
	ask := func() {
		m := order[0]
		order = order[1:]
		asked = append(asked, m)
		go func() {
			v, err := call(ctx, m, do)
			answers <- answer{m, v, err}
		}()
	}
	defer func() {
		cancel()
		for range asked { // they end with ctx
			<-answers
		}
	}()

	var errs []error
	var none T
	ask()
	late := time.NewTimer(overtake)
	defer late.Stop()
	for {
		select {
		case a := <-answers:
			asked = slices.DeleteFunc(asked, func(m *member) bool { return m == a.m })
			// That a lease does not exist is an answer, not a failure.
			if a.err == nil || errors.Is(a.err, rpctypes.ErrLeaseNotFound) {
				for _, m := range asked {
					m.distrust()
				}
				s.prefer(a.m)
				return a.v, a.m, a.err
			}
			errs = append(errs, a.err)
			if len(order) > 0 {
				ask()
				late.Reset(overtake)
			} else if len(asked) == 0 {
				return none, nil, every(errs)
			}
		case <-late.C:
			if len(order) > 0 {
				ask()
				late.Reset(overtake)
			}
		case <-ctx.Done():
			return none, nil, fmt.Errorf("%d of %d etcd members did not answer: %w", len(asked), len(asked)+len(errs), ctx.Err())
		}
	}
}

// every joins the errors of all attempts; it is dcs.ErrUnavailable if each is.
func every(errs []error) error {
	joined := errors.Join(errs...)
	for _, err := range errs {
		if !errors.Is(err, dcs.ErrUnavailable) {
			return sent(joined)
		}
	}
	return joined
}
