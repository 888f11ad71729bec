package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/problem"
	"howdah/secret"
)

// A World is all that an inventory asks for, with every value in its place and
// no placeholder left.
type World struct {
	File     string    `json:"file"`
	Form     string    `json:"form"` // pigsty or native
	Clusters []Cluster `json:"clusters"`
	Stores   []Store   `json:"etcd"`
	Beat     Beat      `json:"etcd_pace"` // of the stores
	Others   []Other   `json:"others"`
	Names    []Names   `json:"dns"`     // the name servers
	Metrics  []Metrics `json:"metrics"` // the stores of metrics
	LogsTo   []LogsTo  `json:"logs_to"` // the log stores
	Remotes  []Remote  `json:"remotes,omitempty"`
	Hosts    []Host    `json:"hosts"` // the machines that carry any of it, in the order of the file
	Findings []Finding `json:"findings"`
	Mentions []Mention `json:"-"`
}

// A Mention is a name in an inventory that only PostgreSQL can tell whether it knows.
type Mention struct {
	Kind    string // a parameter, a library or an extension
	Cluster string
	Of      string // whose it is: "", "user app", "database app"
	Name    string
	Value   string // of a parameter
	Line    int
}

// Kinds of mentions.
const (
	ParameterName = "parameter"
	LibraryName   = "library"
	ExtensionName = "extension"
)

// A Cluster is one PostgreSQL cluster.
type Cluster struct {
	Name      string                 `json:"name"`
	Namespace string                 `json:"namespace"` // "/pg"
	Major     int                    `json:"major"`     // 0: the newest on the machine
	Members   []Member               `json:"members"`   // by pg_seq
	Timers    Timers                 `json:"timers"`
	Config    map[string]any         `json:"config"`    // what its dynamic configuration is declared to have
	Begin     map[string]any         `json:"begin"`     // what it begins with besides: nobody has said anything else
	PoolPort  int                    `json:"pool_port"` // 0: no pooler
	Pool      Pool                   `json:"pool"`      // what its poolers have in common
	Dest      string                 `json:"dest"`
	Services  []cluster.Service      `json:"services"`
	Provider  string                 `json:"provider"` // group of the hosts that carry the services; "": the members
	Carriers  []string               `json:"carriers"` // those hosts
	REST      REST                   `json:"rest"`     // of the agents; its files are each node's
	Page      Page                   `json:"page"`     // of the members' gateways
	VIP       string                 `json:"vip"`      // address/prefix that follows the leader; "": none
	Watchdog  Watchdog               `json:"watchdog,omitzero"`
	Suffix    string                 `json:"suffix"` // of its name in DNS
	Target    string                 `json:"target"` // what its name in DNS is: auto, primary, vip, none or an address
	Backup    Backups                `json:"backup"`
	Upstream  Upstream               `json:"upstream,omitzero"`     // the cluster that it begins by following; zero: none
	Origin    Origin                 `json:"restore_from,omitzero"` // the backup that it begins with; zero: it begins empty
	Objects   Objects                `json:"objects"`
	Secrets   map[string]secret.Text `json:"-"` // by name; env:NAME, file:PATH and command:PROGRAM are not looked up yet
	Settings  []Setting              `json:"settings"`
}

// An Upstream is the server of another cluster that a standby cluster follows.
type Upstream struct {
	Cluster string `json:"cluster,omitempty"` // whose it is, in the same inventory; "": of none here
	Host    string `json:"host"`
	Port    int    `json:"port"`
	Delay   string `json:"delay,omitempty"` // how far behind it is replayed, "1h"; "": not on purpose
}

// Follow are the clusters in an order in which each comes after the one that it follows.
func (w World) Follow() []Cluster {
	var all []Cluster
	done := map[string]bool{"": true}
	for _, c := range w.Clusters {
		done[c.Name] = false
	}
	for left := len(w.Clusters); left > 0; left-- { // a chain is no longer than that
		for _, c := range w.Clusters {
			if !done[c.Name] && done[c.Upstream.Cluster] {
				done[c.Name] = true
				all = append(all, c)
			}
		}
	}
	return all
}

