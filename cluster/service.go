package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Service is a port that leads to members by what they are now. The fields
// are those of an entry of pg_services in an inventory of Pigsty's, after its
// defaults were applied.
type Service struct {
	Name     string `json:"name"`     // "primary"; its listener is called <cluster>-<name>
	Port     int    `json:"port"`     // where clients connect
	IP       string `json:"ip"`       // address to listen on; "*": the node's every address
	Dest     string `json:"dest"`     // default, postgres, pgbouncer, or a port of the member
	Check    string `json:"check"`    // the health path of the agent that a member must pass: "/primary"
	Selector string `json:"selector"` // JMESPath over the members' variables: who belongs
	Backup   string `json:"backup"`   // JMESPath: who belongs only while no other is left; "": nobody
	MaxConn  int    `json:"maxconn"`  // clients at once
	Balance  string `json:"balance"`  // roundrobin, leastconn …
	Options  string `json:"options"`  // default-server options as HAProxy has them; "": of the timing plan
}

// Destinations of a service that are not a port.
const (
	DestDefault  = "default" // whatever pg_default_service_dest says
	DestPostgres = "postgres"
	DestPool     = "pgbouncer"
)

// DefaultServices are the four that every cluster has unless its inventory
// says otherwise (Pigsty's pg_default_services).
func DefaultServices() []Service {
	base := Service{IP: "*", Selector: "[]", Dest: DestDefault, MaxConn: 5000, Balance: "roundrobin"}
	primary, replica, direct, offline := base, base, base, base
	primary.Name, primary.Port, primary.Check = "primary", 5433, "/primary"
	replica.Name, replica.Port, replica.Check = "replica", 5434, "/read-only"
	replica.Backup = "[? pg_role == `primary` || pg_role == `offline` ]"
	direct.Name, direct.Port, direct.Check, direct.Dest = "default", 5436, "/primary", DestPostgres
	offline.Name, offline.Port, offline.Check, offline.Dest = "offline", 5438, "/replica", DestPostgres
	offline.Selector = "[? pg_role == `offline` || pg_offline_query ]"
	offline.Backup = "[? pg_role == `replica` && !pg_offline_query]"
	return []Service{primary, replica, direct, offline}
}

// CheckPaths are the health paths by which services choose members.
var CheckPaths = []string{
	"/", "/primary", "/master", "/read-write", "/leader", "/standby-leader", "/replica", "/read-only", "/health", "/sync", "/synchronous",
	"/quorum", "/async", "/asynchronous", "/read-only-quorum", "/read-only-sync", "/read-only-synchronous",
}

// Answered says that an agent knows a check's path, matched as Patroni does it: some
// words anywhere in it, the others as the whole of it.
func Answered(check string) bool {
	path, _, _ := strings.Cut(check, "?")
	for _, word := range []string{"leader", "master", "primary", "read-write", "replica", "health"} {
		if strings.Contains(path, word) {
			return true
		}
	}
	return slices.Contains(CheckPaths, path) || path == "" ||
		strings.Contains(path, "read-only") && !strings.Contains(path, "sync") && !strings.Contains(path, "quorum")
}

// Limits are what the options of a service say about how much a server takes.
// The zero Limits limit nothing.
type Limits struct {
	MaxConn   int           // sessions of one server at once
	MaxQueue  int           // clients that wait for each server that is full; more are sent away
	SlowStart time.Duration // after it came (back) up a server gets less than its share for so long
}

// Limits reads the options that a gateway has a use for. How often HAProxy is to
// check, and after how many checks a server is up or down, is not among them: a
// gateway knows what its members are without asking.
func (s Service) Limits() (Limits, error) {
	var l Limits
	words := strings.Fields(s.Options)
	for i, word := range words {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		var err error
		switch word {
		case "maxconn":
			l.MaxConn, err = strconv.Atoi(value)
		case "maxqueue":
			l.MaxQueue, err = strconv.Atoi(value)
		case "slowstart":
			l.SlowStart, err = haproxyTime(value)
		}
		if err != nil || l.MaxConn < 0 || l.MaxQueue < 0 || l.SlowStart < 0 {
			return Limits{}, fmt.Errorf("%s %q in options is no number that HAProxy would take", word, value)
		}
	}
	return l, nil
}

// haproxyTime reads a time as HAProxy writes it: without a unit in milliseconds.
func haproxyTime(text string) (time.Duration, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Millisecond, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}
