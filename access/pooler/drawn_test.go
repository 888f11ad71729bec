package pooler

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/access/login"
	"howdah/access/pool"
	"howdah/pgwire"
	"howdah/secret"
	"howdah/test/testpg"
)

var (
	drawnFor  = flag.Duration("drawn", 0, "how long TestDrawnClients draws in each mode; 0: seconds by day, a minute at night")
	drawnSeed = flag.Uint64("drawn-seed", 0, "what it draws from; 0: the time")
)

// Clients that do what was drawn hear from a pool what they hear from PostgreSQL itself, message
// by message; afterwards the process carries no more than before. What a pool by transactions
// does not keep between two of them (docs/gateway.md) is drawn in session mode alone.
func TestDrawnClients(t *testing.T) {
	seed := *drawnSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	long := *drawnFor
	if long == 0 {
		long = 3 * time.Second
		if os.Getenv("NIGHTLY") != "" {
			long = time.Minute
		}
	}
	worlds := []struct {
		mode  pool.Mode
		loops int
	}{{pool.Transaction, 1}, {pool.Session, 1}, {pool.Transaction, 3}}
	if *drawnFor > 0 || os.Getenv("NIGHTLY") != "" {
		worlds = append(worlds, worlds[1])
		worlds[3].loops = 3
	}
	for _, tt := range worlds {
		mode := tt.mode
		t.Run(fmt.Sprintf("%s on %d", mode, tt.loops), func(t *testing.T) {
			const clients = 6
			w := onLoops(t, tt.loops, func(d *Door) {
				d.Settings.PoolMode, d.Settings.DefaultPoolSize, d.TLS = mode, 2, tlsDoor(t)
				d.Settings.QueryWaitNotify = 0 // who waits long is told so by a pool alone
				if mode == pool.Session {
					d.Settings.DefaultPoolSize = clients
				}
			})
			if tt.loops > 1 { // all goes from one to another all the time
				moves := w.moves(2 * time.Millisecond)
				defer func() { t.Logf("%d moves", moves()) }()
			}
			w.server.Query("CREATE DATABASE direct OWNER demo")
			w.well("before")
			before := carried()
			var steps, sessions [clients]int
			var wg sync.WaitGroup
			end := time.Now().Add(long)
			for i := range clients {
				wg.Go(func() {
					for ; time.Now().Before(end) && !t.Failed(); sessions[i]++ {
						d := &drawer{Rand: rand.New(rand.NewPCG(seed, uint64(i)<<32|uint64(sessions[i]))), mode: mode, table: fmt.Sprintf("t%d", i)}
						n, err := d.run(w)
						if steps[i] += n; err != nil {
							t.Errorf("-drawn-seed %d: session %d of client %d: %v", seed, sessions[i], i, err)
						}
					}
				})
			}
			wg.Wait()
			count := func(all [clients]int) (n int) {
				for _, x := range all {
					n += x
				}
				return n
			}
			t.Logf("-drawn-seed %d: %d steps in %d sessions", seed, count(steps), count(sessions))
			eventually(t, "nobody is left", func() bool {
				f, ok := w.pooler.Facts()
				return ok && f.Unlisted.Clients == 0
			})
			if f, _ := w.pooler.Facts(); f.Unlisted.Servers > clients {
				t.Errorf("%d servers", f.Unlisted.Servers)
			} else {
				before.files += f.Unlisted.Servers // as many as pools may have, and one of them was there
			}
			shed(t, before)
		})
	}
}

// A drawer is one client, who says the same to a pool and to a server.
type drawer struct {
	*rand.Rand
	mode     pool.Mode
	table    string
	encoding string   // that it came with
	names    []string // of prepared statements
	made     int      // names so far
	cursor   string
	status   byte
}

