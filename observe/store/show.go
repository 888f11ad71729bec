package store

import (
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
)

// metrics are the store's own: what the clusters say of themselves, and how it
// does itself.
func (s *Store) metrics(w http.ResponseWriter, r *http.Request) {
	facts, _ := s.facts.Get()
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(w, r)
	_, _ = w.Write(facts) // a client that went away is no matter
}

func (s *Store) showTargets(*http.Request) (answer, error) {
	active := []map[string]any{}
	for pool, targets := range s.scraper.TargetsActive() {
		for _, t := range targets {
			failed := ""
			if err := t.LastError(); err != nil {
				failed = err.Error()
			}
			active = append(active, map[string]any{
				"labels": t.Labels(labels.NewBuilder(labels.EmptyLabels())), "discoveredLabels": t.DiscoveredLabels(labels.NewBuilder(labels.EmptyLabels())),
				"scrapePool": pool, "scrapeUrl": t.URL().String(), "globalUrl": t.URL().String(), "lastError": failed, "lastScrape": t.LastScrape(),
				"lastScrapeDuration": t.LastScrapeDuration().Seconds(), "health": t.Health(),
				"scrapeInterval": s.Node.Observe.Every.String(), "scrapeTimeout": t.GetValue("__scrape_timeout__"),
			})
		}
	}
	slices.SortFunc(active, func(a, b map[string]any) int {
		return strings.Compare(a["scrapeUrl"].(string), b["scrapeUrl"].(string))
	})
	return answer{data: map[string]any{"activeTargets": active, "droppedTargets": []any{}, "droppedTargetCounts": map[string]int{}}}, nil
}

func (s *Store) metadata(r *http.Request) (answer, error) {
	limit := -1
	if l := r.FormValue("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil {
			return answer{}, bad("limit: %q is no number", l)
		}
		limit = n
	}
	only := r.FormValue("metric")
	all := map[string][]scrape.MetricMetadata{}
	for _, targets := range s.scraper.TargetsActive() {
		for _, t := range targets {
			for _, m := range t.ListMetadata() {
				if only != "" && m.MetricFamily != only || slices.Contains(all[m.MetricFamily], m) || limit >= 0 && len(all) >= limit && all[m.MetricFamily] == nil {
					continue
				}
				all[m.MetricFamily] = append(all[m.MetricFamily], m)
			}
		}
	}
	shown := map[string][]map[string]any{}
	for name, some := range all {
		for _, m := range some {
			shown[name] = append(shown[name], map[string]any{"type": m.Type, "help": m.Help, "unit": m.Unit})
		}
	}
	return answer{data: shown}, nil
}

func (s *Store) showRules(r *http.Request) (answer, error) {
	kind := r.FormValue("type")
	if kind != "" && kind != "alert" && kind != "record" {
		return answer{}, bad("type: %q is neither alert nor record", kind)
	}
	groups := []map[string]any{}
	for _, g := range s.rules.RuleGroups() {
		some := []map[string]any{}
		for _, rule := range g.Rules() {
			failed := ""
			if err := rule.LastError(); err != nil {
				failed = err.Error()
			}
			one := map[string]any{
				"name": rule.Name(), "query": rule.Query().String(), "labels": rule.Labels(), "health": rule.Health(), "lastError": failed,
				"evaluationTime": rule.GetEvaluationDuration().Seconds(), "lastEvaluation": rule.GetEvaluationTimestamp(), "type": "recording",
			}
			a, alerting := rule.(*rules.AlertingRule)
			if kind != "" && alerting != (kind == "alert") {
				continue
			}
			if alerting {
				one["type"], one["state"], one["duration"], one["keepFiringFor"] = "alerting", a.State().String(), a.HoldDuration().Seconds(), a.KeepFiringFor().Seconds()
				one["annotations"], one["alerts"] = a.Annotations(), alerts(a)
			}
			some = append(some, one)
		}
		if len(some) > 0 {
			groups = append(groups, map[string]any{
				"name": g.Name(), "file": g.File(), "rules": some, "interval": g.Interval().Seconds(), "limit": g.Limit(),
				"evaluationTime": g.GetEvaluationTime().Seconds(), "lastEvaluation": g.GetLastEvaluation(),
			})
		}
	}
	return answer{data: map[string]any{"groups": groups}}, nil
}

func (s *Store) showAlerts(*http.Request) (answer, error) {
	all := []map[string]any{}
	for _, r := range s.rules.AlertingRules() {
		all = append(all, alerts(r)...)
	}
	return answer{data: map[string]any{"alerts": all}}, nil
}

// alerts are those of a rule that are pending or fire.
func alerts(r *rules.AlertingRule) []map[string]any {
	all := []map[string]any{}
	for _, a := range r.ActiveAlerts() {
		at := a.ActiveAt
		all = append(all, map[string]any{
			"labels": a.Labels, "annotations": a.Annotations, "state": a.State.String(), "activeAt": &at,
			"value": strconv.FormatFloat(a.Value, 'e', -1, 64),
		})
	}
	return all
}

func (s *Store) alertmanagers(*http.Request) (answer, error) {
	active := []map[string]string{}
	for _, u := range s.Node.Observe.Notify {
		active = append(active, map[string]string{"url": u + notifyPath})
	}
	return answer{data: map[string]any{"activeAlertmanagers": active, "droppedAlertmanagers": []any{}}}, nil
}

// buildinfo names a Prometheus whose API this is, by which Grafana decides what
// it may ask.
func (s *Store) buildinfo(*http.Request) (answer, error) {
	return answer{data: map[string]string{
		"version": "3.15.0", "revision": "howdah " + s.Version, "branch": "", "buildUser": "", "buildDate": "", "goVersion": runtime.Version(),
	}}, nil
}

func (s *Store) runtimeinfo(*http.Request) (answer, error) {
	return answer{data: map[string]any{
		"startTime": s.began.UTC(), "CWD": s.Node.Observe.Data, "GOMAXPROCS": runtime.GOMAXPROCS(0), "goroutineCount": runtime.NumGoroutine(),
		"storageRetention": s.Node.Observe.Keep.Truncate(time.Minute).String(), "reloadConfigSuccess": true, "serverTime": s.now().UTC(),
	}}, nil
}
