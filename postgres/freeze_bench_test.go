package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/postgres"
	"howdah/spec"
	"howdah/test/testpg"
)

// BenchmarkFreeze says for how long a server whose right is over still executes
// rows of busy clients after its guard began to freeze it, and how many.
//
//	go test ./postgres -run '^$' -bench Freeze
func BenchmarkFreeze(b *testing.B) {
	a := testpg.Start(b, testpg.Primary())
	data := a.Node.Postgres.Data
	a.Query("CREATE UNLOGGED TABLE rows (at timestamptz DEFAULT clock_timestamp())")
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for range 8 {
		conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", a.Node.Paths.Sockets, a.Node.Postgres.Port, spec.Superuser))
		if err != nil {
			b.Fatal(err)
		}
		writers.Go(func() {
			defer conn.Close(context.Background())
			for ctx.Err() == nil {
				_, _ = conn.Exec(ctx, "INSERT INTO rows DEFAULT VALUES").ReadAll()
			}
		})
	}
	rows, still, took, freezes := 0, time.Duration(0), time.Duration(0), 0
	for b.Loop() {
		a.Query("SELECT pg_sleep(0.02)")
		began := time.Now()
		if err := postgres.Freeze(data); err != nil {
			b.Fatal(err)
		}
		ended := time.Now()
		if err := postgres.Thaw(data); err != nil {
			b.Fatal(err)
		}
		const micros = "2006-01-02 15:04:05.999999Z07:00"
		late := a.Query(fmt.Sprintf("SELECT count(*) || ' ' || coalesce(extract(epoch FROM max(at) - '%s') * 1e6, 0)::int8 FROM rows WHERE at > '%s' AND at < '%s'",
			began.Format(micros), began.Format(micros), ended.Format(micros)))
		var n, us int
		if _, err := fmt.Sscan(late, &n, &us); err != nil {
			b.Fatalf("%q: %v", late, err)
		}
		rows, still, took, freezes = rows+n, max(still, time.Duration(us)*time.Microsecond), took+ended.Sub(began), freezes+1
	}
	cancel()
	writers.Wait()
	b.ReportMetric(float64(rows)/float64(freezes), "rows/freeze")
	b.ReportMetric(float64(still.Microseconds()), "longest-µs")
	b.ReportMetric(float64(took.Microseconds())/float64(freezes), "freeze-µs")
}
