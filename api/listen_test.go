package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/control"
	"howdah/dcs"
	"howdah/dcs/mem"
	"howdah/ha"
	"howdah/latest"
	"howdah/pg"
	"howdah/pki"
	"howdah/spec"
)

const base = "/service/demo/"

// A world is an interface of member demo-1 that listens, and the store behind it.
type world struct {
	*Server
	t     *testing.T
	store *mem.Store
	addr  string
	shown latest.Value[ha.Shown]
	right latest.Value[Right]
}

// newServer is the interface of w.
func newServer(w *world, with func(*Options)) *Server {
	w.store = mem.Serve(mem.Etcd()).Open(base)
	n := spec.Node{Cluster: "demo", Namespace: "/service", Member: "demo-1", Agent: spec.Agent{Timers: spec.Safe()}}
	o := Options{
		Node: n, Shown: &w.shown, Cluster: control.On("demo", w.store, n), Boot: func() time.Duration { return noon },
		Page: func() Right { r, _ := w.right.Get(); return r }, Log: slog.New(slog.DiscardHandler),
	}
	if with != nil {
		with(&o)
	}
	return New(o)
}

func newWorld(t *testing.T, with func(*Options)) *world {
	t.Helper()
	w := &world{t: t}
	w.Server = newServer(w, with)
	w.show(primary().Shown)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return w
}

func (w *world) show(s ha.Shown) {
	s.Member.Name = w.Node.Member
	w.shown.Set(s)
}

func (w *world) put(key, value string) {
	w.t.Helper()
	if _, err := w.store.Do(w.t.Context(), dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Put(key, value, 0)}}); err != nil {
		w.t.Fatal(err)
	}
}

// say sends bytes and returns all that comes back.
func (w *world) say(text string) string {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		w.t.Fatal(err)
	}
	go io.WriteString(c, text)
	out, _ := io.ReadAll(c)
	return string(out)
}

func TestChecksAsTheyAreSent(t *testing.T) {
	w := newWorld(t, nil)
	for _, tt := range []struct{ send, want string }{
		{"OPTIONS /primary HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		{"OPTIONS /replica HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable"},
		{"HEAD / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		{"GET /read-only HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		{"OPTIONS /primary HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK"},
		{"GET /liveness HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		{"BREW /primary HTTP/1.0\r\n\r\n", "HTTP/1.0 501 Not Implemented"},
		{"GET /failsafe HTTP/1.0\r\n\r\n", "HTTP/1.0 502 Bad Gateway"},
		{"hello\r\n\r\n", "HTTP/1.1 400 Bad Request"},
	} {
		got, rest, _ := strings.Cut(w.say(tt.send), "\r\n")
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.send, got, tt.want)
		}
		if _, body, _ := strings.Cut(rest, "\r\n\r\n"); body != "" && !strings.HasPrefix(tt.send, "GET") && strings.Contains(got, "200") {
			t.Errorf("%q has the body %q", tt.send, body)
		}
	}
}

// A check has to pass while others hold a thousand connections open and say nothing, or half of something.
func TestHalfOpen(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 1000 {
		c, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		switch i % 3 {
		case 1:
			io.WriteString(c, "GET /pri")
		case 2:
			io.WriteString(c, "\x16\x03\x01")
		}
	}
	began := time.Now()
	for range 20 {
		if got := w.say("OPTIONS /primary HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 200") {
			t.Fatalf("got %q", got)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 checks took %s", took)
	}
}

func TestGrant(t *testing.T) {
	authority, err := pki.OpenAuthority(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	files, err := authority.Issue(t.TempDir(), "demo-1", netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := pki.ClientConfig(files)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *Options) {
		if o.Peers, err = pki.Open(files); err != nil {
			t.Fatal(err)
		}
	})
	ask := func(config *tls.Config) (string, error) {
		h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		r, err := h.Get("https://" + w.addr + "/howdah/grant")
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return fmt.Sprintf("%d %s", r.StatusCode, b), err
	}
	for _, tt := range []struct {
		name  string
		right Right
		with  func(*ha.Shown)
		want  string
	}{
		{"a leader", Right{7, noon + 3*time.Second}, nil, `200 {"member": "demo-1", "epoch": 7, "right": 3000000000}`},
		{"past the deadline", Right{7, noon}, nil, `200 {"member": "demo-1", "epoch": 0, "right": 0}`},
		{"no primary", Right{}, nil, `200 {"member": "demo-1", "epoch": 0, "right": 0}`},
		{"without an end", Right{7, time.Duration(1<<63 - 1)}, nil, `200 {"member": "demo-1", "epoch": 7, "right": 5000000000}`},
		{"frozen", Right{7, noon + time.Second}, func(s *ha.Shown) { s.Server.Process = pg.ProcessFrozen }, `200 {"member": "demo-1", "epoch": 0, "right": 0}`},
	} {
		w.right.Set(tt.right)
		s := primary().Shown
		if tt.with != nil {
			tt.with(&s)
		}
		w.show(s)
		if got, err := ask(client); err != nil || got != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
	w.right.Set(Right{7, noon + time.Second})
	w.show(primary().Shown)
	if got, err := ask(&tls.Config{RootCAs: client.RootCAs}); err == nil {
		t.Errorf("without a certificate: got %s", got)
	}
	if got := w.say("GET /howdah/grant HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 403") {
		t.Errorf("over plain HTTP: got %q", got)
	}
	// Whoever can ask for a grant may ask everything else the same way.
	r, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: client}}).Head("https://" + w.addr + "/primary")
	if err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("HEAD /primary over TLS: %v %v", r, err)
	}
}

