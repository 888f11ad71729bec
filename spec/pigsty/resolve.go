package pigsty

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/cluster"
	"howdah/secret"
	"howdah/spec"
)

// server is one PostgreSQL server as the inventory has it.
type server struct {
	*scope
	host    *host
	group   *group // that made it a member; nil: nobody in particular
	cluster string
	seq     int
	role    string
	at      int  // line of its host
	rest    int  // the agent's port
	known   bool // its number was understood
}

// resolve makes the world of the tree.
func (r *reader) resolve(inv *inventory, w *spec.World) {
	var servers []*server
	for _, h := range inv.hosts {
		servers = append(servers, r.servers(inv, h)...)
	}
	var names []string // of clusters, in the order of the file
	for _, s := range servers {
		if !slices.Contains(names, s.cluster) {
			names = append(names, s.cluster)
		}
	}
	r.ports(servers)
	r.pools(names, servers)
	store := r.pace(inv)
	for _, name := range names {
		var members []*server
		for _, s := range servers {
			if s.cluster == name {
				members = append(members, s)
			}
		}
		slices.SortStableFunc(members, func(a, b *server) int { return cmp.Compare(a.seq, b.seq) })
		r.membership(name, members)
		w.Clusters = append(w.Clusters, r.cluster(inv, name, members, store))
	}
	r.upstreams(w, servers)
	r.beat(w, store)
	r.stores(inv, w)
	r.metrics(inv, w)
	r.remotes(inv, w)
	r.logs(inv, w)
	r.others(inv, w)
	r.logins(inv, w)
	r.names(inv, servers, w)
	r.listeners(servers, w)
	if len(names) == 0 && !r.failed() && len(inv.hosts) > 0 {
		r.warn(0, "no host has pg_cluster: there is no PostgreSQL cluster in this inventory")
	}
}

// servers are those of one host: one where the identity parameters are given
// once; several where pg_instances lists them by port, or where several groups
// make the host a member, which then must not share a port.
func (r *reader) servers(inv *inventory, h *host) []*server {
	whole := r.scope(inv, h, nil)
	if list := whole.vars["pg_instances"]; list.value != nil && list.value.kind == mapKind && len(list.value.fields) > 0 {
		var all []*server
		for _, f := range list.value.fields {
			port := &value{kind: mapKind, fields: []field{{"pg_port", f.line, &value{line: f.line, text: f.name, scalar: f.name}}}}
			if s := r.server(r.scope(inv, h, nil, f.value, port), h, nil, f.line); s != nil {
				all = append(all, s)
			}
		}
		return all
	}
	var makers []*group
	for _, g := range inv.of(h) {
		says := g.vars.field("pg_cluster")
		for _, e := range g.own {
			if e.host == h && e.vars.field("pg_cluster") != nil {
				says = e.vars.field("pg_cluster")
			}
		}
		if says != nil {
			makers = append(makers, g)
		}
	}
	if len(makers) < 2 {
		var g *group
		if len(makers) == 1 {
			g = makers[0]
		}
		if s := r.server(whole, h, g, h.line); s != nil {
			return []*server{s}
		}
		return nil
	}
	var all []*server
	for _, g := range makers {
		others := slices.DeleteFunc(slices.Clone(makers), func(o *group) bool { return o == g })
		line := h.line
		for _, e := range g.own {
			if e.host == h && e.vars != nil {
				line = e.vars.line
			}
		}
		if s := r.server(r.scope(inv, h, others), h, g, line); s != nil {
			all = append(all, s)
		}
	}
	return all
}

// server is what the scope makes of a host, or nil if that is no server.
func (r *reader) server(sc *scope, h *host, g *group, line int) *server {
	if !sc.given("pg_cluster") {
		for _, name := range []string{"pg_seq", "pg_role"} {
			if sc.given(name) {
				r.bad(sc.line(name), "host %s has %s but no pg_cluster", h.name, name)
			}
		}
		return nil
	}
	s := &server{scope: sc, host: h, group: g, at: line}
	if s.cluster = s.text("pg_cluster"); s.cluster == "" { // it does not fit, and its members are looked at all the same
		s.cluster = s.vars["pg_cluster"].value.String()
	}
	for _, name := range []string{"pg_seq", "pg_role"} {
		if !s.given(name) {
			r.bad(line, "host %s is a member of cluster %s and has no %s", h.name, s.cluster, name)
		}
	}
	s.seq, s.role = s.int("pg_seq"), s.text("pg_role")
	s.known = s.given("pg_seq") && !s.ill["pg_seq"]
	s.extra["pg_cluster"] = s.cluster
	return s
}

