package plan

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"howdah/cluster"
	"howdah/spec"
)

func yes() *bool     { b := true; return &b }
func no() *bool      { b := false; return &b }
func num(n int) *int { return &n }
func whats(p Plan) string {
	var all []string
	for _, s := range p.Steps {
		all = append(all, s.What)
	}
	return strings.Join(all, "\n")
}

func texts(p Plan) string {
	var all []string
	for _, s := range p.Steps {
		for _, st := range s.SQL {
			all = append(all, s.Database+": "+st.Text)
		}
	}
	return strings.Join(all, "\n")
}

// there is a server that has a role app and a database app of it, besides what
// initdb makes.
func there(major int) Have {
	h := Pristine(major)
	h.Available = map[string]bool{"hstore": true, "plpgsql": true}
	h.Times = map[string]string{"2030-01-01": "2030-01-01 00:00:00+00", "current_date + 30": "2026-12-21 00:00:00+00"}
	h.Roles["app"] = Role{Login: true, Inherit: true, ConnLimit: -1, Password: true, Right: true, Config: map[string]string{}}
	d := within(major, fresh("app"))
	d.Options = map[string]string{"encoding": "UTF8", "lc_collate": "C.UTF-8", "lc_ctype": "C.UTF-8"}
	h.Databases["app"] = d
	return h
}

