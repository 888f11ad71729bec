// Package notice says when which alerts are told to somebody: alerts that belong
// together in one message, not at once but when their neighbours had time to come,
// again while they last, and once more when they have ended.
//
// It is a pure function of what fires, of the settings and of what was told before.
// The words are Alertmanager's (its webhook payload, version 4), so whatever takes
// alerts from that takes them from here.
package notice

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Settings are what a person may set, in a file of YAML.
type Settings struct {
	Webhooks []string      // URLs that take Alertmanager's payload
	Mails    []Mail        // who gets mail
	Managers []string      // URLs of Alertmanagers, who group, silence and repeat by themselves
	Remotes  []string      // URLs of stores of metrics that are sent all samples (remote write)
	Push     bool          // metrics may be pushed to the store
	Probe    bool          // hosts are probed
	GroupBy  []string      // labels whose values make a group
	Wait     time.Duration // from the first alert of a group to its first message
	Interval time.Duration // between two messages of a group in which something has changed
	Repeat   time.Duration // between two messages of a group in which nothing has
	Silences []Silence
}

// A Mail is where mail goes, by the words of Alertmanager's email_configs.
type Mail struct {
	To        []string `yaml:"to"`
	From      string   `yaml:"from"`
	Smarthost string   `yaml:"smarthost"` // host:port that takes it; 465: TLS from the beginning
	User      string   `yaml:"auth_username"`
	Password  string   `yaml:"auth_password_file"` // path of the file that has it
	Hello     string   `yaml:"hello"`              // the name that is given there; "": localhost
	Clear     bool     `yaml:"-"`                  // without TLS where there is none
}

// Parse reads settings. A key that is not known is an error.
func Parse(text []byte) (Settings, error) {
	file := struct {
		Webhooks []string `yaml:"webhooks"`
		Managers []string `yaml:"alertmanagers"`
		Remotes  []string `yaml:"remote_write"`
		Push     bool     `yaml:"push"`
		Probe    bool     `yaml:"probe"`
		Mails    []struct {
			Mail `yaml:",inline"`
			TLS  *bool `yaml:"require_tls"`
		} `yaml:"emails"`
		GroupBy  []string `yaml:"group_by"`
		Wait     string   `yaml:"group_wait"`
		Interval string   `yaml:"group_interval"`
		Repeat   string   `yaml:"repeat_interval"`
		Silences []struct {
			Match map[string]string `yaml:"match"` // labels with these values; at least one
			Until time.Time         `yaml:"until"` // zero: for ever
			Why   string            `yaml:"why"`
		} `yaml:"silences"`
	}{GroupBy: []string{"alertname", "cls"}, Wait: "30s", Interval: "5m", Repeat: "4h"}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // of an empty file
		return Settings{}, err
	}
	s := Settings{Webhooks: file.Webhooks, Managers: file.Managers, Remotes: file.Remotes, Push: file.Push, Probe: file.Probe, GroupBy: file.GroupBy}
	for i, m := range file.Mails {
		m.Mail.Clear = m.TLS != nil && !*m.TLS
		host, port, ok := strings.Cut(m.Smarthost, ":")
		switch {
		case len(m.To) == 0 || m.From == "":
			return Settings{}, fmt.Errorf("emails: number %d has no to, or no from", i+1)
		case !ok || host == "" || port == "":
			return Settings{}, fmt.Errorf("emails: smarthost %q is no host:port", m.Smarthost)
		case (m.User == "") != (m.Password == ""):
			return Settings{}, fmt.Errorf("emails: number %d has one of auth_username and auth_password_file, and needs both or none", i+1)
		}
		for _, address := range append([]string{m.From}, m.To...) {
			if !strings.Contains(address, "@") || strings.ContainsAny(address, " <>\r\n\t,") {
				return Settings{}, fmt.Errorf("emails: %q is no address like dba@example.com", address)
			}
		}
		s.Mails = append(s.Mails, m.Mail)
	}
	for _, of := range []struct {
		key, text string
		into      *time.Duration
	}{{"group_wait", file.Wait, &s.Wait}, {"group_interval", file.Interval, &s.Interval}, {"repeat_interval", file.Repeat, &s.Repeat}} {
		v, err := time.ParseDuration(of.text)
		if err != nil || v < 0 {
			return Settings{}, fmt.Errorf("%s: %q is no duration like 30s or 4h", of.key, of.text)
		}
		*of.into = v
	}
	for i, of := range file.Silences {
		silence := Silence{ID: fmt.Sprintf("file-%d", i+1), Ends: of.Until, Comment: of.Why}
		for _, name := range slices.Sorted(maps.Keys(of.Match)) {
			silence.Matchers = append(silence.Matchers, Matcher{Name: name, Value: of.Match[name], Equal: true})
		}
		if err := silence.Check(); err != nil {
			return Settings{}, fmt.Errorf("silences: number %d: %w", i+1, err)
		}
		s.Silences = append(s.Silences, silence)
	}
	for _, u := range slices.Concat(s.Webhooks, s.Managers, s.Remotes) {
		if !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
			return Settings{}, fmt.Errorf("webhooks, alertmanagers, remote_write: %q does not begin with http:// or https://", u)
		}
	}
	return s, nil
}

