package plan

import (
	"maps"
	"slices"
	"strings"

	"howdah/pg"
	"howdah/spec"
)

// drift finds what nobody declared. It is told, and with Prune it goes: databases
// first, roles last, since what belongs to a role keeps it.
func (p *planner) drift() {
	declared := map[string]spec.Role{}
	for _, r := range p.Objects.Roles {
		declared[r.Name] = r
	}
	databases := map[string]spec.Database{}
	for _, d := range p.Objects.Databases {
		databases[d.Name] = d
	}
	for _, name := range slices.Sorted(maps.Keys(p.have.Databases)) {
		h := p.have.Databases[name]
		d, known := databases[name]
		switch {
		case !known && !slices.Contains([]string{"postgres", "template0", "template1"}, name):
			p.undeclared("database "+name, "is in no list", func(why string) { p.dropDatabase(name, why) })
		case known:
			p.driftWithin(d, h)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.have.Roles)) {
		h := p.have.Roles[name]
		r, known := declared[name]
		switch {
		case p.stray(name):
			p.undeclared("role "+name, "is in no list", func(why string) { p.dropRole(spec.Role{Name: name}, why) })
		case known:
			p.strays("role "+name, "ROLE "+pg.QuoteIdent(name), r.Parameters, h.Config)
		}
	}
	for _, pair := range slices.SortedFunc(maps.Keys(p.have.Members), func(a, b Pair) int {
		return strings.Compare(a.Member+"\x00"+a.Group, b.Member+"\x00"+b.Group)
	}) {
		r, known := declared[pair.Member]
		if !known || slices.ContainsFunc(r.MemberOf, func(m spec.Membership) bool { return m.Role == pair.Group }) {
			continue
		}
		now := p.have.Members[pair]
		p.undeclared("role "+pair.Member, "is a member of "+pair.Group, func(why string) {
			p.step(Step{
				Object: "role " + pair.Member, What: "revoke " + pair.Group + " from role " + pair.Member, Risk: Destructive, Why: why,
				SQL: sql(p.revoke(now, "", pg.QuoteIdent(pair.Group)+" FROM "+pg.QuoteIdent(pair.Member))...),
			})
			delete(p.have.Members, pair)
		})
	}
}

// stray says that nothing that is declared names a role, as itself, as an owner
// or as a group that somebody is to be a member of, and that it is nobody's own.
func (p *planner) stray(name string) bool {
	if p.named == nil {
		p.named = map[string]bool{spec.Superuser: true, spec.Replicator: true, p.Objects.Admin: true, p.Objects.Monitor: true}
		for _, d := range p.Objects.Databases {
			p.named[d.Owner] = true
			for _, s := range d.Schemas {
				p.named[s.Owner] = true
			}
		}
		for _, r := range p.Objects.Roles {
			p.named[r.Name] = true
			for _, m := range r.MemberOf {
				p.named[m.Role] = p.named[m.Role] || !m.Revoke
			}
		}
	}
	return !p.named[name] && !strings.HasPrefix(name, "pg_")
}

// goes says that a role will be dropped by this plan.
func (p *planner) goes(name string) bool {
	_, there := p.have.Roles[name]
	return there && (p.Prune && p.stray(name) || slices.ContainsFunc(p.Objects.Roles, func(r spec.Role) bool { return r.Name == name && r.Absent && !r.System }))
}

// undeclared tells of something, or takes it away.
func (p *planner) undeclared(object, what string, away func(why string)) {
	if !p.Prune {
		p.plan.Drift = append(p.plan.Drift, Note{Object: object, What: what})
		return
	}
	away("nobody declared it")
}

// strays are the parameters of a role or a database that nobody declared.
func (p *planner) strays(object, target string, want, have map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if _, known := want[key]; known {
			continue
		}
		old := have[key]
		p.undeclared(object, "has "+key+" = "+old, func(why string) {
			p.step(Step{
				Object: object, What: "reset " + key + " of " + object, Risk: Destructive, Why: why,
				SQL: sql("ALTER " + target + " RESET " + parameter(key)), Settings: []Setting{{key, old, ""}},
			})
			delete(have, key)
		})
	}
}

// driftWithin finds what nobody declared of a database. What the SQL makes that
// it began with is not looked for.
func (p *planner) driftWithin(d spec.Database, h Database) {
	object := "database " + d.Name
	p.strays(object, "DATABASE "+pg.QuoteIdent(d.Name), d.Parameters, h.Config)
	if !h.Seen || d.Baseline != "" {
		return
	}
	wanted, schemas := map[string]bool{"plpgsql": true}, map[string]bool{"public": true, "information_schema": true}
	for _, e := range slices.Concat(p.Objects.Extensions, d.Extensions) {
		if !e.Absent {
			wanted[e.Name] = true
			schemas[e.Schema] = true
			for _, need := range h.Extensions[e.Name].Needs {
				wanted[need] = true
			}
		}
	}
	for _, s := range p.Objects.Schemas {
		schemas[s] = true
	}
	for _, s := range d.Schemas {
		schemas[s.Name] = true
	}
	in := &room{p, d.Name, &h}
	surplus := func(kind, name, but string, gone func()) {
		p.undeclared(object, "has "+kind+" "+name, func(why string) {
			in.step(Step{
				Object: object + ", " + kind + " " + name, What: "drop " + kind + " " + name + " of " + object, Risk: Destructive, Why: why + "; " + but,
				SQL: sql("DROP " + strings.ToUpper(kind) + " " + pg.QuoteIdent(name)),
			})
			gone()
		})
	}
	for _, name := range slices.Sorted(maps.Keys(h.Extensions)) {
		if wanted[name] {
			schemas[h.Extensions[name].Schema] = true
			continue
		}
		surplus("extension", name, "nothing may need it", func() { delete(h.Extensions, name) })
	}
	for _, name := range slices.Sorted(maps.Keys(h.Schemas)) {
		if schemas[name] || strings.HasPrefix(name, "pg_") || h.Schemas[name].Extension {
			continue
		}
		surplus("schema", name, "it has to be empty", func() { delete(h.Schemas, name) })
	}
}
