// Package loki answers Grafana, and whoever else reads logs from a Loki: the part of
// its HTTP API that asks for lines, for how many there were, and for labels.
//
// It keeps nothing itself: whoever kept the logs is asked each time. What one question
// may take is bounded, and who asks for more is told what is too much. Source: "Loki
// HTTP API" in Loki's manual.
package loki

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/bits"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/control"
	"howdah/logkey"
	"howdah/observe/logbook"
	"howdah/problem"
)

// What one question may ask for.
const (
	usualTime   = time.Hour // that is asked about, unless somebody says
	usualLines  = 100
	maxLines    = 5000
	maxBytes    = 16 << 20 // of lines in one answer
	maxPoints   = 11_000   // of a count
	maxAskers   = 4        // at once
	waitWithin  = 5 * time.Second
	readWithin  = 30 * time.Second
	maxQuestion = 1 << 20
)

// Logs are where the lines are.
type Logs interface {
	Sources() []logbook.Source
	Streams(ctx context.Context, away func(error)) map[logbook.Source]uint
	Read(ctx context.Context, q control.LogQuery, tell func(logbook.Record) error) error
}

// Handler answers below /loki/api/v1.
func Handler(of Logs, log *slog.Logger) http.Handler {
	l := &api{of: of, log: log, now: time.Now, turns: make(chan struct{}, maxAskers)}
	mux := http.NewServeMux()
	for path, f := range map[string]func(*http.Request) (answer, error){
		"query_range": l.queryRange, "query": l.query, "labels": l.labels, "label/{name}/values": l.values, "series": l.series,
	} {
		handle := l.call(f)
		mux.HandleFunc("GET /loki/api/v1/"+path, handle)
		mux.HandleFunc("POST /loki/api/v1/"+path, handle)
	}
	return mux
}

type api struct {
	of    Logs
	log   *slog.Logger
	now   func() time.Time
	turns chan struct{}
}

// An answer is what a call has to say.
type answer struct {
	data     any
	warnings []string
}

// A refusal is of a question that can not be asked so.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

var errBusy = fmt.Errorf("%d questions are answered already, and none has ended in %s; ask again later", maxAskers, waitWithin)

