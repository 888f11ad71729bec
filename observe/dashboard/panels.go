package dashboard

// one is a panel with one question.
func one(title string, kind Kind, unit Unit, query, legend string) Panel {
	return Panel{Title: title, Kind: kind, Unit: unit, Asks: []Ask{{query, legend}}}
}

// unless says why a panel may be empty.
func (p Panel) unless(why string) Panel {
	p.Hidden = why
	return p
}

// and asks one thing more.
func (p Panel) and(query, legend string) Panel {
	p.Asks = append(p.Asks, Ask{query, legend})
	return p
}

var (
	byCluster  = Variable{Name: "cls", Of: "howdah_cluster_seen"}
	byInstance = Variable{Name: "ins", Of: "pg_up"}
	byDatabase = Variable{Name: "datname", Of: "pg_db_xact_total", Many: true}
)

// All are the dashboards.
func All() []Dashboard {
	return []Dashboard{clusterPage(), instancePage(), databasePage(), queryPage(), gatewayPage(), backupPage(), alertPage()}
}

func clusterPage() Dashboard {
	return Dashboard{
		UID: "howdah-cluster", Title: "Howdah: cluster", About: "One cluster: who leads, who follows how closely, what goes through.", By: []Variable{byCluster},
		Rows: []Row{
			{"Now", []Panel{
				one("Leader", Stat, Truth, `howdah_cluster_leader{cls="$cls"}`, ""),
				one("Primaries", Stat, Number, `pg:cls:partition{cls="$cls"}`, ""),
				one("Members", Stat, Number, `pg:cls:size{cls="$cls"}`, ""),
				one("Hosts that may be lost", Stat, Number, `howdah_cluster_survives{cls="$cls"}`, ""),
				one("Would be lost with the leader", Stat, Bytes, `howdah_cluster_exposure_bytes{cls="$cls"}`, ""),
				one("Alerts", Stat, Number, `count(ALERTS{alertstate="firing",cls="$cls"}) or vector(0)`, ""),
			}},
			{"Members", []Panel{
				one("Leads", Alive, Number, `howdah_member_leader{cls="$cls"}`, "{{ins}}"),
				one("Runs", Alive, Number, `howdah_member_running{cls="$cls"}`, "{{ins}}"),
			}},
			{"Replication", []Panel{
				one("Replay behind the leader", Lines, Bytes, `pg:ins:lag_bytes{cls="$cls"}`, "{{ins}}"),
				one("Replay behind the leader, time", Lines, Seconds, `pg:ins:lag_seconds{cls="$cls"}`, "{{ins}}").unless("no standby has confirmed anything lately"),
				one("WAL a second", Lines, Rate, `pg:ins:lsn_rate1m{cls="$cls"}`, "{{ins}}"),
				one("Standbys that stream", Lines, Number, `pg:cls:sender{cls="$cls"}`, "from {{cls}}"),
				one("Standbys that commits may wait for", Lines, Number, `howdah_cluster_commit_voters{cls="$cls"}`, "{{cls}}").unless("commits do not wait (synchronous_mode)"),
				one("WAL that slots keep", Lines, Bytes, `pg:ins:slot_retained_bytes{cls="$cls"}`, "{{ins}}"),
			}},
			{"Load", []Panel{
				one("Transactions a second", Lines, PerSec, `pg:ins:xact_total_rate1m{cls="$cls"}`, "{{ins}}"),
				one("Sessions at work", Lines, Number, `pg:ins:active_backends{cls="$cls"}`, "{{ins}}"),
				one("Sessions", Lines, Number, `pg:ins:num_backends{cls="$cls"}`, "{{ins}}"),
				one("Connections used", Lines, Share, `pg:ins:conn_usage{cls="$cls"}`, "{{ins}}"),
				one("Pressure", Lines, Share, `ins:pressure1{cls="$cls"}`, "{{ins}}"),
				one("Processors in use", Lines, Share, `pg:ins:cpu_usage_1m{cls="$cls"}`, "{{ins}}"),
			}},
			{"Space", []Panel{
				one("Databases", Lines, Bytes, `pg:ins:db_size{cls="$cls"}`, "{{ins}}"),
				one("WAL", Lines, Bytes, `pg:ins:wal_size{cls="$cls"}`, "{{ins}}"),
				one("Fullest file system", Lines, Share, `pg:ins:space_usage{cls="$cls"}`, "{{ins}}"),
			}},
			{"Store", []Panel{
				one("Sees a leader", Lines, Truth, `etcd_server_has_leader{cls="$cls"}`, "{{ins}}"),
				one("Sync of what etcd writes, 95 of 100", Lines, Seconds, `etcd:ins:wal_fsync_p95_5m{cls="$cls"}`, "{{ins}}"),
				one("Of its quota", Lines, Share, `etcd:ins:usage{cls="$cls"}`, "{{ins}}"),
			}},
		},
	}
}

