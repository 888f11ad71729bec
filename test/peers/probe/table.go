package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// table prints the page of the given results, files of one result a line.
func table(args []string) error {
	results, err := read(args)
	if err != nil {
		return err
	}
	fmt.Print(page(results))
	return nil
}

// The marks between which a file carries the page.
const (
	mark = "<!-- peers: printed by make bench-peers -->\n"
	end  = "<!-- end of peers -->\n"
)

// printInto puts the page of results between the marks of a file.
func printInto(args []string) error {
	if len(args) < 2 {
		return errors.New("print: want a file, and results")
	}
	results, err := read(args[1:])
	if err != nil {
		return err
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(text), mark)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: no place for the tables (%q)", args[0], strings.TrimSpace(mark))
	}
	return os.WriteFile(args[0], []byte(before+mark+"\n"+page(results)+"\n"+end+after), 0o644)
}

func read(files []string) ([]result, error) {
	var all []result
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var r result
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, r)
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no results")
	}
	return all, nil
}

// scenarios in the order of the page, as an operator calls them.
var scenarios = []struct{ name, title string }{
	{"switchover", "switchover, planned"},
	{"postgres-crash", "postmaster killed"},
	{"agent-restart", "agent killed, and started again by its supervisor"},
	{"agent-kill", "agent killed, and never back"},
	{"node-loss", "node lost"},
	{"partition", "node cut off, and alive"},
}

// services in the order of the page.
var services = []struct{ name, title string }{{"rw", "5433"}, {"rw-direct", "5436"}}

// A column is one subject with one set of timers.
type column struct{ subject, profile string }

func (c column) of(all []result, scenario string) []result {
	var some []result
	for _, r := range all {
		if r.Subject == c.subject && r.Profile == c.profile && (scenario == "" || r.Scenario == scenario) {
			some = append(some, r)
		}
	}
	return some
}

// page is what was measured as Markdown: how long no write was acknowledged,
// and what became of those that were.
func page(all []result) string {
	var columns []column
	for _, r := range all {
		if c := (column{r.Subject, r.Profile}); !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	slices.SortFunc(columns, func(a, b column) int { return strings.Compare(b.subject+a.profile, a.subject+b.profile) })
	var b strings.Builder
	for _, c := range columns {
		some := c.of(all, "")
		latest := some[len(some)-1]
		fmt.Fprintf(&b, "- **%s, %s**: %s; %s. %d runs on %s; others used %s of %s cores meanwhile.\n", c.subject, c.profile,
			latest.Facts["versions"], latest.Facts["timers"], len(some), latest.When.Format("2 January 2006"),
			median(each(some, func(r result) float64 { return r.Foreign }), 1), latest.Facts["cores"])
	}
	b.WriteString("\nLongest time in which no write was acknowledged through nodes that the fault does not touch, in ms: median (worst).\n\n")
	header(&b, "fault at the primary | through", columns)
	for _, sc := range scenarios {
		for _, sv := range services {
			line(&b, sc.title+" | "+sv.title, columns, all, sc.name, func(runs []result) string {
				return median(each(runs, func(r result) float64 {
					if s := r.Services[sv.name]; s != nil {
						return s.OutageMS
					}
					return -1
				}), 0)
			})
		}
	}
	b.WriteString("\nAcknowledged rows that are gone afterwards, of clients outside / on the old primary's own network: worst.\n\n")
	header(&b, "fault at the primary", columns)
	for _, sc := range scenarios {
		line(&b, sc.title, columns, all, sc.name, func(runs []result) string {
			return worst(each(runs, func(r result) float64 { return float64(r.Lost[live] + r.Lost[faulted]) })) + " / " +
				worst(each(runs, func(r result) float64 { return float64(r.Lost[inside]) }))
		})
	}
	b.WriteString("\nTwo primaries that acknowledge at once: worst, in ms.\n\n")
	header(&b, "fault at the primary", columns)
	for _, sc := range scenarios {
		line(&b, sc.title, columns, all, sc.name, func(runs []result) string {
			return worst(each(runs, func(r result) float64 { return r.OverlapMS }))
		})
	}
	return b.String()
}

func header(b *strings.Builder, first string, columns []column) {
	fmt.Fprintf(b, "| %s |", first)
	for _, c := range columns {
		fmt.Fprintf(b, " %s, %s |", c.subject, c.profile)
	}
	b.WriteString("\n" + strings.Repeat("|---", strings.Count(first, "|")+1) + "|" + strings.Repeat("--:|", len(columns)) + "\n")
}

// line leaves out what nobody was measured at.
func line(b *strings.Builder, first string, columns []column, all []result, scenario string, cell func([]result) string) {
	var cells []string
	some := false
	for _, c := range columns {
		runs := c.of(all, scenario)
		if len(runs) == 0 {
			cells = append(cells, "–")
			continue
		}
		some = true
		text := cell(runs)
		if n := len(runs) - len(slices.DeleteFunc(slices.Clone(runs), func(r result) bool { return !r.Recovered })); n > 0 {
			text += fmt.Sprintf(", %d of %d never recovered", n, len(runs))
		}
		cells = append(cells, text)
	}
	if some {
		fmt.Fprintf(b, "| %s | %s |\n", first, strings.Join(cells, " | "))
	}
}

func each(runs []result, of func(result) float64) []float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return all
}

// median formats sorted numbers as "median (worst)".
func median(sorted []float64, digits int) string {
	m := (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
	text := strconv.FormatFloat(m, 'f', digits, 64)
	if most := strconv.FormatFloat(sorted[len(sorted)-1], 'f', digits, 64); most != text {
		text += " (" + most + ")"
	}
	return text
}

func worst(sorted []float64) string {
	return strconv.FormatFloat(sorted[len(sorted)-1], 'f', 0, 64)
}
