// Package place gives every server, store and gateway of a world its node: the
// values that are written to node.json.
//
// It is a pure function of the world and of the site, which is where the nodes
// will run. A real machine takes its own share of the nodes; a playground takes
// them all, and says in the site what must be different there.
package place

import (
	"cmp"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/postgres/conf"
	"howdah/spec"
)

// A Site is where nodes are placed.
type Site struct {
	Dir    string // state directory
	Run    string // short, in tmpfs
	Binary string
	User   string // OS user of the roles; "": the one that runs, "pg_dbsu": whom the inventory names

	Machine  conf.Machine          // what each server may count on
	Programs map[int]spec.Postgres // Bin and Major, by the major that is asked for

	// Of a playground; a real machine leaves them empty.
	Addresses map[string]string // of hosts, where they are not the inventory's
	Instead   map[string]string // parameters in place of the template's
	Bind      bool              // wildcard listeners bind the node's address
	Loopback  bool              // every client and every member comes from 127.0.0.0/8
	LowPorts  bool              // ports below 1024 may not be bound: they move up
	Apart     map[string]bool   // clusters whose bucket is left alone: each member keeps a repository on its disk
}

// Wait is how long a client of the gateway waits for a primary.
const Wait = 10 * time.Second

// Nodes returns all nodes of the world: those of clusters in their order, by
// pg_seq, then those of hosts without a server.
func Nodes(w spec.World, s Site) []spec.Node {
	var nodes []spec.Node
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			n := s.server(c, m)
			s.upstream(w, c, &n)
			n.Postgres.Origin = c.Origin
			nodes = append(nodes, n)
		}
	}
	for _, o := range w.Others {
		nodes = append(nodes, s.node(o.Group, o.Name, o.Host))
	}
	s.stores(w, nodes)
	s.gateways(w, nodes)
	s.names(w, nodes)
	s.machines(w, nodes)
	if s.Bind { // whoever starts a playground says whether it keeps metrics
		return slices.DeleteFunc(nodes, func(n spec.Node) bool { return n.Postgres.Data == "" && !n.Alone() })
	}
	s.logs(w, nodes)
	s.remotes(w, nodes)
	s.metrics(w, nodes)
	return nodes
}

// node is what every node has.
func (s Site) node(cluster, member, host string) spec.Node {
	dir, run := path.Join(s.Dir, cluster, member), path.Join(s.Run, member)
	return spec.Node{
		Cluster: cluster, Member: member, Host: host, Address: cmp.Or(s.Addresses[host], host), User: s.User,
		Paths: spec.Paths{
			Dir: dir, Binary: s.Binary, Run: run, Page: path.Join(run, "lease"), Sockets: path.Join(run, "sql"),
			Log: path.Join(dir, "log"), Secrets: path.Join(s.Dir, cluster, "secrets.json"),
		},
		Agent: spec.Agent{Timers: spec.Safe()},
	}
}

