package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"howdah/cluster"
	"howdah/dcs"
	"howdah/ha"
	"howdah/secret"
	"howdah/spec"
)

// a cluster of three in the store, whose demo-1 leads and is asked.
func threeMembers(t *testing.T, with func(*Options)) *world {
	w := newWorld(t, with)
	w.put(cluster.KeyInitialize, "7401234567890123456")
	w.put(cluster.KeyConfig, `{"ttl":30,"loop_wait":10}`)
	w.put(cluster.KeyLeader, "demo-1")
	w.put(cluster.KeyStatus, `{"optime":5000}`)
	for _, name := range []string{"demo-1", "demo-2", "demo-3"} {
		role := cluster.RoleReplica
		if name == "demo-1" {
			role = cluster.RolePrimary
		}
		w.put(cluster.DirMembers+name, cluster.Member{State: cluster.StateRunning, Role: role, APIURL: "http://10.10.10.1:8008/patroni"}.Encode())
	}
	w.hear()
	return w
}

// hear shows the agent's interface what the store says.
func (w *world) hear(with ...func(*ha.Shown)) {
	w.t.Helper()
	st, err := w.Cluster.State(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	s := primary().Shown
	s.State, s.Server.PID, s.Server.Version = st, 100, 150004
	if st.Leader != nil {
		s.Epoch = st.Leader.Mod
	}
	for _, f := range with {
		f(&s)
	}
	w.show(s)
}

// ask sends a request that needs no connection.
func (w *world) ask(method, path, body string, with ...func(*http.Request)) (int, string) {
	w.t.Helper()
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, path, nil)
	} else {
		r = httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	}
	for _, f := range with {
		f(r)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec.Code, rec.Body.String()
}

func (w *world) get(key string) string {
	w.t.Helper()
	r, err := w.store.Do(w.t.Context(), dcs.Request{Kind: dcs.Read})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(r.Snapshot.Keys[key].Value)
}

// Every refusal of a change of leader, in Patroni's order: each row would also fail a later check.
func TestChangesAreChecked(t *testing.T) {
	for _, tt := range []struct {
		path, body string
		with       func(*world)
		status     int
		want       string
	}{
		{"failover", `{"scheduled_at":"x"}`, nil, 400, "Failover could be performed only to a specific candidate"},
		{"switchover", `{"scheduled_at":"x"}`, nil, 400, "Switchover could be performed only from a specific leader"},
		{"failover", `{"candidate":"demo-2","scheduled_at":"x"}`, nil, 400, "Failover can't be scheduled"},
		{"switchover", `{"leader":"demo-1","scheduled_at":"x"}`, paused, 400, "Can't schedule switchover in the paused state"},
		{"switchover", `{"leader":"demo-1","scheduled_at":"2099-01-01T00:00:00"}`, nil, 400, "Timezone information is mandatory for the scheduled switchover"},
		{"switchover", `{"leader":"demo-1","scheduled_at":"2009-01-01T00:00:00+00:00"}`, nil, 422, "Cannot schedule switchover in the past"},
		{"switchover", `{"leader":"demo-1","scheduled_at":"soon"}`, nil, 422, "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601"},
		{"switchover", `{"leader":"demo-1","scheduled_at":7}`, nil, 422, "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601"},
		{"switchover", `{"leader":"nobody"}`, paused, 400, "Switchover is possible only to a specific candidate in a paused state"},
		{"switchover", `{"leader":"x","candidate":"x"}`, nil, 400, "Switchover target and source are the same"},
		{"switchover", `{"leader":"demo-2","candidate":"nobody"}`, nil, 412, "leader name does not match"},
		{"failover", `{"leader":"demo-2","candidate":"nobody"}`, nil, 412, "leader name does not match"},
		{"switchover", `{"leader":"demo-1","candidate":"nobody"}`, synchronous, 412, "candidate name does not match with sync_standby"},
		{"switchover", `{"leader":"demo-1","candidate":"nobody"}`, nil, 412, "candidate does not exists"},
		{"failover", `{"member":"nobody"}`, nil, 412, "candidate does not exists"},
		{"switchover", `{"leader":"demo-1"}`, func(w *world) { synchronous(w); w.put(cluster.KeySync, `{"leader":"demo-1","sync_standby":"demo-9"}`) }, 412, "switchover is not possible: can not find sync_standby"},
		{"switchover", `{"leader":"demo-1"}`, func(w *world) { w.drop("members/demo-2"); w.drop("members/demo-3") }, 412, "switchover is not possible: cluster does not have members except leader"},
		{"failover", `{"candidate":"demo-2"}`, func(w *world) { w.put("members/demo-2", `{"state":"stopped"}`) }, 412, "failover is not possible: no good candidates have been found"},
		{"switchover", `{"leader":"demo-1","candidate":"demo-2"}`, func(w *world) { w.put("members/demo-2", `{"state":"running","tags":{"nofailover":true}}`) }, 412, "switchover is not possible: no good candidates have been found"},
	} {
		w := threeMembers(t, nil)
		if tt.with != nil {
			tt.with(w)
			w.hear()
		}
		if status, got := w.ask("POST", "/"+tt.path, tt.body); status != tt.status || got != tt.want {
			t.Errorf("POST /%s %s: %d %q, want %d %q", tt.path, tt.body, status, got, tt.status, tt.want)
		}
		if got := w.get(cluster.KeyFailover); got != "" {
			t.Errorf("POST /%s %s was refused and put %s", tt.path, tt.body, got)
		}
	}
}

