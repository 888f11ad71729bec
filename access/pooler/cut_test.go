package pooler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/access/pool"
	"howdah/test/testpg"
)

// A knife stands between the pooler and its server, and cuts the connection
// where it is told.
type knife struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	up    bool // what the pooler says next is not passed on, and the connection cut
	down  int  // so many bytes of the server's are passed on yet before that; -1: all
	conns []net.Conn
}

func newKnife(t testing.TB, to string) *knife {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	k := &knife{l: l, to: to, down: -1}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("unix", to)
			if err != nil {
				c.Close()
				continue
			}
			k.mu.Lock()
			k.conns = append(k.conns, c, s)
			k.mu.Unlock()
			end := func() { c.Close(); s.Close() }
			wg.Go(func() { defer end(); k.move(s, c, k.lets) })
			wg.Go(func() { defer end(); k.move(c, s, k.brings) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		k.cut()
		wg.Wait()
	})
	return k
}

func (k *knife) move(to io.Writer, from io.Reader, most func(int) (int, bool)) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		n, ends := most(n)
		if _, err := to.Write(b[:n]); err != nil || ends {
			return
		}
	}
}

// lets is how much of n bytes of the pooler's are passed on.
func (k *knife) lets(n int) (int, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.up {
		k.up = false
		return 0, true
	}
	return n, false
}

// brings is how much of n bytes of the server's are passed on.
func (k *knife) brings(n int) (int, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down < 0 {
		return n, false
	}
	if n < k.down {
		k.down -= n
		return n, false
	}
	n, k.down = k.down, -1
	return n, true
}

// request cuts at the next request, which the server does not get; answer when so
// many bytes of the answer were passed on.
func (k *knife) request()     { k.set(true, -1) }
func (k *knife) answer(n int) { k.set(false, n) }

func (k *knife) set(up bool, down int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.up, k.down = up, down
}

// cut cuts now.
func (k *knife) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		c.Close()
	}
	k.conns = nil
}

// serverless waits until the pooler has seen the end of all servers: what was said to
// one that has ended, and it does not know it yet, may have been done.
func (w *world) serverless() {
	w.t.Helper()
	until(w.t, "the servers' end is seen", func() (gone bool) {
		w.pooler.halls[0].loop.call(func() { gone = !slices.ContainsFunc(w.door.rooms[0].servers, func(s *server) bool { return s != nil }) })
		return gone
	})
}

// severed says that nothing is connected.
func (k *knife) severed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns) == 0
}

// newCutWorld is a pooler whose sessions go on when its one server ends.
func newCutWorld(t testing.TB, with func(*Door)) (*world, *knife) {
	var k *knife
	w := newWorld(t, func(d *Door) {
		small(d)
		d.Outlive = true
		d.Settings.DownRetry = 5 * time.Millisecond
		dial := d.Dial
		d.Dial = func(ctx context.Context) (Backend, error) {
			if k == nil {
				return dial(ctx)
			}
			c, err := net.Dial("unix", k.l.Addr().String())
			return Backend{Conn: c, Again: func(context.Context) (net.Conn, error) { return nil, errors.New("not here") }}, err
		}
		if with != nil {
			with(d)
		}
	})
	k = newKnife(t, filepath.Join(w.server.Node.Paths.Sockets, ".s.PGSQL."+strconv.Itoa(w.server.Node.Postgres.Port)))
	w.direct("CREATE TABLE cut (n text)")
	return w, k
}

// direct runs a statement past the pooler, and gives its first value.
func (w *world) direct(sql string) string {
	w.t.Helper()
	n := w.server.Node
	if w.past == nil {
		c, err := pgx.ParseConfig("host=" + n.Paths.Sockets + " port=" + strconv.Itoa(n.Postgres.Port) + " user=demo dbname=demo application_name=past")
		if err != nil {
			w.t.Fatal(err)
		}
		c.Password = testpg.Password
		if w.past, err = pgx.ConnectConfig(w.t.Context(), c); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = w.past.Close(context.Background()) })
	}
	got, err := w.past.PgConn().Exec(w.t.Context(), sql).ReadAll()
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	if len(got[0].Rows) == 0 {
		return ""
	}
	return string(got[0].Rows[0][0])
}