func (s *server) name() string { return s.cluster + "-" + strconv.Itoa(s.seq) }

// ports sees to it that the servers of one host do not share any. Agents get
// ports of their own where nobody gave them one.
func (r *reader) ports(servers []*server) {
	byHost := map[string][]*server{}
	for _, s := range servers {
		port := s.int("pg_port")
		s.rest = s.int("patroni_port")
		for n, o := range byHost[s.host.name] {
			if o.int("pg_port") == port {
				r.find(spec.Problem, s.at, fmt.Sprintf("host %s carries %s and %s on the same port %d", s.host.name, o.name(), s.name(), port), "give one of them another pg_port")
			}
			if o.rest == s.rest {
				s.rest += n + 1
				s.derive("patroni_port", s.rest, "derived: another server of its host has "+strconv.Itoa(o.rest))
			}
		}
		for _, name := range []string{"pg_exporter_port", "pgbouncer_exporter_port", "pgbackrest_exporter_port"} {
			s.apart(name, byHost[s.host.name])
		}
		byHost[s.host.name] = append(byHost[s.host.name], s)
	}
}

// pools gives clusters that share a host ports of their own for their pools, where
// nobody gave them any.
func (r *reader) pools(names []string, servers []*server) {
	var before []*server // of the clusters that came before
	for _, name := range names {
		var members []*server
		for _, s := range servers {
			if s.cluster == name {
				members = append(members, s)
			}
		}
		first := primary(members)
		var beside []*server
		for _, o := range before {
			if slices.ContainsFunc(members, func(s *server) bool { return s.host == o.host }) {
				beside = append(beside, o)
			}
		}
		if first.apart("pgbouncer_port", beside) {
			for _, s := range members {
				s.vars["pgbouncer_port"] = first.vars["pgbouncer_port"]
			}
		}
		before = append(before, members...)
	}
}

// apart gives a server the next port that none of the others has, where it has
// theirs and nobody gave it one.
func (s *server) apart(name string, others []*server) bool {
	const step = 10 // the ports beside it are those of something else
	port, free := s.int(name), s.int(name)
	if s.given(name) {
		return false
	}
	for slices.ContainsFunc(others, func(o *server) bool { return o.int(name) == free }) {
		free += step
	}
	if free == port {
		return false
	}
	s.vars[name] = field{name: name, value: &value{text: strconv.Itoa(free), scalar: int64(free)}}
	s.derive(name, free, "derived: another server of its host has "+strconv.Itoa(port))
	return true
}

// membership checks what the members of one cluster must be together.
func (r *reader) membership(name string, members []*server) {
	var primaries []string
	all := true // the roles of all are known
	for i, s := range members {
		all = all && s.role != ""
		if s.role == "primary" {
			primaries = append(primaries, s.host.name)
		}
		for _, o := range members[:i] {
			if o.seq == s.seq && o.known && s.known {
				r.bad(s.at, "cluster %s has pg_seq %d twice: %s and %s", name, s.seq, o.host.name, s.host.name)
			}
		}
		if mode := s.text("pg_mode"); mode != "pgsql" {
			r.bad(s.at, "cluster %s has pg_mode %s, and this program runs PostgreSQL itself only", name, mode)
		}
	}
	switch {
	case len(primaries) == 0 && all:
		r.find(spec.Problem, members[0].at, "cluster "+name+" has no member with pg_role: primary", "give it to one of them")
	case len(primaries) > 1:
		r.find(spec.Problem, members[0].at, fmt.Sprintf("cluster %s has %d members with pg_role: primary: %s", name, len(primaries), strings.Join(primaries, ", ")), "a cluster begins with one; who leads later is not the inventory's")
	}
}

// primary is the member that creates the cluster; where nobody is said to, the first.
func primary(members []*server) *server {
	return members[max(0, slices.IndexFunc(members, func(s *server) bool { return s.role == "primary" }))]
}

