package control

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/nodefile"
	"howdah/observe/notice"
	"howdah/observe/silence"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
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
	return &Cluster{Name: "demo", door: direct, metrics: MetricStore{url: server.URL}}
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
	if _, err := c.metrics.Query(t.Context(), "sum("); problem.Code(err) != "metrics-query" || !strings.Contains(err.Error(), "unclosed") {
		t.Errorf("got %v", err)
	}
	c = metricsSay(t, map[string]string{"/api/v1/query": `{"status":"success","data":{"resultType":"matrix","result":[]}}`})
	if _, err := c.metrics.Query(t.Context(), "pg_up[1m]"); problem.Code(err) != "metrics-query" {
		t.Errorf("got %v", err)
	}
	c = metricsSay(t, map[string]string{"/api/v1/alerts": `no JSON`})
	if _, err := c.Alerts(t.Context()); problem.Code(err) != "metrics-away" {
		t.Errorf("got %v", err)
	}
	if a := c.alerts(t.Context()); a == nil || a.Unwell == "" {
		t.Errorf("got %+v", a)
	}
	c.metrics = MetricStore{}
	if _, err := c.metrics.Rules(t.Context()); problem.Code(err) != "metrics-none" {
		t.Errorf("got %v", err)
	}
	if a := c.alerts(t.Context()); a != nil {
		t.Errorf("got %+v of nobody", a)
	}
}

// An answer has values for now, whatever it is.
func TestQuery(t *testing.T) {
	c := metricsSay(t, map[string]string{"/api/v1/query": `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"ins":"demo-1"},"value":[1,"NaN"]}]}}`})
	all, err := c.metrics.Query(t.Context(), "pg_lag")
	if err != nil || len(all) != 1 || all[0].Value != "NaN" || all[0].Labels["ins"] != "demo-1" {
		t.Errorf("got %v, %v", all, err)
	}
	c = metricsSay(t, map[string]string{"/api/v1/query": `{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}`})
	if all, err := c.metrics.Query(t.Context(), "1+2"); err != nil || len(all) != 1 || all[0].Value != "3" {
		t.Errorf("got %v, %v", all, err)
	}
}

// A machine without a node of any cluster asks the store that it keeps, of all clusters,
// and silences there; one that only knows where the store is does not.
func TestMetricsWithoutCluster(t *testing.T) {
	all := metricsSay(t, map[string]string{"/api/v1/alerts": `{"status":"success","data":{"alerts":[
		{"labels":{"alertname":"A","cls":"one"},"state":"firing"},{"labels":{"alertname":"B","cls":"two"},"state":"firing"}]}}`})
	dir := t.TempDir()
	n := spec.Node{Cluster: "infra", Member: "infra-1", Host: "10.0.0.1", Address: "10.0.0.1"}
	n.Paths.Dir = filepath.Join(dir, "infra", "infra-1")
	n.Observe.Listen, n.Observe.Data = []string{strings.TrimPrefix(all.metrics.url, "http://")}, filepath.Join(n.Paths.Dir, "metrics")
	if err := os.MkdirAll(n.Paths.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := nodefile.Write(n, -1, -1); err != nil {
		t.Fatal(err)
	}
	h := House{dir}
	if len(h.Clusters()) != 0 {
		t.Fatalf("there are clusters: %v", h.Clusters())
	}
	m, err := h.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"": 2, "two": 1} {
		if fires, err := m.Alerts(t.Context(), name); err != nil || len(fires) != want {
			t.Errorf("of %q fire %v, %v", name, fires, err)
		}
	}
	now := time.Now()
	s := notice.Silence{Matchers: []notice.Matcher{{Name: "cls", Value: "two", Equal: true}}, Starts: now, Ends: now.Add(time.Hour)}
	made, err := m.Silence(t.Context(), s, now)
	if err != nil || made.ID == "" || made.By == "" {
		t.Fatalf("%+v %v", made, err)
	}
	if kept, err := silence.Load(filepath.Join(n.Paths.Dir, "silences.json")); err != nil || len(kept) != 1 || kept[0].ID != made.ID {
		t.Errorf("kept are %v, %v", kept, err)
	}
	if ended, err := m.Unsilence(t.Context(), []string{made.ID}, now); err != nil || ended[0].State(now) != notice.Expired {
		t.Errorf("ended are %v, %v", ended, err)
	}
	for code, try := range map[string]error{
		"silence-unknown": second(m.Unsilence(t.Context(), []string{made.ID}, now)),
		"silence-refused": second(m.Silence(t.Context(), notice.Silence{Ends: now.Add(time.Hour)}, now)),
		"metrics-none":    second(MetricStore{}.Silence(t.Context(), s, now)),
	} {
		if problem.Code(try) != code {
			t.Errorf("%v, want %s", try, code)
		}
	}
	if _, err := (House{t.TempDir()}).Metrics(); problem.Code(err) != "cluster-none" {
		t.Errorf("an empty house: %v", err)
	}
}

