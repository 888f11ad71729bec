package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
)

// shutPath is a file beside the data: while it is there, a server that is started as
// a primary lets nobody in.
func shutPath(n spec.Node) string { return filepath.Join(n.Paths.Dir, "howdah.shut") }

// Shut says that the node's server, if it runs as a primary, lets nobody in yet.
func Shut(n spec.Node) bool {
	_, err := os.Lstat(shutPath(n))
	return !errors.Is(err, fs.ErrNotExist)
}

// Shut has the server, which does not run, let nobody in once it is started as a
// primary but its superuser, on the machine itself, and members that replicate,
// until Admit. A start as a standby takes it back.
func (s *Server) Shut(context.Context) error {
	if p, runs := Postmaster(s.data); runs {
		return fmt.Errorf("shut: %w (pid %d)", ErrRunning, p.PID)
	}
	return s.write(shutPath(s.node), "let nobody in\n", 0o600)
}

// Admit lets clients in, and returns once a client that comes is let in. Until then
// the file stays: whoever finds it does all of it again.
func (s *Server) Admit(ctx context.Context) error {
	p, runs := Postmaster(s.data)
	if !runs {
		return remove(shutPath(s.node))
	}
	began := time.Now()
	n := s.node
	s.own.Lock()
	n.Postgres.HBA = s.own.hba
	s.own.Unlock()
	if err := s.write(s.in(conf.HBA), conf.Rules(n, s.signalled()), 0o600); err != nil {
		return fmt.Errorf("admit clients: %w", err)
	}
	before, wrong, err := s.loaded(ctx)
	if err != nil {
		return fmt.Errorf("admit clients: %w", err)
	}
	if wrong != "" { // PostgreSQL keeps the rules that it has
		return &problem.Error{
			Code: "hba-invalid", What: "PostgreSQL lets nobody in", Why: s.in(conf.HBA) + ": " + wrong,
			Do: "correct the access rules in the inventory (pg_hba_rules); they are tried again",
		}
	}
	if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
		return fmt.Errorf("admit clients: %w", err)
	}
	// The postmaster reads its settings and then the rules, and forks nobody between.
	if err := until(ctx, pause/2, func() (bool, error) {
		now, _, err := s.loaded(ctx)
		return now != before, err
	}); err != nil {
		return fmt.Errorf("admit clients: %w", err)
	}
	s.log.Info("clients are let in", logkey.PID, p.PID, logkey.Took, time.Since(began))
	return remove(shutPath(s.node))
}

// loaded is when the postmaster has read its files last, as a session that begins now
// was told, and what it would find wrong with the access rules; "" is nothing.
func (s *Server) loaded(ctx context.Context) (at, wrong string, err error) {
	conn, err := s.connect(ctx, nil)
	if err != nil {
		return "", "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	res, err := conn.Exec(ctx, `SELECT pg_conf_load_time(),
  (SELECT 'line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL ORDER BY line_number LIMIT 1)`).ReadAll()
	if err != nil {
		return "", "", err
	}
	row := res[0].Rows[0]
	return string(row[0]), string(row[1]), nil
}
