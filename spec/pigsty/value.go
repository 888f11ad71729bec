package pigsty

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A value is one node of the file: what YAML 1.1 makes of it, and where it
// stands. Exactly one of scalar, list and fields counts, by kind.
type value struct {
	kind   kind
	line   int
	text   string // a scalar as it was written
	scalar any    // nil, bool, int64, float64 or string
	list   []*value
	fields []field // in the order of the file, a later key in place of an earlier one
	ill    bool    // it stands for one that does not fit, and was told
}

type kind int

const (
	scalarKind kind = iota
	listKind
	mapKind
)

type field struct {
	name  string
	line  int // of the key
	value *value
}

func (v *value) null() bool { return v == nil || v.kind == scalarKind && v.scalar == nil }

func (v *value) field(name string) *value {
	if v == nil || v.kind != mapKind {
		return nil
	}
	for _, f := range v.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// String is a scalar as text, the way a template prints it.
func (v *value) String() string {
	if v == nil {
		return ""
	}
	switch x := v.scalar.(type) {
	case string:
		return x
	case bool, nil:
		return v.text
	case int64:
		return strconv.FormatInt(x, 10)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return v.text
}

// plain is the value without its places: nil, bool, int64, float64, string,
// []any or map[string]any.
func (v *value) plain() any {
	switch {
	case v == nil:
		return nil
	case v.kind == listKind:
		list := make([]any, len(v.list))
		for i, e := range v.list {
			list[i] = e.plain()
		}
		return list
	case v.kind == mapKind:
		m := make(map[string]any, len(v.fields))
		for _, f := range v.fields {
			m[f.name] = f.value.plain()
		}
		return m
	}
	return v.scalar
}

// what names a value's kind for a message.
func (v *value) what() string {
	switch {
	case v.kind == listKind:
		return "a list"
	case v.kind == mapKind:
		return "a map"
	}
	switch x := v.scalar.(type) {
	case nil:
		return "nothing"
	case bool:
		return fmt.Sprintf("the boolean %s", v.text)
	case int64, float64:
		return "the number " + v.text
	case string:
		return strconv.Quote(shorten(x))
	}
	return v.text
}

func shorten(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:57], "") + "..."
	}
	return s
}

// Limits of a file that is read at all: an inventory of a thousand hosts stays
// far below them, and an alias that names an alias cannot grow without end.
const (
	maxSize  = 8 << 20
	maxNodes = 1 << 17
	maxText  = 32 << 20 // of all values, each as often as it is named
	maxDepth = 64
)

// read parses text; the first document counts, as for Ansible.
func (r *reader) read(text []byte) *value {
	if len(text) > maxSize {
		r.bad(0, "the file has %d bytes; an inventory may have %d", len(text), maxSize)
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		line, why := 0, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(why); m != nil {
			line, _ = strconv.Atoi(m[1])
			why = m[2]
		}
		r.bad(line, "this is no YAML: %s", why)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return &value{line: 1}
	}
	return r.value(doc.Content[0], 0)
}

var yamlLine = regexp.MustCompile(`^line (\d+): (.*)$`)

func (r *reader) value(n *yaml.Node, depth int) *value {
	r.nodes++
	switch {
	case r.nodes > maxNodes:
		if r.nodes == maxNodes+1 {
			r.bad(n.Line, "the file grows beyond %d values here; aliases repeat too much", maxNodes)
		}
		return &value{line: n.Line}
	case r.text > maxText:
		return &value{line: n.Line}
	case depth > maxDepth:
		r.bad(n.Line, "this is nested deeper than %d levels", maxDepth)
		return &value{line: n.Line}
	}
	switch n.Kind {
	case yaml.AliasNode:
		v := *r.value(n.Alias, depth+1)
		v.line = n.Line
		return &v
	case yaml.SequenceNode:
		v := &value{kind: listKind, line: n.Line}
		for _, c := range n.Content {
			v.list = append(v.list, r.value(c, depth+1))
		}
		return v
	case yaml.MappingNode:
		return r.mapping(n, depth)
	}
	if r.text += len(n.Value); r.text > maxText {
		r.bad(n.Line, "the file grows beyond %d bytes here; aliases repeat too much", maxText)
	}
	v := &value{line: n.Line, text: n.Value, scalar: n.Value}
	switch {
	case n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str":
		if strings.HasPrefix(n.Tag, "!!") {
			v.scalar = plainScalar(n.Value)
		} else {
			r.bad(n.Line, "the tag %s is not understood; write the value itself, or env:NAME, file:PATH or command:PROGRAM for a secret", n.Tag)
		}
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0:
		v.scalar = plainScalar(n.Value)
	}
	return v
}

