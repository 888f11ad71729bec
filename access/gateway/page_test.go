package gateway

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"howdah/spec"
)

const password = "a password"

// ask asks the statistics page.
func (w *world) ask(method, path, user, password string, form url.Values) *http.Response {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	rec := httptest.NewRecorder()
	(&desk{Gateway: w.g, Password: "a password"}).ServeHTTP(rec, r)
	return rec.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rows reads the CSV like exporters do: the header's names, and every row as
// long as the header.
func (w *world) rows() map[string]map[string]string {
	w.t.Helper()
	r := w.ask("GET", "/haproxy/a/;csv", "", "", nil)
	text, ok := strings.CutPrefix(body(w.t, r), "# ")
	if r.StatusCode != 200 || !ok {
		w.t.Fatalf("%s: %q", r.Status, text)
	}
	all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		w.t.Fatal(err)
	}
	rows := map[string]map[string]string{}
	for _, record := range all[1:] {
		row := map[string]string{}
		for i, name := range all[0] {
			row[name] = record[i]
		}
		rows[row["pxname"]+"/"+row["svname"]] = row
	}
	return rows
}

func TestColumnsAreHAProxys(t *testing.T) {
	for at, name := range map[int]string{
		0: "pxname", 4: "scur", 7: "stot", 17: "status", 18: "weight", 21: "chkfail", 27: "iid", 32: "type", 36: "check_status",
		45: "hanafail", 49: "cli_abrt", 55: "lastsess", 61: "ttime", 65: "check_desc", 69: "check_health", 73: "addr", 75: "mode",
		79: "conn_tot", 83: "wrew", 88: "srv_icur", 93: "ttime_max",
	} {
		if columns[at] != name {
			t.Errorf("column %d is %s, want %s", at, columns[at], name)
		}
	}
	if len(columns) != 94 {
		t.Errorf("%d columns, want 94", len(columns))
	}
	for name := range (stat{kind: 2, check: true}).fields() {
		if !strings.Contains(" "+strings.Join(columns, " ")+" ", " "+name+" ") {
			t.Errorf("%s is no column", name)
		}
	}
}

// served makes a world in which one session was served by the primary a, and
// b replicates.
func served(t *testing.T) *world {
	w := newWorld(t, nil)
	server := newFake(t)
	w.member("b", newFake(t).addr, nil)
	w.lead(server.addr, time.Minute)
	c := w.dial("primary")
	c.Write(startup("demo"))
	s := server.next(t, startup("demo"))
	send(t, s, "12345")
	expect(t, c, "12345")
	eventually(t, "what was sent is counted", func() bool { return w.rows()["demo-primary/a"]["bout"] == "5" })
	return w
}

func TestTheCSVTellsWhatWasServed(t *testing.T) {
	w := served(t)
	rows := w.rows()
	in := strconv.Itoa(len(startup("demo")))
	for row, want := range map[string]map[string]string{
		"demo-primary/FRONTEND": {"type": "0", "status": "OPEN", "scur": "1", "stot": "1", "slim": "5000", "bout": "5", "bin": in, "mode": "tcp"},
		"demo-primary/a":        {"type": "2", "status": "UP", "scur": "1", "stot": "1", "check_status": "L7OK", "check_code": "200", "weight": "100", "bck": "0", "act": "1", "bout": "5", "bin": in},
		"demo-primary/b":        {"type": "2", "status": "DOWN", "scur": "0", "check_status": "L7STS", "check_code": "503", "lastsess": "-1"},
		"demo-primary/BACKEND":  {"type": "1", "status": "UP", "act": "1", "bck": "0", "weight": "100", "algo": "roundrobin", "lbtot": "1"},
		"demo-replica/a":        {"status": "UP", "bck": "1", "act": "0"},
		"demo-replica/BACKEND":  {"status": "UP", "act": "1", "bck": "1"},
		"demo-offline/BACKEND":  {"status": "UP"},
	} {
		for name, value := range want {
			if rows[row][name] != value {
				t.Errorf("%s: %s is %q, want %q", row, name, rows[row][name], value)
			}
		}
	}
}

