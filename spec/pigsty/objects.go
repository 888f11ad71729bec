package pigsty

import (
	"slices"
	"strings"

	"howdah/secret"
	"howdah/spec"
)

// objects are the roles and databases of a cluster; passwords go to its secrets.
func (r *reader) objects(s *server, c *spec.Cluster) spec.Objects {
	o := spec.Objects{Admin: s.text("pg_admin_username"), Monitor: s.text("pg_monitor_username")}
	c.Secrets[spec.SecretSuper] = secret.Text(s.text("pg_dbsu_password"))
	c.Secrets[spec.SecretReplicate] = secret.Text(s.text("pg_replication_password"))
	if name := s.text("pg_replication_username"); name != spec.Replicator {
		r.warn(s.line("pg_replication_username"), "members replicate as %s; %s becomes a role beside it", spec.Replicator, name)
	}
	if name := s.text("pg_dbsu"); name != spec.Superuser {
		r.warn(s.line("pg_dbsu"), "the database superuser is %s; %s is the operating system's user only", spec.Superuser, name)
	}
	if !s.bool("pg_provision") {
		o.Admin, o.Monitor = "", ""
		return o
	}
	system := []struct{ name, secret, password string }{
		{spec.Superuser, spec.SecretSuper, "pg_dbsu_password"},
		{s.text("pg_replication_username"), spec.SecretReplicate, "pg_replication_password"},
		{o.Admin, "admin", "pg_admin_password"},
		{o.Monitor, "monitor", "pg_monitor_password"},
	}
	line := map[string]int{}
	add := func(v *value, user bool) {
		role := r.role(v, user, c)
		if other, ok := line[role.Name]; ok && user && other > 0 {
			r.warn(v.line, "user %s is listed twice, on lines %d and %d; each is applied, in this order", role.Name, other, v.line)
		}
		line[role.Name] = v.line
		for _, sys := range system {
			if sys.name != role.Name {
				continue
			}
			role.System = true
			if role.Absent {
				r.bad(v.line, "user %s is one of the cluster's own and cannot be absent", role.Name)
			}
			if user { // a listed password wins over the parameter's
				if role.Secret != "" {
					c.Secrets[sys.secret] = c.Secrets[role.Secret]
					delete(c.Secrets, role.Secret)
				}
			} else if role.Secret == "" && sys.secret != spec.SecretSuper && sys.secret != spec.SecretReplicate {
				c.Secrets[sys.secret] = secret.Text(s.text(sys.password))
			}
			role.Secret = sys.secret
		}
		o.Roles = append(o.Roles, role)
	}
	for _, v := range items(s.get("pg_default_roles")) {
		add(v, false)
	}
	for _, sys := range system { // whoever the list leaves out is made all the same
		if _, ok := line[sys.name]; ok || sys.name == "" || sys.name == spec.Superuser || s.r.short {
			continue
		}
		role := spec.Role{Name: sys.name, System: true, Secret: sys.secret}
		yes := true
		switch sys.secret {
		case spec.SecretReplicate:
			role.Replication = &yes
		case "admin":
			role.Superuser = &yes
		}
		if _, ok := c.Secrets[sys.secret]; !ok {
			c.Secrets[sys.secret] = secret.Text(s.text(sys.password))
		}
		o.Roles = append(o.Roles, role)
	}
	for _, v := range items(s.get("pg_users")) {
		add(v, true)
	}
	var names []string
	for _, role := range o.Roles {
		names = append(names, role.Name)
	}
	for _, list := range []*value{s.get("pg_default_roles"), s.get("pg_users")} {
		for _, v := range items(list) {
			r.groups(v, names)
			if v.field("parameters") != nil {
				r.ofObject(c.Name, "user "+v.field("name").String(), v.field("parameters"))
			}
		}
	}
	if s.given("pg_default_extensions") {
		r.extensionNames(c.Name, "", s.get("pg_default_extensions"))
	}
	seen := map[string]int{}
	for _, v := range items(s.get("pg_databases")) {
		d := r.database(v)
		r.extensionNames(c.Name, "database "+d.Name, v.field("extensions"))
		r.ofObject(c.Name, "database "+d.Name, v.field("parameters"))
		for _, in := range items(v.field("schemas")) {
			if owner := in.field("owner"); !owner.null() {
				r.isRole(owner, "the owner "+owner.String()+" of schema "+in.field("name").String(), names)
			}
		}
		if other, ok := seen[d.Name]; ok {
			r.bad(v.line, "database %s is listed twice, on lines %d and %d", d.Name, other, v.line)
		}
		seen[d.Name] = v.line
		if d.State == spec.Recreate {
			r.find(spec.Problem, v.line, "database "+d.Name+" is to be recreated, which would delete it each time", "use state: absent once, and then remove the state")
		}
		if (d.Name == "postgres" || d.Name == "template1" || d.Name == "template0") && d.State == spec.Absent {
			r.bad(v.line, "database %s cannot be absent", d.Name)
		}
		if owner := v.field("owner"); !owner.null() {
			r.isRole(owner, "the owner "+d.Owner+" of database "+d.Name, names)
		}
		o.Databases = append(o.Databases, d)
	}
	for _, v := range items(s.get("pg_default_schemas")) {
		o.Schemas = append(o.Schemas, v.String())
	}
	o.Extensions = extensions(s.get("pg_default_extensions"))
	for _, v := range items(s.get("pg_default_privileges")) {
		p, err := spec.ParsePrivilege(v.String())
		if err != nil {
			r.bad(v.line, "%s is no default privilege: %s", quote(v.String()), err)
			continue
		}
		o.Privileges = append(o.Privileges, p.String())
	}
	o.Admins = []string{spec.Superuser}
	for _, name := range []string{o.Admin, "dbrole_admin"} {
		if slices.ContainsFunc(o.Roles, func(r spec.Role) bool { return r.Name == name && !r.Absent }) {
			o.Admins = append(o.Admins, name)
		}
	}
	return o
}

