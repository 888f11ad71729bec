package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"howdah/pg"
	"howdah/spec"
)

// defaults are the schemas, extensions and privileges that every new database
// begins with, and postgres has too.
func (p *planner) defaults() {
	if len(p.Objects.Schemas)+len(p.Objects.Extensions)+len(p.grants) == 0 {
		return
	}
	for _, name := range []string{"template1", "postgres"} {
		d, there := p.have.Databases[name]
		if !there || !d.Seen {
			continue
		}
		in := &room{p, name, &d}
		for _, s := range p.Objects.Schemas {
			in.schema(spec.Schema{Name: s})
		}
		in.extensions(p.Objects.Extensions)
		for _, owner := range p.Objects.Admins {
			in.privileges(owner, anywhere)
			in.privileges(owner, inSchemas)
		}
		p.have.Databases[name] = d
	}
}

// databases makes every declared database and what it is to contain.
func (p *planner) databases() {
	for _, d := range p.Objects.Databases {
		_, there := p.have.Databases[d.Name]
		switch {
		case d.State == spec.Absent && there:
			p.dropDatabase(d.Name, "it is declared absent")
		case d.State == spec.Absent:
		default:
			p.database(d)
		}
	}
}

// dropDatabase takes a database away, with whoever is in it.
func (p *planner) dropDatabase(name, why string) {
	object, target := "database "+name, "DATABASE "+pg.QuoteIdent(name)
	if p.have.Databases[name].IsTemplate {
		p.step(Step{
			Object: object, What: "change " + object + ": no template", Risk: Safe, Why: "a template can not be dropped", Makes: true,
			SQL: sql("ALTER " + target + " WITH IS_TEMPLATE false"),
		})
	}
	p.step(Step{
		Object: object, What: "drop " + object, Risk: Destructive, Why: why + "; its data go, and its sessions end", Alone: true,
		SQL: sql("DROP " + target + " WITH (FORCE)"),
	})
	delete(p.have.Databases, name)
}