// ofCluster are the parameters that belong to a cluster as a whole; where its
// members have different ones, the primary's count.
var ofCluster = []string{
	"pg_version", "pg_namespace", "pg_conf", "pg_users", "pg_databases", "pg_services", "pg_default_services",
	"pg_default_service_dest", "pg_service_provider", "pg_default_roles", "pg_default_privileges", "pg_rpo", "pg_rto",
	"pg_replication_password", "pg_admin_password", "pg_monitor_password", "pg_dbsu_password",
	"pg_default_schemas", "pg_default_extensions", "pg_provision", "pgbouncer_enabled", "pgbouncer_port",
	"pgbouncer_poolmode", "pgbouncer_parameters", "pgbouncer_sslmode", "pgbouncer_ignore_param",
	"patroni_ssl_enabled", "patroni_username", "patroni_password", "admin_ip",
	"haproxy_admin_username", "haproxy_admin_password", "haproxy_auth_enabled",
	"pgbackrest_enabled", "pgbackrest_init_backup", "pgbackrest_method", "pgbackrest_repo", "pg_crontab", "pgbackrest_stream", "pgbackrest_stream_interval", "pgbackrest_stream_size", "pgbackrest_drill", "pg_create_replica_methods", "pgbackrest_rate", "pgbackrest_standby", "pgbackrest_lag_max", "pgbackrest_queue_max", "pg_restore_from", "pg_vip_enabled", "pg_vip_address",
	"pg_dns_suffix", "pg_dns_target", "patroni_watchdog_mode", "patroni_watchdog_safety_margin",
}

func (r *reader) cluster(inv *inventory, name string, members []*server, store pace) spec.Cluster {
	first := primary(members)
	c := spec.Cluster{
		Name: name, Namespace: inv.namespace, Timers: spec.Safe(), Dest: first.text("pg_default_service_dest"),
		Config: map[string]any{}, Secrets: map[string]secret.Text{},
	}
	for _, s := range members {
		for _, p := range ofCluster {
			if s.vars[p].value != first.vars[p].value && s.given(p) {
				r.warn(s.line(p), "%s of %s is ignored: it is the cluster's, and its primary %s has another", p, s.name(), first.name())
			}
		}
	}
	if first.given("pg_namespace") {
		c.Namespace = strings.TrimRight(first.text("pg_namespace"), "/")
	} else {
		first.derive("pg_namespace", c.Namespace, "default")
	}
	c.Major = first.int("pg_version")
	if inv.namespace == ours && !first.given("pg_version") {
		c.Major = 0
		first.derive("pg_version", "newest", "default of the short form")
	}
	if c.Major > 18 {
		r.bad(first.line("pg_version"), "pg_version is %d, and this program runs PostgreSQL 14 to 18", c.Major)
	}
	if first.bool("pgbouncer_enabled") {
		c.PoolPort = first.int("pgbouncer_port")
		c.Pool = spec.Pool{Mode: first.text("pgbouncer_poolmode"), TLS: slices.Contains([]string{"require", "verify-ca", "verify-full"}, first.text("pgbouncer_sslmode"))}
		c.Pool.Parameters = settings(first.get("pgbouncer_parameters"))
		for name := range strings.SplitSeq(first.text("pgbouncer_ignore_param"), ",") {
			if name = strings.TrimSpace(name); name != "" {
				c.Pool.Ignore = append(c.Pool.Ignore, name)
			}
		}
	}
	r.timers(first, &c, store)
	c.Watchdog = r.watchdog(first, c.Timers)
	r.promise(first, members, &c)
	c.Services = r.services(first)
	c.Objects = r.objects(first, &c)
	c.REST, c.Page = r.rest(inv, first, c.Secrets), r.page(first, c.Secrets)
	c.Carriers = r.carriers(inv, first, members, &c)
	c.Backup = r.backups(first, c.Secrets)
	c.VIP = r.virtual(first, members)
	c.Suffix, c.Target = first.text("pg_dns_suffix"), first.text("pg_dns_target")
	if c.Target == "vip" && c.VIP == "" {
		r.warn(first.line("pg_dns_target"), "pg_dns_target of cluster %s is vip, and it has none: its name will be its primary's address", name)
	}
	if up := first.get("pg_upstream"); up != nil && !up.null() {
		c.Upstream = spec.Upstream{Host: up.String(), Port: first.int("pg_port")}
		if d := first.text("pg_delay"); d != "0" {
			c.Upstream.Delay = d
		}
	}
	if from := first.get("pg_restore_from"); from != nil && !from.null() {
		text := func(key string) string {
			if v := from.field(key); v != nil {
				return v.String()
			}
			return ""
		}
		c.Origin = spec.Origin{Config: text("config"), Stanza: text("stanza"), To: text("to"), Set: text("set")}
		if c.Upstream.Host != "" {
			r.find(spec.Problem, first.line("pg_restore_from"), "cluster "+name+" has pg_restore_from and pg_upstream, and begins with one of them", "take one out")
		}
	}
	for _, s := range members {
		c.Members = append(c.Members, r.member(inv, s, members, c))
	}
	c.Settings = lift(c.Members)
	return c
}