// Alerts are silenced from another machine by the door at which the one that keeps
// metrics gives its logs, and by nobody who has no certificate.
func TestSilencedFromElsewhere(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.OpenAuthority(filepath.Join(dir, "ca"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	certified := func(name string) (files spec.TLS) {
		t.Helper()
		files, err := ca.Issue(filepath.Join(dir, name), name, netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	n := spec.Node{Cluster: "infra", Member: "infra-1", TLS: certified("infra-1"), Observe: spec.Observe{Listen: []string{"127.0.0.1:9090"}, Data: filepath.Join(dir, "metrics")}}
	said := &bytes.Buffer{}
	serve := func(n spec.Node) *httptest.Server {
		t.Helper()
		there, err := NewThere(n, "", slog.New(slog.NewTextHandler(said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		peers, err := pki.Open(n.TLS)
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		there.Handle(t.Context(), mux)
		door := httptest.NewUnstartedServer(mux)
		door.TLS = peers.Server()
		door.StartTLS()
		t.Cleanup(door.Close)
		return door
	}
	door, another := serve(n), serve(spec.Node{Cluster: "demo", Member: "demo-1", TLS: certified("demo-1")})
	known := []spec.Logged{{Member: "demo-1", URL: another.URL}, {Member: "infra-1", URL: door.URL}}
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(known)
	}))
	t.Cleanup(store.Close)
	m := MetricStore{url: store.URL, trust: certified("demo-2")}
	now := time.Now().UTC()
	s := notice.Silence{Matchers: []notice.Matcher{{Name: "cls", Value: "two", Equal: true}}, Starts: now, Ends: now.Add(time.Hour), By: "ann"}
	made, err := m.Silence(t.Context(), s, now)
	if err != nil || made.ID == "" || made.By != "ann" {
		t.Fatalf("%+v %v", made, err)
	}
	file := filepath.Join(dir, "silences.json")
	if kept, err := silence.Load(file); err != nil || len(kept) != 1 || kept[0].ID != made.ID {
		t.Errorf("kept are %v, %v", kept, err)
	}
	if err := second(m.Unsilence(t.Context(), []string{"nosuch"}, now)); problem.Code(err) != "silence-unknown" {
		t.Error(err)
	}
	if ended, err := m.Unsilence(t.Context(), []string{made.ID}, now); err != nil || len(ended) != 1 || ended[0].State(time.Now()) != notice.Expired {
		t.Errorf("ended are %v, %v", ended, err)
	}
	if err := second(m.Silence(t.Context(), notice.Silence{Starts: now, Ends: now.Add(time.Hour)}, now)); problem.Code(err) != "silence-refused" {
		t.Error(err)
	}
	if got := said.String(); strings.Count(got, "from=demo-2") != 2 || !strings.Contains(got, "by=ann") {
		t.Errorf("logged is %s", got)
	}
	r, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}).Post(door.URL+pathSilences, "", strings.NewReader("{}"))
	if err == nil {
		r.Body.Close()
		t.Errorf("a stranger gets %s", r.Status)
	}
	known = known[:1]
	if err := second(m.Silence(t.Context(), s, now)); problem.Code(err) != "silence-elsewhere" {
		t.Errorf("a machine that tells no logs: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