// A base case is a server that has what is declared; each row says what differs.
func TestOneDifferenceIsOneChange(t *testing.T) {
	settledApp := func(w *Want, h *Have) { // what every declared database gets
		_, *h = server(*w, *h)
	}
	for _, tt := range []struct {
		name   string
		major  int
		differ func(w *Want, h *Have)
		want   string // What of each step
		sql    string // of all, if it is worth it
		risk   Risk
		notes  string // drift, cannot and missing
	}{
		{name: "nothing", differ: func(*Want, *Have) {}},
		{
			name: "another password", differ: func(w *Want, h *Have) { r := h.Roles["app"]; r.Right = false; h.Roles["app"] = r },
			want: "set the password of role app", sql: `: ALTER ROLE "app" PASSWORD '***'`, risk: Reload,
		},
		{
			name: "attributes", differ: func(w *Want, h *Have) {
				r := &w.Objects.Roles[0]
				r.Login, r.CreateDB, r.ConnLimit = no(), yes(), num(5)
			},
			want: "change role app: nologin, createdb, connection limit 5", sql: `: ALTER ROLE "app" NOLOGIN CREATEDB CONNECTION LIMIT 5`, risk: Reload,
		},
		{
			name: "expires", differ: func(w *Want, h *Have) { w.Objects.Roles[0].ExpireAt = "2030-01-01" },
			want: "let role app expire 2030-01-01 00:00:00+00", sql: `: ALTER ROLE "app" VALID UNTIL '2030-01-01 00:00:00+00'`, risk: Reload,
		},
		{
			name: "expires at no time", differ: func(w *Want, h *Have) { w.Objects.Roles[0].ExpireAt = "soon" },
			notes: `cannot role app: let it expire "soon" (that is no time)`,
		},
		{
			name: "days that began yesterday", differ: func(w *Want, h *Have) {
				w.Objects.Roles[0].ExpireIn = num(30)
				r := h.Roles["app"]
				r.ValidUntil, r.DaysLeft = "2026-12-20 00:00:00+00", num(29)
				h.Roles["app"] = r
			},
		},
		{
			name: "days that are over", differ: func(w *Want, h *Have) {
				w.Objects.Roles[0].ExpireIn = num(30)
				r := h.Roles["app"]
				r.ValidUntil, r.DaysLeft = "2026-11-20 00:00:00+00", num(-1)
				h.Roles["app"] = r
			},
			want: "let role app expire 2026-12-21 00:00:00+00", risk: Reload,
		},
		{
			name: "parameters", differ: func(w *Want, h *Have) {
				w.Objects.Roles[0].Parameters = map[string]string{"work_mem": "9MB", "search_path": "a, b", "x.y": "default"}
				h.Roles["app"].Config["x.y"], h.Roles["app"].Config["stray"] = "1", "2"
			},
			want: "set search_path, work_mem, x.y of role app", risk: Safe, notes: "drift role app has stray = 2",
			sql: `: ALTER ROLE "app" SET "search_path" = 'a', 'b'` + "\n" + `: ALTER ROLE "app" SET "work_mem" = '9MB'` + "\n" + `: ALTER ROLE "app" RESET "x"."y"`,
		},
		{
			name: "a member", differ: func(w *Want, h *Have) {
				w.Objects.Roles = append(w.Objects.Roles, spec.Role{Name: "g", Login: no()})
				w.Objects.Roles[0].MemberOf = []spec.Membership{{Role: "g", Admin: yes()}}
			},
			want: "make role g\ngrant g to role app", risk: Safe,
			sql: `: CREATE ROLE "g"` + "\n" + `: GRANT "g" TO "app" WITH ADMIN OPTION`,
		},
		{
			name: "less of a member", major: 16, differ: func(w *Want, h *Have) {
				w.Objects.Roles[0].MemberOf = []spec.Membership{{Role: "pg_monitor", Admin: no(), Set: no()}}
				h.Members[Pair{"pg_monitor", "app"}] = []Membership{{"postgres", true, true, true}, {"other", true, false, true}}
			},
			want: "grant pg_monitor to role app", risk: Safe,
			sql: `: REVOKE ADMIN OPTION FOR "pg_monitor" FROM "app" GRANTED BY "postgres"` + "\n" +
				`: REVOKE ADMIN OPTION FOR "pg_monitor" FROM "app" GRANTED BY "other"` + "\n" +
				`: REVOKE SET OPTION FOR "pg_monitor" FROM "app" GRANTED BY "postgres"`,
		},
		{
			name: "no member", differ: func(w *Want, h *Have) {
				w.Objects.Roles[0].MemberOf = []spec.Membership{{Role: "pg_monitor", Revoke: true}}
				h.Members[Pair{"pg_monitor", "app"}] = []Membership{{Grantor: "postgres"}}
			},
			want: "revoke pg_monitor from role app", sql: `: REVOKE "pg_monitor" FROM "app"`, risk: Reload,
		},
		{
			name: "said twice", differ: func(w *Want, h *Have) {
				w.Objects.Roles = append(w.Objects.Roles, spec.Role{Name: "app", Comment: "the app"})
				w.Objects.Roles[0].Comment = "an app"
			},
			want: "say of role app what it is for", sql: `: COMMENT ON ROLE "app" IS 'the app'`, risk: Safe,
		},
		{
			name: "an absent role", differ: func(w *Want, h *Have) {
				w.Objects.Roles = append(w.Objects.Roles, spec.Role{Name: "old", Absent: true})
				h.Roles["old"] = Role{Login: true, In: []string{"app"}}
			},
			want: "shut role old out\ngive what role old owns in database app to postgres\ngive what role old owns in database postgres to postgres\ndrop role old",
			risk: Destructive,
		},
		{
			name: "drift", differ: func(w *Want, h *Have) {
				h.Roles["stranger"] = Role{}
				h.Databases["other"] = fresh("stranger")
				h.Databases["app"].Extensions["hstore"] = Extension{Schema: "public"}
				h.Databases["app"].Schemas["s"] = Schema{}
				h.Members[Pair{"pg_monitor", "app"}] = []Membership{{Grantor: "postgres"}}
			},
			notes: "drift database app has extension hstore\ndrift database app has schema s\ndrift database other is in no list\n" +
				"drift role stranger is in no list\ndrift role app is a member of pg_monitor",
		},
		{
			name: "drift, pruned", differ: func(w *Want, h *Have) {
				w.Prune = true
				h.Roles["stranger"] = Role{}
				h.Databases["other"] = fresh("stranger")
				h.Databases["app"].Schemas["s"] = Schema{}
				h.Databases["app"].Config["work_mem"] = "1MB"
			},
			want: "reset work_mem of database app\ndrop schema s of database app\ndrop database other\nshut role stranger out\n" +
				"give what role stranger owns in database postgres to postgres\ndrop role stranger",
			risk: Destructive,
		},
		{
			name: "a locale that can not be", differ: func(w *Want, h *Have) {
				w.Objects.Databases[0].Create = map[string]string{"encoding": "utf-8", "locale": "de_DE.UTF-8", "strategy": "WAL_LOG"}
			},
			notes: "cannot database app: change lc_collate from C.UTF-8 to de_DE.UTF-8 (it is settled when a database is made: dump it, and restore it into a new one)\n" +
				"cannot database app: change lc_ctype from C.UTF-8 to de_DE.UTF-8 (it is settled when a database is made: dump it, and restore it into a new one)",
		},
		{
			name: "an extension that is not to be had, and one that is", differ: func(w *Want, h *Have) {
				w.Objects.Databases[0].Extensions = []spec.Extension{{Name: "postgis"}, {Name: "hstore", Schema: "ext", Version: "1.8"}}
			},
			want: "make extension hstore in database app", notes: "missing postgis", risk: Safe,
			sql: `app: CREATE SCHEMA IF NOT EXISTS "ext"` + "\n" + `app: CREATE EXTENSION IF NOT EXISTS "hstore" WITH SCHEMA "ext" VERSION E'1.8' CASCADE`,
		},
		{
			name: "connections", differ: func(w *Want, h *Have) {
				d := &w.Objects.Databases[0]
				d.ConnLimit, d.RevokeConn = num(7), true
			},
			want: "let only its owner and the cluster's own roles connect to database app\nchange database app: connection limit 7", risk: Reload,
			sql: `: REVOKE CONNECT ON DATABASE "app" FROM PUBLIC` + "\n" + `: ALTER DATABASE "app" WITH CONNECTION LIMIT 7`,
		},
		{
			name: "another tablespace", differ: func(w *Want, h *Have) { w.Objects.Databases[0].Tablespace = "fast" },
			want: "move database app to tablespace fast", sql: `: ALTER DATABASE "app" SET TABLESPACE "fast"`, risk: Rewrite,
		},
		{
			name: "another owner", differ: func(w *Want, h *Have) {
				w.Objects.Databases[0].Owner = "postgres"
			},
			want: "give database app to postgres", sql: `: ALTER DATABASE "app" OWNER TO "postgres"`, risk: Reload,
		},
		{
			name: "default privileges", differ: func(w *Want, h *Have) {
				w.Objects.Privileges = []string{`GRANT SELECT ON TABLES TO app`, `GRANT EXECUTE ON FUNCTIONS TO PUBLIC`}
			},
			want: "set default privileges on what app makes in database app", risk: Safe,
			// The owner can select already, and everybody can execute.
			sql: "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			major := max(tt.major, 15)
			w := Want{Objects: spec.Objects{
				Roles:     []spec.Role{{Name: "app", Secret: "user:app"}},
				Databases: []spec.Database{{Name: "app", Owner: "app"}},
			}}
			h := there(major)
			settledApp(&w, &h)
			tt.differ(&w, &h)
			p := Server(w, h)
			want := tt.want
			if tt.name == "default privileges" {
				want = "" // both are so from the beginning
			}
			if got := whats(p); got != want {
				t.Errorf("steps:\n%s\nwant:\n%s", got, want)
			}
			if got := strings.ReplaceAll(texts(p), "E'1.8'", "'1.8'"); tt.sql != "" && got != strings.ReplaceAll(tt.sql, "E'1.8'", "'1.8'") {
				t.Errorf("SQL:\n%s\nwant:\n%s", got, tt.sql)
			}
			if p.Risk() != tt.risk && want != "" {
				t.Errorf("risk %s, want %s", p.Risk(), tt.risk)
			}
			if got := notes(p); got != tt.notes {
				t.Errorf("notes:\n%s\nwant:\n%s", got, tt.notes)
			}
			lawful(t, w, h)
		})
	}
}

