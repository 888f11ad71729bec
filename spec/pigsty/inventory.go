// Package pigsty reads inventories: Pigsty's YAML to the letter, and our own
// short form, which becomes the same tree.
//
// Read is a pure function of the text: it gives the desired world, every value
// with the place it came from, and all that there is to say about the file at
// once. It is read as Ansible reads it: YAML 1.1, the last of equal keys wins, a
// value replaces the whole value below it (defaults, all.vars, groups by depth
// and name, hosts), nothing is merged. What upstream's own checks call an error
// is one here; what they miss (unknown names) is a warning.
package pigsty

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"howdah/spec"
)

// Read resolves the inventory in text, which was read from file. A world with
// problems (its Err) must not be built.
func Read(file string, text []byte) spec.World {
	r := &reader{file: file, known: newCatalogue()}
	root := r.read(text)
	w := spec.World{File: file, Form: "pigsty"}
	switch {
	case r.failed(): // no YAML: nothing further can be said
	case native(root):
		w.Form = "native"
		r.resolve(r.native(root), &w)
	default:
		inv := r.inventory(root)
		r.lint(inv)
		r.resolve(inv, &w)
	}
	w.Mentions = r.mentions
	w.Say(r.findings...)
	return w
}

// A reader turns text into a world and collects what there is to say.
type reader struct {
	file     string
	known    catalogue
	nodes    int  // values so far, those behind aliases as often as they are used
	text     int  // bytes of all values so far
	guesses  int  // at what unknown names may mean
	short    bool // it is the short form
	findings []spec.Finding
	said     map[spec.Finding]bool
	mentions []spec.Mention
	named    map[spec.Mention]bool
}

func (r *reader) find(kind string, line int, text, do string) {
	f := spec.Finding{Kind: kind, Line: line, Text: text, Do: do}
	if r.said[f] {
		return // of another host
	}
	if r.said == nil {
		r.said = map[spec.Finding]bool{}
	}
	r.said[f] = true
	r.findings = append(r.findings, f)
}

// mention notes a name that only PostgreSQL can judge.
func (r *reader) mention(m spec.Mention) {
	if r.named[m] {
		return // of another host
	}
	if r.named == nil {
		r.named = map[spec.Mention]bool{}
	}
	r.named[m] = true
	r.mentions = append(r.mentions, m)
}

func (r *reader) bad(line int, format string, args ...any) {
	r.find(spec.Problem, line, fmt.Sprintf(format, args...), "")
}

func (r *reader) warn(line int, format string, args ...any) {
	r.find(spec.Warning, line, fmt.Sprintf(format, args...), "")
}

func (r *reader) failed() bool {
	return slices.ContainsFunc(r.findings, func(f spec.Finding) bool { return f.Kind == spec.Problem })
}

// place is the origin of what stands on line.
func (r *reader) place(line int) string { return r.file + ":" + strconv.Itoa(line) }

// An inventory is the tree of groups and hosts.
type inventory struct {
	namespace string // Pigsty's default, or ours
	vars      *value // all.vars
	groups    []*group
	hosts     []*host // in the order of the file
	byName    map[string]*host
}

type group struct {
	name   string
	line   int
	depth  int
	vars   *value
	parent *group
	own    []entry // hosts named in it
}

// entry is a host as one group names it, with the variables written there.
type entry struct {
	host *host
	vars *value
}

type host struct {
	name string
	line int
}

func (inv *inventory) host(name string, line int) *host {
	if h := inv.byName[name]; h != nil {
		return h
	}
	h := &host{name: name, line: line}
	if inv.byName == nil {
		inv.byName = map[string]*host{}
	}
	inv.hosts, inv.byName[name] = append(inv.hosts, h), h
	return h
}