// database makes one what it is to be. A new one is a template that nobody may
// connect to until all is in it, which the last step changes: in the same
// transaction as the SQL that it begins with, so that this runs once, whatever
// dies in between.
func (p *planner) database(d spec.Database) {
	object, target := "database "+d.Name, "DATABASE "+pg.QuoteIdent(d.Name)
	h, there := p.have.Databases[d.Name]
	making := there && h.Making() && (d.IsTemplate == nil || !*d.IsTemplate || d.ConnLimit == nil || *d.ConnLimit != 0)
	if !there {
		var ok bool
		if h, ok = p.create(d); !ok {
			return
		}
		making = true
	}
	defer func() { p.have.Databases[d.Name] = h }()
	if d.Owner == "" && p.goes(h.Owner) {
		d.Owner = spec.Superuser // who gets what that role leaves
	}
	if d.Owner != "" && d.Owner != h.Owner {
		p.step(Step{
			Object: object, What: "give " + object + " to " + d.Owner, Risk: Reload, Why: "it belongs to " + h.Owner,
			SQL: sql("ALTER " + target + " OWNER TO " + pg.QuoteIdent(d.Owner)),
		})
		for i, g := range h.Access { // the owner's rights go along
			if g.Grantee == h.Owner {
				h.Access[i].Grantee = d.Owner
			}
		}
		h.Owner = d.Owner
	}
	if there {
		p.fixed(d, h)
	}
	if d.Tablespace != "" && d.Tablespace != h.Tablespace {
		p.step(Step{
			Object: object, What: "move " + object + " to tablespace " + d.Tablespace, Risk: Rewrite, Alone: true,
			Why: "it is in " + h.Tablespace + "; all of it is copied, and nobody may be connected", SQL: sql("ALTER " + target + " SET TABLESPACE " + pg.QuoteIdent(d.Tablespace)),
		})
		h.Tablespace = d.Tablespace
	}
	texts, changed := settings(target, d.Parameters, h.Config)
	if len(changed) > 0 {
		p.step(Step{
			Object: object, What: "set " + names(changed) + " of " + object, Risk: Safe, Why: "sessions that begin from then on have it",
			SQL: texts, Settings: changed,
		})
	}
	if d.Comment != "" && d.Comment != h.Comment {
		p.step(Step{
			Object: object, What: "say of " + object + " what it is for", Risk: Safe, Why: "its comment is another",
			SQL: sql("COMMENT ON " + target + " IS " + pg.QuoteLiteral(d.Comment)),
		})
		h.Comment = d.Comment
	}
	p.connecting(d, target, &h)
	closed := d.AllowConn != nil && !*d.AllowConn
	switch {
	case !h.AllowConn && d.AllowConn == nil:
		p.cannot(object, "see what is in it", "nobody may connect to it, and allowconn is not declared")
	case !closed && !h.AllowConn: // first: it is to be filled
		p.step(Step{
			Object: object, What: "change " + object + ": allow_connections true", Risk: Reload, Why: "it is declared so", Makes: true,
			SQL: sql("ALTER " + target + " WITH ALLOW_CONNECTIONS true"),
		})
		h.AllowConn = true
		if !h.Seen {
			p.cannot(object, "see what is in it", "nobody could connect to it so far; plan again after this")
		}
		fallthrough
	case h.AllowConn && h.Seen:
		if h.Seen && (!closed || making) {
			in := &room{p, d.Name, &h}
			in.fill(d)
		}
	}
	if making && !h.Seen {
		return // it stays shut until somebody has looked into it
	}
	var alter []string
	for _, o := range []struct {
		word string
		want *bool
		have *bool
	}{{"IS_TEMPLATE", d.IsTemplate, &h.IsTemplate}, {"ALLOW_CONNECTIONS", d.AllowConn, &h.AllowConn}} {
		no := false
		shut := d.ConnLimit != nil && *d.ConnLimit == 0 // a template like that would look half made
		if o.want == nil && (making || shut) && o.word == "IS_TEMPLATE" {
			o.want = &no
		}
		if o.want != nil && *o.want != *o.have {
			alter = append(alter, o.word+" "+strconv.FormatBool(*o.want))
			*o.have = *o.want
		}
	}
	limit := h.ConnLimit
	if making || h.Making() { // a template that takes nobody would look half made
		limit = -1
	}
	if d.ConnLimit != nil {
		limit = *d.ConnLimit
	}
	if limit != h.ConnLimit {
		alter = append(alter, "CONNECTION LIMIT "+strconv.Itoa(limit))
		h.ConnLimit = limit
	}
	last := func(what, why string, risk Risk, words []string) Step {
		return Step{Object: object, What: what, Why: why, Risk: risk, SQL: sql("ALTER " + target + " WITH " + strings.Join(words, " "))}
	}
	if making && d.Baseline != "" {
		// Nobody can shut the database that he is in.
		words := slices.DeleteFunc(slices.Clone(alter), func(word string) bool { return strings.HasPrefix(word, "ALLOW_CONNECTIONS") })
		alter = slices.DeleteFunc(alter, func(word string) bool { return slices.Contains(words, word) })
		s := last("fill "+object+" from "+d.Baseline+" and open it", "it begins with that, once", Safe, words)
		if s.Database = d.Name; len(words) == 0 {
			s.SQL = nil
		}
		s.SQL = append([]Statement{{Text: "-- the SQL of " + strings.Join(strings.Fields(d.Baseline), " "), Baseline: d.Name}}, s.SQL...)
		s.Makes = true
		p.step(s)
		making = false
	}
	switch {
	case len(alter) == 0:
	case making:
		p.step(last("open "+object, "all is in it", Safe, alter))
	default: // last: it may forbid to connect
		p.step(last("change "+object+": "+strings.ToLower(strings.Join(alter, ", ")), "it is declared so", Reload, alter))
	}
}

// since are the majors in which options of CREATE DATABASE came.
var since = map[string]int{"locale_provider": 15, "icu_locale": 15, "strategy": 15, "icu_rules": 16, "builtin_locale": 17}