func notes(p Plan) string {
	var all []string
	for _, n := range p.Drift {
		all = append(all, "drift "+n.Object+" "+n.What)
	}
	for _, n := range p.Cannot {
		all = append(all, fmt.Sprintf("cannot %s: %s (%s)", n.Object, n.What, n.Why))
	}
	for _, m := range p.Missing {
		all = append(all, "missing "+m)
	}
	return strings.Join(all, "\n")
}

// lawful holds a plan to what every plan keeps: it is a function of what it is
// given, it says what it does, and once it is carried out there is nothing to do.
func lawful(t *testing.T, w Want, h Have) {
	t.Helper()
	before, _ := json.Marshal(stringKeys(h))
	p, after := server(w, h)
	if now, _ := json.Marshal(stringKeys(h)); string(now) != string(before) {
		t.Error("the facts were changed")
	}
	if again, _ := server(w, h); !reflect.DeepEqual(again, p) {
		t.Errorf("the same facts give another plan:\n%s\nand\n%s", whats(p), whats(again))
	}
	for _, s := range p.Steps {
		verb, _, _ := strings.Cut(s.What, " ")
		if done[verb] == "" || s.Object == "" || s.Why == "" || !slices.Contains(risks, s.Risk) || len(s.SQL) == 0 {
			t.Errorf("half a step: %+v", s)
		}
	}
	if second, _ := server(w, after); !second.Empty() {
		t.Errorf("after\n%s\nthere still is\n%s", whats(p), texts(second))
	}
}

