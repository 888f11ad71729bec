package conf

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"howdah/spec"
)

// A Machine is what a template needs to know of where the server runs.
type Machine struct {
	CPU      int   `json:"cpu"`       // virtual processors
	MemoryMB int   `json:"memory_mb"` // MiB
	DiskSize int64 `json:"disk_size"` // bytes of the file system that holds the data
}

// Share is what each of several servers on m counts on. They have the disk together.
func (m Machine) Share(servers int) Machine {
	servers = max(servers, 1)
	m.CPU, m.MemoryMB = max(1, m.CPU/servers), m.MemoryMB/servers
	return m
}

// Tune gives the parameters of a template on a machine, for one major version.
// Formulas and rounding are Pigsty's (roles/pgsql/templates, v4.5); so are the
// constants, which every template has unless it says otherwise.
//
// Left out is what this program decides itself (where logs go, TLS, listeners)
// and what another part of it will bring (the archive).
func Tune(t spec.Tuning, m Machine, major int) map[string]string {
	if t.Template == "" {
		return map[string]string{}
	}
	cpu, mem := max(m.CPU, 1), max(m.MemoryMB, 1)
	olap, crit, tiny := t.Template == "olap", t.Template == "crit", t.Template == "tiny"
	pick := func(oltp, forOLAP, forTiny int) int {
		switch {
		case olap:
			return forOLAP
		case tiny:
			return forTiny
		}
		return oltp
	}
	conns := t.MaxConnections
	if conns == 0 {
		conns = pick(1000, 500, 250)
		if !olap && !tiny && t.Pooled {
			conns = 500
		}
	}
	shared := int(math.Ceil(float64(mem) * t.SharedRatio))
	disk := clamp(int(math.Ceil(float64(m.DiskSize)/(20<<30))), 1, 100) // GB
	part := func(f float64) int { return int(math.Ceil(float64(cpu) * f)) }
	floor := func(f float64) int { return int(math.Floor(float64(cpu) * f)) }

	preload := libraries(t.Libs)
	locks := conns
	if slices.Contains(preload, "citus") || slices.Contains(preload, "timescaledb") {
		locks *= 2
	}
	if olap {
		locks *= 2
	}
	prepared := 0
	if slices.Contains(preload, "citus") {
		prepared = conns
	}
	maintenance := 0.25
	if olap {
		maintenance = 0.50
	}
	gather := clamp(floor(.2), 2, 8)
	switch {
	case olap:
		gather = max(floor(.5), 2)
	case crit, tiny:
		gather = 0
	}
	parallel, build := max(part(.5), 2), max(part(.33), 2)
	switch {
	case olap:
		parallel = max(part(.8), 2)
	case tiny:
		parallel, build = max(floor(.5), 1), max(floor(.33), 1)
	}
	p := map[string]string{}
	number := func(name string, n int, unit string) { p[name] = strconv.Itoa(n) + unit }
	number("max_connections", conns, "")
	number("max_locks_per_transaction", locks, "")
	number("max_prepared_transactions", prepared, "")
	number("shared_buffers", shared, "MB")
	number("maintenance_work_mem", int(math.Ceil(float64(shared)*maintenance)), "MB")
	number("work_mem", clamp(shared/conns, pick(64, 64, 16), pick(1024, 8192, 256)), "MB")
	number("effective_cache_size", mem-shared, "MB")
	number("max_worker_processes", pick(max(cpu+8, 16), max(cpu+12, 20), max(cpu+4, 12))+8, "")
	number("max_parallel_workers", parallel, "")
	number("max_parallel_workers_per_gather", gather, "")
	number("max_parallel_maintenance_workers", build, "")
	number("min_wal_size", min(disk, 200), "GB")
	number("max_wal_size", min(disk*4, 2000), "GB")
	number("max_slot_wal_keep_size", min(disk*6, 3000), "GB")
	number("temp_file_limit", pick(min(disk, 200), min(disk*4, 2000), min(disk, 200)), "GB")
	maps.Copy(p, map[string]string{
		"superuser_reserved_connections": "10", "track_commit_timestamp": "on", "wal_level": "logical", "wal_log_hints": "on",
		"max_wal_senders": "50", "max_replication_slots": "50", "huge_pages": "try", "hash_mem_multiplier": "8",
		"bgwriter_delay": "10ms", "bgwriter_lru_maxpages": "800", "bgwriter_lru_multiplier": "5.0", "wal_buffers": "16MB",
		"commit_delay": "20", "commit_siblings": "10", "checkpoint_timeout": "15min", "checkpoint_completion_target": "0.95",
		"max_standby_archive_delay": "10min", "max_standby_streaming_delay": "3min", "wal_receiver_status_interval": "1s",
		"hot_standby_feedback": "on", "max_logical_replication_workers": "8", "max_sync_workers_per_subscription": "6",
		"log_checkpoints": "on", "log_lock_waits": "on", "log_replication_commands": "on", "log_statement": "ddl",
		"log_temp_files": "1024", "log_timezone": "UTC", "log_autovacuum_min_duration": "1s", "log_min_duration_statement": "100",
		"track_io_timing": "on", "track_functions": "all", "track_activity_query_size": "8192",
		"autovacuum_freeze_max_age": "1000000000", "autovacuum_max_workers": "3", "autovacuum_vacuum_threshold": "500",
		"autovacuum_analyze_threshold": "250", "vacuum_cost_delay": "20ms", "vacuum_cost_limit": "2000",
		"deadlock_timeout": "50ms", "default_statistics_target": "400", "idle_in_transaction_session_timeout": "10min",
		"wal_writer_delay": "20ms", "wal_writer_flush_after": "1MB",
	})
	if !olap && !tiny {
		p["parallel_setup_cost"], p["parallel_tuple_cost"] = "2000", "0.2"
		p["min_parallel_table_scan_size"], p["min_parallel_index_scan_size"] = "32MB", "2MB"
	}
	if !tiny {
		p["autovacuum_vacuum_scale_factor"], p["autovacuum_analyze_scale_factor"] = "0.08", "0.04"
	}
	switch {
	case olap:
		maps.Copy(p, map[string]string{
			"vacuum_cost_delay": "10ms", "vacuum_cost_limit": "10000", "default_statistics_target": "1000",
			"enable_partitionwise_join": "on", "enable_partitionwise_aggregate": "on", "autovacuum_vacuum_threshold": "1000",
			"autovacuum_analyze_threshold": "500", "log_min_duration_statement": "1000", "idle_in_transaction_session_timeout": "0",
		})
	case crit:
		maps.Copy(p, map[string]string{
			"idle_in_transaction_session_timeout": "1min", "wal_writer_delay": "10ms", "wal_writer_flush_after": "0",
			"track_activity_query_size": "32768", "log_connections": "on", "log_disconnections": "on",
		})
	case tiny:
		p["default_statistics_target"], p["autovacuum_max_workers"] = "200", "2"
	}
	if t.Storage == "SSD" {
		p["random_page_cost"], p["effective_io_concurrency"], p["maintenance_io_concurrency"] = "1.1", "200", "100"
	}
	if major >= 15 {
		p["wal_compression"] = "lz4"
	}
	if major >= 17 {
		p["sync_replication_slots"] = "on"
	}
	if major >= 18 {
		workers := clamp(part(.25), 4, 16)
		switch {
		case olap:
			workers = clamp(part(.5), 4, 32)
		case crit:
			workers = clamp(part(.25), 4, 8)
		case tiny:
			workers = 3
		}
		number("io_workers", workers, "")
		p["io_method"] = t.IO
		if t.IO == "auto" || t.IO == "" {
			p["io_method"] = "worker"
		}
		p["file_copy_method"], p["idle_replication_slot_timeout"] = "clone", "7d"
		switch {
		case crit:
			p["log_connections"], p["idle_replication_slot_timeout"] = "receipt,authentication,authorization", "3d"
		case !tiny:
			p["log_connections"] = "authorization"
		}
	}
	p["shared_preload_libraries"] = strings.Join(preload, ", ")
	for library, settings := range map[string]map[string]string{
		"pg_stat_statements": {"pg_stat_statements.max": "10000", "pg_stat_statements.track": "all", "pg_stat_statements.track_utility": "off"},
		"auto_explain": {
			"auto_explain.log_min_duration": "1s", "auto_explain.log_analyze": "on", "auto_explain.log_verbose": "on",
			"auto_explain.log_nested_statements": "on",
		},
	} {
		if slices.Contains(preload, library) {
			maps.Copy(p, settings)
		}
	}
	if _, ok := p["pg_stat_statements.max"]; ok && tiny {
		p["pg_stat_statements.max"] = "2500"
	}
	return p
}

// libraries are the names in a list of libraries, without paths and quotes.
func libraries(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(strings.TrimSpace(name), `'"`)
		if name = strings.TrimPrefix(name, "$libdir/"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func clamp(n, low, high int) int { return max(low, min(n, high)) }

// String tells a machine as a person would.
func (m Machine) String() string {
	return fmt.Sprintf("%d processors, %d MB of memory, a disk of %d GB", m.CPU, m.MemoryMB, m.DiskSize>>30)
}
