package collector

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// different are the lines of testdata/pg_exporter-1.4.txt that we do not have,
// or that we have beside it, each with its reason.
var different = map[string]string{
	"pg_active_count gauge wait": "what sessions at work wait for; pg_wait counts those too that wait for their client to say something",
}

// The names, types and labels of what ships are those of pg_exporter, for each
// major version and role.
func TestNames(t *testing.T) {
	text, err := os.ReadFile("testdata/pg_exporter-1.4.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].Skip = false // they have names too
	}
	used := map[string]bool{}
	for major := 14; major <= 18; major++ {
		for _, recovery := range []bool{false, true} {
			want := map[string]bool{}
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line)
				if f[0] == "#" || !slices.Contains(strings.Split(f[3], ","), strconv.Itoa(major)) {
					continue
				}
				if recovery && slices.Contains(f, "primary") || !recovery && slices.Contains(f, "replica") {
					continue
				}
				want[strings.Join(f[:3], " ")] = true
			}
			got := map[string]bool{}
			for _, c := range Plan(all, Facts{
				Version: major*10000 + 5, Recovery: recovery, Database: "postgres",
				Extensions: []string{"pg_stat_statements", "pg_wait_sampling", "citus", "timescaledb"},
				Schemas:    []string{"monitor", "timescaledb_information"},
			}) {
				if c.Why != "" {
					continue
				}
				for _, line := range described(c.Collector) {
					if got[line] {
						t.Errorf("%d: %s twice", major, line)
					}
					got[line] = true
				}
			}
			for _, line := range slices.Sorted(maps.Keys(want)) {
				if !got[line] && different[line] == "" {
					t.Errorf("%d, recovery %v: pg_exporter has %q, we do not", major, recovery, line)
				}
				used[line] = used[line] || !got[line]
			}
			for _, line := range slices.Sorted(maps.Keys(got)) {
				if !want[line] && different[line] == "" {
					t.Errorf("%d, recovery %v: we have %q, pg_exporter does not", major, recovery, line)
				}
				used[line] = used[line] || !want[line]
			}
		}
	}
	for line := range different {
		if !used[line] {
			t.Errorf("%q is no difference any more", line)
		}
	}
}

// described are a collector's families, as the recorded list has them.
func described(c Collector) []string {
	var labels []string
	for _, col := range c.Columns {
		if col.Usage == Label {
			labels = append(labels, col.As)
		}
	}
	join := func(more ...string) string {
		all := slices.Sorted(slices.Values(append(slices.Clone(labels), more...)))
		if len(all) == 0 {
			return "-"
		}
		return strings.Join(all, ",")
	}
	var lines []string
	for _, col := range c.Columns {
		name := c.Name + "_" + col.As
		switch col.Usage {
		case Gauge, Counter:
			lines = append(lines, fmt.Sprintf("%s %s %s", name, strings.ToLower(string(col.Usage)), join()))
		case Histogram:
			lines = append(lines, name+"_bucket gauge "+join("le"), name+"_sum gauge "+join(), name+"_count gauge "+join())
		}
	}
	return lines
}