func (inv *inventory) group(name string) *group {
	for _, g := range inv.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// inventory reads the groups and hosts below all.
func (r *reader) inventory(root *value) *inventory {
	inv := &inventory{namespace: "/pg"}
	all := root.field("all")
	switch {
	case root.kind != mapKind || len(root.fields) == 0:
		r.find(spec.Problem, root.line, "an inventory is a map with the key all, and this is "+root.what(), "`howdah init` writes a short one")
		return inv
	case all == nil:
		hint := ""
		if near := nearest(root.fields[0].name, []string{"all", "cluster", "clusters"}); near != "" {
			hint = "did you mean " + near + "?"
		}
		r.find(spec.Problem, root.fields[0].line, "an inventory begins with the key all (or cluster, in the short form), not with "+quote(root.fields[0].name), hint)
		return inv
	case all.kind != mapKind:
		r.bad(all.line, "all must be a map with vars and children, and is %s", all.what())
		return inv
	}
	for _, f := range root.fields {
		if f.name != "all" {
			r.unknown(f.line, "key", f.name, []string{"all"})
		}
	}
	for _, f := range all.fields {
		switch f.name {
		case "vars":
			if r.isMap(f) {
				inv.vars = f.value
			}
		case "children":
			if r.isMap(f) {
				r.children(inv, f.value, nil, 1)
			}
		case "hosts":
			g := &group{name: "ungrouped", line: f.line, depth: 1}
			r.hosts(inv, g, f)
			inv.groups = append(inv.groups, g)
		default:
			r.unknown(f.line, "key of all", f.name, []string{"vars", "children", "hosts"})
		}
	}
	if len(inv.hosts) == 0 && !r.failed() {
		r.bad(all.line, "the inventory has no hosts")
	}
	return inv
}

func (r *reader) children(inv *inventory, v *value, parent *group, depth int) {
	for _, f := range v.fields {
		g := inv.group(f.name)
		if g == nil {
			g = &group{name: f.name, line: f.line, depth: depth, parent: parent}
			inv.groups = append(inv.groups, g)
		} else if parent != nil { // named at the top and again as somebody's child
			if inv.below(parent, g) {
				r.bad(f.line, "group %s would be below itself", f.name)
				continue
			}
			g.parent, g.depth = parent, max(g.depth, depth)
		}
		if f.value.null() {
			if parent == nil {
				r.bad(f.line, "group %s has no hosts", f.name)
			}
			continue
		}
		if !r.isMap(f) {
			continue
		}
		for _, in := range f.value.fields {
			switch in.name {
			case "vars":
				if r.isMap(in) {
					g.vars = in.value
				}
			case "hosts":
				r.hosts(inv, g, in)
			case "children":
				if r.isMap(in) {
					r.children(inv, in.value, g, depth+1)
				}
			default:
				r.unknown(in.line, "key of group "+f.name, in.name, []string{"vars", "hosts", "children"})
			}
		}
		if f.value.field("hosts") == nil && f.value.field("children") == nil {
			r.bad(f.line, "group %s has no hosts", f.name)
		}
	}
}

// below says whether g is above, or a group below it.
func (inv *inventory) below(g, above *group) bool {
	for ; g != nil; g = g.parent {
		if g == above {
			return true
		}
	}
	return false
}

func (r *reader) hosts(inv *inventory, g *group, f field) {
	if f.value.null() {
		r.bad(f.line, "hosts of group %s is empty; it names hosts by their IPv4 addresses", g.name)
		return
	}
	if !r.isMap(f) {
		return
	}
	for _, h := range f.value.fields {
		if a, err := netip.ParseAddr(h.name); err != nil || !a.Is4() {
			r.bad(h.line, "host %s of group %s is no IPv4 address", quote(h.name), g.name)
		}
		if !h.value.null() && !r.isMap(h) {
			continue
		}
		g.own = append(g.own, entry{inv.host(h.name, h.line), h.value})
	}
}

// isMap complains of what is not a map; nothing at all is an empty one.
func (r *reader) isMap(f field) bool {
	if f.value.kind == mapKind {
		return true
	}
	if !f.value.null() {
		r.bad(f.line, "%s must be a map, and is %s", f.name, f.value.what())
	}
	return false
}

// members are the entries of a group and of the groups below it.
func (inv *inventory) members(g *group) []entry {
	all := slices.Clone(g.own)
	for _, c := range inv.groups {
		if c.parent == g {
			all = append(all, inv.members(c)...)
		}
	}
	return all
}

// of are the groups that a host belongs to, the least important first: by
// depth, then by name, as Ansible orders them.
func (inv *inventory) of(h *host) []*group {
	var gs []*group
	for _, g := range inv.groups {
		if slices.ContainsFunc(inv.members(g), func(e entry) bool { return e.host == h }) {
			gs = append(gs, g)
		}
	}
	slices.SortStableFunc(gs, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.name, b.name))
	})
	return gs
}

// A scope is what counts for one host, or for one of its servers: each name
// with the value that won and where it stands.
type scope struct {
	r     *reader
	vars  map[string]field
	extra map[string]string // what placeholders stand for
	used  map[string]spec.Setting
	ill   map[string]bool // what is written and does not fit
}

