package pooler

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/hba"
	"howdah/spec"
	"howdah/test/testpg"
)

// replicating is a world whose user may replicate, and look at the pools.
func replicating(t *testing.T, with func(*Door)) *world {
	w := newWorld(t, func(d *Door) {
		d.Admins = []string{"demo"}
		if with != nil {
			with(d)
		}
	}, testpg.With(func(n *spec.Node) { n.Postgres.Parameters["wal_level"] = "logical" }))
	w.server.Query("ALTER ROLE demo REPLICATION")
	return w
}

// stream connects as a client of replication.
func (w *world) stream(kind string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(w.conninfo("replication=" + kind))
	if err != nil {
		w.t.Fatal(err)
	}
	c.Password = testpg.Password
	conn, err := pgconn.ConnectConfig(w.t.Context(), c)
	if err == nil {
		w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

// PostgreSQL's own clients of replication come through a pool in transaction mode.
func TestReplication(t *testing.T) {
	w := replicating(t, nil)
	dir := filepath.Join(t.TempDir(), "copy")
	if out, err := w.run("pg_basebackup", "-D", dir, "-X", "stream", "-c", "fast", "-d", w.conninfo()); err != nil {
		t.Fatal(out, err)
	}
	if out, err := w.run("pg_verifybackup", dir); err != nil {
		t.Error(out, err)
	}
	if out, err := w.run("psql", "-XAtqc", "IDENTIFY_SYSTEM", w.conninfo("replication=true")); err != nil || strings.Count(out, "|") != 3 {
		t.Error(out, err)
	}
	if out, err := w.run("pg_recvlogical", "-S", "changes", "--create-slot", "-P", "test_decoding", "-d", w.conninfo()); err != nil {
		t.Fatal(out, err)
	}
	if out, err := w.run("psql", "-XAtqc", "CREATE TABLE rows (n int); INSERT INTO rows SELECT generate_series(1, 10000)", w.conninfo()); err != nil {
		t.Fatal(out, err)
	}
	to := w.server.Query("SELECT pg_current_wal_flush_lsn()")
	file := filepath.Join(t.TempDir(), "changes")
	if out, err := w.run("pg_recvlogical", "-S", "changes", "--start", "--endpos", to, "-f", file, "-d", w.conninfo()); err != nil {
		t.Fatal(out, err)
	}
	got, _ := os.ReadFile(file)
	if n := strings.Count(string(got), "table public.rows: INSERT"); n != 10000 {
		t.Errorf("%d changes came", n)
	}
}

func TestAReplicationSession(t *testing.T) {
	w := replicating(t, nil)
	conn, err := w.stream("database")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := conn.Exec(t.Context(), "SELECT 'sql'; IDENTIFY_SYSTEM").ReadAll(); code(err) != "42601" && len(got) == 0 {
		t.Errorf("%v, %v", got, err)
	}
	rows, err := conn.Exec(t.Context(), "SELECT 42").ReadAll()
	if err != nil || string(rows[0].Rows[0][0]) != "42" {
		t.Fatalf("%v, %v", rows, err)
	}
	c := w.connect("dbname=pgbouncer default_query_exec_mode=simple_protocol")
	seen := func(of string) (replication, link string) {
		all, err := c.PgConn().Exec(t.Context(), "SHOW "+of).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range all[0].Rows {
			for i, f := range all[0].FieldDescriptions {
				if f.Name == "replication" && string(row[i]) != "none" {
					return string(row[i]), string(row[0])
				}
			}
		}
		return "", ""
	}
	if kind, _ := seen("CLIENTS"); kind != "logical" {
		t.Errorf("SHOW CLIENTS has %q", kind)
	}
	if kind, _ := seen("SERVERS"); kind != "logical" {
		t.Errorf("SHOW SERVERS has %q", kind)
	}
	// A cancel request finds its backend.
	slept := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(60)").ReadAll()
		slept <- err
	}()
	until(t, "it sleeps", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'") != "0"
	})
	if err := conn.CancelRequest(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-slept; code(err) != "57014" {
		t.Fatalf("canceled: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	until(t, "both have ended", func() bool {
		kind, _ := seen("SERVERS")
		return kind == "" && w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") == "0"
	})
}

func TestWhoMayNotReplicate(t *testing.T) {
	rules, problems := hba.Parse("host replication demo 127.0.0.1/32 scram-sha-256\nhost demo all 127.0.0.1/32 scram-sha-256\n", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w := newWorld(t, func(d *Door) { d.Rules = rules })
	if _, err := w.stream("database"); code(err) == "" || !strings.Contains(err.Error(), "permission denied to start WAL sender") && !strings.Contains(err.Error(), "must be superuser or replication role") {
		t.Errorf("without the attribute: %v", err)
	}
	if _, err := w.stream("perhaps"); code(err) != "08P01" {
		t.Errorf("a value that is none: %v", err)
	}
	w.server.Query("ALTER ROLE demo REPLICATION")
	if _, err := w.stream("true"); err != nil {
		t.Error(err)
	}
	c, _ := pgconn.ParseConfig(w.conninfo("replication=true user=postgres"))
	if _, err := pgconn.ConnectConfig(t.Context(), c); err == nil || !strings.Contains(err.Error(), "no authentication method is found") {
		t.Errorf("of whom no rule knows: %v", err)
	}
}

// What a server that leads no more says is kept back, and its streams end with it.
func TestReplicationFollowsTheCourse(t *testing.T) {
	var shut atomic.Bool
	w := replicating(t, func(d *Door) {
		dial := d.Dial
		d.Dial = func(ctx context.Context) (Backend, error) {
			b, err := dial(ctx)
			b.Gate = func() bool { return !shut.Load() }
			b.Tag = "first"
			return b, err
		}
	})
	conn, err := w.stream("database")
	if err != nil {
		t.Fatal(err)
	}
	shut.Store(true)
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1").ReadAll()
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("through a shut gate: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	shut.Store(false)
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	w.door.Follow(Course{Keep: func(any) Verdict { return Retire }})
	if _, err := conn.Exec(t.Context(), "SELECT 1").ReadAll(); err != nil {
		t.Fatalf("of a server that retires: %v", err)
	}
	w.door.Follow(Course{Keep: func(any) Verdict { return End }})
	until(t, "the stream ends", func() bool {
		_, err := conn.Exec(t.Context(), "SELECT 1").ReadAll()
		return err != nil
	})
}
