package apply

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"

	"howdah/pg"
	"howdah/scram"
	"howdah/spec"
	"howdah/spec/plan"
)

// plan looks at the server and says what is to be done.
func (r *run) plan(ctx context.Context) (plan.Plan, error) {
	r.leave(ctx)
	h, err := r.look(ctx)
	if err != nil {
		return plan.Plan{}, r.fail("its catalogs could not be read", err)
	}
	return plan.Server(plan.Want{Objects: r.Objects, Prune: r.Prune}, h), nil
}

// look reads the catalogs.
func (r *run) look(ctx context.Context) (plan.Have, error) {
	h := plan.Have{
		Roles: map[string]plan.Role{}, Members: map[plan.Pair][]plan.Membership{}, Databases: map[string]plan.Database{},
		Available: map[string]bool{}, Times: map[string]string{},
	}
	first, err := results(ctx, r.conn, "SHOW server_version_num; SHOW password_encryption; SELECT pg_is_in_recovery()")
	if err != nil {
		return h, err
	}
	if first[2][0][0] == "t" {
		return h, fmt.Errorf("%w: its server is no primary", ErrLost)
	}
	number, _ := strconv.Atoi(first[0][0][0])
	h.Major = number / 10000
	r.md5 = first[1][0][0] == "md5"
	if err := r.lookAtRoles(ctx, &h); err != nil {
		return h, err
	}
	if err := r.lookAtDatabases(ctx, &h); err != nil {
		return h, err
	}
	return h, r.lookIntoDatabases(ctx, &h)
}

const separator = "\x01"