// An Alert is one that fires, or has fired.
type Alert struct {
	Labels      map[string]string
	Annotations map[string]string
	Starts      time.Time
	Ends        time.Time // zero: it fires
	Source      string    // URL of the rule
}

// key names an alert by its labels.
func (a Alert) key() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		fmt.Fprintf(&b, "%s=%q,", name, a.Labels[name])
	}
	return b.String()
}

// Memory is what was told so far, by group.
type Memory map[string]Group

// A Group is what somebody knows of alerts that are told together.
type Group struct {
	Labels map[string]string // that its alerts have in common and are grouped by
	Began  time.Time         // when its first alert fired
	Told   time.Time         // zero: not yet
	Knows  map[string]Alert  // those that were told to fire
	Quiet  map[string]bool   // of these, which fire on and are to be told to nobody since: no news but when that ends
}

// A Message is alerts of one group.
type Message struct {
	Key    string
	Labels map[string]string
	Alerts []Alert // sorted: what fires first
}

// Decide returns what is to be told now, and what is known when that was done.
// Nothing in m is changed.
func Decide(now time.Time, s Settings, firing []Alert, m Memory) (messages []Message, next Memory) {
	groups := map[string][]Alert{}
	labels := map[string]map[string]string{}
	quiet := map[string]bool{}
	for _, a := range firing {
		if s.silenced(now, a) || inhibited(a, firing) {
			quiet[a.key()] = true
			continue
		}
		by := map[string]string{}
		for _, name := range s.GroupBy {
			if v := a.Labels[name]; v != "" {
				by[name] = v
			}
		}
		k := Alert{Labels: by}.key()
		groups[k], labels[k] = append(groups[k], a), by
	}
	next = Memory{}
	for k, g := range m {
		next[k] = g
		if _, ok := labels[k]; !ok {
			labels[k] = g.Labels
		}
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		g, known := next[k]
		if !known {
			g = Group{Labels: labels[k], Began: now}
		}
		fires, ended, changed := g.compare(groups[k], quiet, now)
		g.Quiet = g.quiet(quiet)
		due := g.Told.IsZero() && now.Sub(g.Began) >= s.Wait ||
			!g.Told.IsZero() && changed && now.Sub(g.Told) >= s.Interval ||
			!g.Told.IsZero() && now.Sub(g.Told) >= max(s.Repeat, s.Interval)
		switch {
		case len(fires) == 0 && len(ended) == 0 && len(g.Quiet) > 0:
			next[k] = g
		case len(fires) == 0 && len(ended) == 0: // it came and went, and nobody heard of it
			delete(next, k)
		case !due:
			next[k] = g
		default:
			messages = append(messages, Message{Key: k, Labels: g.Labels, Alerts: append(fires, ended...)})
			was := g.Knows
			g.Told, g.Knows = now, map[string]Alert{}
			for _, a := range fires {
				g.Knows[a.key()] = a
				delete(g.Quiet, a.key())
			}
			for _, a := range ended {
				delete(g.Quiet, a.key())
			}
			for of := range g.Quiet {
				g.Knows[of] = was[of]
			}
			next[k] = g
			if len(g.Knows) == 0 {
				delete(next, k)
			}
		}
	}
	return messages, next
}

