package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"howdah/pgwire"
)

// A view is one thing to SHOW: columns as letters and names, and its rows. The
// letters are s text, i int4, q int8, N numeric.
type view struct {
	types   string
	columns string
	rows    func(f Facts, row func(values ...any))
}

// null is a value that is not there.
type null struct{}

// or is text, or null where there is none.
func or(text string) any {
	if text == "" {
		return null{}
	}
	return text
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func seconds(d time.Duration) int { return int(d / time.Second) }

// rest is what of d is no whole second, in microseconds.
func rest(d time.Duration) int { return int(d % time.Second / time.Microsecond) }

// at is an instant as the console prints it; "" for one that never was.
func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("2006-01-02 15:04:05 MST")
}

const (
	socketTypes   = "ssssssisissiiississii"
	socketColumns = "type user database replication state addr port local_addr local_port connect_time request_time " +
		"wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id"
	bufferColumns = " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail"
	totalNames    = "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time client_parse_count server_parse_count bind_count"
)

// views are what can be shown, by name.
var views = map[string]*view{
	"version": {"s", "version", func(_ Facts, row func(...any)) { row("PgBouncer " + Version) }},
	"state": {"ss", "key value", func(f Facts, row func(...any)) {
		for m, name := range []string{"active", "paused", "suspended"} {
			row(name, yes(f.Mode == Mode(m)))
		}
	}},
	"config": {"ssss", "key value default changeable", func(f Facts, row func(...any)) {
		for _, s := range sorted(f.Settings, func(s Setting) string { return s.Key }) {
			row(s.Key, s.Value, s.Default, yes(s.Changeable))
		}
	}},
	"databases": {
		"ssissiiiissiiiiii",
		"name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode load_balance_hosts " +
			"max_connections current_connections max_client_connections current_client_connections paused disabled",
		databases,
	},
	"users": {
		"ssssiiii",
		"name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections current_client_connections",
		users,
	},
	"pools": {
		"ssiiiiiiiiiiiiiss",
		"database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled " +
			"sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
		pools,
	},
	"peers": {"isii", "peer_id host port pool_size", func(f Facts, row func(...any)) {
		for _, p := range f.Peers {
			row(p.ID, or(p.Host), p.Port, p.PoolSize)
		}
	}},
	"peer_pools": {"iiiii", "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login", func(f Facts, row func(...any)) {
		for _, p := range f.Peers {
			row(p.ID, p.ClientsActiveCancel, p.ClientsWaitingCancel, p.ServersActiveCancel, p.ServersLogin)
		}
	}},
	"lists":   {"si", "list items", func(f Facts, row func(...any)) { lists(f, func(name string, n int) { row(name, n) }) }},
	"clients": {socketTypes, socketColumns, func(f Facts, row func(...any)) { sockets(f.Clients, "C", row) }},
	"servers": {socketTypes, socketColumns, func(f Facts, row func(...any)) { sockets(f.Servers, "S", row) }},
	"sockets": {socketTypes + "iiiiiii", socketColumns + bufferColumns, func(f Facts, row func(...any)) { allSockets(f, false, row) }},
	"active_sockets": {socketTypes + "iiiiiii", socketColumns + bufferColumns, func(f Facts, row func(...any)) {
		allSockets(f, true, row)
	}},
	"stats": {
		"s" + strings.Repeat("N", 22),
		"database total_server_assignment_count total_xact_count total_query_count total_received total_sent total_xact_time total_query_time total_wait_time " +
			"total_client_parse_count total_server_parse_count total_bind_count " +
			"avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time " +
			"avg_client_parse_count avg_server_parse_count avg_bind_count",
		func(f Facts, row func(...any)) {
			for _, s := range f.stats() {
				row(slices.Concat([]any{s.Database}, s.Total.values(), s.average().values())...)
			}
		},
	},
	"stats_totals": {"s" + strings.Repeat("N", 11), "database " + totalNames, func(f Facts, row func(...any)) {
		for _, s := range f.stats() {
			row(slices.Concat([]any{s.Database}, s.Total.values())...)
		}
	}},
	"stats_averages": {
		"s" + strings.Repeat("N", 11),
		"database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time " +
			"avg_client_parse_count avg_server_parse_count avg_bind_count",
		func(f Facts, row func(...any)) {
			for _, s := range f.stats() {
				row(slices.Concat([]any{s.Database}, s.average().values())...)
			}
		},
	},
	"totals": {"sN", "name value", totals},
	"mem": {"siiii", "name size used free memtotal", func(f Facts, row func(...any)) {
		for _, c := range f.Caches {
			row(c.Name, c.Size, c.Used, c.Free, c.Size*(c.Used+c.Free))
		}
	}},
	"dns_hosts": {"sqs", "hostname ttl addrs", func(f Facts, row func(...any)) {
		for _, h := range sorted(f.Hosts, func(h Host) string { return h.Name }) {
			row(h.Name, max(0, seconds(h.TTL)), strings.Join(h.Addrs, ","))
		}
	}},
	"dns_zones": {"sqi", "zonename serial count", func(f Facts, row func(...any)) {
		for _, z := range sorted(f.Zones, func(z Zone) string { return z.Name }) {
			row(z.Name, int(z.Serial), z.Hosts)
		}
	}},
}

