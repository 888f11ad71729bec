package login_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"howdah/access/admin"
	"howdah/access/hba"
	"howdah/access/login"
	"howdah/access/userlist"
	"howdah/pg"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
	"howdah/spec"
	"howdah/test/testpg"
)

// A house is the smallest thing that psql can log in to: a listener, these
// packages, and one goroutine a client.
type house struct {
	t     *testing.T
	addr  *net.TCPAddr
	tls   *tls.Config
	ca    string       // a file
	bind  atomic.Value // []byte
	rules hba.Rules
	users map[string]secret.Text
	// proven is told of each client that got in.
	proven func(user string, c login.Credential)
	wg     sync.WaitGroup
}

func open(t *testing.T, rules, users string, proven func(user string, c login.Credential)) *house {
	t.Helper()
	if _, err := exec.LookPath("psql"); err != nil {
		if os.Getenv("REQUIRE_PG") != "" {
			t.Fatal(err)
		}
		t.Skip("no psql")
	}
	h := &house{t: t, proven: proven}
	var problems []hba.Problem
	if h.rules, problems = hba.Parse(rules, nil); len(problems) > 0 {
		t.Fatal(problems)
	}
	var err error
	if h.users, err = userlist.Parse(users); err != nil {
		t.Fatal(err)
	}
	h.certificate()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().(*net.TCPAddr)
	h.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				if err := h.serve(conn); err != nil && !errors.Is(err, errOver) {
					t.Log("house:", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); h.wg.Wait() })
	return h
}

// certificate makes the server's, signed by itself.
func (h *house) certificate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "house"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		h.t.Fatal(err)
	}
	h.bind.Store(scram.EndPoint(cert))
	h.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	h.ca = filepath.Join(h.t.TempDir(), "ca.crt")
	if err := os.WriteFile(h.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

var errOver = errors.New("over")

func (h *house) serve(conn net.Conn) error {
	var in []byte
	more := func() error {
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		in = append(in, b[:n]...)
		if n > 0 {
			return nil
		}
		return fmt.Errorf("%w: %w", errOver, err)
	}
	var first pgwire.First
	var binding []byte
	for {
		f, n, err := pgwire.ReadFirst(in)
		if err != nil {
			return err
		}
		if n == 0 {
			if err := more(); err != nil {
				return err
			}
			continue
		}
		in = in[n:]
		if f.Code == pgwire.SSLRequest {
			if _, err := conn.Write([]byte("S")); err != nil {
				return err
			}
			conn, binding = tls.Server(conn, h.tls), h.bind.Load().([]byte)
			continue
		}
		if f.Code == pgwire.GSSENCRequest {
			if _, err := conn.Write([]byte("N")); err != nil {
				return err
			}
			continue
		}
		first = f
		break
	}
	fields := strings.Split(string(first.Body), "\x00")
	said := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		said[fields[i]] = fields[i+1]
	}
	from := conn.RemoteAddr().(*net.TCPAddr)
	rule, ok := h.rules.Match(hba.Client{Addr: from.AddrPort().Addr(), TLS: binding != nil, Database: said["database"], User: said["user"]})
	if !ok {
		_, _ = conn.Write(pgwire.AppendError(nil, login.Violation, "no authentication method is found", ""))
		return nil
	}
	ask := login.Ask{Method: rule.Method, User: said["user"], Mock: []byte("mock"), Binding: binding}
	var stored secret.Text
	stored, ask.Known = h.users[ask.User]
	ask.Credential = login.Parse(stored)
	_, _ = rand.Read(ask.Random[:])
	s, out, verdict := login.Begin(ask, nil)
	for {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		switch verdict {
		case login.Refused:
			return nil
		case login.More:
			if err := more(); err != nil {
				return err
			}
			var used int
			used, out, verdict = s.Feed(in, nil)
			in = in[used:]
			continue
		}
		break
	}
	if h.proven != nil {
		h.proven(ask.User, s.Credential())
	}
	out = admin.AppendWelcome(nil, "\x00\x00\x00\x01keys")
	facts := admin.Facts{Now: time.Now(), Port: h.addr.Port, Consoles: 1, Databases: []admin.DatabaseFact{{Name: "demo", Host: "10.0.0.1", Port: 5432, Database: "demo", PoolSize: 20}}}
	for {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		m, n, err := pgwire.ReadMessage(in, 1<<16)
		if err != nil {
			return err
		}
		if n == 0 {
			out = nil
			if err := more(); err != nil {
				return err
			}
			continue
		}
		in = in[n:]
		switch m.Type {
		case pgwire.Terminate:
			return nil
		case pgwire.Query:
			c, err := admin.Parse(strings.TrimSuffix(string(m.Body), "\x00"))
			if err == nil {
				err = c.Check(facts, ask.User != "stat")
			}
			switch {
			case err != nil:
				out = admin.AppendError(nil, err)
			case c.Verb == admin.Show:
				out = admin.AppendShow(nil, c, facts)
			default:
				out = admin.AppendDone(nil, c)
			}
		default:
			_, err := conn.Write(admin.AppendForeign(nil, m.Type))
			return err
		}
	}
}

