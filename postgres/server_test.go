package postgres_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"howdah/pg"
	"howdah/postgres"
	"howdah/problem"
	"howdah/spec"
	"howdah/test/testpg"
)

// wait polls a condition of another process; it fails the test after ten seconds.
func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	(&machine{t: t}).Wait(what, holds)
}

func state(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	return string(text[strings.LastIndexByte(string(text), ')')+2])
}

// A backend in a loop that looks at nothing outlives its postmaster: the kill is
// done only when that one is gone too.
func TestKillFindsOrphans(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	pid, end := loop(t, a)
	defer end()
	master := a.Look(t.Context()).PID
	if err := unix.Kill(master, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, "the orphan is seen", func() bool { return a.Look(t.Context()).Process == pg.ProcessRemains })
	if err := a.Server.Start(t.Context(), nil); !errors.Is(err, postgres.ErrRemains) {
		t.Errorf("start beside an orphan: %v, want ErrRemains", err)
	}
	if s := state(pid); s != "R" && s != "S" {
		t.Fatalf("the backend in a loop is %q: the test proves nothing", s)
	}
	if err := a.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := state(pid); s != "" && s != "Z" && s != "X" {
		t.Fatalf("the backend is %q after the kill", s)
	}
	if p := a.Look(t.Context()).Process; p != pg.ProcessNone {
		t.Fatalf("after the kill: %s", p)
	}
	// Its pid file is stale now, and names a pid that somebody else may get.
	file := filepath.Join(a.Node.Postgres.Data, "postmaster.pid")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Server.Start(t.Context(), nil); err != nil {
		t.Fatalf("start over a stale pid file: %v", err)
	}
}