// AppendShow appends the answer to a SHOW that Check found nothing against.
func AppendShow(b []byte, c Command, f Facts) []byte {
	if c.Arg == "help" {
		b = pgwire.AppendReport(b, pgwire.NoticeResponse, pgwire.Report{Severity: "NOTICE", Code: "00000", Message: "Console usage", Detail: help})
		return AppendDone(b, c)
	}
	v := views[c.Arg]
	if v == nil {
		v = courtesy(c.Arg)
	}
	b = pgwire.AppendColumns(b, v.description())
	v.rows(f, func(values ...any) {
		var row []pgwire.Value
		for _, value := range values {
			row = append(row, cell(value))
		}
		b = pgwire.AppendRow(b, row)
	})
	return AppendDone(b, c)
}

func cell(value any) pgwire.Value {
	switch v := value.(type) {
	case null:
		return pgwire.Value{Null: true}
	case string:
		return pgwire.Value{Text: v}
	case uint64:
		return pgwire.Value{Text: strconv.FormatUint(v, 10)}
	}
	return pgwire.Value{Text: fmt.Sprint(value)}
}

func (v *view) description() []pgwire.Column {
	names := strings.Fields(v.columns)
	columns := make([]pgwire.Column, len(names))
	for i, name := range names {
		columns[i] = pgwire.Column{Name: name, Type: map[byte]uint32{'s': pgwire.Text, 'i': pgwire.Int4, 'q': pgwire.Int8, 'N': pgwire.Numeric}[v.types[i]]}
	}
	return columns
}

// courtesy is what drivers ask of any server; nil if name is none of it.
func courtesy(name string) *view {
	for _, p := range [][2]string{
		{"client_encoding", "UTF-8"},
		{"default_transaction_isolation", "read committed"},
		{"standard_conforming_strings", "on"},
		{"datestyle", "ISO"},
		{"timezone", "GMT"},
	} {
		if strings.EqualFold(name, p[0]) {
			return &view{"s", p[0], func(_ Facts, row func(...any)) { row(p[1]) }}
		}
	}
	return nil
}

const help = `
	SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
	SHOW PEERS|PEER_POOLS
	SHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
	SHOW DNS_HOSTS|DNS_ZONES
	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
	SET key = arg
	RELOAD
	PAUSE [<db>]
	RESUME [<db>]
	DISABLE <db>
	ENABLE <db>
	RECONNECT [<db>]
	KILL [<db>]
	KILL_CLIENT <client_id>
	SUSPEND
	SHUTDOWN
	SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
	WAIT_CLOSE [<db>]`

func sorted[T any](all []T, key func(T) string) []T {
	return slices.SortedStableFunc(slices.Values(all), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
}

// databases are the entries and the console's own.
func databases(f Facts, row func(...any)) {
	all := append(slices.Clone(f.Databases), DatabaseFact{
		Name: Database, Port: f.Port, Database: Database, ForceUser: Database, PoolSize: 2, PoolMode: "statement", ClientConnections: f.Consoles,
	})
	for _, d := range sorted(all, func(d DatabaseFact) string { return d.Name }) {
		row(d.Name, or(d.Host), d.Port, d.Database, or(d.ForceUser), d.PoolSize, d.MinPoolSize, d.ReservePoolSize, seconds(d.ServerLifetime),
			or(d.PoolMode), or(d.LoadBalanceHosts), d.MaxConnections, d.Connections, d.MaxClients, d.ClientConnections, truth(d.Paused), truth(d.Disabled))
	}
}

func users(f Facts, row func(...any)) {
	size := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf("%9d", n) // as PgBouncer prints it
	}
	for _, u := range sorted(f.Users, func(u User) string { return u.Name }) {
		row(u.Name, size(u.PoolSize), size(u.ReservePoolSize), or(u.PoolMode), u.MaxConnections, u.Connections, u.MaxClients, u.ClientConnections)
	}
}

