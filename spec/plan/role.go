package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"howdah/pg"
	"howdah/spec"
)

// Merged are the roles with each name once: what is said of one later counts
// over what was said before.
func Merged(roles []spec.Role) []spec.Role {
	var all []spec.Role
	at := map[string]int{}
	for _, r := range roles {
		i, again := at[r.Name]
		if !again {
			at[r.Name] = len(all)
			r.MemberOf = memberships(r.MemberOf)
			all = append(all, r)
			continue
		}
		o := &all[i]
		o.Absent, o.System = r.Absent, o.System || r.System
		over(&o.Login, r.Login)
		over(&o.Superuser, r.Superuser)
		over(&o.CreateDB, r.CreateDB)
		over(&o.CreateRole, r.CreateRole)
		over(&o.Inherit, r.Inherit)
		over(&o.Replication, r.Replication)
		over(&o.BypassRLS, r.BypassRLS)
		over(&o.ConnLimit, r.ConnLimit)
		if r.ExpireIn != nil || r.ExpireAt != "" {
			o.ExpireIn, o.ExpireAt = r.ExpireIn, r.ExpireAt
		}
		for _, f := range []struct{ old, now *string }{{&o.Secret, &r.Secret}, {&o.Comment, &r.Comment}, {&o.PoolMode, &r.PoolMode}} {
			if *f.now != "" {
				*f.old = *f.now
			}
		}
		if r.PoolLimit != 0 {
			o.PoolLimit = r.PoolLimit
		}
		if len(r.PoolParameters) > 0 {
			o.PoolParameters = cloned(o.PoolParameters)
			maps.Copy(o.PoolParameters, r.PoolParameters)
		}
		if len(r.Parameters) > 0 {
			o.Parameters = cloned(o.Parameters)
			maps.Copy(o.Parameters, r.Parameters)
		}
		o.MemberOf = memberships(append(slices.Clone(o.MemberOf), r.MemberOf...))
	}
	return all
}

func over[T any](old **T, now *T) {
	if now != nil {
		*old = now
	}
}

// memberships has each group once, as it is said last.
func memberships(all []spec.Membership) []spec.Membership {
	var once []spec.Membership
	for _, m := range all {
		if i := slices.IndexFunc(once, func(o spec.Membership) bool { return o.Role == m.Role }); i >= 0 {
			once[i] = m
		} else {
			once = append(once, m)
		}
	}
	return once
}

// roles makes every declared role, and then what each is a member of.
func (p *planner) roles() {
	for _, r := range p.Objects.Roles {
		if !r.Absent {
			p.role(r)
		}
	}
	for _, r := range p.Objects.Roles {
		if !r.Absent {
			p.members(r)
		}
	}
}

// attributes are the switches of a role by their words, declared and real.
func attributes(r spec.Role, h *Role) []struct {
	word string
	want *bool
	have *bool
} {
	return []struct {
		word string
		want *bool
		have *bool
	}{
		{"LOGIN", r.Login, &h.Login},
		{"SUPERUSER", r.Superuser, &h.Superuser},
		{"CREATEDB", r.CreateDB, &h.CreateDB},
		{"CREATEROLE", r.CreateRole, &h.CreateRole},
		{"INHERIT", r.Inherit, &h.Inherit},
		{"REPLICATION", r.Replication, &h.Replication},
		{"BYPASSRLS", r.BypassRLS, &h.BypassRLS},
	}
}

