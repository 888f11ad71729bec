package console

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"howdah/control"
	"howdah/problem"
)

// orderly does what is ordered of a cluster of which everything is known: a restart
// lasts until somebody lets it end.
type orderly struct {
	*looked
	by string
}

func (o orderly) PlanOrder(_ context.Context, order control.Order) (p control.Planned, err error) {
	if order.Member == "demo-9" {
		return p, &problem.Error{Code: "member-unknown", What: "cannot find member demo-9"}
	}
	p = control.Planned{Text: order.Verb + " " + order.Member, Costs: "something", Risky: order.Verb == control.VerbReinit}
	if order.Verb == control.VerbSwitchover {
		p.Text += " from " + o.status.Picture.Leader
	}
	p.Do = func(ctx context.Context) (string, error) {
		o.done.Add(1)
		if order.Verb == control.VerbRestart {
			select {
			case <-o.hold:
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		return "done for " + o.by, nil
	}
	return p, nil
}

// said is what was logged.
type said struct {
	mu sync.Mutex
	b  strings.Builder
}

func newSaid() *said { return &said{} }

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func post(t *testing.T, ask *http.Client, address, body string, header ...string) (status int, code, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, text := do(t, ask, r)
	var p struct{ Error problem.Error }
	_ = json.Unmarshal([]byte(text), &p) // a plain answer has no code
	return resp.StatusCode, p.Error.Code, text
}

// acts waits for a look in which the acts are as they should be.
func acts(t *testing.T, ask *http.Client, base string, until func([]Act) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/live?cluster=demo", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := ask.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v View
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(text), &v) == nil && until(v.Acts) {
			return
		}
	}
	t.Fatalf("acts are %+v", v.Acts)
}

// Who knows the operator's password may order what was shown before, one thing at a
// time; a viewer and other people's pages may not, and all of it is in the log.
func TestOrders(t *testing.T) {
	of := demo()
	of.hold = make(chan struct{})
	base, ask, log := openedWith(t, of)
	const restart = `{"cluster":"demo","verb":"restart","member":"demo-2"`
	for _, path := range []string{"/api/plan", "/api/do"} {
		if status, _, text := post(t, ask, base+path, restart+`}`); status != http.StatusUnauthorized {
			t.Errorf("%s before anybody came in: %d %s", path, status, text)
		}
	}
	logIn(t, ask, base, "open sesame")
	for _, path := range []string{"/api/plan", "/api/do"} {
		if status, code, _ := post(t, ask, base+path, restart+`,"seen":"restart demo-2"}`); status != http.StatusForbidden || code != "console-viewer" {
			t.Errorf("%s of a viewer: %d %s", path, status, code)
		}
	}
	logIn(t, ask, base, "open up")
	if _, text := get(t, ask, base+"/api/clusters"); !strings.Contains(text, `"role":"operator"`) {
		t.Errorf("who came in is %s", text)
	}
	if status, _, text := post(t, ask, base+"/api/plan", restart+`}`); status != 200 || !strings.Contains(text, `"text":"restart demo-2"`) {
		t.Errorf("a plan is %d %s", status, text)
	}
	for _, tt := range []struct {
		name, body string
		header     []string
		status     int
		code       string
	}{
		{"unseen", restart + `}`, nil, 409, "order-changed"},
		{"of somebody unknown", `{"cluster":"demo","verb":"restart","member":"demo-9","seen":"x"}`, nil, 409, "member-unknown"},
		{"of another cluster", `{"cluster":"other","verb":"restart","member":"demo-2","seen":"x"}`, nil, 404, ""},
		{"a form's", restart + `,"seen":"restart demo-2"}`, []string{"Content-Type", "text/plain"}, 415, ""},
		{"another page's", restart + `,"seen":"restart demo-2"}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"another page's, by an old browser", restart + `,"seen":"restart demo-2"}`, []string{"Origin", "http://elsewhere.example"}, 403, ""},
		{"no JSON", `{`, nil, 400, ""},
		{"untyped", `{"cluster":"demo","verb":"reinit","member":"demo-2","seen":"reinit demo-2","typed":"demo-3"}`, nil, 409, "order-untyped"},
	} {
		if status, code, text := post(t, ask, base+"/api/do", tt.body, tt.header...); status != tt.status || code != tt.code {
			t.Errorf("%s: %d %s; want %d %s", tt.name, status, text, tt.status, tt.code)
		}
	}
	if n := of.done.Load(); n != 0 {
		t.Fatalf("%d orders were done that were refused", n)
	}
	if status, _, text := post(t, ask, base+"/api/do", restart+`,"seen":"restart demo-2"}`); status != http.StatusAccepted {
		t.Fatalf("an order is %d %s", status, text)
	}
	acts(t, ask, base, func(all []Act) bool { return len(all) == 1 && all[0].Ended.IsZero() && all[0].Text == "restart demo-2" })
	if status, code, _ := post(t, ask, base+"/api/do", `{"cluster":"demo","verb":"pause","seen":"pause "}`); status != 409 || code != "order-busy" {
		t.Errorf("another one meanwhile: %d %s", status, code)
	}
	close(of.hold)
	acts(t, ask, base, func(all []Act) bool {
		return len(all) == 1 && !all[0].Ended.IsZero() && strings.HasPrefix(all[0].Result, "done for operator@127.0.0.1")
	})
	if status, _, text := post(t, ask, base+"/api/do", `{"cluster":"demo","verb":"reinit","member":"demo-2","seen":"reinit demo-2","typed":"demo-2"}`); status != http.StatusAccepted {
		t.Errorf("a typed one: %d %s", status, text)
	}
	acts(t, ask, base, func(all []Act) bool { return len(all) == 2 && all[0].Number == 2 && !all[0].Ended.IsZero() })
	for _, want := range []string{`order="restart demo-2" by="operator@127.0.0.1 (console)"`, "console: order done", "console: order of a viewer", "as=operator", "as=viewer"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
}

// What is under way when the console ends is given up, and waited for.
func TestOrdersEnd(t *testing.T) {
	of := demo()
	c := New(Options{Clusters: map[string]Looked{"demo": of}, Log: slog.New(slog.DiscardHandler), Metrics: http.NotFoundHandler()})
	p, err := orderly{of, "x"}.PlanOrder(t.Context(), control.Order{Verb: control.VerbRestart})
	if err != nil {
		t.Fatal(err)
	}
	l := &c.feeds["demo"].acts
	l.begin(Act{Text: p.Text})
	c.acting.Go(func() {
		result, err := p.Do(c.during)
		l.end(1, result, err, time.Now())
	})
	c.Close()
	if all := l.newest(); len(all) != 1 || all[0].Error == nil || all[0].Ended.IsZero() {
		t.Errorf("acts are %+v", all)
	}
	for range 2 * shownActs {
		n, ok := l.begin(Act{})
		if peek, aside := l.begin(Act{harmless: true}); !ok || !aside {
			t.Fatal("what changes nothing stands in somebody's way")
		} else {
			l.end(peek, "", nil, time.Now())
		}
		if _, ok := l.begin(Act{}); ok {
			t.Fatal("two at a time")
		}
		l.end(n, "", nil, time.Now())
	}
	if all := l.newest(); len(all) != shownActs || all[0].Number != 4*shownActs+1 {
		t.Errorf("%d acts are kept, the newest is %d", len(all), all[0].Number)
	}
}