// A postmaster puts its pid file away before it is gone. Seen in between it is one that
// has closed its log, like just before; not something unknown that may write, and is frozen.
func TestAServerWithoutItsPIDFileStillEnds(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	_, end := loop(t, a)
	defer end()
	master := a.Look(t.Context()).PID
	if err := unix.Kill(master, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	wait(t, "it ends", func() bool { return a.Look(t.Context()).Process == pg.ProcessStopping })
	if err := os.Remove(filepath.Join(a.Node.Postgres.Data, "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
	if s := a.Look(t.Context()); s.Process != pg.ProcessStopping || s.PID != master || s.Answers {
		t.Errorf("without its pid file it is %s, pid %d (of %d)", s.Process, s.PID, master)
	}
	if err := unix.Kill(master, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wait(t, "what stands still is no server that ends", func() bool { return a.Look(t.Context()).Process == pg.ProcessRemains })
	if err := a.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := a.Look(t.Context()).Process; p != pg.ProcessNone {
		t.Errorf("after the kill: %s", p)
	}
}

// Linux has room for 4,096 segments; one stays of every killed server whose directory goes.
func TestKillFreesTheSegment(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	text, err := os.ReadFile(filepath.Join(a.Node.Postgres.Data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var key, id int
	if _, err := fmt.Sscan(strings.Split(string(text), "\n")[6], &key, &id); err != nil {
		t.Fatal(err)
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil {
		t.Fatalf("segment %d of the living server: %v", id, err)
	}
	if err := a.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err == nil {
		t.Errorf("segment %d (%d bytes, attached %d times) is still there", id, d.Segsz, d.Nattch)
	}
}

// Somebody deletes the data directory of a running server, which goes on
// committing for up to a minute: it is not "none", and a kill finds all of it.
func TestADeletedDirectoryHidesNoServer(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	master := a.Look(t.Context()).PID
	// Stopped, it cannot notice before we have looked.
	if err := unix.Kill(master, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(a.Node.Postgres.Data); err != nil {
		t.Fatal(err)
	}
	if p := a.Look(t.Context()).Process; p != pg.ProcessRemains {
		t.Errorf("with its directory deleted the server is %q, want %q", p, pg.ProcessRemains)
	}
	if err := a.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := state(master); s != "" && s != "Z" && s != "X" {
		t.Errorf("the postmaster is %q after the kill", s)
	}
	if p := a.Look(t.Context()).Process; p != pg.ProcessNone {
		t.Errorf("after the kill: %s", p)
	}
}

// Somebody renames the data directory of a running server, which notices within
// a minute and until then goes on in full: it is not "none", nothing is put in
// its place, and a kill finds all of it.
func TestARenamedDirectoryHidesNoServer(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	pid, end := loop(t, a)
	defer end()
	master, data := a.Look(t.Context()).PID, a.Node.Postgres.Data
	if err := os.Rename(data, data+".old"); err != nil {
		t.Fatal(err)
	}
	st := a.Look(t.Context())
	if st.Data != pg.DataMissing || st.Process != pg.ProcessRemains {
		t.Errorf("with its directory renamed the server is %q, its data %q; want %q, %q", st.Process, st.Data, pg.ProcessRemains, pg.DataMissing)
	}
	if !st.MayWrite() {
		t.Error("it goes on writing, and the look does not say so")
	}
	if err := a.Freeze(t.Context()); err != nil || state(master) != "T" || state(pid) != "T" {
		t.Errorf("frozen: %v; the postmaster is %q, a backend %q", err, state(master), state(pid))
	}
	if err := a.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []int{master, pid} {
		if s := state(p); s != "" && s != "Z" && s != "X" {
			t.Errorf("process %d is %q after the kill", p, s)
		}
	}
	if p := a.Look(t.Context()).Process; p != pg.ProcessNone {
		t.Errorf("after the kill: %s", p)
	}
	if err := os.Rename(data+".old", data); err != nil {
		t.Fatal(err)
	}
	if err := a.Server.Start(t.Context(), nil); err != nil {
		t.Errorf("put back: %v", err)
	}
}

// loop starts a backend in an endless PL/pgSQL loop and returns its pid.
func loop(t *testing.T, a *testpg.Server) (pid int, end func()) {
	t.Helper()
	conn := dial(t, a)
	pid = int(conn.PID())
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		_, _ = conn.Exec(ctx, "DO $$ BEGIN LOOP END LOOP; END $$").ReadAll()
	})
	wait(t, "the loop runs", func() bool {
		return a.Query(fmt.Sprintf("SELECT state FROM pg_stat_activity WHERE pid = %d", pid)) == "active"
	})
	return pid, func() { cancel(); wg.Wait() }
}

func dial(t *testing.T, a *testpg.Server) *pgconn.PgConn {
	t.Helper()
	conn, err := try(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func try(ctx context.Context, a *testpg.Server) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig("")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port, c.User, c.Database = a.Node.Paths.Sockets, uint16(a.Node.Postgres.Port), spec.Superuser, "postgres"
	c.TLSConfig, c.Fallbacks = nil, nil
	return pgconn.ConnectConfig(ctx, c)
}

// Everything stands still, a backend at full speed included, whoever asks for it.
func TestFreezeStopsEveryProcess(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	busy, end := loop(t, a)
	defer end()
	data := a.Node.Postgres.Data
	master, ok := postgres.Postmaster(data)
	if !ok {
		t.Fatal("no postmaster")
	}
	if err := postgres.Freeze(data); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{busy, master.PID} {
		if s := state(pid); s != "T" {
			t.Errorf("process %d is %q, want T", pid, s)
		}
	}
	began := time.Now()
	if st := a.Look(t.Context()); st.Process != pg.ProcessFrozen || time.Since(began) > time.Second {
		t.Errorf("frozen: %+v after %s", st, time.Since(began))
	}
	if err := postgres.Thaw(data); err != nil {
		t.Fatal(err)
	}
	if got := a.Query("SELECT 1"); got != "1" {
		t.Errorf("thawed, SELECT 1 = %q", got)
	}
}

// A Server in another process knows nothing: it finds the postmaster, sees it
// die at once, and is not fooled when a zombie remains.
func TestAdoption(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	b, err := postgres.Open(postgres.Options{Node: a.Node})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for range 2 {
		st := b.Look(ctx)
		if !st.Primary() || st.PID != a.Look(ctx).PID {
			t.Fatalf("adopted: %+v", st)
		}
		began := time.Now()
		if err := unix.Kill(st.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {
		case <-b.Died():
			t.Logf("death seen after %s", time.Since(began))
		case <-time.After(5 * time.Second):
			t.Fatal("the death was not seen")
		}
		if p := b.Look(ctx).Process; p != pg.ProcessNone && p != pg.ProcessRemains {
			t.Fatalf("dead, and yet %s", p)
		}
		if err := b.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.Start(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.Look(ctx).PID))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(status[strings.LastIndexByte(string(status), ')')+1:]))
	if pid := strconv.Itoa(b.Look(ctx).PID); f[3] != pid {
		t.Errorf("the postmaster %s is in session %s, want its own", pid, f[3])
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", b.Look(ctx).PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "GOPATH", "HOWDAH_PG"} {
		if strings.Contains(string(env), name+"=") {
			t.Errorf("the postmaster's environment has %s", name)
		}
	}
}

// A server that crashed and was told to restart by nobody stays down.
func TestBackendCrashEndsTheServer(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	conn := dial(t, a)
	if err := unix.Kill(int(conn.PID()), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, "the server is down", func() bool { return a.Look(t.Context()).Process == pg.ProcessNone })
}

// Our own reader finds the end that pg_waldump finds.
func TestEndAgreesWithWaldump(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	if !a.Programs().Has("pg_waldump") {
		t.Skip("no pg_waldump")
	}
	a.Query("CREATE TABLE t AS SELECT generate_series(1, 20000) n")
	a.Query("SELECT pg_switch_wal()")
	a.Query("INSERT INTO t SELECT generate_series(1, 300000)") // more than a segment
	a.Query("SELECT pg_switch_wal()")
	a.Query("INSERT INTO t SELECT 1")
	at, err := pg.ParseLSN(a.Query("SELECT pg_current_wal_insert_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := a.Look(t.Context()).Control
	began := time.Now()
	end, err := a.End(t.Context())
	if err != nil || end < at {
		t.Fatalf("end %s, %v; the server was at %s", end, err, at)
	}
	t.Logf("%d bytes in %s", end-c.Redo, time.Since(began))
	out, _ := exec.Command(a.Programs().Path("pg_waldump"), "-p", filepath.Join(a.Node.Postgres.Data, "pg_wal"), "-s", c.Redo.String()).Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	_, rest, _ := strings.Cut(lines[len(lines)-1], "lsn: ")
	text, _, _ := strings.Cut(rest, ",")
	last, err := pg.ParseLSN(text)
	if err != nil || last >= end || end-last > 8192 {
		t.Fatalf("pg_waldump's last record begins at %s (%v), our end is %s", last, err, end)
	}
	// With the last byte of the last record damaged, the log ends before it.
	file, err := os.OpenFile(filepath.Join(a.Node.Postgres.Data, "pg_wal", pg.Timeline(1).Segment(last, 16<<20)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte{0xFF}, int64(uint64(last)%(16<<20))+20); err != nil {
		t.Fatal(err)
	}
	if short, err := a.End(t.Context()); err != nil || short != last {
		t.Fatalf("with the record at %s damaged the log ends at %s, %v", last, short, err)
	}
}

// A primary that was promoted in the middle of a segment, and has removed that segment since,
// is no source of a rewind: what was rewound would replay its own log instead.
func TestNoRewindWithoutTheLogOfTheFork(t *testing.T) {
	majors := testpg.Majors(t)
	for _, major := range slices.Compact([]int{majors[0], majors[len(majors)-1]}) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			ctx := t.Context()
			a := testpg.Start(t, testpg.Primary(), testpg.Major(major), testpg.TCP())
			if !a.Programs().Has("pg_rewind") {
				t.Skip("no pg_rewind")
			}
			a.Query("CREATE TABLE t (n int)")
			c := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("c"), testpg.Major(major), testpg.TCP())
			wait(t, "the table is there", func() bool { text, _ := c.Exec(ctx, "SELECT to_regclass('t') IS NOT NULL"); return text == "t" })
			a.Query("CHECKPOINT") // the last that both have
			at := a.Query("SELECT pg_current_wal_insert_lsn()")
			wait(t, "the checkpoint is there", func() bool { text, _ := c.Exec(ctx, "SELECT pg_last_wal_replay_lsn() >= '"+at+"'"); return text == "t" })
			for _, err := range []error{c.Stop(ctx, postgres.Fast), c.Start(ctx, &pg.Upstream{}), c.Promote(ctx, 0)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			a.Query("INSERT INTO t VALUES (1)")
			if err := a.Kill(ctx); err != nil {
				t.Fatal(err)
			}
			c.Query("ALTER SYSTEM SET wal_keep_size = 0")
			c.Query("SELECT pg_reload_conf()")
			fork := filepath.Join(c.Node.Postgres.Data, "pg_wal", c.Query("SELECT pg_walfile_name(pg_current_wal_lsn())"))
			for range 3 {
				c.Query("INSERT INTO t VALUES (2)")
				c.Query("SELECT pg_switch_wal()")
				c.Query("CHECKPOINT")
			}
			if _, err := os.Stat(fork); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("%s is there: %v", fork, err)
			}
			if err := a.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			told(t, a.Rewind(ctx, c.Upstream()), "rewind-failed", filepath.Base(fork))
			if st := a.Look(ctx); st.Data != pg.DataPartial {
				t.Errorf("then the data are %v, and not to be copied anew", st.Data)
			}
		})
	}
}

// A rewind copies the log that recovery will read, not all that its source keeps; what both have of the time
// before stays.
func TestRewindLeavesLogWhereItIs(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			ctx := t.Context()
			a := testpg.Start(t, testpg.Primary(), testpg.Major(major), testpg.TCP())
			if !a.Programs().Has("pg_rewind") {
				t.Skip("no pg_rewind")
			}
			segments := func(s *testpg.Server) (all []string) {
				files, err := os.ReadDir(filepath.Join(s.Node.Postgres.Data, "pg_wal"))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					if len(f.Name()) == 24 {
						all = append(all, f.Name())
					}
				}
				return all
			}
			a.Query("CREATE TABLE t (n int)")
			a.Query("ALTER SYSTEM SET wal_keep_size = '1GB'")
			a.Query("SELECT pg_reload_conf()")
			c := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("c"), testpg.Major(major), testpg.TCP())
			for n := range 6 {
				a.Query(fmt.Sprintf("INSERT INTO t VALUES (%d)", n))
				a.Query("SELECT pg_switch_wal()")
			}
			a.Query("CHECKPOINT") // the last that both have
			at := a.Query("SELECT pg_current_wal_insert_lsn()")
			wait(t, "the checkpoint is there", func() bool { text, _ := c.Exec(ctx, "SELECT pg_last_wal_replay_lsn() >= '"+at+"'"); return text == "t" })
			for _, err := range []error{c.Stop(ctx, postgres.Fast), c.Start(ctx, &pg.Upstream{}), c.Promote(ctx, 0)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			a.Query("INSERT INTO t VALUES (100)")
			if err := a.Kill(ctx); err != nil {
				t.Fatal(err)
			}
			for n := range 3 {
				c.Query(fmt.Sprintf("INSERT INTO t VALUES (%d)", 200+n))
				c.Query("SELECT pg_switch_wal()")
			}
			ready := c.Query("SELECT substr(pg_walfile_name(pg_current_wal_lsn() + 64 * 16777216), 1, 24)")
			zeros := filepath.Join(c.Node.Postgres.Data, "pg_wal", ready)
			if err := os.WriteFile(zeros, make([]byte, 16<<20), 0o644); err != nil { // as one that was used again
				t.Fatal(err)
			}
			if err := a.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			before := segments(a)
			old, gone := before[2], before[1]
			if !slices.Contains(segments(c), old) || !slices.Contains(segments(c), gone) {
				t.Fatalf("the source has not the old log: %q", segments(c))
			}
			if err := os.Remove(filepath.Join(a.Node.Postgres.Data, "pg_wal", gone)); err != nil {
				t.Fatal(err)
			}
			was, err := os.Stat(filepath.Join(a.Node.Postgres.Data, "pg_wal", old))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Rewind(ctx, c.Upstream()); err != nil {
				t.Fatal(err)
			}
			after := segments(a)
			if slices.Contains(after, ready) || slices.Contains(after, gone) {
				t.Errorf("copied %s or %s: %q", ready, gone, after)
			}
			is, err := os.Stat(filepath.Join(a.Node.Postgres.Data, "pg_wal", old))
			if err != nil {
				t.Fatal(err)
			}
			if !os.SameFile(was, is) || !was.ModTime().Equal(is.ModTime()) {
				t.Errorf("%s was written again: %s, %s", old, was.ModTime(), is.ModTime())
			}
			if _, err := os.Stat(filepath.Join(a.Node.Paths.Dir, "rewind.log")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("second names remain: %v", err)
			}
			up := c.Upstream()
			if err := a.Start(ctx, &up); err != nil {
				t.Fatal(err)
			}
			const sum = "SELECT count(*) || ' ' || sum(n) FROM t"
			want := c.Query(sum)
			wait(t, "all rows are there", func() bool { text, _ := a.Exec(ctx, sum); return text == want })
		})
	}
}

// pg_control read by us and by PostgreSQL's program, on every version that has it.
func TestControlAgreesWithControldata(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		a := testpg.Start(t, testpg.Major(major))
		a.Template()
		c := a.Look(t.Context()).Control
		if !c.Checksums || c.Timeline != 1 || c.State != pg.ControlShutDown || c.Redo != c.Checkpoint {
			t.Errorf("%d: %+v", major, c)
		}
		if !a.Programs().Has("pg_controldata") {
			continue
		}
		out, err := exec.Command(a.Programs().Path("pg_controldata"), a.Node.Postgres.Data).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"Database system identifier:           " + c.System.String(),
			"Latest checkpoint location:           " + c.Checkpoint.String(),
			"Database cluster state:               " + string(c.State),
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%d: pg_controldata does not say %q:\n%s", major, want, out)
			}
		}
	}
}

