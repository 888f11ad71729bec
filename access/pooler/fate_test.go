package pooler

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/access/pool"
	"howdah/spec"
	"howdah/test/testpg"
)

// judge asks that server.
func judge(t testing.TB, s *testpg.Server) *Judge {
	t.Helper()
	roll, err := NewRoll(s.Node.Paths.Sockets, s.Node.Postgres.Port, spec.Superuser, 0)
	if err != nil {
		t.Fatal(err)
	}
	j := &Judge{Config: roll.Config.Copy}
	t.Cleanup(j.Close)
	return j
}

// fate asks until somebody knows.
func (j *Judge) fate(ctx context.Context, x Doubt) Fate {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if fate, err := j.Ask(ctx, x); err == nil {
			return fate
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Unknown
		}
	}
}

// Wherever the answer to a COMMIT is cut, its client hears what became of it: success is a row that
// is there, 40001 one that is not, and nobody is left in doubt.
func TestALostCommitIsAskedAfter(t *testing.T) {
	var j *Judge
	w, k := newCutWorld(t, func(d *Door) {
		d.Settings.ResolveCommits = true
		d.Fate = func(ctx context.Context, x Doubt) Fate { return j.fate(ctx, x) }
	})
	j = judge(t, w.server)
	ways := map[string]func(c *pgconn.PgConn) error{
		"simple": func(c *pgconn.PgConn) error { return say(t.Context(), c, "/* done */ COMMIT;") },
		"extended": func(c *pgconn.PgConn) error {
			return c.ExecParams(t.Context(), "end work", nil, nil, nil, nil).Read().Err
		},
		"prepared": func(c *pgconn.PgConn) error { return c.ExecPrepared(t.Context(), "commit", nil, nil, nil).Read().Err },
	}
	heard := map[string]int{}
	for way, commit := range ways {
		var conn *pgconn.PgConn
		for n := 0; n < 250; n += 12 {
			mark := way + strconv.Itoa(n)
			if conn == nil || conn.IsClosed() {
				conn = w.connect().PgConn()
				if _, err := conn.Prepare(t.Context(), "commit", "COMMIT", nil); err != nil {
					t.Fatal(err)
				}
			}
			for _, sql := range []string{"BEGIN", "INSERT INTO cut VALUES ('" + mark + "')"} {
				if err := say(t.Context(), conn, sql); err != nil {
					t.Fatal(err)
				}
			}
			k.answer(n)
			err := commit(conn)
			k.set(false, -1)
			row := w.direct("SELECT count(*) FROM cut WHERE n = '" + mark + "'")
			switch c := code(err); {
			case conn.IsClosed():
				heard["half a message"]++
			case c == "" && row == "1", c == "40001" && row == "0":
				heard[c]++
				if conn.TxStatus() != 'I' {
					t.Errorf("%s: afterwards %c", mark, conn.TxStatus())
				}
			default:
				t.Errorf("%s: the client hears %q, and there are %s rows", mark, c, row)
			}
		}
		_ = conn.Close(t.Context())
	}
	t.Logf("heard: %v", heard)
	if heard[""] < 3 || heard["40001"] < 3 {
		t.Errorf("too few of a kind: %v", heard)
	}
}

