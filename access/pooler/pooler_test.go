package pooler

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/pool"
	"howdah/spec"
	"howdah/test/testpg"
)

// A world is a pooler before a real server.
type world struct {
	t      testing.TB
	server *testpg.Server
	pooler *Pooler
	door   *Door
	addr   *net.TCPAddr
	past   *pgx.Conn // straight to the server; nil: not yet
	spread Spread
	moved  atomic.Int64 // how often a pair has, by moves
}

// newWorld starts both; with changes the door first.
func newWorld(t testing.TB, with func(*Door), opts ...testpg.Option) *world {
	t.Helper()
	w := &world{t: t, server: testpg.Start(t, append([]testpg.Option{testpg.Primary()}, opts...)...)}
	w.open(with)
	return w
}

func (w *world) open(with func(*Door)) {
	t := w.t
	t.Helper()
	n := w.server.Node
	roll, err := NewRoll(n.Paths.Sockets, n.Postgres.Port, spec.Superuser, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	w.door = &Door{
		Name: "test", Settings: pool.Defaults(), ResetQuery: "DISCARD ALL", Ignore: []string{"extra_float_digits"},
		Dial: Local(n.Paths.Sockets, n.Postgres.Port), Secret: roll.Secret,
	}
	if with != nil {
		with(w.door)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.spread.Loops == 0 {
		w.spread.Loops = 1
		if *moving {
			w.spread = loops(3)
			defer func() { w.moves(2 * time.Millisecond) }()
		}
	}
	if w.pooler, err = newPooler(log, w.spread, w.door); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().(*net.TCPAddr)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.pooler.Serve(ctx, l, w.door) })
	ran, end := context.WithCancel(context.Background())
	wg.Go(func() { _ = w.pooler.Run(ran) })
	t.Cleanup(func() {
		stop()
		end()
		wg.Wait()
		roll.Close()
	})
}

func (w *world) conninfo(more ...string) string {
	return strings.Join(append([]string{
		"host=127.0.0.1 port=" + strconv.Itoa(w.addr.Port) + " user=demo dbname=demo sslmode=disable connect_timeout=10",
	}, more...), " ")
}

// run runs one of PostgreSQL's own programs.
func (w *world) run(program string, args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.server.Node.Postgres.Bin, program), args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (w *world) pgbench(args ...string) (string, error) {
	w.t.Helper()
	return w.run("pgbench", append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(w.addr.Port), "-U", "demo"}, append(args, "demo")...)...)
}

// connect is a connection of pgx.
func (w *world) connect(more ...string) *pgx.Conn {
	w.t.Helper()
	c, err := pgx.ParseConfig(w.conninfo(more...))
	if err != nil {
		w.t.Fatal(err)
	}
	c.Password = testpg.Password
	conn, err := pgx.ConnectConfig(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// one is the only value of a query.
func one(t testing.TB, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	var v string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// code is the SQLSTATE of err, or what it says.
func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPsql(t *testing.T) {
	w := newWorld(t, nil)
	got, err := w.run("psql", "-XAtqc", "SELECT current_user || ' ' || current_database()", w.conninfo())
	if got != "demo demo" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if got, err := w.run("psql", "-XAtqc", "SELECT 1", w.conninfo("password=wrong")); err == nil || !strings.Contains(got, "SASL authentication failed") {
		t.Errorf("with a wrong password: %q, %v", got, err)
	}
	if got, err := w.run("psql", "-XAtqc", "SELECT 1", w.conninfo("user=nobody")); err == nil || !strings.Contains(got, "SASL authentication failed") {
		t.Errorf("as nobody: %q, %v", got, err)
	}
}

func TestPgbench(t *testing.T) {
	w := newWorld(t, nil)
	if out, err := w.pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out, err)
	}
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		for workload, clients := range map[string]string{
			"-S": "40", // more than servers
			// While it prepares for one client, pgbench leaves the others of its thread
			// alone, in their transactions: with more of them than servers it waits for ever.
			"-N": "16",
		} {
			out, err := w.pgbench("-n", "-M", protocol, workload, "-c", clients, "-j", "2", "-t", "50")
			if err != nil || !strings.Contains(out, "number of failed transactions: 0") {
				t.Errorf("%s %s: %v\n%s", protocol, workload, err, out)
			}
		}
	}
	if n, _ := strconv.Atoi(w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'")); n > 20 {
		t.Errorf("%d servers for a pool of 20", n)
	}
}