// create is the step that makes a database, and what it then is.
func (p *planner) create(d spec.Database) (h Database, ok bool) {
	object := "database " + d.Name
	owner := d.Owner
	if owner == "" {
		owner = spec.Superuser
	}
	text := "CREATE DATABASE " + pg.QuoteIdent(d.Name)
	if d.Owner != "" {
		text += " OWNER " + pg.QuoteIdent(d.Owner)
	}
	from := "template1"
	var first []Statement
	if d.Template != "" {
		from = d.Template
		text += " TEMPLATE " + pg.QuoteIdent(d.Template)
		if d.Template != "template0" && d.Template != "template1" {
			// Nobody may be in the database that is copied.
			first = sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = " + pg.QuoteLiteral(d.Template) + " AND pid <> pg_backend_pid()")
		}
	}
	h = fresh(owner)
	h.IsTemplate, h.ConnLimit = true, 0
	if model, there := p.have.Databases[from]; from == "template0" {
		h = within(p.have.Major, h)
	} else if there && model.Seen {
		model = model.clone()
		h.Seen, h.Schemas, h.Extensions, h.Defaults, h.Tablespace = true, model.Schemas, model.Extensions, model.Defaults, model.Tablespace
		maps.Copy(h.Options, model.Options)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Create)) {
		if least := since[name]; p.have.Major < least {
			p.cannot(object, "make it", fmt.Sprintf("%s needs PostgreSQL %d or later, and this is %d", name, least, p.have.Major))
			return h, false
		}
		value := pg.QuoteLiteral(d.Create[name])
		if name == "locale_provider" || name == "strategy" {
			value = pg.QuoteIdent(strings.ToLower(d.Create[name]))
		}
		text += " " + strings.ToUpper(name) + " " + value
		h.Options[name] = d.Create[name]
	}
	if locale, said := d.Create["locale"]; said {
		for _, name := range []string{"lc_collate", "lc_ctype"} {
			if d.Create[name] == "" {
				h.Options[name] = locale
			}
		}
	}
	if d.Tablespace != "" {
		text += " TABLESPACE " + pg.QuoteIdent(d.Tablespace)
		h.Tablespace = d.Tablespace
	}
	text += " CONNECTION LIMIT 0 IS_TEMPLATE true"
	s := Step{Object: object, What: "make " + object, Risk: Safe, Why: "there is no such database", SQL: append(first, sql(text)...), Makes: true, Alone: true}
	if len(first) > 0 {
		s.Risk, s.Why = Restart, s.Why+"; the sessions in "+d.Template+", which is copied, end"
	}
	p.step(s)
	return h, true
}

// fixed tells what of a database can not be changed any more.
func (p *planner) fixed(d spec.Database, h Database) {
	object := "database " + d.Name
	tell := func(name, want string) {
		have, known := h.Options[name]
		if known && want != "" && !sameLocale(want, have) {
			p.cannot(object, "change "+name+" from "+have+" to "+want, "it is settled when a database is made: dump it, and restore it into a new one")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Create)) {
		switch name {
		case "strategy": // leaves no trace
		case "locale":
			for _, of := range []string{"lc_collate", "lc_ctype"} {
				if d.Create[of] == "" {
					tell(of, d.Create[name])
				}
			}
		default:
			tell(name, d.Create[name])
		}
	}
}

// sameLocale compares names of encodings, locales and providers as PostgreSQL
// and the C library take them: UTF8 is utf-8.
func sameLocale(a, b string) bool {
	plain := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(s))
	}
	return plain(a) == plain(b)
}