// lift moves what every member has from the same place up to the cluster.
func lift(members []spec.Member) []spec.Setting {
	var shared []spec.Setting
	for _, s := range members[0].Settings {
		everywhere := true
		for _, m := range members[1:] {
			everywhere = everywhere && slices.ContainsFunc(m.Settings, func(o spec.Setting) bool { return same(o, s) })
		}
		// Of what only one member was asked, the answer is the cluster's.
		if everywhere || slices.Contains(ofCluster, s.Name) {
			shared = append(shared, s)
		}
	}
	for _, m := range members[1:] { // the primary need not be the first
		for _, s := range m.Settings {
			if slices.Contains(ofCluster, s.Name) && !slices.ContainsFunc(shared, func(o spec.Setting) bool { return o.Name == s.Name }) {
				shared = append(shared, s)
			}
		}
	}
	slices.SortFunc(shared, func(a, b spec.Setting) int { return cmp.Compare(a.Name, b.Name) })
	for i := range members {
		members[i].Settings = slices.DeleteFunc(members[i].Settings, func(s spec.Setting) bool {
			return slices.ContainsFunc(shared, func(o spec.Setting) bool { return o.Name == s.Name })
		})
	}
	return shared
}

func same(a, b spec.Setting) bool {
	return a.Name == b.Name && a.Origin == b.Origin && fmt.Sprint(a.Value) == fmt.Sprint(b.Value)
}

// plans are Pigsty's pg_rto_plan: ttl, loop_wait, retry_timeout,
// primary_start_timeout and safety margin, in seconds.
var plans = map[string][5]int{
	"fast": {20, 5, 5, 15, 5}, "norm": {30, 5, 10, 25, 5}, "safe": {60, 10, 20, 45, 10}, "wide": {120, 20, 30, 95, 15},
}

func (r *reader) timers(s *server, c *spec.Cluster, store pace) {
	plan, chosen := plans[s.text("pg_rto")]
	if chosen {
		sec := func(i int) time.Duration { return time.Duration(plan[i]) * time.Second }
		c.Timers.Lease, c.Timers.Renew, c.Timers.Retry, c.Timers.Start, c.Timers.Margin = sec(0), sec(1), sec(2), sec(3), sec(4)
		c.Config["ttl"], c.Config["loop_wait"], c.Config["retry_timeout"], c.Config["primary_start_timeout"] = plan[0], plan[1], plan[2], plan[3]
	} else {
		origin := "default: our own timers"
		if need := store.least(); c.Timers.Lease < need {
			c.Timers.Lease = need
			origin += ", and a lease that holds five elections of etcd (" + r.place(store.line) + ")"
		}
		if !s.given("pg_rto") {
			s.derive("pg_rto", fmt.Sprintf("lease %s, renewed every %s", c.Timers.Lease, c.Timers.Renew), origin)
		}
	}
	if s.given("pg_rpo") {
		n, _ := whole(s.get("pg_rpo"))
		c.Timers.MaxLag = n
		if n == 0 {
			c.Config["synchronous_mode"] = true
			r.find(spec.Warning, s.line("pg_rpo"), "with pg_rpo: 0 commits wait for a standby as long as there is one",
				"a primary that is left alone goes on; synchronous_mode_strict in the dynamic configuration forbids that")
		}
	}
	if strings.HasPrefix(s.text("pg_conf"), "crit") {
		c.Config["synchronous_mode"], c.Config["synchronous_mode_strict"] = true, true
	}
}

// manyForQuorum is from how many data nodes on a new cluster commits strictly: of two
// the loss of either would keep everybody from writing.
const manyForQuorum = 3

