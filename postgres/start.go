package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/logkey"
	"howdah/netport"
	"howdah/node/process"
	"howdah/pg"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
)

// A Mode is how a server is asked to stop.
type Mode string

// Modes of pg_ctl. Smart is missing on purpose: it waits for clients, so it is
// no way to end a right to write.
const (
	Fast      Mode = "fast"      // clients are cut off, everything is checkpointed and sent
	Immediate Mode = "immediate" // as a crash
)

// Start starts the server as a primary (up nil) or as a standby of *up; an
// upstream without a name is a standby that follows nobody. It returns when the
// server accepts connections, when it has failed, or when ctx ends; then it may
// still be starting. A server that runs already is ErrRunning.
//
// Data of a standby or a fresh copy is refused as a primary: that would continue
// a timeline which belongs to somebody else. Such a server is started as a
// standby and promoted.
func (s *Server) Start(ctx context.Context, up *pg.Upstream) error {
	ctl, err := s.stopped("start PostgreSQL")
	if err != nil {
		return err
	}
	if up == nil {
		_, err := os.Lstat(s.in("backup_label"))
		if err == nil || !ctl.WasPrimary() {
			return fmt.Errorf("start as a primary: the data is a standby's or a copy (%s): start it as a standby and promote it: %w", ctl.State, ErrNotPrimaryData)
		}
	}
	if up != nil {
		if err := s.allowed(*up); err != nil {
			return fmt.Errorf("start as a standby of %w", err)
		}
	}
	if err := s.Check(); err != nil {
		return err
	}
	if s.node.Address != "" { // a server without one listens on its socket only
		if err := netport.Check(s.node.Address, s.node.Postgres.Port); err != nil {
			return err
		}
	}
	if up != nil { // it shows what a standby may show
		if err := remove(shutPath(s.node)); err != nil {
			return err
		}
	}
	if err := s.configure(ctl, up); err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	if err := s.clearStale(); err != nil {
		return err
	}
	if err := s.unreserve(); err != nil {
		return err
	}
	log, err := s.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	from, _ := log.Seek(0, 2)
	began := time.Now()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := s.spawn(ctx, null, log)
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	ended, stop := context.WithCancel(ctx)
	defer stop()
	dead := make(chan error, 1)
	go func() { dead <- p.waitExit(ended) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-dead:
			if err == nil {
				return s.startFailed(from)
			}
			return fmt.Errorf("start PostgreSQL: not ready yet: %w", ctx.Err())
		case <-tick.C:
		}
		if f, ok := readPIDFile(s.data); ok && f.pid == p.PID && f.status == "ready" {
			stop()
			<-dead
			s.log.Info("postgresql started", logkey.PID, p.PID, logkey.Took, time.Since(began), "standby", up != nil)
			return nil
		}
	}
}

// spawn starts the postmaster. A Kill that comes meanwhile waits for it, and
// one that came before has ended ctx: no server appears behind its back.
func (s *Server) spawn(ctx context.Context, stdin, out *os.File) (Proc, error) {
	s.spawning.Lock()
	defer s.spawning.Unlock()
	if err := ctx.Err(); err != nil {
		return Proc{}, err
	}
	program := s.programs.Path("postgres") // by its full path: it finds its shared files from there
	var server *os.Process
	err := process.Punctual(func() (err error) {
		server, err = os.StartProcess(program, []string{program, "-D", s.data}, &os.ProcAttr{
			// In the data directory from its first moment, so that it is found there.
			Dir: s.data, Files: []*os.File{stdin, out, out}, Sys: s.account.attr(),
			// The postmaster keeps the score that the supervisor gave us; its children
			// are picked first when memory runs out.
			Env: s.account.environ("PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0"),
		})
		return err
	})
	if err != nil {
		return Proc{}, err
	}
	p := Proc{PID: server.Pid}
	_ = server.Release() // we reap by pidfd, as any process that adopts it must
	if st, ok := readStat(p.PID); ok {
		p.Ticks = st.ticks
	}
	s.watch(p)
	return p, nil
}

// ErrNotPrimaryData refuses to run a standby's data as a primary.
var ErrNotPrimaryData = errors.New("not the data of a primary")

