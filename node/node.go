// Package node is the supervisor of one machine: it starts the roles that the
// inventory gives its node, or its nodes where it has several servers, each a
// process of its own, keeps them running and guards the leases.
//
// It is the only part that may be root, so it parses nothing from the network.
// It outlives no role and no role outlives its purpose: killed, it leaves all
// of them running, and the next supervisor adopts them by pid and start time.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"howdah/lease"
	"howdah/lifecycle"
	"howdah/listen"
	"howdah/logkey"
	"howdah/node/process"
	"howdah/problem"
	"howdah/spec"
)

// Who the kernel kills first when memory ends, from the last to the first.
const (
	oomPostmaster = -1000
	oomSupervisor = -1000
	oomRole       = -900
	oomGateway    = -500
	oomJobs       = 300
	oomObserve    = 500
)

// A Role is one daemon of the node.
type Role struct {
	Name  string
	Args  []string
	Env   []string // beside the few variables that every role gets
	OOM   int
	Low   bool          // it gives way to every other for processor and disk
	Slack time.Duration // of the watcher of its runtime
	Grace time.Duration // from SIGTERM to SIGKILL
	Caps  []uintptr     // capabilities that it keeps, if the supervisor is root
	// Listen are the sockets that the supervisor keeps for the role.
	Listen []listen.Place
	// Sockets is where the role gives them back to a new supervisor.
	Sockets string
}

// agentGrace is how long an agent may take to hand over and to stop its server.
const agentGrace = 80 * time.Second

// gateway is the role that serves clients.
const gateway = "gateway"

// stages are the roles in the order they start, and stop in reverse: those of
// one name together, whichever nodes of the machine they are of.
var stages = []string{"jobs", "observe", "etcd", gateway, "dns", "agent", "vip"}

// Roles are what n runs, in the order of their stages: the agent stops first,
// because it hands leadership over through the store.
func Roles(n spec.Node) []Role {
	var roles []Role
	if n.Jobs != (spec.Jobs{}) || n.Backup.Repo != "" || n.Logs.Data != "" || len(n.Remotes) > 0 {
		// It stops last: nothing waits for it.
		memory := "GOMEMLIMIT=64MiB"
		if n.Backup.Repo != "" {
			memory = "GOMEMLIMIT=256MiB" // a backup lists every file of the cluster; between backups it is given back
		}
		roles = append(roles, Role{
			Name: "jobs", Args: []string{"jobs", "--node", n.Paths.Dir},
			Env: []string{memory}, OOM: oomJobs, Low: true, Grace: 3 * time.Second,
		})
	}
	if n.Observe.On() {
		// Nothing depends on it: it looks at the others, and no other looks at it.
		roles = append(roles, Role{
			Name: "observe", Args: []string{"observe", "--node", n.Paths.Dir},
			Env: []string{"GOMEMLIMIT=160MiB", "GOGC=50", "GOMAXPROCS=1"}, OOM: oomObserve, Low: true, Grace: 10 * time.Second,
		})
	}
	if n.Etcd.Member != "" {
		roles = append(roles, Role{
			Name: "etcd", Args: []string{"etcd", "serve", "--node", n.Paths.Dir},
			// One thread that runs Go is plenty for a few puts a second, and an idle
			// member does little but pass heartbeats from one goroutine to the next:
			// with more, each pass wakes another thread, for a quarter of its CPU
			// time. Commits take as long as before: a thread that waits for the disk
			// does not count. The tracing, a line every 24 days, is there for what it
			// stops: docs/decisions/2026-11-21-an-idle-store.md.
			Env: []string{"GOMEMLIMIT=64MiB", "GOGC=50", "GOMAXPROCS=1", "GODEBUG=schedtrace=2147483647"},
			OOM: oomRole, Slack: 20 * time.Millisecond, Grace: 10 * time.Second,
		})
	}
	if n.Serves() {
		// It goes after the agent: its clients wait here while leadership moves.
		roles = append(roles, Role{
			Name: gateway, Args: []string{gateway, "--node", n.Paths.Dir},
			Env: []string{"GOMEMLIMIT=256MiB"}, OOM: oomGateway, Grace: 5 * time.Second,
			Listen: listen.Gateway(n), Sockets: listen.SocketOf(n),
		})
	}
	if n.DNS.On() {
		roles = append(roles, Role{
			Name: "dns", Args: []string{"dns", "--node", n.Paths.Dir},
			Env:  []string{"GOMEMLIMIT=32MiB", "GOGC=50", "GOMAXPROCS=1"},
			Caps: []uintptr{unix.CAP_NET_BIND_SERVICE},
			OOM:  oomJobs, Grace: 3 * time.Second,
		})
	}
	if n.Postgres.Data == "" { // a node of a store or of gateways alone
		return roles
	}
	roles = append(roles, Role{
		Name: "agent", Args: []string{"agent", "--node", n.Paths.Dir},
		Env: []string{
			"GOMEMLIMIT=40MiB", "GOGC=50", "GOMAXPROCS=1", // it decides one thing at a time
			// The postmaster inherits these: its children give themselves back
			// to the kernel's mercy (PostgreSQL manual, "Linux Memory Overcommit").
			"PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0",
		},
		// Longer than the agent gives its own parts (agent.Grace): it ends by
		// itself, and is killed only when it hangs.
		OOM: oomRole, Slack: 20 * time.Millisecond, Grace: agentGrace,
	})
	if n.VIP.Address != "" {
		// It goes first: who is being stopped is not to be connected to any more,
		// and the agent's handover takes as long as it takes.
		roles = append(roles, Role{
			Name: "vip", Args: []string{"vip", "--node", n.Paths.Dir},
			Env:  []string{"GOMEMLIMIT=16MiB", "GOGC=50", "GOMAXPROCS=1"},
			Caps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
			OOM:  oomRole, Grace: 3 * time.Second,
		})
	}
	return roles
}

