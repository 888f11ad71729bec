package pigsty

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"howdah/spec"
)

// ours is the namespace of clusters that are declared in the short form.
const ours = "/service"

// The short form names a cluster or a few, and what differs from a good
// cluster; everything else is derived:
//
//	cluster: app
//	hosts: [10.10.10.11, 10.10.10.12, 10.10.10.13]
//	users: [{name: app, password: secret}]
//	databases: [{name: app, owner: app}]
//
// It becomes the tree of an inventory, so that both forms mean the same by the
// same code. It is a file of ours: an unknown key is a problem.
var (
	shortTop     = map[string]shape{"clusters": "any", "etcd": "strings", "observe": "strings"}
	shortCluster = map[string]shape{
		"cluster": "name!", "hosts": "hosts!", "version": "version", "port": "port", "template": "template", "parameters": "settings",
		"users": "users", "databases": "databases", "services": "services", "hba": "hba", "max_loss": "bytes", "speed": "rto",
		"libs": "text", "max_connections": "maxconn", "checksums": "bool", "backup": "bool", "backup_times": "strings", "backup_method": "methods", "backup_repositories": "repositories", "stream": "bool", "stream_interval": "interval", "stream_size": "size", "drill": "times", "create_replica_methods": "methods", "backup_rate": "size", "queue_max": "queue", "restore_from": "origin", "backup_standby": "bool", "backup_lag_max": "queue",
		"watchdog": "watch", "watchdog_device": "path", "watchdog_safety_margin": "margin", "vip": "cidr", "vip_interface": "link", "dns": "bool", "dns_port": "port", "dns_suffix": "suffix", "hosts_file": "path", "logs_to": "strings",
	}
	shortHost = map[string]shape{
		"address": "address!", "seq": "seq", "role": "role", "offline": "bool", "weight": "weight", "delay": "interval", "port": "port", "tags": "tags",
		"watchdog_device": "path",
	}
	// parameters are what the keys are called in an inventory.
	asParameter = map[string]string{
		"version": "pg_version", "port": "pg_port", "template": "pg_conf", "parameters": "pg_parameters", "users": "pg_users",
		"databases": "pg_databases", "services": "pg_services", "hba": "pg_hba_rules", "max_loss": "pg_rpo", "speed": "pg_rto",
		"libs": "pg_libs", "max_connections": "pg_max_conn", "role": "pg_role", "offline": "pg_offline_query",
		"weight": "pg_weight", "tags": "patroni_tags", "delay": "pg_delay", "seq": "pg_seq", "checksums": "pg_checksum",
		"backup": "pgbackrest_enabled", "backup_times": "pg_crontab", "backup_method": "pgbackrest_method", "backup_repositories": "pgbackrest_repo", "stream": "pgbackrest_stream", "stream_interval": "pgbackrest_stream_interval", "stream_size": "pgbackrest_stream_size", "drill": "pgbackrest_drill", "create_replica_methods": "pg_create_replica_methods", "backup_rate": "pgbackrest_rate", "backup_standby": "pgbackrest_standby", "queue_max": "pgbackrest_queue_max", "restore_from": "pg_restore_from", "backup_lag_max": "pgbackrest_lag_max", "watchdog": "patroni_watchdog_mode", "watchdog_device": "patroni_watchdog_device", "watchdog_safety_margin": "patroni_watchdog_safety_margin", "vip": "pg_vip_address", "vip_interface": "pg_vip_interface",
		"dns": "dns_enabled", "dns_port": "dns_port", "dns_suffix": "pg_dns_suffix", "hosts_file": "dns_hosts_file", "logs_to": "vector_log_endpoint",
	}
)

// native says whether this is the short form.
func native(root *value) bool {
	return root != nil && root.kind == mapKind && root.field("all") == nil && (root.field("cluster") != nil || root.field("clusters") != nil)
}

// shortDefaults are what the short form has in place of Pigsty's defaults: no
// roles that nobody asked for, everybody comes in by TLS and password, and the
// interfaces for monitoring are open to be read.
const shortDefaults = `
pg_default_roles: []
pg_default_privileges: []
pg_default_schemas: []
pg_default_extensions: []
pg_default_hba_rules: [{ title: everybody by TLS and password, addr: world, auth: ssl, order: 900 }]
pgb_default_hba_rules: [{ title: everybody by TLS and password, addr: world, auth: ssl, order: 900 }]
pg_conf: oltp
pg_dbsu_password: ''
pg_replication_password: ''
patroni_username: ''
haproxy_auth_enabled: false
pg_vip_enabled: true
`

func (r *reader) native(root *value) *inventory {
	r.short = true
	inv := &inventory{namespace: ours}
	d := (&reader{}).read([]byte(shortDefaults))
	r.known.defaults.fields = append(slices.Clone(d.fields), r.known.defaults.fields...)
	clusters := []*value{root}
	if list := root.field("clusters"); list != nil {
		if list.kind != listKind {
			r.bad(list.line, "clusters must be a list of maps, and is %s", list.what())
			return inv
		}
		clusters = list.list
		r.strict(root, "the inventory", shortTop)
	}
	for _, c := range clusters {
		r.nativeCluster(inv, c, c == root)
	}
	r.nativeGroup(inv, root, "etcd", "etcd", "etcd_seq")
	r.nativeGroup(inv, root, "observe", "infra", "infra_seq")
	return inv
}

