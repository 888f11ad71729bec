package gateway

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"howdah/access/admin"
	"howdah/exposition"
)

// An exporter answers as pgbouncer_exporter does, for all pools of the node.
type exporter struct {
	http.ServeMux
	facts func() (f admin.Facts, ok bool) // ok: the pooler answered
	began time.Time

	mu     sync.Mutex
	last   time.Time
	took   time.Duration
	asked  float64
	failed float64
}

func newExporter(facts func() (admin.Facts, bool)) *exporter {
	e := &exporter{facts: facts, began: time.Now()}
	e.HandleFunc("/metrics", e.metrics)
	for path := range strings.FieldsSeq("/up /health /liveness /readiness") {
		e.HandleFunc(path, e.health)
	}
	return e
}

func (e *exporter) metrics(w http.ResponseWriter, _ *http.Request) {
	began := time.Now()
	f, ok := e.facts()
	var t exposition.Text
	if ok {
		admin.Metrics(&t, f)
	} else {
		t.Gauge("pgbouncer_up", "1 if the pooler answered", 0)
	}
	e.mu.Lock()
	e.last = time.Now()
	e.took = e.last.Sub(began)
	e.asked++
	e.failed += exposition.Truth(!ok)
	t.Gauge("pgbouncer_exporter_up", "1", 1)
	t.Gauge("pgbouncer_exporter_uptime", "seconds since the exporter started", e.last.Sub(e.began).Seconds())
	t.Gauge("pgbouncer_exporter_last_scrape_time", "when the last scrape ended, seconds since 1970", float64(e.last.Unix()))
	t.Gauge("pgbouncer_exporter_scrape_duration", "seconds that the last scrape took", e.took.Seconds())
	t.Counter("pgbouncer_exporter_scrape_total_count", "scrapes", e.asked)
	t.Counter("pgbouncer_exporter_scrape_error_count", "scrapes that found no pooler", e.failed)
	e.mu.Unlock()
	w.Header().Set("Content-Type", exposition.ContentType)
	_, _ = w.Write(t.Bytes()) // who has gone asks again
}

func (e *exporter) health(w http.ResponseWriter, _ *http.Request) {
	if _, ok := e.facts(); !ok {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("primary\n")) // pg_exporter's word for a pooler that answers
}