// promise is what a new cluster may lose where nobody has said: nothing, if it has
// nodes enough for quorum commit, and of two nothing while both are up. Those that are behind on purpose, or stream from
// another standby, can not stand in for the primary. What positions decide, beside a
// real Patroni or once the mode is off, keeps its own bound of bytes.
func (r *reader) promise(first *server, members []*server, c *spec.Cluster) {
	if first.given("pg_rpo") {
		return
	}
	many := 0
	for _, s := range members {
		up, d := s.get("pg_upstream"), s.text("pg_delay")
		if s == first || s.role != "delayed" && (d == "0" || d == "") && up.null() {
			many++
		}
	}
	switch {
	case c.Config["synchronous_mode"] != nil:
		first.derive("pg_rpo", 0, "default: the template has a standby confirm every commit")
	case many >= manyForQuorum:
		c.Begin = map[string]any{"synchronous_mode": cluster.SyncQuorum, "synchronous_mode_strict": true}
		first.derive("pg_rpo", 0, fmt.Sprintf("default: quorum commit, with %d data nodes", many))
	case many > 1:
		c.Begin = map[string]any{"synchronous_mode": cluster.SyncQuorum}
		first.derive("pg_rpo", 0, "default: quorum commit while both data nodes are up; one that is left alone goes on")
	default:
		first.derive("pg_rpo", c.Timers.MaxLag, "default: our own")
	}
}

func (r *reader) services(s *server) []cluster.Service {
	var all []cluster.Service
	seen := map[string]int{}
	ports := map[int]string{}
	for _, list := range []*value{s.get("pg_default_services"), s.get("pg_services")} {
		if list == nil {
			continue
		}
		for _, v := range list.list {
			port, _ := whole(v.field("port"))
			out := cluster.Service{
				Name: v.field("name").String(), Port: int(port), IP: or(v.field("ip"), "*"), Dest: or(v.field("dest"), cluster.DestDefault),
				Check: or(v.field("check"), "/"), Selector: v.field("selector").String(), Backup: v.field("backup").String(),
				MaxConn: 5000, Balance: or(v.field("balance"), "roundrobin"), Options: v.field("options").String(),
			}
			if n, ok := whole(v.field("maxconn")); ok {
				out.MaxConn = int(n)
			}
			if _, err := strconv.Atoi(out.Dest); err != nil && out.Dest != cluster.DestDefault && out.Dest != cluster.DestPool {
				out.Dest = cluster.DestPostgres
			}
			if _, err := out.Limits(); err != nil {
				r.bad(v.field("options").line, "service %s of cluster %s: %s", out.Name, s.cluster, err)
			}
			if line, ok := seen[out.Name]; ok {
				r.bad(v.line, "cluster %s has service %s twice, on lines %d and %d", s.cluster, out.Name, line, v.line)
			}
			if other, ok := ports[out.Port]; ok {
				r.bad(v.line, "services %s and %s of cluster %s have the same port %d", other, out.Name, s.cluster, out.Port)
			}
			if check := v.field("check"); !check.null() && !cluster.Answered(check.String()) {
				r.path(check)
			}
			if v.field("check").absent() && out.Name != "primary" && out.Name != "default" {
				r.find(spec.Warning, v.line, "service "+out.Name+" has no check, so it leads to the primary", "give it one: /read-only, /replica, /sync")
			}
			seen[out.Name], ports[out.Port] = v.line, out.Name
			all = append(all, out)
		}
	}
	return all
}

// path warns of a check that no agent knows: its service leads nowhere.
func (r *reader) path(check *value) {
	path, query, asks := strings.Cut(check.String(), "?")
	do := "write one of " + strings.Join(cluster.CheckPaths, ", ")
	if near := nearest(path, cluster.CheckPaths); near != "" {
		if asks {
			near += "?" + query
		}
		do = "did you mean " + near + "?"
	}
	r.find(spec.Warning, check.line, "no agent answers the check "+quote(check.String())+", so its service leads nowhere", do)
}

func or(v *value, otherwise string) string {
	if v.null() {
		return otherwise
	}
	return v.String()
}

// carriers are the hosts that run the cluster's services.
func (r *reader) carriers(inv *inventory, s *server, members []*server, c *spec.Cluster) []string {
	var hosts []string
	if name := s.text("pg_service_provider"); name != "" {
		if g := inv.group(name); g != nil {
			c.Provider = name
			for _, e := range inv.members(g) {
				hosts = append(hosts, e.host.name)
			}
			return unique(hosts)
		}
		r.warn(s.line("pg_service_provider"), "there is no group %s, so every member carries the services", quote(name))
	}
	for _, m := range members {
		hosts = append(hosts, m.host.name)
	}
	return unique(hosts)
}

