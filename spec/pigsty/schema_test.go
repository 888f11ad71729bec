package pigsty

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever the schema refers to is in it, every parameter that counts is, and
// JSON can write all of it.
func TestTheSchemaIsWhole(t *testing.T) {
	s := Schema()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	defs := s["$defs"].(map[string]any)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if to, ok := v["$ref"].(string); ok && defs[strings.TrimPrefix(to, "#/$defs/")] == nil {
				t.Errorf("nothing is at %s", to)
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(s)
	vars := defs["vars"].(map[string]any)["properties"].(map[string]any)
	for name := range newCatalogue().byName {
		if vars[name] == nil {
			t.Errorf("%s is not in the schema", name)
		}
	}
	for _, want := range []string{`"pg_role"`, `"offline"`, `"revokeconn"`, `"clusters"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s", want)
		}
	}
}
