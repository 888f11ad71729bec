package store

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"howdah/observe/notice"
)

// A webhook that did not take a message gets it again, and one that did does not.
func TestToldOnce(t *testing.T) {
	s := open(t)
	var took []string
	ready := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ready {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var m struct {
			Status string
			Alerts []struct{ Labels map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || len(m.Alerts) != 1 {
			t.Errorf("%v: %+v", err, m)
			return
		}
		took = append(took, m.Status+" "+m.Alerts[0].Labels["alertname"])
	}))
	defer server.Close()
	set, err := notice.Parse([]byte("group_wait: 0s\ngroup_interval: 0s\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := s.webhook(server.URL)
	now := time.Unix(1_800_000_000, 0)
	down := []notice.Alert{{Labels: map[string]string{"alertname": "PostgresDown"}, Starts: now}}
	for i, step := range []struct {
		ready  bool
		firing []notice.Alert
		want   int
	}{{false, down, 0}, {true, down, 1}, {true, down, 1}, {false, nil, 1}, {true, nil, 2}, {true, nil, 2}} {
		ready = step.ready
		now = now.Add(tellEvery)
		s.tellOne(t.Context(), w, set, now, step.firing)
		if len(took) != step.want {
			t.Fatalf("step %d: took %v, want %d", i, took, step.want)
		}
	}
	if took[0] != "firing PostgresDown" || took[1] != "resolved PostgresDown" || len(w.memory) != 0 {
		t.Errorf("took %v, knows %v", took, w.memory)
	}
}

// Settings that are not there tell nobody, and those that can not be used neither.
func TestTellSettings(t *testing.T) {
	s := open(t)
	s.Node.Observe.Tell = filepath.Join(t.TempDir(), "notify.yml")
	for _, tt := range []struct {
		text string
		want int
	}{{"", 0}, {"webhooks: [http://pager.lab/]", 1}, {"webhooks: nobody knows: what", 0}} {
		text, want := tt.text, tt.want
		if text != "" {
			if err := os.WriteFile(s.Node.Observe.Tell, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(s.settings().Webhooks); got != want {
			t.Errorf("%q tells %d, want %d", text, got, want)
		}
	}
}
