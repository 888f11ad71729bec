package push

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"

	"howdah/test/linted"
)

var quiet = slog.New(slog.DiscardHandler)

// gateway serves a keeper whose clock stands.
func gateway(t *testing.T) (*Keeper, string) {
	t.Helper()
	k := New("pgsql", "node")
	k.now = func() time.Time { return time.Unix(1700000000, 500e6) }
	web := httptest.NewServer(k.Handler(quiet))
	t.Cleanup(web.Close)
	return k, web.URL
}

// told is what the gateway tells, without comments.
func told(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 {
		t.Fatalf("%s: %v", r.Status, err)
	}
	linted.Metrics(t, text)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func send(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// The client that everybody uses pushes, adds and deletes; values of labels that no path can have come through.
func TestClient(t *testing.T) {
	_, url := gateway(t)
	rows := prometheus.NewGauge(prometheus.GaugeOpts{Name: "load_rows", Help: "rows that were loaded"})
	rows.Set(42)
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "load_seconds", Help: "how long it took", Buckets: []float64{1, 10}})
	took.Observe(3)
	p := push.New(url, "nightly load").Grouping("shop", "a/b").Grouping("empty", "").Collector(rows).Collector(took)
	if err := p.Push(); err != nil {
		t.Fatal(err)
	}
	at := `{empty="",instance="",job="nightly load",shop="a/b"`
	times := "push_failure_time_seconds" + `{empty="",job="nightly load",shop="a/b",instance=""} 0` + "\n" +
		"push_time_seconds" + `{empty="",job="nightly load",shop="a/b",instance=""} 1.7000000005e+09` + "\n"
	hist := "load_seconds_bucket" + at + `,le="1"} 0` + "\nload_seconds_bucket" + at + `,le="10"} 1` + "\nload_seconds_bucket" + at + `,le="+Inf"} 1` +
		"\nload_seconds_sum" + at + "} 3\nload_seconds_count" + at + "} 1\n"
	if got, want := told(t, url), "load_rows"+at+"} 42\n"+hist+times; got != want {
		t.Errorf("after a push:\n%s\nwant\n%s", got, want)
	}

	left := prometheus.NewGauge(prometheus.GaugeOpts{Name: "load_rows", Help: "rows that were loaded"})
	left.Set(7)
	same := func() *push.Pusher {
		return push.New(url, "nightly load").Grouping("shop", "a/b").Grouping("empty", "")
	}
	if err := same().Collector(left).Add(); err != nil {
		t.Fatal(err)
	}
	if got, want := told(t, url), "load_rows"+at+"} 7\n"+hist+times; got != want {
		t.Errorf("POST replaces families of the same name alone:\n%s\nwant\n%s", got, want)
	}
	if err := same().Collector(left).Push(); err != nil {
		t.Fatal(err)
	}
	if got, want := told(t, url), "load_rows"+at+"} 7\n"+times; got != want {
		t.Errorf("PUT replaces the group:\n%s\nwant\n%s", got, want)
	}
	if err := same().Delete(); err != nil {
		t.Fatal(err)
	}
	if got := told(t, url); got != "" {
		t.Errorf("after DELETE: %s", got)
	}
}