// connecting says who may connect: everybody, or those of the cluster and the owner.
func (p *planner) connecting(d spec.Database, target string, h *Database) {
	object := "database " + d.Name
	public := has(h.Access, h.Owner, Grant{"", "CONNECT", false})
	switch {
	case !d.RevokeConn && public:
		return
	case !d.RevokeConn:
		p.step(Step{
			Object: object, What: "let everybody connect to " + object, Risk: Safe, Why: "it is not declared with revokeconn",
			SQL: sql("GRANT CONNECT ON " + target + " TO PUBLIC"),
		})
		h.Access = with(h.Access, Grant{"", "CONNECT", false})
		return
	}
	var texts []string
	if public {
		texts = append(texts, "REVOKE CONNECT ON "+target+" FROM PUBLIC")
		h.Access = without(h.Access, "", "CONNECT")
	}
	for _, g := range []Grant{
		{spec.Replicator, "CONNECT", false}, {p.Objects.Monitor, "CONNECT", false}, {p.Objects.Admin, "CONNECT", true}, {h.Owner, "CONNECT", true},
	} {
		if g.Grantee == "" || !p.exists(g.Grantee) || has(h.Access, h.Owner, g) {
			continue
		}
		text := "GRANT CONNECT ON " + target + " TO " + pg.QuoteIdent(g.Grantee)
		if g.Grantable {
			text += " WITH GRANT OPTION"
		}
		texts = append(texts, text)
		h.Access = with(h.Access, g)
	}
	if len(texts) > 0 {
		p.step(Step{
			Object: object, What: "let only its owner and the cluster's own roles connect to " + object, Risk: Reload, Why: "it is declared with revokeconn",
			SQL: sql(texts...),
		})
	}
}

// room is the inside of one database.
type room struct {
	*planner
	name string
	h    *Database
}

func (in *room) step(s Step) {
	s.Database = in.name
	in.planner.step(s)
}

func (in *room) object() string { return "database " + in.name }

func (in *room) fill(d spec.Database) {
	target := "DATABASE " + pg.QuoteIdent(d.Name)
	public, ok := in.h.Schemas["public"]
	var texts []string
	change := func(grants *[]Grant, owner, on, role, right string, give bool) {
		if has(*grants, owner, Grant{role, right, false}) == give {
			return
		}
		who := "PUBLIC"
		if role != "" {
			who = pg.QuoteIdent(role)
		}
		if give {
			texts = append(texts, "GRANT "+right+" ON "+on+" TO "+who)
			*grants = with(*grants, Grant{role, right, false})
		} else {
			texts = append(texts, "REVOKE "+right+" ON "+on+" FROM "+who)
			*grants = without(*grants, role, right)
		}
	}
	change(&in.h.Access, in.h.Owner, target, "", "CREATE", false)
	_, admins := in.have.Roles["dbrole_admin"]
	if admins {
		change(&in.h.Access, in.h.Owner, target, "dbrole_admin", "CREATE", true)
	}
	if ok {
		change(&public.Access, public.Owner, "SCHEMA public", "", "CREATE", false)
		if admins {
			change(&public.Access, public.Owner, "SCHEMA public", "dbrole_admin", "CREATE", true)
		}
		if in.have.Major < 15 && in.h.Owner != spec.Superuser {
			// Later the owner of a database owns its schema public too.
			change(&public.Access, public.Owner, "SCHEMA public", in.h.Owner, "CREATE", true)
		}
		in.h.Schemas["public"] = public
	}
	if len(texts) > 0 {
		in.step(Step{
			Object: in.object(), What: "let only administrators make schemas in " + in.object() + ", and objects in its schema public", Risk: Reload,
			Why: "in every declared database it is so", SQL: sql(texts...),
		})
	}
	in.privileges(in.h.Owner, anywhere) // first: the owner's schemas have them
	for _, s := range d.Schemas {
		in.schema(s)
	}
	in.extensions(d.Extensions)
	in.privileges(in.h.Owner, inSchemas)
}

