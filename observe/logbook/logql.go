package logbook

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Labels are what streams of records are told apart by, for whoever knows Loki: those
// by which records are sent to one.
var Labels = []string{"cls", "ins", "ip", "job", "level"}

// Label is the value of one of Labels; "" of every other.
func (r Record) Label(name string) string {
	switch name {
	case "cls":
		return r.Cluster
	case "ins":
		return r.Member
	case "ip":
		return r.IP
	case "job":
		return r.Job
	case "level":
		return r.Level.String()
	}
	return ""
}

// A Selector is a query for records in Loki's language: streams by their labels, then
// what the line has to contain, then, behind `| json`, values of its fields. The line
// is the record's JSON, as it is sent to a Loki. Source: "Log queries" in its manual.
type Selector struct {
	text    string
	streams []match
	stages  []match
}

// A match wants a value to be one of several, or none of them.
type match struct {
	name  string // of the value
	of    kind
	not   bool
	same  []func(string) bool
	exact string // the only value there can be; "": there are more
}

// A kind of value that is matched.
type kind int

const (
	ofLine   kind = iota // all of it
	ofLabel              // of the stream
	ofRecord             // the stream's, and those of `| json`
)

func (m match) holds(v string) bool {
	return slices.ContainsFunc(m.same, func(is func(string) bool) bool { return is(v) }) != m.not
}

// Wants says whether r is one of those that are asked for.
func (s *Selector) Wants(r Record) bool {
	for _, m := range s.streams {
		if !m.holds(r.Label(m.name)) {
			return false
		}
	}
	line := ""
	for _, m := range s.stages {
		v := r.Label(m.name)
		switch {
		case m.of == ofLine:
			if line == "" {
				text, err := r.MarshalJSON()
				if err != nil {
					return false
				}
				line = string(text)
			}
			v = line
		case m.of == ofRecord && v == "":
			v = r.json(m.name)
		}
		if !m.holds(v) {
			return false
		}
	}
	return true
}

// json is a field as the line has it.
func (r Record) json(name string) string {
	switch name {
	case "message":
		return r.message()
	case "msg":
		return r.Message
	case "duration":
		if ms, ok := r.duration(); ok {
			return strconv.FormatFloat(ms, 'f', -1, 64)
		}
	}
	return r.Get(name)
}

// May says whether records of a source can be among those that are asked for; its job
// does not matter.
func (s *Selector) May(from Source) bool {
	r := Record{Source: from}
	for _, m := range s.streams {
		if m.name != "job" && m.name != "level" && !m.holds(r.Label(m.name)) {
			return false
		}
	}
	return true
}

// Stream says whether records of a job and a level of a source are, as far as labels go.
func (s *Selector) Stream(from Source, l Level) bool {
	r := Record{Source: from, Level: l}
	return !slices.ContainsFunc(s.streams, func(m match) bool { return !m.holds(r.Label(m.name)) })
}

// Jobs are the only ones that can be among those that are asked for; nil: any.
func (s *Selector) Jobs() []string {
	for _, m := range s.streams {
		if m.name == "job" && m.exact != "" {
			return []string{m.exact}
		}
	}
	return nil
}

// String is the query as it was written.
func (s *Selector) String() string { return s.text }

// A Count is a query for how many records there were: count_over_time or rate of a
// selector, summed by labels. It is what Grafana draws above the lines.
type Count struct {
	*Selector
	Over time.Duration // before each moment
	Rate bool          // a second, not in all
	By   []string      // labels that are kept; nil: all
}

// Group are the values of a record by which it is counted.
func (c Count) Group(r Record) map[string]string {
	all := map[string]string{}
	for _, name := range Labels {
		if v := r.Label(name); v != "" && (c.By == nil || slices.Contains(c.By, name)) {
			all[name] = v
		}
	}
	return all
}

