package pigsty

import (
	"net/netip"

	"howdah/secret"
	"howdah/spec"
)

// rest is who may ask the agents to change something: whoever has the password,
// where a user is named, from the admin's host, those of group infra and those
// of the cluster's members. The short form knows no such hosts: there it is
// everybody who may.
func (r *reader) rest(inv *inventory, s *server, secrets map[string]secret.Text) spec.REST {
	rest := spec.REST{TLS: s.bool("patroni_ssl_enabled"), User: s.text("patroni_username")}
	if !r.short {
		rest.AllowMembers = true
		if s.given("admin_ip") {
			rest.Allow = append(rest.Allow, s.text("admin_ip"))
		}
		if g := inv.group("infra"); g != nil {
			for _, e := range inv.members(g) {
				rest.Allow = append(rest.Allow, e.host.name)
			}
		}
		rest.Allow = unique(rest.Allow)
	}
	if rest.User != "" {
		rest.Secret = spec.SecretREST
		secrets[rest.Secret] = secret.Text(s.text("patroni_password"))
	}
	return rest
}

// virtual is the address that follows the cluster's leader, or "". One of
// 127.0.0.0/24 stands for none yet, as upstream has it.
func (r *reader) virtual(s *server, members []*server) string {
	if !s.bool("pg_vip_enabled") {
		return ""
	}
	line := s.line("pg_vip_address")
	p, err := netip.ParsePrefix(s.text("pg_vip_address"))
	if err != nil || s.ill["pg_vip_address"] {
		return "" // told with its shape
	}
	if p.Addr().IsLoopback() {
		if !s.given("pg_vip_enabled") { // the short form, which has it by its address alone
			return ""
		}
		r.find(spec.Warning, line, "pg_vip_enabled is on, and pg_vip_address is "+p.String()+", which stands for none", "write the address and the length of its network, like 10.10.10.2/24")
		return ""
	}
	for _, m := range members {
		if m.host.name == p.Addr().String() {
			r.bad(line, "pg_vip_address %s is the address of host %s itself", p, m.host.name)
			return ""
		}
	}
	return p.String()
}

// page is who may use the statistics page of a gateway. Its password is
// generated unless somebody wrote one.
func (r *reader) page(s interface {
	text(string) string
	bool(string) bool
}, secrets map[string]secret.Text,
) spec.Page {
	secrets[spec.SecretGateway] = secret.Text(s.text("haproxy_admin_password"))
	return spec.Page{User: s.text("haproxy_admin_username"), Private: s.bool("haproxy_auth_enabled")}
}
