package loki

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"howdah/control"
	"howdah/observe/logbook"
	"howdah/problem"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// kept are logs of which everything is known: a record of each job every second.
type kept struct {
	all  []logbook.Record
	away []string // members that can not be asked
	hold chan struct{}
}

func logs(seconds int) *kept {
	k := &kept{}
	for i := range seconds {
		for _, member := range []string{"demo-1", "demo-2"} {
			for job, level := range map[string]logbook.Level{"postgres": logbook.Level(1 + i%4), "agent": logbook.Info} {
				k.all = append(k.all, logbook.Record{
					Source: logbook.Source{Cluster: "demo", Member: member, IP: "10.10.10.1", Job: job}, Time: noon.Add(time.Duration(i) * time.Second), Level: level,
					Message: fmt.Sprintf("<%d> of %s", i, job), Fields: []logbook.Field{{Name: "user", Value: "app"}},
				})
			}
		}
	}
	return k
}

func (k *kept) Sources() []logbook.Source {
	return []logbook.Source{{Cluster: "demo", Member: "demo-1", IP: "10.10.10.1"}, {Cluster: "demo", Member: "demo-2", IP: "10.10.10.1"}}
}

func (k *kept) missing(away func(error)) func(member string) bool {
	for _, m := range k.away {
		away(&problem.Error{Code: "logs-away", What: "cannot read the logs of " + m})
	}
	return func(member string) bool { return strings.Contains(strings.Join(k.away, " "), member) }
}

func (k *kept) Streams(_ context.Context, away func(error)) map[logbook.Source]uint {
	gone := k.missing(away)
	all := map[logbook.Source]uint{}
	for _, r := range k.all {
		if !gone(r.Member) {
			all[r.Source] |= 1 << r.Level
		}
	}
	return all
}

func (k *kept) Read(ctx context.Context, q control.LogQuery, tell func(logbook.Record) error) error {
	if k.hold != nil {
		select {
		case <-k.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	gone := k.missing(q.Away)
	var found []logbook.Record
	for _, r := range k.all {
		if q.Wants(r) && !gone(r.Member) {
			found = append(found, r)
		}
	}
	if q.Last > 0 {
		found = found[max(0, len(found)-q.Last):]
	}
	for _, r := range found {
		if err := tell(r); err != nil {
			return err
		}
	}
	return nil
}

type said struct {
	code int
	text string
	Data struct {
		ResultType string
		Result     []struct {
			Stream, Metric map[string]string
			Values         [][2]any
			Value          [2]any
		}
	}
	Warnings []string
}

func (s said) lines() (n int) {
	for _, r := range s.Data.Result {
		n += len(r.Values)
	}
	return n
}

func ask(t *testing.T, h http.Handler, path string, form url.Values) (s said) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/loki/api/v1/"+path+"?"+form.Encode(), nil))
	s.code, s.text = w.Code, strings.TrimSpace(w.Body.String())
	if s.code == http.StatusOK && strings.Contains(s.text, `"resultType"`) {
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatalf("%s: %v", s.text, err)
		}
	}
	return s
}