// Text is pushed as a shell script does, and what can not be taken changes nothing but says when.
func TestText(t *testing.T) {
	_, url := gateway(t)
	if code, text := send(t, "PUT", url+"/metrics/job/a/instance/x", "# HELP done whether it is\n# TYPE done gauge\ndone{job=\"other\",what=\"all\"} 1\n"); code != 200 {
		t.Fatal(code, text)
	}
	want := `done{instance="x",job="a",what="all"} 1` + "\n" + `push_failure_time_seconds{instance="x",job="a"} 0` + "\n" + `push_time_seconds{instance="x",job="a"} 1.7000000005e+09` + "\n"
	if got := told(t, url); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, tt := range []struct{ path, body, why string }{
		{"/metrics/job/a/instance/x", "done 1 1700000000000\n", "has a time"},
		{"/metrics/job/a/instance/x", "done 1\ndone 2\n", "twice"},
		{"/metrics/job/a/instance/x", "no text of metrics\n", "can not be read"},
		{"/metrics/job/a/instance/x", strings.Repeat("#", maxBody+1), "MiB"},
		{"/metrics/job/a/instance", "", "without a value"},
		{"/metrics/job/b/instance/x/instance/y", "", "twice"},
		{"/metrics/job/b/__name__/y", "", "no name of a label"},
		{"/metrics/job/b/l@base64/%21", "", "illegal base64"},
		{"/metrics/job@base64/=", "", "empty"},
		{"/metrics/instance/x", "", "/metrics/job/NAME"},
		{"/metrics/job/pgsql/ins/demo-1", "pg_up 1\n", "servers which are asked"},
		{"/metrics/job/b", "# TYPE done counter\ndone 1\n", "is a gauge in the group"},
		{"/metrics/job/a", "# TYPE done gauge\ndone{instance=\"x\",what=\"all\"} 2\n", "already"},
	} {
		code, text := send(t, "PUT", url+tt.path, tt.body)
		if code/100 != 4 || !strings.Contains(text, tt.why) {
			t.Errorf("%s %.40q: %d %s, want %q", tt.path, tt.body, code, text, tt.why)
		}
	}
	got := told(t, url)
	if !strings.Contains(got, `done{instance="x",job="a",what="all"} 1`) || !strings.Contains(got, `push_failure_time_seconds{instance="x",job="a"} 1.7000000005e+09`) {
		t.Errorf("after what was refused:\n%s", got)
	}
	if code, _ := send(t, "GET", url+"/metrics/job/a", ""); code != http.StatusMethodNotAllowed {
		t.Errorf("GET of a group: %d", code)
	}
}

// No more is taken than the limits, and what is over makes room.
func TestLimits(t *testing.T) {
	_, url := gateway(t)
	var many strings.Builder
	for i := range maxSeries {
		fmt.Fprintf(&many, "m{i=\"%d\"} 1\n", i)
	}
	if code, text := send(t, "PUT", url+"/metrics/job/a", many.String()); code != 200 {
		t.Fatal(code, text)
	}
	if code, text := send(t, "PUT", url+"/metrics/job/b", "n 1\n"); code != 400 || !strings.Contains(text, "limit") {
		t.Errorf("a series too many: %d %s", code, text)
	}
	if code, _ := send(t, "DELETE", url+"/metrics/job/a", ""); code != http.StatusAccepted {
		t.Errorf("DELETE: %d", code)
	}
	if code, text := send(t, "PUT", url+"/metrics/job/b", "n 1\n"); code != 200 {
		t.Errorf("when there is room: %d %s", code, text)
	}
}

// What was pushed is there after a restart; a file that can not be read is kept aside.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pushed.json")
	during := func(f func(k *Keeper, url string)) {
		k, url := gateway(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		ready := make(chan struct{})
		go func() {
			if err := k.Load(path, quiet); err != nil {
				t.Error(err)
			}
			close(ready)
			done <- k.Run(ctx, path, quiet)
		}()
		<-ready
		f(k, url)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	var before string
	during(func(_ *Keeper, url string) {
		if code, text := send(t, "PUT", url+"/metrics/job/a/l/1", "# HELP c counts\n# TYPE c counter\nc 3\n"); code != 200 {
			t.Fatal(code, text)
		}
		send(t, "PUT", url+"/metrics/job/a/l/1", "nonsense without a value\n")
		before = told(t, url)
	})
	during(func(_ *Keeper, url string) {
		if got := told(t, url); got != before || !strings.Contains(got, `c{instance="",job="a",l="1"} 3`) {
			t.Errorf("after a restart:\n%s\nbefore:\n%s", got, before)
		}
	})
	if err := os.WriteFile(path, []byte(`[{"labels":`), 0o600); err != nil {
		t.Fatal(err)
	}
	during(func(_ *Keeper, url string) {
		if got := told(t, url); got != "" {
			t.Errorf("of a damaged file: %s", got)
		}
	})
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}