// unique drops what was there before, and keeps the order.
func unique[T comparable](all []T) []T {
	var once []T
	for _, s := range all {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}

var identifier = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

func (r *reader) member(inv *inventory, s *server, members []*server, c spec.Cluster) spec.Member {
	m := spec.Member{
		Name: s.name(), Host: s.host.name, Port: s.int("pg_port"), REST: s.rest, Stats: s.int("haproxy_exporter_port"),
		Role: s.role, User: s.text("pg_dbsu"), Parameters: map[string]string{},
	}
	if c.Watchdog.On() {
		m.Watchdog = s.text("patroni_watchdog_device")
	}
	if c.VIP != "" {
		m.Link = s.text("pg_vip_interface")
	}
	if s.bool("pg_exporter_enabled") {
		m.Exporter = s.int("pg_exporter_port")
	}
	if s.bool("pgbouncer_exporter_enabled") {
		m.Exporters.Pool = s.int("pgbouncer_exporter_port")
	}
	if s.bool("pgbackrest_exporter_enabled") {
		m.Exporters.Backups = s.int("pgbackrest_exporter_port")
	}
	m.Exporters.Machine, m.Exporters.Logs = s.machine(), s.logs()
	s.extra["ip"], s.extra["lo"] = s.host.name, "127.0.0.1"
	ratio, _ := strconv.ParseFloat(s.text("pg_shared_buffer_ratio"), 64)
	conns, _ := whole(s.get("pg_max_conn"))
	m.Tuning = spec.Tuning{
		Template: strings.TrimSuffix(s.text("pg_conf"), ".yml"), MaxConnections: int(conns), SharedRatio: ratio,
		Storage: s.text("pg_storage_type"), IO: s.text("pg_io_method"), Libs: s.text("pg_libs"),
		Pooled: c.PoolPort != 0 && c.Dest == cluster.DestPool,
	}
	if v := s.get("pg_parameters"); v != nil {
		for _, f := range v.fields {
			m.Parameters[strings.ToLower(f.name)] = setting(f.value)
			if s.given("pg_parameters") {
				r.mention(spec.Mention{Kind: spec.ParameterName, Cluster: s.cluster, Name: f.name, Value: setting(f.value), Line: f.line})
			}
		}
	}
	if s.given("pg_libs") {
		for name := range strings.SplitSeq(m.Tuning.Libs, ",") {
			if name = strings.TrimPrefix(strings.Trim(strings.TrimSpace(name), `'"`), "$libdir/"); name != "" {
				r.mention(spec.Mention{Kind: spec.LibraryName, Cluster: s.cluster, Name: name, Line: s.line("pg_libs")})
			}
		}
	}
	if s.text("pg_pwd_enc") == "md5" {
		m.Parameters["password_encryption"] = "md5"
	}
	if d := s.text("pg_delay"); d != "0" && d != "" && s.role != "primary" {
		m.Delay = d
	}
	m.Tags = s.tags()
	if s.role == "delayed" || m.Delay != "" {
		m.Tags[cluster.TagNoFailover] = true // it is behind on purpose
	}
	if up := s.get("pg_upstream"); up != nil && s.role != "primary" {
		i := slices.IndexFunc(members, func(o *server) bool { return o.host.name == up.String() && o != s })
		if i < 0 {
			r.bad(s.line("pg_upstream"), "pg_upstream of %s is %s, and no other member of cluster %s is there", s.name(), up.String(), s.cluster)
		} else {
			m.Tags[cluster.TagReplicateFrom] = members[i].name()
		}
	}
	m.HBA = r.access(inv, s, members, "pg_default_hba_rules", "pg_hba_rules")
	if c.PoolPort != 0 {
		m.PoolHBA = r.access(inv, s, members, "pgb_default_hba_rules", "pgb_hba_rules")
	}
	m.Vars = s.selectable(c.Services)
	m.Settings = s.settings()
	return m
}

// tags are Patroni's, as JSON has them.
func (s *server) tags() map[string]any {
	tags := map[string]any{}
	if v := s.get("patroni_tags"); v != nil {
		for _, f := range v.fields {
			is := objects["tags"][f.name]
			if yes, ok := truth(f.value); ok && is == "bool" {
				tags[f.name] = yes
			} else if n, ok := whole(f.value); ok && is == "seq" {
				tags[f.name] = float64(n)
			}
		}
	}
	return tags
}

// selectable are the variables that the services' selectors name, and those
// that say who the member is. Passwords never.
func (s *server) selectable(services []cluster.Service) map[string]any {
	vars := map[string]any{
		"pg_cluster": s.cluster, "pg_seq": s.seq, "pg_role": s.role, "pg_instance": s.name(), "inventory_hostname": s.host.name,
		"pg_offline_query": s.bool("pg_offline_query"), "pg_weight": s.int("pg_weight"), "pg_port": s.int("pg_port"),
	}
	for _, svc := range services {
		for _, name := range identifier.FindAllString(svc.Selector+" "+svc.Backup, -1) {
			if _, ok := vars[name]; ok || strings.Contains(name, "password") {
				continue
			}
			if v, _ := s.look(name); v != nil && v.kind == scalarKind {
				vars[name] = v.plain()
			}
		}
	}
	return vars
}

// setting is a value as a server parameter's text.
func setting(v *value) string {
	if b, ok := v.scalar.(bool); ok {
		if b {
			return "on"
		}
		return "off"
	}
	return v.String()
}

// stores are the members of etcd: those of group etcd, or else of the first one
// or three hosts with a server.
func (r *reader) stores(inv *inventory, w *spec.World) {
	name := func(host, otherwise string) string {
		for _, c := range w.Clusters {
			for _, m := range c.Members {
				if m.Host == host {
					return m.Name
				}
			}
		}
		return otherwise
	}
	if g := inv.group("etcd"); g != nil {
		seen := map[int]bool{}
		for _, e := range inv.members(g) {
			s := r.scope(inv, e.host, nil)
			if !s.given("etcd_seq") {
				r.bad(e.host.line, "host %s is in group etcd and has no etcd_seq", e.host.name)
				continue
			}
			seq := s.int("etcd_seq")
			if seen[seq] {
				r.bad(s.line("etcd_seq"), "group etcd has etcd_seq %d twice", seq)
			}
			seen[seq] = true
			w.Stores = append(w.Stores, spec.Store{
				Name: name(e.host.name, "etcd-"+strconv.Itoa(seq)), Host: e.host.name,
				Client: s.int("etcd_port"), Peer: s.int("etcd_peer_port"), Origin: r.place(e.host.line),
			})
		}
		if n := len(w.Stores); n > 0 && n%2 == 0 {
			r.find(spec.Warning, g.line, fmt.Sprintf("group etcd has %d members, which survive no more losses than %d", n, n-1), "have 1, 3 or 5")
		}
		return
	}
	var hosts []string
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			hosts = append(hosts, m.Host)
		}
	}
	hosts = unique(hosts)
	n := min(len(hosts), 1)
	if len(hosts) >= 3 {
		n = 3
	}
	for _, h := range hosts[:n] {
		w.Stores = append(w.Stores, spec.Store{Name: name(h, ""), Host: h, Client: 2379, Peer: 2380, Origin: "default: there is no group etcd", Implied: true})
	}
}

