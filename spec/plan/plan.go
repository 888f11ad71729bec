// Package plan is the difference between what is declared of a cluster and what
// is there, as steps in the order in which they are safe to take.
//
// It is a pure function of both: who reads catalogs, the store and files is
// above it (spec/apply, control), and so is who takes the steps. Every step has
// its exact SQL or settings, what it can cost, and why. What the declaration
// does not know is drift: it is told and left alone, unless Want.Prune asks for
// its removal. Names are always quoted, passwords never in a plan. Statements
// follow Pigsty's (roles/pgsql/templates/pg-user.sql, pg-db.sql,
// pg-init-template.sql).
package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"howdah/pg"
	"howdah/spec"
)

// A Risk is the worst that a step can cost. They are in their order.
type Risk string

// The risks.
const (
	Safe        Risk = "safe"        // nobody notices
	Reload      Risk = "reload"      // in force at once, for whoever is connected too
	Restart     Risk = "restart"     // something starts anew: sessions end
	Rewrite     Risk = "rewrite"     // data are copied, and whoever needs them waits
	Destructive Risk = "destructive" // data or rights are gone after it
)

var risks = []Risk{Safe, Reload, Restart, Rewrite, Destructive}

// Over says whether r is worse than o.
func (r Risk) Over(o Risk) bool { return slices.Index(risks, r) > slices.Index(risks, o) }

// A Statement is one of SQL. What it may not show it has in words; whoever runs
// it puts that in.
type Statement struct {
	Text     string
	Password string // name of a role: Text ends in Hidden, in place of what is stored of its password
	Baseline string // name of a database: Text stands for the SQL that the database begins with
}

// Hidden stands for what a server stores of a password.
const Hidden = "'***'"

func (s Statement) String() string { return s.Text }

// MarshalJSON writes the text.
func (s Statement) MarshalJSON() ([]byte, error) { return json.Marshal(s.Text) }

// A Setting is one that changes; an empty From was not there, an empty To goes.
type Setting struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// A Step is one thing to do. It is harmless to do it again.
type Step struct {
	Object   string      `json:"object"` // role app, database app, configuration, member pg-test-1
	What     string      `json:"what"`   // begins with a verb: make role app
	Risk     Risk        `json:"risk"`
	Why      string      `json:"why"`
	Database string      `json:"database,omitempty"` // where its SQL runs; "": postgres
	SQL      []Statement `json:"sql,omitempty"`      // in one transaction
	Settings []Setting   `json:"settings,omitempty"`
	Lines    []string    `json:"lines,omitempty"`  // of a file: "+host …", "-host …"
	Member   string      `json:"member,omitempty"` // whose it is
	Makes    bool        `json:"-"`                // the object's later steps are for nothing without it
	Alone    bool        `json:"-"`                // its statements can not be in a transaction
	InPlace  bool        `json:"-"`                // a restart of who leads, without a switchover before
}

// Done is what there is to say after it: made role app.
func (s Step) Done() string {
	verb, rest, _ := strings.Cut(s.What, " ")
	if past, ok := done[verb]; ok {
		return past + " " + rest
	}
	return s.What
}

// done are the verbs with which What may begin.
var done = map[string]string{
	"make": "made", "drop": "dropped", "change": "changed", "set": "set", "reset": "reset", "grant": "granted", "revoke": "revoked",
	"give": "gave", "fill": "filled", "open": "opened", "say": "said", "let": "let", "move": "moved", "update": "updated",
	"shut": "shut", "describe": "described", "restart": "restarted", "remove": "removed", "forget": "forgot", "continue": "continued", "start": "started",
}

// A Note is a difference that no step is for.
type Note struct {
	Object string `json:"object"`
	What   string `json:"what"`
	Why    string `json:"why,omitempty"`
}

// A Plan is all that there is to do, and to know.
type Plan struct {
	Steps   []Step   `json:"steps"`
	Drift   []Note   `json:"drift"`   // what nobody declared
	Cannot  []Note   `json:"cannot"`  // what is otherwise than declared and can not be changed
	Missing []string `json:"missing"` // extensions that the server's installation has not
}

