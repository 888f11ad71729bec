package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/problem"
	"howdah/spec"
	"howdah/spec/pigsty"
)

// cmdbWithin is the time that reading or writing a CMDB may take.
const cmdbWithin = time.Minute

// inDatabase says that an inventory is named by a connection string: it is kept in the
// tables of a CMDB.
func inDatabase(path string) bool {
	return strings.HasPrefix(path, "postgres://") || strings.HasPrefix(path, "postgresql://")
}

// cmdbName is a connection string without its password.
func cmdbName(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "postgresql://…"
	}
	q := u.Query()
	q.Del("password")
	q.Del("sslpassword")
	u.RawQuery = q.Encode()
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}

func openCMDB(ctx context.Context, uri string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(uri)
	if err != nil {
		return nil, err
	}
	c.RuntimeParams["application_name"] = "howdah"
	return pgconn.ConnectConfig(ctx, c)
}

// Pigsty's tables (files/cmdb.sql), put together in the shape of its file.
const cmdbText = `SELECT jsonb_pretty(jsonb_build_object('all', jsonb_build_object(
	'vars', (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM pigsty.global_var),
	'children', (SELECT coalesce(jsonb_object_agg(g.cls, jsonb_build_object(
		'vars', (SELECT coalesce(jsonb_object_agg(v.key, v.value), '{}') FROM pigsty.group_var v WHERE v.cls = g.cls),
		'hosts', (SELECT coalesce(jsonb_object_agg(host(h.ip), (SELECT coalesce(jsonb_object_agg(v.key, v.value), '{}')
			FROM pigsty.host_var v WHERE v.cls = h.cls AND v.ip = h.ip)), '{}') FROM pigsty.host h WHERE h.cls = g.cls))), '{}')
		FROM pigsty."group" g WHERE EXISTS (SELECT FROM pigsty.host h WHERE h.cls = g.cls)))))`