// others are the hosts without a server that carry a store, services or metrics.
func (r *reader) others(inv *inventory, w *spec.World) {
	has := map[string]bool{}
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			has[m.Host] = true
		}
	}
	add := func(address, group, name string) {
		if has[address] {
			return
		}
		has[address] = true
		h := slices.IndexFunc(inv.hosts, func(h *host) bool { return h.name == address })
		s := r.scope(inv, inv.hosts[h], nil)
		o := spec.Other{Name: name, Host: address, Group: group, Stats: s.int("haproxy_exporter_port"), Secrets: map[string]secret.Text{}}
		o.Page, o.Machine, o.Logs = r.page(s, o.Secrets), s.machine(), s.logs()
		w.Others = append(w.Others, o)
	}
	for _, s := range w.Stores {
		add(s.Host, "etcd", s.Name)
	}
	for _, c := range w.Clusters {
		for i, host := range c.Carriers {
			add(host, c.Provider, c.Provider+"-"+strconv.Itoa(i+1))
		}
	}
	for _, m := range w.Metrics {
		add(m.Host, "infra", m.Name)
	}
	for _, m := range w.Remotes {
		add(m.Host, "infra", m.Name)
	}
}

// logins says of the hosts that carry something how a person comes to them.
func (r *reader) logins(inv *inventory, w *spec.World) {
	carries := map[string]bool{}
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			carries[m.Host] = true
		}
	}
	for _, o := range w.Others {
		carries[o.Host] = true
	}
	for _, h := range inv.hosts {
		if carries[h.name] {
			s := r.scope(inv, h, nil)
			w.Hosts = append(w.Hosts, spec.Host{Host: h.name, Address: s.text("ansible_host"), Port: s.int("ansible_port"), User: s.text("ansible_user"), Settings: r.settingsOf(s)})
		}
	}
}

