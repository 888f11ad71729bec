package postgres_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/spec"
	"howdah/test/testpg"
)

// A server whose postmaster hangs answers those who are in, and a knock tells that nobody
// else comes in; so it does of a lock that every login waits for. Whoever is turned away
// because all places are taken was heard.
func TestKnock(t *testing.T) {
	a := testpg.Start(t, testpg.Primary(), testpg.With(func(n *spec.Node) {
		n.Postgres.Parameters = maps.Clone(n.Postgres.Parameters)
		if n.Postgres.Parameters == nil {
			n.Postgres.Parameters = map[string]string{}
		}
		n.Postgres.Parameters["max_connections"] = "8"
	}))
	knock := func(patience time.Duration) bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return a.Knock(ctx)
	}
	const well, hung = 20 * time.Second, 300 * time.Millisecond
	if !knock(well) {
		t.Fatal("a server that is well does not answer")
	}
	if l := a.Look(t.Context()).Logins; l.Answered != 1 || l.Silent != 0 || l.Since != 0 {
		t.Fatalf("the look tells %+v", l)
	}
	silent := func(t *testing.T) {
		t.Helper()
		for n := 1; n <= 2; n++ {
			if knock(hung) {
				t.Fatal("somebody was let in")
			}
			if st := a.Look(t.Context()); !st.Answers || st.Logins.Silent != n || st.Logins.Since < time.Duration(n)*hung {
				t.Errorf("answers %v, %+v; want %d that were silent", st.Answers, st.Logins, n)
			}
		}
	}
	answered := func(t *testing.T) {
		t.Helper()
		before := a.Look(t.Context()).Logins.Answered
		if !knock(well) {
			t.Error("nobody is let in")
		}
		if l := a.Look(t.Context()).Logins; l.Silent != 0 || l.Since != 0 || l.Answered <= before {
			t.Errorf("the look tells %+v", l)
		}
	}
	t.Run("a lock on the roles", func(t *testing.T) {
		lock := dial(t, a)
		// So that the look asks for what waits for standbys, too.
		for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (nobody)'", "SELECT pg_reload_conf()"} {
			if _, err := lock.Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := lock.Exec(t.Context(), "BEGIN; LOCK TABLE pg_authid IN ACCESS EXCLUSIVE MODE").ReadAll(); err != nil {
			t.Fatal(err)
		}
		wait(t, "it waits for nobody", func() bool { return a.Look(t.Context()).SyncNames != "" })
		silent(t)
		// A commit would wait.
		for _, sql := range []string{"ROLLBACK", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"} {
			if _, err := lock.Exec(t.Context(), sql).ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
		answered(t)
	})
	t.Run("no places", func(t *testing.T) {
		a.Look(t.Context()) // it has its place
		for {
			conn, err := try(t.Context(), a)
			if e := new(pgconn.PgError); errors.As(err, &e) && e.Code == "53300" {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
		}
		answered(t)
	})
	t.Run("the postmaster hangs", func(t *testing.T) {
		wait(t, "places are free again", func() bool {
			conn, err := try(t.Context(), a)
			if err == nil {
				conn.Close(t.Context())
			}
			return err == nil
		})
		resume := testpg.Suspend(t, a.Look(t.Context()).PID)
		silent(t)
		resume()
		answered(t)
	})
	t.Run("somebody else is let in", func(t *testing.T) {
		resume := testpg.Suspend(t, a.Look(t.Context()).PID)
		silent(t)
		resume()
		dial(t, a)
		if l := a.Look(t.Context()).Logins; l.Silent != 0 || l.Since != 0 {
			t.Errorf("the look tells %+v", l)
		}
	})
}
