// Package testpg starts real PostgreSQL servers for tests.
//
//	a := testpg.Start(t, testpg.Primary())
//	b := testpg.Start(t, testpg.StandbyOf(a))
//
// They listen on unix sockets in a short directory (a socket's path has 107
// bytes, and PostgreSQL cannot bind port 0), run as another user when the test
// is root, are copies of one initdb for each version (so they share a system
// identifier), do not fsync unless asked to, and die with the test, which
// prints their log if it failed. Without PostgreSQL a test is skipped; with
// REQUIRE_PG set it fails instead.
package testpg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/netport"
	"howdah/pg"
	"howdah/postgres"
	"howdah/spec"
)

// Password is that of every role.
const Password = "it's a \\secret"

// A Server is a real server and the node it belongs to.
type Server struct {
	*postgres.Server
	Node spec.Node
	t    testing.TB
}

// An Option says how a server differs from an idle node of the newest major.
type Option func(*options)

type options struct {
	name     string
	major    int
	start    bool
	upstream *Server
	fsync    bool
	tcp      bool
	with     []func(*spec.Node)
}

// Primary has a database system, started as a primary.
func Primary() Option { return func(o *options) { o.start = true } }

// StandbyOf is a clone of a, started as its standby.
func StandbyOf(a *Server) Option {
	return func(o *options) { o.start, o.upstream, o.major = true, a, a.Programs().Major }
}

// Named gives the member a name.
func Named(name string) Option { return func(o *options) { o.name = name } }

// Major chooses the version; without it, the one of $TESTPG_MAJOR or the newest with all programs.
func Major(major int) Option { return func(o *options) { o.major = major } }

// Fsync leaves fsync on, for tests that cut the power.
func Fsync() Option { return func(o *options) { o.fsync = true } }

// TCP gives the server a loopback address of its own, for tests of passwords and ports.
func TCP() Option { return func(o *options) { o.tcp = true } }

// With changes the node before it is used.
func With(f func(*spec.Node)) Option { return func(o *options) { o.with = append(o.with, f) } }

// Majors returns the versions that are installed, oldest first; it skips or
// fails the test if there is none.
func Majors(t testing.TB) []int {
	t.Helper()
	find(t)
	var majors []int
	for _, p := range postgres.FindAll() {
		majors = append(majors, p.Major)
	}
	if len(majors) == 0 {
		missing(t, "no PostgreSQL on this machine; scripts/getpg makes one")
	}
	return majors
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("REQUIRE_PG") != "" {
		t.Fatal("REQUIRE_PG is set: " + why)
	}
	t.Skip(why)
}

// find lets the trees of scripts/getpg be found wherever the test runs.
func find(t testing.TB) {
	if os.Getenv("HOWDAH_PG") != "" {
		return
	}
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			if st, err := os.Stat(filepath.Join(dir, ".pg")); err == nil && st.IsDir() {
				os.Setenv("HOWDAH_PG", filepath.Join(dir, ".pg")) // for this process: every test wants the same
			}
			return
		}
	}
}

