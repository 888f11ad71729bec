package pigsty

import (
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