// A client is refused on TCP without its password, and works with it.
func TestPasswords(t *testing.T) {
	a := testpg.Start(t, testpg.Primary(), testpg.TCP())
	for _, tt := range []struct {
		user, database, password string
		ok                       bool
	}{
		{"demo", "demo", testpg.Password, true},
		{"demo", "demo", "guess", false},
		{spec.Superuser, "postgres", testpg.Password, true},
		{spec.Superuser, "postgres", "", false},
		{spec.Replicator, "postgres", testpg.Password, true},
	} {
		c, err := pgconn.ParseConfig("sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		c.Host, c.Port, c.User, c.Database, c.Password = a.Node.Address, 5432, tt.user, tt.database, tt.password
		conn, err := pgconn.ConnectConfig(t.Context(), c)
		if (err == nil) != tt.ok {
			t.Errorf("%s with password %q: %v, want ok %v", tt.user, tt.password, err, tt.ok)
		}
		if err == nil {
			conn.Close(t.Context())
		}
	}
	if strings.Contains(a.Log(), "secret") {
		t.Errorf("the password is in the log:\n%s", a.Log())
	}
	stored := a.Query("SELECT string_agg(left(rolpassword, 14), ' ') FROM pg_authid WHERE rolcanlogin")
	if stored != "SCRAM-SHA-256$ SCRAM-SHA-256$ SCRAM-SHA-256$" {
		t.Errorf("stored passwords begin %q", stored)
	}
}

// Settings that change under a running server: most at once, some at the next start.
func TestReload(t *testing.T) {
	a := testpg.Start(t, testpg.Primary())
	a.Configure(map[string]string{"work_mem": "7MB", "fsync": "off", "port": "1", "restart_after_crash": "on"}, nil)
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, "work_mem is new", func() bool { return a.Query("SHOW work_mem") == "7MB" })
	if got := a.Query("SHOW restart_after_crash"); got != "off" {
		t.Errorf("restart_after_crash = %s: what high availability rests on was overridden", got)
	}
	a.Configure(map[string]string{"log_min_duration_statement": "0"}, nil)
	if err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, "how long each statement takes is logged", func() bool { return a.Query("SHOW log_min_duration_statement") == "0" })
	a.Look(t.Context())
	if strings.Contains(a.Log(), "pg_is_in_recovery(), current_setting") {
		t.Error("the agent's own looks fill the log of slow statements")
	}
	// shared_buffers went back to the default.
	wait(t, "a restart is called for", func() bool { return a.Look(t.Context()).Restart })
}