// groups looks at the roles that one is a member of.
func (r *reader) groups(v *value, names []string) {
	for _, m := range items(v.field("roles")) {
		name, state := m, ""
		if m.kind == mapKind {
			name, state = m.field("name"), m.field("state").String()
		}
		if state == "" || state == "grant" {
			r.isRole(name, "the role "+name.String()+" of "+v.field("name").String(), names)
		}
	}
}

// isRole warns of a role that is in no list: somebody else has to make it.
func (r *reader) isRole(v *value, what string, names []string) {
	name := v.String()
	if name == spec.Superuser || slices.Contains(names, name) || strings.HasPrefix(name, "pg_") {
		return
	}
	do := ""
	if near := nearest(name, names); near != "" {
		do = "did you mean " + near + "?"
	}
	r.find(spec.Warning, v.line, what+" is in no list of roles", do)
}

// ofObject notes the parameters of a user or a database.
func (r *reader) ofObject(cluster, of string, v *value) {
	if v == nil {
		return
	}
	for _, f := range v.fields {
		r.mention(spec.Mention{Kind: spec.ParameterName, Cluster: cluster, Of: of, Name: f.name, Value: setting(f.value), Line: f.line})
	}
}

// extensionNames notes the extensions of a list that are to be there.
func (r *reader) extensionNames(cluster, of string, list *value) {
	for _, v := range items(list) {
		name := v
		if v.kind == mapKind {
			if v.field("state").String() == spec.Absent {
				continue
			}
			name = v.field("name")
		}
		r.mention(spec.Mention{Kind: spec.ExtensionName, Cluster: cluster, Of: of, Name: name.String(), Line: name.line})
	}
}

func items(v *value) []*value {
	if v == nil {
		return nil
	}
	return v.list
}

