package store

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"

	"howdah/spec"
)

// taken is a store that takes remote writes; it answers with what it is told to.
type taken struct {
	mu      sync.Mutex
	answers []int
	got     []string // series, time and bits of the value
	asked   int
}

func (s *taken) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if len(s.answers) > 0 {
		code := s.answers[0]
		if s.answers = s.answers[1:]; code != 204 {
			http.Error(w, "no", code)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	var all prompb.WriteRequest
	if err == nil {
		err = all.Unmarshal(body)
	}
	if err != nil || r.Header.Get("X-Prometheus-Remote-Write-Version") != "0.1.0" || r.Header.Get("Content-Encoding") != "snappy" {
		http.Error(w, fmt.Sprint(err), 500)
		return
	}
	for _, series := range all.Timeseries {
		b := labels.NewScratchBuilder(0)
		l := series.ToLabels(&b, nil)
		for _, v := range series.Samples {
			s.got = append(s.got, fmt.Sprintf("%s %d %x", l, v.Timestamp, math.Float64bits(v.Value)))
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// Everything that is in the store comes to another one, with the marks of series that
// ended, whatever that one answers in between and whoever begins again.
func TestRemoteWrite(t *testing.T) {
	s := open(t)
	store := &taken{}
	server := httptest.NewServer(store)
	defer server.Close()
	now := time.Now().Truncate(time.Second)
	s.now = func() time.Time { return now }
	r, err := s.newSender(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	put := func(n int, at time.Time, v float64) {
		t.Helper()
		app := s.db.Appender(t.Context())
		for i := range n {
			l := labels.FromStrings("__name__", "pg_up", "ins", fmt.Sprint("demo-", i))
			if _, err := app.Append(0, l, at.UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("%s %d %x", l, at.UnixMilli(), math.Float64bits(v)))
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	begun := now
	send := func() (err error) {
		for more := true; more && err == nil; {
			more, err = r.turn(t.Context())
		}
		return err
	}
	same := func(when string) {
		t.Helper()
		slices.Sort(want)
		got := slices.Clone(store.got)
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("%s: got %d of %d: %.300s", when, len(got), len(want), strings.Join(got, "\n"))
		}
	}
	if err := send(); err != nil || store.asked > 0 {
		t.Errorf("of nothing: %v, asked %d times", err, store.asked)
	}
	for i := range 20 {
		put(3, begun.Add(time.Duration(i)*10*time.Second), float64(i))
	}
	put(1, begun.Add(201*time.Second), math.Float64frombits(value.StaleNaN))
	now = begun.Add(remoteEvery + remoteLate - time.Second)
	if err := send(); err != nil || store.asked > 0 {
		t.Errorf("too early: %v, asked %d times", err, store.asked)
	}
	now = begun.Add(10 * time.Minute)
	store.answers = []int{204, 503}
	if err := send(); err == nil {
		t.Error("an answer that is none was taken for one")
	}
	if r, err = s.newSender(server.URL); err != nil || r.at <= begun.UnixMilli() {
		t.Fatalf("begun again at %d: %v", r.at-begun.UnixMilli(), err)
	}
	if err := send(); err != nil {
		t.Error(err)
	}
	same("whatever was answered")

	// More than goes into one request; and what is refused holds nothing up.
	put(remoteMost+1, now, 1)
	before := store.asked
	now = now.Add(2 * time.Minute)
	if err := send(); err != nil || store.asked-before != 2 {
		t.Errorf("%v; asked %d times", err, store.asked-before)
	}
	same("in two requests")
	put(1, now, 2)
	want = want[:len(want)-1]
	slices.Sort(want)
	store.answers = []int{400}
	now = now.Add(2 * time.Minute)
	if err := send(); err != nil {
		t.Error(err)
	}
}

// Whoever runs a Prometheus of its own hears from us whom to ask.
func TestServiceDiscovery(t *testing.T) {
	s := open(t)
	s.discovery.targets.Set([]spec.Target{
		{Job: "pgsql", Cluster: "demo", Member: "demo-1", IP: "10.10.10.11", Address: "10.10.10.11:9630"},
		{Job: "etcd", Cluster: "demo", Member: "demo-1", IP: "10.10.10.11", Address: "10.10.10.11:2379", TLS: true},
	})
	code, got := get(t, s, "/sd", nil)
	want := `[{"targets":["10.10.10.11:9630"],"labels":{"cls":"demo","ins":"demo-1","ip":"10.10.10.11","job":"pgsql"}},` +
		`{"targets":["10.10.10.11:2379"],"labels":{"__scheme__":"https","cls":"demo","ins":"demo-1","ip":"10.10.10.11","job":"etcd"}}]`
	if code != 200 || got != want {
		t.Errorf("%d\ngot  %s\nwant %s", code, got, want)
	}
	if code, got := get(t, open(t), "/sd", nil); code != 503 {
		t.Errorf("of nothing known: %d %s", code, got)
	}
}
