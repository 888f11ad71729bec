package collect

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"howdah/observe/collector"
	"howdah/problem"
	"howdah/spec"
	"howdah/test/testpg"
)

// socketOf is the URL of s, as whoever runs it.
func socketOf(s *testpg.Server) string {
	q := url.Values{"host": {s.Node.Paths.Sockets}, "port": {"5432"}, "sslmode": {"disable"}}
	return "postgres://postgres@/postgres?" + q.Encode()
}

// patient are the shipped collectors with time for a busy machine.
func patient() ([]collector.Collector, error) {
	all, err := collector.Shipped()
	for i := range all {
		all[i].Timeout *= 20
	}
	return all, err
}

// exporter serves s with the shipped collectors, or those of text.
func exporter(t *testing.T, s *testpg.Server, text string, change func(*Options)) (*Exporter, *httptest.Server) {
	t.Helper()
	o := Options{
		URL: socketOf(s), Load: patient, Discover: true, Exclude: []string{"template0", "template1", "postgres"},
		Connect: 5 * time.Second, Log: slog.New(slog.NewTextHandler(&testLog{t}, nil)),
	}
	if text != "" {
		o.Load = func() ([]collector.Collector, error) {
			all, _, err := collector.Parse("test.yml", []byte(text))
			for i := range all {
				if all[i].Timeout == collector.DefaultTimeout {
					all[i].Timeout = 5 * time.Second // a busy machine's
				}
			}
			return all, err
		}
	}
	if change != nil {
		change(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	web := httptest.NewServer(e.Handler("/metrics"))
	t.Cleanup(func() {
		web.Close()
		cancel()
		<-done
	})
	return e, web
}

var discard = slog.New(slog.DiscardHandler)

type testLog struct{ t *testing.T }

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// families parses what was scraped, with Prometheus's own parser.
func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("what was scraped is not in Prometheus's format: %v", err)
	}
	return all
}

// value is that of the series with these labels: "datname=demo,mode=x".
func value(t *testing.T, all map[string]*dto.MetricFamily, name, labels string) float64 {
	t.Helper()
	for _, m := range all[name].GetMetric() {
		ok := true
		for want := range strings.SplitSeq(labels, ",") {
			ok = ok && (want == "" || slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == want }))
		}
		if ok {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	t.Errorf("there is no %s{%s}", name, labels)
	return 0
}

// In every version that is installed, no collector fails, none lacks a column,
// and every one of them that has rows is there by name.
func TestCollectorsRun(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := testpg.Start(t, testpg.Primary(), testpg.Major(major), testpg.With(func(n *spec.Node) {
				n.Postgres.Parameters["track_functions"] = "all"
			}))
			s.Query("CREATE DATABASE app")
			e, web := exporter(t, s, "", nil)
			_, text := get(t, web.URL+"/metrics")
			all := families(t, text)
			if value(t, all, "pg_up", "") != 1 {
				t.Fatal(text)
			}
			e.quietly(t, func() {
				for _, d := range e.databases() {
					for _, c := range d.planned {
						if slot := d.slots[c.Branch]; c.Why == "" && (slot.err != nil || len(slot.result.Warnings) > 0) {
							t.Errorf("%s in %s: %v %q", c.Branch, d.name, slot.err, slot.result.Warnings)
						}
					}
				}
			})
			for name, labels := range map[string]string{
				"pg_uptime": "", "pg_lsn": "", "pg_meta_info": "listen_port=5432", "pg_setting_max_connections": "",
				"pg_size_bytes": "datname=wal", "pg_activity_count": "datname=app,state=idle", "pg_lock_count": "datname=app,mode=ShareLock",
				"pg_db_xact_total": "datname=app", "pg_relkind_count": "datname=app,relkind=r", "pg_downstream_count": "state=streaming",
				"pg_exporter_server_scrape_total_count": "datname=app", "pg_exporter_query_cache_ttl": "datname=app,query=pg_table",
				"pg_checkpointer_timed": "", "pg_backend_count": "type=checkpointer", "go_goroutines": "", "process_open_fds": "",
				"pg_exporter_build_info": "", "pg_timeline_id": "",
			} {
				value(t, all, name, labels)
			}
			for name, want := range map[string]float64{
				"pg_version": float64(e.main.facts.Version), "pg_in_recovery": 0, "pg_is_in_recovery": 0, "pg_setting_wal_level": 2,
				"pg_setting_block_size": 8192, "pg_setting_shared_buffers": 16 << 20, "pg_setting_checkpoint_timeout": 300,
				"pg_setting_wal_segment_size": 16 << 20, "pg_setting_synchronous_commit": 3, "pg_timeline_id": 1,
			} {
				if got := value(t, all, name, ""); got != want {
					t.Errorf("%s is %v, want %v", name, got, want)
				}
			}
		})
	}
}