func TestDocuments(t *testing.T) {
	w := newWorld(t, nil)
	get := func(path string) (int, string) {
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(w.say("GET "+path+" HTTP/1.0\r\n\r\n"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(b)
	}
	s := primary().Shown
	s.Wall = time.Unix(1_700_000_000, 0)
	s.Server.Started, s.Server.Version, s.Server.Timeline = time.Unix(1_600_000_000, 5000).UTC(), 170004, 3
	s.Server.Control.System = 7401234567890123456
	s.Server.Size, s.Server.Free, s.Disk = 4000, 300, ha.Guard{Mark: 2, Low: 800, Last: 400, Shut: true}
	s.Server.Replicas = []pg.Replica{{Name: "demo-2", User: "replicator", Client: "10.10.10.12", State: "streaming", SyncState: "async"}}
	w.show(s)
	want := `{"state": "running", "postmaster_start_time": "2020-09-13 12:26:40.000005+00:00", "role": "primary", "server_version": 170004, ` +
		`"xlog": {"location": 5000}, "timeline": 3, "replication": [{"usename": "replicator", "application_name": "demo-2", ` +
		`"client_addr": "10.10.10.12", "state": "streaming", "sync_state": "async", "sync_priority": 0}], "dcs_last_seen": 1700000000, ` +
		`"database_system_identifier": "7401234567890123456", "patroni": {"version": "4.1.4", "scope": "demo", "name": "demo-1"}}`
	if code, got := get("/patroni"); code != 200 || got != want {
		t.Errorf("/patroni: %d\n got %s\nwant %s", code, got, want)
	}
	if code, got := get("/replica"); code != 503 || got != want {
		t.Errorf("/replica: %d\n got %s\nwant %s", code, got, want)
	}
	if code, got := get("/history"); code != 200 || got != "[]" {
		t.Errorf("/history: %d %s", code, got)
	}
	if code, got := get("/config"); code != 200 || got != "{}" {
		t.Errorf("/config: %d %s", code, got)
	}

	w.put(cluster.KeyLeader, "demo-1")
	w.put(cluster.KeyStatus, `{"optime":5000}`)
	w.put(cluster.KeyConfig, `{"pause":true}`)
	w.put(cluster.KeyFailover, `{"leader":"demo-1","member":"demo-2","scheduled_at":"2099-01-01T00:00:00+00:00"}`)
	w.put(cluster.DirMembers+"demo-1", `{"conn_url":"postgres://10.10.10.11:5432/postgres","api_url":"http://10.10.10.11:8008/patroni","state":"running","role":"primary","xlog_location":5000,"timeline":3}`)
	w.put(cluster.DirMembers+"demo-2", `{"conn_url":"postgres://10.10.10.12:5432/postgres","api_url":"http://10.10.10.12:8008/patroni","state":"running","role":"replica","replication_state":"streaming","receive_lsn":4900,"replay_lsn":4000,"xlog_location":4900,"timeline":3,"tags":{"clonefrom":true}}`)
	w.put(cluster.DirMembers+"odd \"'%<名>", `{"state":"starting","role":"replica"}`)
	want = `{"members": [{"name": "demo-1", "role": "leader", "state": "running", "api_url": "http://10.10.10.11:8008/patroni", "host": "10.10.10.11", "port": 5432, "timeline": 3}, ` +
		`{"name": "demo-2", "role": "replica", "state": "streaming", "api_url": "http://10.10.10.12:8008/patroni", "host": "10.10.10.12", "port": 5432, "timeline": 3, "tags": {"clonefrom": true}, ` +
		`"receive_lsn": "0/1324", "receive_lag": 100, "replay_lsn": "0/FA0", "replay_lag": 1000, "lsn": "0/1324", "lag": 100}, ` +
		`{"name": "odd \"'%<\u540d>", "role": "replica", "state": "starting", "api_url": "", "receive_lsn": "unknown", "receive_lag": "unknown", "replay_lsn": "unknown", "replay_lag": "unknown", "lsn": "unknown", "lag": "unknown"}], ` +
		`"pause": true, "scheduled_switchover": {"at": "2099-01-01T00:00:00+00:00", "from": "demo-1", "to": "demo-2"}, "scope": "demo"}`
	if code, got := get("/cluster"); code != 200 || got != want {
		t.Errorf("/cluster: %d\n got %s\nwant %s", code, got, want)
	}
	if code, got := get("/metrics"); code != 200 || !strings.Contains(got, "# HELP patroni_primary Value is 1 if this node is the leader, 0 otherwise.\n# TYPE patroni_primary gauge\npatroni_primary{scope=\"demo\",name=\"demo-1\"} 1\n") {
		t.Errorf("/metrics: %d\n%s", code, got)
	}
	for _, line := range []string{"size_bytes{scope=\"demo\",name=\"demo-1\"} 4000", "free_bytes{scope=\"demo\",name=\"demo-1\"} 300", "low_bytes{scope=\"demo\",name=\"demo-1\"} 800", "last_bytes{scope=\"demo\",name=\"demo-1\"} 400", "mark{scope=\"demo\",name=\"demo-1\"} 2", "read_only{scope=\"demo\",name=\"demo-1\"} 1"} {
		if _, got := get("/metrics"); !strings.Contains(got, "\nhowdah_disk_"+line+"\n") {
			t.Errorf("/metrics lacks howdah_disk_%s:\n%s", line, got)
		}
	}
	var doc any
	if _, got := get("/cluster"); json.Unmarshal([]byte(got), &doc) != nil {
		t.Error("/cluster is not JSON")
	}
}
