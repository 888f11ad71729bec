package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"howdah/logkey"
)

// What one query may ask for. Whoever asks for more is told what is too much.
const (
	maxSamples    = 5_000_000        // in memory at once: 80 MB
	maxPoints     = 11_000           // of a range, as Prometheus has it
	queryTime     = 30 * time.Second // that it takes
	queryWait     = 5 * time.Second  // for its turn
	maxQueries    = 4                // at once
	maxBody       = 1 << 20
	maxSeries     = 50_000 // of /series, /labels and their like
	defaultWithin = time.Hour
)

// An apiError is refused as Prometheus refuses, which its clients understand.
type apiError struct {
	kind string // bad_data, execution, timeout, unavailable …
	err  error
}

func (e *apiError) Error() string { return e.err.Error() }

func bad(format string, args ...any) error { return &apiError{"bad_data", fmt.Errorf(format, args...)} }

// codes are the statuses of Prometheus's kinds of error.
var codes = map[string]int{
	"bad_data": http.StatusBadRequest, "execution": http.StatusUnprocessableEntity, "canceled": 499,
	"timeout": http.StatusServiceUnavailable, "unavailable": http.StatusServiceUnavailable, "internal": http.StatusInternalServerError,
}

// answer is what a call of the API has to say.
type answer struct {
	data     any
	warnings annotations.Annotations
	query    string
}

// Handler answers the part of Prometheus's HTTP API that Grafana, promtool and
// alerting go by.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	text := func(path, body string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, body)
		})
	}
	text("/{$}", "howdah observe: Prometheus's API is at /api/v1\n")
	text("/-/healthy", "Prometheus Server is Healthy.\n") // as its clients know it
	text("/-/ready", "Prometheus Server is Ready.\n")
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /sd", s.serviceDiscovery)
	mux.HandleFunc("GET /howdah/logs", s.showLogged)
	mux.HandleFunc("GET /api/v2/silences", s.showSilences)
	if s.Logs != nil {
		mux.Handle("/loki/api/v1/", s.Logs)
	}
	for path, call := range map[string]func(*http.Request) (answer, error){
		"/query": s.query, "/query_range": s.queryRange, "/series": s.series, "/labels": s.labelNames, "/label/{name}/values": s.labelValues,
		"/metadata": s.metadata, "/targets": s.showTargets, "/rules": s.showRules, "/alerts": s.showAlerts,
		"/alertmanagers": s.alertmanagers, "/status/buildinfo": s.buildinfo, "/status/runtimeinfo": s.runtimeinfo,
		"/query_exemplars": none, "/format_query": s.formatQuery,
	} {
		handle := s.call(call)
		mux.HandleFunc("GET /api/v1"+path, handle)
		mux.HandleFunc("POST /api/v1"+path, handle)
	}
	mux.HandleFunc("/api/v1/", s.call(func(r *http.Request) (answer, error) {
		return answer{}, &apiError{"bad_data", fmt.Errorf("%s %s is not served here", r.Method, r.URL.Path)}
	}))
	return mux
}

func none(*http.Request) (answer, error) { return answer{data: []any{}}, nil }

// call writes what f says in Prometheus's envelope.
func (s *Store) call(f func(*http.Request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		var a answer
		err := r.ParseForm()
		if err != nil {
			err = bad("the form can not be read: %w", err)
		} else {
			a, err = f(r)
		}
		envelope := struct {
			Status    string   `json:"status"`
			Data      any      `json:"data,omitempty"`
			ErrorType string   `json:"errorType,omitempty"`
			Error     string   `json:"error,omitempty"`
			Warnings  []string `json:"warnings,omitempty"`
			Infos     []string `json:"infos,omitempty"`
		}{Status: "success", Data: a.data}
		envelope.Warnings, envelope.Infos = a.warnings.AsStrings(a.query, 10, 10)
		code := http.StatusOK
		if err != nil {
			kind := "internal"
			if e, ok := errors.AsType[*apiError](err); ok {
				kind = e.kind
			}
			code = cmp.Or(codes[kind], http.StatusInternalServerError)
			envelope.Status, envelope.Data, envelope.ErrorType, envelope.Error = "error", nil, kind, err.Error()
		}
		b, err := json.Marshal(envelope)
		if err != nil {
			s.Log.Error("answer not written", logkey.Path, r.URL.Path, logkey.Error, err)
			code, b = http.StatusInternalServerError, []byte(`{"status":"error","errorType":"internal","error":"the answer can not be written"}`)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(b) // a client that went away is no matter
	}
}

// take waits for a turn to ask the store; the returned function gives it back.
func (s *Store) take(ctx context.Context) (give func(), err error) {
	timer := time.NewTimer(queryWait)
	defer timer.Stop()
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-timer.C:
		return nil, &apiError{"unavailable", fmt.Errorf("%d queries run already, and none has ended in %s; ask again later", maxQueries, queryWait)}
	case <-ctx.Done():
		return nil, &apiError{"canceled", context.Cause(ctx)}
	}
}

