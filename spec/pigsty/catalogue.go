package pigsty

import (
	_ "embed"
	"strings"
)

// A parameter is one that Pigsty knows.
type parameter struct {
	name string
	is   shape
	use  use
}

// use says what becomes of a parameter here.
type use int

const (
	used     use = iota
	notYet       // its wing is not built yet
	nothing      // there is nothing that it could apply to
	theirOwn     // another module's: not PostgreSQL
)

// shape is what a value must look like: a word of the tables below.
type shape string

// The tables have a line for each shape: the shape, then the parameters.
const usedParameters = `
name      pg_cluster
seq       pg_seq etcd_seq infra_seq
role      pg_role
address   pg_upstream admin_ip
strings   pg_crontab
bool      pg_vip_enabled pgbackrest_enabled pgbackrest_init_backup pgbackrest_stream pgbackrest_standby pg_exporter_enabled pgbouncer_exporter_enabled pgbackrest_exporter_enabled node_exporter_enabled pg_offline_query pg_checksum pg_provision pgbouncer_enabled patroni_ssl_enabled haproxy_auth_enabled
weight    pg_weight
tags      patroni_tags
mode      pg_mode
instances pg_instances pg_exporters
users     pg_users pg_default_roles
databases pg_databases
services  pg_services pg_default_services
hba       pg_hba_rules pg_default_hba_rules pgb_hba_rules pgb_default_hba_rules
poolmode  pgbouncer_poolmode
poolsettings pgbouncer_parameters
sslmode   pgbouncer_sslmode
text      pgbouncer_ignore_param pg_dbsu pg_replication_username pg_admin_username pg_monitor_username pg_libs pg_service_provider
account   patroni_username haproxy_admin_username
secret    pg_dbsu_password pg_replication_password pg_admin_password pg_monitor_password patroni_password haproxy_admin_password
version   pg_version
storage   pg_storage_type
port      pg_exporter_port pgbouncer_exporter_port pgbackrest_exporter_port node_exporter_port pg_port patroni_port pgbouncer_port haproxy_exporter_port etcd_port etcd_peer_port
path      pg_namespace
settings  pg_parameters
template  pg_conf
maxconn   pg_max_conn
millis    etcd_election_timeout etcd_heartbeat_interval
ratio     pg_shared_buffer_ratio
io        pg_io_method
bytes     pg_rpo
rto       pg_rto
interval  pg_delay pgbackrest_stream_interval
size      pgbackrest_stream_size pgbackrest_rate
pwdenc    pg_pwd_enc
dest      pg_default_service_dest
strings   pg_default_privileges pg_default_schemas node_firewall_intranet
extensions pg_default_extensions
cidr      pg_vip_address
bool      dns_enabled vmetrics_enabled vector_enabled
port      dns_port vmetrics_port vector_port vlogs_port
pace      vmetrics_scrape_interval
strings   dns_records vector_log_endpoint
path      dns_hosts_file
word      ansible_host ansible_user
port      ansible_port
suffix    pg_dns_suffix
target    pg_dns_target
link      pg_vip_interface
watch     patroni_watchdog_mode
path      patroni_watchdog_device
margin    patroni_watchdog_safety_margin
encoding  pg_encoding
locale    pg_locale
methods   pgbackrest_method pg_create_replica_methods
times     pgbackrest_drill
queue     pgbackrest_queue_max pgbackrest_lag_max
repositories pgbackrest_repo
origin    pg_restore_from
text      nodename node_timezone node_admin_username node_admin_sudo
bool      nodename_overwrite node_write_etc_hosts node_ntp_enabled node_admin_enabled
strings   node_etc_hosts node_default_etc_hosts node_ntp_servers node_admin_pk_list
any       node_sysctl_params
seq       node_admin_uid
`

const laterParameters = `
bool      pgbouncer_auth_query pg_exporter_auto_discovery patroni_enabled haproxy_enabled vip_enabled vlogs_enabled vmalert_enabled alertmanager_enabled
any       pg_rto_plan pg_listen patroni_mode pg_etcd_password pg_primary_db pg_exporter_config pg_exporter_cache_ttls pg_exporter_params pg_exporter_url pg_exporter_exclude_database pg_exporter_include_database pg_exporter_connect_timeout pg_exporter_options pgbouncer_exporter_url pgbouncer_exporter_options pgbackrest_exporter_options pg_safeguard pg_rm_data pg_rm_backup haproxy_client_timeout haproxy_server_timeout haproxy_services vip_address vip_vrid vip_role vip_preempt vip_interface vip_dns_suffix vip_auth_pass vip_exporter_port vmetrics_scrape_timeout vmetrics_options vlogs_options vmalert_port vmalert_options node_exporter_options vector_read_from alertmanager_port blackbox_enabled blackbox_port exporter_metrics_path etcd_learner etcd_root_password etcd_safeguard pg_pitr pg_upgrade
`