func TestOtherFormats(t *testing.T) {
	w := served(t)
	var typed [][]struct {
		ObjType string
		Field   struct{ Name string }
		Value   struct{ Value any }
	}
	if err := json.Unmarshal([]byte(body(t, w.ask("GET", "/haproxy/a/;json", "", "", nil))), &typed); err != nil {
		t.Fatal(err)
	}
	if len(typed) != len(w.rows()) || typed[0][0].ObjType != "Frontend" || typed[0][0].Value.Value != "demo-primary" {
		t.Errorf("JSON begins with %v", typed[0])
	}
	if page := body(t, w.ask("GET", "/haproxy/a/", "", "", nil)); !strings.Contains(page, "demo-primary") || !strings.Contains(page, "check=/primary leader=yes") {
		t.Errorf("the page: %s", page)
	}
	metrics := "\n" + body(t, w.ask("GET", "/metrics", "", "", nil))
	for _, want := range []string{
		`haproxy_server_status{proxy="demo-primary",server="a",state="UP"} 1`,
		`haproxy_server_status{proxy="demo-primary",server="a",state="DOWN"} 0`,
		`haproxy_server_status{proxy="demo-primary",server="b",state="DOWN"} 1`,
		`haproxy_frontend_status{proxy="demo-primary",state="UP"} 1`,
		`haproxy_backend_status{proxy="demo-primary",state="UP"} 1`,
		`haproxy_backend_active_servers{proxy="demo-primary"} 1`,
		`haproxy_backend_agg_server_status{proxy="demo-primary",state="DOWN"} 1`,
		`haproxy_server_bytes_out_total{proxy="demo-primary",server="a"} 5`,
		`haproxy_server_check_status{proxy="demo-primary",server="b",state="L7STS"} 1`,
		`haproxy_process_current_connections 1`,
	} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	// Everything that dashboards and alerts of the incumbent ask for.
	for family, names := range map[string]string{
		"process": `start_time_seconds uptime_seconds nbproc nbthread idle_time_percent current_tasks current_run_queue
			current_connections max_connections max_sockets max_fds connections_total requests_total current_connection_rate
			current_session_rate pool_allocated_bytes pool_used_bytes pool_failures_total bytes_out_total jobs listeners
			build_info stopping`,
		"frontend": `status current_sessions max_sessions limit_sessions sessions_total connections_total connections_rate_max
			max_session_rate bytes_in_total bytes_out_total requests_denied_total request_errors_total denied_connections_total`,
		"backend": `status agg_server_status agg_check_status active_servers backup_servers weight uweight current_sessions
			max_sessions sessions_total current_queue max_queue bytes_in_total bytes_out_total connection_attempts_total
			connection_errors_total response_errors_total retry_warnings_total redispatch_warnings_total client_aborts_total
			server_aborts_total loadbalanced_total check_up_down_total check_last_change_seconds downtime_seconds_total
			last_session_seconds queue_time_average_seconds connect_time_average_seconds response_time_average_seconds
			total_time_average_seconds max_queue_time_seconds max_connect_time_seconds max_response_time_seconds
			max_total_time_seconds`,
		"server": `status check_status check_code check_duration_seconds check_failures_total check_up_down_total
			check_last_change_seconds downtime_seconds_total active backup weight uweight current_sessions max_sessions
			limit_sessions sessions_total current_queue max_queue queue_limit current_throttle bytes_in_total bytes_out_total
			connection_attempts_total connection_errors_total retry_warnings_total redispatch_warnings_total
			client_aborts_total server_aborts_total loadbalanced_total last_session_seconds queue_time_average_seconds
			connect_time_average_seconds response_time_average_seconds total_time_average_seconds max_queue_time_seconds
			max_connect_time_seconds max_response_time_seconds max_total_time_seconds`,
	} {
		for _, name := range strings.Fields(names) {
			if full := "haproxy_" + family + "_" + name; strings.Count(metrics, "# TYPE "+full+" ") != 1 {
				t.Errorf("%s has %d TYPE lines, want 1", full, strings.Count(metrics, "# TYPE "+full+" "))
			}
		}
	}
}

func TestServersAreSetByHand(t *testing.T) {
	w := served(t)
	do := func(form url.Values) string {
		t.Helper()
		r := w.ask("POST", "/haproxy/a/", Admin, password, form)
		if r.StatusCode != http.StatusSeeOther {
			t.Fatalf("%v: %s", form, r.Status)
		}
		_, status, _ := strings.Cut(r.Header.Get("Location"), ";st=")
		return status
	}
	set := func(action string, servers ...string) url.Values {
		return url.Values{"b": {"demo-primary"}, "action": {action}, "s": servers}
	}
	for _, tt := range []struct {
		form   url.Values
		status string
		server string // status of a afterwards
	}{
		{set("drain", "a"), "DONE", "DRAIN"},
		{set("drain", "a"), "NONE", "DRAIN"},
		{set("maint", "a"), "DONE", "MAINT"},
		{set("ready", "a", "nobody"), "PART", "UP"},
		{set("ready", "a"), "NONE", "UP"},
		{set("drain", "nobody"), "ERRP", "UP"},
		{set("drain"), "ERRP", "UP"},
		{set("explode", "a"), "UNKN", "UP"},
		{url.Values{"b": {"#1"}, "action": {"maint"}, "s": {"a"}}, "DONE", "MAINT"},
		{url.Values{"b": {"#9"}, "action": {"ready"}, "s": {"a"}}, "ERRP", "MAINT"},
		{set("ready", "a"), "DONE", "UP"},
	} {
		if got := do(tt.form); got != tt.status {
			t.Errorf("%v: %s, want %s", tt.form, got, tt.status)
		}
		row := w.rows()["demo-primary/a"]
		if row["status"] != tt.server || row["scur"] != "1" {
			t.Errorf("after %v: %s with %s sessions, want %s with the one it had", tt.form, row["status"], row["scur"], tt.server)
		}
	}
	do(set("drain", "a"))
	c := w.dial("primary")
	c.Write(startup("demo"))
	if b, _ := io.ReadAll(c); !strings.Contains(string(b), "57P03") {
		t.Errorf("a new session of a drained server hears %q", b)
	}
	do(set("shutdown", "a"))
	eventually(t, "its sessions end", func() bool { return w.rows()["demo-primary/a"]["scur"] == "0" })
}