func instancePage() Dashboard {
	const of = `{cls="$cls",ins="$ins"}`
	return Dashboard{
		UID: "howdah-instance", Title: "Howdah: instance", About: "One server, and the machine that it is on.", By: []Variable{byCluster, byInstance},
		Rows: []Row{
			{"Now", []Panel{
				one("Up", Stat, Truth, `pg_up`+of, ""),
				one("Replica", Stat, Truth, `pg_in_recovery`+of, ""),
				one("Since", Stat, Seconds, `pg_uptime`+of, ""),
				one("Timeline", Stat, Number, `pg:ins:timeline`+of, ""),
				one("Transaction ids used", Stat, Share, `pg:ins:age`+of, ""),
				one("Connections used", Stat, Share, `pg:ins:conn_usage`+of, ""),
			}},
			{"Work", []Panel{
				one("Transactions a second", Lines, PerSec, `pg:ins:xact_commit_rate1m`+of, "committed").and(`pg:ins:xact_rollback_rate1m`+of, "rolled back"),
				one("Rows a second", Lines, PerSec, `pg:ins:tup_fetched_rate1m`+of, "fetched").and(`pg:ins:tup_modified_rate1m`+of, "changed"),
				one("Sessions by state", Lines, Number, `sum by (state) (pg_activity_count`+of+`)`, "{{state}}"),
				one("Seconds of work in a second", Lines, Number, `pg:ins:active_time_rate1m`+of, "at work").and(`pg:ins:ixact_time_rate1m`+of, "idle in a transaction"),
				one("Sessions by what they wait for", Lines, Number, `sum by (event) (pg_wait_count`+of+`)`, "{{event}}"),
				one("Locks", Lines, Number, `pg:ins:locks`+of, "{{mode}}"),
			}},
			{"Storage", []Panel{
				one("Found in memory", Lines, Share, `pg:ins:blks_hit_ratio1m`+of, "of blocks").unless("no block was asked for"),
				one("Buffers written a second", Lines, Rate, `pg:ins:buf_flush_checkpoint_rate1m`+of, "checkpoints").and(`pg:ins:buf_flush_backend_rate1m`+of, "sessions").and(`pg:ins:buf_clean_rate1m`+of, "writer"),
				one("Checkpoints in a minute", Lines, Number, `pg:ins:ckpt_timed_1m`+of, "by time").and(`pg:ins:ckpt_req_1m`+of, "by demand"),
				one("WAL a second", Lines, Rate, `pg:ins:lsn_rate1m`+of, "WAL"),
				one("Temporary files", Lines, Number, `pg:ins:temp_files_1m`+of, "in a minute"),
				one("On disk", Lines, Bytes, `pg:ins:db_size`+of, "databases").and(`pg:ins:wal_size`+of, "WAL").and(`pg:ins:log_size`+of, "logs"),
			}},
			{"Machine", []Panel{
				one("Processors in use", Lines, Share, `node:ins:cpu_usage_1m`+of, "{{ins}}"),
				one("Load for each processor", Lines, Number, `node:ins:stdload1`+of, "1 min").and(`node:ins:stdload15`+of, "15 min"),
				one("Memory left", Lines, Share, `node:ins:mem_avail`+of, "{{ins}}"),
				one("Disk operations a second", Lines, PerSec, `node:ins:disk_reads_rate1m`+of, "read").and(`node:ins:disk_writes_rate1m`+of, "write").unless("the machine has no disk that counts"),
				one("Disk bytes a second", Lines, Rate, `node:ins:disk_read_bytes_rate1m`+of, "read").and(`node:ins:disk_write_bytes_rate1m`+of, "write").unless("the machine has no disk that counts"),
				one("Network bytes a second", Lines, Rate, `node:ins:network_rx_bytes_rate1m`+of, "in").and(`node:ins:network_tx_bytes_rate1m`+of, "out").unless("on the ground loopback nothing leaves the machine"),
				one("File systems", Lines, Share, `node:fs:space_usage`+of, "{{mountpoint}}"),
				one("Connections of TCP", Lines, PerSec, `node:ins:tcp_passive_opens_rate1m`+of, "taken").and(`node:ins:tcp_active_opens_rate1m`+of, "made"),
				one("Clock off", Lines, Seconds, `node:ins:time_drift`+of, "as the kernel says"),
			}},
		},
	}
}

