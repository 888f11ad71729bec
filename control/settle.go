package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/backup/restore"
	"howdah/backup/server"
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
	tl    pg.Timeline // that it ends on
	// standby: the data are a server's that was shut down, not a restore's that
	// stops at its target.
	standby bool
}

// run does it. It returns restore.ErrTarget-like errors by died.
func (s settling) run(ctx context.Context, died func(log string) error) error {
	open := &Peeked{Port: s.node.Postgres.Port, User: spec.Superuser, Database: "postgres", ended: make(chan struct{})}
	var err error
	if open.Host, err = os.MkdirTemp("", "howdah-settle-"); err != nil {
		return err
	}
	defer os.RemoveAll(open.Host)
	hba := filepath.Join(open.Host, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("local all all trust\n"), 0o644); err != nil {
		return err
	}
	if s.standby {
		if err := s.write("standby.signal", ""); err != nil {
			return err
		}
	}
	if s.owner.UID >= 0 {
		if err := os.Lchown(open.Host, s.owner.UID, s.owner.GID); err != nil {
			return err
		}
	}
	control, err := server.ReadControl(s.data)
	if err != nil {
		return err
	}
	// Arguments win over every file of the data.
	settings := map[string]string{
		"data_directory": s.data, "external_pid_file": "", "shared_buffers": "64MB", "huge_pages": "off", // the files of the data name the cluster's own
		"listen_addresses": "", "port": strconv.Itoa(open.Port), "unix_socket_directories": open.Host, "hba_file": hba, "ident_file": filepath.Join(open.Host, "pg_ident.conf"),
		"archive_mode": "on", "archive_command": "", "archive_library": "", "archive_timeout": "0", "ssl": "off", "hot_standby": "on", "logging_collector": "off",
		"log_destination": "stderr", "log_min_messages": "warning", "fsync": "on", "full_page_writes": "on", "autovacuum": "off", "synchronous_standby_names": "",
		"default_transaction_read_only": "on", "primary_conninfo": "", "primary_slot_name": "", "recovery_min_apply_delay": "0", "lc_messages": "C",
		"recovery_target_action": "pause", "max_slot_wal_keep_size": "-1", "shared_preload_libraries": s.node.Postgres.Parameters["shared_preload_libraries"],
	}
	if v, err := os.ReadFile(filepath.Join(s.data, "PG_VERSION")); err == nil && len(v) > 1 && string(v[:2]) < "15" {
		delete(settings, "archive_library")
	}
	if s.standby {
		settings["restore_command"], settings["recovery_target_timeline"] = "", "current"
	}
	for name, least := range control.Least {
		value, _ := strconv.Atoi(s.node.Postgres.Parameters[name])
		settings[name] = strconv.Itoa(max(least, value))
	}
	args := []string{"-D", s.data}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	out, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	postgres := exec.Command(filepath.Join(s.node.Postgres.Bin, "postgres"), args...)
	postgres.Dir, postgres.Env, postgres.Stdout, postgres.Stderr = s.data, s.owner.Env(), out, out
	postgres.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner.Credential, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if err := postgres.Start(); err != nil {
		return err
	}
	open.postgres = postgres
	go func() {
		defer close(open.ended)
		_ = postgres.Wait()
	}()
	defer open.Close() // if it has not ended by then
	ready := func(a answer) bool { return a.recovering && (a.paused || s.standby) }
	if err := s.await(ctx, open, ready, died); err != nil {
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
	if err := s.await(ctx, open, func(a answer) bool { return !a.recovering }, died); err != nil {
		return err
	}
	if _, err := open.ask(ctx, "checkpoint"); err != nil {
		return err
	}
	_ = postgres.Process.Signal(syscall.SIGINT)
	select {
	case <-open.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now, err := timelineOf(s.data)
	if err != nil {
		return err
	}
	if now != s.tl {
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

// An answer is how far a settling server is.
type answer struct{ recovering, paused bool }

func (s settling) await(ctx context.Context, open *Peeked, so func(answer) bool, died func(string) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-open.ended:
			return died(s.log)
		case <-tick.C:
			row, err := open.ask(ctx, `select pg_is_in_recovery(), case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused' else false end`)
			if err == nil && so(answer{row[0] == "t", row[1] == "t"}) {
				return nil
			}
		}
	}
}

// ask has the server do one thing, and returns the first row.
func (open *Peeked) ask(ctx context.Context, sql string) ([]string, error) {
	config, err := pgconn.ParseConfig(pg.DSN{{"host", open.Host}, {"port", strconv.Itoa(open.Port)}, {"user", open.User}, {"dbname", open.Database}, {"sslmode", "disable"}}.String())
	if err != nil {
		return nil, err
	}
	connect, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgconn.ConnectConfig(connect, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) == 0 {
		return nil, r.Err
	}
	var row []string
	for _, value := range r.Rows[0] {
		row = append(row, string(value))
	}
	return row, nil
}
