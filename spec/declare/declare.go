// Package declare writes the inventory of a cluster that exists: what would have
// to be declared for a plan of it to be empty.
//
// It is a pure function of the nodes' descriptions and of the server's catalogs,
// and writes Pigsty's form, which can say the most. Values are those that count
// now, not the ones that somebody once wrote: parameters that differ from the
// template, access rules as lines, roles with what the server stores of their
// passwords. Whoever reads the catalogs asks for a plan against what was written
// (control): what no inventory can say shows there. It writes no password itself,
// and no key of a bucket.
package declare

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"howdah/cluster"
	"howdah/postgres/conf"
	"howdah/spec"
	"howdah/spec/plan"
)

// A Cluster is one as it is.
type Cluster struct {
	Nodes     []spec.Node       // its members, by pg_seq
	Have      plan.Have         // what its leader holds
	Verifiers map[string]string // what the server stores of passwords, by role
	Machine   conf.Machine      // what each server may count on
	Implied   bool              // the hosts that carry etcd are those that an inventory without a group etcd means
}

// Write is the inventory of the clusters.
func Write(all ...Cluster) string {
	var b strings.Builder
	b.WriteString("# What is, written down by `howdah spec --from-cluster`. It holds what the servers store of passwords: keep it\n# as you keep those. Passwords that are not here are those of the state directory.\nall:\n")
	pace := paceOf(all)
	if all[0].Implied && len(pace) > 0 { // above the groups
		b.WriteString("  vars:\n")
		block(&b, "    ", pace)
	}
	b.WriteString("  children:\n")
	if first := all[0]; !first.Implied {
		etcd := fields{}
		for i, m := range first.Nodes[0].Etcd.Members {
			etcd.add(hostOf(m.Client, first.Nodes[0]), fields{{"etcd_seq", i + 1}})
		}
		group := fields{{"hosts", etcd}}
		if len(pace) > 0 {
			group.add("vars", pace)
		}
		block(&b, "    ", fields{{"etcd", group}})
	}
	for _, c := range all {
		c.write(&b)
	}
	return b.String()
}

// paceOf is what an inventory has to say for the store to have its pace.
func paceOf(all []Cluster) (vars fields) {
	e, quickest := all[0].Nodes[0].Etcd, all[0].Nodes[0].Agent.Timers.Lease
	for _, c := range all {
		quickest = min(quickest, c.Nodes[0].Agent.Timers.Lease)
	}
	if e.Misses() != spec.ElectionFor(quickest) {
		vars.add("etcd_election_timeout", e.Misses().Milliseconds())
	}
	if e.Heartbeat != 0 {
		vars.add("etcd_heartbeat_interval", e.Heartbeat.Milliseconds())
	}
	return vars
}

// hostOf is the inventory's name of the host that a store's URL leads to.
func hostOf(url string, n spec.Node) string {
	_, rest, _ := strings.Cut(url, "://")
	host := rest[:max(0, strings.LastIndexByte(rest, ':'))]
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() && a.IsLoopback() && n.Address != n.Host {
		// A playground on loopback has 127.x for each: the first number is all that differs.
		own := netip.MustParseAddr(n.Host).As4()
		b := a.As4()
		b[0] = own[0]
		return netip.AddrFrom4(b).String()
	}
	return host
}

func (c Cluster) write(b *strings.Builder) {
	first := c.Nodes[0]
	front := frontOf(first)
	var hosts, vars fields
	vars.add("pg_cluster", first.Cluster)
	vars.add("pg_namespace", first.Namespace)
	vars.add("pg_version", first.Postgres.Major)
	c.promise(&vars)
	c.doors(&vars, front)
	c.pools(&vars)
	c.backups(&vars)
	c.address(&vars)
	c.watchdog(&vars)
	c.objects(&vars)
	// What all members have alike is said once.
	own := make([]fields, len(c.Nodes))
	template := c.template()
	vars.add("pg_conf", template+".yml")
	for i, n := range c.Nodes {
		own[i] = c.member(n, front, template)
	}
	for _, f := range own[0] {
		if f.key == "pg_seq" || f.key == "pg_role" {
			continue
		}
		everywhere := !slices.ContainsFunc(own, func(o fields) bool {
			return !slices.ContainsFunc(o, func(g field) bool { return g.key == f.key && flow(g.value) == flow(f.value) })
		})
		if everywhere {
			vars.add(f.key, f.value)
			for i := range own {
				own[i] = slices.DeleteFunc(slices.Clone(own[i]), func(g field) bool { return g.key == f.key })
			}
		}
	}
	for i, n := range c.Nodes {
		hosts.add(n.Host, own[i])
	}
	b.WriteString("    " + flow(first.Cluster) + ":\n      hosts:\n")
	block(b, "        ", hosts)
	b.WriteString("      vars:\n")
	block(b, "        ", vars)
}