// What is asked of tables and indexes is what the server's own views say of them;
// these would look at every relation there is, for the largest alone.
func TestTablesAsTheViewsSay(t *testing.T) {
	for _, major := range testpg.Majors(t) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := testpg.Start(t, testpg.Primary(), testpg.Major(major))
			for _, sql := range []string{
				"CREATE TABLE plain (id int)", "CREATE TABLE keyed (id int PRIMARY KEY, v text)", "CREATE INDEX ON keyed (v)",
				"CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (1000)",
				"CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one",
				"INSERT INTO plain SELECT generate_series(1, 100)", "INSERT INTO keyed SELECT g, g::text FROM generate_series(1, 500) g", "INSERT INTO parts SELECT generate_series(1, 50)",
				"DELETE FROM plain WHERE id < 10", "UPDATE keyed SET v = 'x' WHERE id < 20", "ANALYZE plain", "VACUUM keyed", "SET enable_seqscan = off; SELECT v FROM keyed WHERE id = 7",
			} {
				s.Query(sql)
			}
			e, web := exporter(t, s, "", nil)
			get(t, web.URL+"/metrics")
			ask := func(sql string) map[string]map[string]string {
				t.Helper()
				fields, rows, err := e.main.ask(t.Context(), sql, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				all := map[string]map[string]string{}
				for _, row := range rows {
					one := map[string]string{}
					for i, f := range fields {
						one[f.Name] = string(row[i])
					}
					all[one["relid"]] = one
				}
				return all
			}
			views := map[string]string{
				"pg_table": `SELECT *, s.total_vacuum_time AS vacuum_time, s.total_analyze_time AS analyze_time FROM pg_stat_user_tables s JOIN pg_statio_user_tables io USING (relid)`,
				"pg_index": "SELECT * FROM pg_stat_user_indexes s JOIN pg_statio_user_indexes io USING (indexrelid)",
			}
			if major < 18 {
				views["pg_table"] = `SELECT * FROM pg_stat_user_tables s JOIN pg_statio_user_tables io USING (relid)`
			}
			views["pg_index"] = "SELECT v.*, v.indexrelid AS relid FROM (" + strings.Replace(views["pg_index"], "*", "s.indexrelid, s.idx_scan, s.idx_tup_read, s.idx_tup_fetch, io.idx_blks_read, io.idx_blks_hit", 1) + ") v"
			e.quietly(t, func() {
				for _, c := range e.main.planned {
					view := views[c.Name]
					if view == "" || c.Why != "" {
						continue
					}
					why := "never asked"
					defer func() { t.Log(c.Branch, why) }()
					until(t, c.Branch+" is not what the views say", func() bool {
						ours, theirs := ask(c.Query), ask(view)
						compared, counted := 0, 0
						for relid, want := range theirs {
							for name, v := range want {
								if got, ok := ours[relid][name]; ok && name != "relname" && name != "relid" {
									if compared++; got != v {
										why = fmt.Sprintf("%s of %s: %q, the view says %q", name, relid, got, v)
										return false
									} else if v != "" && v != "0" {
										counted++
									}
								}
							}
						}
						why = fmt.Sprintf("%d of %d relations, %d values, %d of them no 0", len(ours), len(theirs), compared, counted)
						return len(ours) >= len(theirs) && compared >= 15 && counted > 3
					})
				}
			})
		})
	}
}

// quietly runs f while nobody scrapes.
func (e *Exporter) quietly(t *testing.T, f func()) {
	t.Helper()
	if !e.take(t.Context()) {
		t.Fatal("a scrape does not end")
	}
	defer e.give()
	f()
}

