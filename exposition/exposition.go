// Package exposition is Prometheus's text format, version 0.0.4, being written:
// what an exporter answers.
//
// It keeps no values from one answer to the next and knows nothing of any metric;
// names, kinds and helps are those of whoever tells. Source: "Exposition formats"
// in Prometheus's manual.
package exposition

import (
	"bytes"
	"strconv"
	"strings"
)

// A Text is an answer in the making: families stand in the order in which they
// were first told, the series of one together. Its zero value is empty.
type Text struct {
	names []string
	of    map[string]*bytes.Buffer
}

// Gauge tells a value that goes up and down. Labels are pairs of a name and a value.
func (t *Text) Gauge(name, help string, value float64, labels ...string) {
	t.say(name, "gauge", help, value, labels)
}

// Counter tells a value that only grows, until it begins anew.
func (t *Text) Counter(name, help string, value float64, labels ...string) {
	t.say(name, "counter", help, value, labels)
}

// Untyped tells a value of which nobody says what it is.
func (t *Text) Untyped(name, help string, value float64, labels ...string) {
	t.say(name, "untyped", help, value, labels)
}

func (t *Text) say(name, kind, help string, value float64, labels []string) {
	b := t.of[name]
	if b == nil {
		if t.of == nil {
			t.of = map[string]*bytes.Buffer{}
		}
		b = &bytes.Buffer{}
		t.of[name], t.names = b, append(t.names, name)
		b.WriteString("# HELP " + name + " " + helpText.Replace(help) + "\n# TYPE " + name + " " + kind + "\n")
	}
	b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i] + `="` + labelValue.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`)
	}
	if len(labels) > 1 {
		b.WriteByte('}')
	}
	b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// Bytes is all that was told.
func (t *Text) Bytes() []byte {
	var b bytes.Buffer
	for _, name := range t.names {
		b.Write(t.of[name].Bytes())
	}
	return b.Bytes()
}

// ContentType is what an answer says that it is.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

var (
	helpText   = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelValue = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
)

// Truth is 1 for what is so.
func Truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
