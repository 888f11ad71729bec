package alert

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// shipped are the names of all derived series and alerts.
func shipped(t *testing.T) (series, alerts []string) {
	t.Helper()
	for _, f := range Shipped() {
		var told struct {
			Groups []struct {
				Rules []struct{ Record, Alert string }
			}
		}
		if err := yaml.Unmarshal(f.Text, &told); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		for _, g := range told.Groups {
			for _, r := range g.Rules {
				if r.Record != "" {
					series = append(series, r.Record)
				} else {
					alerts = append(alerts, r.Alert)
				}
			}
		}
	}
	return series, alerts
}

// each expands {a,b}.
func each(word string) []string {
	open := strings.IndexByte(word, '{')
	if open < 0 {
		return []string{word}
	}
	end := open + strings.IndexByte(word[open:], '}')
	var all []string
	for choice := range strings.SplitSeq(word[open+1:end], ",") {
		all = append(all, each(word[:open]+choice+word[end+1:])...)
	}
	return all
}

// Every derived series and alert that dashboards and their rules know is made, or
// it is said why not; and whatever is made beyond is ours.
func TestNames(t *testing.T) {
	series, alerts := shipped(t)
	text, err := os.ReadFile("testdata/derived.txt")
	if err != nil {
		t.Fatal(err)
	}
	family := regexp.MustCompile(`^(\w+) ([\w,]+): (.+)$`)
	known := map[string]bool{}
	want := func(name string, in []string) {
		known[name] = true
		if !slices.Contains(in, name) {
			t.Errorf("nothing makes %s", name)
		}
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		m := family.FindStringSubmatch(line)
		names, isAlerts := strings.CutPrefix(line, "alerts: ")
		switch {
		case line == "" || line[0] == '#' || line[0] == '-':
		case isAlerts:
			for name := range strings.FieldsSeq(names) {
				want(name, alerts)
			}
		case m == nil:
			for word := range strings.FieldsSeq(line) {
				for _, name := range each(word) {
					want(name, series)
				}
			}
		default:
			for level := range strings.SplitSeq(m[2], ",") {
				for word := range strings.FieldsSeq(m[3]) {
					for _, name := range each(word) {
						want(m[1]+":"+level+":"+name, series)
					}
				}
			}
		}
	}
	for _, name := range series {
		if !known[name] && !strings.HasPrefix(name, "etcd:") {
			t.Errorf("%s is made, and testdata/derived.txt does not know it", name)
		}
	}
}
