package declare

import (
	"maps"
	"slices"
	"strings"

	"howdah/spec"
	"howdah/spec/plan"
)

// objects are roles, databases and what new ones begin with.
func (c Cluster) objects(vars *fields) {
	declared := c.Nodes[0].Objects
	roles, databases := map[string]spec.Role{}, map[string]spec.Database{}
	for _, r := range plan.Merged(declared.Roles) {
		roles[r.Name] = r
	}
	for _, d := range declared.Databases {
		databases[d.Name] = d
	}
	named := func(name string) string { // an administrator whom nobody declared there is none of
		if _, ok := roles[name]; ok {
			return name
		}
		return ""
	}
	vars.add("pg_admin_username", named(declared.Admin))
	vars.add("pg_monitor_username", named(declared.Monitor))
	for _, name := range []string{"pg_dbsu_password", "pg_replication_password", "pg_admin_password", "pg_monitor_password"} {
		vars.add(name, "") // as the state directory has it
	}
	// In the order in which they were declared; who was not, by name.
	var order []string
	for _, r := range plan.Merged(declared.Roles) {
		if _, there := c.Have.Roles[r.Name]; there {
			order = append(order, r.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Have.Roles)) {
		own := name == spec.Superuser || name == spec.Replicator
		if !strings.HasPrefix(name, "pg_") && !own && !slices.Contains(order, name) {
			order = append(order, name)
		}
	}
	list := []any{}
	for _, name := range order {
		list = append(list, c.role(name, roles[name]))
	}
	vars.add("pg_default_roles", list)
	list = []any{}
	for _, name := range slices.Sorted(maps.Keys(c.Have.Databases)) {
		d, known := databases[name]
		if !known && slices.Contains([]string{"postgres", "template0", "template1"}, name) || c.Have.Databases[name].Making() {
			continue
		}
		list = append(list, c.database(name, d))
	}
	vars.add("pg_databases", list)
	vars.add("pg_default_schemas", texts(declared.Schemas))
	vars.add("pg_default_extensions", extensions(declared.Extensions))
	vars.add("pg_default_privileges", texts(declared.Privileges))
}

func (c Cluster) role(name string, d spec.Role) fields {
	h := c.Have.Roles[name]
	var f fields
	f.add("name", name)
	if v := c.Verifiers[name]; v != "" && !d.System {
		f.add("password", v)
	}
	for _, a := range []struct {
		name string
		is   bool
		def  bool // what is so where nothing is said
	}{
		{"login", h.Login, true},
		{"superuser", h.Superuser, false},
		{"createdb", h.CreateDB, false},
		{"createrole", h.CreateRole, false},
		{"inherit", h.Inherit, true},
		{"replication", h.Replication, false},
		{"bypassrls", h.BypassRLS, false},
	} {
		if a.is != a.def {
			f.add(a.name, a.is)
		}
	}
	if h.ConnLimit != -1 {
		f.add("connlimit", h.ConnLimit)
	}
	if h.ValidUntil != "" {
		f.add("expire_at", h.ValidUntil)
	}
	groups := []any{}
	for _, pair := range slices.SortedFunc(maps.Keys(c.Have.Members), func(a, b plan.Pair) int { return strings.Compare(a.Group, b.Group) }) {
		if pair.Member != name || len(c.Have.Members[pair]) == 0 {
			continue
		}
		var admin, set, inherit bool
		for _, m := range c.Have.Members[pair] {
			admin, set, inherit = admin || m.Admin, set || m.Set, inherit || m.Inherit
		}
		g := fields{{"name", pair.Group}}
		if admin {
			g.add("admin", true)
		}
		if c.Have.Major >= 16 && !set {
			g.add("set", false)
		}
		if c.Have.Major >= 16 && !inherit {
			g.add("inherit", false)
		}
		if len(g) == 1 {
			groups = append(groups, pair.Group)
		} else {
			groups = append(groups, g)
		}
	}
	if len(groups) > 0 {
		f.add("roles", groups)
	}
	if len(h.Config) > 0 {
		f.add("parameters", settings(h.Config))
	}
	if h.Comment != "" {
		f.add("comment", h.Comment)
	}
	if d.Pool {
		f.add("pgbouncer", true)
	}
	if d.PoolMode != "" {
		f.add("pool_mode", d.PoolMode)
	}
	if d.PoolLimit != 0 {
		f.add("pool_connlimit", d.PoolLimit)
	}
	return f
}

func (c Cluster) database(name string, d spec.Database) fields {
	h := c.Have.Databases[name]
	var f fields
	f.add("name", name)
	f.add("owner", h.Owner)
	if d.Template != "" {
		f.add("template", d.Template)
	}
	for _, option := range slices.Sorted(maps.Keys(h.Options)) {
		if v := h.Options[option]; v != "" {
			f.add(option, quoted(v))
		}
	}
	if h.Tablespace != "pg_default" && h.Tablespace != "" {
		f.add("tablespace", h.Tablespace)
	}
	if h.IsTemplate {
		f.add("is_template", true)
	}
	if !h.AllowConn {
		f.add("allowconn", false)
	}
	if h.ConnLimit != -1 {
		f.add("connlimit", h.ConnLimit)
	}
	if !slices.ContainsFunc(h.Access, func(g plan.Grant) bool { return g.Grantee == "" && g.Right == "CONNECT" }) {
		f.add("revokeconn", true)
	}
	if len(h.Config) > 0 {
		f.add("parameters", settings(h.Config))
	}
	given, of := map[string]bool{"plpgsql": true}, map[string]bool{"public": true, "information_schema": true}
	for _, e := range c.Nodes[0].Objects.Extensions { // new databases have them from the template
		given[e.Name] = !e.Absent
		of[e.Schema] = true
	}
	for _, s := range c.Nodes[0].Objects.Schemas {
		of[s] = true
	}
	var all []spec.Extension
	for _, e := range slices.Sorted(maps.Keys(h.Extensions)) {
		if !given[e] {
			all = append(all, spec.Extension{Name: e, Schema: h.Extensions[e].Schema})
		}
	}
	schemas := []any{}
	for _, s := range slices.Sorted(maps.Keys(h.Schemas)) {
		if of[s] || strings.HasPrefix(s, "pg_") || h.Schemas[s].Extension {
			continue
		}
		schemas = append(schemas, fields{{"name", s}, {"owner", h.Schemas[s].Owner}})
	}
	if d.Baseline == "" { // else it made what is there
		if len(schemas) > 0 {
			f.add("schemas", schemas)
		}
		if len(all) > 0 {
			f.add("extensions", extensions(all))
		}
	} else {
		f.add("baseline", d.Baseline)
	}
	if h.Comment != "" {
		f.add("comment", h.Comment)
	}
	if d.Name != "" && !d.Pool {
		f.add("pgbouncer", false)
	}
	if d.PoolMode != "" {
		f.add("pool_mode", d.PoolMode)
	}
	for _, p := range []struct {
		name string
		n    *int
	}{{"pool_size", d.PoolSize}, {"pool_size_min", d.PoolSizeMin}, {"pool_reserve", d.PoolReserve}, {"pool_connlimit", d.PoolLimit}} {
		if p.n != nil {
			f.add(p.name, *p.n)
		}
	}
	return f
}

func extensions(all []spec.Extension) []any {
	list := []any{}
	for _, e := range all {
		f := fields{{"name", e.Name}}
		if e.Schema != "" {
			f.add("schema", e.Schema)
		}
		if e.Version != "" {
			f.add("version", e.Version)
		}
		if e.Absent {
			f.add("state", spec.Absent)
		}
		list = append(list, f)
	}
	return list
}