func (s Site) server(c spec.Cluster, m spec.Member) spec.Node {
	n := s.node(c.Name, m.Name, m.Host)
	n.Namespace, n.Objects = c.Namespace, c.Objects
	if s.User == "pg_dbsu" {
		n.User = m.User
	}
	n.Postgres = s.Programs[c.Major]
	n.Postgres.Port, n.Postgres.Data, n.Postgres.Delay = s.port(m.Port), path.Join(n.Paths.Dir, "data"), m.Delay
	n.Postgres.Parameters = conf.Tune(m.Tuning, s.Machine, n.Postgres.Major)
	maps.Copy(n.Postgres.Parameters, s.Instead)
	maps.Copy(n.Postgres.Parameters, m.Parameters)
	n.Postgres.HBA = m.HBA
	if s.Bind { // everybody on this machine comes by a door, or from the same address
		c.REST.Allow, c.REST.AllowMembers = nil, false
	}
	if s.Loopback {
		n.Postgres.HBA = onLoopback(m.HBA)
	}
	if c.PoolPort != 0 {
		n.Pool = c.Pool
		n.Pool.HBA = m.PoolHBA
		if s.Loopback {
			n.Pool.HBA = onLoopback(m.PoolHBA)
		}
		n.Pool.Listen = "*:" + strconv.Itoa(s.port(c.PoolPort))
		if s.Bind && (c.VIP == "" || s.Loopback) {
			n.Pool.Listen = at(n.Address, s.port(c.PoolPort))
		}
	}
	if c.VIP != "" && !s.Loopback {
		n.VIP = spec.VIP{Address: c.VIP, Interface: m.Link}
		// It comes and goes while servers listen, so they listen everywhere.
		n.Postgres.Listen = "*"
		if s.Bind { // a playground's node has one interface, whatever its name is
			n.VIP.Interface = "auto"
		}
	}
	if c.Watchdog.On() && !(s.Bind && m.Watchdog == spec.WatchdogDevice) {
		n.Watchdog = c.Watchdog
		n.Watchdog.Device, n.Watchdog.Mock = m.Watchdog, s.Bind
	}
	n.Agent = spec.Agent{Listen: at(n.Address, s.port(m.REST)), REST: c.REST, Timers: c.Timers, Tags: m.Tags, Config: c.Config, Begin: c.Begin}
	if m.Exporter != 0 {
		n.Jobs.Exporter = at(n.Address, s.port(m.Exporter))
	}
	if i := slices.IndexFunc(c.Members, func(m spec.Member) bool { return m.Role == "primary" }); i >= 0 {
		n.Agent.Founder = c.Members[i].Name
	}
	s.backup(c, m, &n)
	if m.Exporters.Pool != 0 && n.Pool.Listen != "" {
		n.Pool.Exporter = at(n.Address, s.port(m.Exporters.Pool))
	}
	if m.Exporters.Backups != 0 && n.Backup.Repo != "" {
		n.Jobs.Backups = at(n.Address, s.port(m.Exporters.Backups))
	}
	return n
}

// machines has the first node of each host tell how the host is: it is one
// machine, however many nodes it has.
func (s Site) machines(w spec.World, nodes []spec.Node) {
	tell := func(host string, port int) {
		n := &nodes[slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Host == host })]
		if port != 0 && n.Jobs.Host == "" {
			n.Jobs.Host = at(n.Address, s.port(port))
		}
	}
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			tell(m.Host, m.Exporters.Machine)
		}
	}
	for _, o := range w.Others {
		tell(o.Host, o.Machine)
	}
}

// upstream has a new cluster begin by following another one. What becomes of it later
// is the dynamic configuration's: the inventory does not make a standby of it again.
func (s Site) upstream(w spec.World, c spec.Cluster, n *spec.Node) {
	up := c.Upstream
	if up.Host == "" {
		return
	}
	begin := maps.Clone(n.Agent.Begin)
	if begin == nil {
		begin = map[string]any{}
	}
	section := map[string]any{"host": cmp.Or(s.Addresses[up.Host], up.Host), "port": s.port(up.Port)}
	if up.Delay != "" {
		section["recovery_min_apply_delay"] = up.Delay
	}
	begin["standby_cluster"] = section
	n.Agent.Begin = begin
	for _, o := range w.Clusters {
		if o.Name != up.Cluster {
			continue
		}
		for _, m := range o.Members {
			n.Postgres.Kin = append(n.Postgres.Kin, cmp.Or(s.Addresses[m.Host], m.Host))
		}
	}
}