func (r *reader) mapping(n *yaml.Node, depth int) *value {
	v := &value{kind: mapKind, line: n.Line}
	at := map[string]int{}
	put := func(f field, over bool) {
		if i, ok := at[f.name]; ok {
			if over {
				v.fields[i] = f
			}
			return
		}
		at[f.name] = len(v.fields)
		v.fields = append(v.fields, f)
	}
	var merged []*value
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], r.value(n.Content[i+1], depth+1)
		switch {
		case key.Kind == yaml.ScalarNode && key.Value == "<<" && key.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0:
			merged = append(merged, val)
		case key.Kind != yaml.ScalarNode:
			r.bad(key.Line, "a key must be a word, not a list or a map")
		default:
			name := key.Value
			if n.Style&yaml.FlowStyle != 0 && key.Style == 0 && val.null() {
				name = strings.TrimSuffix(name, ":") // { 10.10.10.10:, … }: PyYAML ends the key there
			}
			put(field{name: name, line: key.Line, value: val}, true) // the last one wins
		}
	}
	for _, m := range merged { // what is written here wins over what is merged in
		maps := []*value{m}
		if m.kind == listKind {
			maps = m.list
		}
		for _, m := range maps {
			for _, f := range m.fields {
				put(f, false)
			}
		}
	}
	return v
}

// What YAML 1.1 reads in a plain scalar (PyYAML's resolver, which Ansible uses):
// no single letters as booleans, octal by a leading zero, base 60 by colons.
var (
	intBin   = regexp.MustCompile(`^[-+]?0b[0-1_]+$`)
	intOct   = regexp.MustCompile(`^[-+]?0[0-7_]+$`)
	intDec   = regexp.MustCompile(`^[-+]?(?:0|[1-9][0-9_]*)$`)
	intHex   = regexp.MustCompile(`^[-+]?0x[0-9a-fA-F_]+$`)
	intSixty = regexp.MustCompile(`^[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+$`)
	floatDec = regexp.MustCompile(`^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)$`)
)

// plainScalar reads a scalar without quotes.
func plainScalar(s string) any {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false
	}
	whole := func(digits string, base int) any {
		digits = strings.ReplaceAll(digits, "_", "")
		sign := ""
		if digits[0] == '-' || digits[0] == '+' {
			sign, digits = digits[:1], digits[1:]
		}
		digits = strings.TrimPrefix(strings.TrimPrefix(digits, "0b"), "0x")
		n, err := strconv.ParseInt(strings.TrimPrefix(sign, "+")+digits, base, 64)
		if err != nil {
			return s // larger than any parameter: text
		}
		return n
	}
	switch {
	case intDec.MatchString(s):
		return whole(s, 10)
	case intBin.MatchString(s):
		return whole(s, 2)
	case intOct.MatchString(s):
		return whole(s, 8)
	case intHex.MatchString(s):
		return whole(s, 16)
	case intSixty.MatchString(s):
		return sixty(s)
	case floatDec.MatchString(s):
		if f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64); err == nil {
			return f
		}
	}
	return s
}

// sixty reads 1:30:00 as YAML 1.1 does, which is seconds.
func sixty(s string) any {
	digits := strings.ReplaceAll(s, "_", "")
	sign := int64(1)
	switch digits[0] {
	case '-':
		sign, digits = -1, digits[1:]
	case '+':
		digits = digits[1:]
	}
	var n int64
	for part := range strings.SplitSeq(digits, ":") {
		d, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n > math.MaxInt64/120 {
			return s
		}
		n = n*60 + d
	}
	return sign * n
}
