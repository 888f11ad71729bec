package admin

import (
	"cmp"
	"strconv"
	"strings"

	"howdah/exposition"
)

// Metrics tells f by the names that pg_exporter gives to what it reads from the
// console: pgbouncer_list, _database, _stat and _pool (its collectors for 1.24
// and later), with times in seconds.
func Metrics(t *exposition.Text, f Facts) {
	t.Gauge("pgbouncer_up", "1 if the pooler answered", 1)
	t.Gauge("pgbouncer_version", "version of PgBouncer whose console this is, as a number", versionNumber(Version))
	lists(f, func(name string, n int) {
		t.Gauge("pgbouncer_list_items", "entries of a list that the console shows", float64(n), "list", name)
	})
	tell(t, f, "pgbouncer_database_", "databases", []column{
		{from: "name", label: "datname"},
		{from: "host", label: "host"},
		{from: "port", label: "port"},
		{from: "database", label: "real_datname"},
		{from: "pool_size", help: "server connections that a pool of the database may have"},
		{from: "min_pool_size", help: "server connections that a pool of the database keeps"},
		{from: "reserve_pool_size", to: "reserve_pool", help: "additional server connections for clients that wait long"},
		{from: "server_lifetime", help: "seconds after which a server connection that is not used is closed"},
		{from: "max_connections", help: "server connections that the database may have"},
		{from: "current_connections", help: "server connections that the database has"},
		{from: "max_client_connections", help: "clients that the database may have"},
		{from: "current_client_connections", help: "clients that the database has"},
		{from: "paused", help: "1 if the database is paused"},
		{from: "disabled", help: "1 if the database is disabled"},
	})
	stats := []column{{from: "database", label: "datname"}}
	for name := range strings.FieldsSeq(views["stats"].columns) {
		if name == "database" {
			continue
		}
		c := column{from: name, counter: strings.HasPrefix(name, "total_"), micro: strings.HasSuffix(name, "_time")}
		kind, what, _ := strings.Cut(name, "_")
		if c.help = statHelp[what]; kind == "avg" {
			c.help += ", on average of the last stats_period"
		}
		stats = append(stats, c)
	}
	tell(t, f, "pgbouncer_stat_", "stats", stats)
	tell(t, f, "pgbouncer_pool_", "pools", []column{
		{from: "database", label: "datname"},
		{from: "user", label: "user"},
		{from: "pool_mode", label: "pool_mode"},
		{from: "load_balance_hosts", label: "load_balance_hosts"},
		{from: "cl_active", to: "active_clients", help: "clients that have a server connection, or want none"},
		{from: "cl_waiting", to: "waiting_clients", help: "clients that wait for a server connection"},
		{from: "cl_active_cancel_req", to: "active_cancel_clients", help: "cancel requests that are with a server"},
		{from: "cl_waiting_cancel_req", to: "cancel_clients", help: "cancel requests that wait for a server connection"},
		{from: "sv_active", to: "active_servers", help: "server connections that have a client"},
		{from: "sv_active_cancel", to: "active_cancel_servers", help: "server connections that pass on a cancel request"},
		{from: "sv_being_canceled", to: "cancel_servers", help: "server connections whose query is being cancelled"},
		{from: "sv_idle", to: "idle_servers", help: "server connections that wait for a client"},
		{from: "sv_used", to: "used_servers", help: "server connections that were idle for so long that they are tested first"},
		{from: "sv_tested", to: "tested_servers", help: "server connections that are being reset or tested"},
		{from: "sv_login", to: "login_servers", help: "server connections that log in"},
		{from: "maxwait", help: "whole seconds that the first client in the queue has waited"},
		{from: "maxwait_us", help: "microseconds beyond pgbouncer_pool_maxwait"},
	})
}

// statHelp says what SHOW STATS counts, by the names without total_ and avg_.
var statHelp = map[string]string{
	"server_assignment_count": "server connections given to clients",
	"xact_count":              "transactions",
	"query_count":             "queries",
	"received":                "bytes from clients",
	"recv":                    "bytes from clients, a second",
	"sent":                    "bytes to clients",
	"xact_time":               "seconds in transactions",
	"query_time":              "seconds in queries",
	"wait_time":               "seconds that clients waited for a server connection",
	"client_parse_count":      "statements that clients prepared",
	"server_parse_count":      "statements prepared at servers",
	"bind_count":              "prepared statements that were bound",
}

// A column of a view becomes a label, or a metric under its own name or another.
type column struct {
	from, to, label, help string
	counter, micro        bool // micro: microseconds, to be seconds
}

// tell tells the rows of a view.
func tell(t *exposition.Text, f Facts, prefix, name string, columns []column) {
	v := views[name]
	at := map[string]int{}
	for i, c := range strings.Fields(v.columns) {
		at[c] = i
	}
	v.rows(f, func(row ...any) {
		var labels []string
		for _, c := range columns {
			if c.label != "" {
				labels = append(labels, c.label, cell(row[at[c.from]]).Text)
			}
		}
		for _, c := range columns {
			if c.label != "" {
				continue
			}
			value, _ := strconv.ParseFloat(cell(row[at[c.from]]).Text, 64)
			if c.micro {
				value /= 1e6
			}
			kind := t.Gauge
			if c.counter {
				kind = t.Counter
			}
			kind(prefix+cmp.Or(c.to, c.from), c.help, value, labels...)
		}
	})
}

// versionNumber is X.Y.Z as collectors compare it: major·10000 + minor·100 + patch.
func versionNumber(version string) float64 {
	n := 0
	for part := range strings.SplitSeq(version, ".") {
		p, _ := strconv.Atoi(part)
		n = n*100 + p
	}
	return float64(n)
}