// role reads an entry of pg_users or pg_default_roles.
func (r *reader) role(v *value, user bool, c *spec.Cluster) spec.Role {
	name := v.field("name").String()
	role := spec.Role{
		Name: name, Absent: v.field("state").String() == spec.Absent,
		Login: flag(v, "login"), Superuser: flag(v, "superuser"), CreateDB: flag(v, "createdb"), CreateRole: flag(v, "createrole"),
		Inherit: flag(v, "inherit"), Replication: flag(v, "replication"), BypassRLS: flag(v, "bypassrls"),
		ConnLimit: number(v, "connlimit"), ExpireIn: number(v, "expire_in"), ExpireAt: v.field("expire_at").String(),
		Parameters: settings(v.field("parameters")), Comment: v.field("comment").String(), PoolMode: v.field("pool_mode").String(),
		PoolParameters: settings(v.field("pool_parameters")),
	}
	if p := flag(v, "pgbouncer"); p != nil {
		role.Pool = *p
	}
	if n := number(v, "pool_connlimit"); n != nil {
		role.PoolLimit = *n
	}
	if p := v.field("password"); !p.null() && p.String() != "" {
		role.Secret = "user:" + name
		c.Secrets[role.Secret] = secret.Text(p.String())
	}
	if login := role.Login == nil || *role.Login; user && login && role.Secret == "" && r.short && !role.Absent {
		role.Secret = "user:" + name // one is generated
		c.Secrets[role.Secret] = ""
	}
	if role.Comment == "" && user {
		role.Comment = "business user " + name
	}
	for _, m := range items(v.field("roles")) {
		if m.kind == scalarKind {
			role.MemberOf = append(role.MemberOf, spec.Membership{Role: m.String()})
			continue
		}
		state := m.field("state").String()
		role.MemberOf = append(role.MemberOf, spec.Membership{
			Role: m.field("name").String(), Revoke: state == "revoke" || state == "absent",
			Admin: flag(m, "admin"), Set: flag(m, "set"), Inherit: flag(m, "inherit"),
		})
	}
	return role
}

// createOptions are the keys of a database that count when it is made.
var createOptions = []string{
	"encoding", "locale", "lc_collate", "lc_ctype", "locale_provider", "icu_locale", "icu_rules", "builtin_locale", "strategy",
}

func (r *reader) database(v *value) spec.Database {
	d := spec.Database{
		Name: v.field("name").String(), State: v.field("state").String(), Owner: v.field("owner").String(),
		Template: v.field("template").String(), Tablespace: v.field("tablespace").String(),
		IsTemplate: flag(v, "is_template"), AllowConn: flag(v, "allowconn"), ConnLimit: number(v, "connlimit"),
		Parameters: settings(v.field("parameters")), Extensions: extensions(v.field("extensions")),
		Baseline: v.field("baseline").String(), Comment: v.field("comment").String(), Pool: true,
	}
	if p := flag(v, "pgbouncer"); p != nil {
		d.Pool = *p
	}
	d.PoolMode = v.field("pool_mode").String()
	d.PoolSize, d.PoolSizeMin, d.PoolReserve, d.PoolLimit = number(v, "pool_size"), number(v, "pool_size_min"), number(v, "pool_reserve"), number(v, "pool_connlimit")
	if p := flag(v, "revokeconn"); p != nil {
		d.RevokeConn = *p
	}
	for _, name := range createOptions {
		if o := v.field(name); !o.null() {
			if d.Create == nil {
				d.Create = map[string]string{}
			}
			d.Create[name] = o.String()
		}
	}
	for _, s := range items(v.field("schemas")) {
		if s.kind == scalarKind {
			d.Schemas = append(d.Schemas, spec.Schema{Name: s.String()})
			continue
		}
		d.Schemas = append(d.Schemas, spec.Schema{
			Name: s.field("name").String(), Owner: s.field("owner").String(), Absent: s.field("state").String() == spec.Absent,
		})
	}
	return d
}

func extensions(list *value) []spec.Extension {
	var all []spec.Extension
	for _, e := range items(list) {
		if e.kind == scalarKind {
			all = append(all, spec.Extension{Name: e.String()})
			continue
		}
		all = append(all, spec.Extension{
			Name: e.field("name").String(), Schema: e.field("schema").String(), Version: e.field("version").String(),
			Absent: e.field("state").String() == spec.Absent,
		})
	}
	return all
}

// flag is a switch with three states: on, off, and nothing said.
func flag(v *value, name string) *bool {
	f := v.field(name)
	if f.null() {
		return nil
	}
	b, _ := truth(f)
	return &b
}

func number(v *value, name string) *int {
	f := v.field(name)
	if f.null() {
		return nil
	}
	n, _ := whole(f)
	i := int(n)
	return &i
}

func settings(v *value) map[string]string {
	if v == nil || len(v.fields) == 0 {
		return nil
	}
	m := map[string]string{}
	for _, f := range v.fields {
		m[strings.ToLower(f.name)] = setting(f.value)
	}
	return m
}
