package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/access/pooler"
	"howdah/lease"
	"howdah/pg"
	"howdah/pki"
	"howdah/spec"
	"howdah/test/testpg"
)

// A real world is a gateway before a real server, which knows its machines by
// certificates.
type realWorld struct {
	*world
	server *testpg.Server
	ca     string
	client spec.TLS // of user certain, who has a certificate and no password
}

func newRealWorld(t testing.TB) *realWorld {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	local := netip.MustParseAddr("127.0.0.1")
	client, err := authority.Issue(filepath.Join(dir, "client"), "certain", local)
	if err != nil {
		t.Fatal(err)
	}
	server := testpg.Start(t, testpg.Primary(), testpg.TCP(), testpg.With(func(n *spec.Node) {
		owned := authority
		if u, err := user.Lookup(n.User); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			owned = authority.For(&pki.Owner{UID: uid, GID: gid})
		}
		if n.TLS, err = owned.Issue(filepath.Join(n.Paths.Dir, "tls"), n.Member, local); err != nil {
			t.Fatal(err)
		}
		n.Postgres.Parameters["ssl_ca_file"] = n.TLS.CA
		n.Postgres.Parameters["wal_level"] = "logical"
		n.Postgres.HBA = []spec.AccessRule{{Lines: []string{
			"hostssl all certain all cert",
			"host all demo all scram-sha-256", // also in clear, so that a gateway can read along
			"host replication,all replicator all scram-sha-256",
		}}}
	}))
	server.Query("CREATE ROLE certain LOGIN")
	w := newWorld(t, nil)
	w.lead(net.JoinHostPort(server.Node.Address, "5432"), time.Hour)
	return &realWorld{w, server, server.Node.TLS.CA, client}
}

// conninfo reaches a service as user, with what else is given.
func (w *realWorld) conninfo(service, user string, more ...string) string {
	host, port, _ := net.SplitHostPort(w.addr[service])
	all := append([]string{"host=" + host, "port=" + port, "user=" + user, "connect_timeout=10"}, more...)
	return strings.Join(all, " ")
}

