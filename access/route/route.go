// Package route says which members a service leads to now, and why.
//
// It is a pure function of a cluster's picture, the services and members of its
// inventory, and what a person set by hand. Selectors are asked over the
// members' variables with their live roles laid over, and a member is in only
// while it passes the check path that HAProxy would ask of Patroni's REST API:
// the picture knows what the API would answer. It opens no connection and
// balances nothing.
//
// Sources: the rules of pg_services in Pigsty (pigsty.io, "Service"),
// HAProxy's configuration manual ("backup", "weight"), Patroni's REST API
// ("Health check endpoints").
package route

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/problem"
	"howdah/spec"
)

// A Table is one cluster's services, ready to be asked again and again.
type Table struct {
	cluster  string
	dest     string
	pool     int
	services []service
	members  []member
}

type service struct {
	cluster.Service
	check    check
	in       selector
	backup   selector // zero: none
	fallback bool     // there is a backup selector
	bad      string   // why nobody serves it
}

type member struct {
	name string
	vars map[string]any
}

// Compile reads a front's services and members. Its error names each service that
// is wrong, and the field. Nobody serves that one; the table has the others.
func Compile(f spec.Front) (*Table, error) {
	t := &Table{cluster: f.Cluster, dest: f.Dest, pool: f.PoolPort}
	var wrongs error
	for _, s := range f.Services {
		c, err := compile(f, s)
		if err != nil {
			c.bad = err.Error()
			wrongs = errors.Join(wrongs, err)
		}
		t.services = append(t.services, c)
	}
	for _, m := range f.Members {
		// Numbers must be those of JSON, whoever made the variables.
		text, err := json.Marshal(m.Vars)
		if err != nil {
			return nil, wrong(f, "member "+m.Name, "its variables can not be written as JSON", err)
		}
		vars := map[string]any{}
		if err := json.Unmarshal(text, &vars); err != nil {
			return nil, wrong(f, "member "+m.Name, "its variables are no object", err)
		}
		t.members = append(t.members, member{m.Name, vars})
	}
	return t, wrongs
}

func compile(f spec.Front, s cluster.Service) (service, error) {
	c := service{Service: s, check: parseCheck(s.Check)}
	where := "service " + s.Name
	switch s.Dest {
	case "", cluster.DestDefault, cluster.DestPostgres, cluster.DestPool:
	default:
		if n, err := strconv.Atoi(s.Dest); err != nil || n < 1 || n > 65535 {
			return c, wrong(f, where, fmt.Sprintf("dest is %q, not default, postgres, pgbouncer or a port", s.Dest), nil)
		}
	}
	if !slices.Contains(Balances, c.Balance()) {
		return c, wrong(f, where, fmt.Sprintf("balance is %q, not one of %s", s.Balance, strings.Join(Balances, ", ")), nil)
	}
	var err error
	if c.in, err = compileSelector(s.Selector); err != nil {
		return c, wrong(f, where, fmt.Sprintf("selector %q is no JMESPath expression", s.Selector), err)
	}
	if s.Backup != "" {
		c.fallback = true
		if c.backup, err = compileSelector(s.Backup); err != nil {
			return c, wrong(f, where, fmt.Sprintf("backup %q is no JMESPath expression", s.Backup), err)
		}
	}
	return c, nil
}

func wrong(f spec.Front, where, why string, err error) error {
	return &problem.Error{
		Code: "service-invalid", What: "cannot use " + where + " of cluster " + f.Cluster, Why: why,
		Do: "correct it in the inventory (pg_services, pg_default_services)", Err: err,
	}
}

// Balances are the ways to choose among members, by HAProxy's names.
var Balances = []string{"roundrobin", "static-rr", "leastconn", "first", "source", "random"}

// Balance is the service's way to choose; HAProxy's default if it has none.
func (s service) Balance() string {
	name, _, _ := strings.Cut(cmp.Or(s.Service.Balance, "roundrobin"), "(") // random(2)
	return name
}

// A Mode is what a person set for one server of one service, in HAProxy's words.
type Mode string