// stringKeys is what JSON can write of facts.
func stringKeys(h Have) any {
	var all []any
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range h.Databases {
			if !yield(n) {
				return
			}
		}
	}) {
		d := h.Databases[name]
		var kinds []string
		for k, v := range d.Defaults {
			kinds = append(kinds, fmt.Sprint(k, v))
		}
		slices.Sort(kinds)
		d.Defaults = nil
		all = append(all, name, d, kinds)
	}
	var members []string
	for k, v := range h.Members {
		members = append(members, fmt.Sprint(k, v))
	}
	slices.Sort(members)
	return []any{h.Roles, all, members}
}

// drawn is a declaration and a server of a few names, drawn from a seed.
func drawn(seed uint64) (Want, Have) {
	r := rand.New(rand.NewPCG(seed, 8))
	chance := func(n int) bool { return r.IntN(n) == 0 }
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	flag := func() *bool {
		switch r.IntN(3) {
		case 0:
			return yes()
		case 1:
			return no()
		}
		return nil
	}
	values := func() map[string]string {
		m := map[string]string{}
		for range r.IntN(3) {
			m[pick("work_mem", "search_path", "x.y")] = pick("1", "2", "default", "a, b", "")
		}
		return m
	}
	roles := []string{"a", "b", "c", "dbrole_admin", "mon", "adm"}
	major := 14 + r.IntN(5)
	h := Pristine(major)
	h.Available = map[string]bool{"hstore": true, "cube": true}
	h.Times = map[string]string{"2030-01-01": "2030", "infinity": "infinity", "current_date + 3": "in3"}
	for _, name := range roles {
		if chance(2) {
			continue
		}
		h.Roles[name] = Role{
			Login: chance(2), CreateDB: chance(2), Inherit: chance(2), ConnLimit: r.IntN(3) - 1, ValidUntil: pick("", "2030", "in3", "infinity"),
			Password: chance(2), Right: chance(2), Config: values(), Comment: pick("", "x"), In: []string{pick("d", "e", "postgres", "gone")},
		}
		if chance(3) {
			h.Members[Pair{pick("a", "b", "pg_monitor"), name}] = []Membership{{pick("postgres", "a"), chance(2), chance(2), chance(2)}}
		}
	}
	for _, name := range []string{"d", "e", "f"} {
		if chance(2) {
			continue
		}
		d := within(major, fresh(pick("postgres", "a")))
		d.IsTemplate, d.ConnLimit, d.AllowConn, d.Config = chance(3), r.IntN(3)-1, !chance(5), values()
		d.Seen = d.AllowConn
		if chance(2) {
			d.Schemas["s"] = Schema{Owner: pick("postgres", "a")}
		}
		if chance(2) {
			d.Extensions["hstore"] = Extension{Version: "1", Schema: pick("public", "s"), Relocatable: chance(2)}
		}
		if chance(2) {
			d.Defaults[Kind{pick("a", "postgres"), "", "TABLES"}] = []Grant{{pick("a", "b", ""), "SELECT", chance(2)}}
		}
		if chance(2) {
			d.Access = without(d.Access, "", "CONNECT")
		}
		h.Databases[name] = d
	}
	w := Want{Prune: chance(2), Objects: spec.Objects{Admin: "adm", Monitor: "mon", Admins: []string{"postgres"}}}
	o := &w.Objects
	// Owners and groups are there to stay: who is owner of something and absent is no declaration.
	o.Roles = []spec.Role{{Name: "own"}, {Name: "group"}}
	for range r.IntN(6) {
		role := spec.Role{
			Name: pick(roles...), Absent: chance(5), Secret: pick("", "s"), Login: flag(), CreateDB: flag(), Inherit: flag(),
			ExpireAt: pick("", "2030-01-01", "infinity", "never"), Parameters: values(), Comment: pick("", "x", "y"),
		}
		if chance(2) {
			role.ConnLimit = num(r.IntN(3))
		}
		if chance(3) {
			role.ExpireIn = num(3)
		}
		for range r.IntN(3) {
			role.MemberOf = append(role.MemberOf, spec.Membership{Role: pick("own", "group", "pg_monitor", "nobody"), Revoke: chance(3), Admin: flag(), Set: flag(), Inherit: flag()})
		}
		o.Roles = append(o.Roles, role)
	}
	for _, name := range []string{"d", "e", "f"} {
		if chance(2) {
			continue
		}
		d := spec.Database{
			Name: name, Owner: pick("", "own", "group"), Template: pick("", "", "template0", "d"), IsTemplate: flag(), AllowConn: flag(), RevokeConn: chance(2),
			Parameters: values(), Comment: pick("", "z"), Tablespace: pick("", "pg_default", "fast"), Baseline: pick("", "base.sql"),
		}
		if h.Databases[d.Template].Seen == false && d.Template != "template0" || d.Template == name {
			d.Template = "" // nobody can copy what is not there
		}
		if chance(5) && name != "d" {
			d.State = spec.Absent
		}
		if chance(2) {
			d.ConnLimit = num(r.IntN(3) - 1)
		}
		if chance(2) {
			d.Schemas = []spec.Schema{{Name: "s", Owner: pick("", "own"), Absent: chance(3)}}
		}
		if chance(2) {
			d.Extensions = []spec.Extension{{Name: pick("hstore", "cube", "postgis"), Schema: pick("", "t"), Version: pick("", "2"), Absent: chance(3)}}
		}
		if chance(3) {
			d.Create = map[string]string{pick("encoding", "icu_rules", "locale"): pick("UTF8", "C")}
		}
		o.Databases = append(o.Databases, d)
	}
	for _, text := range []string{
		"GRANT SELECT ON TABLES TO a", "GRANT ALL ON SEQUENCES TO b WITH GRANT OPTION", "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", "IN SCHEMA s GRANT USAGE ON TYPES TO PUBLIC",
		"REVOKE GRANT OPTION FOR SELECT ON TABLES FROM b", "DROP TABLE x",
	} {
		if chance(3) {
			o.Privileges = append(o.Privileges, text)
		}
	}
	if chance(2) {
		o.Schemas, o.Extensions = []string{"s"}, []spec.Extension{{Name: "hstore", Schema: "s"}}
	}
	return w, h
}

