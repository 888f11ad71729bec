package control

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"howdah/problem"
)

// metricsSay gives a cluster whose store of metrics answers path with body.
func metricsSay(t *testing.T, answers map[string]string) *Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			body = `{"status":"error","errorType":"bad_data","error":"invalid query: unclosed left parenthesis"}`
		}
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return &Cluster{Name: "demo", door: direct, metrics: server.URL}
}

// Alerts are those of the cluster and of nobody's, what fires first, the worst first.
func TestAlerts(t *testing.T) {
	c := metricsSay(t, map[string]string{"/api/v1/alerts": `{"status":"success","data":{"alerts":[
		{"labels":{"alertname":"NodeLoadHigh","severity":"WARN","cls":"demo","ins":"demo-2","problem":"processor-high"},"annotations":{"summary":"busy"},"state":"firing","activeAt":"2026-11-22T03:00:00Z"},
		{"labels":{"alertname":"PostgresDown","severity":"CRIT","cls":"demo","ins":"demo-3"},"annotations":{},"state":"pending","activeAt":"2026-11-22T03:00:00Z"},
		{"labels":{"alertname":"Own","severity":"page"},"annotations":{},"state":"firing","activeAt":"2026-11-22T03:00:00Z"},
		{"labels":{"alertname":"MemberDown","severity":"CRIT","cls":"demo","ins":"demo-3"},"annotations":{},"state":"firing","activeAt":"2026-11-22T03:00:00Z"},
		{"labels":{"alertname":"MemberDown","severity":"CRIT","cls":"other","ins":"other-1"},"annotations":{},"state":"firing","activeAt":"2026-11-22T03:00:00Z"}]}}`})
	all, err := c.Alerts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		got = append(got, a.State+" "+a.Name+" "+a.Member)
	}
	want := "firing MemberDown demo-3, firing NodeLoadHigh demo-2, firing Own , pending PostgresDown demo-3"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
	if n := len((Alerts{All: all}).Firing()); n != 3 {
		t.Errorf("%d fire, want 3", n)
	}
	if all[1].Problem != "processor-high" || all[1].Summary != "busy" || all[1].Since.IsZero() {
		t.Errorf("got %+v", all[1])
	}
}

// What the store refuses, does not answer, or what nobody keeps is said so.
func TestMetricsRefused(t *testing.T) {
	c := metricsSay(t, nil)
	if _, err := c.Query(t.Context(), "sum("); problem.Code(err) != "metrics-query" || !strings.Contains(err.Error(), "unclosed") {
		t.Errorf("got %v", err)
	}
	c = metricsSay(t, map[string]string{"/api/v1/query": `{"status":"success","data":{"resultType":"matrix","result":[]}}`})
	if _, err := c.Query(t.Context(), "pg_up[1m]"); problem.Code(err) != "metrics-query" {
		t.Errorf("got %v", err)
	}
	c = metricsSay(t, map[string]string{"/api/v1/alerts": `no JSON`})
	if _, err := c.Alerts(t.Context()); problem.Code(err) != "metrics-away" {
		t.Errorf("got %v", err)
	}
	if a := c.alerts(t.Context()); a == nil || a.Unwell == "" {
		t.Errorf("got %+v", a)
	}
	c.metrics = ""
	if _, err := c.Rules(t.Context()); problem.Code(err) != "metrics-none" {
		t.Errorf("got %v", err)
	}
	if a := c.alerts(t.Context()); a != nil {
		t.Errorf("got %+v of nobody", a)
	}
}

// An answer has values for now, whatever it is.
func TestQuery(t *testing.T) {
	c := metricsSay(t, map[string]string{"/api/v1/query": `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"ins":"demo-1"},"value":[1,"NaN"]}]}}`})
	all, err := c.Query(t.Context(), "pg_lag")
	if err != nil || len(all) != 1 || all[0].Value != "NaN" || all[0].Labels["ins"] != "demo-1" {
		t.Errorf("got %v, %v", all, err)
	}
	c = metricsSay(t, map[string]string{"/api/v1/query": `{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}`})
	if all, err := c.Query(t.Context(), "1+2"); err != nil || len(all) != 1 || all[0].Value != "3" {
		t.Errorf("got %v, %v", all, err)
	}
}
