package admin

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// since119 are columns and rows that the oldest PgBouncer that counts, 1.18, does not have.
var since119 = map[string][]string{
	"databases": {"server_lifetime", "load_balance_hosts", "max_client_connections", "current_client_connections"},
	"users":     {"pool_size", "reserve_pool_size", "max_user_connections", "current_connections", "max_user_client_connections", "current_client_connections"},
	"pools":     {"load_balance_hosts"},
	"clients":   {"replication", "prepared_statements", "id"},
	"stats": {
		"total_server_assignment_count", "total_client_parse_count", "total_server_parse_count", "total_bind_count",
		"avg_server_assignment_count", "avg_client_parse_count", "avg_server_parse_count", "avg_bind_count",
	},
	"stats_totals":   {"server_assignment_count", "client_parse_count", "server_parse_count", "bind_count"},
	"stats_averages": {"server_assignment_count", "avg_client_parse_count", "avg_server_parse_count", "avg_bind_count"},
	"lists":          {"peers", "peer_pools"},
	"totals": {
		"total_server_assignment_count", "total_ps_client_parse_count", "total_ps_server_parse_count", "total_ps_bind_count",
		"avg_server_assignment_count", "avg_ps_client_parse_count", "avg_ps_server_parse_count", "avg_ps_bind_count",
	},
}

// pgbouncer starts a real one and returns a session at its console.
func pgbouncer(t *testing.T) *pgconn.PgConn {
	t.Helper()
	program := filepath.Join(os.Getenv("HOWDAH_PEERS"), "bookworm", "bin", "pgbouncer")
	if os.Getenv("HOWDAH_PEERS") == "" {
		program = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("REQUIRE_PG") != "" {
			t.Fatal("REQUIRE_PG is set, and there is no PgBouncer")
		}
		t.Skip("no PgBouncer on this machine")
	}
	dir, err := os.MkdirTemp("/tmp", "pgb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("users", "\"ann\" \"\"\n")
	write("pgbouncer.ini", fmt.Sprintf("[databases]\ndemo = dbname=demo\n[pgbouncer]\nunix_socket_dir = %s\nlisten_port = 6432\nauth_type = trust\nauth_file = %s/users\nadmin_users = ann\n", dir, dir))
	cmd := exec.Command(program, "-q", filepath.Join(dir, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // it refuses root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Skip(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	config, err := pgconn.ParseConfig("user=ann dbname=pgbouncer port=6432 sslmode=disable host=" + dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			return conn
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}

// What a real PgBouncer shows, we show, in its order, by its types.
func TestColumnsAreThoseOfPgBouncer(t *testing.T) {
	conn := pgbouncer(t)
	if v := conn.ParameterStatus("server_version"); !strings.HasPrefix(v, "1.18.") {
		t.Skipf("it is %s, and the differences are known for 1.18", v)
	}
	for _, name := range []string{
		"version", "config", "databases", "users", "pools", "lists", "clients", "servers", "sockets", "active_sockets",
		"stats", "stats_totals", "stats_averages", "totals", "mem", "dns_hosts", "dns_zones", "client_encoding", "datestyle", "timezone",
		"standard_conforming_strings", "default_transaction_isolation",
	} {
		result := conn.Exec(t.Context(), "SHOW "+name)
		if !result.NextResult() {
			t.Fatalf("SHOW %s: %v", name, result.Close())
		}
		columns := slices.Clone(result.ResultReader().FieldDescriptions())
		rows := result.ResultReader().Read()
		if err := result.Close(); err != nil {
			t.Fatalf("SHOW %s: %v", name, err)
		}
		newer := since119[map[string]string{"servers": "clients", "sockets": "clients", "active_sockets": "clients"}[name]]
		newer = append(newer, since119[name]...)
		v := views[name]
		if v == nil {
			v = courtesy(name)
		}
		var ours, theirs []string
		for _, c := range v.description() {
			if !slices.Contains(newer, c.Name) {
				ours = append(ours, fmt.Sprintf("%s %d", c.Name, c.Type))
			}
		}
		for _, c := range columns {
			theirs = append(theirs, fmt.Sprintf("%s %d", strings.Replace(c.Name, "reserve_pool", "reserve_pool_size", 1), c.DataTypeOID))
		}
		if !slices.Equal(ours, theirs) {
			t.Errorf("SHOW %s has\n%v, PgBouncer has\n%v", name, ours, theirs)
		}
		if tag := rows.CommandTag.String(); tag != "SHOW" {
			t.Errorf("SHOW %s ends with %q there", name, tag)
		}
		switch name {
		case "lists", "totals": // their rows have names too
			ours, theirs = nil, nil
			v.rows(full(), func(values ...any) {
				if n := values[0].(string); !slices.Contains(newer, n) {
					ours = append(ours, n)
				}
			})
			for _, r := range rows.Rows {
				theirs = append(theirs, string(r[0]))
			}
			if !slices.Equal(ours, theirs) {
				t.Errorf("SHOW %s has rows\n%v, PgBouncer has\n%v", name, ours, theirs)
			}
		case "client_encoding", "datestyle", "timezone", "standard_conforming_strings", "default_transaction_isolation":
			v.rows(full(), func(values ...any) {
				if got := string(rows.Rows[0][0]); got != values[0] {
					t.Errorf("SHOW %s: %v, PgBouncer has %s", name, values[0], got)
				}
			})
		}
	}
}

// What a real PgBouncer refuses, we refuse with its words.
func TestErrorsAreThoseOfPgBouncer(t *testing.T) {
	conn := pgbouncer(t)
	f := Facts{Databases: []DatabaseFact{{Name: "demo"}}}
	for _, query := range []string{
		"", ";", "begin", "SHOW", "SHOW pools extra", "SELECT 1", "SHOW FOO", "RELOAD x", "SUSPEND x", "SHUTDOWN foo", "show pools; show pools", "pause 'demo'",
		"ABCDEFGHIJKLMNOPQRS", "PAUSE " + strings.Repeat("a", 64), "PAUSE " + strings.Repeat("a", 63), "set a = '" + strings.Repeat("b", 255) + "'", "set ünï = x",
		"PAUSE nodb", "PAUSE pgbouncer", `PAUSE "no ""db"`, "RESUME", "RESUME demo", "RESUME nodb", "RESUME pgbouncer", "ENABLE", "DISABLE", "DISABLE pgbouncer", "DISABLE nodb",
		"ENABLE nodb", "KILL pgbouncer", "KILL nodb", "RECONNECT nodb", "RECONNECT pgbouncer", "WAIT_CLOSE nodb", "WAIT_CLOSE pgbouncer", `"show" version`, " \t show\r\n version ; ",
		"set client_encoding = utf8", "DISABLE demo", "ENABLE demo", "RECONNECT", "RELOAD", "set a=b", "set default_pool_size = 21", "set ignore_startup_parameters to 'a''b'",
	} {
		theirs := ""
		results, err := conn.Exec(t.Context(), query).ReadAll()
		if err != nil {
			theirs = err.(*pgconn.PgError).Code + " " + err.(*pgconn.PgError).Message
		} else if len(results) > 0 {
			theirs = results[0].CommandTag.String()
		}
		c, err := Parse(query)
		if err == nil {
			err = c.Check(f, true)
		}
		if c.Verb == Set && c.Arg == "a" { // what is a setting, the pooler knows
			err = ErrSet
		}
		ours := c.Tag()
		if err != nil {
			ours = err.(*Error).Code + " " + err.(*Error).Message
		}
		if ours != theirs {
			t.Errorf("%q:\n%s, PgBouncer says\n%s", query, ours, theirs)
		}
	}
}