// say runs a statement by the simple protocol.
func say(ctx context.Context, c *pgconn.PgConn, sql string) error {
	_, err := c.Exec(ctx, sql).ReadAll()
	return err
}

// protocols are the ways to say a statement; one that begins with preparing it does
// so at once.
var protocols = map[string]func(ctx context.Context, c *pgconn.PgConn, sql string) func() error{
	"simple": func(ctx context.Context, c *pgconn.PgConn, sql string) func() error {
		return func() error { return say(ctx, c, sql) }
	},
	"extended": func(ctx context.Context, c *pgconn.PgConn, sql string) func() error {
		return func() error { return c.ExecParams(ctx, sql, nil, nil, nil, nil).Read().Err }
	},
	"prepared": func(ctx context.Context, c *pgconn.PgConn, sql string) func() error {
		if _, err := c.Prepare(ctx, "s", sql, nil); err != nil {
			return func() error { return err }
		}
		return func() error { return c.ExecPrepared(ctx, "s", nil, nil, nil).Read().Err }
	},
}

// What a client hears whose server ends under it, by the rows of docs/gateway.md,
// and that it may go on.
func TestASessionOutlivesItsServer(t *testing.T) {
	w, k := newCutWorld(t, nil)
	row := 0
	for protocol, prepare := range protocols {
		insert := func() string { row++; return fmt.Sprintf("INSERT INTO cut VALUES ('%d')", row) }
		for _, tt := range []struct {
			name  string
			begin []string // goes well
			cut   func()
			then  string
			code  string // of then
			lost  string // whether the row of then may be there: yes, no, or unknown
		}{
			{"between transactions: nothing", nil, k.cut, insert(), "", "yes"},
			{"BEGIN is on its way", nil, func() { k.answer(0) }, "BEGIN", "40001", "unknown"},
			{"a statement alone", nil, func() { k.answer(0) }, insert(), "08007", "unknown"},
			{"a statement alone that never arrived", nil, k.request, insert(), "08007", "unknown"},
			{"idle in its transaction", []string{"BEGIN", insert()}, k.cut, insert(), "40001", "no"},
			{"COMMIT after the cut", []string{"BEGIN", insert()}, k.cut, "COMMIT", "40001", "no"},
			{"a statement of a transaction", []string{"BEGIN"}, func() { k.answer(0) }, insert(), "40001", "no"},
			{"ROLLBACK is on its way", []string{"BEGIN", insert()}, func() { k.answer(0) }, "ROLLBACK", "40001", "no"},
			{"COMMIT is on its way", []string{"BEGIN", insert()}, func() { k.answer(0) }, "/* done */ COMMIT", "08007", "unknown"},
			{"END is on its way", []string{"BEGIN"}, func() { k.answer(0) }, "end", "08007", "unknown"},
			{"a transaction that has failed", []string{"BEGIN", "!SELECT 1/0"}, k.cut, "ROLLBACK", "40001", "no"},
		} {
			conn := w.connect().PgConn()
			then := prepare(t.Context(), conn, tt.then)
			for _, sql := range tt.begin {
				bad := strings.HasPrefix(sql, "!")
				if err := say(t.Context(), conn, strings.TrimPrefix(sql, "!")); (err != nil) != bad {
					t.Fatalf("%s, %s: %s: %v", protocol, tt.name, sql, err)
				}
			}
			tt.cut()
			if k.severed() {
				w.serverless()
			}
			if got := code(then()); got != tt.code {
				t.Errorf("%s, %s: %s is answered %q, want %q", protocol, tt.name, tt.then, got, tt.code)
			}
			k.set(false, -1)
			if err := say(t.Context(), conn, "SELECT 1"); err != nil {
				t.Errorf("%s, %s: afterwards %v", protocol, tt.name, err)
			}
			if status := conn.TxStatus(); status != 'I' && tt.code != "" {
				t.Errorf("%s, %s: afterwards the transaction is %c", protocol, tt.name, status)
			}
			rows := w.direct("SELECT count(*) FROM cut")
			if tt.lost == "no" && rows != "0" || tt.lost == "yes" && rows != "1" {
				t.Errorf("%s, %s: %s rows", protocol, tt.name, rows)
			}
			_ = conn.Close(t.Context())
			w.direct("DELETE FROM cut")
		}
	}
}