// quiet are those that were told, and have been to be told to nobody since.
func (g Group) quiet(now map[string]bool) map[string]bool {
	all := map[string]bool{}
	for k := range g.Knows {
		if now[k] || g.Quiet[k] {
			all[k] = true
		}
	}
	return all
}

// compare says what fires of a group, what has ended of that which was told, and
// whether that is something new. Those that are quiet fire on.
func (g Group) compare(now []Alert, quiet map[string]bool, at time.Time) (fires, ended []Alert, changed bool) {
	fires = slices.Clone(now)
	slices.SortFunc(fires, func(a, b Alert) int { return cmp.Compare(a.key(), b.key()) })
	here := map[string]bool{}
	for _, a := range fires {
		k := a.key()
		here[k] = true
		if _, told := g.Knows[k]; !told || g.Quiet[k] {
			changed = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(g.Knows)) {
		if !here[k] && !quiet[k] {
			a := g.Knows[k]
			a.Ends = at
			ended, changed = append(ended, a), true
		}
	}
	return fires, ended, changed
}

func (s Settings) silenced(now time.Time, a Alert) bool {
	return slices.ContainsFunc(s.Silences, func(of Silence) bool { return of.State(now) == Active && of.Matches(a.Labels) })
}

// inhibited says that another alert tells it already: of a machine that is down
// nothing of that machine is told, and of a member that is down nothing of it.
func inhibited(a Alert, firing []Alert) bool {
	name := a.Labels["alertname"]
	return slices.ContainsFunc(firing, func(b Alert) bool {
		same := func(label string) bool { return a.Labels[label] != "" && a.Labels[label] == b.Labels[label] }
		switch b.Labels["alertname"] {
		case "MemberDown":
			return name != "MemberDown" && same("cls") && same("ins")
		case "NodeDown":
			return name != "NodeDown" && name != "MemberDown" && a.Labels["category"] == "node" && same("ip")
		}
		return false
	})
}

// JSON is the message as Alertmanager's webhook has it.
func (m Message) JSON(receiver, source string) []byte {
	type one struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
		Starts      time.Time         `json:"startsAt"`
		Ends        time.Time         `json:"endsAt"`
		Generator   string            `json:"generatorURL"`
		Fingerprint string            `json:"fingerprint"`
	}
	status := "resolved"
	all := []one{}
	for _, a := range m.Alerts {
		o := one{"resolved", a.Labels, a.Annotations, a.Starts.UTC(), a.Ends.UTC(), a.Source, a.fingerprint()}
		if a.Ends.IsZero() {
			o.Status, status = "firing", "firing"
		}
		all = append(all, o)
	}
	b, err := json.Marshal(map[string]any{
		"version": "4", "groupKey": "{}:{" + strings.TrimSuffix(m.Key, ",") + "}", "truncatedAlerts": 0, "status": status, "receiver": receiver,
		"groupLabels": m.Labels, "commonLabels": m.common(func(a Alert) map[string]string { return a.Labels }),
		"commonAnnotations": m.common(func(a Alert) map[string]string { return a.Annotations }), "externalURL": source, "alerts": all,
	})
	if err != nil {
		panic(err) // maps of words
	}
	return b
}

func (a Alert) fingerprint() string {
	h := fnv.New64a()
	h.Write([]byte(a.key()))
	return fmt.Sprintf("%016x", h.Sum64())
}

// common are the words that all alerts have.
func (m Message) common(of func(Alert) map[string]string) map[string]string {
	all := map[string]string{}
	for i, a := range m.Alerts {
		words := of(a)
		if i == 0 {
			all = maps.Clone(words)
		}
		maps.DeleteFunc(all, func(name, value string) bool { return words[name] != value })
	}
	if all == nil {
		all = map[string]string{}
	}
	return all
}
