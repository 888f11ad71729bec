package control

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"howdah/nodefile"
	"howdah/observe/logbook"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// logHouse is a house with two nodes, nothing of which runs; write adds to a log.
func logHouse(t *testing.T) (h House, write func(member, file, text string)) {
	t.Helper()
	h = House{Dir: t.TempDir()}
	for _, m := range []string{"demo-1", "demo-2"} {
		dir := filepath.Join(h.Dir, "demo", m)
		n := spec.Node{Cluster: "demo", Member: m, Host: "10.10.10.11", Paths: spec.Paths{Dir: dir, Log: filepath.Join(dir, "log")}, Postgres: spec.Postgres{Data: filepath.Join(dir, "data")}}
		if err := os.MkdirAll(n.Paths.Log, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := nodefile.Write(n, -1, -1); err != nil {
			t.Fatal(err)
		}
	}
	return h, func(member, file, text string) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(h.Dir, "demo", member, "log", file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
}

func said(r logbook.Record) string { return r.Member + " " + r.Job + " " + r.Message }

func logsOf(t *testing.T, h House, q LogQuery) string {
	t.Helper()
	var all []string
	if err := h.Logs(t.Context(), "", q, func(r logbook.Record) error {
		all = append(all, said(r))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "; ")
}

// What all nodes wrote is told in the order of its times, with what was put aside.
func TestLogs(t *testing.T) {
	h, write := logHouse(t)
	write("demo-1", "postgresql.log.1", "2026-11-22 03:00:00.000 UTC [1] LOG:  a\n")
	write("demo-1", "postgresql.log", "2026-11-22 03:00:04.000 UTC [1] LOG:  e\n2026-11-22 03:00:06.000 UTC [1] ERROR:  g\n")
	write("demo-1", "agent.log", "time=2026-11-22T03:00:01Z level=INFO msg=b\ntime=2026-11-22T03:00:05Z level=WARN msg=f\n")
	write("demo-2", "postgresql.log", "2026-11-22 03:00:03.000 UTC [1] x@y LOG:  d\n")
	write("demo-2", "etcd.log", "time=2026-11-22T03:00:02Z level=INFO msg=c\n")
	write("demo-2", "notes.txt", "time=2026-11-22T03:00:02Z level=INFO msg=no\n")
	at := time.Date(2026, 11, 22, 3, 0, 4, 0, time.UTC)
	for _, tt := range []struct {
		name string
		q    LogQuery
		want string
	}{
		{"all", LogQuery{}, "demo-1 postgres a; demo-1 agent b; demo-2 etcd c; demo-2 postgres d; demo-1 postgres e; demo-1 agent f; demo-1 postgres g"},
		{"the newest", LogQuery{Last: 2}, "demo-1 agent f; demo-1 postgres g"},
		{"since", LogQuery{Filter: logbook.Filter{Since: at}}, "demo-1 postgres e; demo-1 agent f; demo-1 postgres g"},
		{"level", LogQuery{Filter: logbook.Filter{Level: logbook.Warning}}, "demo-1 agent f; demo-1 postgres g"},
		{"member", LogQuery{Filter: logbook.Filter{Members: []string{"demo-2"}}}, "demo-2 etcd c; demo-2 postgres d"},
		{"job", LogQuery{Filter: logbook.Filter{Jobs: []string{"etcd"}}}, "demo-2 etcd c"},
		{"database", LogQuery{Filter: logbook.Filter{Database: "y"}}, "demo-2 postgres d"},
		{"a file of anybody", LogQuery{Files: []string{filepath.Join(h.Dir, "demo", "demo-2", "log", "notes.txt")}}, " notes no"},
	} {
		if got := logsOf(t, h, tt.q); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		q    LogQuery
		code string
	}{
		{LogQuery{Filter: logbook.Filter{Members: []string{"demo-9"}}}, "member-unknown"},
		{LogQuery{Files: []string{filepath.Join(h.Dir, "none")}}, "logs-unreadable"},
		{LogQuery{Files: []string{h.Dir}}, "logs-unreadable"},
	} {
		if err := h.Logs(t.Context(), "demo", tt.q, func(logbook.Record) error { return nil }); problem.Code(err) != tt.code {
			t.Errorf("%+v: %v, want %s", tt.q, err, tt.code)
		}
	}
}

// Of a long file only as much is read as was asked for, and nothing is missing.
func TestLogsOfALongFile(t *testing.T) {
	h, write := logHouse(t)
	begin := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	var b strings.Builder
	const count = 40000 // lines of about 60 bytes: ten blocks
	for i := range count {
		fmt.Fprintf(&b, "%s UTC [1] LOG:  number %d of many\n", begin.Add(time.Duration(i)*time.Second).Format("2006-01-02 15:04:05.000"), i)
	}
	write("demo-1", "postgresql.log", b.String())
	for _, n := range []int{1, 100, 20000} {
		for _, q := range []LogQuery{{Last: n}, {Filter: logbook.Filter{Since: begin.Add(time.Duration(count-n) * time.Second)}}} {
			all := strings.Split(logsOf(t, h, q), "; ")
			first := fmt.Sprintf("demo-1 postgres number %d of many", count-n)
			if len(all) != n || all[0] != first {
				t.Errorf("%d of %+v, from %q; want %d from %q", len(all), q, all[0], n, first)
			}
		}
	}
}

// Followed, a log goes on through its rotation and in files that were not there.
func TestLogsFollowed(t *testing.T) {
	h, write := logHouse(t)
	write("demo-1", "postgresql.log", "2026-11-22 03:00:01.000 UTC [1] LOG:  old\n2026-11-22 03:00:02.000 UTC [1] LOG:  a\n")
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- h.Logs(ctx, "demo", LogQuery{Last: 1, Follow: true}, func(r logbook.Record) error {
			got <- said(r)
			return nil
		})
	}()
	next := func(want string) {
		t.Helper()
		select {
		case s := <-got:
			if s != want {
				t.Errorf("got %q, want %q", s, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q is not told", want)
		}
	}
	next("demo-1 postgres a")
	write("demo-1", "postgresql.log", "2026-11-22 03:00:03.000 UTC [1] ERROR:  b\n2026-11-22 03:00:03.000 UTC [1] STATEMENT:  SEL")
	next("demo-1 postgres b")
	write("demo-1", "postgresql.log", "ECT\n2026-11-22 03:00:04.000 UTC [1] LOG:  c\n")
	path := filepath.Join(h.Dir, "demo", "demo-1", "log", "postgresql.log")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("demo-1", "postgresql.log", "2026-11-22 03:00:05.000 UTC [1] LOG:  d\n")
	next("demo-1 postgres c")
	next("demo-1 postgres d")
	write("demo-2", "agent.log", "time=2026-11-22T03:00:06Z level=INFO msg=e\n")
	next("demo-2 agent e")
	if err := os.Truncate(filepath.Join(h.Dir, "demo", "demo-2", "log", "agent.log"), 0); err != nil {
		t.Fatal(err)
	}
	write("demo-2", "agent.log", "time=2026-11-22T03:00:07Z msg=f\n") // shorter than what was there
	next("demo-2 agent f")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Nodes of no cluster have logs too: those of the house by their files, and who else
// there is the store of metrics says, of whom one knows no more than that where it is away.
func TestLogsWithoutACluster(t *testing.T) {
	up := true
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up || r.URL.Path != "/howdah/logs" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `[{"cls":"infra","ins":"infra-2","ip":"10.0.0.2","url":"https://10.0.0.2:9598"},{"cls":"pg-a","ins":"pg-a-1","ip":"10.0.0.3","url":"https://127.0.0.1:1"}]`)
	}))
	defer store.Close()
	h := House{Dir: t.TempDir()}
	dir := filepath.Join(h.Dir, "infra", "infra-2")
	n := spec.Node{
		Cluster: "infra", Member: "infra-2", Host: "10.0.0.2", Paths: spec.Paths{Dir: dir, Log: filepath.Join(dir, "log")},
		Gateway: spec.Gateway{Fronts: []spec.Front{{}}}, Observe: spec.Observe{At: store.URL},
	}
	ca, err := pki.OpenAuthority(filepath.Join(t.TempDir(), "ca"), "demo")
	if err != nil {
		t.Fatal(err)
	}
	if n.TLS, err = ca.Issue(filepath.Join(dir, "tls"), n.Member); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(n.Paths.Log, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := nodefile.Write(n, -1, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Paths.Log, "jobs.log"), []byte("time=2026-11-22T03:00:01Z level=INFO msg=a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func(name string, members ...string) (got, code string) {
		t.Helper()
		err := h.Logs(t.Context(), name, LogQuery{Filter: logbook.Filter{Members: members}}, func(r logbook.Record) error {
			got += r.Cluster + "/" + said(r)
			return nil
		})
		if err != nil && problem.Code(err) == "" {
			t.Errorf("%s %v: %v", name, members, err)
		}
		return got, problem.Code(err)
	}
	const own = "infra/infra-2 jobs a"
	for _, tt := range []struct {
		name      string
		members   []string
		text      string
		code      string
		textAway  string
		otherwise string // the code while the store of metrics is away
	}{
		{"", nil, own, "logs-away", own, "logs-away"}, // pg-a-1 can not be asked
		{"infra", nil, own, "", own, "logs-away"},
		{"", []string{"infra"}, own, "", own, "logs-away"},
		{"", []string{"infra-2"}, own, "", own, ""},
		{"", []string{"infra", "infra-2"}, own, "", own, ""},
		{"pg-a", nil, "", "logs-away", "", "logs-away"},
		{"", []string{"pg-a-1"}, "", "logs-away", "", "logs-away"},
		{"pg-b", nil, "", "cluster-unknown", "", "logs-away"},
		{"", []string{"infra-9"}, "", "member-unknown", "", "logs-away"},
	} {
		up = true
		if got, code := read(tt.name, tt.members...); got != tt.text || code != tt.code {
			t.Errorf("%q %v: %q [%s], want %q [%s]", tt.name, tt.members, got, code, tt.text, tt.code)
		}
		up = false
		if got, code := read(tt.name, tt.members...); got != tt.textAway || code != tt.otherwise {
			t.Errorf("%q %v, away: %q [%s], want %q [%s]", tt.name, tt.members, got, code, tt.textAway, tt.otherwise)
		}
	}
	if _, code := func() (string, string) { h = House{Dir: t.TempDir()}; return read("") }(); code != "cluster-none" {
		t.Errorf("nothing: %s", code)
	}
}