// run is one session. It returns how many steps agreed.
func (d *drawer) run(w *world) (n int, err error) {
	d.encoding = d.one("UTF8", "UTF8", "LATIN1", "WIN1252", "SQL_ASCII")
	local := func() (net.Conn, error) {
		back, err := Local(w.server.Node.Paths.Sockets, w.server.Node.Postgres.Port)(context.Background())
		return back.Conn, err
	}
	gate := func() (net.Conn, error) { return net.Dial("tcp", w.addr.String()) }
	if d.IntN(3) == 0 {
		gate = func() (net.Conn, error) { return encrypted(w.addr.String()) }
	}
	direct, err := enters(local, "direct", d.encoding)
	if err != nil {
		return 0, fmt.Errorf("directly: %w", err)
	}
	defer direct.Close()
	pooled, err := enters(gate, "demo", d.encoding)
	if err != nil {
		return 0, fmt.Errorf("through the pool: %w", err)
	}
	defer pooled.Close()
	d.status = 'I'
	for n < 20+d.IntN(60) || d.status != 'I' {
		what, said, ends := "table", query(fmt.Sprintf("DROP TABLE IF EXISTS %s; CREATE TABLE %s (n int PRIMARY KEY, s text)", d.table, d.table)), 1
		if n > 0 {
			what, said, ends = d.step()
		}
		cancel := func(k *talker, dial func() (net.Conn, error)) func() error {
			if what != cancelled {
				return func() error { return nil }
			}
			return w.cancels(k, dial, d.sign())
		}
		dealt := cancel(direct, local)
		want, err := hears(direct, said, ends)
		if err = errors.Join(err, dealt()); err != nil {
			return n, fmt.Errorf("%s, directly: %w", what, err)
		}
		dealt = cancel(pooled, gate)
		got, err := hears(pooled, said, ends)
		if err = errors.Join(err, dealt()); err != nil {
			return n, fmt.Errorf("%s, through the pool after %q: %w", what, brief(got), err)
		}
		if !slices.Equal(got, want) {
			return n, fmt.Errorf("%s (%q):\nfrom the pool  %q\nfrom the server %q", what, brief([]string{string(said)}), brief(got), brief(want))
		}
		last := want[len(want)-1]
		d.status = last[len(last)-1]
		n++
	}
	_, _ = pooled.Write(pgwire.AppendMessage(nil, 'X'))
	_, _ = direct.Write(pgwire.AppendMessage(nil, 'X'))
	return n, nil
}

// enters is a session of an encoding with a server, or through a pool, in one of two databases of the same content.
func enters(dial func() (net.Conn, error), database, encoding string) (*talker, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	first := true
	k, err := enter(conn, login.Parse(secret.Text(testpg.Password)), func(b []byte) error {
		if first {
			first, b = false, startup(3<<16, "user", "demo", "database", database, "client_encoding", encoding)
		}
		_, err := conn.Write(b)
		return err
	})
	if err != nil {
		conn.Close()
	}
	return k, err
}

func encrypted(addr string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	yes := make([]byte, 1)
	if _, err = conn.Write(startup(pgwire.SSLRequest)); err == nil {
		_, err = io.ReadFull(conn, yes)
	}
	if err != nil || yes[0] != 'S' {
		conn.Close()
		return nil, fmt.Errorf("no TLS: %q, %w", yes, err)
	}
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}), nil
}

// cancelled is a step that somebody cancels while it runs.
const cancelled = "cancelled"

// sign is what tells the statement that is to be cancelled from others.
func (d *drawer) sign() string { return fmt.Sprintf("sign %s %d", d.table, d.made) }

// cancels asks for k's statement of that sign to be cancelled once it runs. What it returns waits for that.
func (w *world) cancels(k *talker, dial func() (net.Conn, error), sign string) func() error {
	dealt := make(chan error, 1)
	go func() {
		dealt <- func() error {
			for end := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
				n, err := w.server.Exec(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%"+sign+" %' AND pid <> pg_backend_pid()")
				if err != nil {
					return err
				}
				if n == "1" {
					break
				}
				if time.Now().After(end) {
					return fmt.Errorf("%q does not run: %s", sign, n)
				}
			}
			conn, err := dial()
			if err != nil {
				return err
			}
			return k.cancels(conn)
		}()
	}()
	return func() error { return <-dealt }
}