// A Member is one server of a cluster.
type Member struct {
	Name       string            `json:"name"` // pg-test-1
	Host       string            `json:"host"`
	Port       int               `json:"port"`
	REST       int               `json:"rest"`
	Stats      int               `json:"stats"`    // the gateway's page
	Exporter   int               `json:"exporter"` // metrics of the server; 0: none
	Exporters  Exporters         `json:"exporters"`
	Role       string            `json:"role"`               // what pg_role says: where it begins
	Tags       map[string]any    `json:"tags"`               // Patroni's
	Delay      string            `json:"delay"`              // recovery_min_apply_delay; "": none
	User       string            `json:"user"`               // OS user
	Link       string            `json:"link"`               // interface of the virtual address; "auto": that of the host's own
	Watchdog   string            `json:"watchdog,omitempty"` // its device
	Tuning     Tuning            `json:"tuning"`             // what the template needs
	Parameters map[string]string `json:"parameters"`
	HBA        []AccessRule      `json:"hba"`
	PoolHBA    []AccessRule      `json:"pool_hba"`
	Vars       map[string]any    `json:"vars"` // for the services' selectors
	Settings   []Setting         `json:"settings"`
}

// Archive is the port where the other members read its repository: as pgBackRest's
// own server is read, and of several members on one host each has its own.
func (m Member) Archive() int { return 8432 + max(m.REST-8008, 0) }

// Exporters are the ports of a member's other metrics; 0: none.
type Exporters struct {
	Pool    int `json:"pool"`    // of its pools
	Backups int `json:"backups"` // of its repository
	Machine int `json:"machine"` // of its host
	Logs    int `json:"logs"`    // where its logs are read; 0: they are not kept
}

// Tuning chooses and feeds a template of server parameters; package
// postgres/conf has the formulas.
type Tuning struct {
	Template       string  `json:"template"`        // oltp, olap, crit, tiny; "": none
	MaxConnections int     `json:"max_connections"` // 0: as the template says
	SharedRatio    float64 `json:"shared_ratio"`    // of the memory
	Storage        string  `json:"storage"`         // SSD or HDD
	IO             string  `json:"io"`              // pg_io_method
	Libs           string  `json:"libs"`
	Pooled         bool    `json:"pooled"` // clients come through a pooler
}

// A Store is one member of etcd.
type Store struct {
	Name   string `json:"name"`
	Host   string `json:"host"`
	Client int    `json:"client"`
	Peer   int    `json:"peer"`
	Origin string `json:"origin"`

	Implied bool `json:"implied,omitempty"` // no group says which hosts carry it
}

// A Beat is how fast the members of a store are.
type Beat struct {
	Election  time.Duration `json:"election"`  // how long their leader may be silent; 0: Election
	Heartbeat time.Duration `json:"heartbeat"` // how often it says that it lives; 0: five times in an election
	Origin    string        `json:"origin"`
}

// A Host is a machine, and how a person comes to it by SSH.
type Host struct {
	Host    string `json:"host"`              // as everything else names it
	Address string `json:"address,omitempty"` // of its SSH server; "": the host's own
	Port    int    `json:"port,omitempty"`    // 0: 22
	User    string `json:"user,omitempty"`    // "": that of whoever asks

	Settings *Settings `json:"settings,omitempty"` // nil: nothing is said of the machine itself
}

// A Names is who keeps names on one host.
type Names struct {
	Host    string   `json:"host"`
	Port    int      `json:"port"`           // of the name server; 0: there is none
	File    string   `json:"file,omitempty"` // of hosts and their names; "": none
	Records []string `json:"records,omitempty"`
}

// A LogsTo is who is sent the logs of one host.
type LogsTo struct {
	Host string   `json:"host"`
	URLs []string `json:"urls"`
}

