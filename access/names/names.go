// Package names says which addresses the names of clusters have now.
//
// It is a pure function of what the inventory says and the picture of each
// cluster: a name that follows the leader is another address after a failover,
// with nothing to run again. A role that nobody has at the moment has no
// address, which is not the same as a name that there is not.
package names

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"howdah/cluster"
	"howdah/spec"
)

// A View is one cluster's share of the names.
type View struct {
	Zone    spec.Zone
	Known   bool // the store was read at least once
	Picture cluster.Picture
}

// A Table has what every name is now. Names are in lower case and without the
// final dot.
type Table struct {
	names    map[string][]netip.Addr
	clusters []string // what ours begin with
}

// Make makes the table. Where clusters would share a name, the first has it;
// what the inventory writes down itself goes first of all.
func Make(views []View, records []string) Table {
	t := Table{names: map[string][]netip.Addr{}}
	for _, r := range records {
		fields := strings.Fields(r)
		if len(fields) == 0 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue // told when the inventory was read
		}
		for _, name := range fields[1:] {
			name = plain(name)
			if !slices.Contains(t.names[name], a) {
				t.names[name] = append(t.names[name], a)
			}
		}
	}
	for _, v := range views {
		t.clusters = append(t.clusters, plain(v.Zone.Cluster))
		for _, m := range v.Zone.Members {
			t.put(m.Name, parsed(m.Address))
			t.put(m.Name+v.Zone.Suffix, parsed(m.Address))
		}
		primary, replicas, offline := v.roles()
		for _, r := range []struct {
			role  string
			addrs []netip.Addr
		}{{"primary", primary}, {"replica", replicas}, {"offline", offline}} {
			t.put(v.Zone.Cluster+"-"+r.role, r.addrs)
			t.put(v.Zone.Cluster+"-"+r.role+v.Zone.Suffix, r.addrs)
		}
		switch v.Zone.Target {
		case "":
			t.put(v.Zone.Cluster+v.Zone.Suffix, primary)
		case "none":
		default:
			t.put(v.Zone.Cluster+v.Zone.Suffix, parsed(v.Zone.Target))
		}
	}
	return t
}

// plain is a name as the table has it.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func parsed(text string) []netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return []netip.Addr{a}
}

func (t Table) put(name string, addrs []netip.Addr) {
	name = plain(name)
	if _, ok := t.names[name]; !ok {
		t.names[name] = addrs
	}
}

// roles are the addresses of those who have a role now. Where no replica runs
// the primary takes its place, and replicas that of members for slow queries, as
// services have it.
func (v View) roles() (primary, replicas, offline []netip.Addr) {
	if !v.Known {
		return nil, nil, nil
	}
	for _, m := range v.Picture.Members {
		addr := parsed(m.Host)
		slow := slices.ContainsFunc(v.Zone.Members, func(z spec.Named) bool { return z.Name == m.Name && z.Offline })
		switch {
		case m.Name == v.Picture.Leader:
			primary = append(primary, addr...)
		case !m.Running:
		case slow:
			offline = append(offline, addr...)
		default:
			replicas = append(replicas, addr...)
		}
	}
	if offline == nil {
		offline = replicas
	}
	if replicas == nil {
		replicas = primary
	}
	return primary, replicas, offline
}

// A Kind says what there is to a name.
type Kind int

// Kinds of answers.
const (
	Foreign Kind = iota // not ours to answer
	Absent              // ours, and there is none
	Waiting             // nobody has it at the moment
	Present
)

// Find says what name is now.
func (t Table) Find(name string) ([]netip.Addr, Kind) {
	name = plain(name)
	addrs, ok := t.names[name]
	switch {
	case ok && len(addrs) > 0:
		return addrs, Present
	case ok:
		return nil, Waiting
	}
	for _, c := range t.clusters {
		if rest, ok := strings.CutPrefix(name, c+"-"); ok && !strings.Contains(rest, ".") {
			return nil, Absent
		}
	}
	return nil, Foreign
}

// Equal says that two tables answer alike.
func (t Table) Equal(o Table) bool {
	return slices.Equal(t.clusters, o.clusters) && maps.EqualFunc(t.names, o.names, slices.Equal)
}