// Each of these is told with what, why and what to do, and nothing is touched.
func TestBadDays(t *testing.T) {
	ctx := t.Context()
	t.Run("port taken", func(t *testing.T) {
		a := testpg.Start(t, testpg.TCP())
		a.Template()
		l, err := net.Listen("tcp", net.JoinHostPort(a.Node.Address, "5432"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		told(t, a.Server.Start(ctx, nil), "port-taken", fmt.Sprintf("pid %d", os.Getpid()))
	})
	t.Run("somebody else's files", func(t *testing.T) {
		a := testpg.Start(t)
		mkdir(t, a.Node.Postgres.Data, 0o700, a)
		precious := filepath.Join(a.Node.Postgres.Data, "thesis.txt")
		if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if st := a.Look(ctx); st.Data != pg.DataUnreadable {
			t.Errorf("data is %s", st.Data)
		}
		told(t, a.Init(ctx, nil), "datadir-foreign", "thesis.txt")
		told(t, a.Clone(ctx, a.Upstream(), nil), "datadir-foreign", "thesis.txt")
		if _, err := os.Stat(precious); err != nil {
			t.Error(err)
		}
	})
	t.Run("permissions", func(t *testing.T) {
		a := testpg.Start(t)
		a.Template()
		if err := os.Chmod(a.Node.Postgres.Data, 0o755); err != nil {
			t.Fatal(err)
		}
		told(t, a.Server.Start(ctx, nil), "datadir-permissions", "chmod 0700 "+a.Node.Postgres.Data)
	})
	t.Run("owner", func(t *testing.T) {
		root(t)
		a := testpg.Start(t)
		a.Template()
		if err := os.Chown(a.Node.Postgres.Data, 0, 0); err != nil {
			t.Fatal(err)
		}
		told(t, a.Server.Start(ctx, nil), "datadir-owner", "chown -R postgres: ")
	})
	t.Run("a path its user cannot enter", func(t *testing.T) {
		root(t)
		closed := t.TempDir() // root's, 0700 above or here
		if err := os.Chmod(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		a := testpg.Start(t, testpg.With(func(n *spec.Node) { n.Postgres.Data = filepath.Join(closed, "x", "data") }))
		told(t, a.Init(ctx, nil), "datadir-path", "cannot enter /")
	})
	t.Run("socket path", func(t *testing.T) {
		a := testpg.Start(t, testpg.With(func(n *spec.Node) { n.Paths.Sockets = "/tmp/" + strings.Repeat("long", 30) }))
		told(t, a.Init(ctx, nil), "socket-path-long", "at most 107 bytes")
	})
	t.Run("another version's data", func(t *testing.T) {
		a := testpg.Start(t)
		a.Template()
		if err := os.WriteFile(filepath.Join(a.Node.Postgres.Data, "PG_VERSION"), []byte("13\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		told(t, a.Server.Start(ctx, nil), "datadir-version", "PostgreSQL 13")
	})
	t.Run("a setting it does not know", func(t *testing.T) {
		a := testpg.Start(t, testpg.With(func(n *spec.Node) { n.Postgres.Parameters["shared_bufers"] = "1" }))
		a.Template()
		told(t, a.Server.Start(ctx, nil), "postgres-start", "shared_bufers")
	})
	t.Run("a missing secret", func(t *testing.T) {
		a := testpg.Start(t)
		if err := os.WriteFile(a.Node.Paths.Secrets, []byte(`{"postgres": "x"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		told(t, a.Init(ctx, nil), "secret-missing", "replicator")
	})
	t.Run("a disk that fills up", func(t *testing.T) {
		root(t)
		a := testpg.Start(t, testpg.Primary())
		b := testpg.Start(t)
		mkdir(t, b.Node.Postgres.Data, 0o700, b)
		if err := unix.Mount("tmpfs", b.Node.Postgres.Data, "tmpfs", 0, "size=20m,mode=0700"); err != nil {
			t.Skip("cannot mount: ", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(b.Node.Postgres.Data, unix.MNT_DETACH) })
		own(t, b.Node.Postgres.Data, b)
		told(t, b.Clone(ctx, a.Upstream(), nil), "disk-full", "the file system "+b.Node.Postgres.Data)
		if st := b.Look(ctx); st.Data != pg.DataPartial {
			t.Errorf("data is %s", st.Data)
		}
		told(t, b.Init(ctx, nil), "disk-full", "the file system "+b.Node.Postgres.Data)
	})
}

func told(t *testing.T, err error, code, part string) {
	t.Helper()
	if problem.Code(err) != code || !strings.Contains(problem.Text(err), part) {
		t.Errorf("told %v, want %s with %q", err, code, part)
	}
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func mkdir(t *testing.T, dir string, mode os.FileMode, s *testpg.Server) {
	t.Helper()
	if err := os.MkdirAll(dir, mode); err != nil {
		t.Fatal(err)
	}
	own(t, dir, s)
}

// own gives dir to whoever owns the server's directory.
func own(t *testing.T, dir string, s *testpg.Server) {
	t.Helper()
	st, err := os.Stat(s.Node.Paths.Dir)
	if err != nil {
		t.Fatal(err)
	}
	stat := st.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(stat.Uid), int(stat.Gid)); err != nil {
		t.Fatal(err)
	}
}

// What is missing is told before anything is tried.
func TestFind(t *testing.T) {
	all := testpg.Majors(t)
	p, err := postgres.Find(0)
	if err != nil || p.Major != all[len(all)-1] {
		t.Errorf("the newest is %d, %v, want %d", p.Major, err, all[len(all)-1])
	}
	_, err = postgres.Find(12)
	told(t, err, "postgres-unsupported", "14 to 18")
	_, err = postgres.At("/nowhere")
	told(t, err, "postgres-missing", "/nowhere")
	t.Setenv("HOWDAH_PG", "/nowhere")
	t.Setenv("PATH", "/nowhere")
	for major := 14; major <= 18; major++ {
		if _, err := os.Stat(fmt.Sprintf("/usr/lib/postgresql/%d", major)); err != nil {
			_, err = postgres.Find(major)
			told(t, err, "postgres-missing", fmt.Sprintf("apt-get install postgresql-%d", major))
		}
	}
}

// With TLS files, members replicate and clients connect by TLS only, whoever
// owns the machine's key.
func TestTLS(t *testing.T) {
	files := authority(t)
	with := testpg.With(func(n *spec.Node) { n.TLS = files(n.Address, n.Paths.Dir) })
	a := testpg.Start(t, testpg.Primary(), testpg.TCP(), with)
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.TCP(), with)
	wait(t, "it streams", func() bool { return b.Look(t.Context()).Streaming })
	if got := a.Query("SELECT count(*) FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE ssl"); got != "1" {
		t.Errorf("%s replicas stream by TLS, want 1", got)
	}
	c, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.Port, c.User, c.Database, c.Password = a.Node.Address, 5432, "demo", "demo", testpg.Password
	if conn, err := pgconn.ConnectConfig(t.Context(), c); err == nil {
		conn.Close(t.Context())
		t.Error("a connection in clear was let in")
	}
}

// authority makes a certificate authority and returns what gives a node its files.
func authority(t *testing.T) func(address, dir string) spec.TLS {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	signed := func(c *x509.Certificate) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return func(address, dir string) spec.TLS {
		files := spec.TLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
		for path, text := range map[string][]byte{
			files.CA: signed(ca),
			files.Cert: signed(&x509.Certificate{
				SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.ParseIP(address)},
				NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			}),
			files.Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		} {
			mode := os.FileMode(0o644)
			if path == files.Key {
				mode = 0o600
			}
			if err := os.WriteFile(path, text, mode); err != nil {
				t.Fatal(err)
			}
		}
		return files
	}
}
