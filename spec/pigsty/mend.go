package pigsty

import (
	"slices"
	"strings"
)

// mend is a value without what does not have its shape, which was said of it: the
// rest is looked at all the same, so that whatever else is wrong is said in the
// same round. nil: nothing is left.
//
// In place of a key's value that does not fit stands one that is ill: it counts as
// nothing, and nobody misses it.
func (r *reader) mend(v *value, is shape) *value {
	is = shape(strings.TrimSuffix(string(is), "!"))
	out := *v
	if is == "methods" && v.kind == listKind {
		is = "strings"
	}
	if of, ok := lists[is]; ok && v.kind == listKind {
		out.list = nil
		for _, e := range v.list {
			if e = r.mend(e, of); e != nil {
				out.list = append(out.list, e)
			}
		}
		return &out
	}
	keys := objects[is]
	if v.kind != mapKind || keys == nil && is != "settings" && is != "poolsettings" && is != "repositories" {
		if r.hasShape(v, is) {
			return v
		}
		return nil
	}
	out.fields = nil
	for _, f := range v.fields {
		of, known := keys[f.name]
		switch {
		case keys != nil && (!known || f.value.null()):
			out.fields = append(out.fields, f)
		case keys != nil:
			better := r.mend(f.value, of)
			if better == nil && strings.HasSuffix(string(of), "!") {
				return nil
			}
			if better == nil {
				better = &value{line: f.value.line, ill: true}
			}
			out.fields = append(out.fields, field{f.name, f.line, better})
		case is == "repositories" && f.value.kind == mapKind:
			if better := r.mend(f.value, "repository"); better != nil {
				out.fields = append(out.fields, field{f.name, f.line, better})
			}
		case r.hasShape(&value{kind: mapKind, fields: []field{f}}, is):
			out.fields = append(out.fields, f)
		}
	}
	for name, of := range keys {
		if strings.HasSuffix(string(of), "!") && !slices.ContainsFunc(out.fields, func(f field) bool { return f.name == name && !f.value.null() }) {
			return nil
		}
	}
	return &out
}

// hasShape says whether a value has a shape, and says nothing else.
func (r *reader) hasShape(v *value, is shape) bool {
	silent := reader{known: r.known}
	return silent.fits(field{line: v.line, value: v}, is)
}

// absent says that nobody wrote a value: one that does not fit was told already.
func (v *value) absent() bool { return v.null() && (v == nil || !v.ill) }
