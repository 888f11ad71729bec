package activity

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/spec"
	"howdah/test/testpg"
)

// Who waits is told of with whom he waits for, and for what; a password in his
// statement is not.
func TestNow(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			p := testpg.Start(t, testpg.Primary(), testpg.Major(major))
			dsn := (&url.URL{Scheme: "postgres", User: url.User(spec.Superuser), Path: "/postgres", RawQuery: url.Values{
				"host": {p.Node.Paths.Sockets}, "port": {strconv.Itoa(p.Node.Postgres.Port)}, "sslmode": {"disable"},
			}.Encode()}).String()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			connect := func() *pgconn.PgConn {
				c, err := pgconn.Connect(ctx, dsn)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close(context.WithoutCancel(ctx)) })
				return c
			}
			do := func(c *pgconn.PgConn, sql string) {
				t.Helper()
				if _, err := c.Exec(ctx, sql).ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
			holder, waiter, behind := connect(), connect(), connect()
			do(holder, "CREATE TABLE accounts (id int)")
			do(holder, "BEGIN; LOCK TABLE accounts; SELECT 1 AS password_of_nobody")
			ended := make(chan error, 2)
			for _, c := range []*pgconn.PgConn{waiter, behind} {
				go func() {
					_, err := c.Exec(ctx, "BEGIN; LOCK TABLE accounts; COMMIT /* password = 'hush' */").ReadAll()
					ended <- err
				}()
			}
			s, err := New(dsn)
			if err != nil {
				t.Fatal(err)
			}
			var now Now
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				if now, err = s.Now(ctx); err != nil {
					t.Fatal(err)
				}
				if len(now.Sessions) == 3 && len(now.Sessions[0].Behind)+len(now.Sessions[1].Behind)+len(now.Sessions[2].Behind) >= 2 {
					break
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					t.Fatalf("the sessions are %+v", now)
				}
			}
			of := func(c *pgconn.PgConn) Session {
				i := slices.IndexFunc(now.Sessions, func(o Session) bool { return o.PID == int(c.PID()) })
				if i < 0 {
					t.Fatalf("%d is not told of: %+v", c.PID(), now)
				}
				return now.Sessions[i]
			}
			if h := of(holder); h.State != "idle in transaction" || h.Behind != nil || h.Lock != "" || h.Transaction <= 0 {
				t.Errorf("who holds the lock is %+v", h)
			}
			if w := of(waiter); !slices.Contains(w.Behind, int(holder.PID())) || w.Lock != "relation public.accounts, AccessExclusiveLock" || w.Wait != "Lock:relation" || w.Locked <= 0 {
				t.Errorf("who waits is %+v", w)
			}
			if w := of(waiter); strings.Contains(w.Query, "hush") || !strings.Contains(w.Query, "LOCK TABLE accounts") {
				t.Errorf("its statement is %s", w.Query)
			}
			if again, err := s.Now(ctx); err != nil || time.Since(now.At) < fresh/2 && again.At != now.At {
				t.Errorf("asked again: %v %v", again.At, err)
			}
			if texts, err := s.Statements(ctx, []string{"1", "x'"}); err != nil || len(texts) != 0 {
				t.Errorf("without pg_stat_statements: %v %v", texts, err)
			}
			do(holder, "COMMIT")
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}