func TestOnlyTheAdminSetsServers(t *testing.T) {
	w := served(t)
	form := url.Values{"b": {"demo-primary"}, "action": {"maint"}, "s": {"a"}}
	for _, who := range [][2]string{{"", ""}, {Admin, ""}, {Admin, "wrong"}, {"haproxy", password}} {
		if r := w.ask("POST", "/haproxy/a/", who[0], who[1], form); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%v: %s", who, r.Status)
		}
	}
	r := httptest.NewRequest("POST", "/haproxy/a/", strings.NewReader(form.Encode()))
	r.SetBasicAuth(Admin, "")
	rec := httptest.NewRecorder()
	(&desk{Gateway: w.g}).ServeHTTP(rec, r)
	if rec.Code != http.StatusUnauthorized {
		t.Errorf("without a password set, an empty one: %d", rec.Code)
	}
	if s := w.rows()["demo-primary/a"]["status"]; s != "UP" {
		t.Errorf("the server is %s", s)
	}
	for path, want := range map[string]int{"/": 302, "/haproxy/": 404, "/haproxy/a": 301, "/haproxy/other/": 200, "/etc": 404} {
		if r := w.ask("GET", path, "", "", nil); r.StatusCode != want {
			t.Errorf("GET %s: %s, want %d", path, r.Status, want)
		}
	}
	if r := w.ask("DELETE", "/haproxy/a/", "", "", nil); r.StatusCode != 405 {
		t.Errorf("DELETE: %s", r.Status)
	}
}

func TestWhoMayReadThePage(t *testing.T) {
	w := served(t)
	for _, tt := range []struct {
		page           spec.Page
		path           string
		user, password string
		want           int
	}{
		{spec.Page{}, "/haproxy/a/;csv", "", "", 200},
		{spec.Page{Private: true}, "/haproxy/a/;csv", "", "", 401},
		{spec.Page{Private: true}, "/haproxy/a/", "", "", 401},
		{spec.Page{Private: true}, "/haproxy/a/", Admin, "wrong", 401},
		{spec.Page{Private: true}, "/haproxy/a/;json", Admin, password, 200},
		{spec.Page{Private: true}, "/metrics", "", "", 200},
		{spec.Page{Private: true, User: "ops"}, "/haproxy/a/", Admin, password, 401},
		{spec.Page{Private: true, User: "ops"}, "/haproxy/a/", "ops", password, 200},
	} {
		r := httptest.NewRequest("GET", tt.path, nil)
		if tt.user != "" {
			r.SetBasicAuth(tt.user, tt.password)
		}
		rec := httptest.NewRecorder()
		(&desk{Gateway: w.g, Page: tt.page, Password: password}).ServeHTTP(rec, r)
		if rec.Code != tt.want {
			t.Errorf("%+v: GET %s as %q: %d, want %d", tt.page, tt.path, tt.user, rec.Code, tt.want)
		}
	}
	r := httptest.NewRequest("POST", "/haproxy/a/", strings.NewReader("b=demo-primary&action=drain&s=a"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("ops", password)
	rec := httptest.NewRecorder()
	(&desk{Gateway: w.g, Page: spec.Page{User: "ops"}, Password: password}).ServeHTTP(rec, r)
	if rec.Code != http.StatusSeeOther {
		t.Errorf("the user that the node names can not set a server: %d", rec.Code)
	}
}

func TestTheRoutesAreTold(t *testing.T) {
	w := newWorld(t, nil)
	read := func() Routes {
		var all []Routes
		if err := json.Unmarshal([]byte(body(t, w.ask("GET", RoutesPath, "", "", nil))), &all); err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		return all[0]
	}
	if r := read(); r.Cluster != "demo" || r.Namespace != "/service" || r.Generation != 0 {
		t.Errorf("before anything was seen: %+v", r)
	}
	w.picture.Generation = 41
	w.member("b", "127.0.0.1:1", nil)
	w.lead("127.0.0.1:2", time.Minute)
	r := read()
	if r.Generation != 41 || len(r.Services) != 4 || r.Services[0].Port != 5433 || strings.Join(r.Services[0].To, " ") != "a" || strings.Join(r.Services[1].To, " ") != "b" {
		t.Errorf("with a primary: %+v", r)
	}
	w.picture.Generation, w.picture.Members = 42, nil
	w.see()
	if r := read(); r.Generation != 42 || r.Services[0].To == nil || len(r.Services[0].To) != 0 {
		t.Errorf("without one: %+v", r)
	}
}