func TestStandby(t *testing.T) {
	a := testpg.Start(t, testpg.Primary(), testpg.Named("test-1"))
	b := testpg.Start(t, testpg.StandbyOf(a), testpg.Named("test-2"))
	_, atA := exporter(t, a, "", nil)
	e, atB := exporter(t, b, "", func(o *Options) { o.NoCache = true })
	for path, want := range map[string][2]int{"/up": {200, 200}, "/primary": {200, 404}, "/rw": {200, 404}, "/replica": {404, 200}, "/ro": {404, 200}, "/health": {200, 200}} {
		codeA, bodyA := get(t, atA.URL+path)
		codeB, bodyB := get(t, atB.URL+path)
		if codeA != want[0] || codeB != want[1] || bodyA != "primary" || bodyB != "replica" {
			t.Errorf("%s: %d %s, %d %s; want %v", path, codeA, bodyA, codeB, bodyB, want)
		}
	}
	until(t, "the standby streams", func() bool {
		_, text := get(t, atB.URL+"/metrics")
		return strings.Contains(text, "pg_recv_state{") && value(t, families(t, text), "pg_in_recovery", "") == 1
	})
	e.quietly(t, func() {
		for _, c := range e.main.planned {
			if slot := e.main.slots[c.Branch]; c.Why == "" && (slot.err != nil || len(slot.result.Warnings) > 0) {
				t.Errorf("%s: %v %q", c.Branch, slot.err, slot.result.Warnings)
			}
		}
	})
	_, text := get(t, atA.URL+"/metrics")
	if v := value(t, families(t, text), "pg_repl_state", "appname=test-2"); v != 0 {
		t.Errorf("pg_repl_state of the standby is %v", v)
	}
	// What was planned for a replica is not what a primary is asked.
	b.Query("SELECT pg_promote()")
	until(t, "it is a primary", func() bool {
		code, _ := get(t, atB.URL+"/primary")
		_, text := get(t, atB.URL+"/metrics")
		return code == 200 && strings.Contains(text, "\npg_in_recovery 0\n") && !strings.Contains(text, "pg_recv_state{")
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const hang = `
quick: {query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
hung:
  query: SELECT 1 AS x FROM pg_sleep(60)
  timeout: 0.2
  ttl: 30
  metrics: [x: {usage: GAUGE}]
after: {query: "SELECT 2 AS x", metrics: [x: {usage: GAUGE}]}
`

// A query that hangs ends at its timeout in the server, and the others are
// answered as if it were not there; it is not asked again before its ttl.
func TestTimeout(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	_, web := exporter(t, s, hang, func(o *Options) { o.Discover = false })
	began := time.Now()
	_, text := get(t, web.URL+"/metrics")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	all := families(t, text)
	if value(t, all, "quick_x", "") != 1 || value(t, all, "after_x", "") != 2 || all["hung_x"] != nil || value(t, all, "pg_up", "") != 1 {
		t.Error(text)
	}
	if n := s.Query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"); n != "0" {
		t.Errorf("%s queries go on in the server", n)
	}
	_, text = get(t, web.URL+"/metrics")
	all = families(t, text)
	if n := value(t, all, "pg_exporter_query_scrape_total_count", "query=hung"); n != 1 {
		t.Errorf("the hanging query ran %v times", n)
	}
	if n := value(t, all, "pg_exporter_query_scrape_error_count", "query=hung"); n != 1 {
		t.Errorf("it failed %v times", n)
	}
}

// A server that answers nothing at all, not even to a cancel request, holds a
// scrape for its timeouts and no longer, gets no second connection meanwhile,
// and is up again when it answers.
func TestFrozenServer(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	_, web := exporter(t, s, "", nil)
	_, text := get(t, web.URL+"/metrics")
	if value(t, families(t, text), "pg_up", "") != 1 {
		t.Fatal(text)
	}
	if code, _ := get(t, web.URL+"/up"); code != 200 {
		t.Error("not up")
	}
	pids := strings.Fields(s.Query("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE application_name = 'pg_exporter'"))
	var stopped []int
	for _, p := range pids {
		pid, err := strconv.Atoi(p)
		if err == nil {
			err = unix.Kill(pid, unix.SIGSTOP)
		}
		if err != nil {
			t.Fatal(err)
		}
		stopped = append(stopped, pid)
	}
	thaw := func() {
		for _, pid := range stopped {
			_ = unix.Kill(pid, unix.SIGCONT)
		}
		stopped = nil
	}
	defer thaw()
	for range 3 {
		began := time.Now()
		_, text := get(t, web.URL+"/metrics")
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("a scrape took %s", took)
		}
		if value(t, families(t, text), "pg_up", "") != 0 {
			t.Error("up, and frozen")
		}
	}
	if n := s.Query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_exporter'"); n != fmt.Sprint(len(pids)) {
		t.Errorf("%s connections, there were %d", n, len(pids))
	}
	thaw()
	until(t, "it is up again", func() bool {
		_, text := get(t, web.URL+"/metrics")
		code, _ := get(t, web.URL+"/up")
		return value(t, families(t, text), "pg_up", "") == 1 && code == 200
	})
}