func frontOf(n spec.Node) spec.Front {
	for _, f := range n.Gateway.Fronts {
		if f.Cluster == n.Cluster {
			return f
		}
	}
	return spec.Front{}
}

// plans are Pigsty's pg_rto, by their leases in seconds.
var plans = map[int]string{20: "fast", 30: "norm", 60: "safe", 120: "wide"}

// promise is how fast the cluster is, and what it may lose.
func (c Cluster) promise(vars *fields) {
	a := c.Nodes[0].Agent
	if name := plans[int(a.Timers.Lease.Seconds())]; name != "" {
		vars.add("pg_rto", name)
	}
	_, begins := a.Begin["synchronous_mode"]
	if a.Timers.MaxLag != spec.Safe().MaxLag || !begins {
		vars.add("pg_rpo", a.Timers.MaxLag)
	}
}

// doors are the services, REST, and the gateway's page.
func (c Cluster) doors(vars *fields, front spec.Front) {
	n := c.Nodes[0]
	var services []any
	for _, s := range front.Services {
		var f fields
		f.add("name", s.Name)
		f.add("port", s.Port)
		if s.IP != n.Address {
			f.add("ip", s.IP)
		}
		f.add("dest", s.Dest)
		f.add("check", s.Check)
		f.add("selector", s.Selector)
		if s.Backup != "" {
			f.add("backup", s.Backup)
		}
		f.add("maxconn", s.MaxConn)
		f.add("balance", s.Balance)
		if s.Options != "" {
			f.add("options", s.Options)
		}
		services = append(services, f)
	}
	vars.add("pg_default_services", services)
	if front.Dest != "" {
		vars.add("pg_default_service_dest", front.Dest)
	}
	vars.add("patroni_ssl_enabled", n.Agent.REST.TLS)
	vars.add("patroni_username", n.Agent.REST.User)
	vars.add("patroni_password", "")
	if n.Gateway.Page.User != "" {
		vars.add("haproxy_admin_username", n.Gateway.Page.User)
	}
	vars.add("haproxy_auth_enabled", n.Gateway.Page.Private)
}

func (c Cluster) pools(vars *fields) {
	p := c.Nodes[0].Pool
	vars.add("pgbouncer_enabled", p.Listen != "")
	if p.Listen == "" {
		return
	}
	vars.add("pgbouncer_port", portOf(p.Listen))
	vars.add("pgbouncer_poolmode", p.Mode)
	mode := "disable"
	if p.TLS {
		mode = "require"
	}
	vars.add("pgbouncer_sslmode", mode)
	vars.add("pgbouncer_ignore_param", strings.Join(p.Ignore, ", "))
	if len(p.Parameters) > 0 {
		vars.add("pgbouncer_parameters", settings(p.Parameters))
	}
}

