package collect

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"howdah/observe/host"
	"howdah/test/linted"
)

// The machine that runs the test tells of itself.
func TestHost(t *testing.T) {
	got := NewHost("/").Metrics(t.Context())
	linted.Metrics(t, got)
	for _, line := range []string{"\nnode_cpu_seconds_total{cpu=", "\nnode_memory_MemTotal_bytes ", "\nnode_load1 ", "\nnode_uname_info{", "\nnode_network_receive_bytes_total{device=\"lo\"}"} {
		if !bytes.Contains(got, []byte(line)) {
			t.Errorf("%q is missing in\n%s", line, got)
		}
	}
}

// A machine that has none of the files has no series of them, and no error.
func TestHostWithoutFiles(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	got := NewHost(root).Metrics(t.Context())
	linted.Metrics(t, got)
	if bytes.Contains(got, []byte("node_cpu")) || !bytes.Contains(got, []byte("node_uname_info")) {
		t.Errorf("%s", got)
	}
}

// A file system that does not answer is told as such and asked once, until it answers.
func TestHostStuck(t *testing.T) {
	h := NewHost("/")
	h.stuck["/gone"] = true
	all := h.ask(t.Context(), []host.Mount{{Point: "/gone"}, {Point: "/"}, {Point: "/no/such/place"}})
	if !all[0].Failed || all[1].Failed || all[1].Size == 0 || !all[2].Failed {
		t.Errorf("%+v", all)
	}
	if all := h.ask(t.Context(), []host.Mount{{Point: "/"}}); all[0].Failed {
		t.Error("who has answered is not asked again")
	}
	if len(h.stuck) != 1 {
		t.Errorf("stuck: %v", h.stuck)
	}
}

// Scrapes take turns; who waits for longer than a scrape may take gets no answer.
func TestTold(t *testing.T) {
	began, let := make(chan struct{}), make(chan struct{})
	h := Told(func(context.Context) []byte {
		began <- struct{}{}
		<-let
		return []byte("a 1\n")
	})
	ask := func(ctx context.Context) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil))
		return w.Code
	}
	first := make(chan int, 1)
	go func() { first <- ask(t.Context()) }()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if code := ask(ctx); code != http.StatusServiceUnavailable {
		t.Errorf("beside another: %d", code)
	}
	close(let)
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first: %d", code)
	}
}