func (p *planner) role(r spec.Role) {
	h, there := p.have.Roles[r.Name]
	object, target := "role "+r.Name, "ROLE "+pg.QuoteIdent(r.Name)
	if !there {
		h = Role{Login: r.Login == nil || *r.Login, Inherit: true, ConnLimit: -1, Config: map[string]string{}}
	}
	var words, soft []string
	if !there && h.Login {
		words = append(words, "LOGIN")
	}
	risk := Safe
	for _, a := range attributes(r, &h) {
		if a.want == nil || *a.want == *a.have {
			continue
		}
		word := a.word
		if !*a.want {
			word, risk = "NO"+word, Reload
		}
		words, soft = append(words, word), append(soft, strings.ToLower(word))
		*a.have = *a.want
	}
	if r.ConnLimit != nil && *r.ConnLimit != h.ConnLimit {
		limit := "CONNECTION LIMIT " + strconv.Itoa(*r.ConnLimit)
		words, soft = append(words, limit), append(soft, strings.ToLower(limit))
		h.ConnLimit = *r.ConnLimit
	}
	until, expires := p.expiry(r, &h)
	password := Statement{Text: "ALTER " + target + " PASSWORD " + Hidden, Password: r.Name}
	sets := r.Secret != "" && !h.Right
	had := h.Password
	if sets {
		h.Password, h.Right = true, true
	}
	more, changed := settings(target, r.Parameters, h.Config)
	comment := sql("COMMENT ON " + target + " IS " + pg.QuoteLiteral(r.Comment))
	comments := r.Comment != "" && r.Comment != h.Comment
	if comments {
		h.Comment = r.Comment
	}
	p.have.Roles[r.Name] = h
	if !there {
		if until != "" {
			words = append(words, "VALID UNTIL "+until)
		}
		create := Statement{Text: strings.TrimSpace("CREATE " + target + " " + strings.Join(words, " "))}
		if sets {
			create.Text, create.Password = create.Text+" PASSWORD "+Hidden, r.Name
		}
		all := append([]Statement{create}, more...)
		if comments {
			all = append(all, comment...)
		}
		p.step(Step{Object: object, What: "make " + object, Risk: Safe, Why: "there is no such role", SQL: all, Settings: changed, Makes: true})
		return
	}
	if len(words) > 0 {
		p.step(Step{
			Object: object, What: "change " + object + ": " + strings.Join(soft, ", "), Risk: risk, Why: "it is declared so",
			SQL: sql("ALTER " + target + " " + strings.Join(words, " ")),
		})
	}
	if sets {
		why := "it has none"
		if had {
			why = "it has another"
		}
		p.step(Step{Object: object, What: "set the password of " + object, Risk: Reload, Why: why, SQL: []Statement{password}})
	}
	if until != "" {
		p.step(Step{
			Object: object, What: "let " + object + " expire " + strings.Trim(until, "'"), Risk: Reload, Why: expires,
			SQL: sql("ALTER " + target + " VALID UNTIL " + until),
		})
	}
	if len(changed) > 0 {
		p.step(Step{
			Object: object, What: "set " + names(changed) + " of " + object, Risk: Safe, Why: "sessions that begin from then on have it",
			SQL: more, Settings: changed,
		})
	}
	if comments {
		p.step(Step{Object: object, What: "say of " + object + " what it is for", Risk: Safe, Why: "its comment is another", SQL: comment})
	}
}

// expiry is the literal of when a role is to expire, if that changes. Days are
// counted from when they are set: a date that is no further off is left alone,
// and one that is over is set anew.
func (p *planner) expiry(r spec.Role, h *Role) (literal, why string) {
	expr := Until(r)
	if expr == "" {
		return "", ""
	}
	want, ok := p.have.Times[expr]
	if !ok {
		if p.have.Times != nil {
			p.cannot("role "+r.Name, "let it expire "+quote(expr), "that is no time")
			return "", ""
		}
		want = expr // of a server that is not there yet
	}
	why = "it expires " + h.ValidUntil
	switch {
	case want == h.ValidUntil:
		return "", ""
	case r.ExpireIn != nil && h.DaysLeft != nil && *h.DaysLeft >= 0 && *h.DaysLeft <= *r.ExpireIn:
		return "", ""
	case h.ValidUntil == "":
		why = "it never expires"
	case r.ExpireIn != nil && h.DaysLeft != nil && *h.DaysLeft < 0:
		why = "it expired " + h.ValidUntil
	}
	h.ValidUntil = want
	if r.ExpireIn != nil {
		days := *r.ExpireIn
		h.DaysLeft = &days
	}
	return pg.QuoteLiteral(want), why
}

