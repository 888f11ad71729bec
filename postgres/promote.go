package postgres

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/spec"
)

// pause is between two looks at something that has no descriptor to wait on.
const pause = 10 * time.Millisecond

// Promote makes a standby a primary and returns when it takes writes on its
// new timeline. A server that is a primary already is ErrNotStandby.
//
// It uses pg_ctl's mechanism, a file and a signal, which needs no free connection.
//
// The timeline is the one that was reserved for it; 0 takes whichever comes.
func (s *Server) Promote(ctx context.Context, tl pg.Timeline) error {
	// Everybody waits for this: the server is not asked who it is, for its files tell.
	began := time.Now()
	p, running := Postmaster(s.data)
	f, _ := readPIDFile(s.data)
	stat, _ := readStat(p.PID)
	switch {
	case !running:
		return fmt.Errorf("promote: %w", ErrNotRunning)
	case stat.stopped():
		return fmt.Errorf("promote: %w", ErrFrozen)
	case f.status != "ready":
		return fmt.Errorf("promote: %w (%s)", ErrNotRunning, f.status)
	case !s.signalled(): // a promotion takes it away
		return fmt.Errorf("promote: %w", ErrNotStandby)
	}
	if s.fetching() != "" { // a copy that nobody stands above: what it has not fetched it does without
		if err := s.unfetch(ctx); err != nil {
			return fmt.Errorf("promote: %w", err)
		}
	}
	if err := s.reserve(tl); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := s.touch(s.in("promote")); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := unix.Kill(p.PID, unix.SIGUSR1); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	conn, err := s.connect(ctx, nil)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = until(ctx, pause/2, func() (bool, error) {
		res, err := conn.Exec(ctx, "SELECT pg_is_in_recovery()").ReadAll()
		return err == nil && string(res[0].Rows[0][0]) == "f", err
	})
	if err != nil {
		return fmt.Errorf("promote: not a primary yet: %w", err)
	}
	s.log.Info("promoted", logkey.Took, time.Since(began))
	if err := s.newRules(false); err != nil { // it leads all the same
		s.log.Warn("access rules are still a replica's", logkey.Error, err)
	}
	return nil
}

// touch makes an empty file that need not outlive the machine.
func (s *Server) touch(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.account.other {
		return f.Chown(s.account.uid, s.account.gid)
	}
	return nil
}

// newRules has the server take up the access rules of its new role, if the
// role makes a difference. Going the other way it starts anew and reads all.
func (s *Server) newRules(standby bool) error {
	n := s.node
	s.own.Lock()
	n.Postgres.HBA = s.own.hba
	s.own.Unlock()
	if !slices.ContainsFunc(n.Postgres.HBA, func(r spec.AccessRule) bool { return r.Role != "" }) {
		return nil
	}
	if err := s.write(s.in(conf.HBA), conf.Rules(n, standby), 0o600); err != nil {
		return err
	}
	p, ok := Postmaster(s.data)
	if !ok {
		return ErrNotRunning
	}
	return unix.Kill(p.PID, unix.SIGHUP)
}

// Follow points a running standby at another upstream. It returns when the
// server has taken the setting up; a standby too young to answer takes it up
// as soon as it can.
func (s *Server) Follow(ctx context.Context, up pg.Upstream) error {
	if err := s.allowed(up); err != nil {
		return fmt.Errorf("follow %w", err)
	}
	// A new primary may wait for this: the server is not asked who it is, for its files tell.
	p, running := Postmaster(s.data)
	switch {
	case !running:
		return fmt.Errorf("follow %s: %w", up.Name, ErrNotRunning)
	case !s.signalled():
		return fmt.Errorf("follow %s: %w", up.Name, ErrNotStandby)
	}
	if err := s.writeFollowing(&up); err != nil {
		return fmt.Errorf("follow %s: %w", up.Name, err)
	}
	if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
		return fmt.Errorf("follow %s: %w", up.Name, err)
	}
	want, slot := "", ""
	if up.Name != "" {
		want, slot = up.Addr(), up.Slot
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := until(ctx, pause, func() (bool, error) {
		now := s.Look(ctx)
		return !now.Answers || now.Upstream == want && now.Slot == slot, nil
	})
	if err != nil {
		return fmt.Errorf("follow %s: the server has not taken it up: %w", up.Name, err)
	}
	return nil
}

// Checkpoint makes the server write everything out, so that a stop that follows is short.
func (s *Server) Checkpoint(ctx context.Context) error {
	if _, err := s.exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}
