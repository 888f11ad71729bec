package probe

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"howdah/test/linted"
)

func ask(t *testing.T, p *Prober, module, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/probe?"+url.Values{"module": {module}, "target": {target}}.Encode(), nil))
	if w.Code == 200 {
		linted.Metrics(t, w.Body.Bytes())
	}
	return w.Code, w.Body.String()
}

// speaks answers the first bytes of every connection, and ends it.
func speaks(t *testing.T, answer string) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 8))
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// What answers as it should succeeds, what does not fails, and both are told.
func TestProbes(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bad":
			http.Error(w, "no", http.StatusInternalServerError)
		case "/away":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/", http.StatusFound)
		}
	}))
	defer web.Close()
	at := strings.TrimPrefix(web.URL, "http://")
	closed := speaks(t, "")
	p := New([]string{"127.0.0.1", "node-1"}, nil)
	for _, tt := range []struct{ module, target, want string }{
		{"tcp_connect", at, "probe_success 1"},
		{"tcp_connect", "127.0.0.1:1", "probe_success 0"},
		{"http_2xx", web.URL + "/", "probe_success 1"},
		{"", web.URL + "/", "probe_http_status_code 200"},
		{"http_2xx", web.URL + "/near", "probe_success 1"},
		{"http_2xx", web.URL + "/bad", "probe_success 0"},
		{"http_2xx", web.URL + "/bad", "probe_http_status_code 500"},
		{"http_2xx", web.URL + "/away", "probe_success 0"},
		{"pg", speaks(t, "N"), "probe_success 1"},
		{"pg", speaks(t, "S"), "probe_pg_ssl 1"},
		{"pg", speaks(t, "HTTP/1.1 400"), "probe_success 0"},
		{"pg", closed, "probe_success 0"},
	} {
		if code, text := ask(t, p, tt.module, tt.target); code != 200 || !strings.Contains(text, "\n"+tt.want+"\n") {
			t.Errorf("%s %s: %d, want %s:\n%s", tt.module, tt.target, code, tt.want, text)
		}
	}
}

// Nobody can have it look where the inventory does not.
func TestBounds(t *testing.T) {
	p := New([]string{"127.0.0.1"}, nil)
	for _, tt := range []struct {
		module, target string
		code           int
	}{
		{"tcp_connect", "127.0.0.2:22", 403},
		{"tcp_connect", "localhost:22", 403},
		{"tcp_connect", "127.0.0.1", 403},
		{"pg", "[::1]:5432", 403},
		{"icmp", "192.0.2.1", 403},
		{"icmp", "localhost", 403},
		{"http_2xx", "http://192.0.2.1/", 403},
		{"http_2xx", "http://localhost/", 403},
		{"http_2xx", "file:///etc/passwd", 403},
		{"http_2xx", "", 403},
		{"dns", "127.0.0.1:53", 400},
	} {
		if code, text := ask(t, p, tt.module, tt.target); code != tt.code {
			t.Errorf("%s %s: %d %s, want %d", tt.module, tt.target, code, text, tt.code)
		}
	}
}

// This machine answers its own ping, where the kernel lets us send one.
func TestPing(t *testing.T) {
	if err := CanPing(); err != nil {
		t.Skip("no pings here: ", err)
	}
	p := New([]string{"127.0.0.1"}, nil)
	code, text := ask(t, p, "icmp", "127.0.0.1")
	if code != 200 || !strings.Contains(text, "\nprobe_success 1\n") || !strings.Contains(text, `probe_icmp_duration_seconds{phase="rtt"}`) {
		t.Errorf("%d\n%s", code, text)
	}
}
