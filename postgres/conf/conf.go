// Package conf writes PostgreSQL's configuration: postgresql.conf, pg_hba.conf,
// the connection string of a standby and the password file it names.
//
// It turns a node and what is known of its data directory into text and never
// touches a file. Sources: src/backend/utils/misc/guc-file.l (quoting),
// src/backend/libpq/hba.c, "Parameters that must match on standbys" in the
// manual's chapter on hot standby, fe-connect.c (passwordFromFile).
package conf

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"howdah/pg"
	"howdah/spec"
)

// Files in the data directory. What initdb wrote is kept as the base, which
// ours includes and overrides.
const (
	File    = "postgresql.conf"
	Base    = "postgresql.base.conf"
	Standby = "howdah.standby.conf" // whom to follow; empty on a primary
	Auto    = "postgresql.auto.conf"
	Sync    = "sync.conf" // synchronous_standby_names; beside the data, so that no copy of them takes it along
	HBA     = "pg_hba.conf"
)

// Facts are what the settings depend on besides the node.
type Facts struct {
	Data    string // data directory
	Key     string // TLS key that PostgreSQL's user may read; "" without TLS
	Standby bool
	// Least are the values that the primary of this data had, from pg_control:
	// a standby with smaller ones refuses to start.
	Least map[string]int
}

// Settings returns every parameter that we write. The node's own parameters
// win over our defaults, but not over what high availability rests on.
func Settings(n spec.Node, f Facts) map[string]string {
	s := map[string]string{
		// Small enough for three nodes on a laptop; an inventory says more.
		"shared_buffers":        "64MB",
		"max_connections":       "100",
		"max_wal_senders":       "10",
		"max_replication_slots": "10",
		"wal_level":             "replica",
		"wal_keep_size":         "128MB", // lets a member that was away for a moment rejoin without a copy
		"log_line_prefix":       "%m [%p] %q%u@%d ",
		"log_timezone":          "UTC",
		"cluster_name":          n.Cluster,
		"password_encryption":   "scram-sha-256",

		// A dead peer is noticed in seconds, not after the kernel's two hours.
		"wal_sender_timeout":           "5s",
		"wal_receiver_timeout":         "5s",
		"wal_receiver_status_interval": "1s",
		"wal_retrieve_retry_interval":  "100ms", // a repointed standby connects at once
		"tcp_keepalives_idle":          "5",
		"tcp_keepalives_interval":      "2",
		"tcp_keepalives_count":         "3",
	}
	if f.Key != "" {
		s["ssl"], s["ssl_cert_file"], s["ssl_key_file"] = "on", n.TLS.Cert, f.Key
	}
	maps.Copy(s, n.Postgres.Parameters)

	if s["wal_level"] == "minimal" {
		s["wal_level"] = "replica"
	}
	maps.Copy(s, map[string]string{
		"listen_addresses":        cmp.Or(n.Postgres.Listen, n.Address),
		"port":                    strconv.Itoa(n.Postgres.Port),
		"unix_socket_directories": quoteList(n.Paths.Sockets),
		"hba_file":                f.Data + "/" + HBA,
		"ident_file":              f.Data + "/pg_ident.conf",
		"data_directory":          f.Data,
		"logging_collector":       "off", // stdout and stderr already go to a file of ours
		"hot_standby":             "on",
		"wal_log_hints":           "on",  // pg_rewind
		"restart_after_crash":     "off", // the agent decides whether to restart or to hand over
	})
	for _, name := range recovery {
		delete(s, name)
	}
	if f.Standby {
		for name, least := range f.Least {
			if v, err := strconv.Atoi(s[name]); err != nil || v < least {
				s[name] = strconv.Itoa(least)
			}
		}
	}
	return s
}

// Raised are those settings that a standby has larger than its node says, with
// what that is ("": nothing, so PostgreSQL's default), until the primary has been
// restarted with less and the standby after it.
func Raised(n spec.Node, f Facts) map[string]string {
	raised := map[string]string{}
	if f.Standby {
		now := Settings(n, f)
		f.Least = nil
		for name, v := range Settings(n, f) {
			if now[name] != v {
				raised[name] = v
			}
			delete(now, name)
		}
		for name := range now {
			raised[name] = ""
		}
	}
	return raised
}