// ParseSelector understands a query for records.
func ParseSelector(text string) (*Selector, error) {
	p := &logql{rest: text}
	s, err := p.selector()
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// ParseLogQL understands a query for records, or for how many there were; of the two
// the other is nil.
func ParseLogQL(text string) (*Selector, *Count, error) {
	if p := (&logql{rest: text}); p.next("{") {
		s, err := ParseSelector(text)
		return s, nil, err
	}
	p := &logql{rest: text}
	c, err := p.count()
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return nil, nil, err
	}
	return nil, &c, nil
}

// logql is a query being read.
type logql struct{ rest string }

func (p *logql) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// next says whether word stands there, and goes on behind it.
func (p *logql) next(word string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, word)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *logql) want(word string) error {
	if !p.next(word) {
		return fmt.Errorf("parse error: %s is expected before %q", word, p.shown())
	}
	return nil
}

func (p *logql) shown() string {
	p.space()
	if len(p.rest) > 30 {
		return strings.ToValidUTF8(p.rest[:30], "") + "…"
	}
	return p.rest
}

func (p *logql) end() error {
	if p.space(); p.rest != "" {
		return fmt.Errorf("parse error: %q is not served here", p.shown())
	}
	return nil
}

func (p *logql) name() string {
	p.space()
	n := 0
	for n < len(p.rest) && (p.rest[n] == '_' || p.rest[n]|0x20 >= 'a' && p.rest[n]|0x20 <= 'z' || n > 0 && p.rest[n] >= '0' && p.rest[n] <= '9') {
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// quoted reads a string, as Go and Loki write them.
func (p *logql) quoted() (string, error) {
	p.space()
	text, err := strconv.QuotedPrefix(p.rest)
	if err == nil && text[0] != '\'' {
		p.rest = p.rest[len(text):]
		return strconv.Unquote(text)
	}
	return "", fmt.Errorf("parse error: a string in quotes is expected before %q", p.shown())
}

// label reads what is wanted of a label or field: a regular expression is about all of it.
func (p *logql) label(name string, of kind) (match, error) {
	m := match{name: name, of: of}
	regex := false
	switch {
	case p.next("=~"):
		regex = true
	case p.next("!~"):
		regex, m.not = true, true
	case p.next("!="):
		m.not = true
	case p.next("="):
	default:
		return m, fmt.Errorf("parse error: one of = != =~ !~ and a string are expected before %q", p.shown())
	}
	value, err := p.quoted()
	if err != nil {
		return m, err
	}
	if !regex {
		if m.same = append(m.same, func(v string) bool { return v == value }); !m.not {
			m.exact = value
		}
		return m, nil
	}
	r, err := regexp.Compile("^(?s:" + value + ")$")
	if err == nil {
		m.same = append(m.same, r.MatchString)
	}
	return m, err
}

// line reads what a line has to have, or not; ok is false if that is not what stands there.
func (p *logql) line() (m match, ok bool, err error) {
	m = match{of: ofLine}
	regex := false
	switch {
	case p.next("|="):
	case p.next("|~"):
		regex = true
	case p.next("!="):
		m.not = true
	case p.next("!~"):
		regex, m.not = true, true
	default:
		return m, false, nil
	}
	for more := true; more; more = p.word("or") {
		value, err := p.quoted()
		if err != nil {
			return m, true, err
		}
		if !regex {
			m.same = append(m.same, func(v string) bool { return strings.Contains(v, value) })
			continue
		}
		r, err := regexp.Compile(value)
		if err != nil {
			return m, true, err
		}
		m.same = append(m.same, r.MatchString)
	}
	return m, true, nil
}

func (p *logql) selector() (*Selector, error) {
	begin := p.rest
	s := &Selector{}
	if err := p.want("{"); err != nil {
		return nil, err
	}
	bound := false // not all there is
	for !p.next("}") {
		if len(s.streams) > 0 {
			if err := p.want(","); err != nil {
				return nil, err
			}
		}
		name := p.name()
		if name == "" {
			return nil, fmt.Errorf("parse error: a label is expected before %q", p.shown())
		}
		m, err := p.label(name, ofLabel)
		if err != nil {
			return nil, err
		}
		s.streams = append(s.streams, m)
		bound = bound || !m.not && !m.holds("")
	}
	if !bound {
		return nil, errors.New(`parse error: queries require at least one label that has to be something, like {cls="demo"} or {job=~".+"}`)
	}
	of := ofLabel
	for {
		m, ok, err := p.line()
		switch {
		case err != nil:
			return nil, err
		case ok:
			s.stages = append(s.stages, m)
			continue
		case !p.next("|"):
			s.text = strings.TrimSpace(begin[:len(begin)-len(p.rest)])
			return s, nil
		}
		switch name := p.name(); name {
		case "":
			return nil, fmt.Errorf("parse error: a stage is expected before %q", p.shown())
		case "json":
			of = ofRecord
		case "drop": // __error__, of which there is none
			for more := true; more; more = p.next(",") {
				if p.name() == "" {
					return nil, fmt.Errorf("parse error: a label is expected before %q", p.shown())
				}
			}
		default:
			for more := true; more; {
				m, err := p.label(name, of)
				if err != nil {
					return nil, fmt.Errorf("stage %s: %w; served are line filters, json, and labels compared with strings", name, err)
				}
				s.stages = append(s.stages, m)
				if more = p.next(",") || p.word("and"); more {
					name = p.name()
				}
			}
		}
	}
}

// count reads [sum [by (…)]] (count_over_time|rate)(selector [5m]), in any of its orders.
func (p *logql) count() (c Count, err error) {
	sum, by := p.word("sum"), false
	labels := func() error {
		if by = p.word("by"); !by {
			return nil
		}
		if err := p.want("("); err != nil {
			return err
		}
		c.By = []string{}
		for !p.next(")") {
			if len(c.By) > 0 {
				if err := p.want(","); err != nil {
					return err
				}
			}
			name := p.name()
			if name == "" {
				return fmt.Errorf("parse error: a label is expected before %q", p.shown())
			}
			c.By = append(c.By, name)
		}
		return nil
	}
	if sum {
		c.By = []string{}
		if err := labels(); err != nil {
			return c, err
		}
		if err := p.want("("); err != nil {
			return c, err
		}
	}
	switch {
	case p.word("count_over_time"):
	case p.word("rate"):
		c.Rate = true
	default:
		return c, fmt.Errorf("parse error: %q is not served here: ask for lines, like {cls=\"demo\"} |= \"text\", or for sum by (level) (count_over_time({cls=\"demo\"}[5m]))", p.shown())
	}
	if err := p.want("("); err != nil {
		return c, err
	}
	if c.Selector, err = p.selector(); err != nil {
		return c, err
	}
	if err := p.want("["); err != nil {
		return c, err
	}
	word, rest, ok := strings.Cut(p.rest, "]")
	if !ok {
		return c, p.want("]")
	}
	p.rest = rest
	if c.Over, err = parseSpan(strings.TrimSpace(word)); err != nil || c.Over <= 0 {
		return c, fmt.Errorf("parse error: %q is no duration; write it like 30s, 5m or 1h", word)
	}
	if err := p.want(")"); err != nil || !sum {
		return c, err
	}
	if err := p.want(")"); err != nil || by {
		return c, err
	}
	return c, labels()
}

// word says whether a word stands there as a whole, and goes on behind it.
func (p *logql) word(w string) bool {
	before := p.rest
	if p.name() == w {
		return true
	}
	p.rest = before
	return false
}

// parseSpan reads a duration, which may be in days and weeks too.
func parseSpan(text string) (time.Duration, error) {
	for unit, days := range map[string]int{"d": 1, "w": 7} {
		if n, err := strconv.Atoi(strings.TrimSuffix(text, unit)); err == nil && strings.HasSuffix(text, unit) && n < 1000 {
			return time.Duration(n*days) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}
