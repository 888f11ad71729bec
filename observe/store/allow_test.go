package store

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"howdah/spec"
)

// Who may ask is who the inventory knows; strangers get nothing.
func TestBounded(t *testing.T) {
	ask := func(s *Store, from string) int {
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		r.RemoteAddr = from
		s.bounded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })).ServeHTTP(w, r)
		return w.Code
	}
	s := &Store{Options: Options{Log: slog.New(slog.DiscardHandler)}}
	if code := ask(s, "8.8.8.8:1"); code != http.StatusOK {
		t.Errorf("where nothing is said a stranger gets %d", code)
	}
	s.Node = spec.Node{Address: "198.51.100.7", Observe: spec.Observe{Allow: []string{"10.0.0.0/8", "192.0.2.1/32"}}}
	for from, want := range map[string]int{
		"10.1.2.3:1": 200, "[::ffff:10.1.2.3]:1": 200, "192.0.2.1:99": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "198.51.100.7:5": 200,
		"192.0.2.2:1": 403, "198.51.100.8:1": 403, "[2001:db8::1]:1": 403, "@": 403,
	} {
		if got := ask(s, from); got != want {
			t.Errorf("from %s: %d, want %d", from, got, want)
		}
	}
	s.Node.Observe.Allow = []string{"nonsense"}
	if code := ask(s, "8.8.8.8:1"); code != http.StatusForbidden {
		t.Errorf("with nothing but nonsense a stranger gets %d", code)
	}
}
