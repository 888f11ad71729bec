package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/pg"
	"howdah/postgres/conf"
)

// Synchronize writes synchronous_standby_names, over whoever else sets it, and
// has a server that runs read it: it returns once a new session sees it. No names
// leave the setting to the node's parameters. The note is put in place with it,
// by one rename, so that whoever goes on from it (SyncNote) never goes on from
// what belongs to another setting.
func (s *Server) Synchronize(ctx context.Context, names, note string) error {
	path := s.beside(conf.Sync)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("synchronize: %w", err)
	}
	overruled := false
	if auto, err := os.ReadFile(s.in(conf.Auto)); err == nil { // ALTER SYSTEM, which is read last
		var text string
		if text, overruled = conf.Strip(string(auto), "synchronous_standby_names"); overruled {
			if err := s.write(s.in(conf.Auto), text, 0o600); err != nil {
				return fmt.Errorf("synchronize: %w", err)
			}
		}
	}
	if err := s.write(path, conf.SyncText(names, note), 0o600); err != nil {
		return fmt.Errorf("synchronize: %w", err)
	}
	p, running := Postmaster(s.data)
	if !running || !overruled && string(old) == conf.SyncText(names, conf.SyncNote(string(old))) {
		return nil
	}
	if err := unix.Kill(p.PID, unix.SIGHUP); err != nil {
		return fmt.Errorf("synchronize: %w", err)
	}
	s.log.Info("synchronous_standby_names set", "names", names)
	if f, ok := readPIDFile(s.data); names == "" || !ok || f.status != "ready" {
		return nil // whoever connects later sees it: the signal comes before them
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = until(ctx, pause, func() (bool, error) {
		conn, err := s.connect(ctx, nil)
		if err != nil {
			return false, nil
		}
		defer conn.Close(context.WithoutCancel(ctx))
		res, err := conn.Exec(ctx, "SHOW synchronous_standby_names").ReadAll()
		return err == nil && string(res[0].Rows[0][0]) == names, nil
	})
	if err != nil {
		return fmt.Errorf("synchronize: the server has not read its settings: %w", err)
	}
	return nil
}

// SyncNote is the note beside the setting that was written last.
func (s *Server) SyncNote() string {
	text, _ := os.ReadFile(s.beside(conf.Sync))
	return conf.SyncNote(string(text))
}

// A Probe is what is seen of a commit made to try synchronous_standby_names.
type Probe struct {
	Names  string // the setting as its session saw it
	LSN    pg.LSN // its commit record ends there or before
	Waited bool   // it waits, or waited, for standbys
	Done   bool   // it was acknowledged
}

// Probe commits something in a new session that waits for standbys as the
// setting says, and reports it when it is seen waiting and when it is done. It
// may wait for ever; ctx ends it.
func (s *Server) Probe(ctx context.Context, report func(Probe)) error {
	began := time.Now()
	conn, err := s.connect(ctx, map[string]string{"synchronous_commit": "on", "statement_timeout": "0"})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if ctx.Err() != nil {
			_ = conn.CancelRequest(late) // a wait for standbys does not notice that its client has left
		}
		_ = conn.Close(late)
	}()
	watch, err := s.connect(ctx, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer watch.Close(context.WithoutCancel(ctx))
	res, err := conn.Exec(ctx, "SELECT current_setting('synchronous_standby_names')").ReadAll()
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	p := Probe{Names: string(res[0].Rows[0][0])}
	// A message that nobody reads, in a transaction: it has an id, and so waits.
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'howdah', 'probe')").ReadAll()
		done <- err
	}()
	// Whoever waits for standbys has flushed its commit record by then.
	waits := "SELECT pg_current_wal_flush_lsn() FROM pg_stat_activity WHERE pid = " + strconv.Itoa(int(conn.PID())) + " AND wait_event = 'SyncRep'"
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err == nil {
				res, err = watch.Exec(ctx, "SELECT pg_current_wal_flush_lsn()").ReadAll()
			}
			if err != nil {
				return fmt.Errorf("probe: %w", err)
			}
			p.LSN, p.Done = lsn(res[0].Rows[0][0]), true
			report(p)
			s.log.Debug("setting probed", "names", p.Names, "waited", p.Waited, logkey.Took, time.Since(began))
			return nil
		case <-tick.C:
		}
		if p.Waited {
			continue
		}
		if res, err := watch.Exec(ctx, waits).ReadAll(); err == nil && len(res[0].Rows) == 1 {
			p.LSN, p.Waited = lsn(res[0].Rows[0][0]), true
			report(p)
		}
	}
}