func databasePage() Dashboard {
	const of = `{cls="$cls",datname=~"$datname"}`
	return Dashboard{
		UID: "howdah-database", Title: "Howdah: database", About: "Databases of one cluster, on every member.", By: []Variable{byCluster, byDatabase},
		Rows: []Row{
			{"Work", []Panel{
				one("Transactions a second", Lines, PerSec, `pg:db:xact_total_rate1m`+of, "{{datname}} {{ins}}"),
				one("Sessions at work", Lines, Number, `pg:db:active_backends`+of, "{{datname}} {{ins}}"),
				one("Sessions idle in a transaction", Lines, Number, `pg:db:ixact_backends`+of, "{{datname}} {{ins}}"),
				one("Rows fetched a second", Lines, PerSec, `pg:db:tup_fetched_rate1m`+of, "{{datname}} {{ins}}"),
				one("Rows changed a second", Lines, PerSec, `pg:db:tup_modified_rate1m`+of, "{{datname}} {{ins}}"),
				one("Sessions", Lines, Number, `pg:db:num_backends`+of, "{{datname}} {{ins}}"),
			}},
			{"State", []Panel{
				one("Size", Lines, Bytes, `pg:db:db_size`+of, "{{datname}} {{ins}}"),
				one("Transaction ids used", Lines, Share, `pg:db:age`+of, "{{datname}} {{ins}}"),
				one("Connections used", Lines, Share, `pg:db:conn_usage`+of, "{{datname}} {{ins}}"),
				one("Found in memory", Lines, Share, `pg:db:blks_hit_ratio1m`+of, "{{datname}} {{ins}}").unless("no block was asked for"),
				one("Locks", Lines, Number, `pg:db:lock_count`+of, "{{datname}} {{ins}}"),
				one("Temporary bytes a second", Lines, Rate, `pg:db:temp_bytes_rate1m`+of, "{{datname}} {{ins}}"),
			}},
			{"Tables", []Panel{
				one("Largest tables", Table, Bytes, `topk(20, max by (datname, relname) (pg_table_size_bytes`+of+`))`, "").unless("there is no table"),
				one("Most read tables", Table, PerSec, `topk(20, max by (datname, relname) (pg:table:scan_rate1m`+of+`))`, "").unless("there is no table"),
			}},
		},
	}
}

func queryPage() Dashboard {
	const of, none = `{cls="$cls",datname=~"$datname"}`, "pg_stat_statements is not there"
	return Dashboard{
		UID: "howdah-query", Title: "Howdah: queries", About: "Which queries take the time (pg_stat_statements).", By: []Variable{byCluster, byDatabase},
		Rows: []Row{{"Queries", []Panel{
			one("By time", Table, Seconds, `topk(20, sum by (datname, query) (rate(pg_query_exec_time`+of+`[5m])))`, "").unless(none),
			one("By calls", Table, PerSec, `topk(20, sum by (datname, query) (pg:query:call_rate1m`+of+`))`, "").unless(none),
			one("Time of one", Lines, Seconds, `topk(10, max by (datname, query) (pg:query:rt_1m`+of+`))`, "{{datname}} {{query}}").unless(none),
			one("Calls a second", Lines, PerSec, `topk(10, sum by (datname, query) (pg:query:call_rate1m`+of+`))`, "{{datname}} {{query}}").unless(none),
			one("Oldest transaction", Lines, Seconds, `max by (ins, datname) (pg_activity_max_tx_duration`+of+`)`, "{{datname}} {{ins}}"),
		}}},
	}
}

func gatewayPage() Dashboard {
	const of, pool = `{cls="$cls",proxy!="stats"}`, `{cls="$cls"}`
	return Dashboard{
		UID: "howdah-gateway", Title: "Howdah: gateways and pools", About: "How clients come in: services of the gateways, and the pools.", By: []Variable{byCluster},
		Rows: []Row{
			{"Gateways", []Panel{
				one("Follows the cluster", Alive, Number, `howdah_gateway_well{cls="$cls"}`, "{{ins}}"),
				one("Services with a server", Lines, Truth, `haproxy:ins:service_up`+of, "{{proxy}} {{ins}}"),
				one("Sessions", Lines, Number, `haproxy_backend_current_sessions`+of, "{{proxy}} {{ins}}"),
				one("Clients that wait", Lines, Number, `haproxy_backend_current_queue`+of, "{{proxy}} {{ins}}"),
				one("Bytes in a second", Lines, Rate, `rate(haproxy_frontend_bytes_in_total`+of+`[1m])`, "{{proxy}} {{ins}}"),
				one("Bytes out a second", Lines, Rate, `rate(haproxy_frontend_bytes_out_total`+of+`[1m])`, "{{proxy}} {{ins}}"),
				one("New sessions a second", Lines, PerSec, `rate(haproxy_frontend_sessions_total`+of+`[1m])`, "{{proxy}} {{ins}}"),
			}},
			{"Pools", []Panel{
				one("Clients with a server", Lines, Number, `pgbouncer:db:active_clients`+pool, "{{datname}} {{ins}}").unless("nobody came through a pool yet"),
				one("Clients that wait", Lines, Number, `pgbouncer:db:waiting_clients`+pool, "{{datname}} {{ins}}").unless("nobody came through a pool yet"),
				one("Longest wait", Lines, Seconds, `pgbouncer:db:maxwait`+pool, "{{datname}} {{ins}}").unless("nobody came through a pool yet"),
				one("Server connections", Lines, Number, `pgbouncer:ins:active_servers`+pool, "in use, {{ins}}").and(`pgbouncer:ins:idle_servers`+pool, "idle, {{ins}}").unless("nobody came through a pool yet"),
				one("Queries a second", Lines, PerSec, `pgbouncer:db:query_rate1m`+pool, "{{datname}} {{ins}}").unless("nobody came through a pool yet"),
				one("Time of a query", Lines, Seconds, `pgbouncer:db:query_rt_1m`+pool, "{{datname}} {{ins}}").unless("no query came through a pool just now"),
				one("Databases, users, pools", Lines, Number, `pgbouncer:ins:pools`+pool, "pools, {{ins}}").and(`pgbouncer:ins:used_clients`+pool, "clients, {{ins}}"),
			}},
		},
	}
}

