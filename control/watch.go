package control

import (
	"slices"

	"howdah/dcs/etcd"
	"howdah/observe/silence"
	"howdah/pki"
	"howdah/spec"
)

// Beside returns the cluster of a node as its own roles reach it. Close it.
func Beside(n spec.Node) (*Cluster, error) {
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return nil, err
	}
	store, err := etcd.OpenNode(n)
	if err != nil {
		return nil, err
	}
	c := On(n.Cluster, store, n)
	c.peers = peers
	return c, nil
}

// Watch returns the clusters that the node n observes, as they are reached from
// there. Close each.
func Watch(n spec.Node) ([]*Cluster, error) {
	peers, err := pki.Open(n.TLS)
	if err != nil {
		return nil, err
	}
	var all []*Cluster
	for _, o := range n.Observe.Clusters {
		// A node of that cluster, with as much of it as one needs who only looks.
		of := spec.Node{
			Cluster: o.Cluster, Namespace: o.Namespace, Member: n.Member, Host: n.Host, Address: n.Address,
			Paths: n.Paths, Etcd: n.Etcd, TLS: n.TLS, Backup: spec.Backup{Members: o.Holders},
		}
		store, err := etcd.OpenNode(of)
		if err != nil {
			for _, c := range all {
				c.Close()
			}
			return nil, err
		}
		c := On(o.Cluster, store, of)
		c.peers = peers
		c.jobs = slices.DeleteFunc(slices.Clone(n.Observe.Logs), func(l spec.Logged) bool { return l.Cluster != o.Cluster })
		if n.Observe.On() {
			c.metrics = MetricStore{url: "http://" + n.Observe.Listen[0], silences: silence.Path(n.Observe)} // its own store
		}
		all = append(all, c)
	}
	return all, nil
}