func (in *room) schema(s spec.Schema) {
	h, there := in.h.Schemas[s.Name]
	name, what := pg.QuoteIdent(s.Name), "schema "+s.Name
	switch {
	case s.Absent && there:
		in.step(Step{
			Object: in.object() + ", " + what, What: "drop " + what + " of " + in.object(), Risk: Destructive, Why: "it is declared absent; it has to be empty",
			SQL: sql("DROP SCHEMA " + name),
		})
		delete(in.h.Schemas, s.Name)
	case s.Absent:
	case !there:
		text, owner := "CREATE SCHEMA "+name, spec.Superuser
		if s.Owner != "" {
			text, owner = text+" AUTHORIZATION "+pg.QuoteIdent(s.Owner), s.Owner
		}
		in.step(Step{
			Object: in.object() + ", " + what, What: "make " + what + " in " + in.object(), Risk: Safe, Why: "there is no such schema", SQL: sql(text),
		})
		in.h.Schemas[s.Name] = Schema{Owner: owner}
	case s.Owner != "" && s.Owner != h.Owner:
		in.step(Step{
			Object: in.object() + ", " + what, What: "give " + what + " of " + in.object() + " to " + s.Owner, Risk: Reload, Why: "it belongs to " + h.Owner,
			SQL: sql("ALTER SCHEMA " + name + " OWNER TO " + pg.QuoteIdent(s.Owner)),
		})
		h.Owner = s.Owner
		in.h.Schemas[s.Name] = h
	}
}

func (in *room) extensions(want []spec.Extension) {
	for _, e := range want {
		h, there := in.h.Extensions[e.Name]
		name, what := pg.QuoteIdent(e.Name), "extension "+e.Name
		object := in.object() + ", " + what
		switch {
		case e.Absent && there:
			in.step(Step{
				Object: object, What: "drop " + what + " of " + in.object(), Risk: Destructive, Why: "it is declared absent; nothing may need it",
				SQL: sql("DROP EXTENSION " + name),
			})
			delete(in.h.Extensions, e.Name)
		case e.Absent:
		case !there && in.have.Available != nil && !in.have.Available[e.Name]:
			if !slices.Contains(in.plan.Missing, e.Name) {
				in.plan.Missing = append(in.plan.Missing, e.Name)
			}
		case !there:
			in.extension(e, object, what, name)
		default:
			if e.Schema != "" && e.Schema != h.Schema {
				if h.Relocatable {
					all := sql("ALTER EXTENSION " + name + " SET SCHEMA " + pg.QuoteIdent(e.Schema))
					if _, ok := in.h.Schemas[e.Schema]; !ok {
						all = append(sql("CREATE SCHEMA IF NOT EXISTS "+pg.QuoteIdent(e.Schema)), all...)
						in.h.Schemas[e.Schema] = Schema{Owner: spec.Superuser}
					}
					in.step(Step{
						Object: object, What: "move " + what + " of " + in.object() + " to schema " + e.Schema, Risk: Reload,
						Why: "it is in " + h.Schema + "; whoever names its functions with their schema has to follow", SQL: all,
					})
					h.Schema = e.Schema
				} else {
					in.cannot(object, "move it from schema "+h.Schema+" to "+e.Schema, "this extension can not be moved: drop it and make it anew")
				}
			}
			if e.Version != "" && e.Version != h.Version {
				in.step(Step{
					Object: object, What: "update " + what + " of " + in.object() + " to " + e.Version, Risk: Reload, Why: "it is at " + h.Version,
					SQL: sql("ALTER EXTENSION " + name + " UPDATE TO " + pg.QuoteLiteral(e.Version)),
				})
				h.Version = e.Version
			}
			in.h.Extensions[e.Name] = h
		}
	}
}

func (in *room) extension(e spec.Extension, object, what, name string) {
	var all []Statement
	schema := e.Schema
	text := "CREATE EXTENSION IF NOT EXISTS " + name
	if schema != "" {
		text += " WITH SCHEMA " + pg.QuoteIdent(schema)
		if _, ok := in.h.Schemas[schema]; !ok {
			all = sql("CREATE SCHEMA IF NOT EXISTS " + pg.QuoteIdent(schema))
			in.h.Schemas[schema] = Schema{Owner: spec.Superuser}
		}
	} else {
		schema = "public"
		all = sql("SET LOCAL search_path = public") // where it says nothing itself
	}
	if e.Version != "" {
		text += " VERSION " + pg.QuoteLiteral(e.Version)
	}
	in.step(Step{
		Object: object, What: "make " + what + " in " + in.object(), Risk: Safe, Why: "there is no such extension",
		SQL: append(all, sql(text+" CASCADE")...),
	})
	in.h.Extensions[e.Name] = Extension{Schema: schema, Version: e.Version}
}