// nativeGroup makes a group of the hosts that a key lists.
func (r *reader) nativeGroup(inv *inventory, root *value, key, name, seq string) {
	e := root.field(key)
	if e == nil || e.kind != listKind {
		return
	}
	g := &group{name: name, line: e.line, depth: 1}
	for i, h := range e.list {
		if a, err := netip.ParseAddr(h.String()); err != nil || !a.Is4() {
			r.bad(h.line, "host %s of %s is no IPv4 address", quote(h.String()), key)
			continue
		}
		g.own = append(g.own, entry{inv.host(h.String(), h.line), &value{kind: mapKind, line: h.line, fields: []field{numbered(seq, i+1, h.line)}}})
	}
	inv.groups = append(inv.groups, g)
}

// strict checks a map of the short form.
func (r *reader) strict(v *value, what string, keys map[string]shape) bool {
	if v.kind != mapKind {
		r.bad(v.line, "%s must be a map, and is %s", what, v.what())
		return false
	}
	var known []string
	for name, is := range keys {
		known = append(known, name)
		if strings.HasSuffix(string(is), "!") && v.field(name).null() {
			r.bad(v.line, "%s has no %s", what, name)
		}
	}
	slices.Sort(known)
	for _, f := range v.fields {
		is, ok := keys[f.name]
		if !ok {
			do := "known are " + strings.Join(known, ", ")
			if near := nearest(f.name, known); near != "" {
				do = "did you mean " + near + "?"
			}
			r.find(spec.Problem, f.line, "unknown key "+quote(f.name), do)
			continue
		}
		if is = shape(strings.TrimSuffix(string(is), "!")); is != "hosts" && !f.value.null() {
			r.fits(f, is)
		}
	}
	return true
}

func (r *reader) nativeCluster(inv *inventory, c *value, top bool) {
	keys := shortCluster
	if top {
		keys = map[string]shape{"etcd": "strings", "observe": "strings"}
		for k, v := range shortCluster {
			keys[k] = v
		}
	}
	if !r.strict(c, "a cluster", keys) {
		return
	}
	name := c.field("cluster").String()
	if c.field("cluster").null() { // told; the rest of it is looked at all the same
		name = "on-line-" + strconv.Itoa(c.line)
		c.fields = append(slices.Clone(c.fields), field{"cluster", c.line, &value{line: c.line, text: name, scalar: name}})
	}
	g := &group{name: name, line: c.line, depth: 1, vars: &value{kind: mapKind, line: c.line}}
	g.vars.fields = append(g.vars.fields, field{"pg_cluster", c.field("cluster").line, c.field("cluster")})
	for _, f := range c.fields {
		if p, ok := asParameter[f.name]; ok {
			g.vars.fields = append(g.vars.fields, field{p, f.line, f.value})
		}
	}
	hosts := c.field("hosts")
	if hosts == nil {
		return // said already
	}
	if hosts.kind != listKind || len(hosts.list) == 0 {
		r.bad(max(hosts.line, c.line), "hosts of cluster %s must be a list of addresses, and is %s", name, hosts.what())
		return
	}
	if inv.group(name) != nil {
		r.bad(c.line, "cluster %s is there twice", name)
		return
	}
	primary := false
	for _, h := range hosts.list {
		primary = primary || h.field("role").String() == "primary"
	}
	for i, h := range hosts.list {
		vars := &value{kind: mapKind, line: h.line}
		address := h
		if h.kind == mapKind {
			if !r.strict(h, "a host", shortHost) {
				continue
			}
			address = h.field("address")
			for _, f := range h.fields {
				if p, ok := asParameter[f.name]; ok {
					vars.fields = append(vars.fields, field{p, f.line, f.value})
				}
			}
		}
		if a, err := netip.ParseAddr(address.String()); err != nil || !a.Is4() {
			r.bad(h.line, "host %s of cluster %s is no IPv4 address", quote(address.String()), name)
		}
		if vars.field("pg_seq") == nil {
			vars.fields = append(vars.fields, numbered("pg_seq", i+1, h.line))
		}
		if vars.field("pg_role") == nil {
			role := "replica"
			if !primary && i == 0 {
				role = "primary"
			}
			vars.fields = append(vars.fields, field{"pg_role", h.line, &value{line: h.line, text: role, scalar: role}})
		}
		g.own = append(g.own, entry{inv.host(address.String(), h.line), vars})
	}
	inv.groups = append(inv.groups, g)
}

func numbered(name string, n, line int) field {
	return field{name, line, &value{line: line, text: strconv.Itoa(n), scalar: int64(n)}}
}