// Following returns the settings of a standby of up, or of nobody if it has no
// name. They have a file of their own, so that a reload does not change whom
// the standby follows, nor the other way round.
func Following(n spec.Node, up pg.Upstream, passfile string) map[string]string {
	s := map[string]string{"recovery_target_timeline": "latest", "primary_conninfo": "", "primary_slot_name": ""}
	if up.Name != "" {
		s["primary_conninfo"] = Conninfo(n, up, passfile).String()
		s["primary_slot_name"] = up.Slot
	}
	if delay := cmp.Or(up.Delay, n.Postgres.Delay); delay != "" {
		s["recovery_min_apply_delay"] = delay
	}
	return s
}

// recovery names what only we may set: left over from an earlier life in
// postgresql.auto.conf, any of them would undo what the agent decided.
var recovery = []string{
	"primary_conninfo", "primary_slot_name", "promote_trigger_file", "recovery_end_command",
	"recovery_min_apply_delay", "recovery_target", "recovery_target_action", "recovery_target_inclusive",
	"recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_timeline",
	"recovery_target_xid", "restore_command", "archive_cleanup_command",
}

// Conninfo is how this node's standby, clone and rewind reach up.
func Conninfo(n spec.Node, up pg.Upstream, passfile string) pg.DSN {
	d := pg.DSN{
		{"user", spec.Replicator},
		{"host", up.Host},
		{"port", strconv.Itoa(up.Port)},
		{"dbname", "postgres"}, // only the slot synchronisation of 17 and later looks at it
		{"application_name", n.Member},
		{"passfile", passfile},
		{"connect_timeout", "3"},
		{"keepalives_idle", "5"},
		{"keepalives_interval", "2"},
		{"keepalives_count", "3"},
		{"tcp_user_timeout", "5000"},
	}
	if up.Foreign {
		for i := range d {
			// Members of another cluster may be called as ours are: under such a name this
			// server would acknowledge commits there for one of them.
			if d[i][0] == "application_name" {
				d[i][1] = n.Cluster + ":" + n.Member
			}
		}
		if strings.Contains(up.Host, ",") {
			d = append(d, [2]string{"target_session_attrs", "read-write"})
		}
	}
	if n.TLS.CA != "" && (!up.Foreign || slices.Contains(n.Postgres.Kin, up.Host)) {
		return append(d, [2]string{"sslmode", "verify-ca"}, [2]string{"sslrootcert", n.TLS.CA})
	}
	return append(d, [2]string{"sslmode", "prefer"})
}

// Copying is Conninfo for a base backup. It streams log and says what of it is
// flushed, like a standby; under the member's own name it would acknowledge
// commits which its unfinished copy may lose.
func Copying(n spec.Node, up pg.Upstream, passfile string) pg.DSN {
	d := Conninfo(n, up, passfile)
	for i := range d {
		if d[i][0] == "application_name" {
			d[i][1] = n.Member + ":copy"
		}
	}
	return d
}

const header = "# Written by howdah at every start and change: edits here are lost.\n"

// Text prints postgresql.conf. sync is the path of the file Sync.
func Text(settings map[string]string, sync string) string {
	return header +
		"# Parameters belong into the inventory; what initdb wrote is in " + Base + ".\n" +
		"include_if_exists " + Quote(Base) + "\n\n" +
		lines(settings) +
		"\ninclude_if_exists " + Quote(Standby) + "\n" +
		"include_if_exists " + Quote(sync) + "\n"
}

const noteMark = "# note: "

// SyncText prints the file Sync: synchronous_standby_names, and in a comment what
// its writer wants to find beside it. Without names it leaves the setting to
// whoever else sets it.
func SyncText(names, note string) string {
	text := header + noteMark + note + "\n"
	if names != "" {
		text += lines(map[string]string{"synchronous_standby_names": names})
	}
	return text
}

// SyncNote is the note in what SyncText printed.
func SyncNote(text string) string {
	for line := range strings.Lines(text) {
		if note, ok := strings.CutPrefix(line, noteMark); ok {
			return strings.TrimSpace(note)
		}
	}
	return ""
}

// StandbyText prints the file that says whom to follow; nil settings are a primary's.
func StandbyText(settings map[string]string) string { return header + lines(settings) }

func lines(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, Quote(settings[name]))
	}
	return b.String()
}