// SupervisorArgs are the arguments that start the supervisor of the node in dir.
func SupervisorArgs(dir string) []string { return []string{"node", "--node", dir} }

// SupervisorFile holds the supervisor's pid.
func SupervisorFile(n spec.Node) process.File {
	return process.File(filepath.Join(n.Paths.Run, "node.pid"))
}

// RoleFile holds a role's pid.
func RoleFile(n spec.Node, role string) process.File {
	return process.File(filepath.Join(n.Paths.Run, role+".pid"))
}

// Drain is the signal that stops every role but etcd. Whoever stops a whole
// cluster drains all nodes before it stops the first one, so that the last
// primary still has a store to let go of its key in.
const Drain = unix.SIGUSR1

// Leave is the signal at which the supervisor ends and its roles go on: the next one
// finds them, and has each begin anew, with the program and the description of the
// node that are there then. At the same signal an agent ends at a quiet moment, and
// leaves server and key to its successor; a gateway starts its successor itself, and ends
// when its sessions have gone over to that one.
const Leave = unix.SIGUSR2

// haste is what a role that is being stopped has left after a second signal.
const haste = 3 * time.Second

// Run supervises nodes, all that this machine has of its inventory, until ctx
// ends or SIGTERM or SIGINT arrives; a second signal shortens what the roles have
// left to stop. At Leave it ends alone. At SIGHUP it lets go of nodes that were retired. beside are what else
// is to be done for them as long.
func Run(ctx context.Context, nodes []spec.Node, log *slog.Logger, beside ...lifecycle.Part) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, Drain, Leave)
	defer signal.Stop(signals)

	var all []*share
	for _, n := range nodes {
		s, err := newShare(n, log, len(nodes) > 1)
		if err != nil {
			return err
		}
		defer s.drain()
		all = append(all, s)
	}
	unlock, err := lock(nodes)
	if err != nil {
		return err
	}
	defer unlock()
	self, _ := process.Of(os.Getpid())
	process.SetOOM(self, oomSupervisor)
	// It wakes twice a second and does one thing then: with more threads that run
	// Go, each waking wakes the others, for two thirds of its CPU time. What it
	// starts is not bound by this.
	runtime.GOMAXPROCS(1)
	for _, n := range nodes {
		pidFile := SupervisorFile(n)
		if err := pidFile.Write(self); err != nil {
			return fmt.Errorf("supervisor's pid file: %w", err)
		}
		defer os.Remove(string(pidFile))
	}

	reaper, err := process.NewReaper()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var leaves atomic.Bool
	hurry := make(chan struct{})
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for stopping := false; ; {
			select {
			case s := <-signals:
				if s == Drain || s == unix.SIGHUP {
					for _, sh := range all {
						sh.let(s == Drain)
					}
					continue
				}
				if s == Leave && !stopping {
					for _, sh := range all {
						if err := sh.left().write(); err != nil {
							log.Error("the next supervisor will leave the roles as they are", logkey.Error, err)
						}
					}
					leaves.Store(true)
				}
				log.Info("stopping", logkey.Signal, s.String(), "again", stopping)
				cancel()
				if stopping {
					close(hurry)
					return
				}
				stopping = true
			case <-ended:
				return
			}
		}
	}()

	log.Info("supervisor started", logkey.PID, self.PID)
	parts := []lifecycle.Part{{Name: "reaper", Run: reaper.Run, Grace: time.Second}}
	stage := func(name string, together []lifecycle.Part) {
		switch len(together) {
		case 0:
		case 1:
			parts = append(parts, together[0])
		default:
			parts = append(parts, lifecycle.Together(name, together...))
		}
	}
	var guards []lifecycle.Part
	for _, s := range all {
		if s.node.Postgres.Data != "" {
			g := s.guard()
			g.Vigil = newVigil(s.node, len(all) == 1, leaves.Load)
			g.Pulse = newPulse(s.node, func() bool { return ctx.Err() == nil && s.drained.Err() == nil })
			guards = append(guards, lifecycle.Part{Name: "guard", Run: g.Run, Grace: time.Second})
		}
	}
	stage("guard", guards)
	for _, s := range all {
		if s.node.DNS.Hosts != "" {
			h := &hosts{node: s.node, log: s.log, leaves: leaves.Load}
			parts = append(parts, lifecycle.Part{Name: "hosts file", Run: h.Run, Grace: time.Second})
		}
	}
	for _, name := range stages {
		var together []lifecycle.Part
		for _, s := range all {
			for _, r := range s.roles {
				if r.Name != name {
					continue
				}
				keeper := &process.Keeper{Reaper: reaper, Log: s.log, Hurry: hurry, Haste: haste, Leaves: leaves.Load}
				part, done := s.part(r, keeper)
				defer done()
				together = append(together, part)
			}
		}
		stage(name, together)
	}
	parts = append(parts, lifecycle.Part{Name: "renewal", Grace: time.Second, Run: func(ctx context.Context) error {
		if err := renew(ctx, all, log); err != nil {
			log.Error("roles that a predecessor left stay as they are", logkey.Error, err)
		}
		<-ctx.Done()
		return nil
	}})
	err = lifecycle.Run(ctx, append(parts, beside...)...)
	log.Info("supervisor stopped")
	return err
}

