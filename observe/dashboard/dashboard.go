// Package dashboard is the dashboards for a Grafana that somebody has: what the
// series of clusters, instances, databases, queries, gateways, backups and alerts
// look like, as JSON that Grafana imports.
//
// It is a pure function of the table in panels.go. Grafana's own stack need not be
// there: the console shows the most of it without.
package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A Dashboard is one page of Grafana.
type Dashboard struct {
	UID   string // howdah-cluster
	Title string
	About string
	By    []Variable // that a viewer chooses, each from what those before leave
	Rows  []Row
}

// A Variable is a label whose value a viewer chooses.
type Variable struct {
	Name string // cls: $cls in queries
	Of   string // the series that have it
	Many bool   // several, or all
}

// A Row is panels under one heading.
type Row struct {
	Title  string
	Panels []Panel
}

// A Panel is one picture.
type Panel struct {
	Title  string
	Kind   Kind
	Unit   Unit
	Asks   []Ask
	Hidden string // why there may be nothing to show on a healthy cluster that does little; "": there always is
}

// An Ask is one question and how its series are called.
type Ask struct{ Query, Legend string }

// A Kind is how a panel draws.
type Kind string

// Kinds of panels.
const (
	Lines Kind = "timeseries"
	Stat  Kind = "stat" // the last value, in large figures
	Table Kind = "table"
	Alive Kind = "state-timeline"
)

// A Unit is Grafana's name for what values are.
type Unit string

// Units.
const (
	Number  Unit = "short"
	Bytes   Unit = "bytes"
	Rate    Unit = "Bps"
	PerSec  Unit = "ops"
	Seconds Unit = "s"
	Share   Unit = "percentunit"
	Truth   Unit = "bool_on_off"
	Moment  Unit = "dateTimeFromNow" // of milliseconds
)

// Width of a panel in Grafana's 24 columns, and heights.
const (
	across     = 24
	wide       = 8
	narrow     = 4
	heightLine = 8
	heightStat = 4
)

// source is how panels name the data source: by a variable that a viewer sets once.
var source = map[string]any{"type": "prometheus", "uid": "${source}"}

// JSON is the dashboard as Grafana imports it (its schema 39, of Grafana 10 and later).
func (d Dashboard) JSON() []byte {
	variables := []any{map[string]any{"name": "source", "label": "Source", "type": "datasource", "query": "prometheus", "hide": 0}}
	for i, v := range d.By {
		variables = append(variables, map[string]any{
			"name": v.Name, "label": v.Name, "type": "query", "datasource": source, "refresh": 2, "sort": 1, "multi": v.Many, "includeAll": v.Many,
			"query":      map[string]any{"query": fmt.Sprintf("label_values(%s, %s)", v.Of+chosen(d.By[:i]), v.Name), "refId": "v"},
			"definition": fmt.Sprintf("label_values(%s, %s)", v.Of+chosen(d.By[:i]), v.Name),
		})
	}
	var panels []any
	id, y := 0, 0
	for _, row := range d.Rows {
		id++
		panels = append(panels, map[string]any{"id": id, "type": "row", "title": row.Title, "collapsed": false, "panels": []any{}, "gridPos": at(0, y, across, 1)})
		y++
		x, high := 0, 0
		for _, p := range row.Panels {
			w, h := p.size()
			if x+w > across {
				x, y, high = 0, y+high, 0
			}
			id++
			panels = append(panels, p.json(id, at(x, y, w, h)))
			x, high = x+w, max(high, h)
		}
		y += high
	}
	b, err := json.MarshalIndent(map[string]any{
		"uid": d.UID, "title": d.Title, "description": d.About, "tags": []string{"howdah", "postgresql"}, "schemaVersion": 39, "version": 1,
		"editable": true, "graphTooltip": 1, "refresh": "10s", "time": map[string]string{"from": "now-1h", "to": "now"},
		"templating": map[string]any{"list": variables}, "panels": panels, "annotations": map[string]any{"list": []any{}},
		"links": []any{map[string]any{"title": "Howdah", "type": "dashboards", "tags": []string{"howdah"}, "asDropdown": true, "includeVars": true, "keepTime": true}},
	}, "", "  ")
	if err != nil {
		panic(err) // maps of words and numbers
	}
	return append(b, '\n')
}

// chosen selects what the viewer has chosen by these.
func chosen(by []Variable) string {
	var all []string
	for _, v := range by {
		op := "="
		if v.Many {
			op = "=~"
		}
		all = append(all, fmt.Sprintf("%s%s\"$%s\"", v.Name, op, v.Name))
	}
	if len(all) == 0 {
		return ""
	}
	return "{" + strings.Join(all, ",") + "}"
}

func at(x, y, w, h int) map[string]int { return map[string]int{"x": x, "y": y, "w": w, "h": h} }

func (p Panel) size() (w, h int) {
	switch p.Kind {
	case Stat:
		return narrow, heightStat
	case Table, Alive:
		return across, heightLine
	}
	return wide, heightLine
}

func (p Panel) json(id int, pos map[string]int) map[string]any {
	var targets []any
	for i, a := range p.Asks {
		targets = append(targets, map[string]any{
			"refId": string(rune('A' + i)), "datasource": source, "expr": a.Query, "legendFormat": a.Legend,
			"instant": p.Kind == Table || p.Kind == Stat, "range": p.Kind != Table && p.Kind != Stat, "format": map[bool]string{true: "table", false: "time_series"}[p.Kind == Table],
		})
	}
	custom := map[string]any{}
	if p.Kind == Lines {
		custom = map[string]any{"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false}
	}
	panel := map[string]any{
		"id": id, "type": string(p.Kind), "title": p.Title, "datasource": source, "gridPos": pos, "targets": targets,
		"fieldConfig": map[string]any{"defaults": map[string]any{"unit": string(p.Unit), "custom": custom}, "overrides": []any{}},
		"options":     map[string]any{},
	}
	switch p.Kind {
	case Lines:
		panel["options"] = map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom"}, "tooltip": map[string]any{"mode": "multi", "sort": "desc"}}
	case Stat:
		panel["options"] = map[string]any{"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}}, "textMode": "auto", "colorMode": "value"}
	case Table:
		panel["transformations"] = []any{map[string]any{"id": "organize", "options": map[string]any{"excludeByName": map[string]bool{"Time": true, "__name__": true, "instance": true}}}}
	}
	if p.Hidden != "" {
		panel["description"] = "Empty: " + p.Hidden + "."
	}
	return panel
}