func (w *world) drop(key string) {
	w.t.Helper()
	if _, err := w.store.Do(w.t.Context(), dcs.Request{Kind: dcs.Commit, Ops: []dcs.Op{dcs.Delete(key)}}); err != nil {
		w.t.Fatal(err)
	}
}

func paused(w *world) { w.put(cluster.KeyConfig, `{"pause":true}`) }

func synchronous(w *world) {
	w.put(cluster.KeyConfig, `{"synchronous_mode":true}`)
	w.put(cluster.KeySync, `{"leader":"demo-1","sync_standby":"demo-2"}`)
}

func TestChangesAreDone(t *testing.T) {
	for _, tt := range []struct {
		path, body, put, to string
		status              int
		want                string
	}{
		{"switchover", `{"leader":"demo-1","candidate":"demo-2"}`, `{"leader":"demo-1","member":"demo-2"}`, "demo-2", 200, `Successfully switched over to "demo-2"`},
		{"switchover", `{"leader":"demo-1"}`, `{"leader":"demo-1"}`, "demo-3", 200, `Successfully switched over to "demo-3"`},
		{"switchover", `{"leader":"demo-1","candidate":"demo-2"}`, `{"leader":"demo-1","member":"demo-2"}`, "demo-3", 200, `Switched over to "demo-3" instead of "demo-2"`},
		{"failover", `{"candidate":"demo-2"}`, `{"member":"demo-2"}`, "demo-2", 200, `Successfully failed over to "demo-2"`},
		{"failover", `{"candidate":"demo-2"}`, `{"member":"demo-2"}`, "demo-3", 200, `Failed over to "demo-3" instead of "demo-2"`},
		{"failover", `{"leader":"demo-1","candidate":"demo-2"}`, `{"leader":"demo-1","member":"demo-2"}`, "demo-2", 200, `Successfully switched over to "demo-2"`},
		{"switchover", `{"leader":"demo-1","candidate":"demo-2"}`, `{"leader":"demo-1","member":"demo-2"}`, "demo-1", 503, `Switchover failed`},
	} {
		w := threeMembers(t, nil)
		done := make(chan string)
		go func() {
			status, got := w.ask("POST", "/"+tt.path, tt.body)
			done <- fmt.Sprintf("%d %s", status, got)
		}()
		for w.get(cluster.KeyFailover) == "" {
			select {
			case got := <-done:
				t.Fatalf("%s %s ended early: %s", tt.path, tt.body, got)
			case <-time.After(time.Millisecond):
			}
		}
		if got := w.get(cluster.KeyFailover); got != tt.put {
			t.Errorf("%s %s put %s, want %s", tt.path, tt.body, got, tt.put)
		}
		if tt.to != "demo-1" {
			w.put(cluster.KeyLeader, tt.to)
			w.put(cluster.DirMembers+tt.to, cluster.Member{State: cluster.StateRunning, Role: cluster.RolePrimary}.Encode())
		}
		w.put(cluster.KeyFailover, "{}")
		w.hear()
		if got, want := <-done, fmt.Sprintf("%d %s", tt.status, tt.want); got != want {
			t.Errorf("POST /%s %s: %s, want %s", tt.path, tt.body, got, want)
		}
	}
}