// stopped verifies that there is a data directory of ours and that nothing runs on it.
func (s *Server) stopped(what string) (control, error) {
	switch state, err := s.dataState(); {
	case err != nil:
		return control{}, err
	case state != pg.DataPresent:
		return control{}, fmt.Errorf("%s: the data directory %s is %s", what, s.data, state)
	}
	if err := s.nothingRuns(); err != nil {
		return control{}, fmt.Errorf("%s: %w", what, err)
	}
	if v, err := os.ReadFile(s.in("PG_VERSION")); err != nil || strings.TrimSpace(string(v)) != strconv.Itoa(s.programs.Major) {
		return control{}, &problem.Error{
			Code: "datadir-version", What: "cannot use the data directory " + s.data,
			Why: fmt.Sprintf("it was made by PostgreSQL %s and the programs are %s", strings.TrimSpace(string(v)), s.programs.Version),
			Do:  "set the major of the data in the inventory", Err: err,
		}
	}
	return readControl(s.data)
}

// nothingRuns returns ErrRunning or ErrRemains while processes hold the data directory.
func (s *Server) nothingRuns() error {
	if p, ok := Postmaster(s.data); ok {
		return fmt.Errorf("%w (pid %d)", ErrRunning, p.PID)
	}
	all, err := holders(s.data)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		return fmt.Errorf("%w (pid %d and %d more)", ErrRemains, all[0].PID, len(all)-1)
	}
	return nil
}

// clearStale removes what a killed postmaster left: its segment, pid file and
// socket, which would stop the next one once the pid is given out again. The caller
// has verified that nothing holds the data directory.
func (s *Server) clearStale() error {
	releaseSegment(s.data)
	if err := remove(s.in("postmaster.pid")); err != nil {
		return err
	}
	socket := filepath.Join(s.node.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(s.node.Postgres.Port))
	text, err := os.ReadFile(socket + ".lock")
	if err != nil {
		return nil
	}
	if lines := strings.Split(string(text), "\n"); len(lines) > 1 && filepath.Clean(lines[1]) == s.data {
		_ = os.Remove(socket + ".lock")
		_ = os.Remove(socket)
	}
	return nil
}

