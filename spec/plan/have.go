package plan

import (
	"maps"
	"slices"
	"strconv"

	"howdah/spec"
)

// Have is what is there of a server, as its catalogs say.
type Have struct {
	Major     int
	Roles     map[string]Role
	Members   map[Pair][]Membership // by group and member; one for each who granted it
	Databases map[string]Database
	Available map[string]bool // extensions that could be made; nil: not known
	// Times are what the server makes of the times that roles are to expire at,
	// by the SQL of Until; one that is missing is none.
	Times map[string]string
}

// A Role as it is.
type Role struct {
	Login, Superuser, CreateDB, CreateRole bool
	Inherit, Replication, BypassRLS        bool

	ConnLimit  int
	ValidUntil string // as Times have it; "" and infinity: for ever
	DaysLeft   *int   // until then; nil: for ever
	Password   bool   // it has one
	Right      bool   // and it is the one that is declared
	Config     map[string]string
	Comment    string
	In         []string // databases in which it owns or may something
}

// A Pair is a group and one of its members.
type Pair struct{ Group, Member string }

// A Membership as somebody granted it.
type Membership struct {
	Grantor             string
	Admin, Set, Inherit bool
}

// A Database as it is.
type Database struct {
	Owner      string
	IsTemplate bool
	AllowConn  bool
	ConnLimit  int
	Config     map[string]string
	Comment    string
	Options    map[string]string // those that count when it is made: encoding, lc_collate …
	Tablespace string
	Access     []Grant
	Seen       bool // what is in it is known
	Schemas    map[string]Schema
	Extensions map[string]Extension
	Defaults   map[Kind][]Grant // default privileges; none for those that PostgreSQL begins with
}

// Making says that it is being made: what CREATE DATABASE leaves until all is in it.
func (d Database) Making() bool { return d.IsTemplate && d.ConnLimit == 0 }

// A Schema as it is.
type Schema struct {
	Owner     string
	Access    []Grant
	Extension bool // it belongs to one
}

// An Extension as it is.
type Extension struct {
	Version, Schema string
	Relocatable     bool
	Needs           []string // other extensions
}

// A Grant is one right of one grantee; "" is PUBLIC.
type Grant struct {
	Grantee, Right string
	Grantable      bool
}

// A Kind of objects is what default privileges are of: those that Owner makes in
// Schema ("" is any). On is TABLES, SEQUENCES, FUNCTIONS, TYPES, SCHEMAS.
type Kind struct{ Owner, Schema, On string }

func (h Have) clone() Have {
	h.Roles, h.Members, h.Databases = maps.Clone(h.Roles), maps.Clone(h.Members), maps.Clone(h.Databases)
	for name, r := range h.Roles {
		r.Config = cloned(r.Config)
		h.Roles[name] = r
	}
	for name, d := range h.Databases {
		h.Databases[name] = d.clone()
	}
	return h
}

func (d Database) clone() Database {
	d.Config, d.Access = cloned(d.Config), slices.Clone(d.Access)
	d.Schemas, d.Extensions, d.Defaults = cloned(d.Schemas), cloned(d.Extensions), cloned(d.Defaults)
	return d
}

// cloned is a copy that can be written to.
func cloned[M ~map[K]V, K comparable, V any](m M) M {
	if m == nil {
		return M{}
	}
	return maps.Clone(m)
}

// Pristine is a server that initdb has just made.
func Pristine(major int) Have {
	h := Have{
		Major: major, Members: map[Pair][]Membership{},
		Roles: map[string]Role{
			spec.Superuser: {Login: true, Superuser: true, CreateDB: true, CreateRole: true, Inherit: true, Replication: true, BypassRLS: true, ConnLimit: -1},
		},
		Databases: map[string]Database{},
	}
	for _, name := range []string{"postgres", "template1", "template0"} {
		d := fresh(spec.Superuser)
		d.IsTemplate, d.AllowConn = name != "postgres", name != "template0"
		h.Databases[name] = within(major, d)
	}
	return h
}

// fresh is a database of owner as CREATE DATABASE makes it, empty.
func fresh(owner string) Database {
	return Database{
		Owner: owner, AllowConn: true, ConnLimit: -1, Tablespace: "pg_default",
		Config: map[string]string{}, Options: map[string]string{}, Schemas: map[string]Schema{}, Extensions: map[string]Extension{},
		Defaults: map[Kind][]Grant{},
		Access: []Grant{
			{"", "TEMPORARY", false},
			{"", "CONNECT", false},
			{owner, "CREATE", false},
			{owner, "TEMPORARY", false},
			{owner, "CONNECT", false},
		},
	}
}

// within fills a database with what template0 has.
func within(major int, d Database) Database {
	owner := spec.Superuser
	public := []Grant{{"", "USAGE", false}}
	if major >= 15 {
		owner = "pg_database_owner"
	} else {
		public = append(public, Grant{"", "CREATE", false})
	}
	d.Seen = true
	d.Schemas = map[string]Schema{"public": {Owner: owner, Access: append(public, Grant{owner, "USAGE", false}, Grant{owner, "CREATE", false})}}
	d.Extensions = map[string]Extension{"plpgsql": {Version: "1.0", Schema: "pg_catalog"}}
	return d
}

// Rooms are the databases that have to be looked into for the plan.
func Rooms(o spec.Objects) []string {
	rooms := []string{"template1", "postgres"}
	for _, d := range o.Databases {
		if d.State == spec.Absent {
			continue
		}
		rooms = append(rooms, d.Name)
		if d.Template != "" {
			rooms = append(rooms, d.Template)
		}
	}
	slices.Sort(rooms)
	return slices.Compact(rooms)
}

// Until is the SQL of the time at which a role expires; "": none is declared.
func Until(r spec.Role) string {
	switch {
	case r.ExpireIn != nil:
		return "current_date + " + strconv.Itoa(*r.ExpireIn)
	case r.ExpireAt != "":
		return r.ExpireAt
	}
	return ""
}

// has says whether grants hold a right. An owner can always grant on what is his.
func has(grants []Grant, owner string, g Grant) bool {
	return slices.ContainsFunc(grants, func(o Grant) bool {
		return o.Grantee == g.Grantee && o.Right == g.Right && (o.Grantable || !g.Grantable || g.Grantee == owner)
	})
}

// without takes a right away.
func without(grants []Grant, grantee, right string) []Grant {
	return slices.DeleteFunc(slices.Clone(grants), func(o Grant) bool { return o.Grantee == grantee && o.Right == right })
}

// with gives a right.
func with(grants []Grant, g Grant) []Grant { return append(without(grants, g.Grantee, g.Right), g) }