func TestScheduled(t *testing.T) {
	w := threeMembers(t, nil)
	is := func(method, path, body string, status int, want string) {
		t.Helper()
		if got, said := w.ask(method, path, body); got != status || said != want {
			t.Errorf("%s %s %s: %d %q, want %d %q", method, path, body, got, said, status, want)
		}
	}
	is("DELETE", "/switchover", "", 404, "no switchover is scheduled")
	is("POST", "/switchover", `{"leader":"demo-1","candidate":"demo-2","scheduled_at":"2099-01-01T00:00+01"}`, 202, "Switchover scheduled")
	if got, want := w.get(cluster.KeyFailover), `{"leader":"demo-1","member":"demo-2","scheduled_at":"2099-01-01T00:00:00+01:00"}`; got != want {
		t.Errorf("the failover key is %s, want %s", got, want)
	}
	is("DELETE", "/switchover", "", 200, "scheduled switchover deleted")

	is("DELETE", "/restart", "", 404, "no restarts are scheduled")
	for body, want := range map[string]string{
		`{"role":"boss"}`:                 "PostgreSQL role should be either primary, standby_leader, or replica",
		`{"role":"master"}`:               "PostgreSQL role should be either primary, standby_leader, or replica",
		`{"timeout":-1}`:                  "Timeout should be a positive number of seconds",
		`{"timeout":"long"}`:              "Timeout should be a positive number of seconds",
		`{"colour":"red"}`:                "Unknown filter for the scheduled restart: colour",
		`{"schedule":"2099-01-01T00:00"}`: "Timezone information is mandatory for the scheduled restart",
	} {
		is("POST", "/restart", body, 400, want)
	}
	if status, got := w.ask("POST", "/restart", `{"postgres_version":"x"}`); status != 400 || !strings.Contains(got, "version") {
		t.Errorf("a wrong version: %d %s", status, got)
	}
	is("POST", "/restart", `{"role":"replica"}`, 503, "restart conditions are not satisfied")
	is("POST", "/restart", `{"postgres_version":"15.4"}`, 503, "restart conditions are not satisfied")
	is("POST", "/restart", `{"restart_pending":true}`, 503, "restart conditions are not satisfied")
	w.hear(func(s *ha.Shown) { s.Job = "clone" })
	is("POST", "/restart", `{}`, 503, "clone already in progress")
	// Work of a moment is waited for: here nobody is there to carry the request out.
	w.hear(func(s *ha.Shown) { s.Job = "synchronize" })
	is("POST", "/restart", `{"timeout": 1}`, 503, "restart failed")
	w.drop(cluster.DirRequests + "demo-1")
	w.hear()
	scheduled := func(body string) (int, string) {
		done := make(chan string)
		go func() {
			status, said := w.ask("POST", "/restart", body)
			done <- fmt.Sprintf("%d %s", status, said)
		}()
		for {
			select {
			case got := <-done:
				var status int
				_, _ = fmt.Sscan(got, &status)
				return status, got[4:]
			case <-time.After(5 * time.Millisecond):
				w.hear()
			}
		}
	}
	if status, got := scheduled(`{"schedule":"2099-01-01T00:00:00Z","role":"primary"}`); status != 202 || got != "Restart scheduled" {
		t.Errorf("%d %s", status, got)
	}
	if status, got := scheduled(`{"schedule":"2099-01-02T00:00:00Z"}`); status != 409 || got != "Another restart is already scheduled" {
		t.Errorf("%d %s", status, got)
	}
	is("DELETE", "/restart", "", 200, "scheduled restart deleted")
	paused(w)
	w.hear()
	is("POST", "/restart", `{"schedule":"x"}`, 500, "Can't schedule restart in the paused state")
	is("POST", "/reinitialize", "", 503, "I am the leader, can not reinitialize")
	w.drop(cluster.KeyLeader)
	w.hear(func(s *ha.Shown) { s.Epoch = 0 })
	is("POST", "/reinitialize", "", 503, "Cluster has no leader, can not reinitialize")
	is("POST", "/reload", "", 202, "reload scheduled")
	if got := w.get(cluster.DirRequests + "demo-1"); !strings.Contains(got, `"kind":"reload"`) {
		t.Errorf("the request is %s", got)
	}
	is("POST", "/sigterm", "", 202, "shutdown scheduled")
	is("POST", "/failsafe", `{"name":"x"}`, 500, "Running as a leader")
	is("POST", "/citus", `{"a":1}`, 501, "Unsupported method ('POST')")
}