// A server that can not be logged in to is tried again, whatever is wrong with it, and its client
// only waits.
func TestALoginIsTriedAgain(t *testing.T) {
	var mu sync.Mutex
	refuse, hang := 0, 0
	w, k := newCutWorld(t, func(d *Door) {
		dial := d.Dial
		d.Dial = func(ctx context.Context) (Backend, error) {
			mu.Lock()
			defer mu.Unlock()
			if refuse > 0 {
				refuse--
				return Backend{}, unix.ECONNREFUSED
			}
			b, err := dial(ctx)
			if hang > 0 && err == nil {
				hang--
				b.Conn.Close()
			}
			return b, err
		}
	})
	for protocol, prepare := range protocols {
		conn := w.connect().PgConn()
		ask := prepare(t.Context(), conn, "INSERT INTO cut VALUES ('once')")
		k.cut()
		w.serverless()
		mu.Lock()
		refuse, hang = 3, 3
		mu.Unlock()
		if err := ask(); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		mu.Lock()
		if refuse+hang > 0 {
			t.Errorf("%s: %d logins were not tried", protocol, refuse+hang)
		}
		mu.Unlock()
		_ = conn.Close(t.Context())
	}
	if n := w.direct("SELECT count(*) FROM cut"); n != "3" {
		t.Errorf("%s rows, want 3", n)
	}
}

// Who is still saying a message of which its server has a part can not be answered: her session ends.
func TestHalfAMessageWasSent(t *testing.T) {
	w, k := newCutWorld(t, nil)
	for _, begin := range []string{"", "BEGIN"} {
		conn := w.connect().PgConn()
		if err := say(t.Context(), conn, begin); err != nil {
			t.Fatal(err)
		}
		h, err := conn.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		whole := appendMessage(nil, 'Q', "INSERT INTO cut VALUES ('"+strings.Repeat("x", 100000)+"')")
		if _, err := h.Conn.Write(whole[:50000]); err != nil {
			t.Fatal(err)
		}
		until(t, "the server has a part of it", func() (has bool) {
			w.pooler.halls[0].loop.call(func() {
				has = slices.ContainsFunc(w.door.rooms[0].clients, func(c *client) bool { return c != nil && c.server != nil && c.left > 0 })
			})
			return has
		})
		k.cut()
		_ = h.Conn.SetDeadline(time.Now().Add(20 * time.Second))
		said, err := io.ReadAll(h.Conn)
		if err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after %q: the session goes on: %q, %v", begin, said, err)
		}
		h.Conn.Close()
	}
	if n := w.direct("SELECT count(*) FROM cut"); n != "0" {
		t.Errorf("%s rows", n)
	}
}

// docs/gateway.md says of each case which test has it.
func TestEachCaseHasATest(t *testing.T) {
	text, err := os.ReadFile("../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var code []byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code = append(code, b...)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| H") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		for name := range strings.FieldsSeq(cells[len(cells)-1]) {
			if name = strings.Trim(name, "`,"); !strings.HasPrefix(name, "Test") || !strings.Contains(string(code), "func "+name+"(t *testing.T)") {
				t.Errorf("%s: there is no test %q", strings.TrimSpace(cells[0]), name)
			}
		}
	}
	if rows < 11 {
		t.Errorf("%d cases", rows)
	}
}

