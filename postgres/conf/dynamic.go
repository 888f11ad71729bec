package conf

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Fault is a parameter that is not taken, and why.
type Fault struct {
	Name string
	Why  string
}

// Dynamic sorts the parameters of the dynamic configuration into those that may
// be written and those that may not. Whether PostgreSQL likes the values is for
// it to say. The least values are Patroni's (its controlled parameters): below
// them a cluster could not replicate to its members.
func Dynamic(parameters map[string]string) (good map[string]string, bad []Fault) {
	good = maps.Clone(parameters)
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if why := unfit(name, parameters[name]); why != "" {
			bad = append(bad, Fault{name, why})
			delete(good, name)
		}
	}
	return good, bad
}

var wellNamed = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$`)

// least are the smallest values of parameters that replication rests on.
var least = map[string]int{
	"max_connections": 25, "max_locks_per_transaction": 32, "max_worker_processes": 2,
	"max_wal_senders": 3, "max_replication_slots": 4,
}

// fixed are parameters that only we set, from the node's description or for
// high availability (see Settings).
var fixed = []string{
	"listen_addresses", "port", "unix_socket_directories", "hba_file", "ident_file", "data_directory", "config_file",
	"logging_collector", "hot_standby", "wal_log_hints", "restart_after_crash", "cluster_name", "external_pid_file",
	"include", "include_dir", "include_if_exists",
}

func unfit(name, value string) string {
	low := strings.ToLower(name)
	switch {
	case !wellNamed.MatchString(name):
		return "this is no parameter's name"
	case strings.ContainsRune(value, 0):
		return "its value holds a zero byte"
	case slices.Contains(fixed, low), slices.Contains(recovery, low):
		return "only Howdah sets it"
	case low == "wal_level" && !slices.Contains([]string{"replica", "hot_standby", "logical"}, strings.ToLower(value)):
		return fmt.Sprintf("%q is too little to replicate with: replica or logical", value)
	}
	if min, ok := least[low]; ok {
		if n, err := strconv.Atoi(value); err == nil && n < min {
			return fmt.Sprintf("%d is less than %d", n, min)
		}
	}
	return ""
}
