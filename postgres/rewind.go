package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	ctl, err := s.stopped("rewind")
	if err != nil {
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
	source, err := s.settle(ctx, dsn)
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	sieve, err := s.sift(source, ctl.segment)
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, errors.Join(err, source.Close(context.WithoutCancel(ctx))))
	}
	defer sieve.close()
	if err := s.begin("rewind"); err != nil {
		return err
	}
	args := []string{"--target-pgdata=" + s.data, "--source-server=" + sieve.address().String(), "--no-ensure-shutdown"}
	if s.unsafe() {
		args = append(args, "--no-sync")
	}
	text, err := s.account.run(ctx, tool{path: program, args: args, line: sieve.hear})
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
	sieve.end()
	if err := sieve.bringBack(); err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	// pg_rewind copies the source's files; its password file and ours differ in nothing,
	// its settings are overwritten at the next start.
	if err := remove(s.in("postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lacks, err := s.lacking()
	if err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	if lacks != "" {
		return &problem.Error{
			Code: "rewind-failed", What: "what was rewound to " + from.Name + " is of no use",
			Why: from.Name + " has not all of the log since the two parted: " + lacks + " is missing",
			Do:  "a fresh copy is made instead",
		}
	}
	if err := s.becomeStandby(); err != nil {
		return fmt.Errorf("rewind to %s: %w", from.Name, err)
	}
	s.log.Info("rewound", "to", from.Name, "segments_left_out", sieve.omitted, logkey.Took, time.Since(began))
	return nil
}

// lacking is a segment of the log that rewound data need and do not have; "" is none.
//
// pg_rewind copies all log that the source has, which is not all since the two parted if
// some was removed, or if the source is itself a younger copy. Of each segment recovery
// wants the file of the newest timeline that began in it or before, and takes an older
// one's where that is missing (XLogFileReadAnyTLI, src/backend/access/transam/xlogrecovery.c).
// Of the segment in which the two parted that is the data's own from before the rewind,
// kept since 17: with records that the source's history does not have, and that recovery
// would replay. The last segments, begun while it was copied, may be missing: they are
// streamed.
func (s *Server) lacking() (string, error) {
	label, err := os.ReadFile(s.in("backup_label"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // there was nothing to take back
	} else if err != nil {
		return "", err
	}
	ctl, err := readControl(s.data)
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(label), "START WAL LOCATION: ")
	text, _, _ := strings.Cut(rest, " ")
	redo, err := pg.ParseLSN(text)
	if err != nil {
		return "", fmt.Errorf("backup_label: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(s.in("pg_wal"), ctl.MinEndTL.HistoryFile()))
	if err != nil {
		return "", err
	}
	history, err := pg.ParseHistory(string(raw))
	if err != nil {
		return "", err
	}
	var begun pg.LSN // where the last timeline was
	if len(history) > 0 {
		begun = history[len(history)-1].At
	}
	names, err := walNames(s.data)
	if err != nil {
		return "", err
	}
	lacks := ""
	for at := redo - redo%pg.LSN(ctl.segment); at < ctl.MinEnd; at += pg.LSN(ctl.segment) {
		name := segmentOf(history, ctl.MinEndTL, at, ctl.segment)
		_, here := slices.BinarySearch(names, name)
		if !here && lacks == "" {
			lacks = name
		}
		if lacks != "" && (here || at <= begun) {
			return lacks, nil
		}
	}
	return "", nil
}

// segmentOf names the segment at l as recovery to tl, whose history h is, wants it.
func segmentOf(h pg.History, tl pg.Timeline, l pg.LSN, size uint64) string {
	for i := len(h) - 1; i >= 0 && uint64(h[i].At)/size > uint64(l)/size; i-- {
		tl = h[i].Timeline
	}
	return tl.Segment(l, size)
}

// settle has the source write a checkpoint, and returns the connection. pg_rewind reads
// the source's timeline from pg_control, where a promotion shows only then; until 15 it
// would find nothing to do and say that all is well.
func (s *Server) settle(ctx context.Context, source pg.DSN) (*pgconn.PgConn, error) {
	conn, err := reach(ctx, source)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET statement_timeout = 0; CHECKPOINT").ReadAll(); err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}
