// Package push takes metrics of jobs that do not live long enough to be asked,
// and tells the last of each group: the API of Prometheus's Pushgateway.
//
// A group is a job and the labels of the path that it was pushed to. PUT replaces
// it, POST those of its families that have a name of the new ones, DELETE removes
// it. What was taken is on disk within a second, and there again after a restart.
// It takes no name of a job that is one of ours, so that nobody passes for a
// server, and no more than its limits.
package push

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"howdah/exposition"
)

// Limits of what is kept.
const (
	maxBody   = 4 << 20
	maxGroups = 1000
	maxSeries = 20_000 // of all groups
)

// Names that say when a group was pushed to, and when that last failed.
const (
	pushed = "push_time_seconds"
	failed = "push_failure_time_seconds"
)

// A group is what was pushed under one grouping key.
type group struct {
	Labels   map[string]string // with job
	Families map[string]*dto.MetricFamily
	Pushed   time.Time // zero: never
	Failed   time.Time
}

func (g group) series() (n int) {
	for _, f := range g.Families {
		n += len(f.GetMetric())
	}
	return n
}

// A Keeper has the groups.
type Keeper struct {
	reserved []string // names of jobs that nobody may push
	now      func() time.Time

	mu      sync.Mutex
	groups  map[string]group
	changed chan struct{}
}

// New is a keeper of nothing yet.
func New(reserved ...string) *Keeper {
	return &Keeper{reserved: reserved, now: time.Now, groups: map[string]group{}, changed: make(chan struct{}, 1)}
}

// key names a group.
func key(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%s=%q,", name, labels[name])
	}
	return b.String()
}

// grouping reads the path after /metrics/, still escaped.
func (k *Keeper) grouping(escaped string) (map[string]string, error) {
	parts := strings.Split(strings.TrimSuffix(escaped, "/"), "/")
	if len(parts)%2 != 0 {
		return nil, errors.New("the path has a label without a value: /metrics/job/NAME/LABEL/VALUE…")
	}
	labels := map[string]string{}
	for i := 0; i < len(parts); i += 2 {
		name, encoded := strings.CutSuffix(parts[i], "@base64")
		value, err := url.QueryUnescape(parts[i+1]) // as its client escapes
		if err == nil && encoded {
			var text []byte
			text, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "="))
			value = string(text)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("the value of the label %s: %w", name, err)
		case i == 0 && name != "job":
			return nil, errors.New("the path begins with /metrics/job/NAME")
		case !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, model.ReservedLabelPrefix):
			return nil, fmt.Errorf("%q is no name of a label", name)
		case !model.LabelValue(value).IsValid():
			return nil, fmt.Errorf("the value of the label %s is not UTF-8", name)
		}
		if _, ok := labels[name]; ok {
			return nil, fmt.Errorf("the path has the label %s twice", name)
		}
		labels[name] = value
	}
	switch job := labels["job"]; {
	case job == "":
		return nil, errors.New("the name of the job is empty")
	case slices.Contains(k.reserved, job):
		return nil, fmt.Errorf("the job %s is that of servers which are asked; choose another name", job)
	}
	return labels, nil
}

// read reads what was pushed, in the format that its type names; none is text.
func read(body io.Reader, format expfmt.Format) (map[string]*dto.MetricFamily, error) {
	d := expfmt.NewDecoder(body, format)
	all := map[string]*dto.MetricFamily{}
	for {
		f := &dto.MetricFamily{}
		switch err := d.Decode(f); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		if old := all[f.GetName()]; old != nil {
			if old.GetType() != f.GetType() {
				return nil, fmt.Errorf("%s has two types", f.GetName())
			}
			old.Metric = append(old.Metric, f.Metric...)
			continue
		}
		all[f.GetName()] = f
	}
}

// label gives every series of the families the labels of its group, and an empty
// instance if it has none: it is not that of whoever tells it.
func label(families map[string]*dto.MetricFamily, group map[string]string) error {
	for name, f := range families {
		if name == pushed || name == failed {
			delete(families, name) // ours to say
			continue
		}
		for _, m := range f.GetMetric() {
			if m.TimestampMs != nil {
				return fmt.Errorf("%s has a time: what is pushed is told as of when it is asked for", name)
			}
			m.Label = slices.DeleteFunc(m.Label, func(l *dto.LabelPair) bool {
				_, ok := group[l.GetName()]
				return ok
			})
			for n, v := range group {
				m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(n), Value: proto.String(v)})
			}
			if !slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == "instance" }) {
				m.Label = append(m.Label, &dto.LabelPair{Name: proto.String("instance"), Value: proto.String("")})
			}
			slices.SortFunc(m.Label, func(a, b *dto.LabelPair) int { return cmp.Compare(a.GetName(), b.GetName()) })
		}
	}
	return nil
}