// Default privileges are given for a whole database, or in some schemas of it.
const (
	anywhere  = false
	inSchemas = true
)

// privileges are what others may do with whatever owner will make here.
func (in *room) privileges(owner string, where bool) {
	before := maps.Clone(in.h.Defaults)
	var texts []string
	for _, g := range in.grants {
		if where != (len(g.Schemas) > 0) {
			continue
		}
		if i := slices.IndexFunc(g.Roles, func(r string) bool { return !in.exists(r) }); i >= 0 {
			note := Note{"default privileges", "grant " + quote(g.String()), "there is no role " + g.Roles[i]}
			if !slices.Contains(in.plan.Cannot, note) {
				in.plan.Cannot = append(in.plan.Cannot, note)
			}
			continue
		}
		if i := slices.IndexFunc(g.Schemas, func(s string) bool { _, ok := in.h.Schemas[s]; return !ok }); i >= 0 {
			continue // it is not everywhere
		}
		if in.give(owner, g) {
			texts = append(texts, "ALTER DEFAULT PRIVILEGES FOR ROLE "+pg.QuoteIdent(owner)+" "+g.String())
		}
	}
	if in.alike(before, in.h.Defaults) {
		return // also where one takes back what another gives
	}
	if len(texts) > 0 {
		in.step(Step{
			Object: in.object(), What: "set default privileges on what " + owner + " makes in " + in.object(), Risk: Safe,
			Why: "objects that are made from then on have them", SQL: sql(texts...),
		})
	}
}

// alike says that two sets of default privileges are the same.
func (in *room) alike(a, b map[Kind][]Grant) bool {
	all := func(m map[Kind][]Grant, k Kind) []Grant {
		grants, ok := m[k]
		if !ok && k.Schema == "" {
			grants = initial(in.have.Major, k.Owner, k.On)
		}
		return grants
	}
	for k := range b { // none of a goes
		x, y := all(a, k), all(b, k)
		if len(x) != len(y) {
			return false
		}
		for _, g := range x {
			if !slices.Contains(y, g) {
				return false
			}
		}
	}
	return true
}

// give changes what is known of default privileges; changes is false if they
// were so.
func (in *room) give(owner string, g spec.Privilege) (changes bool) {
	schemas := g.Schemas
	if len(schemas) == 0 {
		schemas = []string{""}
	}
	for _, schema := range schemas {
		kind := Kind{owner, schema, g.On}
		all, ok := in.h.Defaults[kind]
		if !ok && schema == "" {
			all = initial(in.have.Major, owner, g.On)
		}
		for _, role := range g.Roles {
			for _, right := range g.Each(in.have.Major) {
				now := Grant{role, right, g.Grantable}
				switch {
				case g.OptionFor:
					if role != owner && has(all, "", Grant{role, right, true}) {
						all, changes = with(all, Grant{role, right, false}), true
					}
				case g.Revoke:
					if has(all, owner, Grant{role, right, false}) {
						all, changes = without(all, role, right), true
					}
				case !has(all, owner, now):
					all, changes = with(all, now), true
				}
			}
		}
		in.h.Defaults[kind] = all
	}
	return changes
}

// initial are the privileges that PostgreSQL begins with (acldefault).
func initial(major int, owner, on string) []Grant {
	var all []Grant
	for _, right := range (spec.Privilege{Rights: []string{"ALL"}, On: on}).Each(major) {
		all = append(all, Grant{owner, right, false})
	}
	switch on {
	case "FUNCTIONS":
		all = append(all, Grant{"", "EXECUTE", false})
	case "TYPES":
		all = append(all, Grant{"", "USAGE", false})
	}
	return all
}