// backup gives the member its repository, and has its server archive into it.
// Where somebody has said how the server archives, that is theirs to do.
func (s Site) backup(c spec.Cluster, m spec.Member, n *spec.Node) {
	port := func(m spec.Member) int { return s.port(m.Archive()) }
	archives := func(m spec.Member) bool {
		return m.Parameters["archive_mode"] == "" && m.Parameters["archive_command"] == "" && m.Parameters["archive_library"] == ""
	}
	if !c.Backup.On || !archives(m) {
		return
	}
	n.Backup = spec.Backup{
		Repo: path.Join(n.Paths.Dir, "backup"), Config: path.Join(n.Paths.Dir, "pgbackrest.conf"), Spool: path.Join(n.Paths.Dir, "spool"), Listen: at(n.Address, port(m)),
		First: c.Backup.First, Copies: c.Backup.Copies, Times: c.Backup.Times, Drill: c.Backup.Drill, Rate: c.Backup.Rate, Standby: c.Backup.Standby, Lag: c.Backup.Lag, Replicas: c.Backup.Replicas,
	}
	all := append([]spec.Further{{Path: c.Backup.Path, Repository: c.Backup.Repository}}, c.Backup.More...)
	if s.Apart[c.Name] { // the name in a bucket is some production's
		if all = slices.DeleteFunc(all, func(f spec.Further) bool { return f.Shared() }); len(all) == 0 {
			all = []spec.Further{{Repository: c.Backup.Repository}}
			all[0].Bucket, all[0].Cipher = spec.Bucket{}, ""
		}
	}
	for i := range all {
		if !all[i].Shared() {
			all[i].Path = n.Backup.Repo
		}
	}
	n.Backup.Repo, n.Backup.Repository, n.Backup.More = all[0].Path, all[0].Repository, all[1:]
	if len(all) == 1 {
		n.Backup.More = nil
		if n.Backup.Shared() {
			n.Backup.Copies = 1
		}
	}
	for _, o := range c.Members {
		if archives(o) {
			n.Backup.Members = append(n.Backup.Members, spec.Holder{Member: o.Name, URL: "https://" + at(cmp.Or(s.Addresses[o.Host], o.Host), port(o))})
		}
	}
	room := ""
	if n.Backup.Queue == 0 {
		room = " --push-queue-room"
	}
	maps.Copy(n.Postgres.Parameters, map[string]string{
		"archive_mode": "on",
		// What was pushed ahead of the archiver (backup/archive, Outbox) is noted, and a
		// look at that costs it less than a start of this program.
		"archive_command": "test " + archiveWord(path.Join(n.Backup.Spool, "archive", n.Cluster, "out")) + `/%f.ok -nt "%p" || ` +
			archiveWord(n.Paths.Binary) + " pgbackrest --config=" + archiveWord(n.Backup.Config) +
			" --stanza=" + archiveWord(n.Cluster) + room + ` --no-push-while-stopping archive-push "%p"`,
	})
	if _, ok := m.Parameters["archive_timeout"]; !ok {
		n.Postgres.Parameters["archive_timeout"] = "300" // seconds that WAL may wait in a segment that is not full
	}
}

// archiveWord is one word of archive_command: for a shell, and with no placeholder.
func archiveWord(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(s) + "'"
}

// stores gives each host's member of etcd to the first node there.
func (s Site) stores(w spec.World, nodes []spec.Node) {
	var members []spec.EtcdMember
	for _, st := range w.Stores {
		i := slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Host == st.Host })
		n := &nodes[i]
		n.Etcd.Member, n.Etcd.Data = n.Member, path.Join(n.Paths.Dir, "etcd")
		members = append(members, spec.EtcdMember{
			Name:   n.Member,
			Client: "https://" + at(n.Address, st.Client), Peer: "https://" + at(n.Address, st.Peer),
		})
	}
	for i := range nodes {
		e := &nodes[i].Etcd
		e.Members, e.Quota, e.Compact = members, 256<<20, time.Hour
		e.Election, e.Heartbeat = w.Beat.Election, w.Beat.Heartbeat
	}
}

