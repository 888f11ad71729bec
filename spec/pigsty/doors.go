package pigsty

import (
	"howdah/secret"
	"howdah/spec"
)

// rest is who may ask the agents to change something: whoever has the password,
// where a user is named.
func (r *reader) rest(s *server, secrets map[string]secret.Text) spec.REST {
	rest := spec.REST{TLS: s.bool("patroni_ssl_enabled"), User: s.text("patroni_username")}
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
