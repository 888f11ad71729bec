package postgres_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/postgres"
	"howdah/spec"
	"howdah/test/testpg"
)

// come tries to get in, and returns how it was refused: "" is not at all.
func come(t *testing.T, host, user, database string) string {
	t.Helper()
	c, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.Port, c.User, c.Database, c.Password = host, 5432, user, database, testpg.Password
	conn, err := pgconn.ConnectConfig(t.Context(), c)
	if err == nil {
		conn.Close(t.Context())
		return ""
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Code
	}
	t.Fatal(err)
	return ""
}

// A server that was shut before its start lets nobody in but its superuser over the
// socket and members that replicate, however often its settings are read anew; once
// it was told to, it lets in whoever comes.
func TestDoors(t *testing.T) {
	ctx := t.Context()
	const rejected = "28000"
	a := testpg.Start(t, testpg.Primary(), testpg.TCP())
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.TCP())
	if err := a.Shut(ctx); !errors.Is(err, postgres.ErrRunning) {
		t.Errorf("shut while it runs: %v", err)
	}
	restart := func() {
		t.Helper()
		for _, do := range []func() error{
			func() error { return a.Stop(ctx, postgres.Immediate) },
			func() error { return a.Shut(ctx) },
			func() error { return a.Start(ctx, nil) },
		} {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
	}
	restart()
	for range 2 {
		if !a.Look(ctx).Shut {
			t.Error("it does not say that it is shut")
		}
		for _, who := range []struct{ host, user, database string }{
			{a.Node.Address, "demo", "demo"}, {a.Node.Address, spec.Superuser, "postgres"}, {a.Node.Paths.Sockets, "demo", "demo"},
		} {
			if got := come(t, who.host, who.user, who.database); got != rejected {
				t.Errorf("%s at %s: %q, want %s", who.user, who.host, got, rejected)
			}
		}
		wait(t, "the standby streams", func() bool { return b.Look(ctx).Streaming })
		if err := a.Refresh(ctx); err != nil { // as an agent that begins
			t.Fatal(err)
		}
		if err := a.Reload(ctx); err != nil {
			t.Fatal(err)
		}
	}
	a.Configure(a.Node.Postgres.Parameters, []spec.AccessRule{{Title: "wrong", Lines: []string{"host all all everywhere"}}})
	if err := a.Admit(ctx); err == nil || !a.Look(ctx).Shut {
		t.Errorf("rules that PostgreSQL refuses: %v, shut %v", err, a.Look(ctx).Shut)
	}
	a.Configure(a.Node.Postgres.Parameters, nil)
	if err := a.Admit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := come(t, a.Node.Address, "demo", "demo"); got != "" || a.Look(ctx).Shut {
		t.Errorf("admitted, and refused with %s; shut %v", got, a.Look(ctx).Shut)
	}
	if err := a.Stop(ctx, postgres.Fast); err != nil {
		t.Fatal(err)
	}
	if err := a.Shut(ctx); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(ctx, &pg.Upstream{}); err != nil {
		t.Fatal(err)
	}
	if got := come(t, a.Node.Address, "demo", "demo"); got != "" || a.Look(ctx).Shut {
		t.Errorf("a standby refuses with %s; shut %v", got, a.Look(ctx).Shut)
	}
}

// Who waits for standbys, how long, and who does not although he should.
func TestCommits(t *testing.T) {
	ctx := t.Context()
	a := testpg.Start(t, testpg.Primary())
	if c := a.Look(ctx).Commits; c.Waiting != 0 || c.Lax != nil {
		t.Errorf("without synchronous replication: %+v", c)
	}
	a.Query("ALTER ROLE demo SET synchronous_commit = 'local'; ALTER DATABASE demo SET synchronous_commit = remote_apply; ALTER ROLE demo IN DATABASE postgres SET synchronous_commit = 'off'")
	client := dial(t, a)
	if _, err := client.Exec(ctx, "SELECT 1").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := a.Synchronize(ctx, "nobody_comes", ""); err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	var over atomic.Bool
	go func() {
		for n := 0; ; n++ { // backends learn from the checkpointer that they have to wait, a moment later
			_, err := client.Exec(ctx, fmt.Sprintf("CREATE TABLE waits%d (n int)", n)).ReadAll()
			if err != nil || over.Load() {
				waits <- err
				return
			}
		}
	}()
	wait(t, "a commit is seen to wait", func() bool {
		c := a.Look(ctx).Commits
		return c.Waiting == 1 && c.Longest > 0
	})
	c := a.Look(ctx).Commits
	want := []pg.Lax{{Role: "demo", Value: "local"}, {Database: "postgres", Role: "demo", Value: "off"}}
	if len(c.Lax) != len(want) || c.Lax[0] != want[0] || c.Lax[1] != want[1] {
		t.Errorf("lax: %+v, want %+v", c.Lax, want)
	}
	over.Store(true)
	if err := a.Synchronize(ctx, "", ""); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Error(err)
	}
}
