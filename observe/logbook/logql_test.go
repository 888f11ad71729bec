package logbook

import (
	"strings"
	"testing"
	"time"
)

// What is asked in Loki's language is what is found, and what is not served is
// refused, never passed over.
func TestSelector(t *testing.T) {
	r := Record{
		Source: Source{Cluster: "demo", Member: "demo-1", IP: "10.10.10.11", Job: Postgres}, Time: time.Unix(1_800_000_000, 0), Level: Err,
		Message: `relation "<none>" does not exist`, Fields: []Field{{"user", "app"}, {"lv", "ERROR"}, {"q", "SELECT 1"}},
	}
	for _, tt := range []struct {
		query string
		want  bool
	}{
		{`{cls="demo"}`, true},
		{`{cls="dem"}`, false},
		{`{cls=~"dem."}`, true},
		{`{cls=~"dem"}`, false}, // all of it
		{`{cls!~"other|x", job="postgres"}`, true},
		{`{job=~".+", ins!="demo-1"}`, false},
		{`{ level = "err" , ip="10.10.10.11" }`, true},
		{`{cls="demo",app!=""}`, false},
		{`{cls="demo"} |= "does not"`, true},
		{`{cls="demo"} |= "<none>"`, true},
		{`{cls="demo"} |= "does nit"`, false},
		{`{cls="demo"} != "does not"`, false},
		{"{cls=\"demo\"} |~ `does\\s+not`", true},
		{`{cls="demo"} !~ "exists" |= "SELECT 1"`, true},
		{`{cls="demo"} |= "nothing" or "SELECT"`, true},
		{`{cls="demo"} != "nothing" or "SELECT"`, false},
		{`{cls="demo"} | json | user="app"`, true},
		{`{cls="demo"} | json | user!="app"`, false},
		{`{cls="demo"} | json | user=~"a.*" and lv="ERROR", message=~".*SELECT 1"`, true},
		{`{cls="demo"} | json | user="app" and db="x"`, false},
		{`{cls="demo"} | user="app"`, false}, // of which nothing is known without json
		{`{cls="demo"} | level="err" | drop __error__`, true},
	} {
		s, err := ParseSelector(tt.query)
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		if got := s.Wants(r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.query, got, tt.want)
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.Wants(r) != tt.want {
			t.Errorf("%s is written %s: %v", tt.query, s, err)
		}
	}
	for query, why := range map[string]string{
		``: "expected", `{`: "label", `{}`: "at least one label", `{cls!="x"}`: "at least one label", `{cls=~".*"}`: "at least one label",
		`{cls="demo"`: "expected", `{cls="demo"} x`: "not served", `{cls=demo}`: "quotes", `{cls="("} |~ "("`: "missing", `{cls=~"("}`: "missing",
		`{cls="demo"} | line_format "x"`: "served are", `{cls="demo"} | json | duration > 5`: "served are", `{cls="demo"} |`: "stage",
		`{cls='demo'}`: "quotes", `{cls="demo"} |= `: "quotes", `{,}`: "label",
	} {
		if s, err := ParseSelector(query); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, %v; want %s", query, s, err, why)
		}
	}
	s, err := ParseSelector(`{cls="demo", job="agent"} |= "x"`)
	if err != nil || len(s.Jobs()) != 1 || s.Jobs()[0] != "agent" || !s.May(Source{Cluster: "demo"}) || s.May(Source{Cluster: "other"}) ||
		!s.Stream(Source{Cluster: "demo", Job: "agent"}, Info) || s.Stream(Source{Cluster: "demo", Job: Postgres}, Info) {
		t.Errorf("%v %v", s, err)
	}
}

func TestCount(t *testing.T) {
	r := Record{Source: Source{Cluster: "demo", Member: "demo-1", Job: Postgres}, Level: Err}
	for _, tt := range []struct {
		query string
		over  time.Duration
		rate  bool
		group int // labels that are left
	}{
		{`count_over_time({cls="demo"}[5m])`, 5 * time.Minute, false, 4},
		{`rate({cls="demo"} |= "x" [1h30m])`, 90 * time.Minute, true, 4},
		{`sum(count_over_time({cls="demo"}[1d]))`, 24 * time.Hour, false, 0},
		{`sum by (level, detected_level) (count_over_time({cls="demo"} |= "x" | drop __error__[10s]))`, 10 * time.Second, false, 1},
		{`sum(rate({cls="demo"}[250ms])) by (level,job)`, 250 * time.Millisecond, true, 2},
	} {
		_, c, err := ParseLogQL(tt.query)
		if err != nil || c == nil || c.Over != tt.over || c.Rate != tt.rate || len(c.Group(r)) != tt.group {
			t.Errorf("%s: %+v %v", tt.query, c, err)
		}
	}
	for _, query := range []string{`avg(rate({cls="demo"}[5m]))`, `count_over_time({cls="demo"})`, `rate({cls="demo"}[0s])`, `rate({cls="demo"}[5m`, `sum by (rate({cls="demo"}[5m]))`, `rate({cls="demo"}[5m]) / 2`} {
		if _, c, err := ParseLogQL(query); err == nil {
			t.Errorf("%s is %+v", query, c)
		}
	}
	if s, c, err := ParseLogQL(`{cls="demo"}`); s == nil || c != nil || err != nil {
		t.Errorf("%v %v %v", s, c, err)
	}
}

// Whatever is asked is answered or refused.
func FuzzLogQL(f *testing.F) {
	f.Add(`sum by (level) (count_over_time({cls="demo"} |= "x" or "y" | json | user=~"a" [5m]))`)
	f.Add("{job=~\".+\"} |~ `a|b` != \"c\"")
	f.Fuzz(func(t *testing.T, text string) {
		s, c, err := ParseLogQL(text)
		if err == nil && (s == nil) == (c == nil) {
			t.Errorf("%q is both or neither", text)
		}
		if s == nil {
			return
		}
		if _, err := ParseSelector(s.String()); err != nil {
			t.Errorf("%q is written %q: %v", text, s, err)
		}
	})
}
