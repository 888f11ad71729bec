package apply

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"howdah/pg"
	"howdah/scram"
	"howdah/spec"
)

// roles makes every declared role, and then what each is a member of.
func (r *run) roles(ctx context.Context) error {
	all, err := rows(ctx, r.conn, `SELECT a.rolname, a.rolcanlogin, a.rolsuper, a.rolcreatedb, a.rolcreaterole, a.rolinherit,
		a.rolreplication, a.rolbypassrls, a.rolconnlimit, coalesce(a.rolpassword, ''), coalesce(a.rolvaliduntil::text, ''),
		coalesce(array_to_string(s.setconfig, E'\x01'), ''), coalesce(shobj_description(a.oid, 'pg_authid'), '')
		FROM pg_authid a LEFT JOIN pg_db_role_setting s ON s.setrole = a.oid AND s.setdatabase = 0`)
	if err != nil {
		return r.fail("", err)
	}
	r.existing = map[string]bool{}
	have := map[string][]string{}
	for _, row := range all {
		have[row[0]], r.existing[row[0]] = row, true
	}
	for _, role := range r.Objects.Roles {
		if !role.Absent {
			r.try("role "+role.Name, r.role(ctx, role, have))
		}
	}
	r.members(ctx)
	return nil
}

func (r *run) role(ctx context.Context, role spec.Role, have map[string][]string) error {
	now, there := have[role.Name]
	target := "ROLE " + pg.QuoteIdent(role.Name)
	if !there {
		login := " LOGIN"
		if role.Login != nil && !*role.Login {
			login = " NOLOGIN"
		}
		if err := r.do(ctx, "CREATE "+target+login); err != nil {
			return err
		}
		r.existing[role.Name] = true
		r.did("made role %s", role.Name)
		now = []string{role.Name, "", "f", "f", "f", "t", "f", "f", "-1", "", "", "", ""}
		if now[1] = "f"; login == " LOGIN" {
			now[1] = "t"
		}
	}
	var alter []string
	for i, a := range []struct {
		word string
		want *bool
	}{
		{"LOGIN", role.Login},
		{"SUPERUSER", role.Superuser},
		{"CREATEDB", role.CreateDB},
		{"CREATEROLE", role.CreateRole},
		{"INHERIT", role.Inherit},
		{"REPLICATION", role.Replication},
		{"BYPASSRLS", role.BypassRLS},
	} {
		if a.want == nil || *a.want == (now[i+1] == "t") {
			continue
		}
		word := a.word
		if !*a.want {
			word = "NO" + word
		}
		alter = append(alter, word)
	}
	if role.ConnLimit != nil && strconv.Itoa(*role.ConnLimit) != now[8] {
		alter = append(alter, "CONNECTION LIMIT "+strconv.Itoa(*role.ConnLimit))
	}
	if len(alter) > 0 {
		if err := r.do(ctx, "ALTER "+target+" "+strings.Join(alter, " ")); err != nil {
			return err
		}
		r.did("changed role %s: %s", role.Name, strings.ToLower(strings.Join(alter, ", ")))
	}
	if role.Secret != "" {
		hash, err := r.password(role, now[9])
		if err != nil {
			return err
		}
		if hash != "" {
			if err := r.do(ctx, "ALTER "+target+" PASSWORD "+pg.QuoteLiteral(hash)); err != nil {
				return err
			}
			r.did("set the password of role %s", role.Name)
		}
	}
	if err := r.expire(ctx, role, target, now[10]); err != nil {
		return err
	}
	r.settings(ctx, "role", role.Name, role.Parameters, strings.Split(now[11], "\x01"))
	if role.Comment != "" && role.Comment != now[12] {
		if err := r.do(ctx, "COMMENT ON "+target+" IS "+pg.QuoteLiteral(role.Comment)); err != nil {
			return err
		}
	}
	return nil
}

// expire sets until when a password counts.
func (r *run) expire(ctx context.Context, role spec.Role, target, now string) error {
	until := pg.QuoteLiteral(role.ExpireAt) + "::timestamptz"
	switch {
	case role.ExpireIn != nil:
		until = fmt.Sprintf("current_date + %d", *role.ExpireIn)
	case role.ExpireAt == "":
		return nil
	}
	want, err := r.value(ctx, "SELECT ("+until+")::timestamptz::text")
	if err != nil || want == now {
		return err
	}
	if err := r.do(ctx, "ALTER "+target+" VALID UNTIL "+pg.QuoteLiteral(want)); err != nil {
		return err
	}
	r.did("role %s expires %s", role.Name, want)
	return nil
}

