package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"howdah/observe/silence"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// storeWithin is what the store of metrics may take to answer; alertsSoon is
// what `status` waits for it.
const (
	storeWithin = 30 * time.Second
	alertsSoon  = time.Second
)

// Severities of alerts, the worst first.
const (
	Critical = "CRIT" // now
	Warning  = "WARN" // today
	Notice   = "INFO" // it was noticed
)

// States of alerts.
const (
	Firing  = "firing"
	Pending = "pending" // its cause is there, but not for long enough
)

// An Alert is what a rule of the store of metrics says that a person should hear of.
type Alert struct {
	Name     string            `json:"name"`
	Severity string            `json:"severity"`
	State    string            `json:"state"`
	Member   string            `json:"member,omitempty"` // "": the cluster, or all of it
	Problem  string            `json:"problem"`          // its entry in docs/problems.md
	Summary  string            `json:"summary"`
	Since    time.Time         `json:"since"` // when its cause was first seen
	Labels   map[string]string `json:"labels"`
}

// Alerts are those of one cluster, the worst first.
type Alerts struct {
	All    []Alert `json:"all"`
	Unwell string  `json:"unwell,omitempty"` // why nobody knows
}

// Firing are those that fire.
func (a Alerts) Firing() []Alert {
	return slices.DeleteFunc(slices.Clone(a.All), func(a Alert) bool { return a.State != Firing })
}

// A MetricStore is a store of metrics, as it is asked.
type MetricStore struct {
	url      string   // "": none is known
	silences string   // file of what is silenced; "": it is on another machine
	trust    spec.TLS // by what that knows us
}

// Metrics is the store of metrics of the house; no cluster need have a node there.
func (h House) Metrics() (MetricStore, error) {
	all, err := h.every()
	if err != nil {
		return MetricStore{}, err
	}
	if len(all) == 0 {
		_, err := h.Name("")
		return MetricStore{}, err
	}
	return h.storeOf(all, h.door(all)), nil
}

// Alerts asks the store of metrics what fires of the cluster, and what is about to.
func (c *Cluster) Alerts(ctx context.Context) ([]Alert, error) { return c.metrics.Alerts(ctx, c.Name) }

// Alerts asks what fires, and what is about to: of a cluster and of what belongs to none,
// or of all of them.
func (m MetricStore) Alerts(ctx context.Context, cluster string) ([]Alert, error) {
	var told struct {
		Alerts []struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
			State       string            `json:"state"`
			ActiveAt    time.Time         `json:"activeAt"`
		} `json:"alerts"`
	}
	if err := m.ask(ctx, "/api/v1/alerts", nil, &told); err != nil {
		return nil, err
	}
	all := []Alert{}
	for _, a := range told.Alerts {
		if of := a.Labels["cls"]; of != "" && cluster != "" && of != cluster {
			continue
		}
		all = append(all, Alert{
			Name: a.Labels["alertname"], Severity: a.Labels["severity"], State: a.State, Member: a.Labels["ins"], Problem: a.Labels["problem"],
			Summary: a.Annotations["summary"], Since: a.ActiveAt, Labels: a.Labels,
		})
	}
	slices.SortStableFunc(all, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(rank(a.Severity), rank(b.Severity)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Summary, b.Summary))
	})
	return all, nil
}

func rank(severity string) int {
	if i := slices.Index([]string{Critical, Warning, Notice}, severity); i >= 0 {
		return i
	}
	return len(severity) + 3 // of rules of one's own
}

// alerts is what `status` shows of them; nil: nobody keeps metrics.
func (c *Cluster) alerts(ctx context.Context) *Alerts {
	if c.metrics.url == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, alertsSoon)
	defer cancel()
	all, err := c.Alerts(ctx)
	if err != nil {
		return &Alerts{All: []Alert{}, Unwell: "the store of metrics does not answer"}
	}
	return &Alerts{All: all}
}

// A Rule is what has to be so for how long until an alert fires.
type Rule struct {
	Alert    string        `json:"alert"`
	Query    string        `json:"query"`
	For      time.Duration `json:"for"`
	Severity string        `json:"severity"`
	Problem  string        `json:"problem"`
	Group    string        `json:"group"`
	State    string        `json:"state"`            // inactive, pending, firing
	Failed   string        `json:"failed,omitempty"` // why it can not be judged
}

