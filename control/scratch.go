package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/backup/server"
	"howdah/node"
	"howdah/pg"
	"howdah/spec"
)

// A scratch is a server of our own on restored data, whatever those were told to
// be: nobody reaches it but by its socket, which its owner alone may enter. It
// goes with us.
type scratch struct {
	Host     string `json:"host"` // directory of the socket
	Port     int    `json:"port"`
	User     string `json:"user"`
	Database string `json:"database"`
	postgres *exec.Cmd
	ended    chan struct{}
}

// start starts it as n's programs and owner would run it. Arguments win over every
// file of the data. What it says is put into log, from its beginning.
func (s *scratch) start(n spec.Node, owner node.User, data, log string, settings map[string]string) (err error) {
	s.Port, s.User, s.Database, s.ended = n.Postgres.Port, spec.Superuser, "postgres", make(chan struct{})
	if s.Host, err = os.MkdirTemp("", "howdah-"+peekDir); err != nil { // short: a socket's path has 107 bytes
		return err
	}
	hba := filepath.Join(s.Host, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("local all all trust\n"), 0o644); err != nil {
		return err
	}
	if owner.UID >= 0 {
		if err := os.Lchown(s.Host, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	control, err := server.ReadControl(data)
	if err != nil {
		return err
	}
	all := map[string]string{
		"listen_addresses": "", "port": strconv.Itoa(s.Port), "unix_socket_directories": s.Host, "hba_file": hba, "ident_file": filepath.Join(s.Host, "pg_ident.conf"),
		"ssl": "off", "hot_standby": "on", "logging_collector": "off", "log_destination": "stderr", "log_min_messages": "warning", "lc_messages": "C",
		"huge_pages": "off", "autovacuum": "off", "synchronous_standby_names": "", "default_transaction_read_only": "on",
		"primary_conninfo": "", "primary_slot_name": "", "recovery_min_apply_delay": "0",
		"shared_preload_libraries": n.Postgres.Parameters["shared_preload_libraries"],
	}
	maps.Copy(all, settings)
	for name, least := range control.Least { // with less recovery refuses to begin
		value, _ := strconv.Atoi(n.Postgres.Parameters[name])
		all[name] = strconv.Itoa(max(least, value))
	}
	args := []string{"-D", data}
	for name, value := range all {
		args = append(args, "-c", name+"="+value)
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	postgres := exec.Command(filepath.Join(n.Postgres.Bin, "postgres"), args...)
	postgres.Dir, postgres.Env, postgres.Stdout, postgres.Stderr = data, owner.Env(), out, out
	postgres.SysProcAttr = &syscall.SysProcAttr{Credential: owner.Credential, Setpgid: true, Pdeathsig: syscall.SIGQUIT} // Ctrl-C is for us, who stop it
	if err := postgres.Start(); err != nil {
		return err
	}
	s.postgres = postgres
	go func() {
		defer close(s.ended)
		_ = postgres.Wait()
	}()
	return nil
}

// await returns when the server's answer to sql is so, or died's error when it
// has ended.
func (s *scratch) await(ctx context.Context, sql string, so func(row []string) bool, died func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ended:
			return died()
		case <-tick.C:
			row, err := s.ask(ctx, sql)
			if err == nil && len(row) > 0 && so(row) {
				return nil
			}
			if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == "28000" || e.Code == "3D000") {
				return fmt.Errorf("%s; data that were not made by Howdah need a role and a database %s", e.Message, spec.Superuser) // role, or database, is not there
			}
		}
	}
}

// ask has the server do one thing, and returns the first row, if there is one.
func (s *scratch) ask(ctx context.Context, sql string) ([]string, error) {
	config, err := pgconn.ParseConfig(pg.DSN{{"host", s.Host}, {"port", strconv.Itoa(s.Port)}, {"user", s.User}, {"dbname", s.Database}, {"sslmode", "disable"}}.String())
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

// shut has it write out what it has and end; false if it has not.
func (s *scratch) shut(ctx context.Context) bool {
	if s.postgres.Process.Signal(syscall.SIGINT) != nil { // fast shutdown
		return false
	}
	select {
	case <-s.ended:
		return s.postgres.ProcessState.Success()
	case <-ctx.Done():
		return false
	}
}

// stop ends it at once, if it has not ended, and removes what it had beside the data.
func (s *scratch) stop() {
	if s.postgres != nil {
		_ = s.postgres.Process.Signal(syscall.SIGQUIT)
		select {
		case <-s.ended:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-s.postgres.Process.Pid, syscall.SIGKILL)
			<-s.ended
		}
	}
	if s.Host != "" {
		_ = os.RemoveAll(s.Host)
	}
}