func (c Cluster) backups(vars *fields) {
	b := c.Nodes[0].Backup
	vars.add("pgbackrest_enabled", b.Repo != "")
	if b.Repo == "" {
		return
	}
	vars.add("pgbackrest_init_backup", b.First)
	if !slices.Equal(b.Times, spec.BackupTimes()) {
		var lines []string
		for _, t := range b.Times {
			lines = append(lines, cron(t))
		}
		vars.add("pg_crontab", texts(lines))
	}
	if b.Stream.Off {
		vars.add("pgbackrest_stream", false)
	}
	if b.Stream.Interval > 0 {
		vars.add("pgbackrest_stream_interval", strconv.FormatInt(b.Stream.Interval.Milliseconds(), 10)+"ms")
	}
	if b.Stream.Size > 0 {
		vars.add("pgbackrest_stream_size", strconv.FormatInt(b.Stream.Size, 10))
	}
	if b.Rate > 0 {
		vars.add("pgbackrest_rate", strconv.FormatInt(b.Rate, 10))
	}
	if b.Standby {
		vars.add("pgbackrest_standby", true)
	}
	switch {
	case b.Lag == spec.NoLimit:
		vars.add("pgbackrest_lag_max", "off")
	case b.Lag > 0:
		vars.add("pgbackrest_lag_max", strconv.FormatInt(b.Lag>>10, 10)+"kB")
	}
	if len(b.Replicas) > 0 && !b.Shared() && len(b.More) == 0 {
		vars.add("pg_create_replica_methods", texts(b.Replicas))
	}
	switch b.Drill {
	case spec.DrillTime:
	case "":
		vars.add("pgbackrest_drill", "off")
	default:
		vars.add("pgbackrest_drill", b.Drill)
	}
	switch {
	case b.Queue == spec.NoLimit:
		vars.add("pgbackrest_queue_max", "off")
	case b.Queue > 0:
		vars.add("pgbackrest_queue_max", strconv.FormatInt(b.Queue>>10, 10)+"kB")
	}
	if b.Shared() || len(b.More) > 0 { // its keys are nowhere to be read but in the secrets: a person has to say them
		return
	}
	repo := fields{{"type", "posix"}, {"retention_full", b.Full}}
	if b.ByTime {
		repo.add("retention_full_type", "time")
	}
	if b.BundleSize > 0 {
		repo.add("bundle_size", strconv.FormatInt(b.BundleSize, 10))
	}
	if b.BundleLimit > 0 {
		repo.add("bundle_limit", strconv.FormatInt(b.BundleLimit, 10))
	}
	vars.add("pgbackrest_method", "here")
	vars.add("pgbackrest_repo", fields{{"here", repo}})
}

// cron is a time of backups ("0 1 * * * full") as a line of a crontab.
func cron(t string) string {
	i := strings.LastIndexByte(t, ' ')
	return t[:i] + " /pg/bin/pg-backup" + t[i:]
}

func (c Cluster) watchdog(vars *fields) {
	w := c.Nodes[0].Watchdog
	if !w.On() {
		return
	}
	vars.add("patroni_watchdog_mode", w.Mode)
	if w.Margin > 0 {
		vars.add("patroni_watchdog_safety_margin", int(w.Margin.Seconds()))
	}
}

func (c Cluster) address(vars *fields) {
	if v := c.Nodes[0].VIP; v.Address != "" {
		vars.add("pg_vip_enabled", true)
		vars.add("pg_vip_address", v.Address)
		vars.add("pg_vip_interface", v.Interface)
	}
}

func portOf(listen string) int {
	n, _ := strconv.Atoi(listen[strings.LastIndexByte(listen, ':')+1:])
	return n
}

func settings(p map[string]string) fields {
	all := fields{}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		all.add(name, quoted(p[name]))
	}
	return all
}

// quoted keeps text text, whatever it looks like.
type quoted string

// template is the one that leaves the least to say of the members' parameters. One
// declares strict synchronous mode too, and no other does.
func (c Cluster) template() string {
	if c.Nodes[0].Agent.Config["synchronous_mode_strict"] == true {
		return "crit"
	}
	best, least := "oltp", -1
	for _, name := range []string{"oltp", "olap", "tiny"} {
		more := 0
		for _, n := range c.Nodes {
			p, ok := c.beyond(n, name)
			if !ok {
				more += 1000 // it sets what the member has not
			}
			more += len(p)
		}
		if least < 0 || more < least {
			best, least = name, more
		}
	}
	return best
}

// libraries are those that a node's server begins with.
func libraries(n spec.Node) string { return n.Postgres.Parameters["shared_preload_libraries"] }