// Modes.
const (
	Ready Mode = ""      // as the check says
	Drain Mode = "drain" // sessions stay, no new ones
	Maint Mode = "maint" // not even checked
)

// A Setting is what a person set by hand.
type Setting struct {
	Service string
	Member  string
	Mode    Mode
	Weight  *int // nil: pg_weight
}

// A View is everything that routes follow from.
type View struct {
	Known    bool // a picture was ever seen
	Picture  cluster.Picture
	Settings []Setting
	LetGo    int64 // generation of a drain for which clients were held long enough
}

// A Service is where one port leads.
type Service struct {
	Name     string `json:"name"`
	Leading  bool   `json:"leading"` // its check asks for the leader: nobody else will do
	Balance  string `json:"balance"`
	Err      string `json:"error,omitempty"` // a selector that failed on these members
	Backends []Backend
}

// A Backend is one member as a server of a service.
type Backend struct {
	Member string `json:"member"`
	Addr   string `json:"addr"` // host:port; "" while it does not say where it is
	Backup bool   `json:"backup"`
	Weight int    `json:"weight"`
	Mode   Mode   `json:"mode"`
	Up     bool   `json:"up"`      // it passes the check
	Held   bool   `json:"held"`    // it leads, and is about to hand over: what goes on there goes on, and nothing begins
	Epoch  int64  `json:"epoch"`   // of its reign, if it is the leader; else 0
	Before int64  `json:"before"`  // the epoch that this one continues: the key only moved to another lease; else 0
	API    string `json:"api_url"` // of its agent
	Trail  string `json:"trail"`   // why it is in or out
}

// Open says that new sessions may go there.
func (b Backend) Open() bool {
	return b.Up && !b.Held && b.Mode == Ready && b.Weight > 0 && b.Addr != ""
}

// Reigns says that a session opened under that epoch (0: of no leader) has lost
// nothing: the member leads without a break, or never did.
func (b Backend) Reigns(epoch int64) bool {
	return epoch == 0 || b.Epoch == epoch || b.Epoch != 0 && b.Before == epoch
}

// Usable are the backends that a new session is spread over: every open main
// one, else the first open backup.
func (s Service) Usable() []Backend {
	var in []Backend
	for _, b := range s.Backends {
		if !b.Backup && b.Open() {
			in = append(in, b)
		}
	}
	if len(in) > 0 {
		return in
	}
	for _, b := range s.Backends {
		if b.Backup && b.Open() {
			return []Backend{b}
		}
	}
	return nil
}

// Backend is the one of member.
func (s Service) Backend(member string) (Backend, bool) {
	for _, b := range s.Backends {
		if b.Member == member {
			return b, true
		}
	}
	return Backend{}, false
}

// Routes says where every service leads under v, in the order of the inventory.
func (t *Table) Routes(v View) []Service {
	all := t.candidates(v.Picture)
	var out []Service
	for _, s := range t.services {
		out = append(out, s.route(t, all, v))
	}
	return out
}

// A candidate is a member as selectors see it.
type candidate struct {
	name string
	vars map[string]any
	row  cluster.PictureMember
	here bool // it is in the picture
}

// Variables that the picture knows better than the inventory.
const (
	varRole = "pg_role"
	varLag  = "pg_lag"      // bytes behind the leader; absent: unknown
	varName = "pg_instance" // the member's name
)

// candidates are the members of the inventory in its order, then those of whom
// only the picture knows.
func (t *Table) candidates(p cluster.Picture) []candidate {
	var all []candidate
	for _, m := range t.members {
		row, here := p.Member(m.name)
		all = append(all, candidate{m.name, lay(m.vars, m.name, row, here), row, here})
	}
	for _, row := range p.Members {
		known := slices.ContainsFunc(t.members, func(m member) bool { return m.name == row.Name })
		if !known {
			all = append(all, candidate{row.Name, lay(nil, row.Name, row, true), row, true})
		}
	}
	return all
}

