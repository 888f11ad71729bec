package declare

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// A field is a key with its value: text, a number, a switch, a list, fields.
type field struct {
	key   string
	value any
}

type fields []field

func (f *fields) add(key string, value any) { *f = append(*f, field{key, value}) }

// plain is text that stands for itself in YAML 1.1, also in a flow: words that
// mean a switch, nothing or a number are none.
var (
	plain    = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*$`)
	notPlain = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|none)$`)
)

// flow writes a value in one line.
func flow(v any) string {
	switch v := v.(type) {
	case string:
		if plain.MatchString(v) && !notPlain.MatchString(v) {
			return v
		}
		return flow(quoted(v))
	case quoted:
		var b strings.Builder
		e := json.NewEncoder(&b) // a string of JSON is one of YAML, and all text has one
		e.SetEscapeHTML(false)
		_ = e.Encode(string(v))
		return strings.TrimSuffix(b.String(), "\n")
	case fields:
		all := make([]string, 0, len(v))
		for _, f := range v {
			all = append(all, flow(f.key)+": "+flow(f.value))
		}
		if len(all) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(all, ", ") + " }"
	case []any:
		all := make([]string, 0, len(v))
		for _, item := range v {
			all = append(all, flow(item))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v) // numbers and switches
}

// block writes fields below each other; lists of fields have a line for each.
func block(b *strings.Builder, indent string, all fields) {
	for _, f := range all {
		list, ok := f.value.([]any)
		rows := ok && len(list) > 0
		for _, item := range list {
			_, is := item.(fields)
			rows = rows && is
		}
		switch inner, nested := f.value.(fields); {
		case rows:
			fmt.Fprintf(b, "%s%s:\n", indent, flow(f.key))
			for _, item := range list {
				fmt.Fprintf(b, "%s  - %s\n", indent, flow(item))
			}
		case nested && len(flow(inner)) > 100:
			fmt.Fprintf(b, "%s%s:\n", indent, flow(f.key))
			block(b, indent+"  ", inner)
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, flow(f.key), flow(f.value))
		}
	}
}

func texts(all []string) []any {
	list := make([]any, 0, len(all))
	for _, s := range all {
		list = append(list, s)
	}
	return list
}