// psql runs a command as user, with a password, and returns what it prints.
func (h *house) psql(user, password, database, command string, options ...string) string {
	h.t.Helper()
	dsn := pg.DSN{{"host", "127.0.0.1"}, {"port", fmt.Sprint(h.addr.Port)}, {"user", user}, {"dbname", database}, {"sslmode", "disable"}, {"connect_timeout", "10"}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		dsn = append(dsn, [2]string{k, v})
	}
	ctx, stop := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "psql", "-XAt", "-v", "VERBOSITY=verbose", "-c", command, dsn.String())
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out))
}

const pencil = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

const someUsers = `"plain" "pencil"
"hash" "md51a24d5231e5b35504f6501bbdf87b4f6"
"scram" "` + pencil + `"
"stat" "pencil"
"none" ""
`

func TestPsqlLogsIn(t *testing.T) {
	h := open(t, `
host pgbouncer all 127.0.0.1/32 scram-sha-256
host md5       all 127.0.0.1/32 md5
host password  all 127.0.0.1/32 password
host trust     all 127.0.0.1/32 trust
hostssl tls    all 127.0.0.1/32 scram-sha-256
host reject    all 127.0.0.1/32 reject
`, someUsers, nil)
	const version = "PgBouncer " + admin.Version
	var together sync.WaitGroup
	sasl, password := "FATAL:  SASL authentication failed", "FATAL:  password authentication failed"
	for _, tt := range []struct{ user, password, database, want string }{
		{"plain", "pencil", "pgbouncer", version},
		{"scram", "pencil", "pgbouncer", version},
		{"hash", "pencil", "pgbouncer", sasl},
		{"plain", "wrong", "pgbouncer", sasl},
		{"scram", "wrong", "pgbouncer", sasl},
		{"none", "pencil", "pgbouncer", sasl},
		{"nobody", "pencil", "pgbouncer", sasl},
		{"plain", "pencil", "md5", version},
		{"hash", "pencil", "md5", version},
		{"scram", "pencil", "md5", version},
		{"plain", "wrong", "md5", password},
		{"hash", "wrong", "md5", password},
		{"scram", "wrong", "md5", sasl},
		{"nobody", "pencil", "md5", sasl},
		{"plain", "pencil", "password", version},
		{"hash", "pencil", "password", version},
		{"scram", "pencil", "password", version},
		{"scram", "wrong", "password", password},
		{"nobody", "pencil", "password", password},
		{"plain", "", "trust", version},
		{"nobody", "", "trust", `FATAL:  "trust" authentication failed`},
		{"plain", "pencil", "reject", "FATAL:  login rejected"},
		{"plain", "pencil", "elsewhere", "FATAL:  no authentication method is found"},
		{"plain", "pencil", "tls", "FATAL:  no authentication method is found"},
	} {
		together.Go(func() {
			got := h.psql(tt.user, tt.password, tt.database, "show version")
			if got != tt.want && !(strings.HasPrefix(tt.want, "FATAL") && strings.HasSuffix(got, tt.want)) {
				t.Errorf("%s with %q to %s: %s, want %s", tt.user, tt.password, tt.database, got, tt.want)
			}
		})
	}
	for _, option := range []string{"channel_binding=require", "channel_binding=disable", "channel_binding=prefer"} {
		for _, user := range []string{"plain", "scram"} {
			together.Go(func() {
				if got := h.psql(user, "pencil", "tls", "show version", "sslmode=verify-full", "sslrootcert="+h.ca, option); got != version {
					t.Errorf("%s by TLS with %s: %s", user, option, got)
				}
			})
		}
	}
	together.Wait()
	h.bind.Store([]byte("of another certificate, as one in the middle has"))
	if got := h.psql("scram", "pencil", "tls", "show version", "sslmode=require", "channel_binding=require"); !strings.HasSuffix(got, sasl) {
		t.Errorf("bound to another certificate: %s", got)
	}
}