func TestAPlanCarriedOutLeavesNothingToDo(t *testing.T) {
	for seed := range uint64(1000) {
		w, h := drawn(seed)
		lawful(t, w, h)
		if t.Failed() {
			t.Fatalf("seed %d, %+v\nof %+v", seed, w, h)
		}
	}
}

// quoted is what SQL puts in quotes: names, and text with and without escapes.
var quoted = regexp.MustCompile(`"(?:[^"]|"")*"|E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'`)

// Whatever stands in a name or a value stays in its quotes.
func TestSQLInEveryNameStaysThere(t *testing.T) {
	for _, evil := range []string{`x"; DROP TABLE evil; --`, `'; DROP ROLE evil; --`, `\'; SELECT evil; /*`, "evil\n;\nevil", `"evil"`, `E'\\evil`} {
		h := Pristine(15)
		h.Times = map[string]string{evil: evil}
		h.Available = map[string]bool{evil: true, evil + "2": true}
		h.Roles[evil+"2"] = Role{In: []string{evil + "3"}, Config: map[string]string{evil: evil}}
		h.Members[Pair{evil, evil}] = []Membership{{Grantor: evil}}
		d := within(15, fresh(evil))
		d.Schemas[evil], d.Extensions[evil] = Schema{Owner: evil}, Extension{}
		h.Databases[evil+"3"], h.Databases[evil+"4"] = d, d.clone()
		values := map[string]string{evil: evil, "search_path": evil, "a." + evil: evil}
		role := spec.Role{
			Name: evil, Secret: evil, ExpireAt: evil, Parameters: values, Comment: evil,
			MemberOf: []spec.Membership{{Role: evil + "2"}, {Role: evil, Revoke: true}},
		}
		database := spec.Database{
			Name: evil, Owner: evil, Template: evil + "3", Create: map[string]string{"encoding": evil, "strategy": evil, "locale_provider": evil}, Tablespace: evil,
			Parameters: values, Schemas: []spec.Schema{{Name: evil + "2", Owner: evil}, {Name: evil, Absent: true}},
			Extensions: []spec.Extension{{Name: evil + "2", Schema: evil + "5", Version: evil}, {Name: evil, Absent: true}}, Comment: evil, RevokeConn: true,
		}
		other := database
		other.Name, other.Template, other.Create = evil+"3", "", nil
		w := Want{Prune: true, Objects: spec.Objects{
			Roles: []spec.Role{role, {Name: evil + "2", Absent: true}}, Databases: []spec.Database{database, other}, Schemas: []string{evil},
			Extensions: []spec.Extension{{Name: evil}}, Admins: []string{evil}, Admin: evil, Monitor: evil,
			Privileges: []string{`GRANT SELECT ON TABLES TO "` + strings.ReplaceAll(evil, `"`, `""`) + `"`},
		}}
		p := Server(w, h)
		if len(p.Steps) < 15 {
			t.Errorf("%q: only %d steps:\n%s", evil, len(p.Steps), whats(p))
		}
		for _, s := range p.Steps {
			for _, st := range s.SQL {
				if rest := quoted.ReplaceAllString(st.Text, "Q"); strings.ContainsAny(rest, "\"'\\;") || strings.Contains(rest, "evil") || strings.Contains(rest, "--") {
					t.Errorf("%q gets out of its quotes: %s", evil, st.Text)
				}
			}
		}
	}
}

