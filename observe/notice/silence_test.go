package notice

import (
	"testing"
	"time"
)

// Matchers are Alertmanager's: for all of a value, and a label that is not there is empty.
func TestMatcher(t *testing.T) {
	labels := map[string]string{"alertname": "NodeLoadHigh", "cls": "demo", "ins": "demo-3"}
	for _, tt := range []struct {
		text    string
		written string // "": it is refused
		matches bool
	}{
		{"NodeLoadHigh", `alertname="NodeLoadHigh"`, true},
		{"cls=demo", `cls="demo"`, true},
		{`cls="demo"`, `cls="demo"`, true},
		{"cls!=demo", `cls!="demo"`, false},
		{"alertname=~Node.*", `alertname=~"Node.*"`, true},
		{"alertname=~Node", `alertname=~"Node"`, false},
		{"ins!~demo-[12]", `ins!~"demo-[12]"`, true},
		{"datname=", `datname=""`, true},
		{"cls=a=b", `cls="a=b"`, false},
		{"ins=~(", "", false},
		{"=demo", "", false},
		{"", "", false},
		{"4you=x", "", false},
		{`cls="demo`, "", false},
	} {
		m, err := ParseMatcher(tt.text)
		switch {
		case (err != nil) != (tt.written == ""):
			t.Errorf("%q: %v", tt.text, err)
		case err == nil && (m.String() != tt.written || m.Matches(labels[m.Name]) != tt.matches):
			t.Errorf("%q is %s and matches: %v", tt.text, m, m.Matches(labels[m.Name]))
		case err == nil:
			if again, err := ParseMatcher(m.String()); err != nil || again != m {
				t.Errorf("%s read again is %+v, %v", m, again, err)
			}
		}
	}
}

// A silence is about what all its matchers match, from its beginning to its end; one that
// asks for nothing would silence everything.
func TestSilence(t *testing.T) {
	must := func(text string) Matcher {
		m, err := ParseMatcher(text)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	s := Silence{Matchers: []Matcher{must("NodeLoadHigh"), must("ins!=demo-1")}, Starts: noon, Ends: noon.Add(time.Hour)}
	for ins, want := range map[string]bool{"demo-1": false, "demo-2": true, "": true} {
		if got := s.Matches(map[string]string{"alertname": "NodeLoadHigh", "ins": ins}); got != want {
			t.Errorf("%q is silenced: %v", ins, got)
		}
	}
	for after, want := range map[time.Duration]string{-time.Second: PendingSilence, 0: Active, time.Hour - 1: Active, time.Hour: Expired} {
		if got := s.State(noon.Add(after)); got != want {
			t.Errorf("after %s it is %s, want %s", after, got, want)
		}
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	for _, all := range [][]Matcher{nil, {must("ins!=demo-1")}, {must("ins=~.*")}, {must("ins=")}} {
		if err := (Silence{Matchers: all}).Check(); err == nil {
			t.Errorf("%v silences everything, and is taken", all)
		}
	}
}