// pools are the pools and the console's own.
func (f Facts) pools() []Pool {
	all := append(slices.Clone(f.Pools), Pool{Database: Database, User: Database, ClientsActive: f.Consoles, Mode: "statement"})
	slices.SortStableFunc(all, func(a, b Pool) int { return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.User, b.User)) })
	return all
}

func pools(f Facts, row func(...any)) {
	for _, p := range f.pools() {
		row(p.Database, p.User, p.ClientsActive, p.ClientsWaiting, p.ClientsActiveCancel, p.ClientsWaitingCancel, p.Active, p.ActiveCancel, p.BeingCanceled,
			p.Idle, p.Used, p.Tested, p.Login, seconds(p.MaxWait), rest(p.MaxWait), p.Mode, or(p.LoadBalanceHosts))
	}
}

// lists gives the rows of SHOW LISTS.
func lists(f Facts, row func(name string, n int)) {
	login := f.Unlisted.Login
	for _, c := range f.Clients {
		login += truth(c.State == "login")
	}
	l := f.Lists
	for _, r := range []struct {
		name string
		n    int
	}{
		{"databases", len(f.Databases) + 1},
		{"users", len(f.Users)},
		{"peers", len(f.Peers)},
		{"pools", len(f.Pools) + 1},
		{"peer_pools", len(f.Peers)},
		{"free_clients", l.FreeClients},
		{"used_clients", len(f.Clients) + f.Unlisted.Clients + f.Consoles},
		{"login_clients", login},
		{"free_servers", l.FreeServers},
		{"used_servers", len(f.Servers) + f.Unlisted.Servers},
		{"dns_names", l.DNSNames},
		{"dns_zones", l.DNSZones},
		{"dns_queries", l.DNSQueries},
		{"dns_pending", l.DNSPending},
	} {
		row(r.name, r.n)
	}
}

// sockets are rows of SHOW CLIENTS and SHOW SERVERS, where nobody logs in yet.
func sockets(all []Socket, kind string, row func(...any)) {
	for _, s := range all {
		if s.State != "login" {
			row(s.values(kind, s.State)...)
		}
	}
}

// allSockets are rows of SHOW SOCKETS; active are those with bytes in flight.
func allSockets(f Facts, active bool, row func(...any)) {
	for _, side := range []struct {
		all          []Socket
		kind, prefix string
	}{{f.Clients, "C", "cl_"}, {f.Servers, "S", "sv_"}} {
		for _, s := range side.all {
			if active && s.Buffered+s.Pending == 0 {
				continue
			}
			state := side.prefix + s.State
			if s.State == "new" {
				state = "sv_login"
			}
			row(append(s.values(side.kind, state), s.Buffered, 0, s.Remain, 0, s.Pending, s.Buffered, s.Pending)...)
		}
	}
}

func (s Socket) values(kind, state string) []any {
	pointer := func(id uint64) string {
		if id == 0 {
			return ""
		}
		return fmt.Sprintf("%#x", id)
	}
	return []any{
		kind, s.User, s.Database, cmp.Or(s.Replication, "none"), state, s.Addr, s.Port, s.LocalAddr, s.LocalPort, at(s.Connected), at(s.Requested),
		seconds(s.Wait), rest(s.Wait), truth(s.CloseNeeded), pointer(s.ID), pointer(s.Link), s.PID, s.TLS, s.Application, s.Prepared, s.ID,
	}
}

// stats are the statistics by database, with a row for the console.
func (f Facts) stats() []Stat {
	all := f.Stats
	if !slices.ContainsFunc(all, func(s Stat) bool { return s.Database == Database }) {
		all = append(slices.Clone(all), Stat{Database: Database})
	}
	return sorted(all, func(s Stat) string { return s.Database })
}

// values are t's numbers in the order of columns; times in microseconds.
func (t Totals) values() []any {
	return []any{
		t.ServerAssignments, t.Xacts, t.Queries, t.Received, t.Sent,
		t.XactTime.Microseconds(), t.QueryTime.Microseconds(), t.WaitTime.Microseconds(), t.ClientParses, t.ServerParses, t.Binds,
	}
}

// totals are the sums over all databases.
func totals(f Facts, row func(...any)) {
	all := Stat{}
	for _, s := range f.stats() {
		all.Total, all.Last, all.Period = all.Total.Plus(s.Total), all.Last.Plus(s.Last), max(all.Period, s.Period)
	}
	names := strings.Fields("server_assignment_count xact_count query_count client_bytes server_bytes xact_time query_time wait_time " +
		"ps_client_parse_count ps_server_parse_count ps_bind_count")
	for _, half := range []struct {
		prefix string
		values []any
	}{{"total_", all.Total.values()}, {"avg_", all.average().values()}} {
		for i, v := range half.values {
			row(half.prefix+names[i], v)
		}
	}
}
