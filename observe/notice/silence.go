package notice

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Silence keeps alerts from being told. They fire all the same, and are told when
// it is over and they still do. Its JSON is Alertmanager's.
type Silence struct {
	ID       string    `json:"id"`
	Matchers []Matcher `json:"matchers"` // all of them have to match
	Starts   time.Time `json:"startsAt,omitzero"`
	Ends     time.Time `json:"endsAt,omitzero"` // zero: never
	By       string    `json:"createdBy"`
	Comment  string    `json:"comment"`
}

// States of silences.
const (
	PendingSilence = "pending"
	Active         = "active"
	Expired        = "expired"
)

// State says whether it is in force.
func (s Silence) State(now time.Time) string {
	switch {
	case !s.Ends.IsZero() && !now.Before(s.Ends):
		return Expired
	case now.Before(s.Starts):
		return PendingSilence
	}
	return Active
}

// Matches says whether it is about an alert with these labels.
func (s Silence) Matches(labels map[string]string) bool {
	return len(s.Matchers) > 0 && !slices.ContainsFunc(s.Matchers, func(m Matcher) bool { return !m.Matches(labels[m.Name]) })
}

// Check refuses what can not be matched, and what would match everything: a label that
// is not there counts as one that is empty.
func (s Silence) Check() error {
	some := false
	for _, m := range s.Matchers {
		if _, err := m.pattern(); err != nil {
			return err
		}
		some = some || !m.Matches("")
	}
	if !some {
		return errors.New("it has nothing that a label must be, and would silence everything")
	}
	return nil
}

// String is its matchers, as they are written.
func (s Silence) String() string {
	var all []string
	for _, m := range s.Matchers {
		all = append(all, m.String())
	}
	return strings.Join(all, " ")
}

// A Matcher is what a label has to be.
type Matcher struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Regex bool   `json:"isRegex"` // Value is a regular expression for all of it
	Equal bool   `json:"isEqual"` // else it must be anything else
}

var matcherText = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)(=~|!~|!=|=)(.*)$`)

// ParseMatcher reads NAME=VALUE, NAME!=VALUE, NAME=~REGEX or NAME!~REGEX, the value in
// quotes or not. A word without any of these is the name of an alert.
func ParseMatcher(text string) (Matcher, error) {
	if !strings.ContainsAny(text, "=~!\"{}") && text != "" {
		return Matcher{Name: "alertname", Value: text, Equal: true}, nil
	}
	f := matcherText.FindStringSubmatch(text)
	if f == nil {
		return Matcher{}, fmt.Errorf("%q is none of NAME=VALUE, NAME!=VALUE, NAME=~REGEX, NAME!~REGEX", text)
	}
	m := Matcher{Name: f[1], Value: f[3], Regex: f[2][1:] == "~", Equal: f[2][0] == '='}
	if strings.HasPrefix(m.Value, `"`) {
		value, err := strconv.Unquote(m.Value)
		if err != nil {
			return m, fmt.Errorf("%q: its quotes do not end", text)
		}
		m.Value = value
	}
	_, err := m.pattern()
	return m, err
}

// pattern is the regular expression, for all of a value as Alertmanager has it.
func (m Matcher) pattern() (*regexp.Regexp, error) {
	if !m.Regex {
		return nil, nil
	}
	p, err := regexp.Compile("^(?s:" + m.Value + ")$")
	if err != nil {
		return nil, fmt.Errorf("%s: %q is no regular expression: %w", m.Name, m.Value, err)
	}
	return p, nil
}

// Matches says whether a label with that value is meant.
func (m Matcher) Matches(value string) bool {
	p, err := m.pattern()
	switch {
	case err != nil: // refused before: in doubt an alert is told
		return false
	case p != nil:
		return p.MatchString(value) == m.Equal
	}
	return (m.Value == value) == m.Equal
}

// String is the matcher as it is written.
func (m Matcher) String() string {
	op := map[[2]bool]string{{true, false}: "=", {false, false}: "!=", {true, true}: "=~", {false, true}: "!~"}[[2]bool{m.Equal, m.Regex}]
	return m.Name + op + strconv.Quote(m.Value)
}