// run runs one of PostgreSQL's own programs.
func (w *realWorld) run(t testing.TB, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.server.Node.Postgres.Bin, program), args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password, "PGAPPNAME=through")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestWhatGoesThroughUntouched(t *testing.T) {
	w := newRealWorld(t)
	tls := "sslrootcert=" + w.ca
	for _, tt := range []struct {
		name, conninfo, sql, want string
	}{
		{"in clear", w.conninfo("default", "demo", "sslmode=disable", "dbname=demo"), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "f"},
		{"TLS to the server itself", w.conninfo("default", "demo", "sslmode=verify-full", tls, "dbname=demo"), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "t"},
		{"channel binding", w.conninfo("primary", "demo", "sslmode=require", "channel_binding=require", "dbname=demo"), "SELECT current_user", "demo"},
		{
			"a client's certificate", w.conninfo("default", "certain", "sslmode=verify-full", tls, "sslcert="+w.client.Cert, "sslkey="+w.client.Key, "dbname=postgres"),
			"SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "/O=Howdah/CN=certain",
		},
		{"the replication protocol", w.conninfo("default", "replicator", "sslmode=require", "dbname=postgres", "replication=database"), "SHOW wal_level", "logical"},
	} {
		if got, err := w.run(t, "psql", "-XAtqc", tt.sql, tt.conninfo); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if got, err := w.run(t, "psql", "-XAtqc", "SELECT 1", w.conninfo("default", "certain", "sslmode=require", "dbname=postgres")); err == nil {
		t.Errorf("without its certificate, certain is let in: %q", got)
	}
}

func TestABaseBackupGoesThrough(t *testing.T) {
	w := newRealWorld(t)
	w.server.Query("CREATE TABLE t AS SELECT generate_series(1, 100000) n")
	dir := filepath.Join(t.TempDir(), "backup")
	out, err := w.run(t, "pg_basebackup", "-d", w.conninfo("default", "replicator", "sslmode=require"), "-D", dir, "-X", "stream", "-c", "fast")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := w.run(t, "pg_verifybackup", "-q", dir); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestLogicalReplicationGoesThrough(t *testing.T) {
	w := newRealWorld(t)
	subscriber := testpg.Start(t, testpg.Primary())
	for _, s := range []*testpg.Server{w.server, subscriber} {
		s.Query("CREATE TABLE t (n int PRIMARY KEY)")
	}
	w.server.Query("GRANT SELECT ON t TO replicator; CREATE PUBLICATION p FOR TABLE t")
	w.server.Query("INSERT INTO t SELECT generate_series(1, 1000)")
	info := w.conninfo("default", "replicator", "sslmode=require", "dbname=postgres", pg.DSN{{"password", testpg.Password}}.String())
	subscriber.Query("CREATE SUBSCRIPTION s CONNECTION '" + strings.ReplaceAll(info, "'", "''") + "' PUBLICATION p")
	w.server.Query("INSERT INTO t SELECT generate_series(1001, 2000)")
	eventually(t, "2,000 rows arrive", func() bool { return subscriber.Query("SELECT count(*) FROM t") == "2000" })
}

func TestACancelGoesThrough(t *testing.T) {
	w := newRealWorld(t)
	for _, mode := range []string{"disable", "require"} {
		t.Run(mode, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			config, err := pgconn.ParseConfig(w.conninfo("default", "demo", "sslmode="+mode, "dbname=demo"))
			if err != nil {
				t.Fatal(err)
			}
			config.Password = testpg.Password
			conn, err := pgconn.ConnectConfig(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			ended := make(chan error, 1)
			go func() {
				_, err := conn.Exec(ctx, "SELECT pg_sleep(60)").ReadAll()
				ended <- err
			}()
			busy := func() bool {
				return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(60)' AND usename = 'demo'") == "1"
			}
			eventually(t, "it sleeps", busy)
			if err := conn.CancelRequest(ctx); err != nil {
				t.Fatal(err)
			}
			var answer *pgconn.PgError
			if err := <-ended; !errors.As(err, &answer) || answer.Code != "57014" {
				t.Errorf("the query ends with %v, want 57014", err)
			}
		})
	}
	t.Run("psql", func(t *testing.T) { // asks for a cancel in clear, also of a session in TLS
		cmd := exec.CommandContext(t.Context(), filepath.Join(w.server.Node.Postgres.Bin, "psql"), "-Xc", "SELECT pg_sleep(61)",
			w.conninfo("default", "demo", "sslmode=require", "dbname=demo"))
		cmd.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password)
		var out strings.Builder
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it sleeps", func() bool {
			return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(61)'") == "1"
		})
		cmd.Process.Signal(unix.SIGINT)
		err := cmd.Wait()
		if err == nil || !strings.Contains(out.String(), "canceling statement due to user request") {
			t.Errorf("psql ends with %v: %s", err, out.String())
		}
	})
}

