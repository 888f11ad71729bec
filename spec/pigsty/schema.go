package pigsty

import (
	"maps"
	"slices"
	"strings"
)

// Schema is what editors check an inventory by while it is written: a JSON Schema
// of both forms, made of the tables by which Read checks. It is as lenient as
// Read about numbers and switches that are written as text; what depends on other
// values only Read finds.
func Schema() map[string]any {
	defs := map[string]any{}
	for name, words := range words {
		defs[string(name)] = map[string]any{"enum": anys(words)}
	}
	for name, p := range patterns {
		// Names of hosts and clusters may be numbers for YAML.
		defs[string(name)] = map[string]any{"type": []any{"string", "number"}, "pattern": p.is.String(), "description": p.means}
	}
	for name, keys := range objects {
		defs[string(name)] = object(keys, false)
	}
	for name, of := range lists {
		defs[string(name)] = map[string]any{"type": []any{"array", "null"}, "items": ref(of)}
	}
	for name := range byName {
		defs[string(name)] = map[string]any{"anyOf": []any{ref(objects[name]["name"]), defs[string(name)]}}
	}
	maps.Copy(defs, scalars)
	known, vars := newCatalogue(), map[string]any{}
	for _, p := range known.byName {
		if p.is == "any" {
			vars[p.name] = true
		} else {
			vars[p.name] = map[string]any{"anyOf": []any{ref(p.is), map[string]any{"type": "null"}}}
		}
	}
	defs["vars"] = map[string]any{"type": []any{"object", "null"}, "properties": vars}
	defs["group"] = map[string]any{"type": []any{"object", "null"}, "properties": map[string]any{
		"vars": ref("vars"), "hosts": map[string]any{"type": []any{"object", "null"}, "additionalProperties": ref("vars")},
		"children": map[string]any{"type": []any{"object", "null"}, "additionalProperties": ref("group")},
	}}
	defs["host"] = object(shortHost, true)
	defs["hosts"] = map[string]any{"type": "array", "minItems": 1, "items": map[string]any{"anyOf": []any{ref("address"), ref("host")}}}
	cluster, top := object(shortCluster, true), maps.Clone(shortCluster)
	top["etcd"], top["observe"] = "strings", "strings"
	defs["cluster"] = cluster
	return map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "An inventory of PostgreSQL clusters", "$defs": defs,
		"anyOf": []any{
			map[string]any{"type": "object", "required": []any{"all"}, "properties": map[string]any{"all": map[string]any{
				"type": "object", "properties": map[string]any{
					"vars": ref("vars"), "hosts": map[string]any{"type": []any{"object", "null"}, "additionalProperties": ref("vars")},
					"children": map[string]any{"type": []any{"object", "null"}, "additionalProperties": ref("group")},
				},
			}}},
			map[string]any{
				"type": "object", "required": []any{"clusters"}, "additionalProperties": false,
				"properties": map[string]any{"clusters": map[string]any{"type": "array", "items": ref("cluster")}, "etcd": ref("strings"), "observe": ref("strings")},
			},
			object(top, true),
		},
	}
}

// scalars are the shapes that no table describes.
var scalars = map[string]any{
	"text":         map[string]any{"type": []any{"string", "number", "boolean"}},
	"secret":       map[string]any{"type": []any{"string", "number"}, "description": "a password, what a server stores of one, env:NAME, file:PATH or command:PROGRAM ARGUMENTS"},
	"bool":         map[string]any{"anyOf": []any{map[string]any{"type": "boolean"}, map[string]any{"enum": anys([]string{"yes", "no", "on", "off", "true", "false", "y", "n", "t", "f", "1", "0"})}, map[string]any{"enum": []any{0, 1}}}},
	"int":          map[string]any{"type": []any{"integer", "string"}},
	"limit":        between(-1, 1<<31-1),
	"seq":          between(0, 1<<31-1),
	"weight":       between(0, 255),
	"port":         between(1, 65535),
	"version":      between(14, 19),
	"bytes":        between(0, 1<<53),
	"millis":       between(10, 50000),
	"maxconn":      map[string]any{"anyOf": []any{map[string]any{"const": "auto"}, between(20, 262143)}},
	"seconds":      map[string]any{"type": []any{"number", "string"}, "minimum": 0},
	"period":       map[string]any{"type": []any{"number", "string"}, "exclusiveMinimum": 0},
	"poolsettings": object(poolSettings, true),

	"userpoolsettings": object(userPoolSettings, true),

	"ratio":        map[string]any{"type": []any{"number", "string"}, "minimum": 0.1, "maximum": 0.4},
	"address":      map[string]any{"type": "string", "format": "ipv4"},
	"cidr":         map[string]any{"type": "string", "pattern": "/[0-9]{1,3}$"},
	"target":       map[string]any{"type": "string"},
	"destination":  map[string]any{"type": []any{"string", "integer"}},
	"selector":     map[string]any{"type": "string", "pattern": `\[`},
	"encoding":     map[string]any{"type": "string"},
	"locale":       map[string]any{"type": "string"},
	"settings":     map[string]any{"type": []any{"object", "null"}, "propertyNames": map[string]any{"pattern": settingName.String()}, "additionalProperties": map[string]any{"type": []any{"string", "number", "boolean", "null"}}},
	"methods":      map[string]any{"anyOf": []any{ref("text"), ref("strings")}},
	"repositories": map[string]any{"type": []any{"object", "null"}, "additionalProperties": ref("repository")},
	"instances":    map[string]any{"type": []any{"object", "null"}, "propertyNames": map[string]any{"pattern": "^[0-9]{1,5}$"}},
}

func between(low, high int64) map[string]any {
	return map[string]any{"type": []any{"integer", "string"}, "minimum": low, "maximum": high}
}

func ref(is shape) map[string]any {
	if is = shape(strings.TrimSuffix(string(is), "!")); is == "any" {
		return map[string]any{}
	}
	return map[string]any{"$ref": "#/$defs/" + string(is)}
}

// object is one with known keys; in the short form there are no others.
func object(keys map[string]shape, closed bool) map[string]any {
	properties, required := map[string]any{}, []any{}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		properties[name] = map[string]any{"anyOf": []any{ref(keys[name]), map[string]any{"type": "null"}}}
		if strings.HasSuffix(string(keys[name]), "!") {
			properties[name], required = ref(keys[name]), append(required, name)
		}
	}
	o := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	if closed {
		o["additionalProperties"] = false
	}
	return o
}

func anys(all []string) []any {
	var out []any
	for _, s := range all {
		out = append(out, s)
	}
	return out
}