// readCMDB reads the inventory that a CMDB holds. What it names by a path is looked for
// where the command was given, and it names no commands: whoever may write a table is
// not to run something here.
func readCMDB(uri string, judge func(*spec.World)) (Inventory, error) {
	name := cmdbName(uri)
	fail := func(why string, err error) error {
		return &problem.Error{
			Code: "inventory-unreadable", What: "cannot read the inventory " + name, Why: why,
			Do: "look whether the database answers there and has Pigsty's tables; `howdah spec FILE --into` writes them", Err: err,
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), cmdbWithin)
	defer cancel()
	conn, err := openCMDB(ctx, uri)
	if err != nil {
		return Inventory{}, fail("no connection", errors.New(withoutPassword(err, uri)))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	all, err := conn.Exec(ctx, cmdbText).ReadAll()
	if err != nil {
		return Inventory{}, fail("", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return Inventory{}, err
	}
	return parseInventory(name, all[0].Rows[0][0], &teller{dir: dir, refuse: errors.New("an inventory in a database names no command: use file: or env:")}, judge)
}

// withoutPassword is the text of an error in which a connection string may stand.
func withoutPassword(err error, uri string) string {
	return strings.ReplaceAll(err.Error(), uri, cmdbName(uri))
}

// A Recording is what writing an inventory into a CMDB changed.
type Recording struct {
	Groups  int `json:"groups"` // that it has
	Hosts   int `json:"hosts"`
	Written int `json:"written"` // rows that were not there, or otherwise
	Removed int `json:"removed"` // rows that the inventory has not
}

// cmdbTables are those of Pigsty's that hold an inventory, for a database that has none.
const cmdbTables = `CREATE SCHEMA IF NOT EXISTS pigsty;
CREATE TABLE IF NOT EXISTS pigsty."group" (cls text PRIMARY KEY, ctime timestamptz NOT NULL DEFAULT now(), mtime timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS pigsty.host (cls text NOT NULL REFERENCES pigsty."group" ON DELETE CASCADE ON UPDATE CASCADE, ip inet NOT NULL,
	ctime timestamptz NOT NULL DEFAULT now(), mtime timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (cls, ip));
CREATE TABLE IF NOT EXISTS pigsty.global_var (key text PRIMARY KEY CHECK (key <> ''), value jsonb, mtime timestamptz DEFAULT now());
CREATE TABLE IF NOT EXISTS pigsty.group_var (cls text NOT NULL REFERENCES pigsty."group" ON DELETE CASCADE ON UPDATE CASCADE,
	key text NOT NULL CHECK (key <> ''), value jsonb, mtime timestamptz DEFAULT now(), PRIMARY KEY (cls, key));
CREATE TABLE IF NOT EXISTS pigsty.host_var (cls text NOT NULL, ip inet NOT NULL, key text NOT NULL CHECK (key <> ''), value jsonb,
	mtime timestamptz DEFAULT now(), PRIMARY KEY (cls, ip, key), FOREIGN KEY (cls, ip) REFERENCES pigsty.host ON DELETE CASCADE ON UPDATE CASCADE);`

// cmdbSteps make the tables hold what stands in $1. Each begins with whether it removes.
var cmdbSteps = []struct {
	removes bool
	sql     string
}{
	{true, `DELETE FROM pigsty.host_var t WHERE NOT coalesce($1::jsonb->'groups'->t.cls->'hosts'->host(t.ip) ? t.key, false)`},
	{true, `DELETE FROM pigsty.host t WHERE NOT coalesce($1::jsonb->'groups'->t.cls->'hosts' ? host(t.ip), false)`},
	{true, `DELETE FROM pigsty.group_var t WHERE NOT coalesce($1::jsonb->'groups'->t.cls->'vars' ? t.key, false)`},
	{true, `DELETE FROM pigsty."group" t WHERE NOT $1::jsonb->'groups' ? t.cls`},
	{true, `DELETE FROM pigsty.global_var t WHERE NOT $1::jsonb->'vars' ? t.key`},
	{false, `INSERT INTO pigsty.global_var AS t (key, value) SELECT v.key, v.value FROM jsonb_each($1::jsonb->'vars') v
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, mtime = now() WHERE t.value IS DISTINCT FROM excluded.value`},
	{false, `INSERT INTO pigsty."group" (cls) SELECT jsonb_object_keys($1::jsonb->'groups') ON CONFLICT DO NOTHING`},
	{false, `INSERT INTO pigsty.group_var AS t (cls, key, value) SELECT g.key, v.key, v.value FROM jsonb_each($1::jsonb->'groups') g, jsonb_each(g.value->'vars') v
		ON CONFLICT (cls, key) DO UPDATE SET value = excluded.value, mtime = now() WHERE t.value IS DISTINCT FROM excluded.value`},
	{false, `INSERT INTO pigsty.host (cls, ip) SELECT g.key, h.key::inet FROM jsonb_each($1::jsonb->'groups') g, jsonb_each(g.value->'hosts') h ON CONFLICT DO NOTHING`},
	{false, `INSERT INTO pigsty.host_var AS t (cls, ip, key, value)
		SELECT g.key, h.key::inet, v.key, v.value FROM jsonb_each($1::jsonb->'groups') g, jsonb_each(g.value->'hosts') h, jsonb_each(h.value) v
		ON CONFLICT (cls, ip, key) DO UPDATE SET value = excluded.value, mtime = now() WHERE t.value IS DISTINCT FROM excluded.value`},
}

// Record makes a CMDB hold the inventory, in one transaction: afterwards it has that and
// nothing else. With dry it takes all back, and says what it would be.
func (inv Inventory) Record(ctx context.Context, uri string, dry bool) (r Recording, err error) {
	fail := func(why string, err error) error {
		return &problem.Error{
			Code: "cmdb-not-written", What: "cannot write the inventory " + inv.World.File + " into " + cmdbName(uri), Why: why,
			Do: "correct what is named; the database has what it had", Err: err,
		}
	}
	if !inDatabase(uri) {
		return r, fail("", errors.New("a database is named by postgresql://USER@HOST/DATABASE"))
	}
	t, err := pigsty.AsTables(inv.World.File, inv.Text)
	if err != nil {
		return r, fail("", err)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return r, err
	}
	for _, g := range t.Groups {
		r.Groups++
		r.Hosts += len(g.Hosts)
	}
	ctx, cancel := context.WithTimeout(ctx, cmdbWithin)
	defer cancel()
	conn, err := openCMDB(ctx, uri)
	if err != nil {
		return r, fail("no connection", errors.New(withoutPassword(err, uri)))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	all, err := conn.Exec(ctx, "BEGIN; SELECT to_regclass('pigsty.host_var') IS NULL").ReadAll()
	if err != nil {
		return r, fail("", err)
	}
	if len(all) == 2 && string(all[1].Rows[0][0]) == "t" {
		if _, err := conn.Exec(ctx, "SET LOCAL client_min_messages = warning; "+cmdbTables).ReadAll(); err != nil {
			return r, fail("it has no tables of an inventory, and they can not be made", err)
		}
	}
	lock := `LOCK TABLE pigsty."group", pigsty.host, pigsty.global_var, pigsty.group_var, pigsty.host_var IN SHARE ROW EXCLUSIVE MODE`
	if _, err := conn.Exec(ctx, lock).ReadAll(); err != nil {
		return r, fail("", err)
	}
	for _, s := range cmdbSteps {
		tag := conn.ExecParams(ctx, s.sql, [][]byte{text}, nil, nil, nil).Read()
		if tag.Err != nil {
			return r, fail("", tag.Err)
		}
		if s.removes {
			r.Removed += int(tag.CommandTag.RowsAffected())
		} else {
			r.Written += int(tag.CommandTag.RowsAffected())
		}
	}
	end := "COMMIT"
	if dry {
		end = "ROLLBACK"
	}
	if _, err := conn.Exec(ctx, end).ReadAll(); err != nil {
		return r, fail("whether it was written is not known: give the command again", err)
	}
	return r, nil
}

// String tells a person.
func (r Recording) String() string {
	return strconv.Itoa(r.Groups) + " groups and " + strconv.Itoa(r.Hosts) + " hosts; " + strconv.Itoa(r.Written) + " rows written, " + strconv.Itoa(r.Removed) + " removed"
}
