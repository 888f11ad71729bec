package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"howdah/cluster"
	"howdah/control"
	"howdah/observe/alert"
	"howdah/problem"
)

// looked is a cluster of which everything is known.
type looked struct {
	status control.Status
	err    error
	looks  atomic.Int64
	done   atomic.Int64  // orders
	hold   chan struct{} // until a restart may end
}

func (l *looked) Status(context.Context) (control.Status, error) {
	l.looks.Add(1)
	return l.status, l.err
}

func demo() *looked {
	return &looked{status: control.Status{
		Cluster: "demo", Picture: cluster.Picture{Leader: "demo-1"},
		State: cluster.State{
			Whys: []cluster.Why{{Member: "demo-1", Trail: []string{"leader=self"}}},
			Failovers: []cluster.FailoverPage{
				{Number: 1, Kind: cluster.KindBootstrap, To: "demo-1"},
				{Number: 2, Kind: cluster.KindCrash, From: "demo-2", To: "demo-1", Phases: []cluster.Phase{{Name: cluster.PhaseWrites, After: 812300 * time.Microsecond}}},
			},
		},
	}}
}

// opened serves a console; ask is somebody's browser.
func opened(t *testing.T, of Looked) (base string, ask *http.Client) {
	t.Helper()
	base, ask, _ = openedWith(t, of)
	return base, ask
}

// openedWith also gives what is logged.
func openedWith(t *testing.T, of Looked) (base string, ask *http.Client, said *said) {
	t.Helper()
	said = newSaid()
	c := New(Options{
		Clusters: map[string]Looked{"demo": of}, Password: "open sesame", Operator: "open up", Version: "1.2.3", Log: slog.New(slog.NewTextHandler(said, nil)),
		Orders:  func(of Looked, by string) Ordered { return orderly{of.(*looked), by} },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path, " ", r.FormValue("query")) }),
	})
	base, ask = served(t, c)
	return base, ask, said
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// served serves c; ask is somebody's browser.
func served(t *testing.T, c *Console) (base string, ask *http.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); c.feeds["demo"].run(ctx) }()
	server := httptest.NewServer(c.Handler())
	t.Cleanup(func() { server.CloseClientConnections(); server.Close(); c.Close(); cancel(); <-ended })
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return server.URL, &http.Client{Jar: jar}
}

func get(t *testing.T, ask *http.Client, address string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, ask, r)
}

func do(t *testing.T, ask *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := ask.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	_, _ = bufio.NewReader(resp.Body).WriteTo(&b)
	return resp, b.String()
}

func logIn(t *testing.T, ask *http.Client, base, password string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/login", strings.NewReader(url.Values{"password": {password}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, ask, r)
}

