package pigsty

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/secret"
	"howdah/spec"
)

// metrics says which hosts keep metrics: those of group infra, where nobody wrote
// that they shall not. Who may ask them is who may come to the machines at all:
// those of the inventory, the admin's, and the networks of node_firewall_intranet.
func (r *reader) metrics(inv *inventory, w *spec.World) {
	g := inv.group("infra")
	if g == nil {
		return
	}
	var hosts []*host
	for _, e := range inv.members(g) {
		hosts = append(hosts, e.host)
	}
	seen := map[string]bool{}
	for i, h := range unique(hosts) {
		s := r.scope(inv, h, nil)
		name := infra(s, i)
		if seen[name] {
			r.bad(max(s.line("infra_seq"), h.line), "group infra has two hosts that would be called %s", name)
		}
		seen[name] = true
		if !s.bool("vmetrics_enabled") {
			continue
		}
		m := spec.Metrics{Name: name, Host: h.name, Port: s.int("vmetrics_port")}
		m.Every, _ = time.ParseDuration(s.text("vmetrics_scrape_interval")) // its shape is one
		var from []string
		if s.given("admin_ip") {
			from = append(from, s.text("admin_ip"))
		}
		for _, o := range inv.hosts {
			from = append(from, o.name)
		}
		for _, v := range items(s.get("node_firewall_intranet")) {
			from = append(from, v.String())
		}
		for _, text := range unique(from) {
			p, err := netip.ParsePrefix(text)
			if a, bad := netip.ParseAddr(text); bad == nil {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
			if err == nil { // what is no address is told where it is read as one
				m.Allow = append(m.Allow, p.String())
			}
		}
		w.Metrics = append(w.Metrics, m)
	}
}

// infra is the name of a host of that group.
func infra(s *scope, i int) string {
	if s.given("infra_seq") {
		i = s.int("infra_seq") - 1
	}
	return "infra-" + strconv.Itoa(i+1)
}

// remoteKeys are those of a server in pg_exporters that count here; others that
// inventories have there are for Grafana's own connections.
var remoteKeys = []string{
	"pg_cluster", "pg_seq", "pg_host", "pg_port", "pg_exporter_url", "pg_monitor_username", "pg_monitor_password",
	"pg_exporter_params", "pg_exporter_auto_discovery", "pg_exporter_include_database", "pg_exporter_exclude_database", "pg_databases",
}

// remotes are the servers that are not ours, in pg_exporters of the hosts of group
// infra, by the port where their metrics are to be.
func (r *reader) remotes(inv *inventory, w *spec.World) {
	var hosts []*host
	if g := inv.group("infra"); g != nil {
		for _, e := range inv.members(g) {
			hosts = append(hosts, e.host)
		}
	}
	hosts = unique(hosts)
	for _, h := range inv.hosts {
		if s := r.scope(inv, h, nil); s.given("pg_exporters") && !slices.Contains(hosts, h) {
			r.find(spec.Warning, s.line("pg_exporters"), "pg_exporters of host "+h.name+" is not read", "say it of hosts of group infra, which ask")
		}
	}
	seen := map[string]bool{}
	for i, h := range hosts {
		s := r.scope(inv, h, nil)
		if !s.given("pg_exporters") || s.get("pg_exporters").kind != mapKind {
			continue
		}
		for _, f := range s.get("pg_exporters").fields {
			port, err := strconv.Atoi(f.name)
			if err != nil || f.value.kind != mapKind {
				continue // told when its shape was looked at
			}
			if m, ok := r.remote(s, f); ok {
				m.Host, m.Name, m.Port = h.name, infra(s, i), port
				if key := m.Host + " " + m.Member; seen[key] {
					r.bad(f.line, "host %s has pg_exporters of %s twice", m.Host, m.Member)
				} else {
					seen[key] = true
					w.Remotes = append(w.Remotes, m)
				}
			}
		}
	}
}

// remote is one of them; what it does not say itself is the host's.
func (r *reader) remote(s *scope, f field) (m spec.Remote, ok bool) {
	v := f.value
	text := func(name string) string {
		if own := v.field(name); !own.null() {
			return own.String()
		}
		if name == "pg_cluster" || name == "pg_seq" || name == "pg_host" || name == "pg_port" || name == "pg_exporter_url" {
			return "" // that of the host is another server's
		}
		if strings.HasPrefix(name, "pg_exporter_") && !s.given(name) {
			return "" // which has no default here
		}
		return s.text(name)
	}
	for _, key := range v.fields {
		if !slices.Contains(remoteKeys, key.name) {
			r.find(spec.Warning, key.line, "pg_exporters."+f.name+" has "+quote(key.name)+", which does nothing there", "known are "+strings.Join(remoteKeys, ", "))
		}
	}
	seq, err := strconv.Atoi(text("pg_seq"))
	cluster, host := text("pg_cluster"), text("pg_host")
	if cluster == "" || err != nil || seq < 0 {
		r.bad(f.line, "pg_exporters.%s names no server: it takes pg_cluster and pg_seq", f.name)
		return m, false
	}
	if err := spec.CheckNames(cluster, nil); err != nil {
		r.bad(f.line, "pg_exporters.%s: %q is no name of a cluster", f.name, cluster)
		return m, false
	}
	m = spec.Remote{Cluster: cluster, Member: cluster + "-" + strconv.Itoa(seq), Address: host}
	at := text("pg_exporter_url")
	if at == "" {
		if host == "" {
			r.bad(f.line, "pg_exporters.%s says of %s neither pg_host nor pg_exporter_url", f.name, m.Member)
			return m, false
		}
		name := host
		if strings.Contains(name, ":") { // IPv6
			name = "[" + name + "]"
		}
		u := url.URL{Scheme: "postgres", User: url.UserPassword(text("pg_monitor_username"), text("pg_monitor_password")), Host: name + ":" + cmp.Or(text("pg_port"), "5432"), Path: "/postgres", RawQuery: text("pg_exporter_params")}
		at = u.String()
	} else if u, err := url.Parse(at); err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		r.bad(f.line, "pg_exporter_url of %s must be a URL like postgres://user:password@host:5432/postgres", m.Member) // it is not shown: it has a password
		return m, false
	} else if m.Address == "" {
		m.Address = u.Hostname()
	}
	m.URL = secret.Text(at)
	m.Ask.Discover = text("pg_exporter_auto_discovery") != "false"
	m.Ask.Include, m.Ask.Exclude = listed(text("pg_exporter_include_database")), listed(cmp.Or(text("pg_exporter_exclude_database"), "template0,template1,postgres"))
	return m, true
}

// listed are words between commas.
func listed(text string) (all []string) {
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}