// A primary that is a real Patroni, and has lost the store, asks whether it may go on.
func TestFailsafeOfPatroni(t *testing.T) {
	var asked []ha.Plea
	var no error
	w := threeMembers(t, func(o *Options) {
		o.Agree = func(_ context.Context, p ha.Plea) error { asked = append(asked, p); return no }
	})
	standby := func(s *ha.Shown) {
		s.Epoch, s.Until = 0, 0
		s.Server.Recovering, s.Server.Standby, s.Server.Flushed = true, true, 0x3000060
	}
	const theirs = `{"name":"demo-2","conn_url":"postgres://10.10.10.2:5432/postgres","api_url":"http://10.10.10.2:8008/patroni","slots":{"demo_1":50331744}}`
	ask := func(body string) (status int, text, lsn string) {
		r := httptest.NewRequest("POST", "/failsafe", strings.NewReader(body))
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String(), rec.Header().Get("lsn")
	}
	is := func(body string, status int, text, lsn string) {
		t.Helper()
		if s, got, at := ask(body); s != status || got != text || at != lsn {
			t.Errorf("%s: %d %q lsn %q; want %d %q lsn %q", body, s, got, at, status, text, lsn)
		}
	}
	is(theirs, 500, "Running as a leader", "")
	w.put(cluster.KeyLeader, "demo-2")
	w.hear(standby)
	is(theirs, 200, "Accepted", "50331744")
	if want := (ha.Plea{Name: "demo-2"}); len(asked) != 1 || asked[0] != want {
		t.Errorf("asked for %+v; want %+v", asked, want)
	}
	no = errors.New("the store is there")
	is(theirs, 500, "the store is there", "")
	is(`{"conn_url":"x"}`, 400, "Bad request: who asks is not named", "")
	w.put(cluster.KeyConfig, `{"ttl":30,"failsafe_mode":false}`)
	w.hear(standby)
	is(theirs, 502, "", "")
	if len(asked) != 2 {
		t.Errorf("asked %d times; want 2", len(asked))
	}
}

func TestConfigChanges(t *testing.T) {
	w := threeMembers(t, nil)
	ask := func(method, body string) (int, string) {
		done := make(chan struct{})
		var status int
		var said string
		go func() { status, said = w.ask(method, "/config", body); close(done) }()
		for {
			select {
			case <-done:
				return status, said
			case <-time.After(5 * time.Millisecond):
				w.hear()
			}
		}
	}
	for _, tt := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"PATCH", `{"ttl":20,"postgresql":{"parameters":{"work_mem":"4MB","a.b":1}}}`, 200, `{"loop_wait": 10, "postgresql": {"parameters": {"a.b": 1, "work_mem": "4MB"}}, "ttl": 20}`},
		{"PATCH", `{"loop_wait":null,"postgresql":{"parameters":{"a.b":null}}}`, 200, `{"postgresql": {"parameters": {"work_mem": "4MB"}}, "ttl": 20}`},
		{"PATCH", `{"ttl":"20","nothing":null}`, 200, `{"postgresql": {"parameters": {"work_mem": "4MB"}}, "ttl": 20}`},
		{"PUT", `{"ttl":40}`, 200, `{"ttl": 40}`},
	} {
		if status, got := ask(tt.method, tt.body); status != tt.status || got != tt.want {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.body, status, got, tt.status, tt.want)
		}
	}
	if got := w.get(cluster.KeyConfig); got != `{"ttl":40}` {
		t.Errorf("the config key is %s", got)
	}
	w.put(cluster.KeyConfig, "[1]")
	w.hear()
	if status, got := w.ask("PATCH", "/config", `{"ttl":1}`); status != 503 || w.get(cluster.KeyConfig) != "[1]" {
		t.Errorf("PATCH over what can not be read: %d %s", status, got)
	}
}

func TestBodies(t *testing.T) {
	w := threeMembers(t, nil)
	for _, path := range []string{"PATCH /config", "PUT /config", "POST /switchover", "POST /failover", "POST /restart", "POST /reinitialize", "POST /failsafe"} {
		method, path, _ := strings.Cut(path, " ")
		optional := path == "/restart" || path == "/reinitialize"
		for body, want := range map[string]int{
			"": 411, "[]": 400, "7": 400, "null": 400, "{": 400, "\x00\xff\x16": 400, `{"a":`: 400,
			strings.Repeat("x", 10<<20): 413, `{"a":"` + strings.Repeat("x", 10<<20) + `"}`: 413, strings.Repeat("[", 200_000): 400,
		} {
			if optional && (body == "") {
				continue
			}
			if status, _ := w.ask(method, path, body); status != want {
				t.Errorf("%s %s with %d bytes %.10q: %d, want %d", method, path, len(body), body, status, want)
			}
		}
		if status, _ := w.ask(method, path, `{"a":1}`, func(r *http.Request) { r.ContentLength = -1 }); status != 411 {
			t.Errorf("%s %s in chunks: %d, want 411", method, path, status)
		}
	}
	// Over a connection, where all of it is written before the answer is read.
	if got := w.say("PATCH /config HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n" + strings.Repeat("x", 10<<20)); !strings.HasPrefix(got, "HTTP/1.1 413") {
		t.Errorf("10 MB over a connection: %.60q", got)
	}
}

