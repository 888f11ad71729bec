package gateway

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A metric is one of HAProxy's own, by its name (HAProxy's Prometheus exporter).
type metric struct {
	name    string
	counter bool
	of      func(stat) float64
}

func zero(stat) float64 { return 0 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// What has no number here, because nothing of its kind happens in a TCP relay
// without checks of its own, is there as a constant: dashboards ask for it.
var frontendMetrics = []metric{
	{"current_sessions", false, func(s stat) float64 { return float64(s.current) }},
	{"max_sessions", false, func(s stat) float64 { return float64(s.most) }},
	{"limit_sessions", false, func(s stat) float64 { return float64(s.limit) }},
	{"sessions_total", true, func(s stat) float64 { return float64(s.total) }},
	{"connections_total", true, func(s stat) float64 { return float64(s.total) }},
	{"connections_rate_max", false, func(s stat) float64 { return float64(s.rate.most) }},
	{"current_session_rate", false, func(s stat) float64 { return float64(s.rate.now) }},
	{"max_session_rate", false, func(s stat) float64 { return float64(s.rate.most) }},
	{"bytes_in_total", true, func(s stat) float64 { return float64(s.in) }},
	{"bytes_out_total", true, func(s stat) float64 { return float64(s.out) }},
	{"requests_denied_total", true, zero},
	{"request_errors_total", true, zero},
	{"denied_connections_total", true, zero},
}

// sharedMetrics are those of servers and backends.
var sharedMetrics = []metric{
	{"weight", false, func(s stat) float64 { return float64(s.weight) }},
	{"uweight", false, func(s stat) float64 { return float64(s.weight) }},
	{"current_sessions", false, func(s stat) float64 { return float64(s.current) }},
	{"max_sessions", false, func(s stat) float64 { return float64(s.most) }},
	{"limit_sessions", false, func(s stat) float64 { return float64(s.limit) }},
	{"sessions_total", true, func(s stat) float64 { return float64(s.total) }},
	{"current_session_rate", false, func(s stat) float64 { return float64(s.rate.now) }},
	{"max_session_rate", false, func(s stat) float64 { return float64(s.rate.most) }},
	{"current_queue", false, func(s stat) float64 { return float64(s.queued) }},
	{"max_queue", false, func(s stat) float64 { return float64(s.queuedMost) }},
	{"bytes_in_total", true, func(s stat) float64 { return float64(s.in) }},
	{"bytes_out_total", true, func(s stat) float64 { return float64(s.out) }},
	{"connection_attempts_total", true, func(s stat) float64 { return float64(s.connects) }},
	{"connection_errors_total", true, func(s stat) float64 { return float64(s.connectErrors) }},
	{"response_errors_total", true, zero},
	{"retry_warnings_total", true, zero},
	{"redispatch_warnings_total", true, zero},
	{"client_aborts_total", true, func(s stat) float64 { return float64(s.clientAborts) }},
	{"server_aborts_total", true, func(s stat) float64 { return float64(s.serverAborts) }},
	{"loadbalanced_total", true, func(s stat) float64 { return float64(s.total) }},
	{"check_up_down_total", true, func(s stat) float64 { return float64(s.checkDowns) }},
	{"check_last_change_seconds", false, func(s stat) float64 { return s.lastChange.Seconds() }},
	{"downtime_seconds_total", true, func(s stat) float64 { return s.downtime.Seconds() }},
	{"last_session_seconds", false, func(s stat) float64 { return max(s.lastSession.Seconds(), -1) }},
	{"queue_time_average_seconds", false, zero},
	{"connect_time_average_seconds", false, func(s stat) float64 { return float64(s.averageMS) / 1000 }},
	{"response_time_average_seconds", false, zero},
	{"total_time_average_seconds", false, zero},
	{"max_queue_time_seconds", false, zero},
	{"max_connect_time_seconds", false, func(s stat) float64 { return float64(s.greatest) / 1000 }},
	{"max_response_time_seconds", false, zero},
	{"max_total_time_seconds", false, zero},
}

var backendMetrics = []metric{
	{"active_servers", false, func(s stat) float64 { return float64(s.active) }},
	{"backup_servers", false, func(s stat) float64 { return float64(s.backup) }},
}

var serverMetrics = []metric{
	{"active", false, func(s stat) float64 { return float64(s.active) }},
	{"backup", false, func(s stat) float64 { return float64(s.backup) }},
	{"check_code", false, func(s stat) float64 { return map[bool]float64{true: 200, false: 503}[s.check] }},
	{"check_duration_seconds", false, zero},
	{"check_failures_total", true, func(s stat) float64 { return float64(s.checkFailures) }},
	{"current_throttle", false, func(stat) float64 { return 100 }},
	{"queue_limit", false, func(s stat) float64 { return float64(s.queueLimit) }},
}

// States and check results of a server, of which exactly one is 1.
var (
	frontendStates = []string{"DOWN", "UP"}
	serverStates   = []string{"DOWN", "UP", "MAINT", "DRAIN", "NOLB"}
	checkStates    = []string{"HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7OK", "L7OKC", "L7STS", "PROCERR", "PROCTOUT", "PROCOK"}
)

// writeMetrics writes rows, and the process, in Prometheus's text format.
func (g *Gateway) writeMetrics(out io.Writer, rows []stat, version string) error {
	w := bufio.NewWriter(out)
	head := func(name string, counter bool) {
		kind := "gauge"
		if counter {
			kind = "counter"
		}
		fmt.Fprintf(w, "# TYPE %s %s\n", name, kind)
	}
	g.process(func(name string, counter bool, value float64) {
		head("haproxy_process_"+name, counter)
		fmt.Fprintf(w, "haproxy_process_%s %v\n", name, value)
	}, rows)
	head("haproxy_process_build_info", false)
	fmt.Fprintf(w, "haproxy_process_build_info{version=%q} 1\n", version)
	for _, kind := range []struct {
		name    string
		number  int
		metrics [][]metric
		states  []string
	}{
		{"frontend", 0, [][]metric{frontendMetrics}, frontendStates},
		{"backend", 1, [][]metric{backendMetrics, sharedMetrics}, frontendStates},
		{"server", 2, [][]metric{serverMetrics, sharedMetrics}, serverStates},
	} {
		var own []stat
		for _, s := range rows {
			if s.kind == kind.number {
				own = append(own, s)
			}
		}
		prefix := "haproxy_" + kind.name + "_"
		head(prefix+"status", false)
		for _, s := range own {
			status := strings.Replace(s.status, "OPEN", "UP", 1)
			for _, state := range kind.states {
				fmt.Fprintf(w, "%sstatus{%s,state=%q} %v\n", prefix, s.labels(), state, truth(status == state))
			}
		}
		for _, group := range kind.metrics {
			for _, m := range group {
				head(prefix+m.name, m.counter)
				for _, s := range own {
					fmt.Fprintf(w, "%s%s{%s} %v\n", prefix, m.name, s.labels(), m.of(s))
				}
			}
		}
	}
	head("haproxy_server_check_status", false)
	for _, s := range rows {
		if s.kind == 2 && s.status != "MAINT" {
			for _, state := range checkStates {
				is := state == "L7OK" && s.check || state == "L7STS" && !s.check
				fmt.Fprintf(w, "haproxy_server_check_status{%s,state=%q} %v\n", s.labels(), state, truth(is))
			}
		}
	}
	aggregate(w, head, rows)
	return w.Flush()
}

// aggregate counts a backend's servers by state and by check.
func aggregate(w io.Writer, head func(string, bool), rows []stat) {
	for _, family := range []struct {
		name   string
		states []string
		of     func(stat) string
	}{
		{"haproxy_backend_agg_server_status", serverStates, func(s stat) string { return s.status }},
		{"haproxy_backend_agg_check_status", checkStates, func(s stat) string {
			return map[bool]string{true: "L7OK", false: "L7STS"}[s.check]
		}},
	} {
		head(family.name, false)
		for _, b := range rows {
			if b.kind != 1 {
				continue
			}
			for _, state := range family.states {
				n := 0
				for _, s := range rows {
					if s.kind == 2 && s.proxy == b.proxy && family.of(s) == state {
						n++
					}
				}
				fmt.Fprintf(w, "%s{%s,state=%q} %d\n", family.name, b.labels(), state, n)
			}
		}
	}
}

func (s stat) labels() string {
	if s.kind == 2 {
		return fmt.Sprintf("proxy=%q,server=%q", s.proxy, s.server)
	}
	return fmt.Sprintf("proxy=%q", s.proxy)
}

// process is what HAProxy says of itself.
func (g *Gateway) process(say func(name string, counter bool, value float64), rows []stat) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // an unknown limit is 0
	var current, limit, total, out, rateNow int64
	var listeners int
	for _, s := range rows {
		if s.kind == 0 {
			listeners++
			current, limit, total, out = current+s.current, limit+s.limit, total+s.total, out+s.out
			rateNow += s.rate.now
		}
	}
	say("start_time_seconds", false, float64(began.Unix()))
	say("uptime_seconds", false, time.Since(began).Seconds())
	say("nbproc", false, 1)
	say("nbthread", false, float64(runtime.GOMAXPROCS(0)))
	say("idle_time_percent", false, idle())
	say("current_tasks", false, float64(runtime.NumGoroutine()))
	say("current_run_queue", false, 0)
	say("current_connections", false, float64(current))
	say("max_connections", false, float64(limit))
	say("max_sockets", false, float64(files.Cur))
	say("max_fds", false, float64(files.Cur))
	say("connections_total", true, float64(total))
	say("requests_total", true, float64(total))
	say("current_connection_rate", false, float64(rateNow))
	say("current_session_rate", false, float64(rateNow))
	say("pool_allocated_bytes", false, float64(memory.HeapSys))
	say("pool_used_bytes", false, float64(memory.HeapAlloc))
	say("pool_failures_total", true, 0)
	say("bytes_out_total", true, float64(out))
	say("jobs", false, float64(current)+float64(listeners))
	say("listeners", false, float64(listeners))
	say("stopping", false, 0)
}

// idle is the share of its life that this process did not compute.
func idle() float64 {
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) != nil {
		return 0
	}
	busy := time.Duration(use.Utime.Nano() + use.Stime.Nano())
	return max(0, 100-100*float64(busy)/float64(time.Since(began)+time.Millisecond))
}

// buildVersion is the release, or the commit that was built.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "howdah-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "howdah"
}
