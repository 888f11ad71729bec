package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/spec"
)

// databases makes every declared database and what it is to contain.
func (r *run) databases(ctx context.Context) error {
	all, err := rows(ctx, r.conn, `SELECT d.datname, pg_get_userbyid(d.datdba), d.datistemplate, d.datallowconn, d.datconnlimit,
		coalesce(array_to_string(s.setconfig, E'\x01'), ''), coalesce(shobj_description(d.oid, 'pg_database'), ''),
		has_database_privilege('public', d.oid, 'CONNECT')
		FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0`)
	if err != nil {
		return r.fail("", err)
	}
	have := map[string][]string{}
	for _, row := range all {
		have[row[0]] = row
	}
	for _, d := range r.Objects.Databases {
		now, there := have[d.Name]
		switch {
		case d.State == spec.Absent && there:
			if err := r.do(ctx, "DROP DATABASE "+pg.QuoteIdent(d.Name)+" WITH (FORCE)"); err != nil {
				r.try("database "+d.Name, err)
			} else {
				r.did("dropped database %s", d.Name)
			}
		case d.State == spec.Absent:
		default:
			r.try("database "+d.Name, r.database(ctx, d, now))
		}
	}
	return nil
}

func (r *run) database(ctx context.Context, d spec.Database, now []string) error {
	made := now == nil
	if made {
		if err := r.create(ctx, d); err != nil {
			return err
		}
		r.did("made database %s", d.Name)
		owner := d.Owner
		if owner == "" {
			owner = spec.Superuser
		}
		now = []string{d.Name, owner, "f", "t", "-1", "", "", "t"}
	}
	target := "DATABASE " + pg.QuoteIdent(d.Name)
	if d.Owner != "" && d.Owner != now[1] {
		if err := r.do(ctx, "ALTER "+target+" OWNER TO "+pg.QuoteIdent(d.Owner)); err != nil {
			return err
		}
		r.did("database %s belongs to %s now", d.Name, d.Owner)
		now[1] = d.Owner
	}
	var alter []string
	for i, o := range []struct {
		word string
		want *bool
	}{{"IS_TEMPLATE", d.IsTemplate}, {"ALLOW_CONNECTIONS", d.AllowConn}} {
		if o.want != nil && *o.want != (now[i+2] == "t") {
			alter = append(alter, o.word+" "+strconv.FormatBool(*o.want))
		}
	}
	if d.ConnLimit != nil && strconv.Itoa(*d.ConnLimit) != now[4] {
		alter = append(alter, "CONNECTION LIMIT "+strconv.Itoa(*d.ConnLimit))
	}
	if d.Comment != "" && d.Comment != now[6] {
		if err := r.do(ctx, "COMMENT ON "+target+" IS "+pg.QuoteLiteral(d.Comment)); err != nil {
			return err
		}
	}
	r.settings(ctx, "database", d.Name, d.Parameters, strings.Split(now[5], "\x01"))
	if err := r.connecting(ctx, d, target, now[1], now[7] == "t"); err != nil {
		return err
	}
	if d.AllowConn == nil || *d.AllowConn {
		conn, err := r.session(ctx, d.Name)
		if err != nil {
			return err
		}
		in := &inside{run: r, conn: conn, database: d.Name}
		err = in.fill(ctx, d, now[1], made)
		conn.Close(ctx)
		if err != nil {
			return err
		}
	}
	if len(alter) > 0 { // last: it may forbid to connect
		if err := r.do(ctx, "ALTER "+target+" WITH "+strings.Join(alter, " ")); err != nil {
			return err
		}
		r.did("changed database %s: %s", d.Name, strings.ToLower(strings.Join(alter, ", ")))
	}
	return nil
}

// since are the majors in which options of CREATE DATABASE came.
var since = map[string]int{"locale_provider": 15, "icu_locale": 15, "strategy": 15, "icu_rules": 16, "builtin_locale": 17}