func TestWhoMay(t *testing.T) {
	unsafe := []string{"PATCH /config", "PUT /config", "POST /switchover", "POST /failover", "DELETE /switchover", "POST /restart", "DELETE /restart", "POST /reload", "POST /reinitialize", "POST /failsafe", "POST /sigterm"}
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	as := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for _, tt := range []struct {
		name   string
		rest   spec.REST
		with   []func(*http.Request)
		status int
		want   string
	}{
		{"another address", spec.REST{Allow: []string{"10.0.0.0/8"}, User: "u"}, []func(*http.Request){from("192.0.2.1:5")}, 403, "Access is denied"},
		{"no member", spec.REST{AllowMembers: true}, []func(*http.Request){from("192.0.2.1:5")}, 403, "Access is denied"},
		{"no certificate", spec.REST{Cert: "c", VerifyClient: "optional", User: "u"}, nil, 403, "client certificate required"},
		{"no password", spec.REST{User: "u"}, nil, 401, "no auth header received"},
		{"another password", spec.REST{User: "u"}, []func(*http.Request){as("u", "x")}, 401, "not authenticated"},
		{"another user", spec.REST{User: "u"}, []func(*http.Request){as("v", "secret")}, 401, "not authenticated"},
		{"no password, right address", spec.REST{Allow: []string{"10.0.0.0/8"}, User: "u"}, []func(*http.Request){from("10.1.2.3:5")}, 401, "no auth header received"},
	} {
		w := threeMembers(t, func(o *Options) { o.Password = secret.Text("secret") })
		w.Node.Agent.REST = tt.rest
		for _, path := range unsafe {
			method, path, _ := strings.Cut(path, " ")
			if status, got := w.ask(method, path, "", tt.with...); status != tt.status || got != tt.want {
				t.Errorf("%s: %s %s: %d %q, want %d %q", tt.name, method, path, status, got, tt.status, tt.want)
			}
		}
		if status, _ := w.ask("GET", "/primary", "", tt.with...); status != 200 {
			t.Errorf("%s: GET /primary: %d", tt.name, status)
		}
	}
	for name, tt := range map[string]struct {
		rest spec.REST
		with []func(*http.Request)
	}{
		"the password":       {spec.REST{User: "u"}, []func(*http.Request){as("u", "secret")}},
		"an address":         {spec.REST{Allow: []string{"::1", "192.0.2.1"}}, []func(*http.Request){from("[::ffff:192.0.2.1]:5")}},
		"a member's address": {spec.REST{AllowMembers: true}, []func(*http.Request){from("10.10.10.1:5")}},
		"nothing is asked":   {},
	} {
		w := threeMembers(t, func(o *Options) { o.Password = secret.Text("secret") })
		w.Node.Agent.REST = tt.rest
		if status, got := w.ask("POST", "/sigterm", "", tt.with...); status != 202 {
			t.Errorf("%s: %d %s", name, status, got)
		}
	}
}

// No request, whatever it holds, ends the process or changes the store without an answer that says so.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{
		"POST\x00/switchover\x00" + `{"leader":"demo-1","candidate":7,"scheduled_at":[]}`, "PATCH\x00/config\x00" + `{"postgresql":7}`,
		"GET\x00/replica?lag=1e9\x00", "POST\x00/restart\x00" + `{"timeout":1e300,"postgres_version":{}}`, "OPTIONS\x00//%2e/primary\x00",
		"POST\x00/reinitialize\x00" + `{"force":"maybe"}`, "GET\x00/metrics\x00", "DELETE\x00/switchover\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parts := strings.SplitN(s, "\x00", 3)
		if len(parts) != 3 {
			return
		}
		r, err := http.NewRequest(parts[0], "http://a"+parts[1], strings.NewReader(parts[2]))
		if err != nil {
			return
		}
		r.RemoteAddr = "127.0.0.1:5"
		r.Header.Set("Content-Length", fmt.Sprint(len(parts[2])))
		w := &world{t: t}
		w.Server = newServer(w, nil)
		s0 := standby().Shown
		w.show(s0)
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code < 200 || rec.Code > 599 {
			t.Errorf("%q: %d", s, rec.Code)
		}
		if rec.Header().Get("Content-Type") == "application/json" && !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%q answers %s", s, rec.Body)
		}
	})
}