// Rules are the rules of alerts that the store of metrics goes by.
func (m MetricStore) Rules(ctx context.Context) ([]Rule, error) {
	var told struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Name     string            `json:"name"`
				Query    string            `json:"query"`
				Duration float64           `json:"duration"`
				Labels   map[string]string `json:"labels"`
				State    string            `json:"state"`
				Error    string            `json:"lastError"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := m.ask(ctx, "/api/v1/rules", url.Values{"type": {"alert"}}, &told); err != nil {
		return nil, err
	}
	all := []Rule{}
	for _, g := range told.Groups {
		for _, r := range g.Rules {
			all = append(all, Rule{
				Alert: r.Name, Query: r.Query, For: time.Duration(r.Duration * float64(time.Second)), Severity: r.Labels["severity"],
				Problem: r.Labels["problem"], Group: g.Name, State: r.State, Failed: r.Error,
			})
		}
	}
	return all, nil
}

// A Sample is one series of an answer of the store of metrics, with its value now.
type Sample struct {
	Labels map[string]string `json:"labels"`
	Value  string            `json:"value"` // as Prometheus writes it: a number, NaN, +Inf; of a string that itself
}

// Query asks the store of metrics a question in Prometheus's language, about now.
func (m MetricStore) Query(ctx context.Context, query string) ([]Sample, error) {
	var told struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	}
	if err := m.ask(ctx, "/api/v1/query", url.Values{"query": {query}}, &told); err != nil {
		return nil, err
	}
	type at [2]any // seconds, value
	all := []Sample{}
	switch told.Type {
	case "vector":
		var some []struct {
			Metric map[string]string `json:"metric"`
			Value  at                `json:"value"`
		}
		if err := json.Unmarshal(told.Result, &some); err != nil {
			return nil, err
		}
		for _, s := range some {
			all = append(all, Sample{s.Metric, fmt.Sprint(s.Value[1])})
		}
	case "scalar", "string":
		var one at
		if err := json.Unmarshal(told.Result, &one); err != nil {
			return nil, err
		}
		all = append(all, Sample{map[string]string{}, fmt.Sprint(one[1])})
	default:
		return nil, &problem.Error{
			Code: "metrics-query", What: "cannot ask " + query, Why: "its answer is a " + told.Type + ", which has no value for now",
			Do: "take a function over it, as rate(…[5m])",
		}
	}
	return all, nil
}

// ask asks the store of metrics, and reads the data of its answer.
func (m MetricStore) ask(ctx context.Context, path string, form url.Values, into any) error {
	var told struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := m.fetch(ctx, path, form, &told); err != nil {
		return err
	}
	if told.Status != "success" {
		return &problem.Error{
			Code: "metrics-query", What: "cannot ask " + cmp.Or(form.Get("query"), path), Why: strings.TrimPrefix(told.Error, "invalid query: "),
			Do: "the language is Prometheus's; `howdah metrics '{__name__=~\"howdah_.*\"}'` shows some series",
		}
	}
	return json.Unmarshal(told.Data, into)
}

// fetch reads what the store answers.
func (m MetricStore) fetch(ctx context.Context, path string, form url.Values, into any) error {
	if m.url == "" {
		return &problem.Error{
			Code: "metrics-none", What: "cannot ask for metrics", Why: "no node here keeps any",
			Do: "`howdah up --observe` has a node of a playground keep them",
		}
	}
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	away := func(err error) error {
		return &problem.Error{
			Code: "metrics-away", What: "cannot ask for metrics", Why: "their store at " + m.url + " does not answer",
			Do: "look at observe.log of the node that keeps them; it may have been started just now", Err: err,
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+path+"?"+form.Encode(), nil)
	if err != nil {
		return away(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return away(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(into); err != nil {
		return away(err)
	}
	return nil
}

// storeOf is the store of metrics of these nodes, or of their playground.
func (h House) storeOf(nodes []spec.Node, through door) MetricStore {
	if all, err := playground.Nodes(h.Dir); err == nil {
		nodes = all // another cluster's node may keep them
	}
	for _, n := range nodes {
		if n.Observe.On() {
			return MetricStore{url: through.url("http://" + n.Observe.Listen[0]), silences: silence.Path(n.Observe)}
		}
	}
	for _, n := range nodes {
		if n.Observe.At != "" {
			return MetricStore{url: n.Observe.At, trust: n.TLS}
		}
	}
	return MetricStore{}
}