func TestConfiguration(t *testing.T) {
	contexts := map[string]string{"max_connections": "postmaster", "work_mem": "user"}
	have := cluster.Config{Data: map[string]any{
		"ttl": 30.0, "loop_wait": 10.0, "pause": true,
		"postgresql": map[string]any{"parameters": map[string]any{"work_mem": "8MB", "max_connections": 50.0}},
	}}
	want := map[string]any{"ttl": 30, "synchronous_mode": true}
	p, next := Config(want, nil, have, contexts, map[string]string{"work_mem": "4MB"}, false)
	if whats(p) != "change the dynamic configuration: synchronous_mode" || p.Risk() != Reload || next["synchronous_mode"] != true {
		t.Errorf("got %s, %v", whats(p), next)
	}
	if got, want := notes(p), "drift configuration has pause = true\ndrift configuration has postgresql.parameters.max_connections = 50\n"+
		"drift configuration has postgresql.parameters.work_mem = 8MB"; got != want {
		t.Errorf("drift:\n%s\nwant:\n%s", got, want)
	}
	if w := p.Drift[2].Why; !strings.Contains(w, "4MB") {
		t.Errorf("the inventory's value is not told: %q", w)
	}
	p, next = Config(want, nil, have, contexts, nil, true)
	if p.Risk() != Restart || len(p.Steps[0].Settings) != 3 || len(p.Drift) != 1 {
		t.Errorf("pruned: %+v", p)
	}
	if again, _ := Config(want, nil, cluster.Config{Data: next}, contexts, nil, true); !again.Empty() {
		t.Errorf("a second time: %s", whats(again))
	}
}