// lay lays what a member is now over what the inventory says of it.
func lay(vars map[string]any, name string, row cluster.PictureMember, here bool) map[string]any {
	live := map[string]any{}
	for k, v := range vars {
		live[k] = v
	}
	live[varName] = name
	if !here {
		return live
	}
	static, _ := live[varRole].(string)
	switch {
	case row.Leads():
		live[varRole] = "primary"
	case static == "" || static == "primary":
		live[varRole] = "replica"
	}
	if lag, known := row.Lag(); known {
		live[varLag] = float64(lag)
	}
	return live
}

// weight is pg_weight: HAProxy's range, and its default.
func (c candidate) weight() int {
	if w, ok := c.vars["pg_weight"].(float64); ok {
		return min(max(int(w), 0), 256)
	}
	return 100
}

func (s service) route(t *Table, all []candidate, v View) Service {
	out := Service{Name: s.Name, Leading: s.check.leading(), Balance: s.Balance(), Err: s.bad}
	if s.bad != "" {
		return out
	}
	in, err := s.in.members(all)
	if err != nil {
		out.Err = "selector: " + err.Error()
	}
	var backup map[string]bool
	if s.fallback {
		if backup, err = s.backup.members(all); err != nil {
			out.Err = strings.TrimPrefix(out.Err+"; backup: "+err.Error(), "; ")
		}
	}
	// Members that only the backup selector names are appended after the others.
	for _, last := range []bool{false, true} {
		for _, c := range all {
			if in[c.name] == last || last && !backup[c.name] {
				continue
			}
			out.Backends = append(out.Backends, s.backend(t, c, backup[c.name], v))
		}
	}
	return out
}

// backend is c as a server of s.
func (s service) backend(t *Table, c candidate, backup bool, v View) Backend {
	b := Backend{Member: c.name, Backup: backup, Weight: c.weight(), API: c.row.APIURL}
	var why string
	switch {
	case !v.Known:
		why = "store=unseen"
	case !c.here:
		why = "member=absent"
	default:
		b.Up, why = s.check.passes(v.Picture, c.row)
		if c.row.Host != "" {
			b.Addr = net.JoinHostPort(c.row.Host, strconv.Itoa(s.port(t, c.row)))
		} else {
			why += " address=unknown"
		}
	}
	// Also one that does not show itself: its key says it leads. Of a standby cluster
	// nobody has a right that could end.
	if v.Known && v.Picture.Leader == c.name && c.row.Role != cluster.LeadsStandby {
		b.Epoch, b.Before = v.Picture.Epoch, v.Picture.Before
	}
	if d := v.Picture.Drain; d != nil && d.Hold && d.From == c.name && d.Generation != v.LetGo {
		b.Held = true
	}
	for _, set := range v.Settings {
		if set.Service == s.Name && set.Member == c.name {
			b.Mode = set.Mode
			if set.Weight != nil {
				b.Weight = *set.Weight
			}
		}
	}
	trail := []string{"role=" + fmt.Sprint(c.vars[varRole])}
	if backup {
		trail = append(trail, "backup")
	}
	trail = append(trail, "check="+s.check.path, why)
	if b.Held {
		trail = append(trail, "draining")
	}
	if b.Mode != Ready {
		trail = append(trail, "set="+string(b.Mode))
	}
	if b.Weight == 0 {
		trail = append(trail, "weight=0")
	}
	verdict := "out"
	if b.Open() {
		verdict = "in"
	}
	b.Trail = strings.Join(trail, " ") + " -> " + verdict
	return b
}

// port is where the service goes on a member.
func (s service) port(t *Table, row cluster.PictureMember) int {
	dest := cmp.Or(s.Dest, cluster.DestDefault)
	if dest == cluster.DestDefault {
		dest = cmp.Or(t.dest, cluster.DestPool)
	}
	switch dest {
	case cluster.DestPostgres:
		return row.Port
	case cluster.DestPool:
		return cmp.Or(t.pool, row.Port)
	}
	n, _ := strconv.Atoi(dest)
	return n
}
