package pooler

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/access/hba"
	"howdah/access/login"
	"howdah/pg"
	"howdah/pgwire"
	"howdah/scram"
	"howdah/secret"
	"howdah/test/testpg"
)

// Nobody reaches a database as a user whose secret she did not prove: neither by
// going on as if she had, nor with what another one said.
func TestOnlyAProofOpensADatabase(t *testing.T) {
	w := newWorld(t, nil)
	decent := w.in()
	run := func(sql string) string { t.Helper(); return decent.ask(t, sql) }
	run("CREATE TABLE reached (how text)")
	// What a real client said, byte for byte.
	conn := w.raw()
	var said [][]byte
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error {
		said = append(said, bytes.Clone(b))
		_, err := conn.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	random := make([]byte, scram.NonceSize)
	first := login.NewClient("demo", login.Parse("wrong"), random)
	offer := pgwire.AppendAuth(nil, pgwire.AuthSASL, scram.Mechanism+"\x00\x00")
	guess, _, err := first.Feed(pgwire.Message{Type: 'R', Body: offer[5:]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string][][]byte{
		"she does not log in":               {hello},
		"she skips the proof":               {hello, guess},
		"she repeats another's words":       said,
		"she repeats another's proof":       {hello, guess, said[len(said)-1]},
		"she says the server's words":       {hello, offer, pgwire.AppendReady(pgwire.AppendAuth(nil, pgwire.AuthOK), 'I')},
		"she sends an empty password":       {hello, pgwire.AppendMessage(nil, 'p', "\x00")},
		"she sends the password in clear":   {hello, pgwire.AppendMessage(nil, 'p', testpg.Password, "\x00")},
		"she sends the verifier":            {hello, pgwire.AppendMessage(nil, 'p', w.server.Query("SELECT rolpassword FROM pg_authid WHERE rolname = 'demo'"), "\x00")},
		"she begins twice":                  {hello, hello},
		"she begins again as another":       {hello, startup(3<<16, "user", "postgres", "database", "demo")},
		"she has no name":                   {startup(3<<16, "database", "demo")},
		"her name goes on after a zero":     {startup(3<<16, "user", "demo\x00database", "demo")},
		"her database is a name and more":   {startup(3<<16, "user", "nobody", "database", "demo user=demo")},
		"she is the superuser":              {startup(3<<16, "user", "postgres", "database", "demo"), guess},
		"she asks for replication":          {startup(3<<16, "user", "demo", "database", "demo", "replication", "true")},
		"she sets the session's user":       {startup(3<<16, "user", "nobody", "database", "demo", "options", "-c session_authorization=demo")},
		"she sets the role as a parameter":  {startup(3<<16, "user", "nobody", "database", "demo", "role", "demo")},
		"a parameter that ends a statement": {startup(3<<16, "user", "nobody", "database", "demo", "application_name", "';INSERT INTO reached VALUES ('parameter');--")},
	} {
		for _, pause := range []bool{false, true} { // all at once, or each after an answer
			conn := w.raw()
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			k := &talker{Conn: conn}
			for _, b := range script {
				_, _ = k.Write(b)
				if pause {
					_, _ = k.next()
				}
			}
			_, _ = k.Write(query("INSERT INTO reached VALUES ('" + strings.ReplaceAll(name, "'", "''") + "')"))
			for {
				m, err := k.next()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the connection stays", name)
				}
				if err != nil {
					break
				}
				if m.Type == pgwire.ReadyForQuery || m.Type == pgwire.Authentication && bytes.Equal(m.Body, []byte{0, 0, 0, 0}) {
					t.Errorf("%s: she is in", name)
				}
			}
			k.Close()
		}
	}
	if got := run("SELECT coalesce(string_agg(how, ', '), 'nobody') FROM reached"); got != "nobody" {
		t.Errorf("the database was reached: %s", got)
	}
}

// Whoever is let in on trust uses what a proof gave, and does not take it away.
func TestTrustTakesNoKeysAway(t *testing.T) {
	rules, problems := hba.Parse("host demo demo 127.0.0.1/32 scram-sha-256\nhost postgres demo 127.0.0.1/32 trust\n", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	server := testpg.Start(t, testpg.Primary(), testpg.TCP())
	w := &world{t: t, server: server}
	w.open(func(d *Door) {
		d.Rules = rules
		again := func(ctx context.Context) (net.Conn, error) { // by TCP, where the server wants a proof
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", net.JoinHostPort(server.Node.Address, strconv.Itoa(server.Node.Postgres.Port)))
		}
		d.Dial = func(ctx context.Context) (Backend, error) {
			conn, err := again(ctx)
			return Backend{Conn: conn, Again: again}, err
		}
	})
	w.well("with a proof")
	for _, database := range []string{"postgres", "demo"} {
		server.Query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'demo'")
		eventually(t, "her servers are gone", func() bool {
			return server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo'") == "0"
		})
		password := map[string]string{"postgres": "none is asked for", "demo": testpg.Password}[database]
		got, err := w.run("psql", "-XAtqc", "SELECT current_user", w.conninfo("dbname="+database, pg.DSN{{"password", password}}.String()))
		if err != nil || got != "demo" {
			t.Errorf("to %s: %q, %v", database, got, err)
		}
	}
}
