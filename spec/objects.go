package spec

// Objects are what a cluster's databases are to hold: roles, databases and what
// new ones get. They are made on the primary, and made again harmlessly.
type Objects struct {
	Roles      []Role      `json:"roles"` // in the order in which they are made
	Databases  []Database  `json:"databases"`
	Schemas    []string    `json:"schemas"`    // in template1
	Extensions []Extension `json:"extensions"` // in template1 and postgres
	Privileges []string    `json:"privileges"` // bodies of ALTER DEFAULT PRIVILEGES
	Admins     []string    `json:"admins"`     // for whose objects the privileges count in template1 and postgres
	Monitor    string      `json:"monitor"`
	Admin      string      `json:"admin"`
}

// A Role is a user or a group of users. Passwords are names of secrets.
type Role struct {
	Name        string            `json:"name"`
	Absent      bool              `json:"absent,omitempty"` // to be dropped
	Secret      string            `json:"secret,omitempty"` // "": its password is left as it is
	System      bool              `json:"system,omitempty"` // of the cluster itself: never dropped
	Login       *bool             `json:"login,omitempty"`  // nil: as it is
	Superuser   *bool             `json:"superuser,omitempty"`
	CreateDB    *bool             `json:"createdb,omitempty"`
	CreateRole  *bool             `json:"createrole,omitempty"`
	Inherit     *bool             `json:"inherit,omitempty"`
	Replication *bool             `json:"replication,omitempty"`
	BypassRLS   *bool             `json:"bypassrls,omitempty"`
	ConnLimit   *int              `json:"connlimit,omitempty"`
	ExpireIn    *int              `json:"expire_in,omitempty"` // days from now; wins over ExpireAt
	ExpireAt    string            `json:"expire_at,omitempty"`
	MemberOf    []Membership      `json:"member_of,omitempty"`
	Parameters  map[string]string `json:"parameters,omitempty"`
	Comment     string            `json:"comment,omitempty"`
	Pool        bool              `json:"pool,omitempty"` // it may come through the pooler
	PoolMode    string            `json:"pool_mode,omitempty"`
	PoolLimit   int               `json:"pool_connlimit,omitempty"`

	PoolParameters map[string]string `json:"pool_parameters,omitempty"` // settings of her own at the pools, by PgBouncer's names
}

// A Membership of a role in another.
type Membership struct {
	Role    string `json:"role"`
	Revoke  bool   `json:"revoke,omitempty"`
	Admin   *bool  `json:"admin,omitempty"`
	Set     *bool  `json:"set,omitempty"`     // PostgreSQL 16 and later
	Inherit *bool  `json:"inherit,omitempty"` // PostgreSQL 16 and later
}

// States of a database or of what it holds.
const (
	Present  = "create"
	Absent   = "absent"
	Recreate = "recreate"
)

// A Database of a cluster.
type Database struct {
	Name       string            `json:"name"`
	State      string            `json:"state,omitempty"` // "" is Present
	Owner      string            `json:"owner,omitempty"`
	Template   string            `json:"template,omitempty"`
	Create     map[string]string `json:"create,omitempty"` // options of CREATE DATABASE by name: encoding, locale …
	Tablespace string            `json:"tablespace,omitempty"`
	IsTemplate *bool             `json:"is_template,omitempty"`
	AllowConn  *bool             `json:"allowconn,omitempty"`
	ConnLimit  *int              `json:"connlimit,omitempty"`
	RevokeConn bool              `json:"revokeconn,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	Schemas    []Schema          `json:"schemas,omitempty"`
	Extensions []Extension       `json:"extensions,omitempty"`
	Baseline   string            `json:"baseline,omitempty"` // SQL file, run once after its creation
	Comment    string            `json:"comment,omitempty"`
	Pool       bool              `json:"pool,omitempty"` // reached through the pooler too

	// Of its pools; nil and "" are what all have.
	PoolMode    string `json:"pool_mode,omitempty"`
	PoolSize    *int   `json:"pool_size,omitempty"`
	PoolSizeMin *int   `json:"pool_size_min,omitempty"`
	PoolReserve *int   `json:"pool_reserve,omitempty"`
	PoolLimit   *int   `json:"pool_connlimit,omitempty"` // max_db_connections
}

// A Schema of a database.
type Schema struct {
	Name   string `json:"name"`
	Owner  string `json:"owner,omitempty"`
	Absent bool   `json:"absent,omitempty"`
}

// An Extension of a database.
type Extension struct {
	Name    string `json:"name"`
	Schema  string `json:"schema,omitempty"`
	Version string `json:"version,omitempty"`
	Absent  bool   `json:"absent,omitempty"`
}

// An AccessRule is a rule of pg_hba.conf, in lines as they stand there. Role
// says where it counts: "" everywhere, primary or replica by what the server is
// just now; where a rule is for other kinds of members it is not theirs at all.
type AccessRule struct {
	Title string   `json:"title"`
	Role  string   `json:"role,omitempty"`
	Lines []string `json:"lines"`
}
