package pigsty

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"howdah/spec"
)

// access is what the member's pg_hba.conf, or its pooler's, says by the parameters
// of these names: the rules that have an order by it, then the others, the default
// ones first.
//
// Where a rule is for primaries or replicas, it goes with the server's role of
// the moment (upstream's counts until somebody runs a command again). Offline,
// standby and delayed are what the inventory calls a member.
func (r *reader) access(inv *inventory, s *server, members []*server, names ...string) []spec.AccessRule {
	type ordered struct {
		order *int
		v     *value
	}
	var rules []ordered
	for _, name := range names {
		for _, v := range items(s.get(name)) {
			rules = append(rules, ordered{number(v, "order"), v})
		}
	}
	slices.SortStableFunc(rules, func(a, b ordered) int {
		switch {
		case a.order != nil && b.order != nil:
			return cmp.Compare(*a.order, *b.order)
		case a.order != nil:
			return -1
		case b.order != nil:
			return 1
		}
		return 0
	})
	users := strings.NewReplacer(
		"${dbsu}", spec.Superuser, "${repl}", s.text("pg_replication_username"),
		"${monitor}", s.text("pg_monitor_username"), "${admin}", s.text("pg_admin_username"),
	)
	var all []spec.AccessRule
	for _, o := range rules {
		rule := spec.AccessRule{Title: oneLine(o.v.field("title").String())}
		switch role := or(o.v.field("role"), "default"); role {
		case "primary", "replica":
			rule.Role = role
		case "offline":
			if s.role != "offline" && !s.bool("pg_offline_query") {
				continue
			}
		case "standby", "delayed":
			if s.role != role {
				continue
			}
		}
		if raw := o.v.field("rules"); raw != nil {
			for _, line := range raw.list {
				rule.Lines = append(rule.Lines, oneLine(line.String()))
			}
		} else {
			rule.Lines = r.lines(inv, s, members, o.v, users)
		}
		if len(rule.Lines) > 0 {
			all = append(all, rule)
		}
	}
	return all
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// lines renders one rule that is written by aliases.
func (r *reader) lines(inv *inventory, s *server, members []*server, v *value, users *strings.Replacer) []string {
	user, db := users.Replace(or(v.field("user"), "all")), or(v.field("db"), "all")
	user, db = hbaName(user), hbaName(db)
	kind, method := "host", "scram-sha-256"
	if s.text("pg_pwd_enc") == "md5" {
		method = "md5"
	}
	switch auth := or(v.field("auth"), "pwd"); auth {
	case "deny", "reject":
		method = "reject"
	case "ssl":
		kind = "hostssl"
	case "sha", "scram-sha-256":
		method = "scram-sha-256"
	case "ssl-sha":
		kind, method = "hostssl", "scram-sha-256"
	case "md5":
		method = "md5"
	case "ssl-md5":
		kind, method = "hostssl", "md5"
	case "cert", "ssl-cert":
		kind, method = "hostssl", "cert"
	case "os", "ident":
		method = "ident"
	case "peer", "trust":
		method = auth
	}
	line := func(kind, addr string) string {
		return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %s", kind, db, user, addr, method)), " ")
	}
	addr := v.field("addr")
	if addr.null() {
		if !addr.absent() {
			return nil // told with its shape
		}
		r.find(spec.Problem, v.line, "the rule "+quote(v.field("title").String())+" has neither addr nor rules", "say whom it is for, like addr: intra")
		return nil
	}
	var lines []string
	hosts := func(names []string) {
		slices.SortFunc(names, func(a, b string) int {
			x, _ := netip.ParseAddr(a)
			y, _ := netip.ParseAddr(b)
			return x.Compare(y)
		})
		for _, h := range slices.Compact(names) {
			lines = append(lines, line(kind, h+"/32"))
		}
	}
	switch where := addr.String(); where {
	case "local":
		lines = append(lines, line("local", ""))
	case "localhost":
		lines = append(lines, line("local", ""), line("host", "127.0.0.1/32"), line("host", "::1/128"))
	case "admin":
		if !s.given("admin_ip") {
			r.bad(addr.line, "a rule is for the admin's address, and there is no admin_ip")
			return nil
		}
		hosts([]string{s.text("admin_ip")})
	case "infra":
		var names []string
		if g := inv.group("infra"); g != nil {
			for _, e := range inv.members(g) {
				names = append(names, e.host.name)
			}
		}
		hosts(names)
	case "cluster":
		var names []string
		for _, m := range members {
			names = append(names, m.host.name)
		}
		hosts(names)
	case "intra", "intranet":
		for _, n := range items(s.get("node_firewall_intranet")) {
			lines = append(lines, line(kind, n.String()))
		}
	case "world", "all":
		lines = append(lines, line(kind, "0.0.0.0/0"), line(kind, "::/0"))
	default:
		text := where
		if a, err := netip.ParseAddr(where); err == nil {
			text = netip.PrefixFrom(a, a.BitLen()).String()
		} else if _, err := netip.ParsePrefix(where); err != nil {
			known := []string{"local", "localhost", "admin", "infra", "cluster", "intra", "intranet", "world", "all"}
			do := "write an address, a network or one of " + strings.Join(known, ", ")
			if near := nearest(where, known); near != "" {
				do = "did you mean " + near + "?"
			}
			r.find(spec.Problem, addr.line, "the address of a rule is "+quote(where), do)
			return nil
		}
		lines = append(lines, line(kind, text))
	}
	return lines
}

// hbaName quotes the names of a comma separated list that pg_hba.conf would
// read otherwise (hba.c, next_token); keywords, +groups and @files stay.
func hbaName(list string) string {
	var out []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if strings.ContainsAny(name, " \t#\"") {
			name = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		}
		if name != "" {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}
