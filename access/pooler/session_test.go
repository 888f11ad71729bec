package pooler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/pool"
	"howdah/test/testpg"
)

// small has one server for everybody.
func small(d *Door) { d.Settings.DefaultPoolSize = 1 }

// until waits for so.
func until(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("in vain: " + what)
		}
	}
}

// states counts the servers of the test's user by their state.
func (w *world) states() string {
	return w.server.Query(`SELECT coalesce(string_agg(s, ' ' ORDER BY s), '') FROM (
		SELECT state || ':' || count(*) AS s FROM pg_stat_activity WHERE usename = 'demo' GROUP BY state) q`)
}

func TestManyClientsShareOneServer(t *testing.T) {
	w := newWorld(t, small)
	var wg sync.WaitGroup
	for i := range 20 {
		conn := w.connect()
		wg.Go(func() {
			for j := range 20 {
				var a, b int
				tx, err := conn.Begin(context.Background())
				if err == nil {
					err = tx.QueryRow(context.Background(), "SELECT $1::int, $2::int", i, j).Scan(&a, &b)
				}
				if err == nil {
					err = tx.Commit(context.Background())
				}
				if err != nil || a != i || b != j {
					t.Errorf("client %d: %d %d, %v", i, a, b, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := w.states(); got != "idle:1" {
		t.Errorf("servers %q", got)
	}
}

func TestPreparedStatementsFollowTheirClients(t *testing.T) {
	w := newWorld(t, func(d *Door) { d.Settings.DefaultPoolSize, d.Settings.MaxPreparedStatements = 2, 3 })
	a, b := w.connect(), w.connect()
	for i := range 10 { // more than a server may keep
		name := fmt.Sprintf("s%d", i)
		for j, conn := range []*pgx.Conn{a, b} { // the same name, another text
			if _, err := conn.Prepare(t.Context(), name, fmt.Sprintf("SELECT $1::int + %d", 100*i+j)); err != nil {
				t.Fatal(err)
			}
		}
	}
	hold := w.connect()
	for round := range 3 {
		if round == 1 { // on another server from here on
			if _, err := hold.Exec(t.Context(), "BEGIN"); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			for j, conn := range []*pgx.Conn{a, b} {
				var got int
				if err := conn.QueryRow(t.Context(), fmt.Sprintf("s%d", i), 5).Scan(&got); err != nil || got != 5+100*i+j {
					t.Fatalf("round %d, s%d of client %d: %d, %v", round, i, j, got, err)
				}
			}
		}
	}
	if err := a.Deallocate(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Prepare(t.Context(), "s1", "SELECT $1::int * 2"); err != nil {
		t.Fatal(err)
	}
	var got int
	if err := a.QueryRow(t.Context(), "s1", 21).Scan(&got); err != nil || got != 42 {
		t.Errorf("prepared again: %d, %v", got, err)
	}
}

func TestAStatementThatFailsIsForgotten(t *testing.T) {
	w := newWorld(t, small)
	conn := w.connect().PgConn()
	for range 2 {
		if _, err := conn.Prepare(t.Context(), "bad", "SELECT nonsense", nil); code(err) != "42703" {
			t.Fatalf("%v", err)
		}
	}
	if _, err := conn.Prepare(t.Context(), "bad", "SELECT 1", nil); err != nil {
		t.Fatal(err)
	}
	if r := conn.ExecPrepared(t.Context(), "bad", nil, nil, nil).Read(); r.Err != nil || string(r.Rows[0][0]) != "1" {
		t.Errorf("%v", r.Err)
	}
}

// A statement whose table has changed fails once, as on a direct connection; then
// it is prepared anew, wherever it is asked for.
func TestAStalePlanIsMadeAnew(t *testing.T) {
	w := newWorld(t, func(d *Door) { d.Settings.DefaultPoolSize = 1 })
	conn := w.connect().PgConn()
	w.run("psql", "-Xc", "CREATE TABLE stale AS SELECT 1 AS a", w.conninfo())
	if _, err := conn.Prepare(t.Context(), "s", "SELECT * FROM stale", nil); err != nil {
		t.Fatal(err)
	}
	if out, err := w.run("psql", "-Xc", "ALTER TABLE stale ADD b int", w.conninfo()); err != nil {
		t.Fatal(out)
	}
	if r := conn.ExecPrepared(t.Context(), "s", nil, nil, nil).Read(); code(r.Err) != "0A000" {
		t.Fatalf("%v", r.Err)
	}
	if r := conn.ExecPrepared(t.Context(), "s", nil, nil, nil).Read(); r.Err != nil || len(r.FieldDescriptions) != 2 {
		t.Errorf("%v, %d columns", r.Err, len(r.FieldDescriptions))
	}
}

func TestParametersFollowTheirClients(t *testing.T) {
	w := newWorld(t, small)
	utc, berlin := w.connect("TimeZone=UTC", "application_name=first"), w.connect("application_name=it's_a\\\\second")
	nameless := w.connect()
	if _, err := berlin.Exec(t.Context(), "SET TimeZone = 'Europe/Berlin'"); err != nil {
		t.Fatal(err)
	}
	if _, err := berlin.Exec(t.Context(), "SET DateStyle = 'German'"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := one(t, utc, "SELECT current_setting('TimeZone') || current_setting('DateStyle') || current_setting('application_name')"); got != "UTCISO, MDYfirst" {
			t.Errorf("the first has %q", got)
		}
		if got := one(t, berlin, "SELECT current_setting('TimeZone') || current_setting('DateStyle') || current_setting('application_name')"); got != `Europe/BerlinGerman, DMYit's_a\second` {
			t.Errorf("the second has %q", got)
		}
		if got := one(t, nameless, "SELECT current_setting('application_name')"); got != "" {
			t.Errorf("who has no name has %q", got)
		}
	}
	if got := utc.PgConn().ParameterStatus("TimeZone"); got != "UTC" {
		t.Errorf("told %q", got)
	}
	if got := utc.PgConn().ParameterStatus("server_version"); !strings.HasPrefix(got, "1") {
		t.Errorf("server_version %q", got)
	}
}

func TestWhatAClientMayAskForAtItsStart(t *testing.T) {
	w := newWorld(t, nil)
	for options, want := range map[string]string{
		"options='-c search_path=x'":        "unsupported startup parameter in options: search_path",
		"options='-c TimeZone=UTC'":         "",
		"options='--timezone=UTC'":          "",
		"options='-E'":                      "only '-c config=val'",
		"options='-c extra_float_digits=3'": "",
		"application_name=x":                "",
	} {
		out, err := w.run("psql", "-XAtqc", "SELECT 'in'", w.conninfo(options))
		if want == "" && (out != "in" || err != nil) || want != "" && !strings.Contains(out, want) {
			t.Errorf("%s: %s, %v; want %q", options, out, err, want)
		}
	}
}

func TestAnErrorInATransaction(t *testing.T) {
	w := newWorld(t, small)
	a, b := w.connect(), w.connect()
	if _, err := a.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Exec(t.Context(), "SELECT 1/0"); code(err) != "22012" {
		t.Fatalf("%v", err)
	}
	if _, err := a.Exec(t.Context(), "SELECT 1"); code(err) != "25P02" {
		t.Fatalf("the transaction is not the client's any more: %v", err)
	}
	if _, err := a.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if got := one(t, b, "SELECT 'free'"); got != "free" {
		t.Errorf("%q", got)
	}
}

func TestAClientThatDiesInATransaction(t *testing.T) {
	w := newWorld(t, small)
	if out, err := w.run("psql", "-Xc", "CREATE TABLE t (n int)", w.conninfo()); err != nil {
		t.Fatal(out)
	}
	a, b := w.connect(), w.connect()
	if _, err := a.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	a.PgConn().Conn().Close()
	// It is another server, and the row was rolled back.
	if got := one(t, b, "SELECT count(*)::text FROM t"); got != "0" {
		t.Errorf("%s rows", got)
	}
	until(t, "the server is closed", func() bool { return w.states() == "idle:1" })
}

func TestCancel(t *testing.T) {
	w := newWorld(t, small)
	conn := w.connect()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := conn.PgConn().Exec(context.WithoutCancel(ctx), "SELECT pg_sleep(30)").ReadAll()
		ended <- err
	}()
	until(t, "it sleeps", func() bool { return w.states() == "active:1" })
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; code(err) != "57014" {
		t.Errorf("%v", err)
	}
	if got := one(t, conn, "SELECT 'alive'"); got != "alive" {
		t.Errorf("%q", got)
	}
	// Of a client without a server, nobody's query is cancelled.
	other := w.connect()
	go func() {
		_, err := other.PgConn().Exec(context.WithoutCancel(ctx), "SELECT pg_sleep(0.3)").ReadAll()
		ended <- err
	}()
	until(t, "the other sleeps", func() bool { return w.states() == "active:1" })
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("somebody else's query was cancelled: %v", err)
	}
}

func TestCopyBothWays(t *testing.T) {
	w := newWorld(t, small)
	a, b := w.connect(), w.connect()
	if _, err := a.Exec(t.Context(), "CREATE TABLE c (n int, v text)"); err != nil {
		t.Fatal(err)
	}
	var rows bytes.Buffer
	for i := range 50000 {
		fmt.Fprintf(&rows, "%d\t%s\n", i, strings.Repeat("x", i%200))
	}
	if tag, err := a.PgConn().CopyFrom(t.Context(), bytes.NewReader(rows.Bytes()), "COPY c FROM STDIN"); err != nil || tag.RowsAffected() != 50000 {
		t.Fatalf("%v, %v", tag, err)
	}
	var back bytes.Buffer
	if _, err := b.PgConn().CopyTo(t.Context(), &back, "COPY (SELECT * FROM c ORDER BY n) TO STDOUT"); err != nil || back.String() != rows.String() {
		t.Fatalf("%d bytes of %d, %v", back.Len(), rows.Len(), err)
	}
	// An error in the midst: what is left of the data goes nowhere.
	bad := io.MultiReader(strings.NewReader("1\tok\nnonsense\n"), strings.NewReader(strings.Repeat("2\tlate\n", 200000)))
	if _, err := a.PgConn().CopyFrom(t.Context(), bad, "COPY c FROM STDIN"); code(err) != "22P02" {
		t.Fatalf("%v", err)
	}
	for _, conn := range []*pgx.Conn{a, b} {
		if got := one(t, conn, "SELECT count(*)::text FROM c"); got != "50000" {
			t.Errorf("%s rows", got)
		}
	}
}

func TestPipelines(t *testing.T) {
	w := newWorld(t, small)
	a, b := w.connect(), w.connect()
	for _, conn := range []*pgx.Conn{a, b} {
		p := conn.PgConn().StartPipeline(t.Context())
		p.SendPrepare("one", "SELECT $1::int", nil)
		p.SendQueryPrepared("one", [][]byte{[]byte("1")}, nil, nil)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		p.SendPrepare("one_again", "SELECT $1::int", nil) // the server has it: the answer is ours
		p.SendQueryPrepared("one_again", [][]byte{[]byte("2")}, nil, nil)
		p.SendQueryParams("SELECT 1/$1::int", [][]byte{[]byte("0")}, nil, nil, nil)
		p.SendQueryPrepared("one", [][]byte{[]byte("3")}, nil, nil) // left out after the error
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		p.SendQueryPrepared("one", [][]byte{[]byte("4")}, nil, nil)
		if err := p.Sync(); err != nil {
			t.Fatal(err)
		}
		if err := p.Flush(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for range 12 {
			r, err := p.GetResults()
			switch r := r.(type) {
			case *pgconn.StatementDescription:
				got = append(got, "prepared")
			case *pgconn.ResultReader:
				x := r.Read()
				if x.Err != nil {
					got = append(got, code(x.Err))
				} else {
					got = append(got, string(x.Rows[0][0]))
				}
			case *pgconn.PipelineSync:
				got = append(got, "sync")
			default:
				if err != nil {
					got = append(got, code(err))
				}
			}
			if len(got) > 0 && strings.Count(strings.Join(got, " "), "sync") == 3 {
				break
			}
		}
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if all := strings.Join(got, " "); all != "prepared 1 sync prepared 2 22012 sync 4 sync" {
			t.Errorf("answers: %s", all)
		}
	}
	if got := w.states(); got != "idle:1" {
		t.Errorf("servers %q", got)
	}
}

func TestSessionsKeepTheirServer(t *testing.T) {
	w := newWorld(t, func(d *Door) { d.Settings.PoolMode, d.Settings.DefaultPoolSize = pool.Session, 1 })
	a := w.connect()
	if _, err := a.Exec(t.Context(), "CREATE TEMP TABLE mine AS SELECT 1 AS n; LISTEN news"); err != nil {
		t.Fatal(err)
	}
	if got := one(t, a, "SELECT n::text FROM mine"); got != "1" {
		t.Errorf("%q", got)
	}
	w.server.Query(`SELECT 1`)
	if out, err := w.run("psql", "-Xqc", "NOTIFY news, 'x'", "host="+w.server.Node.Paths.Sockets+" user=postgres dbname=demo"); err != nil {
		t.Fatal(out)
	}
	n, err := a.WaitForNotification(t.Context())
	if err != nil || n.Payload != "x" {
		t.Fatalf("%v, %v", n, err)
	}
	pid := one(t, a, "SELECT pg_backend_pid()::text")
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := w.connect()
	if got := one(t, b, "SELECT pg_backend_pid()::text"); got != pid {
		t.Errorf("the server was not given on: %s, %s", pid, got)
	}
	if got := one(t, b, "SELECT count(*)::text FROM pg_class WHERE relname = 'mine'"); got != "0" {
		t.Error("the temporary table of the last client is still there")
	}
}

func TestStatementsAreNoTransactions(t *testing.T) {
	w := newWorld(t, func(d *Door) { d.Settings.PoolMode = pool.Statement })
	a := w.connect()
	if got := one(t, a, "SELECT 'one'"); got != "one" {
		t.Errorf("%q", got)
	}
	_, err := a.Exec(t.Context(), "BEGIN")
	if err == nil {
		_, err = a.Exec(t.Context(), "SELECT 1")
	}
	if err == nil || !strings.Contains(err.Error(), "transaction blocks not allowed in statement pooling mode") {
		t.Errorf("%v", err)
	}
}

func TestLimitsOfClientsAndWaiting(t *testing.T) {
	w := newWorld(t, func(d *Door) {
		d.Settings.DefaultPoolSize, d.Settings.MaxClientConn = 1, 2
		d.Settings.QueryWaitTimeout, d.Settings.QueryWaitNotify = time.Second, 100*time.Millisecond
	})
	a, b := w.connect(), w.connect()
	c, err := pgx.ParseConfig(w.conninfo())
	if err != nil {
		t.Fatal(err)
	}
	c.Password = testpg.Password
	_, err = pgx.ConnectConfig(t.Context(), c)
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "08P01" || e.Message != "no more connections allowed (max_client_conn)" {
		t.Errorf("the third client: %v", err)
	}
	if _, err := a.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	_, err = b.Exec(t.Context(), "SELECT 1")
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "08P01" || e.Message != "query_wait_timeout" {
		t.Errorf("a client that waited too long: %v", err)
	}
}

func TestAServerThatRefusesItsClient(t *testing.T) {
	w := newWorld(t, nil)
	out, err := w.run("psql", "-XAtqc", "SELECT 1", w.conninfo("dbname=nowhere"))
	if err == nil || !strings.Contains(out, `database "nowhere" does not exist`) {
		t.Errorf("%s, %v", out, err)
	}
	if out, _ = w.run("psql", "-XAtqc", "SELECT 1", w.conninfo("dbname=nowhere")); !strings.Contains(out, "server login has been failing, cached error: ") {
		t.Errorf("%s", out)
	}
}

// A server that restarts costs whoever was idle nothing.
func TestIdleClientsAreHeldWhileTheServerIsAway(t *testing.T) {
	w := newWorld(t, nil)
	idle, busy := w.connect(), w.connect()
	before := one(t, idle, "SELECT pg_backend_pid()::text")
	if _, err := busy.Exec(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Stop(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		a.err = idle.QueryRow(context.Background(), "SELECT pg_backend_pid()::text").Scan(&a.text)
		answered <- a
	}()
	until(t, "it waits", func() bool {
		waiting := 0
		w.pooler.halls[0].loop.call(func() {
			for _, r := range w.door.rooms[0].book.Rows(w.pooler.halls[0].loop.now) {
				waiting += r.Waiting
			}
		})
		return waiting == 1
	})
	if err := w.server.Server.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.err != nil || a.text == before {
		t.Errorf("%+v", a)
	}
	if _, err := busy.Exec(t.Context(), "COMMIT"); err == nil {
		t.Error("a transaction that was cut committed")
	}
}

// Whoever sends byte by byte is understood like anybody.
func TestByteByByte(t *testing.T) {
	w := newWorld(t, small)
	c, err := pgconn.ParseConfig(w.conninfo())
	if err != nil {
		t.Fatal(err)
	}
	c.Password = testpg.Password
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return dripping{conn}, err
	}
	conn, err := pgconn.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for range 3 {
		if _, err := conn.Prepare(t.Context(), "slow", "SELECT $1::text", nil); err != nil {
			t.Fatal(err)
		}
		r := conn.ExecPrepared(t.Context(), "slow", [][]byte{[]byte("hello")}, nil, nil).Read()
		if r.Err != nil || string(r.Rows[0][0]) != "hello" {
			t.Fatalf("%v", r.Err)
		}
		if err := conn.Deallocate(t.Context(), "slow"); err != nil {
			t.Fatal(err)
		}
	}
}

type dripping struct{ net.Conn }

func (d dripping) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// A result that is larger than all buffers, and a client that takes its time.
func TestALargeResultAndASlowReader(t *testing.T) {
	w := newWorld(t, small)
	conn := w.connect().PgConn()
	r := conn.Exec(t.Context(), "SELECT repeat('x', 1000) FROM generate_series(1, 40000)")
	rows := 0
	for r.NextResult() {
		for r.ResultReader().NextRow() {
			if rows++; rows == 100 {
				until(t, "the server waits for us", func() bool {
					return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'") == "1"
				})
			}
		}
	}
	if err := r.Close(); err != nil || rows != 40000 {
		t.Errorf("%d rows, %v", rows, err)
	}
	if got := one(t, w.connect(), "SELECT 'next'"); got != "next" {
		t.Errorf("%q", got)
	}
}