// A lock that somebody holds stops the collector that wants it, and no other.
func TestLockedTable(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	s.Query("CREATE TABLE thing (n int); INSERT INTO thing VALUES (7)")
	_, web := exporter(t, s, `
a: {query: "SELECT n FROM thing", timeout: 0.2, metrics: [n: {usage: GAUGE}]}
b: {query: "SELECT 1 AS n", metrics: [n: {usage: GAUGE}]}
`, func(o *Options) { o.Discover = false })
	ctx, cancel := context.WithCancel(t.Context())
	held := make(chan error)
	go func() {
		_, err := s.Exec(ctx, "BEGIN; LOCK thing; SELECT pg_sleep(60)")
		held <- err
	}()
	until(t, "the table is locked", func() bool {
		return s.Query("SELECT count(*) FROM pg_locks WHERE relation = 'thing'::regclass AND mode = 'AccessExclusiveLock' AND granted") != "0"
	})
	_, text := get(t, web.URL+"/metrics")
	cancel()
	<-held
	if all := families(t, text); all["a_n"] != nil || value(t, all, "b_n", "") != 1 {
		t.Error(text)
	}
	until(t, "the lock is let go of", func() bool {
		_, text := get(t, web.URL+"/metrics")
		return strings.Contains(text, "\na_n 7\n")
	})
}

// Whoever comes while a scrape runs gets its answer: one query, not ten.
func TestTogether(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	_, web := exporter(t, s, `slow: {query: "SELECT 1 AS x FROM pg_sleep(1)", timeout: 5, metrics: [x: {usage: GAUGE}]}`, func(o *Options) { o.Discover = false })
	began := time.Now()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if r, err := http.Get(web.URL + "/metrics"); err != nil || r.StatusCode != 200 {
				t.Error(err)
			} else {
				r.Body.Close()
			}
		})
	}
	all.Wait()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("ten scrapes took %s", took)
	}
}

func TestPredicatesAndFatal(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	collectors := `
yes: {predicate_queries: [{name: p, predicate_query: SELECT true}], query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
no: {predicate_queries: [{name: p, predicate_query: SELECT false}], query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
none: {predicate_queries: [{name: p, predicate_query: SELECT true WHERE false}], query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
odd: {predicate_queries: [{name: p, predicate_query: SELECT 1}], query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
`
	fatal := false
	e, web := exporter(t, s, "", func(o *Options) {
		o.Labels = [][2]string{{"ins", "a"}}
		o.Load = func() ([]collector.Collector, error) {
			text := collectors
			if fatal {
				text += "bad: {fatal: true, query: SELECT nonsense, metrics: [x: {usage: GAUGE}]}\n"
			}
			all, _, err := collector.Parse("test.yml", []byte(text))
			return all, err
		}
	})
	_, text := get(t, web.URL+"/metrics")
	all := families(t, text)
	value(t, all, "yes_x", "ins=a")
	if all["no_x"] != nil || all["none_x"] != nil || all["odd_x"] != nil {
		t.Error(text)
	}
	if n := value(t, all, "pg_exporter_query_scrape_predicate_skip_count", "query=no,ins=a"); n != 1 {
		t.Errorf("skipped %v times", n)
	}
	if n := value(t, all, "pg_exporter_query_scrape_error_count", "query=odd"); n != 1 {
		t.Errorf("the odd predicate failed %v times", n)
	}
	if _, text := get(t, web.URL+"/explain"); !strings.Contains(text, "- no: predicate p") || !strings.Contains(text, "+ yes") {
		t.Error(text)
	}
	fatal = true
	if code, text := get(t, web.URL+"/reload"); code != 200 {
		t.Fatal(text)
	}
	_, text = get(t, web.URL+"/metrics")
	if all := families(t, text); value(t, all, "pg_up", "") != 0 || all["yes_x"] != nil {
		t.Error(text)
	}
	collectors = "broken\n"
	if code, text := get(t, web.URL+"/reload"); code != 500 || !strings.Contains(text, "collector-file") {
		t.Errorf("%d %s", code, text)
	}
	if len(e.all) != 5 {
		t.Error("a bad file replaced the good one")
	}
}