// names gives the first node of each host that is to answer for names all of them.
func (s Site) names(w spec.World, nodes []spec.Node) {
	var zones []spec.Zone
	for _, c := range w.Clusters {
		z := spec.Zone{Cluster: c.Name, Namespace: c.Namespace, Suffix: c.Suffix, Target: c.Target}
		vip, _, _ := strings.Cut(c.VIP, "/")
		switch c.Target {
		case "auto", "vip":
			z.Target = vip
			if s.Loopback { // where there is none
				z.Target = ""
			}
		case "primary":
			z.Target = ""
		}
		for _, m := range c.Members {
			z.Members = append(z.Members, spec.Named{
				Name: m.Name, Address: cmp.Or(s.Addresses[m.Host], m.Host), Offline: m.Role == "offline" || m.Vars["pg_offline_query"] == true,
			})
		}
		zones = append(zones, z)
	}
	for _, d := range w.Names {
		i := slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Host == d.Host })
		if i < 0 {
			continue // told when the inventory was read
		}
		n := &nodes[i]
		n.DNS = spec.DNS{Records: d.Records, Zones: zones}
		if !s.Bind { // a playground's nodes have one such file between them
			n.DNS.Hosts = d.File
		}
		if d.Port == 0 {
			if n.DNS.Hosts == "" {
				n.DNS = spec.DNS{}
			}
			continue
		}
		n.DNS.Listen = []string{at(n.Address, s.port(d.Port))}
		if !s.Bind {
			n.DNS.Listen = append(n.DNS.Listen, at("127.0.0.1", s.port(d.Port)))
			n.DNS.Forward = true
		}
	}
}

// gateways gives each carrier's first node the services of its clusters. Of
// two services on one port the first cluster's is there.
func (s Site) gateways(w spec.World, nodes []spec.Node) {
	taken := map[string]bool{}
	for _, c := range w.Clusters {
		var members []spec.Instance
		for _, m := range c.Members {
			members = append(members, spec.Instance{Name: m.Name, Vars: m.Vars})
		}
		for _, host := range c.Carriers {
			i := slices.IndexFunc(nodes, func(n spec.Node) bool { return n.Host == host })
			n := &nodes[i]
			var services []cluster.Service
			for _, svc := range c.Services {
				svc.Port = s.port(svc.Port)
				if s.Bind && n.VIP.Address == "" && (svc.IP == "*" || svc.IP == "0.0.0.0") {
					svc.IP = n.Address
				}
				if key := at(host, svc.Port); !taken[key] {
					taken[key] = true
					services = append(services, svc)
				}
			}
			if len(services) == 0 {
				continue
			}
			n.Gateway.Wait = Wait
			if n.Gateway.Listen == "" {
				port, page := stats(w, host)
				n.Gateway.Listen, n.Gateway.Page = at(n.Address, port), page
			}
			front := spec.Front{Cluster: c.Name, Namespace: c.Namespace, Dest: c.Dest, Services: services, Members: members}
			// The gateway of a member pools by itself: no other pooler stands between it and the
			// servers. One elsewhere knows nobody's secret, and leads to the members' pools.
			if n.Cluster != c.Name && c.PoolPort != 0 {
				front.PoolPort = s.port(c.PoolPort)
			}
			n.Gateway.Fronts = append(n.Gateway.Fronts, front)
		}
	}
}

// stats is the gateway's page on a host.
func stats(w spec.World, host string) (port int, page spec.Page) {
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			if m.Host == host {
				return m.Stats, c.Page
			}
		}
	}
	for _, o := range w.Others {
		if o.Host == host {
			return o.Stats, o.Page
		}
	}
	return 9101, spec.Page{}
}

func (s Site) port(p int) int {
	if s.LowPorts && p < 1024 {
		return p + 10000
	}
	return p
}

func at(host string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), uint16(port)).String()
}

// onLoopback rewrites rules for a machine on which everybody comes from
// 127.0.0.0/8: every network of the inventory becomes that one. Rules that
// reject some network are left out, because they would now reject everybody.
func onLoopback(rules []spec.AccessRule) []spec.AccessRule {
	var out []spec.AccessRule
	for _, r := range rules {
		var lines []string
		for _, line := range r.Lines {
			fields := strings.Fields(line)
			if len(fields) >= 5 && fields[0] != "local" {
				net, err := netip.ParsePrefix(fields[3])
				switch {
				case err != nil, net.Bits() == 0, net.Addr().IsLoopback():
				case fields[4] == "reject":
					continue
				case net.Addr().Is4():
					fields[3] = "127.0.0.0/8"
					line = strings.Join(fields, " ")
				}
			}
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		if len(lines) > 0 {
			r.Lines = lines
			out = append(out, r)
		}
	}
	return out
}
