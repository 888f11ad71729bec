package collect

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"howdah/observe/collector"
	"howdah/test/testpg"
)

// BenchmarkScrape is one instance with 20 databases of 250 tables each, an
// index on each table: cold asks everything, warm has all answers still.
func BenchmarkScrape(b *testing.B) {
	s := testpg.Start(b, testpg.Primary())
	s.Query("CREATE DATABASE d0")
	// CREATE DATABASE copies a template, so that one database has to be filled.
	fill := strings.ReplaceAll(socketOf(s), "/postgres?", "/d0?")
	e0, err := New(Options{URL: fill, Load: func() ([]collector.Collector, error) { return nil, nil }, Connect: time.Minute, Log: discard})
	if err != nil {
		b.Fatal(err)
	}
	if err := e0.main.open(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, _, err := e0.main.ask(b.Context(), `DO $$ BEGIN FOR i IN 1..250 LOOP
		EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, v text)', i); END LOOP; END $$`, time.Minute); err != nil {
		b.Fatal(err)
	}
	e0.main.close()
	for i := 1; i < 20; i++ {
		s.Query(fmt.Sprintf("CREATE DATABASE d%d TEMPLATE d0", i))
	}
	for _, cold := range []bool{true, false} {
		b.Run(map[bool]string{true: "cold", false: "warm"}[cold], func(b *testing.B) {
			e, err := New(Options{
				URL: socketOf(s), Load: collector.Shipped, Discover: true, Exclude: []string{"postgres"},
				Connect: 5 * time.Second, NoCache: cold, Log: discard,
			})
			if err != nil {
				b.Fatal(err)
			}
			var bytes int64
			scrape := func() {
				a := e.scrape(b.Context(), time.Minute)
				bytes, _ = a.WriteTo(io.Discard)
			}
			scrape()
			b.ReportAllocs()
			for b.Loop() {
				scrape()
			}
			b.ReportMetric(float64(bytes)/1e6, "MB/scrape")
			for _, d := range e.databases() {
				d.close()
			}
		})
	}
}