// A client's request and its server's end come in one breath: nothing of the
// request is said to a server that has ended.
func TestNothingIsSaidToAServerThatHasEnded(t *testing.T) {
	w, k := newCutWorld(t, nil)
	conn := w.connect()
	for range 20 {
		if got := one(t, conn, "SELECT 'x'"); got != "x" {
			t.Fatal(got)
		}
		done := make(chan error, 1)
		w.pooler.halls[0].loop.call(func() { // which sees neither before both are there
			c := w.door.rooms[0].clients[slices.IndexFunc(w.door.rooms[0].clients, func(c *client) bool { return c != nil })]
			s := w.door.rooms[0].servers[slices.IndexFunc(w.door.rooms[0].servers, func(s *server) bool { return s != nil })]
			go func() {
				_, err := conn.Exec(context.Background(), "INSERT INTO cut VALUES ('once')")
				done <- err
			}()
			for deadline := time.Now().Add(20 * time.Second); !waits(c.fd) && time.Now().Before(deadline); runtime.Gosched() {
			}
			k.cut()
			for deadline := time.Now().Add(20 * time.Second); !s.spoke() && time.Now().Before(deadline); runtime.Gosched() {
			}
		})
		if err := <-done; err != nil {
			t.Fatalf("%v", err)
		}
	}
	if n := w.direct("SELECT count(*) FROM cut"); n != "20" {
		t.Errorf("%s rows, want 20", n)
	}
}