func TestPsqlAtTheConsole(t *testing.T) {
	h := open(t, "host all all 127.0.0.1/32 scram-sha-256\n", someUsers, nil)
	for _, tt := range []struct{ user, command, want string }{
		{"plain", "SHOW STATE", "active|yes\npaused|no\nsuspended|no"},
		{"plain", "SHOW POOLS", "pgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement|"},
		{"plain", "SHOW LISTS", "databases|2\nusers|0\npeers|0\npools|1\npeer_pools|0\nfree_clients|0\nused_clients|1\nlogin_clients|0\nfree_servers|0\nused_servers|0\ndns_names|0\ndns_zones|0\ndns_queries|0\ndns_pending|0"},
		{"plain", "PAUSE demo", "PAUSE"},
		{"plain", "SET default_pool_size = 21", "SET default_pool_size=21"},
		{"plain", "set client_encoding to 'UTF8'", "NOTICE:  00000: SET ignored\nSET"},
		{"plain", "PAUSE nodb", "ERROR:  08P01: no such database: nodb"},
		{"plain", "nonsense", "ERROR:  08P01: invalid command 'nonsense', use SHOW HELP;"},
		{"stat", "SHOW VERSION", "PgBouncer " + admin.Version},
		{"stat", "PAUSE", "ERROR:  08P01: admin access needed"},
		{"stat", "SHOW FDS", "ERROR:  08P01: admin access needed"},
	} {
		if got := h.psql(tt.user, "pencil", "pgbouncer", tt.command); got != tt.want {
			t.Errorf("%s as %s:\n%s\nwant\n%s", tt.command, tt.user, got, tt.want)
		}
	}
	if got := h.psql("plain", "pencil", "pgbouncer", "SHOW HELP"); !strings.HasPrefix(got, "NOTICE:  00000: Console usage\nDETAIL:  \n\tSHOW HELP|CONFIG") || !strings.HasSuffix(got, "\nSHOW") {
		t.Errorf("SHOW HELP:\n%s", got)
	}
}

// dial logs in to a real server with c, as a pooler does, and returns what the
// server says to a query.
func dial(ctx context.Context, s *testpg.Server, user string, c login.Credential, query string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(s.Node.Address, fmt.Sprint(s.Node.Postgres.Port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	body := "user\x00" + user + "\x00database\x00postgres\x00\x00"
	startup := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(startup, 3<<16), body...)); err != nil {
		return "", err
	}
	random := make([]byte, scram.NonceSize)
	_, _ = rand.Read(random)
	client := login.NewClient(user, c, random)
	var in []byte
	verdict, answer := login.More, ""
	for {
		m, n, err := pgwire.ReadMessage(in, 1<<16)
		if err != nil {
			return "", err
		}
		if n == 0 {
			b := make([]byte, 4096)
			got, err := conn.Read(b)
			if in = append(in, b[:got]...); got == 0 {
				return "", err
			}
			continue
		}
		in = in[n:]
		if verdict == login.More {
			var out []byte
			if out, verdict, err = client.Feed(m, nil); err != nil {
				return "", err
			}
			if _, err := conn.Write(out); err != nil {
				return "", err
			}
			continue
		}
		switch m.Type {
		case pgwire.ErrorResponse:
			return "", errors.New(pgwire.ReadReport(m.Body).Message)
		case pgwire.DataRow:
			answer = string(m.Body[6:])
		case pgwire.ReadyForQuery:
			if query == "" {
				return answer, nil
			}
			if _, err := conn.Write(pgwire.AppendMessage(nil, pgwire.Query, query, "\x00")); err != nil {
				return "", err
			}
			query = ""
		}
	}
}