// machine is the port of the metrics of the host; 0: it tells none.
func (s *scope) machine() int {
	if !s.bool("node_exporter_enabled") {
		return 0
	}
	return s.int("node_exporter_port")
}

// logs is the port where the logs of the host are read; 0: they are not kept.
func (s *scope) logs() int {
	if !s.bool("vector_enabled") {
		return 0
	}
	return s.int("vector_port")
}

// listeners finds what would share a port of a host. Of the services of several
// clusters on one port the first one's is there.
func (r *reader) listeners(servers []*server, w *spec.World) {
	type place struct {
		host string
		port int
	}
	taken := map[place]string{}
	lines := map[string]int{}
	for _, s := range servers {
		lines[s.name()] = s.at
	}
	claim := func(line int, host string, port int, who string) {
		if port == 0 {
			return
		}
		p := place{host, port}
		other, ok := taken[p]
		switch {
		case !ok:
			taken[p] = who
		case strings.HasPrefix(other, postgresOf) && strings.HasPrefix(who, postgresOf): // told by their pg_port
		default:
			r.find(spec.Problem, line, fmt.Sprintf("port %d of host %s is wanted by %s and by %s", port, host, other, who), "give one of them another port")
		}
	}
	stats, machines := map[string]int{}, map[string]int{} // one for all that a host carries
	for _, c := range w.Clusters {
		for _, m := range c.Members {
			at := lines[m.Name]
			claim(at, m.Host, m.Port, postgresOf+m.Name)
			claim(at, m.Host, m.REST, "the agent of "+m.Name)
			claim(at, m.Host, c.PoolPort, "the pool of "+m.Name)
			claim(at, m.Host, m.Exporter, "the exporter of "+m.Name)
			if c.PoolPort != 0 {
				claim(at, m.Host, m.Exporters.Pool, "the exporter of the pool of "+m.Name)
			}
			if c.Backup.On {
				claim(at, m.Host, m.Exporters.Backups, "the exporter of the backups of "+m.Name)
				claim(at, m.Host, m.Archive(), "the repository of "+m.Name)
			}
			stats[m.Host], machines[m.Host] = cmp.Or(stats[m.Host], m.Stats), cmp.Or(machines[m.Host], m.Exporters.Machine)
		}
	}
	for _, o := range w.Others {
		stats[o.Host], machines[o.Host] = o.Stats, o.Machine
	}
	for _, h := range w.Hosts {
		claim(0, h.Host, stats[h.Host], "the gateway's page")
		claim(0, h.Host, machines[h.Host], "the exporter of the host")
	}
	for _, s := range w.Stores {
		claim(0, s.Host, s.Client, "etcd")
		claim(0, s.Host, s.Peer, "etcd's peers")
	}
	for _, m := range w.Remotes {
		claim(0, m.Host, m.Port, "the exporter of "+m.Member)
	}
	for _, n := range w.Names {
		claim(0, n.Host, n.Port, "the name server")
	}
	for _, c := range w.Clusters {
		for _, h := range c.Carriers {
			for _, s := range c.Services {
				p := place{h, s.Port}
				switch other := taken[p]; {
				case other == "":
					taken[p] = "cluster " + c.Name
				case other == "cluster "+c.Name:
				case strings.HasPrefix(other, "cluster "):
					r.find(spec.Warning, 0, fmt.Sprintf("service %s of cluster %s is not offered on host %s, where its port %d leads to %s", s.Name, c.Name, h, p.port, other), "")
				default:
					claim(0, h, s.Port, "service "+s.Name+" of cluster "+c.Name)
				}
			}
		}
	}
}

// postgresOf begins the name of a server that wants a port.
const postgresOf = "PostgreSQL of "
