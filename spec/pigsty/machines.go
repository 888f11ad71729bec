package pigsty

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"howdah/spec"
)

var (
	hostName  = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?$`)
	zoneName  = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	kernel    = regexp.MustCompile(`^[a-z0-9_]+(\.[a-zA-Z0-9_-]+)+$`)
	userName  = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	publicKey = regexp.MustCompile(`^(ssh|ecdsa|sk)-[a-zA-Z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?$`)
)

// settingsOf are what is said of the machine itself, of which nothing has a default here:
// what nobody wrote is left as it is. What makes no sense is told, and left too.
func (r *reader) settingsOf(s *scope) *spec.Settings {
	var m spec.Settings
	line := func(name string) int { return s.line(name) }
	wrong := func(name, text, want string) {
		r.warn(line(name), "%s is %s, and not %s: it is left as it is", name, quote(text), want)
	}
	off := func(name string) bool { return s.given(name) && !s.bool(name) }
	one := func(name string, is *regexp.Regexp, want string) string {
		text := oneLine(s.text(name))
		if text == "" || is.MatchString(text) {
			return text
		}
		wrong(name, text, want)
		return ""
	}
	if !off("nodename_overwrite") {
		m.Name = one("nodename", hostName, "the name of a machine")
	}
	m.Zone = one("node_timezone", zoneName, "a time zone like Europe/Berlin")
	if s.given("node_ntp_servers") && !off("node_ntp_enabled") {
		for _, v := range items(s.get("node_ntp_servers")) {
			text := strings.Join(strings.Fields(v.String()), " ")
			switch kind, rest, _ := strings.Cut(text, " "); {
			case (kind == "server" || kind == "pool" || kind == "peer") && rest != "":
				m.NTP = append(m.NTP, text)
			default:
				wrong("node_ntp_servers", text, "a line like `pool pool.ntp.org iburst`")
			}
		}
	}
	if v := s.get("node_sysctl_params"); s.given("node_sysctl_params") && v.kind == mapKind {
		for _, f := range v.fields {
			value := strings.Join(strings.Fields(f.value.String()), " ")
			if f.value.kind != scalarKind || !kernel.MatchString(f.name) || value == "" {
				wrong("node_sysctl_params", f.name, "a parameter of the kernel with its value, like vm.swappiness: 1")
				continue
			}
			m.Kernel = append(m.Kernel, spec.Kernel{Name: f.name, Value: value})
		}
		slices.SortFunc(m.Kernel, func(a, b spec.Kernel) int { return strings.Compare(a.Name, b.Name) })
	}
	if !off("node_write_etc_hosts") {
		for _, name := range []string{"node_default_etc_hosts", "node_etc_hosts"} {
			for _, v := range items(s.get(name)) {
				words := strings.Fields(v.String())
				if len(words) > 1 {
					if _, err := netip.ParseAddr(words[0]); err == nil {
						m.Hosts = append(m.Hosts, strings.Join(words, " "))
						continue
					}
				}
				wrong(name, strings.Join(words, " "), "an address and its names")
			}
		}
	}
	if !off("node_admin_enabled") && s.given("node_admin_username") {
		m.Admin = r.admin(s, one, wrong)
	}
	if m.Name == "" && m.Zone == "" && m.NTP == nil && m.Kernel == nil && m.Hosts == nil && m.Admin == nil {
		return nil
	}
	return &m
}

func (r *reader) admin(s *scope, one func(string, *regexp.Regexp, string) string, wrong func(name, text, want string)) *spec.Admin {
	a := spec.Admin{Name: one("node_admin_username", userName, "the name of a user")}
	if a.Name == "" || a.Name == "root" {
		return nil
	}
	if s.given("node_admin_uid") {
		a.UID = s.int("node_admin_uid")
	}
	switch text := s.text("node_admin_sudo"); text {
	case "", "none": // one that has it by somebody else's hand keeps it
	case "all", "nopass":
		a.Sudo = text
	default:
		wrong("node_admin_sudo", text, "none, all or nopass")
	}
	for _, v := range items(s.get("node_admin_pk_list")) {
		if text := strings.TrimSpace(v.String()); publicKey.MatchString(text) {
			a.Keys = append(a.Keys, text)
		} else {
			wrong("node_admin_pk_list", text, "a public key of SSH")
		}
	}
	return &a
}