// A client proves herself to us with the verifier that the server has, and what
// her proof gave away logs in for her there.
func TestAgainstPostgreSQL(t *testing.T) {
	server := testpg.Start(t, testpg.Primary(), testpg.TCP(), testpg.With(func(n *spec.Node) {
		n.Postgres.HBA = []spec.AccessRule{{Title: "by user", Lines: []string{
			"host all md5user 127.0.0.0/8 md5", "host all clear 127.0.0.0/8 password", "host all trusted 127.0.0.0/8 trust", "host all all 127.0.0.0/8 scram-sha-256",
		}}}
	}))
	server.Query("SET password_encryption = md5; CREATE ROLE md5user LOGIN PASSWORD 'pencil'; RESET password_encryption;" +
		"CREATE ROLE ann LOGIN PASSWORD 'pencil'; CREATE ROLE other LOGIN PASSWORD 'pencil'; CREATE ROLE clear LOGIN PASSWORD 'pencil'; CREATE ROLE trusted LOGIN")
	stored := func(user string) secret.Text {
		return secret.Text(server.Query("SELECT rolpassword FROM pg_authid WHERE rolname = " + pg.QuoteLiteral(user)))
	}
	users := map[string]secret.Text{"ann": stored("ann"), "md5user": stored("md5user"), "other": stored("ann")}
	names := []string{"ann", "md5user", "other"}
	ctx := t.Context()
	var mu sync.Mutex
	got := map[string]login.Credential{}
	h := open(t, "host md5 all 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 scram-sha-256\n", userlist.Text(names, func(n string) secret.Text { return users[n] }),
		func(user string, c login.Credential) { mu.Lock(); got[user] = c; mu.Unlock() })
	for user, database := range map[string]string{"ann": "demo", "md5user": "md5", "other": "demo"} {
		if out := h.psql(user, "pencil", database, "show version"); !strings.HasPrefix(out, "PgBouncer") {
			t.Fatalf("%s: %s", user, out)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, user := range []string{"ann", "md5user"} {
		if who, err := dial(ctx, server, user, got[user], "SELECT current_user"); err != nil || who != user {
			t.Errorf("passed through as %s: %q, %v", user, who, err)
		}
	}
	// The same password with another salt: the keys are of no use there.
	var rejected *login.Rejection
	if _, err := dial(ctx, server, "other", got["other"], "SELECT 1"); !errors.As(err, &rejected) || rejected.Code != "28P01" {
		t.Errorf("keys of another verifier: %v", err)
	}
	for user, c := range map[string]login.Credential{"ann": login.Parse("pencil"), "md5user": login.Parse("pencil"), "clear": login.Parse("pencil"), "trusted": login.Parse("")} {
		if who, err := dial(ctx, server, user, c, "SELECT current_user"); err != nil || who != user {
			t.Errorf("with the password, as %s: %q, %v", user, who, err)
		}
	}
	for user, c := range map[string]login.Credential{"ann": login.Parse(users["ann"]), "clear": login.Parse(users["md5user"]), "nobody": login.Parse(users["ann"])} {
		if _, err := dial(ctx, server, user, c, "SELECT 1"); !errors.Is(err, login.ErrKind) {
			t.Errorf("without what it takes, as %s: %v", user, err)
		}
	}
	for user, c := range map[string]login.Credential{"ann": login.Parse("wrong"), "md5user": login.Parse("wrong"), "nobody": login.Parse("pencil")} {
		if _, err := dial(ctx, server, user, c, "SELECT 1"); !errors.As(err, &rejected) || rejected.Code != "28P01" {
			t.Errorf("with a wrong password, as %s: %v", user, err)
		}
	}
	normalize(t, server)
	lookUp(t, server)
}

// normalize compares how we prepare passwords with how the server does.
func normalize(t *testing.T, server *testpg.Server) {
	for _, p := range []string{
		"pencil", "it's a \\secret", "ª", "Ⅸ", "½", "a\u00a0b", "a\u00adb", "ﬁ", "e\u0301", "\u00ad", "a\u0007½", "ا1½", "اب", "ﺍ1ﺏ", "😀½", "\u0221½",
		"\u200b½", "\u3000x", "Ω", "가", "ｱ", "№", "a\u200cb\u200d", "\ufeffx", "x\u06dd½", "½\U000e0001", "ا½ب", "\u0340½", "ẛ̣", "𝔘𝔫𝔦", "ƒ∂ç√", "пароль①",
	} {
		verifier := server.Query("CREATE ROLE norm PASSWORD " + pg.QuoteLiteral(p) + "; SELECT rolpassword FROM pg_authid WHERE rolname = 'norm'")
		server.Query("DROP ROLE norm")
		v, ok := scram.Parse(verifier)
		if !ok || !v.Is(p) {
			t.Errorf("the server prepares %q (%+q) in another way", p, p)
		}
	}
}

// lookUp asks the server for users as auth_query does.
func lookUp(t *testing.T, server *testpg.Server) {
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(server.Node.Address, fmt.Sprint(server.Node.Postgres.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	server.Query("GRANT SELECT ON pg_authid TO trusted")
	body := "user\x00trusted\x00database\x00postgres\x00\x00"
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	b = append(binary.BigEndian.AppendUint32(b, 3<<16), body...)
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	var in []byte
	next := func() pgwire.Message {
		for {
			m, n, err := pgwire.ReadMessage(in, 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				m.Body = bytes.Clone(m.Body)
				in = in[n:]
				return m
			}
			b := make([]byte, 4096)
			got, err := conn.Read(b)
			if in = append(in, b[:got]...); got == 0 {
				t.Fatal(err)
			}
		}
	}
	for next().Type != pgwire.ReadyForQuery {
	}
	const query = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
	server.Query(`CREATE ROLE "o'br""ien" LOGIN PASSWORD 'pencil'; CREATE ROLE expired LOGIN PASSWORD 'pencil' VALID UNTIL '2001-01-01'`)
	for _, tt := range []struct {
		query, user string
		found, kept bool
		fails       bool
	}{
		{query, "ann", true, true, false},
		{query, `o'br"ien`, true, true, false},
		{query, "expired", true, false, false},
		{query, "nobody", false, false, false},
		{"SELECT rolname FROM pg_authid WHERE rolname=$1", "ann", false, false, true},
		{"SELECT rolname, rolpassword FROM pg_authid WHERE $1 <> ''", "ann", false, false, true},
		{"SELECT nonsense($1)", "ann", false, false, true},
		{query, "ann", true, true, false}, // the connection is as good as before
	} {
		if _, err := conn.Write(userlist.AppendQuery(nil, tt.query, tt.user)); err != nil {
			t.Fatal(err)
		}
		var l userlist.Lookup
		var err error
		for done := false; !done; {
			done, err = l.Feed(next())
		}
		if (err != nil) != tt.fails || l.Found != tt.found || (login.Parse(l.Secret).Kind == login.Verifier) != tt.kept || tt.found && l.Name != tt.user {
			t.Errorf("%s for %s: found %v, kind %d, %v", tt.query, tt.user, l.Found, login.Parse(l.Secret).Kind, err)
		}
	}
}
