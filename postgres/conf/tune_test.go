package conf_test

import (
	"testing"

	"howdah/postgres/conf"
	"howdah/spec"
)

// The figures are those of the formulas by hand: 8 processors, 32 GiB, a disk of 500 GB.
func TestTune(t *testing.T) {
	m := conf.Machine{CPU: 8, MemoryMB: 32768, DiskSize: 500 << 30}
	base := spec.Tuning{Template: "oltp", SharedRatio: 0.25, Storage: "SSD", IO: "worker", Libs: "pg_stat_statements, '$libdir/auto_explain'", Pooled: true}
	for _, tt := range []struct {
		name  string
		with  func(*spec.Tuning)
		major int
		want  map[string]string
	}{
		{"oltp", nil, 15, map[string]string{
			"max_connections": "500", "shared_buffers": "8192MB", "maintenance_work_mem": "2048MB", "work_mem": "64MB",
			"effective_cache_size": "24576MB", "max_worker_processes": "24", "max_parallel_workers": "4",
			"max_parallel_workers_per_gather": "2", "max_parallel_maintenance_workers": "3", "min_wal_size": "25GB",
			"max_wal_size": "100GB", "max_slot_wal_keep_size": "150GB", "temp_file_limit": "25GB", "random_page_cost": "1.1",
			"wal_compression": "lz4", "io_workers": "", "sync_replication_slots": "", "auto_explain.log_min_duration": "1s",
			"shared_preload_libraries": "pg_stat_statements, auto_explain",
		}},
		{"without a pooler", func(t *spec.Tuning) { t.Pooled = false }, 15, map[string]string{"max_connections": "1000", "work_mem": "64MB"}},
		{"so many connections", func(t *spec.Tuning) { t.MaxConnections = 20 }, 15, map[string]string{"max_connections": "20", "work_mem": "409MB", "max_locks_per_transaction": "20"}},
		{"olap", func(t *spec.Tuning) { t.Template = "olap" }, 18, map[string]string{
			"max_connections": "500", "max_locks_per_transaction": "1000", "maintenance_work_mem": "4096MB", "max_parallel_workers": "7",
			"max_parallel_workers_per_gather": "4", "max_worker_processes": "28", "io_workers": "4", "temp_file_limit": "100GB",
			"parallel_setup_cost": "", "idle_in_transaction_session_timeout": "0", "default_statistics_target": "1000",
		}},
		{"crit", func(t *spec.Tuning) { t.Template = "crit" }, 18, map[string]string{
			"max_parallel_workers_per_gather": "0", "wal_writer_delay": "10ms", "log_connections": "receipt,authentication,authorization",
			"idle_replication_slot_timeout": "3d",
		}},
		{"tiny, a disk that turns", func(t *spec.Tuning) { t.Template, t.Storage = "tiny", "HDD" }, 14, map[string]string{
			"max_connections": "250", "work_mem": "32MB", "max_worker_processes": "20", "pg_stat_statements.max": "2500",
			"random_page_cost": "", "wal_compression": "", "autovacuum_max_workers": "2",
		}},
		{"citus", func(t *spec.Tuning) { t.Libs = "citus" }, 16, map[string]string{"max_prepared_transactions": "500", "max_locks_per_transaction": "1000", "auto_explain.log_min_duration": ""}},
		{"none", func(t *spec.Tuning) { t.Template = "" }, 16, map[string]string{"max_connections": ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := base
			if tt.with != nil {
				tt.with(&in)
			}
			got := conf.Tune(in, m, tt.major)
			for name, want := range tt.want {
				if got[name] != want {
					t.Errorf("%s = %q, want %q", name, got[name], want)
				}
			}
		})
	}
}