// Empty says that there is nothing to do.
func (p Plan) Empty() bool { return len(p.Steps) == 0 }

// Risk is the worst of its steps'.
func (p Plan) Risk() Risk {
	worst := Safe
	for _, s := range p.Steps {
		if s.Risk.Over(worst) {
			worst = s.Risk
		}
	}
	return worst
}

// Add puts another plan behind it.
func (p *Plan) Add(o Plan) {
	p.Steps = append(p.Steps, o.Steps...)
	p.Drift = append(p.Drift, o.Drift...)
	p.Cannot = append(p.Cannot, o.Cannot...)
	for _, m := range o.Missing {
		if !slices.Contains(p.Missing, m) {
			p.Missing = append(p.Missing, m)
		}
	}
}

// A Want is what is declared of a server.
type Want struct {
	Objects spec.Objects
	Prune   bool // what nobody declared is to go
}

// Server is the difference between what is declared of a server and what is
// there: roles and what they are members of, what new databases begin with,
// databases and what is in them; at last what is to go.
func Server(w Want, h Have) Plan {
	p, _ := server(w, h)
	return p
}

// server returns too what is there once the plan is carried out.
func server(w Want, h Have) (Plan, Have) {
	p := &planner{Want: w, have: h.clone()}
	p.Objects.Roles = Merged(p.Objects.Roles)
	p.privileges()
	p.roles()
	p.defaults()
	p.databases()
	for _, r := range p.Objects.Roles { // now that nothing declared needs them
		if r.Absent {
			p.dropRole(r, "it is declared absent")
		}
	}
	p.drift()
	return p.plan, p.have
}

type planner struct {
	Want
	have   Have // after the steps so far
	plan   Plan
	grants []spec.Privilege // default ones that can be given
	named  map[string]bool  // roles that the declaration names
}

func (p *planner) step(s Step) { p.plan.Steps = append(p.plan.Steps, s) }

func (p *planner) cannot(object, what, why string) {
	p.plan.Cannot = append(p.plan.Cannot, Note{object, what, why})
}

// sql are statements without anything hidden.
func sql(texts ...string) []Statement {
	var all []Statement
	for _, t := range texts {
		all = append(all, Statement{Text: t})
	}
	return all
}

// privileges reads the default ones once.
func (p *planner) privileges() {
	for _, text := range p.Objects.Privileges {
		g, err := spec.ParsePrivilege(text)
		if err != nil {
			p.cannot("default privileges", "grant what "+quote(text)+" means", err.Error())
			continue
		}
		p.grants = append(p.grants, g)
	}
}

func quote(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// settings are the statements that make the parameters of a role or a database
// those that are declared, and what they change. Others that it has stay.
func settings(target string, want map[string]string, have map[string]string) (texts []Statement, changed []Setting) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value := want[key]
		old, set := have[key]
		switch {
		case strings.EqualFold(value, "default"):
			if set {
				texts = append(texts, sql("ALTER "+target+" RESET "+parameter(key))...)
				changed = append(changed, Setting{key, old, ""})
				delete(have, key)
			}
		case !set || !sameSetting(key, old, value):
			texts = append(texts, sql("ALTER "+target+" SET "+parameter(key)+" = "+settingValue(key, value))...)
			changed = append(changed, Setting{key, old, value})
			have[key] = value
		}
	}
	return texts, changed
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
	for _, item := range items(value) {
		all = append(all, pg.QuoteLiteral(item))
	}
	if len(all) == 0 {
		return "''"
	}
	return strings.Join(all, ", ")
}

// items are the elements of a list, without their quotes.
func items(list string) []string {
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
		return slices.Equal(items(a), items(b))
	}
	return a == b
}

// names are those of changed settings, in a few words.
func names(changed []Setting) string {
	var all []string
	for _, s := range changed {
		all = append(all, s.Name)
	}
	return few(all)
}

// few lists what it can in a line.
func few(all []string) string {
	const most = 5
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return strings.Join(all, ", ")
}