// A share is what one node has of the supervisor.
type share struct {
	node    spec.Node
	roles   []Role
	account User
	log     *slog.Logger
	drained context.Context // ends when every role but etcd is to
	drain   context.CancelFunc
}

// newShare makes it. One of several says in the log whose it is.
func newShare(n spec.Node, log *slog.Logger, several bool) (*share, error) {
	account, err := Account(n.User)
	if err != nil {
		return nil, err
	}
	s := &share{node: n, roles: Roles(n), account: account, log: log}
	if several {
		s.log = log.With(logkey.Cluster, n.Cluster, logkey.Member, n.Member)
	}
	s.drained, s.drain = context.WithCancel(context.Background())
	s.let(false)
	return s, nil
}

// let has the roles go, all but etcd, if this is asked of all nodes or of this one.
func (s *share) let(all bool) {
	if (all || retired(s.node)) && s.drained.Err() == nil {
		s.log.Info("draining", "retired", !all)
		s.drain()
	}
}

func (s *share) guard() *Guard {
	n := s.node
	return &Guard{
		Page: n.Paths.Page, Data: n.Postgres.Data, Note: filepath.Join(n.Paths.Run, "guard.json"), Log: s.log, Answering: answering(n),
		VIP: n.VIP,
	}
}

// part keeps a role running. done closes what the supervisor has open for it.
func (s *share) part(r Role, keeper *process.Keeper) (part lifecycle.Part, done func()) {
	n, log := s.node, s.log
	job := r.job(n, s.account)
	done = func() {}
	if len(r.Listen) > 0 && s.drained.Err() == nil {
		sockets := listen.Want(r.Listen)
		done = sockets.Close
		if _, runs := job.Running(); runs {
			if err := sockets.Ask(r.Sockets); err != nil {
				log.Warn("sockets not given back", logkey.Role, r.Name, logkey.Error, err)
			}
		}
		job.Sockets = keep(sockets, log.With(logkey.Role, r.Name))
	}
	part = lifecycle.Part{
		Name: r.Name, Grace: r.Grace + 5*time.Second,
		Run: func(ctx context.Context) error {
			err := func() error {
				if r.Name == "etcd" {
					return keeper.Keep(ctx, job)
				}
				// A drained role is over, but not the supervisor: it waits.
				up, stop := context.WithCancel(ctx)
				defer stop()
				defer context.AfterFunc(s.drained, stop)()
				keep := keeper.Keep
				if s.drained.Err() != nil { // since before we were
					keep = keeper.End
				}
				err := keep(up, job)
				if s.drained.Err() != nil && retired(n) {
					done() // nobody is to wait for a successor
				}
				<-ctx.Done()
				return err
			}()
			if errors.Is(err, process.ErrKilled) && r.Name == "agent" {
				err = errors.Join(err, abandon(n, log))
			}
			return err
		},
	}
	return part, done
}