// turn waits for a request's turn, and bounds what it may take: its own timeout,
// if that is shorter than ours. The returned function ends both.
func (s *Store) turn(r *http.Request) (context.Context, func(), error) {
	limit := queryTime
	if t := r.FormValue("timeout"); t != "" {
		d, err := duration(t)
		if err != nil {
			return nil, nil, bad("timeout: %w", err)
		}
		limit = min(limit, d)
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	give, err := s.take(ctx)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return ctx, func() { give(); cancel() }, nil
}

func (s *Store) query(r *http.Request) (answer, error) {
	at, err := moment(r, "time", s.now())
	if err != nil {
		return answer{}, err
	}
	return s.ask(r, func(ctx context.Context, text string) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, s.db, nil, text, at)
	})
}

func (s *Store) queryRange(r *http.Request) (answer, error) {
	start, err := moment(r, "start", time.Time{})
	if err != nil {
		return answer{}, err
	}
	end, err := moment(r, "end", time.Time{})
	if err != nil {
		return answer{}, err
	}
	step, err := duration(r.FormValue("step"))
	switch {
	case err != nil:
		return answer{}, bad("step: %w", err)
	case step < time.Millisecond: // in which the engine counts: it would divide by zero
		return answer{}, bad("step: must be a millisecond at least")
	case end.Before(start):
		return answer{}, bad("end: is before start")
	case end.Sub(start)/step > maxPoints:
		return answer{}, bad("%d points are more than %d for each series; ask for a longer step or a shorter range", end.Sub(start)/step, maxPoints)
	}
	return s.ask(r, func(ctx context.Context, text string) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, s.db, nil, text, start, end, step)
	})
}

func (s *Store) ask(r *http.Request, begin func(context.Context, string) (promql.Query, error)) (answer, error) {
	text := r.FormValue("query")
	ctx, done, err := s.turn(r)
	if err != nil {
		return answer{}, err
	}
	defer done()
	q, err := begin(ctx, text)
	if err != nil {
		return answer{}, bad("invalid query: %w", err)
	}
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return answer{}, executed(result.Err)
	}
	return answer{data: map[string]any{"resultType": result.Value.Type(), "result": plain(result.Value)}, warnings: result.Warnings, query: text}, nil
}

// executed says of what kind the failure of a query is.
func executed(err error) error {
	kind := "execution"
	var (
		canceled promql.ErrQueryCanceled
		timeout  promql.ErrQueryTimeout
		stored   promql.ErrStorage
		many     promql.ErrTooManySamples
	)
	switch {
	case errors.As(err, &canceled):
		kind = "canceled"
	case errors.As(err, &timeout):
		kind, err = "timeout", fmt.Errorf("%w after %s; ask for less at once", err, queryTime)
	case errors.As(err, &stored):
		kind = "internal"
	case errors.As(err, &many):
		err = fmt.Errorf("%w: %d at most; ask for fewer series or a shorter range", err, maxSamples)
	}
	return &apiError{kind, err}
}

// plain is a value as Prometheus's API has it.
func plain(v parser.Value) any {
	switch v := v.(type) {
	case promql.Scalar:
		return point(v.T, v.V)
	case promql.String:
		return [2]any{float64(v.T) / 1000, v.V}
	case promql.Vector:
		all := make([]map[string]any, 0, len(v))
		for _, s := range v {
			if s.H == nil {
				all = append(all, map[string]any{"metric": s.Metric, "value": point(s.T, s.F)})
			}
		}
		return all
	case promql.Matrix:
		all := make([]map[string]any, 0, len(v))
		for _, s := range v {
			points := make([][2]any, len(s.Floats))
			for i, p := range s.Floats {
				points[i] = point(p.T, p.F)
			}
			if len(points) > 0 {
				all = append(all, map[string]any{"metric": s.Metric, "values": points})
			}
		}
		return all
	}
	return nil
}

// point is a time in seconds and a value in words: JSON has no NaN.
func point(ms int64, value float64) [2]any {
	return [2]any{float64(ms) / 1000, strconv.FormatFloat(value, 'f', -1, 64)}
}

// selection is which series a request is about, and when.
type selection struct {
	sets  [][]*labels.Matcher
	from  int64 // ms
	until int64
	limit int
}

// more is what to ask for, so that one sees whether the limit left something out.
func (sel selection) more() int { return sel.limit + 1 }

