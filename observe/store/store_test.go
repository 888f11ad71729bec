package store

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"howdah/observe/alert"
	"howdah/spec"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Options{
		Node: spec.Node{Host: "10.10.10.11", Observe: spec.Observe{
			Listen: []string{"127.0.0.1:0"}, Data: t.TempDir(), Every: 10 * time.Second, Keep: time.Hour, Size: 1 << 30,
		}},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// get asks the API and returns its answer in one line.
func get(t *testing.T, s *Store, path string, form url.Values) (code int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path+"?"+form.Encode(), nil))
	return w.Code, strings.TrimSpace(w.Body.String())
}

// What is put in is found, in Prometheus's words; who asks for too much is told so.
func TestAnswers(t *testing.T) {
	s := open(t)
	now := time.Now().Truncate(time.Second)
	s.now = func() time.Time { return now }
	app := s.db.Appender(t.Context())
	for i := range 3 {
		for _, ins := range []string{"demo-1", "demo-2"} {
			l := labels.FromStrings("__name__", "pg_up", "cls", "demo", "ins", ins)
			if _, err := app.Append(0, l, now.Add(time.Duration(i-2)*10*time.Second).UnixMilli(), float64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprint(now.Unix())
	for _, tt := range []struct {
		path string
		form url.Values
		code int
		want string
	}{
		{"/api/v1/query", url.Values{"query": {`sum by (cls) (pg_up)`}}, 200, `{"status":"success","data":{"result":[{"metric":{"cls":"demo"},"value":[` + at + `,"4"]}],"resultType":"vector"}}`},
		{"/api/v1/query", url.Values{"query": {`1/0`}}, 200, `{"status":"success","data":{"result":[` + at + `,"+Inf"],"resultType":"scalar"}}`},
		{
			"/api/v1/query_range",
			url.Values{"query": {`max(pg_up)`}, "start": {fmt.Sprint(now.Unix() - 10)}, "end": {at}, "step": {"10"}},
			200,
			fmt.Sprintf(`{"status":"success","data":{"result":[{"metric":{},"values":[[%d,"1"],[%s,"2"]]}],"resultType":"matrix"}}`, now.Unix()-10, at),
		},
		{"/api/v1/series", url.Values{"match[]": {`pg_up{ins="demo-2"}`}}, 200, `{"status":"success","data":[{"__name__":"pg_up","cls":"demo","ins":"demo-2"}]}`},
		{"/api/v1/label/ins/values", nil, 200, `{"status":"success","data":["demo-1","demo-2"]}`},
		{"/api/v1/labels", url.Values{"match[]": {"pg_up"}}, 200, `{"status":"success","data":["__name__","cls","ins"]}`},
		{"/api/v1/series", url.Values{"match[]": {`pg_up{ins="demo-1"}`, `pg_up{ins="demo-2"}`}, "limit": {"1"}}, 200, `"ins":"demo-1"}],"warnings":["only the first 1 series are shown"]}`},
		{"/api/v1/label/ins/values", url.Values{"limit": {"1"}}, 200, `{"status":"success","data":["demo-1"],"warnings":["only the first 1 are shown"]}`},
		{"/api/v1/label/ins/values", url.Values{"limit": {"2"}}, 200, `{"status":"success","data":["demo-1","demo-2"]}`},
		{"/api/v1/alerts", nil, 200, `{"status":"success","data":{"alerts":[]}}`},
		{"/-/ready", nil, 200, "Prometheus Server is Ready."},
		{"/api/v1/query", url.Values{"query": {`sum(`}}, 400, `"errorType":"bad_data"`},
		{"/api/v1/query", url.Values{"query": {`pg_up`}, "time": {"NaN"}}, 400, `time: NaN is out of range`},
		{"/api/v1/series", nil, 400, `no match[] was given`},
		{"/api/v1/query_range", url.Values{"query": {`pg_up`}, "start": {"0"}, "end": {at}, "step": {"1"}}, 400, `ask for a longer step or a shorter range`},
		{"/api/v1/query_range", url.Values{"query": {`pg_up`}, "start": {at}, "end": {at}, "step": {"0.0001"}}, 400, `step: must be a millisecond at least`},
		{"/api/v1/admin/tsdb/snapshot", nil, 400, `is not served here`},
	} {
		code, got := get(t, s, tt.path, tt.form)
		if code != tt.code || !strings.Contains(got, tt.want) {
			t.Errorf("%s %v: %d %s, want %d %s", tt.path, tt.form, code, got, tt.code, tt.want)
		}
	}
}

// Nobody waits for ever for his turn to ask.
func TestTooManyAskers(t *testing.T) {
	s := open(t)
	for range maxQueries {
		give, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer give()
	}
	if code, got := get(t, s, "/api/v1/query", url.Values{"query": {"1"}, "timeout": {"100ms"}}); code != 499 || !strings.Contains(got, `"errorType":"canceled"`) {
		t.Errorf("a query too many: %d %s", code, got)
	}
}

// The rules that ship are rules, each alert says how bad it is and where to read
// on, and no two derived series have one name.
func TestShippedRules(t *testing.T) {
	s := open(t)
	named := map[string]bool{}
	count := 0
	for _, f := range alert.Shipped() {
		groups, errs := loader{s.parser, s.Log}.Load(shipped+f.Name, false, model.UTF8Validation)
		for _, err := range errs {
			t.Errorf("%s: %v", f.Name, err)
		}
		if groups == nil {
			continue
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				count++
				name := r.Record + r.Alert
				if named[name] {
					t.Errorf("%s: %s is there twice", f.Name, name)
				}
				named[name] = true
				if r.Alert != "" && (r.Labels["problem"] == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "") {
					t.Errorf("%s: alert %s has no problem, severity or summary", f.Name, r.Alert)
				}
				if strings.Contains(r.Expr, " "+r.Record+" ") || r.Expr == r.Record && r.Record != "" {
					t.Errorf("%s: %s is derived from itself", f.Name, r.Record)
				}
			}
		}
	}
	if count < 250 {
		t.Errorf("%d rules: fewer than ship", count)
	}
	code, body := get(t, s, "/api/v1/rules", url.Values{"type": {"alert"}})
	var told struct {
		Data struct{ Groups []struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil || code != 200 || len(told.Data.Groups) == 0 {
		t.Errorf("/rules: %d %v %.200s", code, err, body)
	}
}
