package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"

	"howdah/logkey"
	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/problem"
)

// "  24341/24341 kB (100%), 1/1 tablespace" (pg_basebackup.c, progress_report)
var progressLine = regexp.MustCompile(`^\s*(\d+)/(\d+) kB \(`)

// Clone copies the database system of from into an absent or empty data
// directory, or over a copy of ours that did not finish. What it leaves is
// marked as a standby. progress, which may be nil, hears bytes done and total;
// the total is an estimate that grows while the source does.
func (s *Server) Clone(ctx context.Context, from pg.Upstream, progress func(done, total int64)) error {
	began := time.Now()
	program, err := s.programs.with("pg_basebackup", true)
	if err != nil {
		return err
	}
	if err := s.allowed(from); err != nil {
		return fmt.Errorf("clone from %w", err)
	}
	if err := s.write(s.beside(copiedFile), "", 0o600); err != nil {
		return fmt.Errorf("clone from %s: %w", from.Name, err)
	}
	if err := s.writePassfile(); err != nil {
		return fmt.Errorf("clone from %s: %w", from.Name, err)
	}
	if err := s.clear("clone"); err != nil {
		return fmt.Errorf("clone from %s: %w", from.Name, err)
	}
	args := []string{
		"--pgdata=" + s.data, "--dbname=" + conf.Copying(s.node, from, s.beside("pgpass")).String(),
		"--wal-method=stream", "--checkpoint=fast", "--progress", "--no-password",
	}
	if s.unsafe() {
		args = append(args, "--no-sync")
	}
	if from.Slot != "" {
		args = append(args, "--slot="+from.Slot)
	}
	var need int64
	text, err := s.account.run(ctx, tool{path: program, args: args, line: func(line string) {
		if m := progressLine.FindStringSubmatch(line); m != nil {
			done, _ := strconv.ParseInt(m[1], 10, 64)
			total, _ := strconv.ParseInt(m[2], 10, 64)
			need = total << 10
			if progress != nil {
				progress(done<<10, total<<10)
			}
		}
	}})
	if err != nil {
		err = s.toolError("clone from "+from.Name, text, err)
		if p, ok := errors.AsType[*problem.Error](err); ok && need > 0 {
			// pg_basebackup has removed the half copy, and with it the proof.
			p.Why += fmt.Sprintf(" now that the half copy is removed, and the whole needs %d and room for the log", need)
		}
		return err
	}
	if err := os.Chmod(s.data, 0o700); err != nil {
		return err
	}
	if err := s.becomeStandby(); err != nil {
		return fmt.Errorf("clone from %s: %w", from.Name, err)
	}
	s.log.Info("database system copied", "from", from.Name, logkey.Took, time.Since(began))
	return nil
}

// becomeStandby marks finished work as a standby's data before anything else
// may start it: without the mark it would go on as a second primary.
func (s *Server) becomeStandby() error {
	if err := s.write(s.in("standby.signal"), "", 0o600); err != nil {
		return err
	}
	return s.finish()
}