func (s *Store) selection(r *http.Request, needed bool) (selection, error) {
	sel := selection{limit: maxSeries}
	end, err := moment(r, "end", s.now())
	if err != nil {
		return sel, err
	}
	start, err := moment(r, "start", end.Add(-defaultWithin))
	if err != nil {
		return sel, err
	}
	sel.from, sel.until = start.UnixMilli(), end.UnixMilli()
	if l := r.FormValue("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 0 {
			return sel, bad("limit: %q is no number", l)
		}
		if n > 0 {
			sel.limit = min(n, maxSeries)
		}
	}
	for _, text := range r.Form["match[]"] {
		set, err := s.parser.ParseMetricSelector(text)
		if err != nil {
			return sel, bad("match[]: %w", err)
		}
		sel.sets = append(sel.sets, set)
	}
	if needed && len(sel.sets) == 0 {
		return sel, bad("no match[] was given")
	}
	return sel, nil
}

// look opens what a selection is about, in its turn.
func (s *Store) look(r *http.Request, needed bool, do func(context.Context, selection, storage.Querier) (answer, error)) (answer, error) {
	sel, err := s.selection(r, needed)
	if err != nil {
		return answer{}, err
	}
	ctx, done, err := s.turn(r)
	if err != nil {
		return answer{}, err
	}
	defer done()
	q, err := s.db.Querier(sel.from, sel.until)
	if err != nil {
		return answer{}, err
	}
	defer q.Close()
	a, err := do(ctx, sel, q)
	if err != nil && ctx.Err() != nil {
		err = &apiError{"timeout", err}
	}
	return a, err
}

func (s *Store) series(r *http.Request) (answer, error) {
	return s.look(r, true, func(ctx context.Context, sel selection, q storage.Querier) (answer, error) {
		hints := &storage.SelectHints{Start: sel.from, End: sel.until, Func: "series", Limit: sel.more()} // no samples are read
		var sets []storage.SeriesSet
		for _, set := range sel.sets {
			sets = append(sets, q.Select(ctx, true, hints, set...))
		}
		merged := storage.NewMergeSeriesSet(sets, sel.more(), storage.ChainedSeriesMerge)
		all := []labels.Labels{}
		a := answer{}
		for merged.Next() {
			if len(all) == sel.limit {
				a.warnings.Add(fmt.Errorf("only the first %d series are shown", sel.limit))
				break
			}
			all = append(all, merged.At().Labels())
		}
		a.data = all
		return a, merged.Err()
	})
}

func (s *Store) labelNames(r *http.Request) (answer, error) {
	return s.words(r, func(ctx context.Context, q storage.Querier, hints *storage.LabelHints, set []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, hints, set...)
	})
}

func (s *Store) labelValues(r *http.Request) (answer, error) {
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return answer{}, bad("%q can be no label", name)
	}
	return s.words(r, func(ctx context.Context, q storage.Querier, hints *storage.LabelHints, set []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, hints, set...)
	})
}

// words gathers names or values of labels over all sets.
func (s *Store) words(r *http.Request, of func(context.Context, storage.Querier, *storage.LabelHints, []*labels.Matcher) ([]string, annotations.Annotations, error)) (answer, error) {
	return s.look(r, false, func(ctx context.Context, sel selection, q storage.Querier) (answer, error) {
		if len(sel.sets) == 0 {
			sel.sets = [][]*labels.Matcher{nil}
		}
		var a answer
		all := []string{}
		for _, set := range sel.sets {
			some, warnings, err := of(ctx, q, &storage.LabelHints{Limit: sel.more()}, set)
			if err != nil {
				return a, err
			}
			a.warnings.Merge(warnings)
			all = append(all, some...)
		}
		slices.Sort(all)
		if all = slices.Compact(all); len(all) > sel.limit {
			all = all[:sel.limit]
			a.warnings.Add(fmt.Errorf("only the first %d are shown", sel.limit))
		}
		a.data = all
		return a, nil
	})
}

func (s *Store) formatQuery(r *http.Request) (answer, error) {
	e, err := s.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, bad("invalid query: %w", err)
	}
	return answer{data: e.Pretty(0)}, nil
}

// moment reads a time as Prometheus does: seconds since the epoch, or RFC 3339.
func moment(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		if otherwise.IsZero() {
			return otherwise, bad("%s: is needed", name)
		}
		return otherwise, nil
	}
	if sec, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(sec) || math.Abs(sec) > math.MaxInt32*1000 {
			return time.Time{}, bad("%s: %s is out of range", name, text)
		}
		return time.UnixMilli(int64(math.Round(sec * 1000))).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, bad("%s: %q is no time", name, text)
	}
	return at, nil
}

// duration reads seconds, or Prometheus's words for a duration: 5m.
func duration(text string) (time.Duration, error) {
	if sec, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
		if math.IsNaN(sec) || math.Abs(sec) > math.MaxInt32 {
			return 0, fmt.Errorf("%s is out of range", text)
		}
		return time.Duration(sec * float64(time.Second)), nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}