// Start makes a server and, for Primary and StandbyOf, starts it. Without
// either its data directory is absent.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	find(t)
	o := options{name: "m" + strconv.Itoa(rand.IntN(100000))}
	for _, opt := range opts {
		opt(&o)
	}
	if o.major == 0 {
		o.major, _ = strconv.Atoi(os.Getenv("TESTPG_MAJOR"))
	}
	if o.major == 0 {
		for _, p := range postgres.FindAll() {
			if p.Has("pg_rewind") && p.Has("pg_basebackup") {
				o.major = p.Major
			}
		}
	}
	programs, err := postgres.Find(o.major)
	if err != nil {
		missing(t, err.Error())
	}
	dir, err := os.MkdirTemp(scratch(o.fsync), "tpg")
	if err != nil {
		t.Fatal(err)
	}
	n := node(t, dir, programs, o)
	s := &Server{Node: n, t: t}
	if s.Server, err = postgres.Open(postgres.Options{Node: n}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	if !o.start {
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if o.upstream == nil {
		s.Template()
		err = s.Server.Start(ctx, nil)
	} else {
		up := o.upstream.Upstream()
		if err = s.Clone(ctx, up, nil); err == nil {
			err = s.Server.Start(ctx, &up)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// scratch is where servers live: in memory if there is room, for a base backup
// and a start write some hundred megabytes; on disk for who wants fsync.
func scratch(fsync bool) string {
	var st unix.Statfs_t
	if !fsync && unix.Statfs("/dev/shm", &st) == nil && int64(st.Bavail)*st.Bsize > 2<<30 && unix.Access("/dev/shm", unix.W_OK) == nil {
		return "/dev/shm"
	}
	return "/tmp"
}

func node(t testing.TB, dir string, programs postgres.Programs, o options) spec.Node {
	t.Helper()
	n := spec.Node{
		Cluster: "test", Namespace: "/service", Member: o.name, User: osUser(),
		Paths: spec.Paths{
			Dir: dir, Run: dir, Sockets: filepath.Join(dir, "s"), Log: filepath.Join(dir, "log"),
			Secrets: filepath.Join(dir, "secrets.json"),
		},
		Postgres: spec.Postgres{
			Major: programs.Major, Bin: programs.Bin, Port: 5432, Data: filepath.Join(dir, "data"),
			Parameters: map[string]string{"shared_buffers": "16MB", "max_wal_size": "256MB"},
		},
	}
	if !o.fsync {
		n.Postgres.Parameters["fsync"] = "off"
	}
	if o.tcp {
		for n.Address == "" {
			n.Address = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
			if _, taken := netport.Holder(n.Address, n.Postgres.Port); taken {
				n.Address = ""
			}
		}
	}
	for _, f := range o.with {
		f(&n)
	}
	secrets := fmt.Sprintf(`{"postgres": %q, "replicator": %q}`, Password, Password)
	if err := os.WriteFile(n.Paths.Secrets, []byte(secrets), 0o600); err != nil {
		t.Fatal(err)
	}
	if n.User != "" {
		if u, err := user.Lookup(n.User); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			if err := os.Chown(dir, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// osUser is who runs PostgreSQL: whoever runs the test, or postgres if that is root.
func osUser() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return "postgres"
}

// Upstream is how other servers reach this one: by its socket, or by its
// address if it has one.
func (s *Server) Upstream() pg.Upstream {
	up := pg.Upstream{Name: s.Node.Member, Host: s.Node.Address, Port: s.Node.Postgres.Port}
	if up.Host == "" {
		up.Host = s.Node.Paths.Sockets
	}
	return up
}

// Exec runs SQL as the superuser, by the socket, and returns the first column
// of the last result's first row.
func (s *Server) Exec(ctx context.Context, sql string) (string, error) {
	c, err := pgconn.ParseConfig("")
	if err != nil {
		return "", err
	}
	c.Host, c.Port, c.User, c.Database = s.Node.Paths.Sockets, uint16(s.Node.Postgres.Port), spec.Superuser, "postgres"
	c.TLSConfig, c.Fallbacks = nil, nil
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	all, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(all) == 0 {
		return "", err
	}
	if last := all[len(all)-1]; len(last.Rows) > 0 && len(last.Rows[0]) > 0 {
		return string(last.Rows[0][0]), nil
	}
	return "", nil
}

// Query is Exec for a test that cannot go on without.
func (s *Server) Query(sql string) string {
	s.t.Helper()
	got, err := s.Exec(s.t.Context(), sql)
	if err != nil {
		s.t.Fatalf("%s: %s: %v", s.Node.Member, sql, err)
	}
	return got
}

// Synchronous has commits wait for these standbys, or for none, from here on. Backends wait once
// the checkpointer has read that, as it has when it has made a checkpoint (UpdateSharedMemoryConfig,
// src/backend/postmaster/checkpointer.c).
func (s *Server) Synchronous(names string) {
	s.t.Helper()
	s.Query("ALTER SYSTEM SET synchronous_standby_names = " + pg.QuoteLiteral(names))
	s.Query("SELECT pg_reload_conf()")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); s.Query("SHOW synchronous_standby_names") != names; <-tick.C {
		if time.Since(began) > 20*time.Second {
			s.t.Fatal("the server does not go by its settings")
		}
	}
	s.Query("CHECKPOINT")
}

// Template fills the data directory with a copy of this version's initdb,
// which is made once and kept in the machine's temporary directory.
func (s *Server) Template() {
	s.t.Helper()
	p := s.Programs()
	base := filepath.Join(os.TempDir(), fmt.Sprintf("howdah-testpg-%d", os.Geteuid()))
	made := filepath.Join(base, p.Version)
	if err := os.MkdirAll(base, 0o755); err != nil {
		s.t.Fatal(err)
	}
	lock, err := os.OpenFile(made+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(made, "PG_VERSION")); err == nil {
		s.copy(made, s.Node.Postgres.Data)
		return
	}
	plain := Start(s.t, Major(p.Major)) // whatever this test made different is not for the others
	if err := plain.Init(s.t.Context(), nil); err != nil {
		s.t.Fatal(err)
	}
	plain.demo()
	_ = os.RemoveAll(made + ".new")
	s.copy(plain.Node.Postgres.Data, made+".new")
	if err := os.Rename(made+".new", made); err != nil {
		s.t.Fatal(err)
	}
	s.copy(made, s.Node.Postgres.Data)
}

// demo makes a role and a database for clients of tests.
func (s *Server) demo() {
	s.t.Helper()
	cmd := exec.Command(s.Programs().Path("postgres"), "--single", "-D", s.Node.Postgres.Data, "template1")
	cmd.Stdin = strings.NewReader("CREATE ROLE demo LOGIN PASSWORD " + pg.QuoteLiteral(Password) + "\nCREATE DATABASE demo OWNER demo\n")
	var st unix.Stat_t
	if err := unix.Stat(s.Node.Postgres.Data, &st); err != nil {
		s.t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: st.Uid, Gid: st.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "ERROR") {
		s.t.Fatalf("role and database demo: %v: %s", err, out)
	}
}

func (s *Server) copy(from, to string) {
	s.t.Helper()
	if out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		s.t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}

// Log is what the server wrote so far.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.Node.Paths.Log, "postgresql.log"))
	return string(text)
}

func (s *Server) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.Close()
	if err := s.Kill(ctx); err != nil {
		s.t.Errorf("kill %s: %v", s.Node.Member, err)
	}
	if s.t.Failed() {
		lines := strings.Split(strings.TrimSpace(s.Log()), "\n")
		s.t.Logf("log of %s:\n%s", s.Node.Member, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	_ = os.RemoveAll(s.Node.Paths.Dir)
}
