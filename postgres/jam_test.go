package postgres_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"howdah/test/testpg"
)

// A server whose log is not flushed answers, and a look tells: whoever holds the lock
// under which log is written was stopped, and everybody else waits for it. What an
// open transaction has written nobody waits for.
func TestUnflushed(t *testing.T) {
	if os.Getenv("NIGHTLY") == "" {
		t.Skip("it may take a while until a server is stopped in the right moment: NIGHTLY=1")
	}
	a := testpg.Start(t, testpg.Primary())
	a.Query("CREATE TABLE t (x int); CREATE PROCEDURE busy() LANGUAGE plpgsql AS 'BEGIN LOOP INSERT INTO t VALUES (1); COMMIT; END LOOP; END'")
	open := dial(t, a)
	if _, err := open.Exec(t.Context(), "BEGIN; INSERT INTO t VALUES (0)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	// Whatever else is written at this moment is flushed within the next.
	wait(t, "the rest is flushed", func() bool { return !a.Look(t.Context()).Unflushed })

	conn := dial(t, a)
	pid := int(conn.PID())
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		_, _ = conn.Exec(ctx, "CALL busy()").ReadAll()
	}()
	t.Cleanup(func() {
		_ = unix.Kill(pid, unix.SIGCONT)
		cancel()
		<-done
	})
	wait(t, "it is stopped while it writes log", func() bool {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		wait(t, "it stands", func() bool { return state(pid) == "T" })
		asked, end := context.WithTimeout(t.Context(), 500*time.Millisecond) // it may hold a lock that this needs
		defer end()
		at, err := a.Exec(asked, fmt.Sprintf("SELECT wait_event FROM pg_stat_activity WHERE pid = %d AND wait_event_type = 'IO'", pid))
		if err == nil && strings.HasPrefix(strings.ToLower(at), "wal") {
			return true
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		return false
	})
	wait(t, "the look tells", func() bool { return a.Look(t.Context()).Unflushed })
	first := a.Look(t.Context())
	if st := a.Look(t.Context()); !st.Answers || !st.Unflushed || st.Flushed != first.Flushed {
		t.Errorf("answers %v, unflushed %v, flushed %s and then %s", st.Answers, st.Unflushed, first.Flushed, st.Flushed)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	wait(t, "log is flushed again", func() bool { return a.Look(t.Context()).Flushed > first.Flushed })
}
