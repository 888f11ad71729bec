package notice

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func fires(name, ins string) Alert {
	return Alert{
		Labels:      map[string]string{"alertname": name, "cls": "demo", "ins": ins, "ip": "ip of " + ins, "category": "pgsql"},
		Annotations: map[string]string{"summary": name + " of " + ins}, Starts: noon,
	}
}

// told is messages in one line.
func told(all []Message) string {
	var lines []string
	for _, m := range all {
		var words []string
		for _, a := range m.Alerts {
			word := a.Labels["ins"]
			if !a.Ends.IsZero() {
				word += " ended"
			}
			words = append(words, word)
		}
		lines = append(lines, m.Labels["alertname"]+": "+strings.Join(words, ", "))
	}
	return strings.Join(lines, "; ")
}

// A day of one group: it waits for its neighbours, tells what changes but not too
// often, repeats what lasts, and tells the end.
func TestDay(t *testing.T) {
	s, err := Parse([]byte("webhooks: [http://pager.lab/hook]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var m Memory
	for _, step := range []struct {
		after  time.Duration
		firing []Alert
		want   string
	}{
		{0, []Alert{fires("PostgresDown", "a")}, ""},
		{20 * time.Second, []Alert{fires("PostgresDown", "b"), fires("PostgresDown", "a")}, ""},
		{30 * time.Second, []Alert{fires("PostgresDown", "b"), fires("PostgresDown", "a")}, "PostgresDown: a, b"},
		{time.Minute, []Alert{fires("PostgresDown", "b")}, ""},
		{2 * time.Minute, []Alert{fires("PostgresDown", "b"), fires("ClusterPaused", "")}, ""},
		{3 * time.Minute, []Alert{fires("PostgresDown", "b"), fires("ClusterPaused", "")}, "ClusterPaused: "},
		{6 * time.Minute, []Alert{fires("PostgresDown", "b"), fires("ClusterPaused", "")}, "PostgresDown: b, a ended"},
		{3 * time.Hour, []Alert{fires("PostgresDown", "b"), fires("ClusterPaused", "")}, ""},
		{4*time.Hour + 7*time.Minute, []Alert{fires("PostgresDown", "b"), fires("ClusterPaused", "")}, "ClusterPaused: ; PostgresDown: b"},
		{5 * time.Hour, nil, "ClusterPaused:  ended; PostgresDown: b ended"},
		{10 * time.Hour, nil, ""},
		{10*time.Hour + time.Minute, []Alert{fires("PostgresDown", "c")}, ""},
		{10*time.Hour + 70*time.Second, nil, ""}, // nobody heard of it
		{20 * time.Hour, nil, ""},
	} {
		var messages []Message
		before := fmt.Sprint(m)
		was := m
		messages, m = Decide(noon.Add(step.after), s, step.firing, m)
		if got := told(messages); got != step.want {
			t.Errorf("after %s: told %q, want %q", step.after, got, step.want)
		}
		if fmt.Sprint(was) != before {
			t.Errorf("after %s: what was known has changed", step.after)
		}
	}
	if len(m) != 0 {
		t.Errorf("in the end %v is known", m)
	}
}

// What another alert tells already, or a person does not want to hear, is not told.
func TestQuiet(t *testing.T) {
	node := fires("NodeCpuHigh", "b")
	node.Labels["category"] = "node"
	for _, tt := range []struct {
		name, settings string
		firing         []Alert
		want           string
	}{
		{"a member that is down says it all", "", []Alert{fires("PatroniDown", "b"), fires("MemberDown", "b"), fires("PatroniDown", "a")}, "MemberDown: b; PatroniDown: a"},
		{"a machine that is down says it of its machine", "", []Alert{node, fires("NodeDown", "b"), fires("PostgresDown", "b")}, "NodeDown: b; PostgresDown: b"},
		{"silenced", "silences: [{match: {alertname: PatroniDown, ins: b}, why: being moved}]", []Alert{fires("PatroniDown", "b"), fires("PatroniDown", "a")}, "PatroniDown: a"},
		{"no longer silenced", "silences: [{match: {ins: b}, until: 2026-11-22T11:00:00Z}]", []Alert{fires("PatroniDown", "b")}, "PatroniDown: b"},
		{"all in one", "group_by: [cls]", []Alert{fires("PatroniDown", "b"), fires("PostgresDown", "a")}, ": b, a"},
	} {
		s, err := Parse([]byte("group_wait: 0s\n" + tt.settings))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		messages, _ := Decide(noon, s, tt.firing, nil)
		if got := told(messages); got != tt.want {
			t.Errorf("%s: told %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Of what was told to fire the end is told when it ends, not when it is silenced; when a
// silence ends, what fires still is news.
func TestSilencedMeanwhile(t *testing.T) {
	s, err := Parse([]byte("group_wait: 0s\ngroup_interval: 0s"))
	if err != nil {
		t.Fatal(err)
	}
	hush := s
	hush.Silences = []Silence{{Matchers: []Matcher{{Name: "ins", Value: "b", Equal: true}}}}
	a, b := fires("PostgresDown", "a"), fires("PostgresDown", "b")
	var m Memory
	for i, step := range []struct {
		s      Settings
		firing []Alert
		want   string
	}{
		{s, []Alert{b}, "PostgresDown: b"},
		{hush, []Alert{b}, ""},
		{hush, []Alert{a, b}, "PostgresDown: a"},
		{hush, []Alert{b}, "PostgresDown: a ended"},
		{s, []Alert{b}, "PostgresDown: b"},
		{s, []Alert{b}, ""},
		{hush, []Alert{b}, ""},
		{hush, nil, "PostgresDown: b ended"},
		{s, nil, ""},
		{hush, []Alert{b}, ""},
		{s, []Alert{b}, "PostgresDown: b"},
	} {
		var messages []Message
		before := fmt.Sprint(m)
		was := m
		messages, m = Decide(noon.Add(time.Duration(i)*time.Minute), step.s, step.firing, m)
		if got := told(messages); got != step.want {
			t.Errorf("step %d: told %q, want %q", i, got, step.want)
		}
		if fmt.Sprint(was) != before {
			t.Errorf("step %d: what was known has changed", i)
		}
	}
}

// Settings that can not be meant are errors.
func TestParse(t *testing.T) {
	for _, bad := range []string{"webhook: [http://x]", "group_wait: soon", "repeat_interval: -1h", "silences: [{why: everything}]", "webhooks: [pager.lab]", "[]"} {
		if s, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, s)
		}
	}
}

// The payload is Alertmanager's.
func TestJSON(t *testing.T) {
	over := fires("PostgresDown", "b")
	over.Ends = noon.Add(time.Minute)
	m := Message{Key: `alertname="PostgresDown",`, Labels: map[string]string{"alertname": "PostgresDown"}, Alerts: []Alert{fires("PostgresDown", "a"), over}}
	var got struct {
		Version, GroupKey, Status, Receiver          string
		GroupLabels, CommonLabels, CommonAnnotations map[string]string
		ExternalURL                                  string
		Alerts                                       []struct {
			Status, StartsAt, EndsAt, Fingerprint string
			Labels                                map[string]string
		}
	}
	if err := json.Unmarshal(m.JSON("default", "http://x"), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != "4" || got.Status != "firing" || got.GroupKey != `{}:{alertname="PostgresDown"}` || got.CommonLabels["cls"] != "demo" || got.CommonLabels["ins"] != "" || len(got.CommonAnnotations) != 0 {
		t.Errorf("got %+v", got)
	}
	a, b := got.Alerts[0], got.Alerts[1]
	if a.Status != "firing" || a.EndsAt != "0001-01-01T00:00:00Z" || b.Status != "resolved" || b.EndsAt != "2026-11-22T12:01:00Z" || a.Fingerprint == b.Fingerprint || len(a.Fingerprint) != 16 {
		t.Errorf("got %+v", got.Alerts)
	}
	m.Alerts = m.Alerts[1:]
	if !strings.Contains(string(m.JSON("default", "")), `"status":"resolved","truncatedAlerts"`) {
		t.Errorf("got %s", m.JSON("default", ""))
	}
}

// Who gets mail is refused when it can not be sent, and a header is one line.
func TestMailSettings(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"emails: [ { to: [a@b], from: c@d, smarthost: 'e:25' } ]", ""},
		{"emails: [ { to: [a@b], from: c@d, smarthost: 'e:25', require_tls: false } ]", ""},
		{"emails: [ { from: c@d, smarthost: 'e:25' } ]", "has no to"},
		{"emails: [ { to: [a@b], from: c@d, smarthost: e } ]", "no host:port"},
		{"emails: [ { to: [a], from: c@d, smarthost: 'e:25' } ]", "no address"},
		{"emails: [ { to: [\"a@b\\nBcc: x@y\"], from: c@d, smarthost: 'e:25' } ]", "no address"},
		{"emails: [ { to: [a@b], from: c@d, smarthost: 'e:25', auth_username: f } ]", "needs both"},
		{"emails: [ { to: [a@b], from: c@d, smarthost: 'e:25', subject: f } ]", "subject"},
		{"alertmanagers: [ 'mailto:x' ]", "does not begin"},
	} {
		s, err := Parse([]byte(tt.text))
		if tt.want == "" && (err != nil || len(s.Mails) != 1 || s.Mails[0].Clear != strings.Contains(tt.text, "false")) ||
			tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %+v, %v; want %q", tt.text, s.Mails, err, tt.want)
		}
	}
	long := strings.Repeat("ä", 100)
	letter := string(Message{Labels: map[string]string{"a": long + "\r\nBcc: x@y"}}.Letter(Mail{From: "c@d", To: []string{"a@b"}}, "", time.Unix(0, 0)))
	head, _, _ := strings.Cut(letter, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if len(line) > 100 || strings.HasPrefix(line, "Bcc") {
			t.Errorf("a line of the head is %q", line)
		}
	}
}
