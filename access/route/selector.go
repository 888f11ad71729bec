package route

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jmespath-community/go-jmespath"
)

// A selector is a JMESPath expression over the list of members.
type selector struct{ jmespath.JMESPath }

func compileSelector(text string) (selector, error) {
	if strings.TrimSpace(text) == "" {
		return selector{}, fmt.Errorf("it is empty; [] selects every member")
	}
	e, err := jmespath.Compile(quoted(text))
	return selector{e}, err
}

// quoted writes `primary` as `"primary"`: the reference implementation, which
// inventories were written for, takes a literal that is no JSON for a string.
func quoted(text string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "`")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		end := closing(rest)
		if end < 0 { // the compiler says so
			return b.String() + "`" + rest
		}
		literal := rest[:end]
		if !json.Valid([]byte(strings.ReplaceAll(literal, "\\`", "`"))) {
			s, _ := json.Marshal(strings.TrimSpace(strings.ReplaceAll(literal, "\\`", "`"))) // a string never fails
			literal = strings.ReplaceAll(string(s), "`", "\\`")
		}
		b.WriteString("`" + literal + "`")
		text = rest[end+1:]
	}
}

// closing is where the literal that began before s ends.
func closing(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '`':
			return i
		}
	}
	return -1
}

// members are the names of those that the selector gives back.
func (s selector) members(all []candidate) (map[string]bool, error) {
	list := make([]any, len(all))
	for i, c := range all {
		list[i] = c.vars
	}
	got, err := s.Search(list)
	if err != nil {
		return nil, err
	}
	chosen, ok := got.([]any)
	if !ok && got != nil {
		return nil, fmt.Errorf("it gives %s, not a list of members", kind(got))
	}
	names := map[string]bool{}
	for _, c := range chosen {
		vars, _ := c.(map[string]any)
		name, ok := vars[varName].(string)
		if !ok {
			return nil, fmt.Errorf("it gives a list with %s in it, not members", kind(c))
		}
		names[name] = true
	}
	return names, nil
}

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case float64, int, int64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "a list"
	}
	return "an object"
}
