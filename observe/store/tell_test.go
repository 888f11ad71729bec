package store

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"howdah/observe/notice"
	"howdah/observe/silence"
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

// What is silenced by command is told to nobody while that lasts, and told at once when
// it ends; a member that is down says it for all that is of it; what lasts is repeated.
// A file of silences that can not be read changes nothing.
func TestSilencedByCommand(t *testing.T) {
	s := open(t)
	var took []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Alerts []struct{ Labels map[string]string }
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		for _, a := range m.Alerts {
			took = append(took, a.Labels["alertname"]+" "+a.Labels["ins"])
		}
	}))
	defer server.Close()
	set, err := notice.Parse([]byte("group_wait: 0s\ngroup_interval: 0s\nrepeat_interval: 1h\ngroup_by: [cls]\n"))
	if err != nil {
		t.Fatal(err)
	}
	s.set = set
	now := time.Unix(1_800_000_000, 0)
	s.now = func() time.Time { return now }
	path := silence.Path(s.Node.Observe)
	change := func(f func([]notice.Silence) []notice.Silence) {
		t.Helper()
		if err := silence.Change(path, now, func(all []notice.Silence) ([]notice.Silence, error) { return f(all), nil }); err != nil {
			t.Fatal(err)
		}
	}
	var firing []notice.Alert
	fire := func(names ...string) {
		firing = nil
		for _, name := range names {
			of, ins, _ := strings.Cut(name, " ")
			firing = append(firing, notice.Alert{Labels: map[string]string{"alertname": of, "cls": "demo", "ins": ins}, Starts: now})
		}
	}
	w := s.webhook(server.URL)
	tells := func(what string, after time.Duration, want ...string) {
		t.Helper()
		took = nil
		now = now.Add(after)
		s.tellOne(t.Context(), w, s.hushes(), now, firing)
		if !slices.Equal(took, want) {
			t.Errorf("%s: told %q, want %q", what, took, want)
		}
	}
	shows := func(want string) {
		t.Helper()
		if _, body := get(t, s, "/api/v2/silences", nil); !strings.Contains(body, `"state":"`+want+`"`) {
			t.Errorf("shown is %s, want %s", body, want)
		}
	}

	m, err := notice.ParseMatcher("ins=~b.*")
	if err != nil {
		t.Fatal(err)
	}
	change(func([]notice.Silence) []notice.Silence {
		return []notice.Silence{{ID: "k3", Matchers: []notice.Matcher{m}, Starts: now.Add(time.Minute), Ends: now.Add(time.Hour)}}
	})
	fire("PatroniDown b1")
	shows("pending")
	tells("before it begins", 0, "PatroniDown b1")
	fire("PatroniDown b1", "PostgresDown b2", "PostgresDown c")
	tells("while it lasts", 2*time.Minute, "PostgresDown c")
	shows("active")
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	tells("with a file that is broken", time.Minute)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	tells("when it has ended", time.Minute, "PatroniDown b1", "PostgresDown b2", "PostgresDown c")
	fire("MemberDown c", "PostgresDown c", "PatroniDown c")
	tells("of a member that is down", time.Minute, "MemberDown c", "PatroniDown b1", "PostgresDown b2") // the others have ended
	tells("soon after", 50*time.Minute)
	tells("an hour later", 11*time.Minute, "MemberDown c")
}