const inapplicableParameters = `
any       pg_shard pg_group gp_role pg_dbsu_uid pg_dbsu_sudo pg_dbsu_home pg_dbsu_ssh_exchange pg_bin_dir pg_log_dir pg_packages pg_extensions pg_data pg_fs_main pg_fs_backup pg_dummy_filesize pg_localhost patroni_log_dir pg_files pgsodium_key pgsodium_getkey_script pg_lc_collate pg_lc_ctype pg_init pg_reload pgbackrest_log_dir pgbackrest_clean pgbouncer_log_dir pg_rm_pkg etcd_cluster etcd_data etcd_init etcd_rm_data etcd_rm_pkg
any       node_cluster nodename_exchange node_id_from_pg node_dns_method node_dns_servers node_dns_options node_repo_modules node_repo_remove node_packages node_default_packages node_uv_env node_pip_packages node_selinux_mode node_firewall_mode node_firewall_public_port node_disable_numa node_disable_swap node_static_network node_disk_prefetch node_kernel_modules node_hugepage_count node_hugepage_ratio node_overcommit_ratio node_tune node_tuned_profile_dir node_data node_admin_ssh_exchange node_admin_pk_current node_aliases node_crontab_overwrite node_crontab haproxy_clean haproxy_reload vector_clean vector_data
any       version region language proxy_env ca_create ca_cn cert_validity infra_portal infra_data infra_services infra_extra_services repo_enabled repo_home repo_name repo_endpoint repo_remove repo_modules repo_upstream repo_packages repo_extra_packages repo_url_packages nginx_enabled nginx_clean nginx_exporter_enabled nginx_exporter_port nginx_sslmode nginx_cert_validity nginx_home nginx_data nginx_users nginx_port nginx_ssl_port certbot_sign certbot_email certbot_options vmetrics_clean vlogs_clean vtraces_enabled vtraces_clean vtraces_port vtraces_options vmalert_clean grafana_enabled grafana_port grafana_clean grafana_admin_username grafana_admin_password grafana_auth_proxy grafana_pgurl grafana_view_password docker_enabled docker_data docker_storage_driver docker_cgroups_driver docker_registry_mirrors docker_image docker_image_cache docker_exporter_port app apps
`

// Whole modules that we are not: their parameters by the beginning of their names.
var otherModules = []string{"minio_", "redis_", "kafka_", "ferret_", "mongo_", "mysql_", "duckdb_", "ansible_", "juice_", "vibe_", "code_", "jupyter_", "claude_", "nodejs_"}

//go:embed defaults.yml
var defaultsText []byte

// catalogue is what is known of parameters.
type catalogue struct {
	byName   map[string]parameter
	defaults *value
}

func newCatalogue() catalogue {
	c := catalogue{byName: map[string]parameter{}}
	for _, t := range []struct {
		text string
		use  use
	}{{usedParameters, used}, {laterParameters, notYet}, {inapplicableParameters, nothing}} {
		for line := range strings.Lines(t.text) {
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			for _, name := range words[1:] {
				c.byName[name] = parameter{name, shape(words[0]), t.use}
			}
		}
	}
	var r reader
	c.defaults = r.read(defaultsText)
	return c
}

// find returns what is known of a parameter.
func (c catalogue) find(name string) (parameter, bool) {
	if p, ok := c.byName[name]; ok {
		return p, true
	}
	for _, begin := range otherModules {
		if strings.HasPrefix(name, begin) {
			return parameter{name, "any", theirOwn}, true
		}
	}
	return parameter{}, false
}

// nearest returns the known word that a person may have meant, or "".
func nearest(word string, known []string) string {
	best, at := "", 1+len(word)/3
	for _, k := range known {
		if d := distance(word, k, at); d < at || d == at && best == "" {
			best, at = k, d
		}
	}
	return best
}

// distance is how many letters must be added, dropped, changed or swapped with
// their neighbour to make b of a; more than most is not counted out.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			change := row[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			next[j] = min(row[j]+1, next[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
