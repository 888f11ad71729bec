package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/logkey"
	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
)

// Recover replays the log of a primary that crashed, without letting anybody
// in, and shuts it down: then its end is known and it can be rewound. Data that
// is clean already, or a standby's, is left as it is.
func (s *Server) Recover(ctx context.Context) error {
	ctl, err := s.stopped("crash recovery")
	if err != nil {
		return err
	}
	_, copied := os.Lstat(s.in("backup_label"))
	if ctl.Clean() || !ctl.WasPrimary() || copied == nil {
		return nil
	}
	began := time.Now()
	if err := s.clearStale(); err != nil {
		return err
	}
	// A single-user server refuses to be a standby. The data is a crashed
	// primary's, so the mark was set by a start that never came to be one.
	if err := remove(s.in("standby.signal")); err != nil {
		return err
	}
	if err := s.single(ctx, nil); err != nil {
		return fmt.Errorf("crash recovery: %w", err)
	}
	s.log.Info("recovered from a crash", logkey.Took, time.Since(began))
	return nil
}

// Rewind turns back the data of a stopped server to where from's history left
// it, and takes from there what from has instead. What this throws away is the
// caller's to Keep first. The result is marked as a standby. A rewind that
// failed before it changed anything leaves the data as it was; one that did not
// leaves it DataPartial.
func (s *Server) Rewind(ctx context.Context, from pg.Upstream) error {
	began := time.Now()
	program, err := s.programs.with("pg_rewind", false)
	if err != nil {
		return err
	}
	if _, err := s.stopped("rewind"); err != nil {
		return err
	}
	if err := s.allowed(from); err != nil {
		return fmt.Errorf("rewind to %w", err)
	}
	if err := s.writePassfile(); err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	if err := s.clearStale(); err != nil {
		return err
	}
	dsn := conf.Conninfo(s.node, from, s.beside("pgpass"))
	for i := range dsn {
		if dsn[i][0] == "user" {
			dsn[i][1] = spec.Superuser // it reads the source's files through SQL functions
		}
	}
	if err := s.settle(ctx, dsn); err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	if err := s.begin("rewind"); err != nil {
		return err
	}
	args := []string{"--target-pgdata=" + s.data, "--source-server=" + dsn.String(), "--no-ensure-shutdown"}
	if s.unsafe() {
		args = append(args, "--no-sync")
	}
	text, err := s.account.run(ctx, tool{path: program, args: args})
	if err != nil {
		if !strings.Contains(text, "rewinding from last common checkpoint") {
			if err := s.finish(); err != nil {
				return err
			}
		}
		if strings.Contains(text, "No space left on device") {
			return s.full("rewind to "+from.Name, err)
		}
		return &problem.Error{
			Code: "rewind-failed", What: "cannot rewind to " + from.Name, Err: err,
			Do: "a fresh copy is made instead",
		}
	}
	// pg_rewind copies the source's files; its password file and ours differ in nothing,
	// its settings are overwritten at the next start.
	if err := remove(s.in("postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.becomeStandby(); err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	s.log.Info("rewound", "to", from.Name, logkey.Took, time.Since(began))
	return nil
}

// settle has the source write a checkpoint. pg_rewind reads the source's
// timeline from pg_control, where a promotion shows only then; until 15 it
// would find nothing to do and say that all is well.
func (s *Server) settle(ctx context.Context, source pg.DSN) error {
	conn, err := pgconn.Connect(ctx, forPgconn(source).String())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "SET statement_timeout = 0; CHECKPOINT").ReadAll()
	return err
}

// forPgconn is what pgconn knows of libpq's settings; it would send others to the server.
func forPgconn(source pg.DSN) (known pg.DSN) {
	for _, kv := range source {
		if !strings.HasPrefix(kv[0], "keepalives") && kv[0] != "tcp_user_timeout" {
			known = append(known, kv)
		}
	}
	return known
}
