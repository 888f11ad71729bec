package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"howdah/backup/restore"
	"howdah/node"
	"howdah/pg"
	"howdah/spec"
)

// A settling is a server of our own on data that are to become a cluster's: it
// ends its recovery on a timeline that nobody else has begun, and is shut down in
// good order. Nobody reaches it but by its socket, and nothing of it is archived
// before the data are in place: what it has to archive waits in pg_wal.
type settling struct {
	node  spec.Node
	owner node.User
	data  string
	log   string
	tl    pg.Timeline // that it ends on; 0: the one after the last that its archive knows
	// standby: the data are a server's that was shut down, not a restore's that
	// stops at its target.
	standby bool
	// whole: there is no target; recovery ends where the archive does.
	whole bool
}

// run does it. It returns restore.ErrTarget-like errors by died.
func (s settling) run(ctx context.Context, died func(log string) error) error {
	if s.standby {
		if err := s.write("standby.signal", ""); err != nil {
			return err
		}
	}
	settings := map[string]string{
		"data_directory": s.data, "external_pid_file": "", "shared_buffers": "64MB", // the files of the data name the cluster's own
		"archive_mode": "on", "archive_command": "", "archive_library": "", "archive_timeout": "0", "fsync": "on", "full_page_writes": "on",
		"recovery_target_action": "pause", "max_slot_wal_keep_size": "-1",
	}
	if v, err := os.ReadFile(filepath.Join(s.data, "PG_VERSION")); err == nil && len(v) > 1 && string(v[:2]) < "15" {
		delete(settings, "archive_library")
	}
	if s.standby {
		settings["restore_command"], settings["recovery_target_timeline"] = "", "current"
	}
	var open scratch
	defer open.stop() // if it has not ended by then
	if err := open.start(s.node, s.owner, s.data, s.log, settings); err != nil {
		return err
	}
	const state = `select pg_is_in_recovery(), case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else false end`
	await := func(so func(recovering, paused bool) bool) error {
		return open.await(ctx, state, func(row []string) bool { return so(row[0] == "t", row[1] == "t") }, func() error { return died(s.log) })
	}
	if !s.whole {
		if err := await(func(recovering, paused bool) bool { return recovering && (paused || s.standby) }); err != nil {
			return err
		}
		if err := s.reserve(); err != nil {
			return err
		}
		end := "select pg_wal_replay_resume()"
		if s.standby {
			end = "select pg_promote(false)"
		}
		if _, err := open.ask(ctx, end); err != nil {
			return err
		}
	}
	if err := await(func(recovering, _ bool) bool { return !recovering }); err != nil {
		return err
	}
	if _, err := open.ask(ctx, "checkpoint"); err != nil {
		return err
	}
	_ = open.postgres.Process.Signal(syscall.SIGINT)
	select {
	case <-open.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now, err := timelineOf(s.data)
	if err != nil {
		return err
	}
	if s.tl != 0 && now != s.tl {
		return fmt.Errorf("it ended on timeline %s instead of %s", now, s.tl)
	}
	return s.forget()
}

// reserve lays empty histories for the timelines that others may have begun:
// PostgreSQL goes on with the number after the last it knows of.
func (s settling) reserve() error {
	now, err := timelineOf(s.data)
	if err != nil {
		return err
	}
	for id := now + 1; id < s.tl; id++ {
		name := filepath.Join("pg_wal", id.HistoryFile())
		if _, err := os.Lstat(filepath.Join(s.data, name)); errors.Is(err, fs.ErrNotExist) {
			if err := s.write(name, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget takes away what recovery was told, which is the last part of the file:
// a member's agent says what it follows.
func (s settling) forget() error {
	const auto = "postgresql.auto.conf"
	text, err := os.ReadFile(filepath.Join(s.data, auto))
	if err != nil {
		return err
	}
	if i := bytes.Index(text, []byte(restore.RecoverySection)); i >= 0 {
		return s.write(auto, string(text[:i]))
	}
	return nil
}

func (s settling) write(name, text string) error {
	path := filepath.Join(s.data, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil || s.owner.UID < 0 {
		return err
	}
	return os.Lchown(path, s.owner.UID, s.owner.GID)
}