// What a new cluster begins with is no reason to change one that is there; where
// that has something else, it is said.
func TestBegun(t *testing.T) {
	begin := map[string]any{"synchronous_mode": "quorum", "synchronous_mode_strict": true}
	for _, tt := range []struct{ have, want string }{
		{`{"ttl": 30, "synchronous_mode": "quorum", "synchronous_mode_strict": true}`, ""},
		{`{"ttl": 30}`, "drift configuration has no synchronous_mode\ndrift configuration has no synchronous_mode_strict"},
		{`{"synchronous_mode": "off", "synchronous_mode_strict": true}`, "drift configuration has synchronous_mode = off"},
	} {
		have, err := cluster.ParseConfig([]byte(tt.have))
		if err != nil {
			t.Fatal(err)
		}
		p, next := Config(nil, begin, have, nil, nil, true)
		if got := notes(p); got != tt.want || !p.Empty() || !reflect.DeepEqual(next, have.Data) {
			t.Errorf("%s: got %q, steps %q, %v; want %q", tt.have, got, whats(p), next, tt.want)
		}
		for _, d := range p.Drift {
			if !strings.HasPrefix(d.Why, "a new cluster begins with ") {
				t.Errorf("%s: %s is told with %q", tt.have, d.What, d.Why)
			}
		}
	}
}