// members grants and revokes what is declared of memberships.
func (p *planner) members(r spec.Role) {
	var grants, revokes []Statement
	var given, taken []string
	for _, m := range r.MemberOf {
		pair := Pair{m.Role, r.Name}
		now := p.have.Members[pair]
		both := func(word string) string { return pg.QuoteIdent(m.Role) + word + pg.QuoteIdent(r.Name) }
		if m.Revoke {
			if len(now) == 0 {
				continue
			}
			taken = append(taken, m.Role)
			revokes = append(revokes, sql(p.revoke(now, "", both(" FROM "))...)...)
			delete(p.have.Members, pair)
			continue
		}
		var options []string
		var less []string
		is := Membership{Grantor: spec.Superuser, Inherit: true, Set: true}
		for _, h := range now {
			is.Admin = is.Admin || h.Admin
		}
		if len(now) > 0 {
			is.Set = slices.ContainsFunc(now, func(h Membership) bool { return h.Set })
			is.Inherit = slices.ContainsFunc(now, func(h Membership) bool { return h.Inherit })
		}
		for _, o := range []struct {
			word string
			want *bool
			have *bool
			of   func(Membership) bool
		}{
			{"ADMIN", m.Admin, &is.Admin, func(h Membership) bool { return h.Admin }},
			{"SET", m.Set, &is.Set, func(h Membership) bool { return h.Set }},
			{"INHERIT", m.Inherit, &is.Inherit, func(h Membership) bool { return h.Inherit }},
		} {
			if o.want == nil || o.word != "ADMIN" && p.have.Major < 16 {
				continue
			}
			if *o.want == *o.have && (len(now) > 0 || p.have.Major < 16 || o.word == "ADMIN") {
				continue
			}
			switch {
			case !*o.want && len(now) > 0:
				var with []Membership
				for _, h := range now {
					if o.of(h) {
						with = append(with, h)
					}
				}
				less = append(less, p.revoke(with, o.word+" OPTION FOR ", both(" FROM "))...)
			case p.have.Major >= 16:
				options = append(options, o.word+" "+strings.ToUpper(strconv.FormatBool(*o.want)))
			default:
				options = append(options, "ADMIN OPTION")
			}
			*o.have = *o.want
		}
		if len(now) > 0 && len(options)+len(less) == 0 {
			continue
		}
		given = append(given, m.Role)
		if len(now) == 0 || len(options) > 0 {
			text := "GRANT " + both(" TO ")
			if len(options) > 0 {
				text += " WITH " + strings.Join(options, ", ")
			}
			grants = append(grants, sql(text)...)
		}
		grants = append(grants, sql(less...)...)
		p.have.Members[pair] = []Membership{is}
	}
	object := "role " + r.Name
	if len(grants) > 0 {
		p.step(Step{Object: object, What: "grant " + few(given) + " to " + object, Risk: Safe, Why: "it is declared a member", SQL: grants})
	}
	if len(revokes) > 0 {
		p.step(Step{Object: object, What: "revoke " + few(taken) + " from " + object, Risk: Reload, Why: "it is declared to be no member", SQL: revokes})
	}
}

// revoke takes back what each grantor granted; before 16 nobody's name counts.
func (p *planner) revoke(from []Membership, what, pair string) []string {
	if p.have.Major < 16 {
		return []string{"REVOKE " + what + pair}
	}
	var all []string
	for _, m := range from {
		all = append(all, "REVOKE "+what+pair+" GRANTED BY "+pg.QuoteIdent(m.Grantor))
	}
	return all
}

// dropRole takes a role away: nobody logs in by it any more, what it owns goes
// to the superuser, and then the role.
func (p *planner) dropRole(r spec.Role, why string) {
	h, there := p.have.Roles[r.Name]
	object, name := "role "+r.Name, pg.QuoteIdent(r.Name)
	switch {
	case !there:
		return
	case r.System || r.Name == spec.Superuser:
		p.cannot(object, "drop it", "it is one of the cluster's own")
		return
	}
	p.step(Step{
		Object: object, What: "shut " + object + " out", Risk: Restart, Why: why + "; its sessions end", Makes: true, Alone: true,
		SQL: sql("ALTER ROLE "+name+" NOLOGIN", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = "+pg.QuoteLiteral(r.Name)),
	})
	rooms := slices.Clone(h.In)
	rooms = append(rooms, "postgres") // what belongs to no database is given away from any
	slices.Sort(rooms)
	for _, room := range slices.Compact(rooms) {
		d, there := p.have.Databases[room]
		if !there {
			continue // dropped before
		}
		if !d.AllowConn {
			p.cannot(object, "give away what it owns in database "+room, "nobody can connect to it")
			continue
		}
		p.step(Step{
			Object: object, What: "give what " + object + " owns in database " + room + " to " + spec.Superuser, Risk: Safe,
			Why: "a role that owns something can not be dropped", Database: room, Makes: true,
			SQL: sql("REASSIGN OWNED BY "+name+" TO "+pg.QuoteIdent(spec.Superuser), "DROP OWNED BY "+name),
		})
		if d.Owner == r.Name {
			d.Owner = spec.Superuser
		}
		for s, schema := range d.Schemas {
			if schema.Owner == r.Name {
				schema.Owner = spec.Superuser
				d.Schemas[s] = schema
			}
		}
		p.have.Databases[room] = d
	}
	for room, d := range p.have.Databases { // REASSIGN OWNED gives away databases too
		if d.Owner == r.Name {
			d.Owner = spec.Superuser
			p.have.Databases[room] = d
		}
	}
	p.step(Step{Object: object, What: "drop " + object, Risk: Destructive, Why: why, SQL: sql("DROP ROLE " + name)})
	delete(p.have.Roles, r.Name)
	for pair := range p.have.Members {
		if pair.Group == r.Name || pair.Member == r.Name {
			delete(p.have.Members, pair)
		}
	}
}

func (p *planner) exists(role string) bool {
	_, ok := p.have.Roles[role]
	return ok || role == "" || role == "pg_database_owner"
}