func over(query string, more ...string) url.Values {
	form := url.Values{"query": {query}, "start": {fmt.Sprint(noon.UnixNano())}, "end": {noon.Add(time.Minute).Format(time.RFC3339)}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

var quiet = slog.New(slog.DiscardHandler)

// Lines are told by their streams, as many as are asked for, from the end that is asked
// for, and of the time that is asked for.
func TestLines(t *testing.T) {
	h := Handler(logs(60), quiet)
	for _, tt := range []struct {
		name  string
		form  url.Values
		lines int
		first string // in the first line
	}{
		{"the newest", over(`{cls="demo", job="agent", ins="demo-1"}`, "limit", "10"), 10, "<59> of agent"},
		{"as many as usual", over(`{cls="demo"}`), 100, "<59>"},
		{"the oldest", over(`{job="agent", ins="demo-2"}`, "direction", "FORWARD", "limit", "7"), 7, "<0> of agent"},
		{"with a text", over(`{cls="demo"} |= "<7>"`), 4, "<7>"},
		{"of a field", over("{job=\"postgres\"} | json | user=\"app\" |~ `<1\\d>`", "limit", "1000"), 20, "<19>"},
		{"until then", over(`{job="agent", ins="demo-1"}`, "end", fmt.Sprint(noon.Unix()+5)), 5, "<4>"},
		{"since then", over(`{job="agent", ins="demo-1"}`, "start", fmt.Sprint(noon.Unix()+55)), 5, "<59>"},
		{"of nobody", over(`{cls="other"}`), 0, ""},
	} {
		s := ask(t, h, "query_range", tt.form)
		if s.code != 200 || s.Data.ResultType != "streams" || s.lines() != tt.lines {
			t.Errorf("%s: %d, %d lines: %.200s", tt.name, s.code, s.lines(), s.text)
			continue
		}
		if tt.lines > 0 && (!strings.Contains(s.Data.Result[0].Values[0][1].(string), tt.first) || s.Data.Result[0].Stream["cls"] != "demo") {
			t.Errorf("%s begins with %v of %v", tt.name, s.Data.Result[0].Values[0], s.Data.Result[0].Stream)
		}
	}
	for name, form := range map[string]url.Values{
		"invalid": over(`{cls=`), "max entries limit": over(`{cls="demo"}`, "limit", "5001"), "no number": over(`{cls="demo"}`, "limit", "x"),
		"no time": over(`{cls="demo"}`, "start", "then"), "before start": over(`{cls="demo"}`, "end", "1"), "neither": over(`{cls="demo"}`, "direction", "up"),
		"more than 11000 steps": over(`count_over_time({cls="demo"}[10h])`, "step", "1s"), "are more than 11000 for each": over(`count_over_time({cls="demo"}[1s])`, "step", "0.001"), "not served": over(`topk(1, rate({cls="demo"}[1m]))`),
	} {
		if s := ask(t, h, "query_range", form); s.code != 400 || name != "invalid" && !strings.Contains(s.text, name) {
			t.Errorf("%s: %d %s", name, s.code, s.text)
		}
	}
}

// What Grafana draws above the lines is how many there were.
func TestCounts(t *testing.T) {
	h := Handler(logs(60), quiet)
	s := ask(t, h, "query_range", over(`sum by (level, detected_level) (count_over_time({job="postgres"} | drop __error__[10s]))`, "step", "10s"))
	if s.code != 200 || s.Data.ResultType != "matrix" || len(s.Data.Result) != 4 {
		t.Fatalf("%d %s", s.code, s.text)
	}
	total := 0.0
	for _, r := range s.Data.Result {
		if len(r.Metric) != 1 || r.Metric["level"] == "" {
			t.Errorf("a series of %v", r.Metric)
		}
		for _, v := range r.Values {
			var n float64
			fmt.Sscan(v[1].(string), &n)
			total += n
		}
	}
	if total != 120 {
		t.Errorf("%v were counted, of 120: %s", total, s.text)
	}
	// Every moment has those of the time before it, also where that overlaps.
	s = ask(t, h, "query_range", over(`sum(count_over_time({job="agent", ins="demo-1"}[20s]))`, "step", "10"))
	if got := fmt.Sprintln(s.Data.Result[0].Values[0][1], s.Data.Result[0].Values[1][1], s.Data.Result[0].Values[3][1], s.Data.Result[0].Values[6][1]); got != "1 11 20 19\n" {
		t.Errorf("counted %s: %s", got, s.text)
	}
	if s := ask(t, h, "query", url.Values{"query": {`sum(rate({job="agent"}[1m]))`}, "time": {fmt.Sprint(noon.Unix() + 59)}}); s.Data.ResultType != "vector" || s.Data.Result[0].Value[1] != "2" {
		t.Errorf("at a moment: %s", s.text)
	}
	if s := ask(t, h, "query", url.Values{"query": {"vector(1)+vector(1)"}}); s.Data.Result[0].Value[1] != "2" {
		t.Errorf("Grafana's own: %s", s.text)
	}
	if s := ask(t, h, "query", url.Values{"query": {`{cls="demo"}`}}); s.code != 400 || !strings.Contains(s.text, "instant query") {
		t.Errorf("lines of a moment: %d %s", s.code, s.text)
	}
}

func TestLabels(t *testing.T) {
	h := Handler(logs(60), quiet)
	for path, want := range map[string]string{
		"labels": `["cls","ins","ip","job","level"]`, "label/ins/values": `["demo-1","demo-2"]`, "label/job/values": `["agent","postgres"]`,
		"label/level/values?": `["err","info","notice","warning"]`, "label/user/values": `[]`,
		`label/level/values?query={job="agent"}`: `["info"]`, `label/ins/values?query={ins=~".*2"}`: `["demo-2"]`,
		`series?match[]={job="agent",ins="demo-1"}`: `[{"cls":"demo","ins":"demo-1","ip":"10.10.10.1","job":"agent","level":"info"}]`,
	} {
		path, query, _ := strings.Cut(path, "?")
		name, value, _ := strings.Cut(query, "=")
		if s := ask(t, h, path, url.Values{name: {value}}); s.text != `{"status":"success","data":`+want+`}` {
			t.Errorf("%s?%s: %s", path, query, s.text)
		}
	}
	if s := ask(t, h, "label/job/values", url.Values{"query": {"{"}}); s.code != 400 {
		t.Errorf("%d %s", s.code, s.text)
	}
}

// Of machines that are away the others' lines are told, with a warning; that nobody can
// be asked is an error, and no empty answer.
func TestAway(t *testing.T) {
	k := logs(10)
	h := Handler(k, quiet)
	k.away = []string{"demo-2"}
	if s := ask(t, h, "query_range", over(`{job="agent"}`)); s.code != 200 || s.lines() != 10 || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "demo-2") {
		t.Errorf("%d %s", s.code, s.text)
	}
	if s := ask(t, h, "query_range", over(`{ins="demo-2"}`)); s.code != http.StatusBadGateway || !strings.Contains(s.text, "demo-2") {
		t.Errorf("the only one that is asked: %d %s", s.code, s.text)
	}
	k.away = []string{"demo-1", "demo-2"}
	for _, path := range []string{"query_range", "label/job/values"} {
		if s := ask(t, h, path, over(`{cls="demo"}`)); s.code != http.StatusBadGateway {
			t.Errorf("%s of nobody: %d %s", path, s.code, s.text)
		}
	}
}

// So many are answered at a time; who comes beyond that waits, and is told.
func TestTurns(t *testing.T) {
	k := logs(1)
	k.hold = make(chan struct{})
	l := &api{of: k, log: quiet, now: time.Now, turns: make(chan struct{}, 1)}
	l.turns <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.turn(ctx, func() error { return nil }) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-l.turns
	if err := l.turn(t.Context(), func() error { return nil }); err != nil || len(l.turns) != 0 {
		t.Errorf("got %v, %d left", err, len(l.turns))
	}
}
