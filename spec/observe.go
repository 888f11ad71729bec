package spec

import "time"

// Observe is the store of metrics: what a node gathers of every cluster of its
// world, and keeps. A node without it runs no such role.
type Observe struct {
	Listen   []string      `json:"listen"`          // host:port of its API; none: there is none
	Allow    []string      `json:"allow,omitempty"` // networks that may ask the API; none: everybody
	At       string        `json:"at,omitempty"`    // URL of the API of another node, which keeps the metrics of this one
	Console  string        `json:"console"`         // host:port of the page for people; "": there is none
	TLS      bool          `json:"tls,omitempty"`   // that page is served by the node's certificate
	Secrets  string        `json:"secrets"`         // file with the password of that page, called SecretConsole
	Data     string        `json:"data"`
	Every    time.Duration `json:"every"`  // between two looks at a target
	Keep     time.Duration `json:"keep"`   // how long samples stay
	Size     int64         `json:"size"`   // bytes that they may take
	Rules    string        `json:"rules"`  // directory of rules of one's own, beside those that ship
	Notify   []string      `json:"notify"` // URLs of Alertmanagers
	Tell     string        `json:"tell"`   // file that says who else is told of alerts; it need not be there
	Targets  []Target      `json:"targets"`
	Clusters []Observed    `json:"clusters"`
	Logs     []Logged      `json:"logs,omitempty"` // whose are read here
}

// On says that the node keeps metrics.
func (o Observe) On() bool { return len(o.Listen) > 0 }

// An Observed cluster is one whose state is told in metrics too.
type Observed struct {
	Cluster   string   `json:"cluster"`
	Namespace string   `json:"namespace"`
	Holders   []Holder `json:"holders"` // of its backups
	VIP       bool     `json:"vip"`     // it has a virtual address
}

// A Logged node is one whose logs are kept, and read from elsewhere.
type Logged struct {
	Cluster string `json:"cls"`
	Member  string `json:"ins"`
	Host    string `json:"ip"`
	URL     string `json:"url"`
}

// A Target is a place that tells metrics, with the labels that all of them get.
// An inventory's are there whether or not anybody answers: who is missed must
// have been expected.
type Target struct {
	Job     string `json:"job"` // pgsql, node, etcd
	Cluster string `json:"cls"`
	Member  string `json:"ins"`
	IP      string `json:"ip"`
	Address string `json:"address"` // host:port
	TLS     bool   `json:"tls"`
}

// Jobs of targets, as rules and dashboards know them.
const (
	JobServer = "pgsql" // server, agent, and what belongs to them
	JobNode   = "node"  // machine and gateway
	JobStore  = "etcd"
	JobRemote = "pgrds" // servers that are not ours
)
