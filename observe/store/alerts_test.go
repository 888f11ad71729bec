package store

import (
	"cmp"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/rules"
)

// A cause is what some alert is about, in series before and while it lasts.
type cause struct {
	alert  string
	series []*caused
}

type caused struct {
	labels labels.Labels
	phases [2]string // what it says before, and while the cause lasts
	last   float64   // of what grows
}

// causes reads testdata/alerts.txt.
func causes(t *testing.T) []*cause {
	t.Helper()
	text, err := os.ReadFile("testdata/alerts.txt")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^  (\w+)\{(.*)\}  (\S+) -> (\S+)$`)
	var all []*cause
	for l := range strings.Lines(string(text)) {
		l = strings.TrimRight(l, "\n")
		m := line.FindStringSubmatch(l)
		switch {
		case l == "" || l[0] == '#':
		case l[0] != ' ':
			all = append(all, &cause{alert: l})
		case m == nil:
			t.Fatalf("testdata/alerts.txt: %q is no series", l)
		default:
			c := all[len(all)-1]
			words := map[string]string{"__name__": m[1], "job": "pgsql", "cls": c.alert}
			for pair := range strings.SplitSeq(m[2], ",") {
				if name, value, ok := strings.Cut(pair, "="); ok {
					words[name] = value
				}
			}
			words["ip"] = c.alert + "-" + words["ins"]
			if strings.HasPrefix(m[1], "howdah_") { // which the store itself tells
				words["job"], words["ip"] = "infra", "10.0.0.9"
			}
			if words["instance"] == "" { // as everything has that was gathered
				words["instance"] = words["ip"] + ":1"
			}
			c.series = append(c.series, &caused{labels: labels.FromMap(words), phases: [2]string{m[3], m[4]}})
		}
	}
	return all
}

// at is what the series says then; ok is false where it is not there.
func (c *caused) at(t *testing.T, phase int, now time.Time) (value float64, ok bool) {
	t.Helper()
	word := c.phases[phase]
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %q is no value", c.labels, word)
		}
		return n
	}
	if from, by, ok := strings.Cut(word, "+-"); ok { // 30000+-100: it falls from there
		c.last = cmp.Or(c.last, number(from)) - number(by)
		return c.last, true
	}
	switch {
	case word == "-":
		return 0, false
	case word == "now":
		return float64(now.Unix()), true
	case strings.HasPrefix(word, "now"):
		return float64(now.Unix()) + number(word[3:]), true
	case word[0] == '+':
		c.last += number(word[1:])
		return c.last, true
	}
	return number(word), true
}

// Every alert that ships is silent while all is well, fires when its cause has
// lasted for as long as it waits, says of whom and what, and ends with its cause.
// No rule that it may rest on fails meanwhile.
func TestAlertsFireAndResolve(t *testing.T) {
	const look, turn = 15 * time.Second, time.Minute // between samples, between evaluations
	s := open(t)
	s.db.DisableCompactions()
	all := causes(t)
	shipped := map[string]*rules.AlertingRule{}
	for _, r := range s.rules.AlertingRules() {
		shipped[r.Name()] = r
	}
	for _, c := range all {
		if shipped[c.alert] == nil {
			t.Fatalf("testdata/alerts.txt: no alert is called %s", c.alert)
		}
	}
	for name := range shipped {
		if !slices.ContainsFunc(all, func(c *cause) bool { return c.alert == name }) {
			t.Errorf("alert %s: testdata/alerts.txt has no cause of it", name)
		}
	}

	now := time.Now().Truncate(time.Minute).Add(-48 * time.Hour)
	gather := func(phase int) {
		now = now.Add(look)
		app := s.db.Appender(t.Context())
		for _, c := range all {
			for _, series := range c.series {
				v, ok := series.at(t, phase, now)
				if !ok {
					v = math.Float64frombits(value.StaleNaN) // as the scraper marks what has gone
				}
				if _, err := app.Append(0, series.labels, now.UnixMilli(), v); err != nil {
					t.Fatalf("%s: %v", series.labels, err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	// active is the alert of that name which is about its cause.
	active := func(name string) *rules.Alert {
		for _, a := range shipped[name].ActiveAlerts() {
			if a.Labels.Get("cls") == name {
				return a
			}
		}
		return nil
	}
	silent := func(when string) {
		t.Helper()
		for _, c := range all {
			if a := active(c.alert); a != nil {
				t.Errorf("%s: %s is %s: %s", when, c.alert, a.State, a.Annotations.Get("summary"))
			}
		}
	}
	fired := map[string]time.Time{} // when each was first seen to
	pass := func(phase int, d time.Duration) {
		for end := now.Add(d); now.Before(end); {
			gather(phase)
			if now.UnixMilli()%turn.Milliseconds() != 0 {
				continue
			}
			for _, g := range slices.Backward(s.rules.RuleGroups()) { // derived series first: their files come after alerts.yml
				g.Eval(t.Context(), now)
			}
			for _, c := range all {
				if a := active(c.alert); a != nil && a.State == rules.StateFiring && fired[c.alert].IsZero() {
					fired[c.alert] = now
					tells(t, c.alert, a)
				}
			}
		}
	}

	pass(0, 2*time.Minute)
	silent("all is well")
	began := now
	pass(1, 8*time.Minute)
	now = now.Add(24 * time.Hour) // some wait for long
	for range 8 {
		gather(1)
	}
	pass(1, 2*time.Minute)
	for _, c := range all {
		wait, at := shipped[c.alert].HoldDuration(), fired[c.alert]
		if at.IsZero() || at.Sub(began) < wait || wait < 5*time.Minute && at.Sub(began) > wait+5*time.Minute {
			t.Errorf("%s waits for %s, and fired after %s: %v", c.alert, wait, at.Sub(began), active(c.alert))
		}
	}
	now = now.Add(time.Hour)
	pass(0, 7*time.Minute)
	silent("all is well again")
	for _, g := range s.rules.RuleGroups() {
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				t.Errorf("%s: %v", r.Name(), err)
			}
		}
	}
}

// tells says whether an alert has what a person needs: of whom it is, and what
// it is sorted by.
func tells(t *testing.T, name string, a *rules.Alert) {
	t.Helper()
	said, ins := a.Annotations.Get("summary"), a.Labels.Get("ins")
	if !strings.Contains(said, name) && (ins == "" || !strings.Contains(said, ins)) || strings.Contains(said, "  ") {
		t.Errorf("%s does not say whom it is about (%s of %s): %q", name, ins, name, said)
	}
	for _, label := range []string{"severity", "level", "category", "problem"} {
		if a.Labels.Get(label) == "" {
			t.Errorf("%s has no %s", name, label)
		}
	}
}