// hears is what k hears up to so many ReadyForQuery, without what no two servers say alike.
func hears(k *talker, said []byte, ends int) (all []string, err error) {
	_ = k.SetDeadline(time.Now().Add(30 * time.Second))
	wrote := make(chan error, 1)
	go func() { _, err := k.Write(said); wrote <- err }() // who is answered before she has ended reads meanwhile
	for ends > 0 {
		m, err := k.next()
		if err != nil {
			return all, errors.Join(err, k.Close(), <-wrote)
		}
		switch m.Type {
		case pgwire.ReadyForQuery:
			ends--
		case 'T': // the table's number
			at := 2
			for range binary.BigEndian.Uint16(m.Body) {
				at += bytes.IndexByte(m.Body[at:], 0) + 1
				clear(m.Body[at : at+4])
				at += 18
			}
		case 'A': // who notifies
			clear(m.Body[:4])
		case pgwire.ErrorResponse:
			// In a transaction that has failed a statement is not bound: nor is it parsed
			// first, where this server does not have it yet. It is said elsewhere in the source.
			if before, _, found := bytes.Cut(m.Body, []byte("\x00F")); found && bytes.Contains(m.Body, []byte("\x00C25P02\x00")) {
				m.Body = before
			}
		}
		all = append(all, string(m.Type)+string(m.Body))
	}
	return all, <-wrote
}

// brief is what of messages a person can read.
func brief(all []string) []string {
	if len(all) > 12 {
		all = slices.Concat(all[:6], []string{"…"}, all[len(all)-6:])
	}
	var short []string
	for _, m := range all {
		if len(m) > 300 {
			m = fmt.Sprintf("%s… %d bytes", m[:300], len(m))
		}
		short = append(short, m)
	}
	return short
}

func msg(kind byte, parts ...string) []byte { return pgwire.AppendMessage(nil, kind, parts...) }

func number(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }

// bind gives values as text (the empty one is NULL), and takes rows as text or binary.
func bind(portal, name string, format int, values ...string) []byte {
	b := portal + "\x00" + name + "\x00" + number(0) + number(len(values))
	for _, v := range values {
		if v == "" {
			b += "\xff\xff\xff\xff"
			continue
		}
		b += string(binary.BigEndian.AppendUint32(nil, uint32(len(v)))) + v
	}
	return msg('B', b, number(1), number(format))
}

func execute(portal string, most int) []byte {
	return msg('E', portal+"\x00", string(binary.BigEndian.AppendUint32(nil, uint32(most))))
}

var synced = msg('S')

// one is one of them.
func (d *drawer) one(of ...string) string { return of[d.IntN(len(of))] }

// asked is a whole statement in the extended protocol, without its Sync.
func (d *drawer) asked() []byte {
	switch d.IntN(5) {
	case 0:
		return slices.Concat(msg('P', "\x00SELECT $1::int + 1, $2::text\x00", number(0)), bind("", "", d.IntN(2), fmt.Sprint(d.IntN(1000)), d.one("", "word", "é")), msg('D', "P\x00"), execute("", 0))
	case 1:
		return slices.Concat(msg('P', "\x00INSERT INTO "+d.table+" VALUES ($1, $2) ON CONFLICT (n) DO UPDATE SET s = excluded.s RETURNING *\x00", number(0)),
			bind("", "", 0, fmt.Sprint(d.IntN(50)), strings.Repeat("y", 1+d.IntN(2000))), execute("", 0))
	case 2:
		return slices.Concat(msg('P', "\x00SELECT * FROM "+d.table+" ORDER BY n\x00", number(0)), msg('D', "S\x00"), bind("", "", 0), execute("", d.IntN(4)))
	case 3:
		return slices.Concat(msg('P', "\x00\x00", number(0)), bind("", "", 0), msg('D', "P\x00"), execute("", 0))
	}
	return slices.Concat(msg('P', "\x00SELECT repeat('z', $1::int)\x00", number(0)), bind("", "", 0, fmt.Sprint(d.IntN(100_000))), execute("", 0))
}

// wrong is a statement that fails, when it is parsed, described or run.
func (d *drawer) wrong() []byte {
	return slices.Concat(msg('P', "\x00"+d.one("SELEC 1", "SELECT 1 / $1::int", "SELECT nobody FROM nowhere", "INSERT INTO "+d.table+" VALUES ($1, 'x'), ($1, 'x')")+"\x00", number(0)),
		bind("", "", 0, "0"), execute("", 0))
}

