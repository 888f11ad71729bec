package collector

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

const example = `
pg_things_13:
  name: pg_things
  desc: things
  query: SELECT kind, count, seconds FROM things
  predicate_queries:
    - name: there are things
      predicate_query: SELECT true
      ttl: 60
  tags: [cluster, "extension:things"]
  ttl: 10
  timeout: 0.5
  min_version: 090600
  max_version: 130000
  fatal: true
  metrics:
    - kind: {usage: label}
    - count: {usage: COUNTER, rename: total, description: "how many\nof them", scale: 1e-3, default: 2}
    - seconds: {usage: HISTOGRAM, bucket: [1, 3]}
    - other: {usage: DISCARD}
`

func parse(t *testing.T, text string) []Collector {
	t.Helper()
	all, _, err := Parse("test.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestParse(t *testing.T) {
	c := parse(t, example)[0]
	if c.Branch != "pg_things_13" || c.Name != "pg_things" || c.Min != 90600 || c.Max != 130000 || !c.Fatal ||
		c.TTL != 10*time.Second || c.Timeout != 500*time.Millisecond || len(c.Predicates) != 1 || c.Predicates[0].TTL != time.Minute {
		t.Errorf("%+v", c)
	}
	if got := strings.Join(c.Families(), " "); got != "pg_things_total pg_things_seconds_bucket pg_things_seconds_sum pg_things_seconds_count" {
		t.Error(got)
	}
	for text, want := range map[string]time.Duration{"": DefaultTimeout, "timeout: 0": DefaultTimeout, "timeout: -1": 0, "timeout: 2": 2 * time.Second} {
		if c := parse(t, "a:\n  query: q\n  metrics: [x: {usage: GAUGE}]\n  "+text+"\n")[0]; c.Timeout != want {
			t.Errorf("%q: %s, want %s", text, c.Timeout, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"a: {metrics: [x: {usage: GAUGE}]}", "test.yml:1: collector a has no query"},
		{"a: {query: q}", "no metrics"},
		{"a: {query: q, metrics: [x: {usage: LABEL}]}", "no column of collector a is a value"},
		{"a: {query: q, metrics: [x: {usage: GAUGE}, x: {usage: GAUGE}]}", "the column x twice"},
		{"a: {query: q, metrics: [x: {usage: GAUGE}, y: {usage: GAUGE, rename: x}]}", "exports a_x twice"},
		{"a: {query: q, metrics: [x: {usage: LABEL}, y: {usage: LABEL, rename: x}, z: {usage: GAUGE}]}", "the label x twice"},
		{"a: {query: q, metrics: [x-y: {usage: GAUGE}]}", `"a_x-y" cannot be the name of a metric`},
		{"a: {query: q, metrics: [__x: {usage: LABEL}, y: {usage: GAUGE}]}", "cannot be the name of a label"},
		{"a: {query: q, metrics: [le: {usage: LABEL}, y: {usage: HISTOGRAM, bucket: [1]}]}", "label le of its own"},
		{"a: {query: q, metrics: [y: {usage: HISTOGRAM}]}", "has no bucket"},
		{"a: {query: q, metrics: [y: {usage: HISTOGRAM, bucket: [2, 1]}]}", "must be finite and rise"},
		{"a: {query: q, metrics: [y: {usage: THING}]}", "usage must be"},
		{"a: {query: q, ttl: -1, metrics: [y: {usage: GAUGE}]}", "ttl must not be negative"},
		{"a: {query: q, ttl: soon, metrics: [y: {usage: GAUGE}]}", `not "soon"`},
		{"a: {query: q, metrics: [y: {usage: GAUGE}]}\na: {query: q, metrics: [y: {usage: GAUGE}]}", "test.yml:2: collector a is there twice"},
		{"a: [", "yaml"},
		{"a: &a {<<: *a, query: q, metrics: [y: {usage: GAUGE}]}", "test.yml"},
	} {
		_, _, err := Parse("test.yml", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

func TestParseWarns(t *testing.T) {
	_, warnings, err := Parse("test.yml", []byte("a:\n  query: q\n  colour: red\n  metrics: [x: {usage: GAUGE, shape: round}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(warnings, "; "); got != "test.yml:3: unknown key colour of collector a; test.yml:4: unknown key shape of column x" {
		t.Error(got)
	}
}

func TestPlan(t *testing.T) {
	base := Facts{Version: 150004, Database: "app", User: "monitor", Extensions: []string{"plpgsql"}, Schemas: []string{"public"}, Tags: []string{"blue"}}
	for _, tt := range []struct {
		name   string
		fields string
		with   func(*Facts)
		want   string
	}{
		{"whatever applies", "", nil, ""},
		{"skip", "skip: true", nil, "skip"},
		{"too old a server", "min_version: 160000", nil, "only from version 160000"},
		{"the lowest version is in", "min_version: 150004", nil, ""},
		{"the highest is not", "max_version: 150004", nil, "only below version 150004"},
		{"cluster, in the main database", "tags: [cluster]", nil, ""},
		{"cluster, in another", "tags: [cluster]", func(f *Facts) { f.Discovered = true }, "tag cluster"},
		{"primary on a primary", "tags: [primary]", nil, ""},
		{"master on a replica", "tags: [master]", func(f *Facts) { f.Recovery = true }, "tag master"},
		{"slave on a replica", "tags: [slave]", func(f *Facts) { f.Recovery = true }, ""},
		{"standby on a primary", "tags: [standby]", nil, "tag standby"},
		{"its database", `tags: ["dbname:app"]`, nil, ""},
		{"another database", `tags: ["dbname:postgres"]`, nil, "tag dbname:postgres"},
		{"its user", `tags: ["username:monitor"]`, nil, ""},
		{"an extension", `tags: ["extension:plpgsql"]`, nil, ""},
		{"an extension that is not there", `tags: ["extension:citus"]`, nil, "tag extension:citus"},
		{"a schema that is not there", `tags: ["schema:monitor"]`, nil, "tag schema:monitor"},
		{"a tag that we have", "tags: [blue]", nil, ""},
		{"a tag that we have not", "tags: [red]", nil, "tag red"},
		{"not a tag that we have", `tags: ["not:blue"]`, nil, "tag not:blue"},
		{"not a tag that we have not", `tags: ["not:red"]`, nil, ""},
		{"a pooler's, on a server", "tags: [pgbouncer]", nil, "only for a pooler"},
		{"a pooler's, on a pooler", "tags: [pgbouncer]", func(f *Facts) { f.Pooler = true }, ""},
		{"a server's, on a pooler", "", func(f *Facts) { f.Pooler = true }, "not for a pooler"},
	} {
		f := base
		if tt.with != nil {
			tt.with(&f)
		}
		c := parse(t, "a:\n  query: q\n  metrics: [x: {usage: GAUGE}]\n  "+tt.fields+"\n")
		if got := Plan(c, f)[0].Why; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	two := parse(t, "b: {name: pg, priority: 2, query: q, metrics: [x: {usage: GAUGE}]}\na: {name: pg, priority: 1, query: q, metrics: [x: {usage: GAUGE}]}")
	plan := Plan(two, base)
	if plan[0].Branch != "a" || plan[0].Why != "" || plan[1].Why != "a exports pg_x already" {
		t.Errorf("%+v", plan)
	}
}

func TestMerge(t *testing.T) {
	all := Merge(parse(t, "a: {query: old, metrics: [x: {usage: GAUGE}]}"),
		parse(t, "a: {query: new, metrics: [x: {usage: GAUGE}]}\nb: {query: q, priority: 7, metrics: [x: {usage: GAUGE}]}"))
	if len(all) != 2 || all[0].Query != "new" || all[0].Priority != 101 || all[1].Priority != 7 {
		t.Errorf("%+v", all)
	}
}

func b(s string) []byte { return []byte(s) }

func TestSeries(t *testing.T) {
	c := parse(t, example)[0]
	fields := []Field{{"kind", 25}, {"count", 20}, {"seconds", 701}}
	r, err := c.Series(fields, [][][]byte{
		{b("say \"x\\y\"\n"), b("1500"), b("0.5")},
		{nil, nil, b("2")},
		{nil, b("9"), b("77")},
		{nil, b("9"), nil},
		{b("on"), b("soon"), nil},
	}, `ins="a"`)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, f := range r.Families {
		text = append(f.Head(text), f.Text...)
	}
	const want = `# HELP pg_things_total how many\nof them
# TYPE pg_things_total counter
pg_things_total{ins="a",kind="say \"x\\y\"\n"} 1.5
pg_things_total{ins="a",kind=""} 0.002
pg_things_total{ins="a",kind="on"} NaN
# TYPE pg_things_seconds_bucket gauge
pg_things_seconds_bucket{ins="a",kind="say \"x\\y\"\n",le="1"} 1
pg_things_seconds_bucket{ins="a",kind="say \"x\\y\"\n",le="3"} 1
pg_things_seconds_bucket{ins="a",kind="say \"x\\y\"\n",le="+Inf"} 1
pg_things_seconds_bucket{ins="a",kind="",le="1"} 0
pg_things_seconds_bucket{ins="a",kind="",le="3"} 1
pg_things_seconds_bucket{ins="a",kind="",le="+Inf"} 2
pg_things_seconds_bucket{ins="a",kind="on",le="1"} 0
pg_things_seconds_bucket{ins="a",kind="on",le="3"} 0
pg_things_seconds_bucket{ins="a",kind="on",le="+Inf"} 0
# TYPE pg_things_seconds_sum gauge
pg_things_seconds_sum{ins="a",kind="say \"x\\y\"\n"} 0.5
pg_things_seconds_sum{ins="a",kind=""} 79
pg_things_seconds_sum{ins="a",kind="on"} 0
# TYPE pg_things_seconds_count gauge
pg_things_seconds_count{ins="a",kind="say \"x\\y\"\n"} 1
pg_things_seconds_count{ins="a",kind=""} 2
pg_things_seconds_count{ins="a",kind="on"} 0
`
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if len(r.Warnings) != 2 {
		t.Errorf("%q", r.Warnings)
	}
	if _, err := c.Series(fields[1:], nil, ""); err == nil {
		t.Error("a label that is missing is no error")
	}
	void, err := c.Series(fields, [][][]byte{{b("x"), b("1"), b("1")}, {b("y"), b("1"), b("NaN")}}, "")
	if err != nil || len(void.Families) != 1 {
		t.Errorf("one observation that is no number did not void the snapshot: %v %+v", err, void)
	}
}

func TestValues(t *testing.T) {
	for _, tt := range []struct {
		oid  uint32
		text string
		want float64
	}{
		{16, "t", 1},
		{16, "f", 0},
		{1184, "2026-11-21 14:00:00.9+00", 1795269600},
		{1184, "2026-11-21 14:00:00+05:30", 1795249800},
		{1114, "1970-01-01 00:01:00", 60},
		{1700, "12.5", 25},
		{25, " 7 ", 14},
		{26, "16384", 32768},
	} {
		v, ok := Column{Scale: 2}.number(Field{Type: tt.oid}, b(tt.text))
		if !ok || v != tt.want {
			t.Errorf("%d %q: %v %v, want %v", tt.oid, tt.text, v, ok, tt.want)
		}
	}
}

// Whatever a file says, it is refused or can be planned and read back.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("a: &a {query: q, metrics: [x: {usage: GAUGE}]}\nb: {<<: *a, name: c}\n")
	f.Add("a: &x [*x]")
	f.Fuzz(func(t *testing.T, text string) {
		all, _, err := Parse("f", []byte(text))
		if err != nil {
			return
		}
		for _, c := range Plan(all, Facts{Version: 150000}) {
			if c.Query == "" || len(c.Families()) == 0 || c.Timeout < 0 || c.TTL < 0 {
				t.Errorf("accepted %+v", c)
			}
		}
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(text), &doc); err == nil && len(all) > len(doc) {
			t.Errorf("%d collectors of %d branches", len(all), len(doc))
		}
	})
}

// Whatever a server answers, Prometheus's own parser reads what is made of it.
func FuzzSeries(f *testing.F) {
	f.Add("a", "1", uint32(25))
	f.Add("\"\\\n", "infinity", uint32(1184))
	f.Add("\xff\xfe", "-1e400", uint32(1700))
	c := Collector{Name: "x", Columns: []Column{
		{Name: "l", As: "l", Usage: Label},
		{Name: "v", As: "v", Usage: Gauge, Scale: 1, Help: "one\\two\nthree"},
		{Name: "h", As: "h", Usage: Histogram, Scale: 1, Buckets: []float64{1, 2}},
	}}
	f.Fuzz(func(t *testing.T, label, v string, oid uint32) {
		r, err := c.Series([]Field{{"l", oid}, {"v", oid}, {"h", oid}}, [][][]byte{{b(label), b(v), b(v)}, {nil, b(label), b(v)}}, `k="z"`)
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		for _, f := range r.Families {
			text = append(f.Head(text), f.Text...)
		}
		p := expfmt.NewTextParser(model.LegacyValidation)
		if _, err := p.TextToMetricFamilies(strings.NewReader(string(text))); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	})
}
