package store

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/observe/probe"
	"howdah/spec"
)

// Hosts are pinged, and what a job pushes is found in the store by the labels that it was pushed with,
// and by no others; without its setting nobody listens.
func TestPushAndProbe(t *testing.T) {
	dir := t.TempDir()
	tell := filepath.Join(dir, "notify.yml")
	if err := os.WriteFile(tell, []byte("push: true\nprobe: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const host = "127.91.0.1" // nobody else's port 9091
	s, err := Open(Options{
		Node: spec.Node{Host: host, Observe: spec.Observe{
			Listen: []string{host + ":19090"}, Data: filepath.Join(dir, "metrics"), Tell: tell, Targets: []spec.Target{{Job: spec.JobNode, Cluster: "demo", Member: "demo-1", IP: host, Address: host + ":9100"}}, Every: time.Second, Keep: time.Hour, Size: 1 << 30,
		}},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var why any
	push := func() bool {
		r, err := http.Post("http://"+host+":9091/metrics/job/load/shop/a", "text/plain", strings.NewReader("load_rows 42\n"))
		if err != nil {
			why = err
			return false
		}
		defer r.Body.Close()
		why = r.Status
		return r.StatusCode == 200
	}
	deadline := time.After(30 * time.Second)
	for ok, found := false, ""; !strings.Contains(found, `"metric":{"__name__":"load_rows","job":"load","shop":"a"}`) || !strings.Contains(found, `"42"`); {
		ok = ok || push()
		_, found = get(t, s, "/api/v1/query", url.Values{"query": {"load_rows"}})
		select {
		case <-time.After(50 * time.Millisecond):
		case <-deadline:
			t.Fatalf("pushed: %v (%v), found: %s", ok, why, found)
		}
	}
	if code, text := get(t, s, "/api/v1/query", url.Values{"query": {`up{job="pushgateway"}`}}); !strings.Contains(text, host+":9091") {
		t.Error(code, text)
	}
	if probe.CanPing() == nil {
		for found := ""; !strings.Contains(found, `"cls":"demo","ins":"demo-1","instance":"`+host+`","ip":"`+host+`","job":"ping"`) || !strings.Contains(found, `,"1"]`); {
			_, found = get(t, s, "/api/v1/query", url.Values{"query": {"probe_success"}})
			select {
			case <-time.After(50 * time.Millisecond):
			case <-deadline:
				t.Fatalf("pinged: %s", found)
			}
		}
	}
	if s := open(t); s.pushes != nil || s.prober != nil || len(s.groups(nil)[poolSelf]) != 1 {
		t.Error("without the setting something may be pushed")
	}
}
