package dashboard

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"

	"howdah/observe/alert"
)

// Every query is one, asks for series that somebody tells or some rule makes, and
// chooses by what the viewer may choose.
func TestQueries(t *testing.T) {
	known := told(t)
	p := parser.NewParser(parser.Options{})
	for _, d := range All() {
		for _, row := range d.Rows {
			for _, panel := range row.Panels {
				for _, a := range panel.Asks {
					e, err := p.ParseExpr(a.Query)
					if err != nil {
						t.Errorf("%s, %s: %v", d.UID, panel.Title, err)
						continue
					}
					parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
						if v, ok := n.(*parser.VectorSelector); ok && !known(v.Name) {
							t.Errorf("%s, %s: nobody tells %s", d.UID, panel.Title, v.Name)
						}
						return nil
					})
					for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(a.Query, -1) {
						if !slices.ContainsFunc(d.By, func(by Variable) bool { return by.Name == v[1] }) {
							t.Errorf("%s, %s: nobody chooses $%s", d.UID, panel.Title, v[1])
						}
					}
				}
			}
		}
	}
}

// told says whether a series of that name is told: by the source of whoever tells
// it, the collectors, or a rule.
func told(t *testing.T) func(name string) bool {
	t.Helper()
	var all strings.Builder
	for _, f := range alert.Shipped() {
		all.Write(f.Text)
	}
	rules := all.String()
	for _, pattern := range []string{"../../control/metrics.go", "../../access/gateway/metrics.go", "../host/*.go", "../collector/testdata/*.txt", "../../backup/keep/metrics.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	text := all.String()
	return func(name string) bool {
		switch prefix, rest, _ := strings.Cut(name, "_"); {
		case name == "up" || name == "ALERTS" || prefix == "etcd" || strings.HasPrefix(name, "pg_in_") || name == "pg_up": // Prometheus's, etcd's, the exporter's own
			return true
		case strings.Contains(name, ":"):
			return strings.Contains(rules, "record: '"+name+"'")
		case prefix == "pgbackrest":
			return strings.Contains(text, `"`+strings.TrimPrefix(name, "pgbackrest_backup_")+`"`)
		case prefix == "haproxy":
			_, metric, _ := strings.Cut(rest, "_")
			return strings.Contains(text, `{"`+metric+`"`)
		default:
			return strings.Contains(text, name)
		}
	}
}

// What Grafana gets is JSON with panels that do not cover each other, each with an
// id of its own.
func TestJSON(t *testing.T) {
	for _, d := range All() {
		var got struct {
			UID    string
			Panels []struct {
				ID      int
				Type    string
				Title   string
				GridPos struct{ X, Y, W, H int }
				Targets []struct{ Expr string }
			}
			Templating struct{ List []struct{ Name string } }
		}
		if err := json.Unmarshal(d.JSON(), &got); err != nil {
			t.Fatalf("%s: %v", d.UID, err)
		}
		if len(got.Templating.List) != len(d.By)+1 || got.UID != d.UID {
			t.Errorf("%s: %+v", d.UID, got.Templating)
		}
		taken := map[string]string{}
		ids := map[int]bool{}
		for _, p := range got.Panels {
			if ids[p.ID] || p.Title == "" || (p.Type == "row") != (len(p.Targets) == 0) {
				t.Errorf("%s: panel %+v", d.UID, p)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					place := fmt.Sprintf("%d,%d", x, y)
					if x >= across || taken[place] != "" {
						t.Fatalf("%s: %s is where %s is, at %s", d.UID, p.Title, taken[place], place)
					}
					taken[place] = p.Title
				}
			}
		}
	}
}