func (d *drawer) simple() string {
	n := d.IntN(50)
	switch d.IntN(12) {
	case 0:
		return fmt.Sprintf("SELECT %d AS a, 'text' AS b, NULL::int AS c", n)
	case 1:
		return fmt.Sprintf("SELECT i, repeat(chr(97 + i %% 26), %d) FROM generate_series(1, %d) i", n, d.IntN(3000))
	case 2:
		return fmt.Sprintf("SELECT repeat('x', %d)", d.IntN(400_000))
	case 3:
		return "SELECT 1; SELECT 'two'; SELECT g FROM generate_series(1, 3) g"
	case 4:
		return d.one("", " ; ", "-- nothing")
	case 5:
		return d.one("SELEC 1", "SELECT 1/0", "SELECT 1; SELECT 1/0; SELECT 2", "SELECT nobody FROM nowhere", "SELECT i, 1 / (500 - i) FROM generate_series(1, 1000) i")
	case 6:
		return "DO $$BEGIN RAISE NOTICE 'noticed'; RAISE WARNING 'warned'; END$$"
	case 7:
		return fmt.Sprintf("INSERT INTO %s VALUES (%d, 'inserted') RETURNING n", d.table, n) // it may be there
	case 8:
		return fmt.Sprintf("UPDATE %s SET s = s || '!' WHERE n < %d", d.table, n)
	case 9:
		return fmt.Sprintf("WITH gone AS (DELETE FROM %s WHERE n > %d RETURNING *) SELECT * FROM gone ORDER BY n", d.table, n) // where a row lies is vacuum's affair
	case 10:
		return fmt.Sprintf("SELECT count(*), sum(n), max(s) FROM %s", d.table)
	}
	return fmt.Sprintf("COPY (SELECT i, 'out' FROM generate_series(1, %d) i) TO STDOUT", d.IntN(2000))
}