func backupPage() Dashboard {
	const none = "there is no backup yet"
	return Dashboard{
		UID: "howdah-backup", Title: "Howdah: backup", About: "What could be brought back, and how WAL gets into the archive.", By: []Variable{byCluster},
		Rows: []Row{
			{"Now", []Panel{
				one("Backups", Stat, Number, `howdah_backups{cls="$cls"}`, ""),
				one("Newest", Stat, Seconds, `time() - howdah_backup_last_completion_seconds{cls="$cls",backup_type="any"}`, "").unless(none),
				one("Newest full", Stat, Seconds, `time() - howdah_backup_last_completion_seconds{cls="$cls",backup_type="full"}`, "").unless(none),
				one("Reaches back", Stat, Seconds, `time() - howdah_backup_reach_seconds{cls="$cls"}`, "").unless(none),
				one("Took", Stat, Seconds, `howdah_backup_last_duration_seconds{cls="$cls",backup_type="any"}`, "").unless(none),
				one("Members that hold it", Stat, Number, `howdah_backup_last_holders{cls="$cls",backup_type="any"}`, "").unless(none),
			}},
			{"Archive", []Panel{
				one("Segments that wait", Lines, Number, `howdah_archive_pending_files{cls="$cls"}`, "{{ins}}"),
				one("Archived in a minute", Lines, Number, `increase(pg_archiver_finish_count{cls="$cls"}[5m]) / 5`, "{{ins}}"),
				one("Came to nothing in a minute", Lines, Number, `increase(pg_archiver_failed_count{cls="$cls"}[5m]) / 5`, "{{ins}}"),
			}},
			{"Backups", []Panel{
				one("Bytes of the cluster", Lines, Bytes, `howdah_backup_last_size_bytes{cls="$cls"}`, "{{backup_type}}").unless(none),
				one("Bytes in the repository", Lines, Bytes, `howdah_backup_last_stored_bytes{cls="$cls"}`, "{{backup_type}}").unless(none),
				one("Being made", Lines, Truth, `howdah_backup_running{cls="$cls"}`, "{{ins}}"),
				one("Repositories that can be read", Alive, Number, `howdah_repository_well{cls="$cls"}`, "{{ins}}"),
				one("All of them", Table, Bytes, `pgbackrest_backup_size_bytes{cls="$cls"}`, "").unless(none),
			}},
		},
	}
}

func alertPage() Dashboard {
	const none = "nothing fires"
	return Dashboard{
		UID: "howdah-alerts", Title: "Howdah: alerts", About: "What fires, and what fired.",
		Rows: []Row{
			{"Now", []Panel{
				one("CRIT", Stat, Number, `count(ALERTS{alertstate="firing",severity="CRIT"}) or vector(0)`, ""),
				one("WARN", Stat, Number, `count(ALERTS{alertstate="firing",severity="WARN"}) or vector(0)`, ""),
				one("INFO", Stat, Number, `count(ALERTS{alertstate="firing",severity="INFO"}) or vector(0)`, ""),
				one("Clusters seen", Stat, Number, `sum(howdah_cluster_seen)`, ""),
				one("Clusters with a leader", Stat, Number, `sum(howdah_cluster_leader)`, ""),
				one("Targets that answer", Stat, Share, `avg(up)`, ""),
			}},
			{"What", []Panel{
				one("Firing", Table, Number, `ALERTS{alertstate="firing"}`, "").unless(none),
				one("Problems that `howdah status` shows", Table, Number, `howdah_problem`, "").unless("there is none"),
				one("In time", Alive, Number, `max by (alertname, cls, ins) (ALERTS{alertstate="firing"})`, "{{alertname}} {{ins}}").unless(none),
			}},
		},
	}
}
