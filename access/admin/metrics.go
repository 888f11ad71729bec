package admin

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A sample is one value of a metric.
type sample struct {
	labels string
	value  float64
}

// WriteMetrics writes f in Prometheus's text format, by the names that
// pg_exporter gives to what it reads from the console: pgbouncer_list, _database,
// _stat and _pool (its collectors for 1.24 and later), with times in seconds.
func WriteMetrics(w io.Writer, f Facts) error {
	e := &exposition{w: w}
	e.add("pgbouncer_up", false, sample{"", 1})
	e.add("pgbouncer_version", false, sample{"", versionNumber(Version)})

	var items []sample
	lists(f, func(name string, n int) { items = append(items, sample{labels("list", name), float64(n)}) })
	e.add("pgbouncer_list_items", false, items...)

	e.table(f, "pgbouncer_database_", "databases", []column{
		{from: "name", label: "datname"},
		{from: "host", label: "host"},
		{from: "port", label: "port"},
		{from: "database", label: "real_datname"},
		{from: "pool_size"},
		{from: "min_pool_size"},
		{from: "reserve_pool_size", to: "reserve_pool"},
		{from: "server_lifetime"},
		{from: "max_connections"},
		{from: "current_connections"},
		{from: "max_client_connections"},
		{from: "current_client_connections"},
		{from: "paused"},
		{from: "disabled"},
	})

	stats := []column{{from: "database", label: "datname"}}
	for name := range strings.FieldsSeq(views["stats"].columns) {
		if name != "database" {
			stats = append(stats, column{from: name, counter: strings.HasPrefix(name, "total_"), micro: strings.HasSuffix(name, "_time")})
		}
	}
	e.table(f, "pgbouncer_stat_", "stats", stats)

	e.table(f, "pgbouncer_pool_", "pools", []column{
		{from: "database", label: "datname"},
		{from: "user", label: "user"},
		{from: "pool_mode", label: "pool_mode"},
		{from: "load_balance_hosts", label: "load_balance_hosts"},
		{from: "cl_active", to: "active_clients"},
		{from: "cl_waiting", to: "waiting_clients"},
		{from: "cl_active_cancel_req", to: "active_cancel_clients"},
		{from: "cl_waiting_cancel_req", to: "cancel_clients"},
		{from: "sv_active", to: "active_servers"},
		{from: "sv_active_cancel", to: "active_cancel_servers"},
		{from: "sv_being_canceled", to: "cancel_servers"},
		{from: "sv_idle", to: "idle_servers"},
		{from: "sv_used", to: "used_servers"},
		{from: "sv_tested", to: "tested_servers"},
		{from: "sv_login", to: "login_servers"},
		{from: "maxwait"},
		{from: "maxwait_us"},
	})
	return e.err
}

// A column of a view becomes a label, or a metric under its own name or another.
type column struct {
	from, to, label string
	counter, micro  bool // micro: microseconds, to be seconds
}

// An exposition writes metrics; its first error stays.
type exposition struct {
	w   io.Writer
	err error
}

func (e *exposition) print(format string, args ...any) {
	if e.err == nil {
		_, e.err = fmt.Fprintf(e.w, format, args...)
	}
}

func (e *exposition) add(name string, counter bool, samples ...sample) {
	kind := "gauge"
	if counter {
		kind = "counter"
	}
	e.print("# TYPE %s %s\n", name, kind)
	for _, s := range samples {
		e.print("%s%s %s\n", name, s.labels, strconv.FormatFloat(s.value, 'g', -1, 64))
	}
}

// table writes the rows of a view.
func (e *exposition) table(f Facts, prefix, name string, columns []column) {
	v := views[name]
	at := map[string]int{}
	for i, c := range strings.Fields(v.columns) {
		at[c] = i
	}
	var rows [][]any
	v.rows(f, func(values ...any) { rows = append(rows, values) })
	for _, c := range columns {
		if c.label != "" {
			continue
		}
		var samples []sample
		for _, row := range rows {
			var pairs []string
			for _, l := range columns {
				if l.label != "" {
					pairs = append(pairs, l.label, cell(row[at[l.from]]).Text)
				}
			}
			value, _ := strconv.ParseFloat(cell(row[at[c.from]]).Text, 64)
			if c.micro {
				value /= 1e6
			}
			samples = append(samples, sample{labels(pairs...), value})
		}
		to := c.to
		if to == "" {
			to = c.from
		}
		e.add(prefix+to, c.counter, samples...)
	}
}

// labels prints pairs of a name and a value.
func labels(pairs ...string) string {
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, `%c%s="%s"`, "{,"[min(i, 1)], pairs[i], escape.Replace(pairs[i+1]))
	}
	return b.String() + "}"
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
