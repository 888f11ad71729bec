// Package apply makes a primary hold what is declared of its cluster: roles,
// databases and what they are to contain.
//
// Run may be repeated at any time: it looks first and changes what differs. It
// never drops, demotes or revokes anything that is not declared so. What one
// object needs and cannot have is told by name and keeps the others from
// nothing. Statements follow Pigsty's (roles/pgsql/templates/pg-user.sql,
// pg-db.sql, pg-init-template.sql).
package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/problem"
	"howdah/secret"
	"howdah/spec"
)

// An Order is what a server is to hold.
type Order struct {
	Cluster   string
	Objects   spec.Objects
	Secrets   map[string]secret.Text
	Baselines map[string]string // SQL by the name of its database
	// Connect opens a session of the superuser.
	Connect func(ctx context.Context, database string) (*pgconn.PgConn, error)
}

// A Report is what Run did.
type Report struct {
	Done    []string // "made role app"
	Missing []string // what this server's installation has not: extensions
}

// statement is the time allowed to one of them: a database is copied within it.
const statement = 2 * time.Minute

// Run makes the server hold what the order says.
func Run(ctx context.Context, o Order) (Report, error) {
	r := &run{Order: o}
	if err := r.open(ctx, "postgres"); err != nil {
		return Report{}, r.fail("", err)
	}
	defer func() { r.close(ctx) }()
	if standby, err := r.value(ctx, "SELECT pg_is_in_recovery()"); err != nil || standby == "t" {
		return Report{}, r.fail("its server is no primary", err)
	}
	if err := r.roles(ctx); err != nil {
		return r.report, err
	}
	if err := r.templates(ctx); err != nil {
		return r.report, err
	}
	if err := r.databases(ctx); err != nil {
		return r.report, err
	}
	for _, role := range r.Objects.Roles { // now that nothing declared needs them
		if role.Absent {
			r.try("role "+role.Name, r.drop(ctx, role))
		}
	}
	if len(r.errs) > 0 {
		return r.report, r.fail(strings.Join(r.errs, "\n"), nil)
	}
	return r.report, nil
}

type run struct {
	Order
	report Report
	errs   []string

	conn     *pgconn.PgConn // to postgres, where roles and databases are made
	major    int
	md5      bool            // passwords are kept as md5
	existing map[string]bool // roles
}

func (r *run) fail(why string, err error) error {
	return &problem.Error{
		Code: "provision-failed", What: "cannot give cluster " + r.Cluster + " all its roles and databases", Why: why,
		Do: "correct it and run `howdah up` again; what is right already stays as it is", Err: err,
	}
}

// try notes an error about one object; the others go on.
func (r *run) try(what string, err error) {
	if err != nil {
		r.errs = append(r.errs, what+": "+plain(err))
	}
}

// plain is an error as PostgreSQL words it. A statement is never quoted: it may
// hold a password.
func plain(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		text := e.Message
		if e.Detail != "" {
			text += " (" + e.Detail + ")"
		}
		return text
	}
	return err.Error()
}

func (r *run) did(format string, args ...any) {
	r.report.Done = append(r.report.Done, fmt.Sprintf(format, args...))
}

// quiet keeps what passes here out of the server's log and statistics.
const quiet = "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';" +
	" SET log_parameter_max_length_on_error = 0; SET client_min_messages = 'error'; SET lock_timeout = '10s';" +
	" SET search_path = pg_catalog"

func (r *run) session(ctx context.Context, database string) (*pgconn.PgConn, error) {
	conn, err := r.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, quiet).ReadAll(); err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

func (r *run) open(ctx context.Context, database string) (err error) {
	if r.conn, err = r.session(ctx, database); err != nil {
		return err
	}
	number, err := r.value(ctx, "SHOW server_version_num")
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(number)
	r.major = n / 10000
	how, err := r.value(ctx, "SHOW password_encryption")
	r.md5 = how == "md5"
	return err
}

func (r *run) close(ctx context.Context) {
	if r.conn != nil {
		r.conn.Close(context.WithoutCancel(ctx))
	}
}

func (r *run) do(ctx context.Context, sql string) error { return do(ctx, r.conn, sql) }

func do(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}

func rows(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var all [][]string
	for _, row := range results[len(results)-1].Rows {
		var texts []string
		for _, v := range row {
			texts = append(texts, string(v))
		}
		all = append(all, texts)
	}
	return all, nil
}

func (r *run) value(ctx context.Context, sql string) (string, error) {
	all, err := rows(ctx, r.conn, sql)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0][0], nil
}

// templates are the schemas, extensions and privileges that every new database
// begins with, and postgres has too.
func (r *run) templates(ctx context.Context) error {
	if len(r.Objects.Schemas)+len(r.Objects.Extensions)+len(r.Objects.Privileges) == 0 {
		return nil
	}
	for _, name := range []string{"template1", "postgres"} {
		conn, err := r.session(ctx, name)
		if err != nil {
			return r.fail("", err)
		}
		in := &inside{run: r, conn: conn, database: name}
		err = func() error {
			for _, s := range r.Objects.Schemas {
				in.schema(ctx, spec.Schema{Name: s})
			}
			if err := in.extensions(ctx, r.Objects.Extensions); err != nil {
				return err
			}
			for _, owner := range r.Objects.Admins {
				in.privileges(ctx, owner)
			}
			return nil
		}()
		conn.Close(ctx)
		if err != nil {
			return r.fail("", err)
		}
	}
	return nil
}

// settings makes the parameters of a role or a database those that are
// declared; others that it has stay.
func (r *run) settings(ctx context.Context, what, name string, want map[string]string, have []string) {
	now := map[string]string{}
	for _, s := range have {
		key, value, _ := strings.Cut(s, "=")
		now[key] = value
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value := want[key]
		old, set := now[key]
		target := "ALTER " + strings.ToUpper(what) + " " + pg.QuoteIdent(name)
		switch {
		case strings.EqualFold(value, "default"):
			if set {
				r.try(what+" "+name, r.do(ctx, target+" RESET "+parameter(key)))
				r.did("reset %s of %s %s", key, what, name)
			}
		case !set || !sameSetting(key, old, value):
			if err := r.do(ctx, target+" SET "+parameter(key)+" = "+settingValue(key, value)); err != nil {
				r.try(what+" "+name+", parameter "+key, err)
			} else {
				r.did("set %s of %s %s", key, what, name)
			}
		}
	}
}

// parameter quotes the name of one, in two parts if it has them.
func parameter(name string) string {
	a, b, ok := strings.Cut(name, ".")
	if !ok {
		return pg.QuoteIdent(name)
	}
	return pg.QuoteIdent(a) + "." + pg.QuoteIdent(b)
}

// listed are the parameters whose value is a list of names (GUC_LIST_INPUT):
// quoted as a whole they would be one name.
var listed = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

func settingValue(name, value string) string {
	if !slices.Contains(listed, name) {
		return pg.QuoteLiteral(value)
	}
	var all []string
	for _, item := range names(value) {
		all = append(all, pg.QuoteLiteral(item))
	}
	if len(all) == 0 {
		return "''"
	}
	return strings.Join(all, ", ")
}

// names are the elements of a list, without their quotes.
func names(list string) []string {
	var all []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.Trim(strings.TrimSpace(item), `'"`); item != "" {
			all = append(all, item)
		}
	}
	return all
}

func sameSetting(name, a, b string) bool {
	if slices.Contains(listed, name) {
		return slices.Equal(names(a), names(b))
	}
	return a == b
}