func signature(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.GetLabel() {
		if l.GetValue() != "" {
			fmt.Fprintf(&b, "%s=%q,", l.GetName(), l.GetValue())
		}
	}
	return b.String()
}

// take makes the families those of the group; add keeps its others.
func (k *Keeper) take(labels map[string]string, families map[string]*dto.MetricFamily, add bool) error {
	id := key(labels)
	k.mu.Lock()
	defer k.mu.Unlock()
	old, ok := k.groups[id]
	err := label(families, labels)
	next := group{Labels: labels, Families: map[string]*dto.MetricFamily{}, Pushed: k.now(), Failed: old.Failed}
	if err == nil {
		if add {
			maps.Copy(next.Families, old.Families)
		}
		maps.Copy(next.Families, families)
		err = k.fits(id, next)
	}
	if err != nil {
		if ok || len(k.groups) < maxGroups {
			old.Labels, old.Failed = labels, k.now()
			k.put(id, old)
		}
		return err
	}
	k.put(id, next)
	return nil
}

func (k *Keeper) put(id string, g group) {
	k.groups[id] = g
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// fits says why a group can not stand beside the others.
func (k *Keeper) fits(id string, g group) error {
	if _, ok := k.groups[id]; !ok && len(k.groups) >= maxGroups {
		return fmt.Errorf("there are %d groups already, which is the limit; DELETE those that are over", maxGroups)
	}
	all := g.series()
	for other, of := range k.groups {
		if other != id {
			all += of.series()
		}
	}
	if all > maxSeries {
		return fmt.Errorf("these would be %d series in all groups, and the limit is %d", all, maxSeries)
	}
	for name, f := range g.Families {
		seen := map[string]bool{}
		for _, m := range f.GetMetric() {
			s := signature(m)
			if seen[s] {
				return fmt.Errorf("%s{%s} is there twice", name, s)
			}
			seen[s] = true
		}
		for other, of := range k.groups {
			there := of.Families[name]
			if other == id || there == nil {
				continue
			}
			if there.GetType() != f.GetType() {
				return fmt.Errorf("%s is a %s in the group %s, and would be a %s", name, strings.ToLower(there.GetType().String()), other, strings.ToLower(f.GetType().String()))
			}
			for _, m := range there.GetMetric() {
				if s := signature(m); seen[s] {
					return fmt.Errorf("%s{%s} is in the group %s already", name, s, other)
				}
			}
		}
	}
	return nil
}

// remove forgets a group.
func (k *Keeper) remove(labels map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.groups, key(labels))
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// text is all groups, in Prometheus's text format.
func (k *Keeper) text() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[string]*dto.MetricFamily{}
	var times exposition.Text
	for _, id := range slices.Sorted(maps.Keys(k.groups)) {
		g := k.groups[id]
		for name, f := range g.Families {
			if all[name] == nil {
				all[name] = &dto.MetricFamily{Name: f.Name, Help: f.Help, Type: f.Type}
			}
			all[name].Metric = append(all[name].Metric, f.Metric...)
		}
		pairs := []string{}
		for _, n := range slices.Sorted(maps.Keys(g.Labels)) {
			pairs = append(pairs, n, g.Labels[n])
		}
		if _, ok := g.Labels["instance"]; !ok {
			pairs = append(pairs, "instance", "")
		}
		at := func(t time.Time) float64 {
			if t.IsZero() {
				return 0
			}
			return float64(t.UnixMicro()) / 1e6
		}
		times.Gauge(failed, "when a push to this group last failed, seconds since 1970; 0: none did", at(g.Failed), pairs...)
		times.Gauge(pushed, "when this group was last pushed to, seconds since 1970; 0: never", at(g.Pushed), pairs...)
	}
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if len(all[name].Metric) == 0 {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&b, all[name]); err != nil {
			return nil, err
		}
	}
	b.Write(times.Bytes())
	return b.Bytes(), nil
}