// call answers as Loki does: an envelope of JSON, or an error as text.
func (l *api) call(f func(*http.Request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxQuestion)
		ctx, cancel := context.WithTimeout(r.Context(), readWithin)
		defer cancel()
		a, err := answer{}, r.ParseForm()
		if err == nil {
			err = l.turn(ctx, func() (err error) {
				a, err = f(r.WithContext(ctx))
				return err
			})
		}
		var refused refusal
		switch {
		case err == nil:
		case errors.As(err, &refused):
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		case errors.Is(err, errBusy):
			http.Error(w, err.Error(), http.StatusTooManyRequests)
			return
		case r.Context().Err() != nil:
			return // who asked has gone
		case ctx.Err() != nil:
			http.Error(w, fmt.Sprintf("it takes longer than %s; ask about less time, or for one job or member", readWithin), http.StatusGatewayTimeout)
			return
		default:
			l.log.Warn("logs not told", logkey.Addr, r.RemoteAddr, logkey.Error, err)
			http.Error(w, problem.Text(err), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		to := json.NewEncoder(w)
		to.SetEscapeHTML(false)
		_ = to.Encode(struct { // a client that went away is no matter
			Status   string   `json:"status"`
			Data     any      `json:"data"`
			Warnings []string `json:"warnings,omitempty"`
		}{"success", a.data, a.warnings})
	}
}

// turn waits until there is room for another question.
func (l *api) turn(ctx context.Context, do func() error) error {
	timer := time.NewTimer(waitWithin)
	defer timer.Stop()
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
		return do()
	case <-timer.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A span is the time that is asked about.
type span struct{ from, to time.Time }

func (l *api) span(r *http.Request) (s span, err error) {
	if s.to, err = moment(r.FormValue("end"), l.now()); err != nil {
		return s, refuse("end: %w", err)
	}
	since := usualTime
	if text := r.FormValue("since"); text != "" {
		if since, err = time.ParseDuration(text); err != nil {
			return s, refuse("since: %w", err)
		}
	}
	if s.from, err = moment(r.FormValue("start"), s.to.Add(-since)); err != nil {
		return s, refuse("start: %w", err)
	}
	if s.to.Before(s.from) {
		return s, refuse("end is before start")
	}
	return s, nil
}

// moment reads a time as Loki does: nanoseconds, or seconds when they are few or a
// fraction, or RFC 3339.
func moment(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if len(strings.TrimPrefix(text, "-")) <= 10 {
			return time.Unix(n, 0), nil
		}
		return time.Unix(0, n), nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(s) < math.MaxInt32 {
		whole, part := math.Modf(s)
		return time.Unix(int64(whole), int64(part*1e9)), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, fmt.Errorf("%q is no time", text)
	}
	return at, nil
}

// read reads what is asked for, and says who could not be asked. That nobody could be
// is an error.
func (l *api) read(ctx context.Context, q control.LogQuery, tell func(logbook.Record) error) (warnings []string, err error) {
	q.Jobs = q.Selector.Jobs()
	var away []error
	q.Away = func(err error) { away = append(away, err) }
	err = l.of.Read(ctx, q, tell)
	return l.warned(q.Selector, away, err)
}

func (l *api) warned(of *logbook.Selector, away []error, err error) ([]string, error) {
	if err == nil && len(away) > 0 {
		asked := slices.DeleteFunc(l.of.Sources(), func(s logbook.Source) bool { return of != nil && !of.May(s) })
		if len(away) >= len(asked) {
			return nil, errors.Join(away...)
		}
	}
	var all []string
	for _, err := range away {
		all = append(all, problem.Text(err))
	}
	return all, err
}

// errEnough ends a reading of which there is enough.
var errEnough = errors.New("enough was read")

// A stream is lines with the same labels.
type stream struct {
	Labels map[string]string `json:"stream"`
	Values [][2]string       `json:"values"`
}

func (l *api) queryRange(r *http.Request) (answer, error) {
	lines, count, err := logbook.ParseLogQL(r.FormValue("query"))
	if err != nil {
		return answer{}, refusal{err}
	}
	s, err := l.span(r)
	if err != nil {
		return answer{}, err
	}
	if count != nil {
		return l.count(r, *count, s)
	}
	return l.lines(r, lines, s)
}

// lines tells lines: by default the newest first, as many as the limit says.
func (l *api) lines(r *http.Request, of *logbook.Selector, s span) (answer, error) {
	limit := usualLines
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil || n < 1:
			return answer{}, refuse("limit: %q is no number from 1", text)
		case n > maxLines:
			return answer{}, refuse("max entries limit per query exceeded, limit > max_entries_limit_per_query (%d > %d)", n, maxLines)
		}
		limit = n
	}
	// Loki's end is not part of it; ours is.
	q := control.LogQuery{Filter: logbook.Filter{Since: s.from, Until: s.to.Add(-1), Selector: of}}
	forward := false
	switch d := strings.ToLower(r.FormValue("direction")); d {
	case "", "backward":
		q.Last = limit
	case "forward":
		forward = true
	default:
		return answer{}, refuse("direction: %q is neither forward nor backward", d)
	}
	var all []logbook.Record
	bytes := 0
	warnings, err := l.read(r.Context(), q, func(one logbook.Record) error {
		if forward && (len(all) == limit || bytes > maxBytes) {
			return errEnough
		}
		all, bytes = append(all, one), bytes+len(one.Message)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return answer{}, err
	}
	if !forward {
		slices.Reverse(all)
	}
	streams, by := []*stream{}, map[string]*stream{}
	bytes = 0
	for _, one := range all {
		line, err := one.MarshalJSON()
		if err != nil {
			return answer{}, err
		}
		if bytes += len(line); bytes > maxBytes {
			warnings = append(warnings, fmt.Sprintf("there are more than %d MB of lines: some are left out", maxBytes>>20))
			break
		}
		labels := map[string]string{}
		key := ""
		for _, name := range logbook.Labels {
			if v := one.Label(name); v != "" {
				labels[name] = v
			}
			key += one.Label(name) + "\x00"
		}
		to := by[key]
		if to == nil {
			to = &stream{Labels: labels}
			by[key], streams = to, append(streams, to)
		}
		to.Values = append(to.Values, [2]string{strconv.FormatInt(one.Time.UnixNano(), 10), string(line)})
	}
	return answer{data: map[string]any{"resultType": "streams", "result": streams, "stats": struct{}{}}, warnings: warnings}, nil
}

// A counted series is how many lines there were at each step.
type counted struct {
	Labels map[string]string `json:"metric"`
	Values [][2]any          `json:"values"`
	at     map[int]float64
}

// count tells how many lines there were before each step.
func (l *api) count(r *http.Request, c logbook.Count, s span) (answer, error) {
	step := max(s.to.Sub(s.from)/250, time.Second).Truncate(time.Second)
	if text := r.FormValue("step"); text != "" {
		var err error
		if sec, no := strconv.ParseFloat(text, 64); no == nil && sec < math.MaxInt32 {
			step = time.Duration(sec * float64(time.Second))
		} else if step, err = time.ParseDuration(text); err != nil {
			return answer{}, refuse("step: %w", err)
		}
	}
	switch points := s.to.Sub(s.from) / max(step, 1); {
	case step < time.Millisecond:
		return answer{}, refuse("step: must be a millisecond at least")
	case points > maxPoints:
		return answer{}, refuse("%d points are more than %d for each series; ask for a longer step or less time", points, maxPoints)
	case c.Over/step > maxPoints:
		return answer{}, refuse("[%s] is more than %d steps of %s", c.Over, maxPoints, step)
	}
	var all []*counted
	by := map[string]*counted{}
	per := 1.0
	if c.Rate {
		per = c.Over.Seconds()
	}
	steps := int(s.to.Sub(s.from) / step)
	q := control.LogQuery{Filter: logbook.Filter{Since: s.from.Add(-c.Over), Until: s.to, Selector: c.Selector}}
	warnings, err := l.read(r.Context(), q, func(r logbook.Record) error {
		labels := c.Group(r)
		key := fmt.Sprint(labels) // sorted by name
		to := by[key]
		if to == nil {
			to = &counted{Labels: labels, at: map[int]float64{}}
			by[key], all = to, append(all, to)
		}
		// It counts at every step t with t-over < time <= t.
		first := max(0, int((r.Time.Sub(s.from)+step-1)/step))
		for i := first; i <= steps && s.from.Add(time.Duration(i)*step-c.Over).Before(r.Time); i++ {
			to.at[i]++
		}
		return nil
	})
	if err != nil {
		return answer{}, err
	}
	result := []*counted{}
	for _, to := range all {
		for i := range steps + 1 {
			if n := to.at[i]; n > 0 {
				to.Values = append(to.Values, [2]any{float64(s.from.Add(time.Duration(i)*step).UnixMilli()) / 1000, strconv.FormatFloat(n/per, 'f', -1, 64)})
			}
		}
		if len(to.Values) > 0 {
			result = append(result, to)
		}
	}
	return answer{data: map[string]any{"resultType": "matrix", "result": result, "stats": struct{}{}}, warnings: warnings}, nil
}

// query is a question about one moment: how many lines there were before it, or
// Grafana's own, by which it sees whether anybody answers.
func (l *api) query(r *http.Request) (answer, error) {
	at, err := moment(r.FormValue("time"), l.now())
	if err != nil {
		return answer{}, refuse("time: %w", err)
	}
	point := func(v string) [2]any { return [2]any{float64(at.UnixMilli()) / 1000, v} }
	vector := func(all ...any) answer {
		if all == nil {
			all = []any{}
		}
		return answer{data: map[string]any{"resultType": "vector", "result": all, "stats": struct{}{}}}
	}
	text := r.FormValue("query")
	if strings.ReplaceAll(text, " ", "") == "vector(1)+vector(1)" {
		return vector(map[string]any{"metric": struct{}{}, "value": point("2")}), nil
	}
	_, c, err := logbook.ParseLogQL(text)
	switch {
	case err != nil:
		return answer{}, refusal{err}
	case c == nil:
		return answer{}, refuse("log queries are not supported as an instant query type, please change your query to a range query type")
	}
	a, err := l.count(r, *c, span{at, at})
	if err != nil {
		return a, err
	}
	var all []any
	for _, of := range a.data.(map[string]any)["result"].([]*counted) {
		all = append(all, map[string]any{"metric": of.Labels, "value": point(of.Values[0][1].(string))})
	}
	v := vector(all...)
	v.warnings = a.warnings
	return v, nil
}

func (l *api) labels(*http.Request) (answer, error) { return answer{data: logbook.Labels}, nil }

// values are those of a label; of a job only who has its logs knows.
func (l *api) values(r *http.Request) (answer, error) {
	name := r.PathValue("name")
	found, warnings, err := l.streams(r, r.FormValue("query"), name == "job" || name == "level")
	values := []string{}
	for _, labels := range found {
		if v := labels[name]; v != "" {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return answer{data: slices.Compact(values), warnings: warnings}, err
}

func (l *api) series(r *http.Request) (answer, error) {
	all := []map[string]string{}
	var warnings []string
	for _, text := range append(r.Form["match[]"], r.Form["match"]...) {
		found, some, err := l.streams(r, text, true)
		if err != nil {
			return answer{}, err
		}
		all, warnings = append(all, found...), append(warnings, some...)
	}
	return answer{data: all, warnings: warnings}, nil
}

// streams are the labels that a selector finds; "" and {} find all.
func (l *api) streams(r *http.Request, query string, jobs bool) (all []map[string]string, warnings []string, err error) {
	var of *logbook.Selector
	if query = strings.TrimSpace(query); query != "" && query != "{}" {
		if of, err = logbook.ParseSelector(query); err != nil {
			return nil, nil, refusal{err}
		}
	}
	if !jobs && (of == nil || of.Jobs() == nil) {
		for _, s := range l.of.Sources() {
			if of == nil || of.May(s) {
				all = append(all, map[string]string{"cls": s.Cluster, "ins": s.Member, "ip": s.IP})
			}
		}
		return all, nil, nil
	}
	var away []error
	streams := l.of.Streams(r.Context(), func(err error) { away = append(away, err) })
	for s, levels := range streams {
		for level := range logbook.Levels[:min(bits.Len(levels), len(logbook.Levels))] {
			if l := logbook.Level(level); levels&(1<<level) != 0 && (of == nil || of.Stream(s, l)) {
				all = append(all, map[string]string{"cls": s.Cluster, "ins": s.Member, "ip": s.IP, "job": s.Job, "level": l.String()})
			}
		}
		if l := logbook.Info; levels == 0 && (of == nil || of.Stream(s, l)) { // nothing of it is in a segment yet
			all = append(all, map[string]string{"cls": s.Cluster, "ins": s.Member, "ip": s.IP, "job": s.Job, "level": l.String()})
		}
	}
	slices.SortFunc(all, func(a, b map[string]string) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	warnings, err = l.warned(nil, away, nil)
	return all, warnings, err
}
