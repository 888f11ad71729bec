package control

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/playground"
	"howdah/problem"
	"howdah/spec"
)

// Services that every cluster has unless its inventory says otherwise.
const (
	Primary = "primary"
	Replica = "replica"
)

// Services are the names of the cluster's services, as the gateways on this
// machine have them.
func (c *Cluster) Services() []string {
	var names []string
	for _, n := range c.carriers() {
		for _, s := range c.front(n).Services {
			if !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// carriers are the nodes on this machine whose gateways may have services of the
// cluster: its own, and those of others that share a host with them.
func (c *Cluster) carriers() []spec.Node { return slices.Concat(c.Nodes, c.beside) }

// front is this cluster's share of n's gateway.
func (c *Cluster) front(n spec.Node) spec.Front {
	for _, f := range n.Gateway.Fronts {
		if f.Cluster == c.Name {
			return f
		}
	}
	return spec.Front{}
}

// Ways are the ways into a service: one through the gateway of each node on
// this machine that has it, those of nodes that run first. Every one leads to
// the same members.
func (c *Cluster) Ways(service string) []Target {
	all := c.ways(service)
	for i := range all {
		all[i] = c.in(all[i])
	}
	return all
}

// ways are the same without who gets in.
func (c *Cluster) ways(service string) []Target {
	var up, down []Target
	for _, n := range c.carriers() {
		for _, s := range c.front(n).Services {
			if s.Name != service {
				continue
			}
			t := Target{Member: n.Member, Host: c.door(c.listens(n, s)), Port: s.Port}
			if playground.Stopped(n) {
				down = append(down, t)
			} else {
				up = append(up, t)
			}
		}
	}
	return append(up, down...)
}

// listens is the address of a service of n.
func (c *Cluster) listens(n spec.Node, s cluster.Service) string {
	if s.IP == "*" || s.IP == "0.0.0.0" || s.IP == "::" {
		return n.Address
	}
	return cmp.Or(s.IP, n.Address)
}

// Psql is the way into a service.
func (c *Cluster) Psql(ctx context.Context, service string) (Target, error) {
	ways := c.Ways(service)
	if !slices.ContainsFunc(c.carriers(), func(n spec.Node) bool { return !playground.Stopped(n) && len(c.front(n).Services) > 0 }) {
		if _, err := c.State(ctx); err != nil { // which tells of a cluster that is stopped
			return Target{}, err
		}
	}
	if len(ways) > 0 {
		return ways[0], nil
	}
	p := &problem.Error{
		Code: "service-unknown", What: "cannot connect to service " + service + " of cluster " + c.Name,
		Why: "no gateway on this machine has it; there is " + strings.Join(c.Services(), ", "),
		Do:  "name one of these with --service, or a member",
	}
	if len(c.Services()) == 0 {
		p.Why, p.Do = "no node of this machine has a gateway for it", "name a member instead: `howdah psql "+c.Name+" MEMBER`"
	}
	return Target{}, p
}

// in is t with who gets in there, and how.
func (c *Cluster) in(t Target) Target {
	t.User, t.Database, t.TLS = spec.Superuser, "postgres", c.onlyTLS()
	if access, err := c.Access(); err == nil {
		t.User, t.Database, t.Passfile = access.User, access.Database, access.Passfile
	}
	return t
}

// Through is a connection string that finds a service through whichever node
// answers. With reveal it holds the password; "": no gateway here has it.
func (c *Cluster) Through(a Access, service string, reveal bool) string {
	var hosts []string
	for _, t := range c.ways(service) {
		hosts = append(hosts, net.JoinHostPort(t.Host, strconv.Itoa(t.Port)))
	}
	if len(hosts) == 0 {
		return ""
	}
	u := url.URL{Scheme: "postgres", User: url.User(a.User), Host: strings.Join(hosts, ","), Path: "/" + a.Database}
	if reveal {
		u.User = url.UserPassword(a.User, a.Password.Reveal())
	}
	if c.onlyTLS() {
		u.RawQuery = "sslmode=" + onlyTLS
	}
	return u.String()
}