// The server is killed while COMMITs wait in it, and its standby promoted: each client
// hears the truth of the standby, in which one COMMIT has arrived and another has not.
func TestCommitsOfAServerThatIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := testpg.Start(t, testpg.StandbyOf(w.server))
	j := judge(t, b)
	promoted := make(chan struct{})
	var last Doubt
	pooled := &world{t: t, server: w.server}
	pooled.open(func(d *Door) {
		d.Outlive, d.Settings.ResolveCommits, d.Settings.DownRetry = true, true, 10*time.Millisecond
		first := d.Dial
		second := Local(b.Node.Paths.Sockets, b.Node.Postgres.Port)
		d.Dial = func(ctx context.Context) (Backend, error) {
			select {
			case <-promoted:
				return second(ctx)
			default:
				return first(ctx)
			}
		}
		d.Fate = func(ctx context.Context, x Doubt) Fate {
			<-promoted
			return j.fate(ctx, x)
		}
		d.Settings.DownWait = time.Minute
	})
	pooled.direct(`CREATE TABLE kept (n int);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';
CREATE TABLE slowly (n int);
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slowly DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`)
	until(t, "the standby has the tables", func() bool {
		got, err := b.Exec(t.Context(), `SELECT pg_is_in_recovery()`)
		return err == nil && got == "t" && w.server.Query("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = pg_current_wal_lsn()") == "1"
	})
	answers := map[string]chan error{}
	ended := func(name string, begin ...string) *pgconn.PgConn {
		conn := pooled.connect().PgConn()
		for _, sql := range append([]string{"BEGIN"}, begin...) {
			if err := say(t.Context(), conn, sql); err != nil {
				t.Fatal(err)
			}
		}
		answers[name] = make(chan error, 1)
		go func() { answers[name] <- say(context.Background(), conn, "COMMIT") }()
		return conn
	}
	waits := func(event, count string) {
		t.Helper()
		until(t, "it waits for "+event, func() bool {
			return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = '"+event+"'") == count
		})
	}
	// One has nothing to lose, one whose COMMIT can not end, and one whose COMMIT is in the log of both.
	reads := ended("reads", "SELECT 1")
	if err := <-answers["reads"]; err != nil {
		t.Fatal(err)
	}
	slow := ended("not there", "INSERT INTO slowly VALUES (1)")
	waits("PgSleep", "1")
	w.server.Synchronous("nobody")
	fast := ended("there", "INSERT INTO kept VALUES (1)")
	waits("SyncRep", "1")
	pooled.pooler.halls[0].loop.call(func() {
		for _, s := range pooled.door.rooms[0].servers {
			if s != nil && s.cutoff.doubt != nil {
				last = *s.cutoff.doubt
			}
		}
	})
	at := w.server.Query("SELECT pg_current_wal_flush_lsn()")
	until(t, "the standby has it all", func() bool {
		got, err := b.Exec(t.Context(), "SELECT pg_last_wal_replay_lsn() >= '"+at+"'")
		return err == nil && got == "t"
	})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := w.server.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Promote(ctx, 0); err != nil {
		t.Fatal(err)
	}
	close(promoted)
	for name, want := range map[string]string{"there": "", "not there": "40001"} {
		select {
		case err := <-answers[name]:
			if code(err) != want {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		case <-ctx.Done():
			t.Fatalf("%s: no answer", name)
		}
	}
	if r := fast.ExecParams(ctx, "SELECT (SELECT count(*) FROM kept) || ' ' || (SELECT count(*) FROM slowly)", nil, nil, nil, nil).Read(); r.Err != nil || string(r.Rows[0][0]) != "1 0" {
		t.Errorf("rows: %s, %v", r.Rows, r.Err)
	}
	for _, conn := range []*pgconn.PgConn{reads, slow, fast} {
		if err := say(t.Context(), conn, "SELECT 1"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	// A number that the lost server had given and never sent is given again.
	if last.XID == "" || j.fate(ctx, last) != Committed {
		t.Fatalf("%+v: %s", last, j.fate(ctx, last))
	}
	other := b.Query("CREATE TABLE other (); SELECT pg_current_xact_id()")
	future, _ := strconv.Atoi(other)
	for _, tt := range []struct {
		name string
		x    Doubt
		want Fate
	}{
		{"another has its number", Doubt{other, last.At, strings.Repeat("0f", tokenBytes)}, Unknown},
		{"another has its number, and its place is not written yet", Doubt{other, last.At + 1<<32, last.Token}, Unknown},
		{"its number is not given yet", Doubt{strconv.Itoa(future + 1000), last.At + 1<<20, last.Token}, Lost},
		{"committed, at the place of another", Doubt{last.XID, last.At - 600, last.Token}, Unknown},
	} {
		if got := j.fate(ctx, tt.x); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A server that crashed and is back where it was knows of every COMMIT that was sent to it.
func TestCommitsOfAServerThatCrashes(t *testing.T) {
	t.Parallel()
	var j *Judge
	w := newWorld(t, func(d *Door) {
		d.Outlive, d.Settings.ResolveCommits, d.Settings.DownRetry = true, true, 10*time.Millisecond
		d.Settings.DownWait = time.Minute
		d.Fate = func(ctx context.Context, x Doubt) Fate { return j.fate(ctx, x) }
	})
	j = judge(t, w.server)
	w.direct("CREATE TABLE kept (n text)")
	_ = w.past.Close(t.Context())
	w.past = nil
	const crowd = 8
	type answer struct{ mark, code string }
	answers := make(chan answer, 100000)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan struct{}, crowd)
	for i := range crowd {
		conn := w.connect().PgConn()
		go func() {
			defer func() { ended <- struct{}{} }()
			for n := 0; ctx.Err() == nil && !conn.IsClosed() && n < 10000; n++ {
				mark := fmt.Sprintf("%d/%d", i, n)
				err := say(context.Background(), conn, "BEGIN")
				if err == nil {
					err = say(context.Background(), conn, "INSERT INTO kept VALUES ('"+mark+"')")
				}
				if err == nil {
					err = say(context.Background(), conn, "COMMIT")
				}
				answers <- answer{mark, code(err)}
			}
		}()
	}
	until(t, "they write", func() bool { return len(answers) > 20*crowd })
	life, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	if err := w.server.Kill(life); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Server.Start(life, nil); err != nil {
		t.Fatal(err)
	}
	some := len(answers)
	until(t, "they go on", func() bool { return len(answers) > some+5*crowd })
	stop()
	for range crowd {
		<-ended
	}
	close(answers)
	rows := map[string]int{}
	for _, mark := range strings.Fields(w.direct("SELECT coalesce(string_agg(n, ' '), '') FROM kept")) {
		rows[mark]++
	}
	heard := map[string]int{}
	for a := range answers {
		heard[a.code]++
		switch n := rows[a.mark]; {
		case a.code == "" && n == 1, a.code == "40001" && n == 0, a.code == "08007" && n < 2:
		default:
			t.Errorf("%s is answered %q, and there are %d rows", a.mark, a.code, n)
		}
	}
	t.Logf("heard: %v", heard)
}

// A commit whose wait for standbys was cancelled is no success: not by the simple protocol, nor by the extended one,
// where its statement has said so already.
func TestAWaitThatIsCutShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(d *Door) { d.Outlive = true })
	w.direct("CREATE TABLE kept (n int)")
	w.server.Synchronous("nobody")
	conn := w.connect().PgConn()
	for name, do := range map[string]func() error{
		"simple": func() error { return say(context.Background(), conn, "INSERT INTO kept VALUES (1)") },
		"extended": func() error {
			return conn.ExecParams(context.Background(), "INSERT INTO kept VALUES (1)", nil, nil, nil, nil).Read().Err
		},
		"transaction": func() error { return say(context.Background(), conn, "COMMIT") },
	} {
		if name == "transaction" {
			for _, sql := range []string{"BEGIN", "INSERT INTO kept VALUES (1)"} {
				if err := say(t.Context(), conn, sql); err != nil {
					t.Fatal(err)
				}
			}
		}
		heard := make(chan error, 1)
		go func() { heard <- do() }()
		until(t, "it waits", func() bool {
			return w.server.Query("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
		})
		if got := code(<-heard); got != unknownOutcome {
			t.Errorf("%s: %q", name, got)
		}
		if conn.TxStatus() != 'I' {
			t.Errorf("%s: afterwards %c", name, conn.TxStatus())
		}
	}
	if r := conn.ExecParams(t.Context(), "SELECT count(*) FROM kept", nil, nil, nil, nil).Read(); r.Err != nil || string(r.Rows[0][0]) != "3" {
		t.Errorf("rows: %s, %v", r.Rows, r.Err)
	}
}

// Before the COMMIT of a transaction that is well its server is asked for the name, once,
// and before nothing else.
func TestWhoIsAskedForAName(t *testing.T) {
	parse := func(name, text string) []byte {
		return append(append(appendHead(nil, 'P', len(name)+len(text)+4), name+"\x00"+text+"\x00"...), 0, 0)
	}
	bind := func(name string) []byte {
		return append(append(appendHead(nil, 'B', len(name)+8), "\x00"+name...), 0, 0, 0, 0, 0, 0, 0)
	}
	execute := append(appendHead(nil, 'E', 5), 0, 0, 0, 0, 0)
	sync := appendHead(nil, 'S', 0)
	ready := func(status byte) []byte { return []byte{'Z', 0, 0, 0, 5, status} }
	row := []byte("\x00\x02\x00\x00\x00\x03742\x00\x00\x00\x0a0/00ABCDEF")
	named := bytes.Join([][]byte{append(appendHead(nil, 'D', len(row)), row...), appendMessage(nil, 'C', "SELECT 1"), ready('T')}, nil)
	refused := append(appendNotice(nil, 'E', "ERROR", "57014", "canceling statement due to user request"), ready('E')...)
	nothing := bytes.Join([][]byte{append(appendHead(nil, 'D', 10), 0, 2, 255, 255, 255, 255, 255, 255, 255, 255), appendMessage(nil, 'C', "SELECT 1"), ready('T')}, nil)
	q := func(sql string) []byte { return appendMessage(nil, 'Q', sql) }
	for _, tt := range []struct {
		name   string
		status byte // of the transaction
		says   []byte
		answer []byte // to the question
		asked  int
		doubt  string
	}{
		{"COMMIT", 'T', q("COMMIT"), named, 1, "742"},
		{"END WORK", 'T', q(" end Work ; "), named, 1, "742"},
		{"it has written nothing", 'T', q("COMMIT"), nothing, 1, ""},
		{"and another behind it", 'T', append(q("COMMIT"), q("INSERT")...), named, 1, ""},
		{"AND CHAIN", 'T', q("COMMIT AND CHAIN"), nil, 0, ""},
		{"COMMIT PREPARED", 'T', q("COMMIT PREPARED 'x'"), nil, 0, ""},
		{"several in one", 'T', q("INSERT; COMMIT"), nil, 0, ""},
		{"ROLLBACK", 'T', q("ROLLBACK"), nil, 0, ""},
		{"after an error", 'E', q("COMMIT"), nil, 0, ""},
		{"in no transaction", 'I', q("COMMIT"), nil, 0, ""},
		{"before the answer to another", 'T', append(q("INSERT"), q("COMMIT")...), nil, 0, ""},
		{"extended", 'T', bytes.Join([][]byte{parse("", "commit"), bind(""), execute, sync}, nil), named, 1, "742"},
		{"prepared", 'T', bytes.Join([][]byte{parse("c", "commit"), sync, bind("c"), execute, sync}, nil), named, 0, ""},
		{"a statement and COMMIT in one series", 'T', bytes.Join([][]byte{parse("", "insert"), bind(""), execute, parse("", "commit"), bind(""), execute, sync}, nil), named, 0, ""},
	} {
		b := newBench(t, pool.Transaction)
		b.d.Outlive, b.d.Settings.ResolveCommits = true, true
		b.d.Fate = func(context.Context, Doubt) Fate { return Unknown }
		b.s.status = tt.status
		b.feed(false, tt.says)
		if tt.asked > 0 && bytes.Contains(b.said[1], []byte("pg_current_xact_id")) {
			b.feed(true, tt.answer)
		}
		if n := bytes.Count(b.said[1], []byte("pg_current_xact_id")); n != tt.asked {
			t.Errorf("%s: asked %d times: %q", tt.name, n, b.said[1])
		}
		got := ""
		if x := b.s.cutoff.doubt; x != nil {
			got = x.XID
		}
		if got != tt.doubt || len(b.said[0]) > 0 {
			t.Errorf("%s: %q is in doubt, want %q; the client hears %q", tt.name, got, tt.doubt, b.said[0])
		}
	}
	// The question fails: the transaction is broken, and its client hears it for her COMMIT.
	b := newBench(t, pool.Transaction)
	b.d.Outlive, b.d.Settings.ResolveCommits = true, true
	b.d.Fate = func(context.Context, Doubt) Fate { return Unknown }
	b.s.status = 'T'
	b.feed(false, q("COMMIT"))
	b.feed(true, refused)
	if !bytes.Contains(b.said[0], []byte("40001")) || !bytes.HasSuffix(b.said[0], ready('I')) || bytes.Contains(b.said[1], []byte("COMMIT")) {
		t.Errorf("the client hears %q, the server %q", b.said[0], b.said[1])
	}
}
