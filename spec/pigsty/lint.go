package pigsty

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"howdah/spec"
)

// lint says what every variable of the file is to us: unknown, of no use yet,
// or not applicable. Shapes are checked where a value is used, and here where it
// is not, so that a typo is found in whatever no host has.
func (r *reader) lint(inv *inventory) {
	names := slices.Sorted(maps.Keys(r.known.byName))
	said := map[string]bool{}
	// Variables that a template names are the file's own.
	templates := map[string]bool{}
	each(inv, func(v *value) { named(v, templates) })
	each(inv, func(v *value) {
		for _, f := range v.fields {
			p, ok := r.known.find(f.name)
			switch {
			case !ok && templates[f.name]:
			case !ok:
				r.unknown(f.line, "parameter", f.name, names)
			case p.use == used:
				if !f.value.null() && !jinja(f.value) {
					r.fits(f, p.is)
				}
			default:
				if !f.value.null() && !jinja(f.value) {
					r.fits(f, p.is)
				}
				if said[f.name] {
					continue
				}
				said[f.name] = true
				switch p.use {
				case notYet:
					r.find(spec.Later, f.line, f.name+" has no effect in this version", "")
				case nothing:
					r.find(spec.Inapplicable, f.line, f.name, "")
				case theirOwn:
					r.find(spec.Inapplicable, f.line, f.name+" (another module's)", "")
				}
			}
		}
	})
}

// each visits every map of variables in the file.
func each(inv *inventory, visit func(*value)) {
	if inv.vars != nil {
		visit(inv.vars)
	}
	for _, g := range inv.groups {
		if g.vars != nil {
			visit(g.vars)
		}
		for _, e := range g.own {
			if e.vars != nil {
				visit(e.vars)
			}
		}
	}
}

// jinja says whether a template is in a value.
func jinja(v *value) bool {
	found := false
	walk(v, func(v *value) { found = found || strings.Contains(v.text, "{{") || strings.Contains(v.text, "{%") })
	return found
}

func walk(v *value, visit func(*value)) {
	if v == nil {
		return
	}
	visit(v)
	for _, e := range v.list {
		walk(e, visit)
	}
	for _, f := range v.fields {
		walk(f.value, visit)
	}
}

// named collects the variables that the templates in v name.
func named(v *value, into map[string]bool) {
	walk(v, func(v *value) {
		rest := v.text
		for {
			_, after, ok := strings.Cut(rest, "{{")
			if !ok {
				return
			}
			inner, tail, ok := strings.Cut(after, "}}")
			if !ok {
				return
			}
			into[strings.TrimSpace(inner)], rest = true, tail
		}
	})
}

// expand resolves {{ name }} and ${name} in a value. What cannot be resolved
// is a problem if it is a template, and stays as it is if it is a placeholder.
func (s *scope) expand(v *value, depth int) *value {
	switch v.kind {
	case listKind:
		out := *v
		out.list = nil
		for _, e := range v.list {
			out.list = append(out.list, s.expand(e, depth))
		}
		return &out
	case mapKind:
		out := *v
		out.fields = nil
		for _, f := range v.fields {
			out.fields = append(out.fields, field{f.name, f.line, s.expand(f.value, depth)})
		}
		return &out
	}
	text, ok := v.scalar.(string)
	if !ok || !strings.Contains(text, "{") {
		return v
	}
	out := *v
	var b strings.Builder
	rest := text
	for {
		before, after, found := strings.Cut(rest, "{{")
		if !found {
			break
		}
		b.WriteString(before)
		inner, tail, found := strings.Cut(after, "}}")
		name := strings.TrimSpace(inner)
		if !found || !word(name) {
			s.r.find(spec.Problem, v.line, fmt.Sprintf("the template %s is not understood", quote(text)), "write the value itself, or {{ name }} for another variable")
			return &value{line: v.line, text: "", scalar: ""}
		}
		var other *value
		if f, ok := s.vars[name]; ok {
			other = f.value
		} else {
			other = s.r.known.defaults.field(name)
		}
		switch {
		case other == nil:
			s.r.bad(v.line, "the template names %s, which has no value here", quote(name))
			return &value{line: v.line, text: "", scalar: ""}
		case depth > 10:
			s.r.bad(v.line, "the templates of %s name each other without end", quote(name))
			return &value{line: v.line, text: "", scalar: ""}
		}
		other = s.expand(other, depth+1)
		if before == "" && tail == "" && b.Len() == 0 { // the whole value: it keeps its kind
			whole := *other
			whole.line = v.line
			return &whole
		}
		b.WriteString(other.String())
		rest = tail
	}
	b.WriteString(rest)
	out.scalar = s.placeholders(b.String(), depth)
	out.text, _ = out.scalar.(string)
	return &out
}

// placeholders puts in what ${name} stands for.
func (s *scope) placeholders(text string, depth int) string {
	if !strings.Contains(text, "${") || depth > 10 {
		return text
	}
	for _, name := range slices.Sorted(maps.Keys(s.extra)) {
		text = strings.ReplaceAll(text, "${"+name+"}", s.extra[name])
	}
	if strings.Contains(text, "${admin_ip}") {
		if ip := s.vars["admin_ip"].value; ip != nil {
			text = strings.ReplaceAll(text, "${admin_ip}", s.expand(ip, depth+1).String())
		}
	}
	return text
}

func word(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
