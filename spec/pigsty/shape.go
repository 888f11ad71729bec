package pigsty

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jmespath-community/go-jmespath"

	"howdah/cluster"
	"howdah/spec"
)

var literal = regexp.MustCompile("`(\\\\`|[^`])*`")

// words are the shapes that are one of a few words.
var words = map[shape][]string{
	"role":     {"primary", "replica", "offline", "standby", "delayed"},
	"mode":     {"pgsql", "citus", "mssql", "mysql", "ivory", "pgtde", "polar", "gpsql", "agens", "oriole", "pgedge", "oracle"},
	"storage":  {"SSD", "HDD"},
	"io":       {"auto", "sync", "worker", "io_uring"},
	"pwdenc":   {"scram-sha-256", "md5"},
	"dest":     {"pgbouncer", "postgres"},
	"watch":    {"off", "automatic", "required", "false"}, // YAML's off
	"rto":      {"fast", "norm", "safe", "wide"},
	"template": {"oltp.yml", "olap.yml", "crit.yml", "tiny.yml", "oltp", "olap", "crit", "tiny"},
	"state":    {"create", "absent"},
	"dbstate":  {"create", "absent", "recreate"},
	"grant":    {"grant", "revoke", "absent"},
	"poolmode": {"transaction", "session", "statement"},
	"style":    {"host", "path"},
	"cipher":   {"none", "aes-256-cbc"},
	"counted":  {"count", "time"},
	"sslmode":  {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
	"hbarole":  {"default", "common", "primary", "replica", "offline", "standby", "delayed"},
	"auth": {
		"deny", "pwd", "ssl", "sha", "scram-sha-256", "ssl-sha", "md5", "ssl-md5", "cert", "os", "ident", "peer", "trust", "reject",
		"ssl-cert",
	},
	"balance": {"roundrobin", "leastconn", "static-rr", "first", "source", "random"},
}

// patterns are the shapes that a regular expression tells, with what they mean.
var patterns = map[shape]struct {
	is    *regexp.Regexp
	means string
}{
	"account":  {regexp.MustCompile(`^[^\x00-\x1f:]*$`), "a name without a colon, which would end it in basic authentication"},
	"name":     {regexp.MustCompile(`^[a-zA-Z0-9-]+$`), "letters, digits and dashes"},
	"rolename": {regexp.MustCompile(`^[a-z_][a-z0-9_@.-]{0,62}$`), "up to 63 lower case letters, digits and _ @ . - that begin with a letter"},
	"dbname":   {regexp.MustCompile(`^[^\x00-\x1f/\\"]{1,63}$`), "up to 63 characters"},
	"object":   {regexp.MustCompile(`^[^\x00-\x1f"]{1,63}$`), "up to 63 characters"},
	"path":     {regexp.MustCompile(`^/[^\s\x00-\x1f]*$`), "an absolute path"},
	"check":    {regexp.MustCompile(`^/[!-~]*$`), "a path that begins with /"},
	"interval": {regexp.MustCompile(`^(0|[0-9]+ ?(us|ms|s|min|h|d|)|[0-9]+ ?(sec|secs|second|seconds|minute|minutes|mins|hour|hours|hr|hrs|day|days))$`), "a time, like 1h or 30min"},
	"pace":     {regexp.MustCompile(`^([1-9][0-9]{0,3}s|[1-9][0-9]?m)$`), "a time, like 10s or 1m"},
	"margin":   {regexp.MustCompile(`^(-1|[0-9]{1,4})$`), "a number of seconds, or -1"},
	"suffix":   {regexp.MustCompile(`^[a-zA-Z0-9.-]{0,100}$`), "letters, digits, dashes and dots"},
	"link":     {regexp.MustCompile(`^[^\s/]{1,15}$`), "an interface, or auto"},
	"size":     {regexp.MustCompile(`^[0-9]{1,15} ?([kKmMgGtT]?[bB]?|[kKmMgGtT]i[bB])$`), "a size, like 20MiB"},
	"queue":    {regexp.MustCompile(`^(auto|off|false|[1-9][0-9]{0,14} ?([kKmMgGtT][bB]?|[kKmMgGtT]i[bB]))$`), "a size with its unit, like 10GB, auto or off"},
	"times":    {regexp.MustCompile(`^(off|false|([0-9*,/-]+[ \t]+){4}[0-9*,/-]+)?$`), "five fields of cron, like '0 4 * * 6', or off"},
	"word":     {regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`), "one word"},
}

// objects are the shapes that are maps with known keys, each with its shape;
// an exclamation mark stands behind those that must be there.
var objects = map[shape]map[string]shape{
	"user": {
		"name": "rolename!", "state": "state", "password": "secret", "login": "bool", "superuser": "bool", "createdb": "bool",
		"createrole": "bool", "inherit": "bool", "replication": "bool", "bypassrls": "bool", "connlimit": "limit",
		"expire_in": "int", "expire_at": "text", "roles": "roles", "parameters": "settings", "comment": "text",
		"pgbouncer": "bool", "pool_mode": "poolmode", "pool_connlimit": "int", "pool_parameters": "userpoolsettings",
	},
	"membership": {"name": "rolename!", "state": "grant", "admin": "bool", "set": "bool", "inherit": "bool"},
	"database": {
		"name": "dbname!", "state": "dbstate", "owner": "rolename", "template": "dbname", "encoding": "word", "locale": "text",
		"lc_collate": "text", "lc_ctype": "text", "locale_provider": "word", "icu_locale": "text", "icu_rules": "text",
		"builtin_locale": "text", "strategy": "word", "tablespace": "object", "is_template": "bool", "allowconn": "bool",
		"connlimit": "limit", "revokeconn": "bool", "parameters": "settings", "schemas": "schemas", "extensions": "extensions",
		"baseline": "text", "comment": "text", "pgbouncer": "bool", "pool_auth_user": "text", "pool_mode": "poolmode",
		"pool_size": "int", "pool_size_min": "int", "pool_reserve": "int", "pool_connlimit": "int", "register_datasource": "bool",
	},
	"schema":    {"name": "object!", "owner": "rolename", "state": "state"},
	"extension": {"name": "object!", "schema": "object", "version": "text", "state": "state"},
	"service": {
		"name": "name!", "port": "port!", "ip": "text", "dest": "destination", "check": "check", "selector": "selector!", "backup": "selector",
		"maxconn": "int", "balance": "balance", "options": "text",
	},
	"tags": {
		cluster.TagNoFailover: "bool", cluster.TagFailoverPriority: "seq", cluster.TagNoSync: "bool", cluster.TagSyncPriority: "seq",
		cluster.TagNoLoadBalance: "bool",
	},
	"repository": repositoryKeys,
	"origin":     {"config": "path!", "stanza": "text!", "to": "text", "set": "text"},
	"rule": {
		"title": "text", "role": "hbarole", "order": "int", "user": "text", "db": "text", "addr": "text", "auth": "auth", "rules": "strings",
	},
}

// lists are the shapes that are lists of another shape.
var lists = map[shape]shape{
	"users": "user", "databases": "database", "services": "service", "hba": "rule", "strings": "text",
	"roles": "membership", "schemas": "schema", "extensions": "extension",
}

// poolSettings are what pgbouncer_parameters may set, by PgBouncer's names.
var poolSettings = map[string]shape{
	"cancel_wait_timeout": "seconds", "client_idle_timeout": "seconds", "client_login_timeout": "seconds", "default_pool_size": "seq",
	"idle_transaction_timeout": "seconds", "max_client_conn": "seq", "max_db_client_connections": "seq", "max_db_connections": "seq",
	"max_prepared_statements": "seq", "max_user_client_connections": "seq", "max_user_connections": "seq", "min_pool_size": "seq",
	"query_timeout": "seconds", "query_wait_notify": "seconds", "query_wait_timeout": "seconds", "reserve_pool_size": "seq",
	"reserve_pool_timeout": "seconds", "server_check_delay": "period", "server_connect_timeout": "seconds", "server_idle_timeout": "seconds",
	"resolve_commits": "bool", "server_lifetime": "seconds", "server_login_retry": "seconds", "server_round_robin": "bool", "stats_period": "period",
	"transaction_timeout": "seconds",
}

// userPoolSettings are those of a user's own, pool_parameters.
var userPoolSettings = map[string]shape{
	"client_idle_timeout": "seconds", "idle_transaction_timeout": "seconds", "max_user_client_connections": "seq", "pool_size": "seq",
	"query_timeout": "seconds", "reserve_pool_size": "seq", "transaction_timeout": "seconds",
}

// byName are the objects that may be written as their name alone.
var byName = map[shape]bool{"membership": true, "schema": true, "extension": true}

// fits says whether a value has a shape, and finds everything that does not.
func (r *reader) fits(f field, is shape) bool {
	v := f.value
	wrong := func(want string) bool {
		r.bad(max(v.line, f.line), "%s must be %s, and is %s", f.name, want, v.what())
		return false
	}
	is = shape(strings.TrimSuffix(string(is), "!"))
	if is == "methods" { // one, or several
		if is = "text"; v.kind == listKind {
			is = "strings"
		}
	}
	if of, ok := lists[is]; ok {
		if v.null() {
			return true
		}
		if v.kind != listKind {
			return wrong("a list")
		}
		good := true
		for i, e := range v.list {
			good = r.fits(field{fmt.Sprintf("%s[%d]", f.name, i), e.line, e}, of) && good
		}
		return good
	}
	if keys, ok := objects[is]; ok {
		return r.fitsObject(f, is, keys)
	}
	switch is {
	case "any":
		return true
	case "settings":
		if v.kind != mapKind {
			return v.null() || wrong("a map")
		}
		good := true
		for _, p := range v.fields {
			switch {
			case p.value.kind != scalarKind:
				r.bad(p.line, "%s of %s must be one value, and is %s", p.name, f.name, p.value.what())
				good = false
			case !settingName.MatchString(p.name):
				r.bad(p.line, "%s names the parameter %s, and none is called so", f.name, quote(p.name))
				good = false
			}
		}
		return good
	case "poolsettings", "userpoolsettings":
		known := poolSettings
		if is == "userpoolsettings" {
			known = userPoolSettings
		}
		if v.kind != mapKind {
			return v.null() || wrong("a map")
		}
		good := true
		for _, p := range v.fields {
			of, ok := known[p.name]
			if !ok {
				do := ""
				if near := nearest(p.name, slices.Sorted(maps.Keys(known))); near != "" {
					do = "did you mean " + near + "?"
				}
				r.find(spec.Problem, p.line, f.name+" has "+quote(p.name)+", which is no setting of pools", do)
				good = false
				continue
			}
			good = r.fits(field{f.name + "." + p.name, p.line, p.value}, of) && good
		}
		return good
	case "repositories":
		if v.kind != mapKind {
			return v.null() || wrong("a map of repositories")
		}
		good := true
		for _, p := range v.fields {
			if t := p.value.field("type").String(); p.value.kind != mapKind || slices.Contains(repositoryTypes, t) {
				good = r.fits(field{f.name + "." + p.name, p.line, p.value}, "repository") && good
			}
		}
		return good
	case "instances":
		if v.kind != mapKind {
			return v.null() || wrong("a map of ports")
		}
		good := true
		for _, p := range v.fields {
			if n, err := strconv.Atoi(p.name); err != nil || n < 1 || n > 65535 {
				r.bad(p.line, "%s must be a map of ports, and %s is none", f.name, quote(p.name))
				good = false
			}
			if !p.value.null() && p.value.kind != mapKind {
				r.bad(p.line, "%s of %s must be a map of variables, and is %s", p.name, f.name, p.value.what())
				good = false
			}
		}
		return good
	}
	if v.kind != scalarKind {
		return wrong("one value")
	}
	text := v.String()
	number, isNumber := whole(v)
	if known, ok := words[is]; ok {
		// PyYAML has read a plain off as false; as a word it is what was written.
		if slices.Contains(known, text) {
			return true
		}
		if near := nearest(text, known); near != "" {
			r.find(spec.Problem, max(v.line, f.line), fmt.Sprintf("%s is %s", f.name, quote(text)), "did you mean "+near+"?")
			return false
		}
		return wrong("one of " + strings.Join(known, ", "))
	}
	if p, ok := patterns[is]; ok {
		if v.null() || !p.is.MatchString(text) {
			return wrong(p.means)
		}
		return true
	}
	between := func(low, high int64) bool {
		if !isNumber || number < low || number > high {
			return wrong(fmt.Sprintf("a whole number from %d to %d", low, high))
		}
		return true
	}
	switch is {
	case "text", "secret":
		if is == "secret" && strings.ContainsAny(text, "\r\n\x00") {
			r.bad(max(v.line, f.line), "%s must be one line of text", f.name) // and is not shown
			return false
		}
		if strings.ContainsAny(text, "\x00") {
			return wrong("one line of text")
		}
		return true
	case "bool":
		if _, ok := truth(v); !ok {
			return wrong("true or false")
		}
	case "int":
		if !isNumber || number < math.MinInt32 || number > math.MaxInt32 {
			return wrong("a whole number")
		}
	case "limit":
		return between(-1, math.MaxInt32)
	case "seq":
		return between(0, math.MaxInt32)
	case "weight":
		return between(0, 255)
	case "port":
		return between(1, 65535)
	case "version":
		return between(14, 19)
	case "bytes":
		return between(0, math.MaxInt64)
	case "millis":
		return between(10, 50000)
	case "maxconn":
		if text == "auto" {
			return true
		}
		return between(20, 262143)
	case "seconds", "period":
		s, err := strconv.ParseFloat(text, 64)
		if err != nil || !(s >= 0 && s <= 1e9) || is == "period" && s == 0 { // nor NaN
			return wrong("a number of seconds")
		}
	case "ratio":
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < 0.1 || f > 0.4 {
			return wrong("a number from 0.1 to 0.4")
		}
	case "address":
		if a, err := netip.ParseAddr(text); err != nil || !a.Is4() {
			return wrong("an IPv4 address")
		}
	case "cidr":
		if p, err := netip.ParsePrefix(text); err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" || p.Bits() == 0 {
			return wrong("an address with the length of its network, like 10.10.10.2/24")
		}
	case "target":
		if _, err := netip.ParseAddr(text); err != nil && !slices.Contains([]string{"auto", "primary", "vip", "none"}, text) {
			return wrong("auto, primary, vip, none or an address")
		}
	case "destination":
		if slices.Contains([]string{"default", "postgres", "pgbouncer"}, text) || isNumber && number > 0 && number < 65536 {
			return true
		}
		r.find(spec.Warning, max(v.line, f.line), f.name+" is "+quote(text)+", which upstream reads as 5432", "write default, postgres, pgbouncer or a port")
	case "selector":
		if !strings.Contains(text, "[") {
			return wrong("a selector over the list of members, like []")
		}
		// A literal in backticks may be anything: what is no JSON stands for its text (access/route).
		if _, err := jmespath.Compile(literal.ReplaceAllString(text, `"x"`)); err != nil {
			return wrong("a JMESPath expression (" + err.Error() + ")")
		}
	case "encoding":
		if text != "UTF8" {
			r.warn(max(v.line, f.line), "%s is %s, and clusters are made with UTF8", f.name, quote(text))
		}
	case "locale":
		if text != "C" && text != "C.UTF-8" {
			r.warn(max(v.line, f.line), "%s is %s, and clusters are made with C.UTF-8", f.name, quote(text))
		}
	}
	return true
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$`)

func (r *reader) fitsObject(f field, is shape, keys map[string]shape) bool {
	v := f.value
	if v.kind == scalarKind && byName[is] && !v.null() {
		return r.fits(field{f.name, f.line, v}, keys["name"])
	}
	if v.kind != mapKind {
		r.bad(max(v.line, f.line), "%s must be a map, and is %s", f.name, v.what())
		return false
	}
	good := true
	var known []string
	for name, of := range keys {
		known = append(known, name)
		if strings.HasSuffix(string(of), "!") && v.field(name).null() {
			r.bad(v.line, "%s has no %s", f.name, name)
			good = false
		}
	}
	slices.Sort(known)
	label := f.name
	if n := v.field("name"); n != nil && n.kind == scalarKind {
		label = f.name + " (" + shorten(n.String()) + ")"
	}
	for _, in := range v.fields {
		of, ok := keys[in.name]
		switch {
		case !ok:
			r.unknown(in.line, "key of "+label, in.name, known)
		case !in.value.null():
			good = r.fits(field{label + "." + in.name, in.line, in.value}, of) && good
		}
	}
	return good
}

// whole is a whole number, also where it is written as text.
func whole(v *value) (int64, bool) {
	if v == nil {
		return 0, false
	}
	switch x := v.scalar.(type) {
	case int64:
		return x, true
	case float64:
		return int64(x), x == math.Trunc(x) && math.Abs(x) < 1<<53
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(x), 10, 64)
		return n, err == nil
	}
	return 0, false
}

// truth is a boolean, also where it is written as text or number: a template
// asks it as "x|bool".
func truth(v *value) (is, ok bool) {
	if v == nil {
		return false, false
	}
	switch x := v.scalar.(type) {
	case bool:
		return x, true
	case int64:
		return x == 1, x == 0 || x == 1
	case string:
		switch strings.ToLower(x) {
		case "yes", "on", "true", "1", "y", "t":
			return true, true
		case "no", "off", "false", "0", "n", "f", "":
			return false, true
		}
	}
	return false, false
}