// A commit that waits for standbys is not cancelled through untouched bytes either: psql, in clear and
// in TLS, waits on, and is told that all went well in the end.
func TestACancelOfACommitThatWaits(t *testing.T) {
	t.Parallel()
	w := newRealWorld(t)
	n := w.server.Node
	roll, err := pooler.NewRoll(n.Paths.Sockets, n.Postgres.Port, spec.Superuser, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := w.g.fronts[0]
	leads := f.ports[slices.IndexFunc(f.ports, func(p *port) bool { return p.service.Name == "primary" })]
	leads.way = &way{port: leads, node: w.g.node, roll: roll.Config} // as a node's pools have it
	defer leads.way.asked.close()
	w.see()
	w.server.Query("CREATE TABLE t (n int); GRANT ALL ON t TO demo")
	waits := func() string {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	}
	w.server.Synchronous("nobody")
	said := map[string]func() string{}
	var all []*exec.Cmd
	for _, mode := range []string{"disable", "require"} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(n.Postgres.Bin, "psql"), "-Xc", "INSERT INTO t VALUES (1)",
			w.conninfo("default", "demo", "sslmode="+mode, "dbname=postgres"))
		cmd.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password)
		out, err := os.Create(filepath.Join(t.TempDir(), mode))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stderr = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said[mode] = func() string {
			text, _ := os.ReadFile(out.Name())
			return string(text)
		}
		all = append(all, cmd)
	}
	eventually(t, "both wait", func() bool { return waits() == "2" })
	for _, cmd := range all {
		if err := cmd.Process.Signal(unix.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	for mode, said := range said {
		eventually(t, "the request in "+mode+" is dealt with", func() bool { return strings.Contains(said(), "Cancel request sent") })
	}
	if n := waits(); n != "2" {
		t.Errorf("%s wait on, want 2", n)
	}
	w.server.Synchronous("")
	for _, cmd := range all {
		_ = cmd.Wait() // it has been asked to stop, and says so by its code
	}
	for mode, said := range said {
		if text := said(); text != "Cancel request sent\n" {
			t.Errorf("%s: psql hears %q", mode, text)
		}
	}
}

func TestWhatLibpqShowsWithoutAPrimary(t *testing.T) {
	w := newRealWorld(t)
	w.picture.Leader = ""
	w.picture.Members[0].Role = "replica"
	w.see()
	for _, mode := range []string{"disable", "prefer", "require"} {
		out, err := w.run(t, "psql", "-XAtqc", "SELECT 1", w.conninfo("primary", "demo", "sslmode="+mode, "dbname=demo"))
		if err == nil || !strings.Contains(out, "cluster demo had no primary for 300ms") {
			t.Errorf("sslmode=%s: %v: %s", mode, err, out)
		}
	}
}

// TestAFrozenRightSilencesACommit holds the answer to a commit back when the
// right ends before it, and gives it when the same reign is proven again.
func TestAFrozenRightSilencesACommit(t *testing.T) {
	w := newRealWorld(t)
	w.server.Query("CREATE TABLE t (n int); GRANT ALL ON t TO demo")
	config, err := pgconn.ParseConfig(w.conninfo("primary", "demo", "sslmode=require", "dbname=postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = testpg.Password
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (1)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	w.right(0)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (2)").ReadAll()
		ended <- err
	}()
	eventually(t, "it is committed", func() bool { return w.server.Query("SELECT count(*) FROM t") == "2" })
	select {
	case err := <-ended:
		t.Fatalf("the commit is answered past the deadline: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	w.right(time.Minute)
	if err := <-ended; err != nil {
		t.Errorf("after the right was renewed: %v", err)
	}
}

// large is about 200 MB of rows.
const large = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT"

// BenchmarkLargeResult compares a large result through 5436 with one straight
// from the server. Run it with -count, and look at the better half: the server
// needs most of the time.
func BenchmarkLargeResult(b *testing.B) {
	w := newRealWorld(b)
	for _, mode := range []string{"disable", "require"} {
		for _, way := range []struct{ name, host, port string }{
			{"direct", w.server.Node.Address, "5432"},
			{"gateway", "", ""},
		} {
			b.Run(mode+"/"+way.name, func(b *testing.B) {
				info := w.conninfo("default", "demo", "sslmode="+mode, "dbname=demo")
				if way.host != "" {
					info = fmt.Sprintf("host=%s port=%s user=demo dbname=demo sslmode=%s", way.host, way.port, mode)
				}
				config, err := pgconn.ParseConfig(info)
				if err != nil {
					b.Fatal(err)
				}
				config.Password = testpg.Password
				conn, err := pgconn.ConnectConfig(b.Context(), config)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close(context.WithoutCancel(b.Context()))
				var n counter
				for b.Loop() {
					w.page.Set(lease.Page{Role: lease.Primary, Epoch: w.picture.Epoch, Deadline: lease.Now() + time.Hour})
					if _, err := conn.CopyTo(b.Context(), &n, large); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(n) / int64(b.N))
			})
		}
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

var _ io.Writer = (*counter)(nil)
