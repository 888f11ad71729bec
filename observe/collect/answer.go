package collect

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"

	"howdah/logkey"
	"howdah/observe/collector"
	"howdah/problem"
)

// An answer is what a scrape gives: pieces of text that nobody changes any
// more, most of them those of the collectors' own results.
type answer struct{ pieces [][]byte }

// WriteTo writes the answer in Prometheus's text format.
func (a *answer) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for _, p := range a.pieces {
		m, err := w.Write(p)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// counts are the exporter's own.
type counts struct {
	started         time.Time
	last            time.Time // when the last scrape ended
	took            time.Duration
	scrapes, errors int
}

// assemble writes what the databases have. If the server is not up, that alone.
func (e *Exporter) assemble(up bool, databases []*database) *answer {
	a := &answer{}
	var names []string // of families, in order of first appearance
	heads, texts := map[string]collector.Family{}, map[string][][]byte{}
	if up {
		e.agree(databases)
		for _, d := range databases {
			for _, c := range d.planned {
				s := d.slots[c.Branch]
				if c.Why != "" || s == nil || s.dropped {
					continue
				}
				for _, f := range s.result.Families {
					if len(f.Text) == 0 {
						continue
					}
					if _, ok := heads[f.Name]; !ok {
						heads[f.Name] = f
						names = append(names, f.Name)
					}
					texts[f.Name] = append(texts[f.Name], f.Text)
				}
			}
		}
	}
	for _, name := range names {
		a.pieces = append(a.pieces, heads[name].Head(nil))
		a.pieces = append(a.pieces, texts[name]...)
	}
	a.pieces = append(a.pieces, e.intro(up, databases), e.process())
	return a
}

// agree drops the answer of a database whose series another has too: a
// collector that runs in several must name the database in a label.
func (e *Exporter) agree(databases []*database) {
	if len(databases) < 2 {
		return
	}
	for _, c := range databases[0].e.all {
		if c.Has("cluster") || slices.ContainsFunc(c.Columns, func(col collector.Column) bool {
			return col.Usage == collector.Label && col.As == "datname"
		}) {
			continue
		}
		seen := map[string]bool{}
		for _, d := range databases {
			s := d.slots[c.Branch]
			if s == nil {
				continue
			}
			s.dropped = slices.ContainsFunc(s.result.Labels, func(l string) bool { return seen[l] })
			if s.dropped {
				e.o.Log.Debug("the same series from two databases", logkey.Database, d.name, logkey.Collector, c.Branch)
				continue
			}
			for _, l := range s.result.Labels {
				seen[l] = true
			}
		}
	}
}

// A page is text about the exporter itself, in the making.
type page struct {
	b        []byte
	ns       string
	constant string
}

func (p *page) family(name, kind, help string) string {
	f := collector.Family{Name: p.ns + "_" + name, Type: kind, Help: help}
	p.b = f.Head(p.b)
	return f.Name
}

func (p *page) one(name, kind, help string, v float64) {
	p.b = collector.Line(p.b, p.family(name, kind, help), p.constant, v)
}

// with is the constant labels and these.
func (p *page) with(pairs ...string) string {
	var more [][2]string
	for i := 0; i+1 < len(pairs); i += 2 {
		more = append(more, [2]string{pairs[i], pairs[i+1]})
	}
	text, err := collector.Labels(more)
	if err != nil || p.constant == "" {
		return text
	}
	return p.constant + "," + text
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// intro is what is said of the server's life and of the exporter.
func (e *Exporter) intro(up bool, databases []*database) []byte {
	p := &page{ns: e.ns, constant: e.constant}
	p.one("up", "gauge", "1 if the last scrape reached the server", truth(up))
	if up {
		p.one("version", "gauge", "the server's version as a number", float64(e.main.facts.Version))
		if !e.pooler {
			p.one("in_recovery", "gauge", "1 on a replica", truth(e.main.facts.Recovery))
		}
	}
	if e.o.NoIntro {
		return p.b
	}
	c := e.counts
	p.b = collector.Line(p.b, p.family("exporter_build_info", "gauge", "1; the labels say what this is"),
		p.with("version", e.o.Build.Version, "revision", e.o.Build.Revision, "branch", e.o.Build.Branch,
			"builddate", e.o.Build.Date, "goversion", e.o.Build.Go, "goos", runtime.GOOS, "goarch", runtime.GOARCH), 1)
	p.one("exporter_up", "gauge", "1", 1)
	p.one("exporter_uptime", "gauge", "seconds since the exporter started", time.Since(c.started).Seconds())
	p.one("exporter_last_scrape_time", "gauge", "when the last scrape ended, seconds since 1970", float64(c.last.Unix()))
	p.one("exporter_scrape_duration", "gauge", "seconds that the last scrape took", c.took.Seconds())
	p.one("exporter_scrape_total_count", "counter", "scrapes", float64(c.scrapes))
	p.one("exporter_scrape_error_count", "counter", "scrapes that found the server down", float64(c.errors))

	per := func(name, kind, help string, v func(*database) float64) {
		name = p.family(name, kind, help)
		for _, d := range databases {
			p.b = collector.Line(p.b, name, p.with("datname", d.name), v(d))
		}
	}
	per("exporter_server_scrape_duration", "gauge", "seconds that the last scrape of a database took", func(d *database) float64 { return d.stats.took.Seconds() })
	per("exporter_server_scrape_total_seconds", "gauge", "seconds that all scrapes of a database took", func(d *database) float64 { return d.stats.total.Seconds() })
	per("exporter_server_scrape_total_count", "gauge", "scrapes of a database", func(d *database) float64 { return float64(d.stats.scrapes) })
	per("exporter_server_scrape_error_count", "gauge", "scrapes of a database in which something failed", func(d *database) float64 { return float64(d.stats.errors) })

	query := func(name, help string, v func(collector.Collector, *slot) float64) {
		name = p.family(name, "gauge", help)
		for _, d := range databases {
			said := map[string]bool{} // two branches of one name may both apply
			for _, c := range d.planned {
				if s := d.slots[c.Branch]; c.Why == "" && s != nil && !said[c.Name] {
					said[c.Name] = true
					p.b = collector.Line(p.b, name, p.with("datname", d.name, "query", c.Name), v(c.Collector, s))
				}
			}
		}
	}
	query("exporter_query_cache_ttl", "seconds that an answer is good", func(c collector.Collector, _ *slot) float64 { return c.TTL.Seconds() })
	query("exporter_query_scrape_total_count", "executions", func(_ collector.Collector, s *slot) float64 { return float64(s.runs) })
	query("exporter_query_scrape_error_count", "executions that failed", func(_ collector.Collector, s *slot) float64 { return float64(s.errors) })
	query("exporter_query_scrape_predicate_skip_count", "executions that a predicate prevented", func(_ collector.Collector, s *slot) float64 { return float64(s.skips) })
	query("exporter_query_scrape_duration", "seconds that the last execution took", func(_ collector.Collector, s *slot) float64 { return s.took.Seconds() })
	query("exporter_query_scrape_metric_count", "series of the last execution", func(_ collector.Collector, s *slot) float64 { return float64(s.result.Series) })
	query("exporter_query_scrape_hit_count", "answers from before", func(_ collector.Collector, s *slot) float64 { return float64(s.hits) })
	return p.b
}

// process is what the client library says of this process.
func (e *Exporter) process() []byte {
	if e.o.NoIntro {
		return nil
	}
	families, err := e.registry.Gather()
	if err != nil {
		e.o.Log.Debug("metrics of the process", logkey.Error, err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			e.o.Log.Debug("metrics of the process", logkey.Error, err)
		}
	}
	return b.Bytes()
}

// stat says, one line a collector, what was asked and what it gave.
func (e *Exporter) stat() string {
	var b strings.Builder
	for _, d := range e.databases() {
		b.WriteString("database " + d.name + "\n")
		for _, c := range d.planned {
			if s := d.slots[c.Branch]; c.Why == "" && s != nil {
				line := "  " + c.Branch + ": " + count(s.runs, "run") + ", " + count(s.hits, "answer") + " from before, " +
					count(s.errors, "failure") + ", " + count(s.result.Series, "series") + ", last " + s.took.Round(10*time.Microsecond).String()
				if s.err != nil {
					line += ", " + s.err.Error()
				}
				b.WriteString(line + "\n")
			}
		}
	}
	return b.String()
}

// explain says which collectors apply, and why the others do not.
func (e *Exporter) explain() string {
	var b strings.Builder
	for _, d := range e.databases() {
		b.WriteString("database " + d.name + "\n")
		if !d.known {
			b.WriteString("  not reached yet\n")
			continue
		}
		for _, c := range d.plan() {
			why := c.Why
			if s := d.slots[c.Branch]; why == "" && s != nil {
				why = s.why
			}
			if why == "" {
				b.WriteString("  + " + c.Branch + "\n")
			} else {
				b.WriteString("  - " + c.Branch + ": " + why + "\n")
			}
		}
	}
	return b.String()
}

func count(n int, what string) string {
	if n != 1 && what != "series" {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// Explain connects and says which collectors apply, and why the others do not.
func (e *Exporter) Explain(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if !e.take(ctx) {
		return "", ctx.Err()
	}
	defer e.give()
	if err := e.main.open(ctx); err != nil {
		return "", &problem.Error{
			Code: "exporter-unreachable", What: "cannot reach the server to be observed", Why: err.Error(),
			Do: "start it, or correct the URL", Err: err,
		}
	}
	return e.explain(), nil
}