// Quote quotes a value for postgresql.conf, where backslash escapes as in C
// and a line cannot be continued.
func Quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''", "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// quoteList quotes one element of a comma separated list of names.
func quoteList(s string) string {
	if strings.ContainsAny(s, `," `) {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

// manners name settings that say how a server speaks to its clients.
var manners = []string{
	"bytea_output", "datestyle", "default_text_search_config", "default_transaction_isolation", "escape_string_warning", "extra_float_digits",
	"intervalstyle", "lc_monetary", "lc_numeric", "lc_time", "quote_all_identifiers", "search_path", "standard_conforming_strings", "timezone", "timezone_abbreviations",
	"transform_null_equals", "xmlbinary", "xmloption",
}

var settingLine = regexp.MustCompile(`^\s*([A-Za-z_][A-Za-z0-9_.]*)\s*=?\s*\S`)

// Manners are the lines of the text of a configuration file by which clients would notice
// another server.
func Manners(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if m := settingLine.FindStringSubmatch(line); m != nil && slices.Contains(manners, strings.ToLower(m[1])) {
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return b.String()
}

// StripRecovery removes from the text of postgresql.auto.conf what only we may
// set; changed says whether there was anything.
func StripRecovery(text string) (stripped string, changed bool) { return Strip(text, recovery...) }

// Strip removes settings from the text of postgresql.auto.conf, which is read last.
func Strip(text string, names ...string) (stripped string, changed bool) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		if slices.Contains(names, strings.ToLower(strings.TrimSpace(name))) {
			changed = true
			continue
		}
		b.WriteString(line)
	}
	return b.String(), changed
}

// Rules prints pg_hba.conf of a server that is a standby just now, or is none.
func Rules(n spec.Node, standby bool) string {
	tcp := "host"
	if n.TLS.Cert != "" {
		tcp = "hostssl"
	}
	var b strings.Builder
	b.WriteString(header +
		"# The socket's directory is 0700: whoever reaches it is PostgreSQL's own user or root.\n" +
		"local all all trust\n" +
		"local replication all trust\n" +
		"# Members replicate from each other with a password.\n")
	for _, net := range []string{"0.0.0.0/0", "::/0"} {
		fmt.Fprintf(&b, "%s replication %s %s scram-sha-256\n", tcp, spec.Replicator, net)
		fmt.Fprintf(&b, "%s postgres %s %s scram-sha-256\n", tcp, spec.Replicator, net) // pg_rewind
	}
	for _, r := range n.Postgres.HBA {
		title := cmp.Or(r.Title, "from the inventory")
		counts := r.Role == "" || (r.Role == "replica") == standby
		if !counts {
			title += " (not now: for " + r.Role + ")"
		}
		b.WriteString("# " + title + "\n")
		for _, line := range r.Lines {
			if !counts {
				line = "# " + line
			}
			b.WriteString(line + "\n")
		}
	}
	if len(n.Postgres.HBA) == 0 {
		b.WriteString("# Everybody else: a password, never in clear.\n")
		for _, net := range []string{"0.0.0.0/0", "::/0"} {
			fmt.Fprintf(&b, "%s all all %s scram-sha-256\n", tcp, net)
		}
	}
	return b.String()
}

// Closed prints pg_hba.conf of a primary that lets nobody see its data yet but its
// superuser, on the machine itself, and members that replicate from it. (A logical
// walsender asks for a database by its name, which the word replication is not.)
func Closed(n spec.Node) string {
	tcp := "host"
	if n.TLS.Cert != "" {
		tcp = "hostssl"
	}
	var b strings.Builder
	fmt.Fprintf(&b, header+
		"# This server was started and is not confirmed by its standbys: it lets nobody in yet.\n"+
		"local all %[1]s trust\n"+
		"local replication %[1]s trust\n", spec.Superuser)
	for _, net := range []string{"0.0.0.0/0", "::/0"} {
		fmt.Fprintf(&b, "%s replication %s %s scram-sha-256\n", tcp, spec.Replicator, net)
		fmt.Fprintf(&b, "%s postgres %s %s scram-sha-256\n", tcp, spec.Replicator, net) // pg_rewind
	}
	b.WriteString("local all all reject\n")
	for _, net := range []string{"0.0.0.0/0", "::/0"} {
		fmt.Fprintf(&b, "host all all %s reject\n", net)
	}
	return b.String()
}

// Passfile prints a password file that knows the passwords of roles on every
// server; the roles come in the order of their names.
func Passfile(passwords map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	var b strings.Builder
	for _, role := range slices.Sorted(maps.Keys(passwords)) {
		fmt.Fprintf(&b, "*:*:*:%s:%s\n", escape.Replace(role), escape.Replace(passwords[role]))
	}
	return b.String()
}

// HostPort returns where a connection string that Conninfo wrote leads to.
func HostPort(conninfo string) (host, port string) {
	for field := range strings.FieldsSeq(conninfo) {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "host":
			host = value
		case "port":
			port = value
		}
	}
	return host, port
}