func (r *run) lookAtRoles(ctx context.Context, h *plan.Have) error {
	options := "true, true"
	if h.Major >= 16 {
		options = "m.set_option, m.inherit_option"
	}
	all, err := results(ctx, r.conn, `SELECT a.rolname, a.rolcanlogin, a.rolsuper, a.rolcreatedb, a.rolcreaterole, a.rolinherit,
		a.rolreplication, a.rolbypassrls, a.rolconnlimit, coalesce(a.rolpassword, ''), coalesce(a.rolvaliduntil::text, ''),
		CASE WHEN isfinite(a.rolvaliduntil) THEN (a.rolvaliduntil::date - current_date)::text ELSE '' END,
		coalesce(array_to_string(s.setconfig, E'\x01'), ''), coalesce(shobj_description(a.oid, 'pg_authid'), '')
		FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid AND s.setdatabase = 0;
		SELECT g.rolname, u.rolname, pg_get_userbyid(m.grantor), m.admin_option, `+options+`
		FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid JOIN pg_authid u ON u.oid = m.member ORDER BY 1, 2, 3;
		SELECT DISTINCT u.rolname, d.datname FROM pg_shdepend s JOIN pg_authid u ON u.oid = s.refobjid JOIN pg_database d ON d.oid = s.dbid
		WHERE s.refclassid = 'pg_authid'::regclass ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	passwords := map[string]string{}
	for _, row := range all[0] {
		limit, _ := strconv.Atoi(row[8])
		role := plan.Role{
			Login: row[1] == "t", Superuser: row[2] == "t", CreateDB: row[3] == "t", CreateRole: row[4] == "t", Inherit: row[5] == "t",
			Replication: row[6] == "t", BypassRLS: row[7] == "t", ConnLimit: limit, Password: row[9] != "", ValidUntil: row[10],
			Config: config(row[12]), Comment: row[13],
		}
		if n, err := strconv.Atoi(row[11]); err == nil {
			role.DaysLeft = &n
		}
		h.Roles[row[0]], passwords[row[0]] = role, row[9]
	}
	for _, row := range all[1] {
		pair := plan.Pair{Group: row[0], Member: row[1]}
		h.Members[pair] = append(h.Members[pair], plan.Membership{Grantor: row[2], Admin: row[3] == "t", Set: row[4] == "t", Inherit: row[5] == "t"})
	}
	for _, row := range all[2] {
		role := h.Roles[row[0]]
		role.In = append(role.In, row[1])
		h.Roles[row[0]] = role
	}
	r.compare(r.Objects.Roles, passwords, h)
	return r.times(ctx, r.Objects.Roles, h)
}

// side does n things side by side, as far as there are processors.
func side(n int, do func(i int)) {
	var at atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(at.Add(1)) - 1; i < n; i = int(at.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

// compare says whose password is the one that is declared. A check takes a
// millisecond of processor: what was checked before is not checked again.
func (r *run) compare(roles []spec.Role, passwords map[string]string, h *plan.Have) {
	right := make([]bool, len(roles))
	before := r.now
	side(len(roles), func(i int) {
		role := roles[i]
		if role.Secret == "" || role.Absent {
			return
		}
		key := markOf(r.Secrets[role.Secret].Reveal(), passwords[role.Name])
		right[i] = r.Known[key] || before[key] || r.holds(role, passwords[role.Name])
	})
	r.now = map[string]bool{}
	for i, role := range roles {
		if have, there := h.Roles[role.Name]; there {
			have.Right = right[i]
			h.Roles[role.Name] = have
			if right[i] {
				r.mark(r.Secrets[role.Secret].Reveal(), passwords[role.Name])
			}
		}
	}
}

// mark notes that a server which stores this of a password has the right one.
func (r *run) mark(password, stores string) {
	if r.now == nil {
		r.now = map[string]bool{}
	}
	r.now[markOf(password, stores)] = true
}

// markOf stands for a password and what is stored of it; it tells neither.
func markOf(password, stores string) string {
	sum := sha256.Sum256([]byte(stores + "\x00" + password))
	return hex.EncodeToString(sum[:])
}

// holds says whether a role's password is kept as now.
func (r *run) holds(role spec.Role, now string) bool {
	p := r.Secrets[role.Secret].Reveal()
	switch {
	case p == "":
		return false
	case stored(p):
		return p == now
	case r.keptAsMD5(role):
		return md5Of(p, role.Name) == now
	}
	v, ok := scram.Parse(now)
	return ok && v.Is(p)
}

// stored says that a secret is no password but what a server keeps of one.
func stored(p string) bool {
	return strings.HasPrefix(p, scram.Mechanism+"$") || strings.HasPrefix(p, "md5") && len(p) == 35
}

// keptAsMD5 says how passwords are kept: the members' own rules ask for SCRAM,
// whatever the others have.
func (r *run) keptAsMD5(role spec.Role) bool {
	return r.md5 && role.Secret != spec.SecretReplicate && role.Secret != spec.SecretSuper
}

func md5Of(password, name string) string {
	sum := md5.Sum([]byte(password + name))
	return "md5" + hex.EncodeToString(sum[:])
}

// times asks the server what it makes of the times at which roles expire: all at
// once, and one by one if one of them is none.
func (r *run) times(ctx context.Context, roles []spec.Role, h *plan.Have) error {
	exprs := map[string]string{}
	var keys, values []string
	for _, role := range roles {
		key := plan.Until(role)
		if _, there := exprs[key]; key == "" || there {
			continue
		}
		value := pg.QuoteLiteral(key) + "::timestamptz::text"
		if role.ExpireIn != nil {
			value = "(" + key + ")::timestamptz::text"
		}
		exprs[key] = value
		keys, values = append(keys, key), append(values, value)
	}
	if len(keys) == 0 {
		return nil
	}
	all, err := results(ctx, r.conn, "SELECT unnest(ARRAY["+strings.Join(values, ", ")+"])")
	if err == nil {
		for i, row := range all[0] {
			h.Times[keys[i]] = row[0]
		}
		return nil
	}
	for i, key := range keys {
		one, err := results(ctx, r.conn, "SELECT "+values[i])
		if err == nil {
			h.Times[key] = one[0][0][0]
		} else if _, says := errors.AsType[*pgconn.PgError](err); !says || lost(err) {
			return err
		}
	}
	return nil
}

func (r *run) lookAtDatabases(ctx context.Context, h *plan.Have) error {
	options := "'', '', '', ''"
	switch {
	case h.Major >= 17:
		options = `CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' ELSE 'builtin' END,
			CASE d.datlocprovider WHEN 'i' THEN coalesce(d.datlocale, '') ELSE '' END, coalesce(d.daticurules, ''),
			CASE d.datlocprovider WHEN 'b' THEN coalesce(d.datlocale, '') ELSE '' END`
	case h.Major >= 15:
		rules := "''"
		if h.Major >= 16 {
			rules = "coalesce(d.daticurules, '')"
		}
		options = "CASE d.datlocprovider WHEN 'c' THEN 'libc' ELSE 'icu' END, coalesce(d.daticulocale, ''), " + rules + ", ''"
	}
	all, err := results(ctx, r.conn, `SELECT d.datname, pg_get_userbyid(d.datdba), d.datistemplate, d.datallowconn, d.datconnlimit,
		coalesce(array_to_string(s.setconfig, E'\x01'), ''), coalesce(shobj_description(d.oid, 'pg_database'), ''),
		coalesce(t.spcname, ''), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, `+options+`
		FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0 LEFT JOIN pg_tablespace t ON t.oid = d.dattablespace;
		SELECT d.datname, CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
		FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a;
		SELECT name FROM pg_available_extensions`)
	if err != nil {
		return err
	}
	for _, row := range all[0] {
		limit, _ := strconv.Atoi(row[4])
		d := plan.Database{
			Owner: row[1], IsTemplate: row[2] == "t", AllowConn: row[3] == "t", ConnLimit: limit, Config: config(row[5]), Comment: row[6],
			Tablespace: row[7], Options: map[string]string{"encoding": row[8], "lc_collate": row[9], "lc_ctype": row[10]},
		}
		for i, name := range []string{"locale_provider", "icu_locale", "icu_rules", "builtin_locale"} {
			if row[11] != "" {
				d.Options[name] = row[11+i]
			}
		}
		h.Databases[row[0]] = d
	}
	for _, row := range all[1] {
		d := h.Databases[row[0]]
		d.Access = append(d.Access, plan.Grant{Grantee: row[1], Right: row[2], Grantable: row[3] == "t"})
		h.Databases[row[0]] = d
	}
	for _, row := range all[2] {
		h.Available[row[0]] = true
	}
	return nil
}

// sessions is how many databases are looked into at a time. Each costs the server
// some ten milliseconds of processor, most of it for a session that begins.
const sessions = 4

// lookIntoDatabases reads what is in those that the plan asks for.
func (r *run) lookIntoDatabases(ctx context.Context, h *plan.Have) error {
	var rooms []string
	for _, name := range plan.Rooms(r.Objects) {
		if d, there := h.Databases[name]; there && d.AllowConn {
			rooms = append(rooms, name)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // over errs and h
	var errs []error
	var wg sync.WaitGroup
	names := make(chan string)
	for range min(sessions, len(rooms)) {
		wg.Go(func() {
			for name := range names {
				mu.Lock()
				d := h.Databases[name]
				mu.Unlock()
				err := r.lookInto(ctx, name, &d)
				mu.Lock()
				if h.Databases[name] = d; err != nil {
					errs = append(errs, fmt.Errorf("database %s: %w", name, err))
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range rooms {
		names <- name
	}
	close(names)
	wg.Wait()
	if len(errs) > 0 {
		return errs[0] // the others follow from it
	}
	return nil
}

// kinds are pg_default_acl.defaclobjtype.
var kinds = map[string]string{"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS"}

func (r *run) lookInto(ctx context.Context, name string, d *plan.Database) error {
	conn, err := r.Connect(ctx, name)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	all, err := results(ctx, conn, quiet+`; SELECT n.nspname, pg_get_userbyid(n.nspowner),
		EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_namespace'::regclass AND x.objid = n.oid AND x.deptype = 'e')
		FROM pg_namespace n WHERE n.nspname !~ '^pg_(temp|toast)';
		SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
		FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a WHERE n.nspname = 'public';
		SELECT e.extname, e.extversion, n.nspname, e.extrelocatable, coalesce((SELECT string_agg(o.extname, E'\x01') FROM pg_depend x
			JOIN pg_extension o ON o.oid = x.refobjid WHERE x.classid = 'pg_extension'::regclass AND x.refclassid = 'pg_extension'::regclass
			AND x.objid = e.oid), '') FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace;
		SELECT pg_get_userbyid(p.defaclrole), coalesce(n.nspname, ''), p.defaclobjtype,
		CASE WHEN a.grantee = 0 THEN '' ELSE coalesce(pg_get_userbyid(a.grantee), '') END, coalesce(a.privilege_type, ''), coalesce(a.is_grantable, false)
		FROM pg_default_acl p LEFT JOIN pg_namespace n ON n.oid = p.defaclnamespace LEFT JOIN LATERAL aclexplode(p.defaclacl) a ON true`)
	if err != nil {
		return err
	}
	all = all[len(all)-4:] // the others are of SET
	d.Seen, d.Schemas, d.Extensions, d.Defaults = true, map[string]plan.Schema{}, map[string]plan.Extension{}, map[plan.Kind][]plan.Grant{}
	for _, row := range all[0] {
		d.Schemas[row[0]] = plan.Schema{Owner: row[1], Extension: row[2] == "t"}
	}
	for _, row := range all[1] {
		public := d.Schemas["public"]
		public.Access = append(public.Access, plan.Grant{Grantee: row[0], Right: row[1], Grantable: row[2] == "t"})
		d.Schemas["public"] = public
	}
	for _, row := range all[2] {
		d.Extensions[row[0]] = plan.Extension{Version: row[1], Schema: row[2], Relocatable: row[3] == "t", Needs: split(row[4])}
	}
	for _, row := range all[3] {
		on, known := kinds[row[2]]
		if !known {
			continue
		}
		kind := plan.Kind{Owner: row[0], Schema: row[1], On: on}
		grants := slices.Clone(d.Defaults[kind])
		if row[4] != "" {
			grants = append(grants, plan.Grant{Grantee: row[3], Right: row[4], Grantable: row[5] == "t"})
		}
		d.Defaults[kind] = grants
	}
	return nil
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, separator)
}

// config reads the settings of a role or a database.
func config(list string) map[string]string {
	all := map[string]string{}
	for _, s := range split(list) {
		key, value, _ := strings.Cut(s, "=")
		all[key] = value
	}
	return all
}

// results runs statements and returns the rows of each.
func results(ctx context.Context, conn *pgconn.PgConn, text string) ([][][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	read, err := conn.Exec(ctx, text).ReadAll()
	if err != nil {
		return nil, err
	}
	var all [][][]string
	for _, one := range read {
		var rows [][]string
		for _, row := range one.Rows {
			texts := make([]string, 0, len(row))
			for _, v := range row {
				texts = append(texts, string(v))
			}
			rows = append(rows, texts)
		}
		all = append(all, rows)
	}
	return all, nil
}

// Contexts are when each parameter of a server may change: pg_settings.context
// by its name.
func Contexts(ctx context.Context, connect Connect) (map[string]string, error) {
	conn, err := connect(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	all, err := results(ctx, conn, "SELECT name, context FROM pg_settings")
	if err != nil {
		return nil, err
	}
	contexts := map[string]string{}
	for _, row := range all[0] {
		contexts[row[0]] = row[1]
	}
	return contexts, nil
}