// beyond are the parameters of a node that a template does not give it; ok is
// false if the template gives it others besides.
func (c Cluster) beyond(n spec.Node, template string) (p map[string]string, ok bool) {
	front := frontOf(n)
	base := conf.Tune(spec.Tuning{
		Template: template, SharedRatio: 0.25, Storage: "SSD", IO: "worker", Libs: libraries(n),
		Pooled: n.Pool.Listen != "" && front.Dest == cluster.DestPool,
	}, c.Machine, n.Postgres.Major)
	p, ok = map[string]string{}, true
	for name, value := range n.Postgres.Parameters {
		if n.Backup.Repo != "" && (name == "archive_mode" || name == "archive_command" || name == "archive_timeout" && value == "300") {
			continue // they follow from the backups
		}
		if base[name] != value {
			p[name] = value
		}
	}
	for name := range base {
		if _, has := n.Postgres.Parameters[name]; !has {
			ok = false
		}
	}
	return p, ok
}

// member is what is said of one host.
func (c Cluster) member(n spec.Node, front spec.Front, template string) fields {
	var f fields
	vars := map[string]any{}
	for _, m := range front.Members {
		if m.Name == n.Member {
			vars = m.Vars
		}
	}
	_, seq, _ := strings.Cut(n.Member, n.Cluster+"-")
	number, _ := strconv.Atoi(seq)
	f.add("pg_seq", number)
	role, _ := vars["pg_role"].(string)
	if role == "" {
		role = map[bool]string{true: "primary", false: "replica"}[n.Agent.Founder == n.Member]
	}
	f.add("pg_role", role)
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		switch v := vars[name].(type) {
		case bool:
			if v || name != "pg_offline_query" {
				f.add(name, v)
			}
		case float64: // as all numbers of JSON are
			if name != "pg_seq" && name != "pg_port" && (name != "pg_weight" || v != 100) {
				f.add(name, v)
			}
		case string:
			if !slices.Contains([]string{"pg_role", "pg_cluster", "pg_instance", "inventory_hostname"}, name) {
				f.add(name, v)
			}
		}
	}
	if w := n.Watchdog; w.On() && w.Device != spec.WatchdogDevice {
		f.add("patroni_watchdog_device", w.Device)
	}
	if n.Postgres.Delay != "" {
		f.add("pg_delay", n.Postgres.Delay)
	}
	tags := fields{}
	for _, name := range slices.Sorted(maps.Keys(n.Agent.Tags)) {
		if name == cluster.TagReplicateFrom || name == cluster.TagNoFailover && n.Postgres.Delay != "" {
			continue // it follows from another word
		}
		tags.add(name, n.Agent.Tags[name])
	}
	if len(tags) > 0 {
		f.add("patroni_tags", tags)
	}
	if from, ok := n.Agent.Tags[cluster.TagReplicateFrom].(string); ok {
		for _, o := range c.Nodes {
			if o.Member == from {
				f.add("pg_upstream", o.Host)
			}
		}
	}
	f.add("pg_port", n.Postgres.Port)
	f.add("patroni_port", portOf(n.Agent.Listen))
	if n.Gateway.Listen != "" {
		f.add("haproxy_exporter_port", portOf(n.Gateway.Listen))
	}
	for _, e := range []struct{ name, listen string }{
		{"pg_exporter", n.Jobs.Exporter}, {"pgbouncer_exporter", n.Pool.Exporter}, {"pgbackrest_exporter", n.Jobs.Backups}, {"node_exporter", n.Jobs.Host},
	} {
		f.add(e.name+"_enabled", e.listen != "")
		if e.listen != "" {
			f.add(e.name+"_port", portOf(e.listen))
		}
	}
	p, _ := c.beyond(n, template)
	f.add("pg_libs", libraries(n))
	f.add("pg_parameters", settings(p))
	f.add("pg_default_hba_rules", []any{})
	f.add("pg_hba_rules", rules(n.Postgres.HBA))
	f.add("pgb_default_hba_rules", []any{})
	f.add("pgb_hba_rules", rules(n.Pool.HBA))
	return f
}

func rules(all []spec.AccessRule) []any {
	list := []any{}
	for _, r := range all {
		var f fields
		if r.Title != "" {
			f.add("title", r.Title)
		}
		if r.Role != "" {
			f.add("role", r.Role)
		}
		f.add("rules", texts(r.Lines))
		list = append(list, f)
	}
	return list
}
