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
// index on each table. First is the first scrape after the start, anew one that
// asks everything, warm one whose answers are all good still, steady one ten
// seconds after another.
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
	exporter := func(b *testing.B, anew bool) *Exporter {
		e, err := New(Options{
			URL: socketOf(s), Load: collector.Shipped, Discover: true, Exclude: []string{"postgres"},
			Connect: 5 * time.Second, NoCache: anew, Log: discard,
		})
		if err != nil {
			b.Fatal(err)
		}
		return e
	}
	scrape := func(b *testing.B, e *Exporter) float64 {
		n, _ := e.scrape(b.Context(), time.Minute).WriteTo(io.Discard)
		return float64(n) / 1e6
	}
	end := func(e *Exporter) {
		for _, d := range e.databases() {
			d.close()
		}
	}
	b.Run("first", func(b *testing.B) { // since the exporter started, and had a moment to prepare
		var mb float64
		for b.Loop() {
			b.StopTimer()
			e := exporter(b, false)
			e.prepare(b.Context())
			b.StartTimer()
			mb = scrape(b, e)
			b.StopTimer()
			end(e)
			b.StartTimer()
		}
		b.ReportMetric(mb, "MB/scrape")
	})
	for _, anew := range []bool{true, false} {
		b.Run(map[bool]string{true: "anew", false: "warm"}[anew], func(b *testing.B) {
			e := exporter(b, anew)
			defer end(e)
			mb := scrape(b, e)
			b.ReportAllocs()
			for b.Loop() {
				mb = scrape(b, e)
			}
			b.ReportMetric(mb, "MB/scrape")
		})
	}
	b.Run("steady", func(b *testing.B) { // ten seconds after the one before, what is due asked ahead or in it
		for _, ahead := range []bool{true, false} {
			b.Run(map[bool]string{true: "ahead", false: "in it"}[ahead], func(b *testing.B) {
				e := exporter(b, false)
				defer end(e)
				scrape(b, e)
				for b.Loop() {
					b.StopTimer()
					for _, d := range e.databases() {
						for _, s := range d.slots {
							if !s.asked.IsZero() {
								s.asked = s.asked.Add(-10 * time.Second)
							}
						}
					}
					if ahead {
						e.round(b.Context(), time.Now().Add(time.Second))
					}
					b.StartTimer()
					scrape(b, e)
				}
			})
		}
	})
}