// A Metrics is the store of metrics of one host.
type Metrics struct {
	Name  string        `json:"name"` // of the node, where its host carries nothing else
	Host  string        `json:"host"`
	Port  int           `json:"port"`  // beside Prometheus's own
	Every time.Duration `json:"every"` // between two looks at a target
	Allow []string      `json:"allow"` // networks that may ask it
}

// A Remote is a server that Howdah does not manage: a host of ours tells its metrics.
type Remote struct {
	Host    string      `json:"asked_by"`
	Name    string      `json:"-"`    // of the node, where its host carries nothing else
	Port    int         `json:"port"` // where its metrics are, on that host
	Cluster string      `json:"cls"`
	Member  string      `json:"ins"`
	Address string      `json:"ip"` // where the server is
	URL     secret.Text `json:"-"`  // how it is reached
	Ask     Asking      `json:"ask"`
}

// Asking says which databases of a server are asked too, beside the first.
type Asking struct {
	Discover bool     `json:"discover"`
	Include  []string `json:"include,omitempty"`
	Exclude  []string `json:"exclude,omitempty"`
}

// An Other is a host without a server: it carries a store, leads clients to
// clusters, or keeps metrics.
type Other struct {
	Name  string `json:"name"`
	Host  string `json:"host"`
	Group string `json:"group"`
	Stats int    `json:"stats"`
	Page  Page   `json:"page"`

	Machine int `json:"machine"` // metrics of the host; 0: none
	Logs    int `json:"logs"`    // where its logs are read; 0: they are not kept

	Secrets map[string]secret.Text `json:"-"` // as a cluster has them
}

// A Setting is one resolved value and where it came from.
type Setting struct {
	Name   string `json:"name"`
	Value  any    `json:"value"`
	Origin string `json:"origin"` // default, file:line, or how it was derived
}

// Kinds of findings.
const (
	Problem      = "problem"        // the inventory cannot be used
	Warning      = "warning"        // it can, but this is likely not what was meant
	Later        = "not yet"        // known, but this version does nothing with it
	Inapplicable = "not applicable" // known, and there is nothing that it could apply to
)

// A Finding is what there is to say about one place of an inventory.
type Finding struct {
	Kind string `json:"kind"`
	Line int    `json:"line"` // 0: the whole file
	Text string `json:"text"`
	Do   string `json:"do,omitempty"`
}

// Place is file:line.
func (w World) Place(line int) string {
	if line == 0 {
		return w.File
	}
	return fmt.Sprintf("%s:%d", w.File, line)
}

// Say adds findings: the worst come first, then they are in the order of the file.
func (w *World) Say(all ...Finding) {
	w.Findings = append(w.Findings, all...)
	rank := map[string]int{Problem: 0, Warning: 1, Later: 2, Inapplicable: 3}
	slices.SortStableFunc(w.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Kind], rank[b.Kind]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	w.Findings = slices.Compact(w.Findings)
}

// mostProblems is how many problems one error lists: whoever has more has one that
// is everywhere, and reads no further.
const mostProblems = 100

// Err is every problem of the inventory in one error, or nil.
func (w World) Err() error {
	var lines []string
	for _, f := range w.Findings {
		if f.Kind != Problem {
			continue
		}
		line := w.Place(f.Line) + ": " + f.Text
		if f.Do != "" {
			line += "; " + f.Do
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil
	}
	do := "correct this line; nothing was changed"
	if len(lines) > 1 {
		do = fmt.Sprintf("correct these %d places; nothing was changed", len(lines))
	}
	if more := len(lines) - mostProblems; more > 0 {
		lines = append(lines[:mostProblems], fmt.Sprintf("and %d more", more))
	}
	return &problem.Error{
		Code: "inventory-invalid", What: "cannot use the inventory " + w.File,
		Why: strings.Join(lines, "\n"), Do: do,
	}
}
