// Package target says whom to ask for metrics: those of the inventory, and who
// has joined since, as the store tells.
//
// It is a pure function of both. A member of the inventory is a target for ever,
// because its silence is what the alerts are about; one that only the store
// knows is a target from the moment it joined until its record is removed.
package target

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/spec"
)

// Ports where a member's metrics are, unless the inventory says otherwise.
const (
	agent    = 8008
	exporter = 9630
)

// Of are the targets: declared, and those that states add to them. An address is
// asked once, whoever names it. They are sorted by job, cluster, member, address.
func Of(declared []spec.Target, states map[string]cluster.State) []spec.Target {
	all := slices.Clone(declared)
	known := map[string]bool{} // addresses
	told := map[string]bool{}  // members of clusters that the inventory has
	for _, t := range declared {
		known[t.Address] = true
		told[t.Cluster+"/"+t.Member] = true
	}
	add := func(t spec.Target) {
		if !known[t.Address] {
			known[t.Address] = true
			all = append(all, t)
		}
	}
	for name, s := range states {
		for _, m := range s.Members {
			if told[name+"/"+m.Name] {
				continue
			}
			host, _ := m.Host()
			t := spec.Target{Job: spec.JobServer, Cluster: name, Member: m.Name, IP: host}
			if u, err := url.Parse(m.APIURL); err == nil && u.Host != "" {
				t.Address, t.TLS = u.Host, u.Scheme == "https"
				add(t)
			}
			if host != "" {
				t.Address, t.TLS = join(host, exporter), false
				add(t)
			}
		}
		for _, r := range s.Recorded { // and does not show itself
			if _, live := s.Member(r.Name); live || told[name+"/"+r.Name] || r.Host == "" {
				continue
			}
			for _, port := range []int{agent, exporter} {
				add(spec.Target{Job: spec.JobServer, Cluster: name, Member: r.Name, IP: r.Host, Address: join(r.Host, port)})
			}
		}
		for _, g := range s.Gateways {
			if g.Listen != "" {
				add(spec.Target{Job: spec.JobNode, Cluster: name, Member: g.Node, IP: g.Host, Address: g.Listen})
			}
		}
	}
	slices.SortFunc(all, func(a, b spec.Target) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Member, b.Member), cmp.Compare(a.Address, b.Address))
	})
	return all
}

func join(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}