func TestDescriptions(t *testing.T) {
	contexts := map[string]string{"max_connections": "postmaster", "work_mem": "user"}
	was := spec.Node{Member: "a-1", Backup: spec.Backup{Repo: "/b", Times: []string{"00 01 * * 1 full"}, Repository: spec.Repository{Full: 2}}, Postgres: spec.Postgres{
		Parameters: map[string]string{"work_mem": "4MB", "gone": "1"},
		HBA:        []spec.AccessRule{{Lines: []string{"host a", "host b"}}, {Role: "replica", Lines: []string{"host c"}}},
	}}
	for _, tt := range []struct {
		name   string
		differ func(*spec.Node)
		want   string
		risk   Risk
	}{
		{"nothing", func(*spec.Node) {}, "", Safe},
		{"parameters", func(n *spec.Node) { n.Postgres.Parameters = map[string]string{"work_mem": "5MB"} }, "set gone, work_mem of member a-1", Reload},
		{"for a restart", func(n *spec.Node) {
			n.Postgres.Parameters = map[string]string{"work_mem": "4MB", "gone": "1", "max_connections": "9"}
		}, "set max_connections of member a-1", Restart},
		{"rules", func(n *spec.Node) {
			n.Postgres.HBA = []spec.AccessRule{{Lines: []string{"host a", "host d"}}, {Lines: []string{"host c"}}}
		}, "change 4 lines of pg_hba.conf of member a-1", Reload},
		{"their order", func(n *spec.Node) {
			n.Postgres.HBA = []spec.AccessRule{{Lines: []string{"host b", "host a"}}, n.Postgres.HBA[1]}
		}, "change the order of pg_hba.conf of member a-1", Reload},
		{"services", func(n *spec.Node) { n.Gateway.Listen = "x"; n.Pool.Mode = "session" }, "change member a-1: services, pool", Restart},
		{"pooler's rules", func(n *spec.Node) { n.Pool.HBA = []spec.AccessRule{{Lines: []string{"x"}}} }, "change 1 line of its pooler's access rules of member a-1", Restart},
		{"users of the pool", func(n *spec.Node) { n.Objects.Roles = []spec.Role{{Name: "x", PoolLimit: 3}} }, "change member a-1: users and databases of the pool", Restart},
		{"an administrator whom nobody declared", func(n *spec.Node) { n.Objects.Admin, n.Objects.Monitor = "dba", "looks" }, "", Safe},
		{"one who is declared", func(n *spec.Node) {
			n.Objects.Admin, n.Objects.Roles = "dba", []spec.Role{{Name: "dba"}}
		}, "change member a-1: users and databases of the pool", Restart},
		{"a user's time at the pool", func(n *spec.Node) {
			n.Objects.Roles = []spec.Role{{Name: "x", PoolParameters: map[string]string{"query_timeout": "3"}}}
		}, "change member a-1: users and databases of the pool", Restart},
		{"databases of the pool", func(n *spec.Node) { n.Objects.Databases = []spec.Database{{Name: "x", PoolSize: new(3)}} }, "change member a-1: users and databases of the pool", Restart},
		{"settings of the pool", func(n *spec.Node) { n.Pool.Parameters = map[string]string{"query_timeout": "3"} }, "change member a-1: pool", Restart},
		{"when backups are made", func(n *spec.Node) { n.Backup.Times, n.Backup.Drill = []string{"00 02 * * * full"}, "0 4 * * 6" }, "set pg_crontab, pgbackrest_drill of member a-1", Safe},
		{"what stays of them, and where", func(n *spec.Node) { n.Backup.ByTime, n.Backup.Copies = true, 3 }, "set retention_full of member a-1\nchange member a-1: backup", Safe},
		{"no backups", func(n *spec.Node) { n.Backup = spec.Backup{} }, "change member a-1: backup", Safe},
		{"agent", func(n *spec.Node) { n.Agent.Tags = map[string]any{"nosync": true} }, "change member a-1: tags", Safe},
		{"something new", func(n *spec.Node) { n.Postgres.Bin = "/elsewhere" }, "change member a-1: what else describes it", Safe},
		{"what is no node's", func(n *spec.Node) { n.Objects.Schemas = []string{"x"} }, "", Safe},
	} {
		now := was
		tt.differ(&now)
		p := Node(&was, now, contexts)
		if whats(p) != tt.want || p.Risk() != tt.risk {
			t.Errorf("%s: %q, %s; want %q, %s", tt.name, whats(p), p.Risk(), tt.want, tt.risk)
		}
	}
	later := was
	later.Backup.Times = nil
	if s := Node(&was, later, nil).Steps; len(s) != 1 || !slices.Equal(s[0].Settings, []Setting{{"pg_crontab", "00 01 * * 1 full", ""}}) {
		t.Errorf("no backups by themselves: %+v", s)
	}
	if p := Node(nil, was, nil); whats(p) != "make member a-1 on host " {
		t.Errorf("a new one: %s", whats(p))
	}
	up, down := []Setting{{"max_connections", "100", "200"}}, []Setting{{"max_connections", "200", "100"}}
	p := Pending(map[string][]Setting{"c": down, "a": up, "b": up}, "a")
	if whats(p) != "restart member b\nrestart member c\nrestart member a" || p.Steps[2].InPlace {
		t.Errorf("restarts: %+v", p)
	}
	p = Pending(map[string][]Setting{"c": down, "a": down, "b": down}, "b")
	if whats(p) != "restart member b\nrestart member a\nrestart member c" || !p.Steps[0].InPlace {
		t.Errorf("restarts for less: %+v", p)
	}
}
