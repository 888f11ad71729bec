package place

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"howdah/spec"
)

// Ports of the store of metrics: Prometheus's, and the one of its successor in
// the stack that dashboards come from.
const (
	prometheus = 9090
	victoria   = 8428
)

// console is the port of the page for people.
const console = 8080

// Observe has nodes[i] keep the metrics of all of them, and no other; if i is
// negative none does. The nodes are all there are.
func Observe(nodes []spec.Node, i int) {
	for j := range nodes {
		nodes[j].Observe = spec.Observe{}
	}
	several := map[string]int{} // nodes of an address before this one
	for j := range nodes {
		nodes[j].Logs = spec.Logs{}
		if n := &nodes[j]; i >= 0 {
			n.Logs = keeping(*n)
			n.Logs.Listen = at(n.Address, vector+several[n.Address])
			several[n.Address]++
		}
	}
	if i >= 0 && i < len(nodes) {
		nodes[i].Observe = observer(nodes, i)
	}
}

// vector is the port of a log shipper's metrics.
const vector = 9598

// Bounds of what a node keeps of its logs.
const (
	logsFor  = 15 * 24 * time.Hour
	logsSize = 1 << 30 // some ten times as much is in it
)

// keeping is what a node keeps of its logs.
func keeping(n spec.Node) spec.Logs {
	return spec.Logs{Data: path.Join(n.Paths.Dir, "logs"), Keep: logsFor, Size: logsSize}
}

// logs has the nodes keep their logs that are to, for the other machines of their
// cluster too.
func (s Site) logs(w spec.World, nodes []spec.Node) {
	ports := map[string]int{} // by host
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			ports[m.Host] = m.Exporters.Logs
		}
	}
	for _, o := range w.Others {
		ports[o.Host] = o.Logs
	}
	members := map[string][]spec.Holder{} // by cluster
	several := map[string]int{}           // nodes of a host before this one, each with a port of its own
	for i := range nodes {
		n := &nodes[i]
		if ports[n.Host] == 0 {
			continue
		}
		n.Logs = keeping(*n)
		n.Logs.Listen = at(n.Address, s.port(ports[n.Host]+several[n.Host]))
		several[n.Host]++
		if i := slices.IndexFunc(w.LogsTo, func(l spec.LogsTo) bool { return l.Host == n.Host }); i >= 0 {
			n.Logs.Ship = w.LogsTo[i].URLs
		}
		if n.Postgres.Data != "" {
			members[n.Base()] = append(members[n.Base()], spec.Holder{Member: n.Member, URL: "https://" + n.Logs.Listen})
		}
	}
	for i := range nodes {
		if n := &nodes[i]; n.Postgres.Data != "" {
			n.Logs.Members = members[n.Base()] // also of one that keeps none
		}
	}
}

// metrics has the hosts of the inventory keep metrics that are to, each those of all
// nodes; the others know where. What listens there can be reached by strangers.
func (s Site) metrics(w spec.World, nodes []spec.Node) {
	var first string
	for _, m := range w.Metrics {
		i := slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Host == m.Host })
		o := observer(nodes, i)
		o.Listen[1], o.Every, o.Allow, o.TLS = at(nodes[i].Address, s.port(m.Port)), m.Every, m.Allow, true
		nodes[i].Observe, first = o, cmp.Or(first, "http://"+o.Listen[0])
	}
	for i := range nodes {
		if !nodes[i].Observe.On() {
			nodes[i].Observe.At = first
		}
	}
}

// remotes has hosts tell the metrics of servers that are not ours.
func (s Site) remotes(w spec.World, nodes []spec.Node) {
	for _, m := range w.Remotes {
		n := &nodes[slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Host == m.Host })]
		n.Remotes = append(n.Remotes, spec.RemoteServer{
			Listen: at(n.Address, s.port(m.Port)), Cluster: m.Cluster, Member: m.Member, Address: m.Address, URLs: path.Join(n.Paths.Dir, "exporters.json"), Ask: m.Ask,
		})
	}
}

// observer is what nodes[i] needs to keep the metrics of all of them.
func observer(nodes []spec.Node, i int) spec.Observe {
	n := nodes[i]
	o := spec.Observe{
		Listen:  []string{at(n.Address, prometheus), at(n.Address, victoria)},
		Console: at(n.Address, console), Secrets: path.Join(n.Paths.Dir, "console.json"),
		Data: path.Join(n.Paths.Dir, "metrics"), Rules: path.Join(n.Paths.Dir, "rules"), Tell: path.Join(n.Paths.Dir, "notify.yml"),
		Every: 10 * time.Second, Keep: 15 * 24 * time.Hour, Size: 4 << 30,
	}
	seen := map[string]bool{}
	for _, of := range nodes {
		add := func(job, address string, tls bool) {
			if address != "" {
				o.Targets = append(o.Targets, spec.Target{Job: job, Cluster: of.Cluster, Member: of.Member, IP: of.Host, Address: address, TLS: tls})
			}
		}
		add(spec.JobServer, of.Agent.Listen, of.Agent.REST.TLS || of.Agent.REST.Cert != "")
		add(spec.JobServer, of.Jobs.Exporter, false)
		add(spec.JobServer, of.Pool.Exporter, false)
		add(spec.JobServer, of.Jobs.Backups, false)
		add(spec.JobNode, of.Gateway.Listen, false)
		add(spec.JobNode, of.Jobs.Host, false)
		add(spec.JobNode, of.Logs.Listen, false)
		for _, r := range of.Remotes {
			o.Targets = append(o.Targets, spec.Target{Job: spec.JobRemote, Cluster: r.Cluster, Member: r.Member, IP: r.Address, Address: r.Listen})
		}
		if m, ok := of.Etcd.Self(); ok {
			add(spec.JobStore, hostport(m.Client), true)
		}
		if of.Logs.Listen != "" {
			o.Logs = append(o.Logs, spec.Logged{Cluster: of.Cluster, Member: of.Member, Host: of.Host, URL: "https://" + of.Logs.Listen})
		}
		if of.Postgres.Data != "" && !seen[of.Base()] {
			seen[of.Base()] = true
			o.Clusters = append(o.Clusters, spec.Observed{Cluster: of.Cluster, Namespace: of.Namespace, Holders: of.Backup.Members, VIP: of.VIP.Address != ""})
		}
	}
	return o
}

// hostport is that of a URL.
func hostport(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return rest
}
