package control

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"howdah/playground"
	"howdah/postgres"
	"howdah/postgres/conf"
	"howdah/problem"
	"howdah/spec"
	"howdah/spec/apply"
	"howdah/spec/declare"
	"howdah/spec/plan"
)

// A Declaration is the inventory of what is.
type Declaration struct {
	Text string
	// LeftOut is what an inventory would change if it had it: it stays, as drift.
	LeftOut []string
	// Otherwise is what a plan of the inventory would change still.
	Otherwise []string
}

// written is what messages call an inventory that is in no file yet.
const written = "(the inventory of what is)"

// Declare writes the inventory of clusters that exist, and finds out what a plan of it
// would change: nothing, but for what no inventory can say.
func (h House) Declare(ctx context.Context, names ...string) (Declaration, error) {
	var d Declaration
	if len(names) == 0 {
		names = h.Clusters()
	}
	if len(names) == 0 {
		_, err := h.Name("")
		return d, err
	}
	machine, err := h.share()
	if err != nil {
		return d, err
	}
	var all []declare.Cluster
	known := map[string]bool{} // database NAME of cluster NAME, that somebody declared
	for _, name := range names {
		c, err := h.asIs(ctx, name)
		if err != nil {
			return d, err
		}
		c.Machine = machine
		for _, o := range c.Nodes[0].Objects.Databases {
			known[name+" database "+o.Name] = true
		}
		all = append(all, c)
	}
	if all[0].Implied, err = h.implied(); err != nil {
		return d, err
	}
	for {
		d.Text = declare.Write(all...)
		inv, err := parseInventory(written, []byte(d.Text), &teller{dir: h.Dir, refuse: errors.New("what a cluster has names no command")}, func(*spec.World) {})
		if err != nil {
			return d, err
		}
		r, err := h.Review(ctx, inv, Choice{})
		if err != nil {
			return d, err
		}
		d.Otherwise = nil
		out := map[string]bool{}
		for _, c := range r.Clusters {
			for _, s := range c.Steps {
				object, _, _ := strings.Cut(s.Object, ", ")
				if key := c.Cluster + " " + object; strings.HasPrefix(object, "database ") && !known[key] {
					out[key] = true
					continue
				}
				d.Otherwise = append(d.Otherwise, c.Cluster+": "+s.What)
			}
			for _, n := range c.Cannot {
				d.Otherwise = append(d.Otherwise, c.Cluster+": "+n.Object+": "+n.What)
			}
			i := slices.IndexFunc(all, func(a declare.Cluster) bool { return a.Nodes[0].Cluster == c.Cluster })
			if i >= 0 && len(out) > 0 {
				all[i].Have.Databases = maps.Clone(all[i].Have.Databases)
				maps.DeleteFunc(all[i].Have.Databases, func(name string, _ plan.Database) bool { return out[c.Cluster+" database "+name] })
			}
		}
		if len(out) == 0 {
			return d, nil
		}
		d.LeftOut = append(d.LeftOut, slices.Sorted(maps.Keys(out))...)
	}
}

// asIs looks at a cluster, whose leader has to be on this machine.
func (h House) asIs(ctx context.Context, name string) (d declare.Cluster, err error) {
	c, err := h.Open(name)
	if err != nil {
		return d, err
	}
	defer c.Close()
	s, err := c.State(ctx)
	if err != nil {
		return d, err
	}
	for _, member := range s.Names() {
		if _, here := c.node(member); !here {
			return d, &problem.Error{
				Code: "member-elsewhere", What: "cannot write down cluster " + name, Why: member + " is on another machine, and what it is described as is there",
				Do: "use the inventory that the machines have, in /etc/howdah",
			}
		}
	}
	n, err := c.leaderHere(ctx)
	if err != nil {
		return d, err
	}
	o, err := order(n, nil)
	if err != nil {
		return d, err
	}
	d.Nodes = c.Nodes
	slices.SortStableFunc(d.Nodes, bySeq)
	if d.Have, d.Verifiers, err = apply.AsIs(ctx, o); err != nil {
		return d, err
	}
	return d, nil
}

// bySeq sorts members as an inventory has them: by the number behind their cluster's name.
func bySeq(a, b spec.Node) int {
	if len(a.Member) != len(b.Member) {
		return len(a.Member) - len(b.Member)
	}
	return strings.Compare(a.Member, b.Member)
}

// share is what each server of this house may count on.
func (h House) share() (conf.Machine, error) {
	m, err := postgres.Machine(h.Dir)
	if err != nil {
		return m, err
	}
	nodes, err := playground.Nodes(h.Dir)
	plays := err == nil
	if !plays {
		if nodes, err = h.all(); err != nil {
			return m, err
		}
	}
	servers := 0
	for _, n := range nodes {
		if n.Postgres.Data != "" {
			servers++
		}
	}
	m = m.Share(servers)
	if plays { // its servers keep little of their log, however large the disk is
		m.DiskSize = 0
	}
	return m, nil
}

// implied says that etcd is where an inventory without a group etcd has it: on the
// first one or three hosts, or where it was left when servers did.
func (h House) implied() (bool, error) {
	nodes, err := playground.Nodes(h.Dir)
	if err != nil {
		return false, nil
	}
	var hosts, carry []string
	for _, n := range nodes {
		if n.Postgres.Data == "" {
			if n.Etcd.Member != "" && n.Cluster != "etcd" {
				return true, nil
			}
			continue
		}
		if !slices.Contains(hosts, n.Host) {
			hosts = append(hosts, n.Host)
		}
	}
	for _, n := range nodes {
		if n.Etcd.Member != "" {
			carry = append(carry, n.Host)
		}
	}
	first := min(len(hosts), 1)
	if len(hosts) >= 3 {
		first = 3
	}
	return slices.Equal(carry, hosts[:first]), nil
}