func (r *run) create(ctx context.Context, d spec.Database) error {
	sql := "CREATE DATABASE " + pg.QuoteIdent(d.Name)
	if d.Owner != "" {
		sql += " OWNER " + pg.QuoteIdent(d.Owner)
	}
	if d.Template != "" {
		sql += " TEMPLATE " + pg.QuoteIdent(d.Template)
		if d.Template != "template0" && d.Template != "template1" {
			// Nobody may be in the database that is copied.
			if err := r.do(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "+pg.QuoteLiteral(d.Template)); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Create)) {
		if least := since[name]; r.major < least {
			return fmt.Errorf("%s needs PostgreSQL %d or later, and this is %d", name, least, r.major)
		}
		value := pg.QuoteLiteral(d.Create[name])
		if name == "locale_provider" || name == "strategy" {
			value = pg.QuoteIdent(strings.ToLower(d.Create[name]))
		}
		sql += " " + strings.ToUpper(name) + " " + value
	}
	if d.Tablespace != "" {
		sql += " TABLESPACE " + pg.QuoteIdent(d.Tablespace)
	}
	return r.do(ctx, sql)
}

// connecting says who may connect: everybody, or those of the cluster and the owner.
func (r *run) connecting(ctx context.Context, d spec.Database, target, owner string, public bool) error {
	switch {
	case !d.RevokeConn && public:
		return nil
	case !d.RevokeConn:
		return r.do(ctx, "GRANT CONNECT ON "+target+" TO PUBLIC")
	case public:
		if err := r.do(ctx, "REVOKE CONNECT ON "+target+" FROM PUBLIC"); err != nil {
			return err
		}
		r.did("only its owner and the cluster's own roles may connect to database %s", d.Name)
	}
	for _, g := range []struct{ role, with string }{
		{spec.Replicator, ""}, {r.Objects.Monitor, ""}, {r.Objects.Admin, " WITH GRANT OPTION"}, {owner, " WITH GRANT OPTION"},
	} {
		if !r.existing[g.role] {
			continue
		}
		if err := r.do(ctx, "GRANT CONNECT ON "+target+" TO "+pg.QuoteIdent(g.role)+g.with); err != nil {
			return err
		}
	}
	return nil
}

// inside is a session in one database.
type inside struct {
	*run
	conn     *pgconn.PgConn
	database string
}

func (in *inside) do(ctx context.Context, sql string) error { return do(ctx, in.conn, sql) }

func (in *inside) fill(ctx context.Context, d spec.Database, owner string, made bool) error {
	target := "DATABASE " + pg.QuoteIdent(d.Name)
	sql := []string{
		"REVOKE CREATE ON " + target + " FROM PUBLIC",
		"REVOKE CREATE ON SCHEMA public FROM PUBLIC",
	}
	if in.existing["dbrole_admin"] {
		sql = append(sql, "GRANT CREATE ON "+target+" TO dbrole_admin", "GRANT CREATE ON SCHEMA public TO dbrole_admin")
	}
	if in.major < 15 && owner != spec.Superuser {
		// Later the owner of a database owns its schema public too.
		sql = append(sql, "GRANT CREATE ON SCHEMA public TO "+pg.QuoteIdent(owner))
	}
	gone, err := rows(ctx, in.conn, "SELECT 1 FROM pg_namespace WHERE nspname = 'public'")
	if err != nil {
		return err
	}
	for _, s := range sql {
		if len(gone) == 0 && strings.Contains(s, "SCHEMA public") {
			continue
		}
		if err := in.do(ctx, s); err != nil {
			return err
		}
	}
	in.privileges(ctx, owner)
	for _, s := range d.Schemas {
		in.schema(ctx, s)
	}
	if err := in.extensions(ctx, d.Extensions); err != nil {
		return err
	}
	if made && d.Baseline != "" {
		return in.baseline(ctx, d)
	}
	return nil
}

// baseline runs the SQL that a new database begins with.
func (in *inside) baseline(ctx context.Context, d spec.Database) error {
	text, ok := in.Baselines[d.Name]
	if !ok {
		return errors.New("its baseline " + d.Baseline + " was not read")
	}
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, `\`) {
			return fmt.Errorf("%s:%d: a baseline is SQL alone, and %q is for psql", d.Baseline, n+1, strings.Fields(line)[0])
		}
	}
	if err := in.do(ctx, "RESET search_path; RESET lock_timeout"); err != nil {
		return err
	}
	if err := in.do(ctx, text); err != nil {
		return fmt.Errorf("baseline %s: %s; the database is made and not filled: drop it to have this repeated", d.Baseline, plain(err))
	}
	in.did("filled database %s from %s", d.Name, d.Baseline)
	return nil
}

func (in *inside) schema(ctx context.Context, s spec.Schema) {
	what := "database " + in.database + ", schema " + s.Name
	there, err := rows(ctx, in.conn, "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = "+pg.QuoteLiteral(s.Name))
	name := pg.QuoteIdent(s.Name)
	switch {
	case err != nil:
		in.try(what, err)
	case s.Absent && len(there) > 0:
		if err := in.do(ctx, "DROP SCHEMA "+name); err != nil {
			in.try(what, err)
		} else {
			in.did("dropped schema %s of database %s", s.Name, in.database)
		}
	case s.Absent:
	case len(there) == 0:
		sql := "CREATE SCHEMA " + name
		if s.Owner != "" {
			sql += " AUTHORIZATION " + pg.QuoteIdent(s.Owner)
		}
		if err := in.do(ctx, sql); err != nil {
			in.try(what, err)
		} else {
			in.did("made schema %s in database %s", s.Name, in.database)
		}
	case s.Owner != "" && s.Owner != there[0][0]:
		in.try(what, in.do(ctx, "ALTER SCHEMA "+name+" OWNER TO "+pg.QuoteIdent(s.Owner)))
	}
}

func (in *inside) extensions(ctx context.Context, want []spec.Extension) error {
	if len(want) == 0 {
		return nil
	}
	all, err := rows(ctx, in.conn, "SELECT a.name, e.extname IS NOT NULL FROM pg_available_extensions a LEFT JOIN pg_extension e ON e.extname = a.name")
	if err != nil {
		return err
	}
	installed := map[string]string{}
	for _, row := range all {
		installed[row[0]] = row[1]
	}
	for _, e := range want {
		what := "database " + in.database + ", extension " + e.Name
		now, available := installed[e.Name]
		switch {
		case e.Absent && now == "t":
			if err := in.do(ctx, "DROP EXTENSION "+pg.QuoteIdent(e.Name)); err != nil {
				in.try(what, err)
			} else {
				in.did("dropped extension %s of database %s", e.Name, in.database)
			}
		case e.Absent || now == "t":
		case !available:
			if !slices.Contains(in.report.Missing, e.Name) {
				in.report.Missing = append(in.report.Missing, e.Name)
			}
		default:
			sql := "CREATE EXTENSION IF NOT EXISTS " + pg.QuoteIdent(e.Name) + " WITH"
			if e.Schema != "" {
				if err := in.do(ctx, "CREATE SCHEMA IF NOT EXISTS "+pg.QuoteIdent(e.Schema)); err != nil {
					in.try(what, err)
					continue
				}
				sql += " SCHEMA " + pg.QuoteIdent(e.Schema)
			} else {
				sql = "SET search_path = public; " + sql
			}
			if e.Version != "" {
				sql += " VERSION " + pg.QuoteLiteral(e.Version)
			}
			err := in.do(ctx, sql+" CASCADE")
			if reset := in.do(ctx, "SET search_path = pg_catalog"); err == nil {
				err = reset
			}
			if err != nil {
				in.try(what, err)
			} else {
				in.did("made extension %s in database %s", e.Name, in.database)
			}
		}
	}
	return nil
}

// privileges are what others may do with whatever owner will make here.
func (in *inside) privileges(ctx context.Context, owner string) {
	for _, p := range in.Objects.Privileges {
		if err := in.do(ctx, "ALTER DEFAULT PRIVILEGES FOR ROLE "+pg.QuoteIdent(owner)+" "+p); err != nil {
			in.try(fmt.Sprintf("database %s, privilege %q of what %s makes", in.database, strings.Join(strings.Fields(p), " "), owner), err)
		}
	}
}