// step is what is said next, with the number of ReadyForQuery that answer it.
func (d *drawer) step() (what string, said []byte, ends int) {
	if d.status != 'I' && d.IntN(5) == 0 {
		d.cursor = ""
		return "end", query(d.one("COMMIT", "ROLLBACK", "END", "COMMIT")), 1
	}
	if d.status != 'E' && d.IntN(60) == 0 {
		d.made++
		return cancelled, query("SELECT 'begun'; SELECT pg_sleep(60) /* " + d.sign() + " */; SELECT 'not reached'"), 1
	}
	k := d.IntN(20)
	if d.mode != pool.Session && d.status == 'E' && k >= 11 && k <= 14 {
		k = 0 // the pool answers itself for a statement that its server has, though nothing is parsed there now
	}
	switch {
	case k < 6:
		return "simple", query(d.simple()), 1
	case k < 8:
		return "extended", slices.Concat(d.asked(), synced), 1
	case k == 8:
		return "extended, and wrong", slices.Concat(d.wrong(), synced), 1
	case k == 9:
		for range 2 + d.IntN(5) {
			said = append(said, d.asked()...)
			if d.IntN(6) == 0 {
				said = append(said, d.wrong()...)
			}
		}
		return "pipeline", append(said, synced...), 1
	case k == 10:
		for ends = range 2 + d.IntN(4) {
			said = slices.Concat(said, d.asked(), synced)
			if d.IntN(4) == 0 {
				said = slices.Concat(said[:len(said)-len(synced)], d.wrong(), synced)
			}
		}
		return "pipeline of several", said, ends + 1
	case k == 11 || k == 12 && len(d.names) == 0:
		d.made++
		name := fmt.Sprintf("name%d", d.made)
		text := d.one("SELECT $1::int * 2", "SELECT s, n FROM "+d.table+" WHERE n = $1", "SELECT generate_series(1, $1::int)")
		if d.status != 'E' {
			d.names = append(d.names, name)
		}
		return "prepare", slices.Concat(msg('P', name+"\x00"+text+"\x00", number(0)), msg('D', "S"+name+"\x00"), synced), 1
	case k == 12 || k == 13 && len(d.names) > 0:
		for ends = range 1 + d.IntN(3) {
			said = slices.Concat(said, bind("", d.one(d.names...), d.IntN(2), fmt.Sprint(d.IntN(50))), msg('D', "P\x00"), execute("", 0), synced)
		}
		return "execute", said, ends + 1
	case k == 13:
		return "another's statement is closed", slices.Concat(msg('C', "Snobody\x00"), synced), 1
	case k == 14 && len(d.names) > 0:
		i := d.IntN(len(d.names))
		said = slices.Concat(msg('C', "S"+d.names[i]+"\x00"), synced)
		d.names = slices.Delete(d.names, i, i+1)
		return "close", said, 1
	case k == 15:
		rows := ""
		for i := range d.IntN(500) {
			rows += fmt.Sprintf("%d\tcopied\n", 100+i)
		}
		if d.IntN(3) == 0 {
			rows += "what\tis this\n"
		}
		said = query("DELETE FROM " + d.table + " WHERE n >= 100; COPY " + d.table + " FROM STDIN")
		for at := 0; at < len(rows); {
			n := min(1+d.IntN(3000), len(rows)-at)
			said = append(said, msg('d', rows[at:at+n])...)
			at += n
		}
		if d.IntN(4) == 0 {
			return "COPY that the client ends", append(said, msg('f', "enough\x00")...), 1
		}
		return "COPY", append(said, msg('c')...), 1
	case k == 16:
		name := d.one("application_name", "client_encoding", "DateStyle", "TimeZone", "IntervalStyle", "extra_float_digits")
		switch value := map[string]string{
			"application_name": d.one("'a'", "'b c'", "''"), "client_encoding": d.one("LATIN1", "UTF8", "SQL_ASCII", "EUC_JP", "NONSENSE"), "DateStyle": d.one("'ISO, DMY'", "'German'", "DEFAULT"), "TimeZone": d.one("'UTC'", "'Asia/Tokyo'", "'nowhere'"),
			"IntervalStyle": d.one("iso_8601", "postgres"), "extra_float_digits": "1",
		}[name]; {
		case name == "extra_float_digits" && d.mode != pool.Session && d.status == 'I': // it is not tracked
			return "show", query("SHOW " + name), 1
		case name == "extra_float_digits" && d.mode != pool.Session:
			return "set in a transaction", query("SET LOCAL " + name + " = " + value + "; SELECT 0.1::float8 * 3"), 1
		case d.IntN(3) == 0:
			return "show", query("SHOW " + name + "; SELECT 'é', chr(233), '2026-11-22 03:04:05+00'::timestamptz, '1 day 2 hours'::interval"), 1
		default:
			return "set", query("SET " + name + " = " + value), 1
		}
	case k == 17 && d.status == 'I':
		return "begin", query(d.one("BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN; SELECT 1", "START TRANSACTION READ ONLY")), 1
	case k == 17:
		return "savepoint", query(d.one("SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "BEGIN")), 1
	case k == 18 && d.status == 'T':
		if d.cursor == "" {
			d.made++
			d.cursor = fmt.Sprintf("c%d", d.made)
			return "cursor", query("DECLARE " + d.cursor + " SCROLL CURSOR FOR SELECT g FROM generate_series(1, 100) g"), 1
		}
		return "fetch", query(d.one("FETCH 3 FROM ", "FETCH BACKWARD 2 FROM ", "MOVE 10 IN ", "FETCH ALL FROM ") + d.cursor), 1
	case k == 18:
		return "portal", slices.Concat(query("BEGIN"), msg('P', "\x00SELECT generate_series(1, 10)\x00", number(0)), bind("door", "", d.IntN(2)), execute("door", 3), synced,
			execute("door", 2), execute("door", 0), msg('C', "Pdoor\x00"), synced, query("COMMIT")), 4
	case d.mode == pool.Session:
		reset := "RESET ALL"
		if d.encoding != "UTF8" {
			reset = "RESET DateStyle" // a server of a pool did not begin with this client's encoding: PgBouncer's neither
		}
		return "of the session", query(d.one(
			reset,
			"LISTEN "+d.table+"; NOTIFY "+d.table+", 'it'", "UNLISTEN *", "CREATE TEMP TABLE IF NOT EXISTS mine (n int); INSERT INTO mine VALUES (1); SELECT count(*) FROM mine",
			"PREPARE said AS SELECT 1", "EXECUTE said", "DEALLOCATE said", "SET work_mem = '5MB'; SHOW work_mem", "SHOW work_mem", "SHOW TimeZone",
			"SELECT pg_advisory_lock(hashtext('"+d.table+"')); SELECT pg_advisory_unlock(hashtext('"+d.table+"'))",
		)), 1
	case d.status == 'T':
		return "of the transaction", query(d.one(
			"SET LOCAL work_mem = '5MB'; SHOW work_mem", "SHOW work_mem", "CREATE TEMP TABLE mine (n int) ON COMMIT DROP", "SELECT pg_advisory_xact_lock(hashtext('"+d.table+"'))",
			"NOTIFY nobody, 'it'", "LOCK TABLE "+d.table,
		)), 1
	}
	return "simple", query(d.simple()), 1
}