// Databases come and go, and are scraped as they are included and excluded.
func TestDiscovery(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	const mine = `
here: {query: "SELECT current_database() AS datname, 1 AS x", metrics: [datname: {usage: LABEL}, x: {usage: GAUGE}]}
same: {query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
once: {tags: [cluster], query: "SELECT 1 AS x", metrics: [x: {usage: GAUGE}]}
`
	names := func(web string) string {
		_, text := get(t, web+"/metrics")
		var all []string
		for _, m := range families(t, text)["here_x"].GetMetric() {
			all = append(all, m.Label[0].GetValue())
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	_, web := exporter(t, s, mine, func(o *Options) { o.Exclude = []string{"app"} })
	if got := names(web.URL); got != "demo postgres" && got != "postgres" {
		t.Errorf("at first: %s", got)
	}
	before := names(web.URL)
	s.Query("CREATE DATABASE app")
	s.Query("CREATE DATABASE other")
	if got := names(web.URL); got != strings.TrimSpace(strings.Replace(before, "postgres", "other postgres", 1)) {
		t.Errorf("with two more, one of them excluded: %s", got)
	}
	s.Query("DROP DATABASE other WITH (FORCE)")
	if got := names(web.URL); got != before {
		t.Errorf("with one dropped: %s", got)
	}
	_, included := exporter(t, s, mine, func(o *Options) { o.Exclude, o.Include = []string{"app"}, []string{"app"} })
	if got := names(included.URL); got != "app postgres" {
		t.Errorf("included: %s", got)
	}
	_, alone := exporter(t, s, mine, func(o *Options) { o.Discover = false })
	if got := names(alone.URL); got != "postgres" {
		t.Errorf("without discovery: %s", got)
	}
}

// pg_stat_statements is found where inventories put it; what users of the server made
// is not found by an exporter that asks as the superuser.
func TestGuarded(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	s.Query("CREATE FUNCTION public.trap() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	s.Query("CREATE SCHEMA monitor")
	s.Query("CREATE EXTENSION pg_stat_statements SCHEMA monitor")
	const mine = `
trap: {query: "SELECT trap() AS x", tags: [cluster], metrics: [x: {usage: GAUGE}], timeout: 5}
told: {query: "SELECT ('pg_stat_statements(boolean)'::regprocedure IS NOT NULL)::int AS x", tags: [cluster], metrics: [x: {usage: GAUGE}], timeout: 5}
`
	for guarded, wants := range map[bool][]string{false: {"trap_x", "told_x"}, true: {"told_x"}} {
		_, web := exporter(t, s, mine, func(o *Options) { o.Guarded = guarded })
		_, text := get(t, web.URL+"/metrics")
		var got []string
		for _, name := range []string{"trap_x", "told_x"} {
			if families(t, text)[name] != nil {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, wants) {
			t.Errorf("guarded %v: %v", guarded, got)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	o := Options{URL: "postgres://x@/y?host=/nonexistent", Load: collector.Shipped, Log: slog.New(slog.DiscardHandler)}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(e.Handler("/metrics"))
	defer web.Close()
	code, text := get(t, web.URL+"/metrics")
	if all := families(t, text); code != 200 || value(t, all, "pg_up", "") != 0 || value(t, all, "pg_exporter_scrape_error_count", "") != 1 {
		t.Errorf("%d %s", code, text)
	}
	for _, path := range []string{"/up", "/primary", "/replica"} {
		if code, body := get(t, web.URL+path); code != 503 || body != "down" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	o.Labels = [][2]string{{"datname", "x"}}
	if _, err := New(o); problem.Code(err) != "exporter-label" {
		t.Errorf("a constant label that collectors have: %v", err)
	}
	o.Labels, o.URL = nil, "postgres://x:secret@["
	if _, err := New(o); problem.Code(err) != "exporter-url" || strings.Contains(err.Error(), "secret") {
		t.Errorf("an URL that is none: %v", err)
	}
}

func TestPoolerVersion(t *testing.T) {
	for text, want := range map[string]int{"PgBouncer 1.24.1": 12401, "PgBouncer 1.18.0": 11800, "PgBouncer 1.25.0rc1": 12500, "": 0, "1.9": 10900} {
		if got := poolerVersion(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("01-a.yml", "a: {query: old, metrics: [x: {usage: GAUGE}]}")
	write("02-b.yaml", "a: {query: new, metrics: [x: {usage: GAUGE}]}")
	write("03-c.yml", "nonsense: [")
	write("04-d.txt", "neither")
	all, err := Load(dir, slog.New(slog.DiscardHandler))
	if err != nil || len(all) != 1 || all[0].Query != "new" || all[0].Priority != 101 {
		t.Errorf("%v %+v", err, all)
	}
	if _, err := Load(filepath.Join(dir, "03-c.yml"), slog.New(slog.DiscardHandler)); problem.Code(err) != "collector-file" {
		t.Error(err)
	}
	if _, err := Find(filepath.Join(dir, "no")); problem.Code(err) != "exporter-config" {
		t.Error(err)
	}
}

// What the first scrape needs is asked before it comes, and what the next one
// would find too old shortly before that; cluster-wide answers are those of the scrape.
func TestAhead(t *testing.T) {
	s := testpg.Start(t, testpg.Primary())
	s.Query("CREATE DATABASE shop")
	const both = `
here: {query: 'SELECT current_database() AS datname, 1 AS v', ttl: 10, timeout: 5, metrics: [{datname: {usage: LABEL}}, {v: {usage: GAUGE}}]}
all: {query: SELECT 1 AS v, tags: [cluster], ttl: 10, timeout: 5, metrics: [{v: {usage: GAUGE}}]}
`
	runs := func(e *Exporter, branch string) (n int) { // in the database shop, cluster-wide ones in the main one
		if !e.take(t.Context()) {
			t.Fatal("no turn")
		}
		defer e.give()
		d := e.main
		if branch == "here" {
			d = e.others["shop"]
		}
		if d != nil && d.slots[branch] != nil {
			n = d.slots[branch].runs
		}
		return n
	}
	e, web := exporter(t, s, both, nil)
	e.prepare(t.Context())
	if _, body := get(t, web.URL+"/metrics"); !strings.Contains(body, `here_v{datname="shop"} 1`) {
		t.Errorf("the first scrape: %s", body)
	}
	if n := runs(e, "here"); n != 1 {
		t.Errorf("asked %d times for one scrape, want once, before it", n)
	}

	if !e.take(t.Context()) {
		t.Fatal("no turn")
	}
	for _, d := range e.databases() {
		for _, s := range d.slots {
			s.asked = s.asked.Add(-10 * time.Second)
		}
	}
	e.give()
	before := runs(e, "all")
	e.round(t.Context(), time.Now().Add(100*time.Millisecond))
	if n := runs(e, "here"); n != 2 {
		t.Errorf("before the next scrape asked %d times, want 2", n)
	}
	if n := runs(e, "all"); n != before {
		t.Error("a cluster-wide answer was asked ahead")
	}
	e.round(t.Context(), time.Now().Add(100*time.Millisecond))
	if n := runs(e, "here"); n != 2 {
		t.Errorf("what is good still was asked ahead: %d times", n)
	}

	by, _ := exporter(t, s, both, func(o *Options) { o.Ahead = true })
	until(t, "it is prepared by itself, and nobody has scraped", func() bool { return runs(by, "here") > 0 })
}

// Scrapes that stopped leave nothing that goes on asking.
func TestRhythm(t *testing.T) {
	r := rhythm{again: make(chan struct{}, 1)}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	if !r.next().IsZero() {
		t.Error("before the first scrape one is expected")
	}
	r.came(noon)
	if got := r.next(); got != noon.Add(pace) {
		t.Errorf("after the first: %s", got)
	}
	r.came(noon.Add(15 * time.Second))
	if got := r.next(); got != noon.Add(30*time.Second) {
		t.Errorf("after the second: %s", got)
	}
	if len(r.again) != 1 {
		t.Error("nobody heard of it")
	}
}
