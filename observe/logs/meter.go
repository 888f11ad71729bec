package logs

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"howdah/exposition"
)

// A Meter counts what becomes of logs, by the names of Vector's own metrics, which
// dashboards of log shippers go by: a source is a job whose files are read, a sink is
// what is kept of them, and each log store that is sent it. Its zero value is ready.
type Meter struct {
	mu    sync.Mutex
	began time.Time
	of    map[component]*flow
}

// A component is one part of the way, as Vector names it.
type component struct{ id, kind, how string }

func (c component) labels() []string {
	return []string{"component_id", c.id, "component_kind", c.kind, "component_type", c.how}
}

const (
	kindSource = "source"
	kindSink   = "sink"
)

// keptSink is the segments.
var keptSink = component{"kept", kindSink, "file"}

// A flow is what came through a component.
type flow struct {
	events, bytes, errors, checkpoints int64
	busy                               float64                      // share of the time, of late
	waits                              func() (events, bytes int64) // of a store: what was kept and not sent; nil: nothing waits there
}

// note has change count something.
func (m *Meter) note(c component, change func(*flow)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of, m.began = map[component]*flow{}, time.Now()
	}
	f := m.of[c]
	if f == nil {
		f = &flow{}
		m.of[c] = f
	}
	change(f)
}

// worked says for how long of a time a component had something to do. Vector shows the
// share of the last seconds, smoothed.
func (m *Meter) worked(c component, busy, of time.Duration) {
	const weight = 0.1 // of the newest
	m.note(c, func(f *flow) {
		f.busy += weight * (min(1, busy.Seconds()/max(of, time.Millisecond).Seconds()) - f.busy)
	})
}

// Metrics tells it in Prometheus's text format.
func (m *Meter) Metrics() []byte {
	type line struct {
		component
		flow
	}
	m.mu.Lock()
	var all []line
	for c, f := range m.of {
		all = append(all, line{c, *f})
	}
	began := m.began
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b line) int { return cmp.Or(-cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id)) }) // sources first
	var x exposition.Text
	if began.IsZero() {
		return nil
	}
	x.Gauge("vector_uptime_seconds", "How long logs have been read.", time.Since(began).Seconds())
	for _, l := range all {
		labels := l.labels()
		x.Counter("vector_component_errors_total", "What failed: a file that can not be read, a request to a log store.", float64(l.errors), labels...)
		x.Gauge("vector_utilization", "Share of the time, of late, in which the component had something to do.", l.busy, labels...)
		if l.kind == kindSource {
			x.Counter("vector_component_received_events_total", "Records that were read.", float64(l.events), labels...)
			x.Counter("vector_component_received_bytes_total", "Bytes of log files that were read.", float64(l.bytes), labels...)
			continue
		}
		x.Counter("vector_component_sent_events_total", "Records that were written or sent.", float64(l.events), labels...)
		x.Counter("vector_component_sent_bytes_total", "Bytes that were written or sent, before requests are compressed.", float64(l.bytes), labels...)
		if l.component == keptSink {
			x.Counter("vector_checkpoints_total", "How often it was written how far the files were read.", float64(l.checkpoints), labels...)
		}
		if l.waits != nil {
			events, bytes := l.waits()
			x.Gauge("vector_buffer_events", "Records that are kept and were not sent yet.", float64(events), labels...)
			x.Gauge("vector_buffer_byte_size", "Bytes of the segments that have them.", float64(bytes), labels...)
		}
	}
	return x.Bytes()
}

// unsent is what the segments of a directory have behind a place.
func unsent(dir string, at cursor) (events, bytes int64, err error) {
	files, err := segments(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, path := range files {
		name := filepath.Base(path)
		if name < at.Segment {
			continue
		}
		all, _, err := scan(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was too old
		}
		if err != nil {
			return 0, 0, err
		}
		for _, b := range all {
			switch {
			case name == at.Segment && b.at < at.At:
			case name == at.Segment && b.at == at.At:
				events, bytes = events+int64(max(0, b.Records-at.Done)), bytes+b.size
			default:
				events, bytes = events+int64(b.Records), bytes+b.size
			}
		}
	}
	return events, bytes, nil
}