// What a standby has not answered is asked of another, once, and without a word to
// the client; what it has begun to answer is not.
func TestAStandbysQueryIsAskedOfAnother(t *testing.T) {
	t.Parallel()
	w, k := newCutWorld(t, func(d *Door) {
		dial := d.Dial
		d.Dial = func(ctx context.Context) (Backend, error) {
			b, err := dial(ctx)
			b.Reads = true
			return b, err
		}
	})
	for protocol, prepare := range protocols {
		conn := w.connect().PgConn()
		ask := prepare(t.Context(), conn, "SELECT 'x'")
		for _, tt := range []struct {
			name string
			cut  func()
			code string
		}{
			{"the request is lost", k.request, ""},
			{"the answer is lost", func() { k.answer(0) }, ""},
			{"a part of the answer has come", func() { k.answer(16) }, "08007"},
		} {
			tt.cut()
			if got := code(ask()); got != tt.code && (tt.code == "" || got == "") {
				t.Errorf("%s, %s: %q, want %q", protocol, tt.name, got, tt.code)
			}
			k.set(false, -1)
			if conn.IsClosed() { // in the middle of a message
				conn = w.connect().PgConn()
				ask = prepare(t.Context(), conn, "SELECT 'x'")
			}
		}
		// In a transaction that has seen something nothing is asked again.
		if err := say(t.Context(), conn, "BEGIN"); err != nil {
			t.Fatal(err)
		}
		k.answer(0)
		if got := code(ask()); got != "40001" {
			t.Errorf("%s: in a transaction %q", protocol, got)
		}
		k.set(false, -1)
	}
	// A server that is told to end flushes what it has to say so far: that is not said.
	again := w.connect().PgConn()
	w.direct("SELECT pg_advisory_lock(1)")
	p := again.StartPipeline(t.Context())
	p.SendPrepare("named", "SELECT 'through' FROM (SELECT pg_advisory_xact_lock(1)) q", nil)
	p.SendQueryPrepared("named", nil, nil, nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	waiting := func(but string) (pid string) {
		until(t, "it waits", func() bool {
			pid = w.server.Query("SELECT coalesce(min(pid)::text, '') FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> " + but)
			return pid != ""
		})
		return pid
	}
	first := waiting("0")
	w.server.Query("SELECT pg_terminate_backend(" + first + ")")
	waiting(first)
	w.direct("SELECT pg_advisory_unlock(1)")
	for _, want := range []string{"*pgconn.StatementDescription", "*pgconn.ResultReader", "*pgconn.PipelineSync"} {
		got, err := p.GetResults()
		if is := fmt.Sprintf("%T", got); err != nil || is != want {
			t.Fatalf("a pipeline: %s, %v; want %s", is, err, want)
		}
		if r, ok := got.(*pgconn.ResultReader); ok {
			if read := r.Read(); read.Err != nil || len(read.Rows) != 1 || string(read.Rows[0][0]) != "through" {
				t.Errorf("a pipeline: %q, %v", read.Rows, read.Err)
			}
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if r := again.ExecPrepared(t.Context(), "named", nil, nil, nil).Read(); r.Err != nil {
		t.Errorf("what was prepared: %v", r.Err)
	}
	// A query that ends every server ends two of them.
	conn := w.connect().PgConn()
	ended := make(chan error, 1)
	go func() { ended <- say(context.WithoutCancel(t.Context()), conn, "SELECT pg_sleep(60)") }()
	for range 2 {
		until(t, "it sleeps", func() bool {
			return w.server.Query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
		})
	}
	if got := code(<-ended); got != "08007" {
		t.Errorf("the third time: %q", got)
	}
}

// waits says that there is something to read.
func waits(fd int) bool { return (&server{socket: socket{fd: fd}}).spoke() }

// Wherever in its answers a pipeline is cut: what the client is told of each of its
// transactions is true, and nothing is done twice.
func TestAPipelineIsCutAnywhere(t *testing.T) {
	w, k := newCutWorld(t, nil)
	begin := []string{"BEGIN", "INSERT INTO cut VALUES ('a%d')", "COMMIT"}
	ended, went, failed := 0, 0, 0
	for n := 0; n < 400; n++ {
		conn := w.connect().PgConn()
		if err := say(t.Context(), conn, "SELECT 1"); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		k.answer(n)
		p := conn.StartPipeline(ctx)
		for _, sql := range begin {
			if strings.Contains(sql, "%") {
				sql = fmt.Sprintf(sql, n)
			}
			p.SendQueryParams(sql, nil, nil, nil, nil)
		}
		_ = p.Sync()
		p.SendQueryParams(fmt.Sprintf("INSERT INTO cut VALUES ('b%d')", n), nil, nil, nil, nil)
		_ = p.Sync()
		errs := [2]error{}
		for i := range errs {
			for {
				r, err := p.GetResults()
				if err == nil {
					if x, ok := r.(*pgconn.ResultReader); ok {
						_, err = x.Close()
					}
				}
				if err != nil && errs[i] == nil {
					errs[i] = err
				}
				if _, synced := r.(*pgconn.PipelineSync); synced || err != nil && code(err) == err.Error() || r == nil && err == nil {
					break
				}
			}
		}
		_ = p.Close()
		stop()
		k.set(false, -1)
		both := strings.Split(w.direct(fmt.Sprintf("SELECT count(*) FILTER (WHERE n = 'a%d') || ' ' || count(*) FILTER (WHERE n = 'b%d') FROM cut", n, n)), " ")
		for i, mark := range []string{"a", "b"} {
			rows := both[i]
			switch c := code(errs[i]); {
			case rows != "0" && rows != "1":
				t.Errorf("cut after %d bytes: %s rows of %s", n, rows, mark)
			case c == "" && rows != "1":
				t.Errorf("cut after %d bytes: %s went well, and its row is not there", n, mark)
			case c == "40001" && rows != "0":
				t.Errorf("cut after %d bytes: %s is to be done again, and its row is there", n, mark)
			}
		}
		switch {
		case conn.IsClosed():
			ended++
		case errs == [2]error{}:
			went++
		default:
			failed++
			if err := say(t.Context(), conn, "SELECT 1"); err != nil {
				t.Errorf("cut after %d bytes: afterwards %v", n, err)
			}
		}
		_ = conn.Close(t.Context())
		if went > 3 { // beyond the end of the answers
			break
		}
	}
	t.Logf("%d sessions ended, %d heard what became of it, %d heard nothing", ended, failed, went)
	if failed == 0 || went == 0 {
		t.Errorf("%d sessions went on, and %d heard nothing", failed, went)
	}
}

// The data of a COPY that nobody takes any more are passed over.
func TestACopyIsCut(t *testing.T) {
	w, k := newCutWorld(t, nil)
	for _, tt := range []struct{ begin, code string }{{"", "08007"}, {"BEGIN", "40001"}} {
		conn := w.connect().PgConn()
		if _, err := conn.Exec(t.Context(), tt.begin).ReadAll(); err != nil {
			t.Fatal(err)
		}
		from, to := io.Pipe()
		go func() {
			for i := range 200 {
				if i == 100 {
					k.cut()
				}
				if _, err := to.Write([]byte(strings.Repeat("x", 20000) + "\n")); err != nil {
					return
				}
			}
			to.Close()
		}()
		_, err := conn.CopyFrom(t.Context(), from, "COPY cut FROM STDIN")
		from.Close()
		if got := code(err); got != tt.code {
			t.Errorf("%q: %q, want %q", tt.begin, got, tt.code)
		}
		if err := say(t.Context(), conn, "SELECT 1"); err != nil {
			t.Errorf("%q: afterwards %v", tt.begin, err)
		}
		_ = conn.Close(t.Context())
	}
	if n := w.direct("SELECT count(*) FROM cut"); n != "0" {
		t.Errorf("%s rows", n)
	}
}

// A server that is told to end says so: in a transaction that is 40001 and not the
// end of the session, and between transactions nobody notices.
func TestAServerIsShutDownUnderItsClients(t *testing.T) {
	w, _ := newCutWorld(t, func(d *Door) { d.Settings.DefaultPoolSize = 3 })
	idle, open, busy := w.connect().PgConn(), w.connect().PgConn(), w.connect().PgConn()
	for c, sql := range map[*pgconn.PgConn]string{idle: "SELECT 1", open: "BEGIN; INSERT INTO cut VALUES ('open')", busy: "BEGIN"} {
		if err := say(t.Context(), c, sql); err != nil {
			t.Fatal(err)
		}
	}
	heard := make(chan error, 1)
	go func() { heard <- say(context.Background(), busy, "SELECT pg_sleep(60)") }()
	until(t, "one sleeps", func() bool {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'demo' AND query LIKE '%sleep%' AND state = 'active'") == "1"
	})
	w.server.Query("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'demo' AND application_name <> 'past'")
	if got := code(<-heard); got != "40001" {
		t.Errorf("in the middle of a statement: %q", got)
	}
	w.serverless()
	if got := code(say(t.Context(), open, "COMMIT")); got != "40001" {
		t.Errorf("in its transaction: %q", got)
	}
	for _, c := range []*pgconn.PgConn{idle, open, busy} {
		if err := say(t.Context(), c, "SELECT 1"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// A session that has more than its transaction ends with its server, and so does
// one that was told half a message.
func TestWhoDoesNotOutliveHerServer(t *testing.T) {
	w, k := newCutWorld(t, func(d *Door) { d.Users = map[string]pool.Override{"demo": {PoolMode: pool.Session}} })
	conn := w.connect().PgConn()
	if err := say(t.Context(), conn, "BEGIN"); err != nil {
		t.Fatal(err)
	}
	k.cut()
	if err := say(t.Context(), conn, "SELECT 1"); err == nil || !conn.IsClosed() {
		t.Errorf("in session mode: %v", err)
	}
	w, k = newCutWorld(t, nil)
	conn = w.connect().PgConn()
	k.answer(100)
	if err := say(t.Context(), conn, "SELECT repeat('x', 3000)"); err == nil || !conn.IsClosed() {
		t.Errorf("in the middle of a row: %v", err)
	}
}

// Who waits for a server is promised one that says in the same breath that it ends; or leaves
// in the breath in which she is promised one.
func TestAPromiseThatIsNotKept(t *testing.T) {
	for name, end := range map[string]func(b *bench, waits *client){
		"the server ends": func(b *bench, _ *client) {
			b.s.feed(append(append(appendMessage(nil, 'C', "SELECT 1"), 'Z', 0, 0, 0, 5, 'I'), appendNotice(nil, 'E', "FATAL", "57P01", "terminating connection due to administrator command")...))
		},
		"the client leaves": func(b *bench, waits *client) {
			b.s.feed(append(appendMessage(nil, 'C', "SELECT 1"), 'Z', 0, 0, 0, 5, 'I'))
			waits.gone("shutdown")
		},
	} {
		b := newBench(t, pool.Transaction)
		far, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		x := &client{room: b.d, key: b.c.key, mode: pool.Transaction, welcomed: true, counts: &stats{}}
		if x.id, err = b.d.book.Join(x.key); err != nil {
			t.Fatal(err)
		}
		x.loop, x.fd, x.events = b.c.loop, far[1], readable
		if err := x.loop.add(x.fd, x, readable); err != nil {
			t.Fatal(err)
		}
		b.d.clients = at(b.d.clients, int(x.id))
		b.d.clients[x.id] = x
		b.feed(false, appendMessage(nil, 'Q', "SELECT 1"))
		x.feed(appendMessage(nil, 'Q', "SELECT 2"))
		x.loop.finish()
		if _, waits := b.d.book.Waits(x.id); !waits {
			t.Fatalf("%s: nobody waits", name)
		}
		end(b, x)
		x.loop.finish()
		if !x.hup {
			if _, waits := b.d.book.Waits(x.id); !waits || x.pend == nil {
				t.Errorf("%s: who waited does not any more", name)
			}
			x.loop.drop(x.fd)
		} else if b.d.book.StateOf(b.s.id) != pool.Idle {
			t.Errorf("%s: its server is %v", name, b.d.book.StateOf(b.s.id))
		}
		unix.Close(far[0])
	}
}

// Who has half a message is told nothing more: it would be taken for the rest of it. A session that ends
// with its server hears that it is to connect again, once, whether the server said so or not.
func TestLastWords(t *testing.T) {
	farewell := appendNotice(nil, 'E', "FATAL", "57P01", "terminating connection due to administrator command")
	for _, tt := range []struct {
		name    string
		mode    pool.Mode
		outlive bool
		says    []byte // the server
		end     func(b *bench)
		want    string // after what the server said
	}{
		{"half a row", pool.Transaction, true, append(appendHead(nil, 'D', 100), "half"...), func(b *bench) { b.s.lost() }, ""},
		{"half a row, as in PgBouncer", pool.Transaction, false, append(appendHead(nil, 'D', 100), "half"...), func(b *bench) { b.s.lost() }, ""},
		{"half a row, and then too long", pool.Session, true, append(appendHead(nil, 'D', 100), "half"...), func(b *bench) { b.s.breaks("query timeout") }, ""},
		{"half a row, and she is sent away", pool.Session, true, append(appendHead(nil, 'D', 100), "half"...), func(b *bench) { b.c.fail("admin forced disconnect") }, ""},
		{"a session", pool.Session, true, nil, func(b *bench) { b.s.lost() }, "57P01"},
		{"a session, as in PgBouncer", pool.Session, false, nil, func(b *bench) { b.s.lost() }, "08P01"},
		{"a session whose server says farewell", pool.Session, true, nil, func(b *bench) { b.feed(true, farewell) }, "57P01"},
	} {
		b := newBench(t, tt.mode)
		b.d.Outlive = tt.outlive
		b.feed(false, appendMessage(nil, 'Q', "SELECT 1"))
		b.feed(true, tt.says)
		tt.end(b)
		b.d.loop.finish()
		b.drain()
		rest, ok := bytes.CutPrefix(b.said[0], tt.says)
		if !ok || !b.c.hup {
			t.Fatalf("%s: %q", tt.name, b.said[0])
		}
		code, hints := "", bytes.Count(rest, []byte("connect again"))
		if len(rest) > headSize && rest[0] == 'E' {
			code, _ = fieldsOfError(rest[headSize:])
		}
		if code != tt.want || (hints == 1) != (tt.want == "57P01") || bytes.Count(rest, []byte("FATAL")) > 2 { // S and V
			t.Errorf("%s: the last words are %q, want %q", tt.name, rest, tt.want)
		}
	}
}

func TestClassOf(t *testing.T) {
	for text, want := range map[string]class{
		"COMMIT": seals, "commit;": seals, " \n END ; ": seals, "-- x\nCoMmIt work": seals, "/* a */ /* b */commit": seals, "END\tTRANSACTION": seals,
		"commit prepared 'x'": commits, "commit and chain": commits, "end work and no chain": commits, "commit /* a */": commits,
		"PREPARE TRANSACTION 'x'": commits, "select 1; commit": commits, "/* a /* b */ */ select": commits, "-- never ends": commits,
		"SELECT 1": inside, "(SELECT 1)": inside, "select 1; select 2": inside, "UPDATE t SET commit = 1": inside, "": inside,
		"SELECT CASE WHEN true THEN 1 END": inside, "endless": inside, "committed": inside,
		"BEGIN": begins, "begin;": begins, "START TRANSACTION READ ONLY": begins, "begin; insert": commits,
		"ROLLBACK": rolls, "abort": rolls, "rollback to x": rolls,
	} {
		if got := classOf([]byte(text + "\x00")); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}