// password returns what to set as the role's password: a hash, so that the
// password itself never reaches the server; "" if it has it already.
func (r *run) password(role spec.Role, now string) (string, error) {
	p := r.Secrets[role.Secret].Reveal()
	switch {
	case p == "":
		return "", fmt.Errorf("its password, the secret %q, is missing", role.Secret)
	case strings.HasPrefix(p, "SCRAM-SHA-256$"), strings.HasPrefix(p, "md5") && len(p) == 35:
		if p == now {
			return "", nil
		}
		return p, nil
	}
	// The members' own rules ask for SCRAM, whatever the others have.
	if r.md5 && role.Secret != spec.SecretReplicate && role.Secret != spec.SecretSuper {
		sum := md5.Sum([]byte(p + role.Name))
		if hash := "md5" + hex.EncodeToString(sum[:]); hash != now {
			return hash, nil
		}
		return "", nil
	}
	if v, ok := scram.Parse(now); ok && v.Is(p) {
		return "", nil
	}
	salt := make([]byte, scram.SaltSize)
	rand.Read(salt) // never fails
	v, err := scram.New(p, salt, scram.Iterations)
	return v.Text(), err
}

// members grants and revokes what is declared of memberships.
func (r *run) members(ctx context.Context) {
	options := "m.admin_option, true, true"
	if r.major >= 16 {
		options = "m.admin_option, m.set_option, m.inherit_option"
	}
	all, err := rows(ctx, r.conn, "SELECT g.rolname, u.rolname, "+options+
		" FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid JOIN pg_authid u ON u.oid = m.member")
	if err != nil {
		r.try("memberships", err)
		return
	}
	have := map[[2]string][]string{}
	for _, row := range all {
		have[[2]string{row[0], row[1]}] = row[2:]
	}
	for _, role := range r.Objects.Roles {
		if role.Absent || !r.existing[role.Name] {
			continue
		}
		for _, m := range role.MemberOf {
			now, there := have[[2]string{m.Role, role.Name}]
			what := fmt.Sprintf("role %s, member of %s", role.Name, m.Role)
			pair := pg.QuoteIdent(m.Role) + " %s " + pg.QuoteIdent(role.Name)
			switch {
			case m.Revoke:
				if there {
					r.try(what, r.do(ctx, "REVOKE "+fmt.Sprintf(pair, "FROM")))
					r.did("revoked %s from role %s", m.Role, role.Name)
				}
			default:
				with := r.options(m, now, there)
				if there && with == "" {
					continue
				}
				if err := r.do(ctx, "GRANT "+fmt.Sprintf(pair, "TO")+with); err != nil {
					r.try(what, err)
				} else {
					r.did("granted %s to role %s", m.Role, role.Name)
				}
			}
		}
	}
}

// options are those of a grant that are declared and are not so yet.
func (r *run) options(m spec.Membership, now []string, there bool) string {
	var with []string
	for i, o := range []struct {
		word string
		want *bool
	}{{"ADMIN", m.Admin}, {"SET", m.Set}, {"INHERIT", m.Inherit}} {
		if o.want == nil || there && *o.want == (now[i] == "t") {
			continue
		}
		switch {
		case r.major >= 16:
			with = append(with, o.word+" "+strings.ToUpper(strconv.FormatBool(*o.want)))
		case o.word == "ADMIN" && *o.want:
			with = append(with, "ADMIN OPTION")
		}
	}
	if len(with) == 0 {
		return ""
	}
	return " WITH " + strings.Join(with, ", ")
}

// drop takes a role away: nobody logs in by it any more, what it owns goes to
// the superuser, and then the role.
func (r *run) drop(ctx context.Context, role spec.Role) error {
	if !r.existing[role.Name] {
		return nil
	}
	if role.System {
		return errors.New("it is one of the cluster's own and is not dropped")
	}
	name := pg.QuoteIdent(role.Name)
	for _, sql := range []string{
		"ALTER ROLE " + name + " NOLOGIN",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = " + pg.QuoteLiteral(role.Name),
	} {
		if err := r.do(ctx, sql); err != nil {
			return err
		}
	}
	databases, err := rows(ctx, r.conn, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname")
	if err != nil {
		return err
	}
	for _, d := range databases {
		conn, err := r.session(ctx, d[0])
		if err != nil {
			return fmt.Errorf("database %s: %w", d[0], err)
		}
		err = cmp.Or(
			do(ctx, conn, "REASSIGN OWNED BY "+name+" TO "+pg.QuoteIdent(spec.Superuser)),
			do(ctx, conn, "DROP OWNED BY "+name),
		)
		conn.Close(ctx)
		if err != nil {
			return fmt.Errorf("database %s: %w", d[0], err)
		}
	}
	if err := r.do(ctx, "DROP ROLE "+name); err != nil {
		return err
	}
	r.did("dropped role %s", role.Name)
	return nil
}