// scope resolves the variables of a host. Groups in without, and what they say
// about the host, do not count.
func (r *reader) scope(inv *inventory, h *host, without []*group, last ...*value) *scope {
	s := &scope{r: r, vars: map[string]field{}, extra: map[string]string{}, used: map[string]spec.Setting{}, ill: map[string]bool{}}
	take := func(v *value) {
		if v == nil {
			return
		}
		for _, f := range v.fields {
			s.vars[f.name] = f
		}
	}
	take(inv.vars)
	groups := slices.DeleteFunc(inv.of(h), func(g *group) bool { return slices.Contains(without, g) })
	for _, g := range groups {
		take(g.vars)
	}
	for _, g := range inv.groups { // in the order of the file
		if slices.Contains(without, g) {
			continue
		}
		for _, e := range g.own {
			if e.host == h {
				take(e.vars)
			}
		}
	}
	for _, v := range last {
		take(v)
	}
	return s
}

// get returns the value of a parameter, templates resolved, and remembers that
// it was used. It is nil when nobody gave one and there is no default.
func (s *scope) get(name string) *value {
	v, origin := s.look(name)
	if v == nil {
		return nil
	}
	if _, ok := s.used[name]; !ok {
		s.used[name] = spec.Setting{Name: name, Value: masked(name, v), Origin: origin}
	}
	return v
}

func (s *scope) look(name string) (*value, string) {
	if f, ok := s.vars[name]; ok && !f.value.null() {
		p := s.r.known.byName[name]
		v := s.expand(f.value, 0)
		fits := s.r.fits
		if s.r.short { // told by the name that it has there
			fits = func(f field, is shape) bool { return s.r.hasShape(f.value, is) }
		}
		if !fits(field{name, f.line, v}, p.is) {
			s.ill[name] = true
			if v = s.r.mend(v, p.is); v == nil {
				return s.r.known.defaults.field(name), "default"
			}
		}
		return v, s.r.place(f.line)
	}
	if v := s.r.known.defaults.field(name); v != nil {
		return v, "default"
	}
	return nil, ""
}

// given says whether somebody wrote the parameter.
func (s *scope) given(name string) bool {
	f, ok := s.vars[name]
	return ok && !f.value.null()
}

// line is where a parameter is written; 0: nowhere.
func (s *scope) line(name string) int { return s.vars[name].line }

// derive notes a value that nobody wrote.
func (s *scope) derive(name string, v any, how string) {
	s.used[name] = spec.Setting{Name: name, Value: v, Origin: how}
}

func (s *scope) text(name string) string { return s.get(name).String() }

func (s *scope) int(name string) int {
	n, _ := whole(s.get(name))
	return int(n)
}

func (s *scope) bool(name string) bool {
	b, _ := truth(s.get(name))
	return b
}

// settings are what was used, by name.
func (s *scope) settings() []spec.Setting {
	var all []spec.Setting
	for _, name := range slices.Sorted(maps.Keys(s.used)) {
		all = append(all, s.used[name])
	}
	return all
}

// masked is a value as it may be shown: without passwords.
func masked(name string, v *value) any {
	var walk func(key string, v *value) any
	walk = func(key string, v *value) any {
		switch {
		case v.kind == listKind:
			list := []any{}
			for _, e := range v.list {
				list = append(list, walk(key, e))
			}
			return list
		case v.kind == mapKind:
			m := map[string]any{}
			for _, f := range v.fields {
				m[f.name] = walk(f.name, f.value)
			}
			return m
		case hidden(key) && v.String() != "":
			return "***"
		}
		return v.plain()
	}
	return walk(name, v)
}

// hidden says that what has the name is a secret.
func hidden(key string) bool {
	return strings.Contains(key, "password") || slices.Contains([]string{"s3_key", "s3_key_secret", "s3_token", "cipher_pass"}, key)
}

func quote(s string) string { return strconv.Quote(shorten(s)) }

// unknown warns of a name that nobody knows.
func (r *reader) unknown(line int, what, name string, known []string) {
	do := ""
	const worthGuessing = 200 // more are no typos, and each guess takes a millisecond
	if r.guesses++; r.guesses <= worthGuessing {
		if near := nearest(name, known); near != "" {
			do = "did you mean " + near + "?"
		}
	}
	r.find(spec.Warning, line, "unknown "+what+" "+quote(name), do)
}