// configure writes every file that the server reads at its start.
func (s *Server) configure(ctl control, up *pg.Upstream) error {
	if err := s.mkdir(s.node.Paths.Sockets, 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(s.in(conf.Base)); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(s.in(conf.File), s.in(conf.Base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := s.writeSettings(ctl, up != nil); err != nil {
		return err
	}
	if err := s.writeFollowing(up); err != nil {
		return err
	}
	if auto, err := os.ReadFile(s.in(conf.Auto)); err == nil {
		if text, changed := conf.StripRecovery(string(auto)); changed {
			if err := s.write(s.in(conf.Auto), text, 0o600); err != nil {
				return err
			}
		}
	}
	if _, err := os.Lstat(s.in("pg_ident.conf")); errors.Is(err, fs.ErrNotExist) {
		if err := s.write(s.in("pg_ident.conf"), "", 0o600); err != nil {
			return err
		}
	}
	// A promotion that was asked for before the last stop is no longer meant.
	for _, name := range []string{"recovery.signal", "promote"} {
		if err := remove(s.in(name)); err != nil {
			return err
		}
	}
	if up == nil {
		return remove(s.in("standby.signal"))
	}
	return s.write(s.in("standby.signal"), "", 0o600)
}

// writeSettings writes postgresql.conf and pg_hba.conf.
func (s *Server) writeSettings(ctl control, standby bool) error {
	f := conf.Facts{Data: s.data, Standby: standby, Least: ctl.least}
	if s.node.TLS.Key != "" {
		key, err := s.tlsKey()
		if err != nil {
			return err
		}
		f.Key = key
	}
	n := s.node
	s.own.Lock()
	n.Postgres.Parameters, n.Postgres.HBA = map[string]string{}, s.own.hba
	maps.Copy(n.Postgres.Parameters, s.own.parameters)
	maps.Copy(n.Postgres.Parameters, s.own.dynamic)
	s.own.raised = conf.Raised(n, f)
	s.own.Unlock()
	rules := conf.Rules(n, standby)
	if !standby && Shut(n) {
		rules = conf.Closed(n)
	}
	if err := s.write(s.in(conf.HBA), rules, 0o600); err != nil {
		return err
	}
	return s.write(s.in(conf.File), conf.Text(conf.Settings(n, f), s.beside(conf.Sync)), 0o600)
}

// writeFollowing writes whom to follow; nil on a primary.
func (s *Server) writeFollowing(up *pg.Upstream) error {
	var settings map[string]string
	if up != nil {
		if up.Name != "" {
			if err := s.writePassfile(); err != nil {
				return err
			}
		}
		settings = conf.Following(s.node, *up, s.beside("pgpass"))
		if command := s.fetching(); command != "" && up.Name != "" {
			settings["restore_command"] = command
		}
	}
	return s.write(s.in(conf.Standby), conf.StandbyText(settings), 0o600)
}

// writePassfile writes the passwords with which this node reaches its upstream.
func (s *Server) writePassfile() error {
	all, err := s.secrets()
	if err != nil {
		return err
	}
	return s.write(s.beside("pgpass"), conf.Passfile(map[string]string{
		spec.Replicator: all[spec.SecretReplicate].Reveal(),
		spec.Superuser:  all[spec.SecretSuper].Reveal(),
	}), 0o600)
}

// tlsKey returns a key file as PostgreSQL insists on (be-secure-common.c,
// check_ssl_key_file_permissions): its user's and 0600, or root's and 0640.
// The machine's key, if it is neither, is copied.
func (s *Server) tlsKey() (string, error) {
	st, err := os.Stat(s.node.TLS.Key)
	if err != nil {
		return "", err
	}
	if stat, ok := st.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == s.account.uid && st.Mode().Perm()&0o077 == 0 {
		return s.node.TLS.Key, nil
	}
	text, err := os.ReadFile(s.node.TLS.Key)
	if err != nil {
		return "", err
	}
	return s.beside("server.key"), s.write(s.beside("server.key"), string(text), 0o600)
}

// logLimit bounds the server's log: at a start a longer one becomes the old one.
const logLimit = 64 << 20

func (s *Server) logPath() string { return filepath.Join(s.node.Paths.Log, "postgresql.log") }

func (s *Server) openLog() (*os.File, error) {
	if _, err := os.Stat(s.node.Paths.Log); err != nil {
		if err := s.mkdir(s.node.Paths.Log, 0o750); err != nil {
			return nil, err
		}
	}
	if st, err := os.Stat(s.logPath()); err == nil && st.Size() > logLimit {
		if err := os.Rename(s.logPath(), s.logPath()+".1"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(s.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	if s.account.other {
		_ = f.Chown(s.account.uid, s.account.gid)
	}
	return f, nil
}

// startFailed says why the postmaster died, in its own words.
func (s *Server) startFailed(from int64) error {
	why := "it left no message"
	if f, err := os.Open(s.logPath()); err == nil {
		defer f.Close()
		buf := make([]byte, 64<<10)
		n, _ := f.ReadAt(buf, from)
		var said []string
		for line := range strings.Lines(string(buf[:n])) {
			for _, level := range []string{"FATAL:", "PANIC:", "HINT:", "postgres: ", "LOG:  "} {
				at := strings.Index(line, level)
				// Of the log lines only a complaint about a file of settings is a cause.
				if at >= 0 && (level != "LOG:  " || strings.Contains(line, " in file ") || strings.Contains(line, "configuration")) {
					said = append(said, strings.TrimSpace(line[at:]))
					break
				}
			}
		}
		if len(said) > 0 {
			why = strings.Join(said[max(0, len(said)-3):], "; ")
		} else if n > 0 {
			why = lastLines(string(buf[:n]), 3)
		}
	}
	if strings.Contains(why, "No space left on device") {
		return s.full("start PostgreSQL", errors.New(why))
	}
	return &problem.Error{
		Code: "postgres-start", What: "PostgreSQL did not start", Why: why, Do: "read " + s.logPath(),
	}
}

// Stop asks the server to stop and returns when nothing holds the data
// directory any more; nothing running is success. If ctx ends first the server
// may still be stopping. A frozen server is ErrFrozen: to stop in good order it
// would have to run, and that is for the caller to allow (Thaw).
func (s *Server) Stop(ctx context.Context, mode Mode) error {
	p, ok := Postmaster(s.data)
	if ok {
		if st, ok := readStat(p.PID); ok && st.stopped() {
			return fmt.Errorf("stop PostgreSQL: %w", ErrFrozen)
		}
		signal := unix.SIGINT
		if mode == Immediate {
			signal = unix.SIGQUIT
		}
		if err := unix.Kill(p.PID, signal); err != nil && err != unix.ESRCH {
			return fmt.Errorf("stop PostgreSQL: %w", err)
		}
		if err := p.waitExit(ctx); err != nil {
			return fmt.Errorf("stop PostgreSQL: still stopping: %w", err)
		}
	}
	// Children see their postmaster die within milliseconds, unless one is busy.
	err := until(ctx, 5*time.Millisecond, func() (bool, error) {
		all, err := holders(s.data)
		return len(all) == 0, err
	})
	if err != nil {
		return fmt.Errorf("stop PostgreSQL: %w: %w", ErrRemains, err)
	}
	return nil
}

// Reload writes the settings anew and has the server read them.
func (s *Server) Reload(context.Context) error {
	p, ok := Postmaster(s.data)
	if !ok {
		return fmt.Errorf("reload PostgreSQL: %w", ErrNotRunning)
	}
	ctl, err := readControl(s.data)
	if err != nil {
		return fmt.Errorf("reload PostgreSQL: %w", err)
	}
	_, err = os.Lstat(s.in("standby.signal"))
	if err := s.writeSettings(ctl, err == nil); err != nil {
		return fmt.Errorf("reload PostgreSQL: %w", err)
	}
	return unix.Kill(p.PID, unix.SIGHUP)
}

// Refresh has a server that runs already take up what the node's description
// says now; nothing is touched when that is what it has.
func (s *Server) Refresh(ctx context.Context) error {
	if _, ok := Postmaster(s.data); !ok {
		return nil
	}
	ctl, err := readControl(s.data)
	if err != nil {
		return fmt.Errorf("refresh PostgreSQL: %w", err)
	}
	_, err = os.Lstat(s.in("standby.signal"))
	standby := err == nil
	var before [2]string
	for i, name := range []string{conf.File, conf.HBA} {
		text, err := os.ReadFile(s.in(name))
		if err != nil {
			return fmt.Errorf("refresh PostgreSQL: %w", err)
		}
		before[i] = string(text)
	}
	if err := s.writeSettings(ctl, standby); err != nil {
		return fmt.Errorf("refresh PostgreSQL: %w", err)
	}
	if standby { // the others may know it by another password
		if err := s.writePassfile(); err != nil {
			return fmt.Errorf("refresh PostgreSQL: %w", err)
		}
	}
	for i, name := range []string{conf.File, conf.HBA} {
		if text, err := os.ReadFile(s.in(name)); err != nil || string(text) != before[i] {
			s.log.Info("settings changed", logkey.Path, s.in(name))
			return s.Reload(ctx)
		}
	}
	return nil
}

// Configure replaces the node's own parameters and access rules. They count
// from the next start or Reload; Look's Restart says when a reload was not enough.
func (s *Server) Configure(parameters map[string]string, hba []spec.AccessRule) {
	s.own.Lock()
	defer s.own.Unlock()
	s.own.parameters, s.own.hba = maps.Clone(parameters), slices.Clone(hba)
}

// Kill ends every process that holds the data directory, frozen ones too;
// nil means that it was seen that none is left. End the context of a Start that
// may be on its way first: it spawns nothing after that.
func (s *Server) Kill(ctx context.Context) error {
	s.spawning.Lock()
	defer s.spawning.Unlock()
	return Kill(ctx, s.data)
}

// Freeze stops the server where it stands; see the function of that name.
func (s *Server) Freeze(context.Context) error { return Freeze(s.data) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw(context.Context) error { return Thaw(s.data) }