// keep opens the sockets at once, so that clients find them before the role
// runs, and what could not be opened again at every start of the role.
func keep(s *listen.Sockets, log *slog.Logger) func() ([]uintptr, string) {
	said := map[string]bool{}
	open := func() {
		for _, err := range s.Open() {
			if !said[err.Error()] {
				said[err.Error()] = true
				log.Error("cannot listen", logkey.Error, err)
			}
		}
	}
	open()
	return func() ([]uintptr, string) {
		open()
		return s.Pass()
	}
}

// abandon ends a server whose agent had to be killed while it led: nobody is
// left who would let go in time.
func abandon(n spec.Node, log *slog.Logger) error {
	if p, ok := lease.Read(n.Paths.Page); ok && p.Role == lease.Replica {
		return nil
	}
	if _, ok := Postmaster(n); !ok {
		return nil
	}
	log.Warn("killing the server that the agent left behind", logkey.Path, n.Postgres.Data)
	return killServer(n.Postgres.Data)
}

func (r Role) job(n spec.Node, a User) process.Job {
	caps := r.Caps
	if os.Geteuid() != 0 {
		caps = nil // it says what it cannot do without
	}
	return process.Job{
		Name: r.Name, Caps: caps, Path: n.Paths.Binary, Args: r.Args, Dir: n.Paths.Dir,
		Env:  append(a.Env(), r.Env...),
		User: a.Credential, Owner: [2]int{a.UID, a.GID},
		Log: filepath.Join(n.Paths.Log, r.Name+".log"),
		PID: RoleFile(n, r.Name),
		OOM: r.OOM, Low: r.Low, Slack: r.Slack, Grace: r.Grace,
	}
}

// lock makes sure that each node has one supervisor, whether it was found by its
// directory or by its run directory.
func lock(nodes []spec.Node) (unlock func(), err error) {
	var files []*os.File
	unlock = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, n := range nodes {
		for _, dir := range []string{n.Paths.Run, n.Paths.Dir} {
			f, err := Lock(filepath.Join(dir, "node.lock"))
			if errors.Is(err, ErrLocked) {
				unlock()
				return nil, &problem.Error{
					Code: "node-running", What: "cannot start the supervisor of " + n.Member,
					Why: "another one runs" + who(SupervisorFile(n)),
					Do:  "leave it be, or stop it first with `howdah fault stop-node " + n.Member + "` or systemctl",
				}
			}
			if err != nil {
				unlock()
				return nil, err
			}
			files = append(files, f)
		}
	}
	return unlock, nil
}

func who(f process.File) string {
	if id, ok := f.Read(); ok {
		return " as process " + id.String()
	}
	return ""
}

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Lock takes the lock file at path until it is closed or this process ends.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", path, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// A User is who the roles run as.
type User struct {
	Name, Home string
	UID, GID   int                 // -1: as we are
	Credential *syscall.Credential // nil: as we are
}

// Account looks up the operating system's user of that name; "" and our own
// name mean that nothing changes.
func Account(name string) (User, error) {
	me := User{Home: os.Getenv("HOME"), UID: -1, GID: -1}
	if u, err := user.Current(); err == nil {
		me.Name, me.Home = u.Username, u.HomeDir
	}
	if name == "" || name == me.Name {
		return me, nil
	}
	if os.Geteuid() != 0 {
		return User{}, &problem.Error{
			Code: "user-switch", What: "cannot run the roles as " + name,
			Why: "this process runs as " + me.Name + ", and only root may become another user",
			Do:  "run as root or as " + name,
		}
	}
	u, err := user.Lookup(name)
	if err != nil {
		return User{}, &problem.Error{
			Code: "user-missing", What: "cannot run the roles as " + name, Why: "there is no such user on this machine",
			Do: "install PostgreSQL from the distribution, which creates it, or create it with `useradd --system " + name + "`", Err: err,
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return User{}, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return User{}, fmt.Errorf("user %s: %w", name, err)
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, g := range groups {
		if id, err := strconv.Atoi(g); err == nil {
			c.Groups = append(c.Groups, uint32(id))
		}
	}
	return User{Name: name, Home: u.HomeDir, UID: uid, GID: gid, Credential: c}, nil
}

// Env is what every role finds in its environment: who it is and where
// programs are, and none of what the caller had beside that.
func (u User) Env() []string {
	env := []string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name}
	for _, name := range []string{"PATH", "LANG", "LC_ALL", "TZ", "GOCOVERDIR", "GOTRACEBACK"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
