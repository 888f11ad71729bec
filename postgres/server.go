// Package postgres runs one PostgreSQL server: initdb, start, stop, promote,
// follow, base backup, rewind, freeze, verified kill, and one cheap look at it.
//
// It carries out and reports, and never decides: whether this server may be a
// primary is the agent's business. It deletes no data but what an initdb or a
// base backup of its own left half done. Its truth is the data directory, the
// process table and the server's own answers, never a memory of what it did:
// a new Server on the same directory finds and adopts what runs there.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// Options say which server.
type Options struct {
	Node spec.Node
	Log  *slog.Logger // nil: silent
}

// A Server is one node's PostgreSQL. Its methods may be called from several
// goroutines; two that change the server at the same time is the caller's mistake,
// except Kill and Freeze, which may come at any moment.
type Server struct {
	node     spec.Node
	data     string
	programs Programs
	account  account
	log      *slog.Logger
	died     chan struct{}
	diedAt   atomic.Pointer[time.Time] // when the last one did that Run watched
	found    chan Proc                 // to Run: a postmaster to watch

	look struct { // Look's own state
		sync.Mutex
		conn    *pgconn.PgConn
		of      Proc   // the postmaster that conn belongs to
		ending  Proc   // one that was seen to shut down
		loaded  string // pg_conf_load_time when pending was asked
		pending []pg.Pending
		// programs are those that are installed now.
		programs installed
		history  struct { // of the timeline that a primary is on
			of    pg.Timeline
			lines pg.History
		}
		lax       string     // the server's synchronous_commit
		commits   pg.Commits // at commitsAt
		commitsAt time.Time
		received  pg.Timeline // newest timeline the receiver of this postmaster was on
	}
	watched struct { // the postmaster that Run knows of
		sync.Mutex
		Proc
	}
	own struct { // the node's own settings, which may change
		sync.Mutex
		parameters map[string]string
		dynamic    map[string]string // over those: of the cluster's dynamic configuration
		hba        []spec.AccessRule
		raised     map[string]string // what a standby has larger than these say, and what they say; see conf.Raised
	}
	knocks   knocks     // logins that were tried
	spawning sync.Mutex // held while a postmaster is started, and by Kill
}

// Errors that callers branch on.
var (
	ErrRunning    = errors.New("the server is running")
	ErrNotRunning = errors.New("the server is not running")
	ErrFrozen     = errors.New("the server is frozen")
	ErrNotStandby = errors.New("the server is not a standby")
	ErrRemains    = errors.New("processes of the server remain")
)

// Open returns the server of a node and touches nothing: whatever runs on its
// data directory is adopted by looking at it.
func Open(o Options) (*Server, error) {
	s := &Server{
		node: o.Node, data: filepath.Clean(o.Node.Postgres.Data), log: o.Log,
		died: make(chan struct{}, 1), found: make(chan Proc, 1),
	}
	s.own.parameters, s.own.hba = o.Node.Postgres.Parameters, o.Node.Postgres.HBA
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.account, err = accountOf(o.Node.User); err != nil {
		return nil, err
	}
	if o.Node.Postgres.Bin != "" {
		s.programs, err = At(o.Node.Postgres.Bin)
	} else {
		s.programs, err = Find(o.Node.Postgres.Major)
	}
	if err != nil {
		return nil, err
	}
	s.look.programs.version = s.programs.Version
	s.look.programs.at, _ = imprintOf(s.programs.Path("postgres"))
	if m := o.Node.Postgres.Major; m != 0 && m != s.programs.Major {
		return nil, &problem.Error{
			Code: "postgres-missing", What: fmt.Sprintf("cannot use PostgreSQL %d", m),
			Why: fmt.Sprintf("%s holds version %s", s.programs.Bin, s.programs.Version),
			Do:  "correct the major or the directory of programs",
		}
	}
	return s, nil
}

// Programs is the installation that the server runs with.
func (s *Server) Programs() Programs { return s.programs }

// Close drops our connection; the server runs on.
func (s *Server) Close() error {
	s.look.Lock()
	defer s.look.Unlock()
	s.hangUp()
	return nil
}

// beside is a path in the node's directory, outside the data directory: what
// must not be part of a base backup or go away with the data.
func (s *Server) beside(name string) string { return filepath.Join(s.node.Paths.Dir, name) }

// in is a path in the data directory.
func (s *Server) in(name string) string { return filepath.Join(s.data, name) }

// secrets reads the node's secrets.
func (s *Server) secrets() (map[string]secret.Text, error) {
	raw, err := os.ReadFile(s.node.Paths.Secrets)
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	var all map[string]secret.Text
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("read secrets %s: %w", s.node.Paths.Secrets, err)
	}
	return all, nil
}

// write puts a file in place whole or not at all, owned by PostgreSQL's user.
func (s *Server) write(path, text string, mode fs.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		if st, err := os.Stat(path); err == nil && st.Mode().Perm() == mode {
			return nil
		}
	}
	aside := path + ".howdah"
	f, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if s.account.other {
		if err := f.Chown(s.account.uid, s.account.gid); err != nil {
			return err
		}
	}
	if _, err := f.WriteString(text); err != nil {
		return s.diskFull("write "+path, err)
	}
	if err := f.Sync(); err != nil {
		return s.diskFull("write "+path, err)
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// remove deletes a file, if it is there, for good.
func remove(path string) error {
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// mkdir makes a directory of PostgreSQL's user, or corrects what a predecessor made.
func (s *Server) mkdir(dir string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { // the way there is open to PostgreSQL's user
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.account.other {
		if err := os.Chown(dir, s.account.uid, s.account.gid); err != nil {
			return err
		}
	}
	return os.Chmod(dir, mode)
}

// connect opens a connection of our own: the owner's socket, the superuser.
func (s *Server) connect(ctx context.Context, settings map[string]string) (*pgconn.PgConn, error) {
	return s.connectTo(ctx, "postgres", settings)
}

func (s *Server) connectTo(ctx context.Context, database string, settings map[string]string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig("")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port = s.node.Paths.Sockets, uint16(s.node.Postgres.Port)
	c.User, c.Database, c.Password = spec.Superuser, database, ""
	c.TLSConfig, c.Fallbacks = nil, nil
	c.RuntimeParams = map[string]string{
		"application_name":   "howdah agent",
		"search_path":        "pg_catalog",
		"synchronous_commit": "local", // nothing of ours may wait for a standby
		// What the disk guard closes to clients is open to us.
		"default_transaction_read_only": "off",
		// The log of slow statements is for the clients': ours come every second.
		"log_min_duration_statement": "-1",
	}
	for k, v := range settings {
		c.RuntimeParams[k] = v
	}
	return pgconn.ConnectConfig(ctx, c)
}

// exec runs statements on a connection of their own, without a time limit but ctx.
func (s *Server) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	conn, err := s.connect(ctx, map[string]string{"statement_timeout": "0"})
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.Exec(ctx, sql).ReadAll()
}

// diskFull turns "no space left" into a problem that names the file system.
func (s *Server) diskFull(what string, err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return s.full(what, err)
}