// Who does not know the password sees the form and what it is made of; who does
// sees everything until they leave.
func TestOnlyByPassword(t *testing.T) {
	base, ask := opened(t, demo())
	closed := func(when string) {
		t.Helper()
		for _, path := range []string{"/api/clusters", "/api/live?cluster=demo", "/api/v1/query?query=1", "/api/v1/alerts"} {
			if r, body := get(t, ask, base+path); r.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: %s answers %d %s", when, path, r.StatusCode, body)
			}
		}
		if r, body := get(t, ask, base+"/"); r.StatusCode != 200 || !strings.Contains(body, `type="password"`) {
			t.Errorf("%s: / is %d %s", when, r.StatusCode, body)
		}
	}
	closed("nobody came in")
	for path, kind := range map[string]string{"/page/console.js": "text/javascript", "/page/console.css": "text/css", "/page/icon.svg": "image/svg+xml"} {
		r, _ := get(t, ask, base+path)
		if r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), kind) || r.Header.Get("Content-Security-Policy") != policy || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
	}
	if r, _ := get(t, ask, base+"/page/index.html"); r.StatusCode != http.StatusNotFound {
		t.Errorf("the page is had without the password: %d", r.StatusCode)
	}
	if r, _ := logIn(t, ask, base, "sesame"); r.Request.URL.RawQuery != "wrong" {
		t.Errorf("a wrong password leads to %s", r.Request.URL)
	}
	closed("a wrong password")
	if r, _ := logIn(t, ask, base, "open sesame", "Sec-Fetch-Site", "cross-site"); r.StatusCode != http.StatusForbidden {
		t.Errorf("another site's form: %d", r.StatusCode)
	}
	closed("another site's form")
	if _, body := logIn(t, ask, base, "open sesame"); !strings.Contains(body, `id="topology"`) || !strings.Contains(body, "Howdah 1.2.3") {
		t.Errorf("after the password: %s", body)
	}
	if r, body := get(t, ask, base+"/api/clusters"); r.StatusCode != 200 || !strings.Contains(body, `"clusters":["demo"]`) {
		t.Errorf("clusters: %d %s", r.StatusCode, body)
	}
	if _, body := get(t, ask, base+"/api/v1/query?query=pg_up"); body != "/api/v1/query pg_up" {
		t.Errorf("the store is asked %q", body)
	}
	for _, path := range []string{"/api/v1/targets", "/api/v1/admin/tsdb", "/metrics", "/api/live?cluster=other"} {
		if r, _ := get(t, ask, base+path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/logout", nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, ask, r)
	closed("left")
}

// A session is a cookie that scripts and other sites do not get; wrong passwords
// are slowed down, and all is over after a while. No password opens nothing.
func TestDoor(t *testing.T) {
	d := newDoor("open sesame", "open up")
	now := time.Unix(1_800_000_000, 0)
	cookie, as, err := d.enter("open sesame", now)
	if as != viewer {
		t.Errorf("who looks is %s", as)
	}
	if err != nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || len(cookie.Value) < 26 {
		t.Fatalf("got %v, %v", cookie, err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(cookie)
	if d.who(r, now.Add(stay-time.Second)) != viewer || d.who(r, now.Add(stay)) != nobody {
		t.Error("a session does not end when it should")
	}
	for range tries {
		if _, _, err := d.enter("sesame", now); !errors.Is(err, errWrong) {
			t.Fatalf("got %v", err)
		}
	}
	if _, _, err := d.enter("open sesame", now); !errors.Is(err, errTooMany) {
		t.Errorf("after %d wrong ones: %v", tries, err)
	}
	if _, _, err := d.enter("open sesame", now.Add(refill)); err != nil {
		t.Errorf("later: %v", err)
	}
	for range guests + 5 {
		if _, _, err := d.enter("open sesame", now.Add(refill)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.inside); n > guests {
		t.Errorf("%d are inside", n)
	}
	if _, _, err := newDoor("", "").enter("", now); !errors.Is(err, errWrong) {
		t.Errorf("no password: %v", err)
	}
}

// Who watches hears at once how the cluster is, and again; what the store does not
// say is said too.
func TestLive(t *testing.T) {
	for _, tt := range []struct {
		name string
		of   *looked
		want func(View) bool
	}{
		{"well", demo(), func(v View) bool {
			return v.Status != nil && v.Status.Picture.Leader == "demo-1" && len(v.Whys) == 1 && v.Whys[0].Member == "demo-1" &&
				len(v.Failovers) == 2 && v.Failovers[0].Number == 2 && v.Failovers[0].Phases[0].After == 812.3 && v.Failovers[0].Outage == 812.3
		}},
		{"blind", &looked{err: &problem.Error{Code: "store-unreachable", What: "cannot read cluster demo", Why: "no majority"}}, func(v View) bool {
			return v.Status == nil && v.Error != nil && v.Error.Code == "store-unreachable"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, ask := opened(t, tt.of)
			logIn(t, ask, base, "open sesame")
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/live?cluster=demo", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := ask.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
				t.Errorf("it is %s", kind)
			}
			lines := bufio.NewScanner(resp.Body)
			lines.Buffer(nil, 1<<20)
			for looks := 0; looks < 2 && lines.Scan(); {
				text, ok := strings.CutPrefix(lines.Text(), "data: ")
				if !ok {
					continue
				}
				looks++
				var v View
				if err := json.Unmarshal([]byte(text), &v); err != nil || v.Cluster != "demo" || !tt.want(v) {
					t.Errorf("look %d: %v %s", looks, err, text)
				}
			}
			if err := lines.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What earlier watchers saw is not shown to who comes later.
func TestNothingStale(t *testing.T) {
	of := demo()
	c := New(Options{Clusters: map[string]Looked{"demo": of}, Password: "open sesame", Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler()})
	c.feeds["demo"].seen.Set(glance{[]byte(`"old"`), time.Now().Add(-stale)})
	cookie, _, err := c.door.enter("open sesame", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/live?cluster=demo", nil)
	r.AddCookie(cookie)
	w := httptest.NewRecorder()
	ended := make(chan struct{})
	go func() { defer close(ended); c.Handler().ServeHTTP(w, r) }()
	<-c.feeds["demo"].wanted // somebody watches
	cancel()
	<-ended
	if strings.Contains(w.Body.String(), "old") {
		t.Errorf("said %q", w.Body)
	}
}

// Nobody is looked at whom nobody watches.
func TestLooksWhileWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := demo()
		f := &feed{name: "demo", of: of, wanted: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.run(ctx)
		time.Sleep(time.Minute)
		if n := of.looks.Load(); n != 0 {
			t.Errorf("%d looks for nobody", n)
		}
		for range maxWatchers {
			if !f.join() {
				t.Fatal("no room")
			}
		}
		if f.join() {
			t.Error("there is room for any number")
		}
		time.Sleep(10*time.Second + lookEvery/2)
		if n := of.looks.Load(); n < 10 || n > 12 {
			t.Errorf("%d looks in 10 s for many", n)
		}
		for range maxWatchers {
			f.part()
		}
		time.Sleep(2 * lookEvery)
		before := of.looks.Load()
		time.Sleep(time.Minute)
		if n := of.looks.Load(); n > before+1 {
			t.Errorf("%d looks after all have gone", n-before)
		}
		cancel()
		synctest.Wait()
	})
}

// The page keeps to its policy: nothing from elsewhere, no script or style in the
// text; and every element that the script asks for is there.
func TestPage(t *testing.T) {
	read := func(name string) string {
		text, err := fs.ReadFile(files, "page/"+name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	entries, err := fs.ReadDir(files, "page")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text := strings.ReplaceAll(read(e.Name()), "http://www.w3.org/2000/svg", "")
		for _, bad := range []string{`https?://`, `\sstyle=`, `\son\w+="`, `<style`, `<script>`, `innerHTML`, `\beval\(`, `url\(`} {
			if found := regexp.MustCompile(bad).FindString(text); found != "" {
				t.Errorf("%s has %q", e.Name(), found)
			}
		}
		if kinds[path.Ext(e.Name())] == "" {
			t.Errorf("%s is of no kind that is served", e.Name())
		}
	}
	page := read("index.html")
	script := read("console.js") + read("load.js") + read("backups.js")
	for _, m := range regexp.MustCompile(`(?:\$|rows)\('([\w-]+)'`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(page, `id="`+m[1]+`"`) {
			t.Errorf("console.js asks for %s, which the page does not have", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(/page/[^"]+)"`).FindAllStringSubmatch(page+read("login.html"), -1) {
		read(path.Base(m[1]))
	}
	var derived strings.Builder
	for _, f := range alert.Shipped() {
		derived.Write(f.Text)
	}
	series := regexp.MustCompile(`\b[a-z]+:[a-z]+:\w+`).FindAllString(read("lib.js"), -1)
	if len(series) < 8 {
		t.Errorf("charts ask for %v alone", series)
	}
	for _, name := range series {
		if !strings.Contains(derived.String(), "record: '"+name+"'") {
			t.Errorf("a chart asks for %s, which no rule makes", name)
		}
	}
}

// What the page makes of what it is told, tried by node without a browser.
func TestScript(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node to try the script with")
	}
	dir := t.TempDir()
	for _, name := range []string{"lib.js", "dom.js", "chart.js", "load.js", "backups.js", "console.js", "login.js"} {
		text, err := fs.ReadFile(files, "page/"+name)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, strings.TrimSuffix(name, ".js")+".mjs") // by which node knows a module
		text = regexp.MustCompile(`'(\./\w+)\.js'`).ReplaceAll(text, []byte("'$1.mjs'"))
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if name != "login.js" { // the others run below
			continue
		}
		if out, err := exec.CommandContext(t.Context(), node, "--check", to).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), node, "testdata/page.mjs", dir, "testdata/view.json").CombinedOutput(); err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), node, "testdata/lib.mjs", filepath.Join(dir, "lib.mjs")).CombinedOutput(); err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}
