package pooler

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"howdah/pki"
	"howdah/spec"
	"howdah/test/testpg"
)

// issue makes a certificate of a new authority for 127.0.0.1, and what trusts it.
func issue(t testing.TB, dir string, owner *pki.Owner, at netip.Addr) (spec.TLS, *tls.Config) {
	t.Helper()
	authority, err := pki.OpenAuthority(filepath.Join(t.TempDir(), "ca"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	signer := authority
	if owner != nil {
		signer = authority.For(owner)
	}
	files, err := signer.Issue(dir, "m", at)
	if err != nil {
		t.Fatal(err)
	}
	trusting, err := pki.ClientConfig(spec.TLS{CA: files.CA})
	if err != nil {
		t.Fatal(err)
	}
	return files, trusting
}

func TestTLSOfClients(t *testing.T) {
	files, _ := issue(t, t.TempDir(), nil, netip.MustParseAddr("127.0.0.1"))
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(d *Door) {
		small(d)
		d.OnlyTLS = true
		d.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"postgresql"}}
	})
	conninfo := w.conninfo("sslmode=verify-full", "sslrootcert="+files.CA)
	if got, err := w.run("psql", "-XAtqc", "SELECT 1", w.conninfo()); err == nil || !strings.Contains(got, "SSL required") {
		t.Errorf("in clear: %q, %v", got, err)
	}
	// Results and statements of many records, and more than one client.
	sql := "SELECT length('" + strings.Repeat("x", 300000) + "'), length(string_agg(repeat('y', 1000), '')), repeat('z', 200000) FROM generate_series(1, 100)"
	if got, err := w.run("psql", "-XAtqc", "SELECT 1; SELECT repeat('z', 200000)", conninfo); got != "1\n"+strings.Repeat("z", 200000) || err != nil {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	conn := w.connect("sslmode=verify-full", "sslrootcert="+files.CA, "sslnegotiation=direct")
	for range 2 {
		var a, b int
		var c string
		if err := conn.QueryRow(t.Context(), sql).Scan(&a, &b, &c); err != nil || a != 300000 || b != 100000 || len(c) != 200000 {
			t.Fatalf("%d %d %d bytes, %v", a, b, len(c), err)
		}
	}
	for i := range 50 {
		if got := one(t, conn, "SELECT $1::text", strconv.Itoa(i)); got != strconv.Itoa(i) {
			t.Fatalf("%q", got)
		}
	}
}

// A server elsewhere is reached over TLS, as the user who proved herself, without
// her password.
func TestAServerElsewhereIsReachedWithTheClientsOwnProof(t *testing.T) {
	var trusting *tls.Config
	w := &world{t: t, server: testpg.Start(t, testpg.Primary(), testpg.TCP(), testpg.With(func(n *spec.Node) {
		var owner *pki.Owner
		if u, err := user.Lookup(n.User); err == nil {
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			owner = &pki.Owner{UID: uid, GID: gid}
		}
		n.TLS, trusting = issue(t, filepath.Join(n.Paths.Dir, "tls"), owner, netip.MustParseAddr(n.Address))
		n.Postgres.HBA = []spec.AccessRule{{Lines: []string{"hostssl all all all scram-sha-256"}}}
	}))}
	n := w.server.Node
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(n.Address, "5432"))
	}
	w.open(func(d *Door) {
		small(d)
		d.Dial = func(ctx context.Context) (Backend, error) {
			conn, err := dial(ctx)
			config := trusting.Clone()
			config.ServerName = n.Address
			return Backend{Conn: conn, TLS: config, Again: dial}, err
		}
	})
	conn := w.connect()
	if got := one(t, conn, "SELECT current_user || ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "demotrue" {
		t.Errorf("%q", got)
	}
	if got := one(t, conn, "SELECT repeat('x', 300000)"); len(got) != 300000 {
		t.Errorf("%d bytes", len(got))
	}
	if out, err := w.pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out)
	}
	if out, err := w.pgbench("-n", "-M", "prepared", "-S", "-c", "8", "-t", "50"); err != nil || !strings.Contains(out, "number of failed transactions: 0") {
		t.Errorf("%s, %v", out, err)
	}
}

// What a server says while its right is not proven reaches nobody; when it is
// proven again, it does. A server that was deposed is dropped, and who was idle
// gets another.
func TestTheGateAndTheEndOfAReign(t *testing.T) {
	var shut atomic.Bool
	var epoch atomic.Int64
	w := newWorld(t, nil)
	local := w.door.Dial
	gated := &world{t: t, server: w.server}
	gated.open(func(d *Door) {
		small(d)
		d.Dial = func(ctx context.Context) (Backend, error) {
			b, err := local(ctx)
			b.Tag, b.Gate = epoch.Load(), func() bool { return !shut.Load() }
			return b, err
		}
	})
	conn, idle := gated.connect(), gated.connect()
	pid := one(t, idle, "SELECT pg_backend_pid()::text")
	shut.Store(true)
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "CREATE TABLE acknowledged ()")
		answer <- err
	}()
	until(t, "it is done", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND query LIKE 'CREATE%' AND state = 'idle'") == "1"
	})
	held := func() (late int) {
		gated.pooler.halls[0].loop.call(func() { late = len(gated.pooler.halls[0].loop.gated) })
		return late
	}
	until(t, "the answer is held", func() bool { return held() == 1 })
	select {
	case err := <-answer:
		t.Fatalf("the client heard %v through a shut gate", err)
	default:
	}
	shut.Store(false)
	if err := <-answer; err != nil {
		t.Errorf("%v", err)
	}
	epoch.Store(1)
	gated.door.Follow(only(1))
	held() // by now it has been heard
	if got := one(t, idle, "SELECT pg_backend_pid()::text"); got == pid {
		t.Error("a deposed server still serves")
	}
	// One that is in a transaction is cut with its server.
	if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	epoch.Store(2)
	gated.door.Follow(only(2))
	held()
	if _, err := conn.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("a deposed server's transaction committed")
	}
	if got := one(t, idle, "SELECT 'alive'"); got != "alive" {
		t.Errorf("%q", got)
	}
}

// only keeps the connections of one reign.
func only(reign int64) Course {
	return Course{Keep: func(tag any) Verdict {
		if tag == reign {
			return Stay
		}
		return End
	}}
}
