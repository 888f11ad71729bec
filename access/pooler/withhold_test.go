package pooler

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"howdah/test/testpg"
)

// looking has the servers of a door asked what they wait for.
func looking(t testing.TB, w *world) {
	w.server = testpg.Start(t, testpg.Primary())
	lookout := &Lookout{Config: judge(t, w.server).Config}
	t.Cleanup(lookout.Close)
	w.open(func(d *Door) {
		d.Outlive = true
		dial := d.Dial
		d.Dial = func(ctx context.Context) (Backend, error) {
			b, err := dial(ctx)
			b.Waits = lookout.Waits
			return b, err
		}
	})
}

// Whoever cancels a commit that waits for standbys hears that it is not cancelled, and waits on:
// what she hears in the end is the truth. What does not wait is cancelled as ever.
func TestACancelIsWithheld(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	looking(t, w)
	w.direct("CREATE TABLE kept (n int)")
	waits := func() string {
		return w.server.Query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	}
	w.server.Synchronous("nobody")

	conn := w.connect().PgConn()
	heard := make(chan error, 1)
	go func() { heard <- say(context.WithoutCancel(t.Context()), conn, "INSERT INTO kept VALUES (1)") }()
	psql := exec.CommandContext(t.Context(), filepath.Join(w.server.Node.Postgres.Bin, "psql"), "-Xc", "INSERT INTO kept VALUES (2)", w.conninfo())
	psql.Env = append(os.Environ(), "PGPASSWORD="+testpg.Password)
	out, err := os.Create(filepath.Join(t.TempDir(), "psql"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	psql.Stdout, psql.Stderr = out, out
	if err := psql.Start(); err != nil {
		t.Fatal(err)
	}
	said := func() string {
		text, _ := os.ReadFile(out.Name())
		return string(text)
	}
	until(t, "both wait", func() bool { return waits() == "2" })
	if err := psql.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := conn.CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "psql's request is dealt with", func() bool { return strings.Contains(said(), "Cancel request sent") })
	if n := waits(); n != "2" {
		t.Errorf("%s wait on, want 2", n)
	}
	if !strings.Contains(said(), "WARNING:  "+withheldText) {
		t.Errorf("psql is told %q", said())
	}
	w.server.Synchronous("")
	if err := <-heard; err != nil {
		t.Errorf("the commit that went on to its end: %v", err)
	}
	_ = psql.Wait() // it has been asked to stop, and says so by its code
	if strings.Contains(said(), "ERROR") {
		t.Errorf("psql hears %q", said())
	}
	if n := w.direct("SELECT count(*) FROM kept"); n != "2" {
		t.Errorf("%s rows", n)
	}

	// Of what goes on after such a wait, a request ends the rest.
	w.server.Synchronous("nobody")
	go func() {
		heard <- say(context.WithoutCancel(t.Context()), conn, "INSERT INTO kept VALUES (3); COMMIT; SELECT pg_sleep(600)")
	}()
	until(t, "it waits", func() bool { return waits() == "1" })
	dealt := make(chan error, 1)
	go func() { dealt <- conn.CancelRequest(context.WithoutCancel(t.Context())) }()
	w.server.Synchronous("")
	if err := <-dealt; err != nil {
		t.Fatal(err)
	}
	until(t, "it is cancelled", func() bool {
		select {
		case err := <-heard:
			if code(err) != "57014" {
				t.Errorf("%v, want 57014", err)
			}
			return true
		default:
			_ = conn.CancelRequest(t.Context())
			return false
		}
	})
}

// A request that was withheld is of what went on when it came, and of nothing that her client does next.
func TestAWithheldCancelIsOfOneStatement(t *testing.T) {
	t.Parallel()
	var commits atomic.Bool // what the server is said to do
	asked := make(chan struct{}, 1000)
	w := newWorld(t, func(d *Door) {
		dial := d.Dial
		d.Dial = func(ctx context.Context) (Backend, error) {
			b, err := dial(ctx)
			b.Waits = func(context.Context, uint32) (bool, error) {
				asked <- struct{}{}
				return commits.Load(), nil
			}
			return b, err
		}
	})
	conn := w.connect().PgConn()
	heard := make(chan error, 1)
	begin := func(lock string) {
		t.Helper()
		go func() {
			heard <- say(context.WithoutCancel(t.Context()), conn, "SELECT pg_advisory_xact_lock("+lock+")")
		}()
		until(t, "it waits for lock "+lock, func() bool {
			return w.server.Query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = "+lock) == "1"
		})
	}
	w.direct("SELECT pg_advisory_lock(1)")
	w.direct("SELECT pg_advisory_lock(2)")
	if err := say(t.Context(), conn, "BEGIN"); err != nil { // in which she keeps her server
		t.Fatal(err)
	}
	commits.Store(true)
	begin("1")
	dealt := make(chan error, 1)
	go func() { dealt <- conn.CancelRequest(context.WithoutCancel(t.Context())) }()
	<-asked
	w.direct("SELECT pg_advisory_unlock(1)")
	if err := <-heard; err != nil {
		t.Fatalf("the statement itself: %v", err)
	}
	begin("2")
	commits.Store(false)
	if err := <-dealt; err != nil {
		t.Fatal(err)
	}
	w.direct("SELECT pg_advisory_unlock(2)")
	if err := <-heard; err != nil {
		t.Errorf("the statement after it: %v", err)
	}
}

func TestWithhold(t *testing.T) {
	failure := errors.New("it can not be asked")
	for name, row := range map[string]struct {
		answers  []any // the last of them for ever
		withheld bool
		err      error
		first    int
		lasts    time.Duration
	}{
		"it does not wait":            {[]any{false}, false, nil, 0, 0},
		"it waits for a moment":       {[]any{true, true, false}, false, nil, 1, 2 * withholdEvery},
		"it waits on":                 {[]any{true}, true, nil, 1, withholdMost},
		"nobody knows":                {[]any{failure}, false, failure, 0, 0},
		"nobody knows how it went on": {[]any{true, failure}, true, failure, 1, withholdEvery},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, first := time.Now(), 0
				withheld, err := Withhold(t.Context(), 7, func(_ context.Context, pid uint32) (bool, error) {
					a := row.answers[0]
					if len(row.answers) > 1 {
						row.answers = row.answers[1:]
					}
					if pid != 7 {
						t.Errorf("asked for %d", pid)
					}
					err, _ := a.(error)
					is, _ := a.(bool)
					return is, err
				}, func() { first++ })
				if lasts := time.Since(began); withheld != row.withheld || err != row.err || first != row.first || lasts != row.lasts {
					t.Errorf("withheld %v, %v, said %d times, after %s", withheld, err, first, lasts)
				}
			})
		})
	}
	if withheld, err := Withhold(t.Context(), 7, nil, nil); withheld || err != nil {
		t.Errorf("where nobody can be asked: %v, %v", withheld, err)
	}
}
