package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// resolveWithin is the time allowed to finding the addresses of a name on the allow list.
const resolveWithin = 2 * time.Second

// may says whether whoever asks may change something, and answers if not. The
// order is Patroni's: where from, by which certificate, by which password.
func (s *Server) may(w http.ResponseWriter, r *http.Request) bool {
	rest := s.Node.Agent.REST
	if (len(rest.Allow) > 0 || rest.AllowMembers) && !s.listed(r) {
		text(w, http.StatusForbidden, "Access is denied")
		return false
	}
	asked := rest.VerifyClient == "optional" || rest.VerifyClient == "required"
	if rest.Cert != "" && asked && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		text(w, http.StatusForbidden, "client certificate required")
		return false
	}
	if rest.User == "" {
		return true
	}
	user, password, given := r.BasicAuth()
	said := ""
	switch {
	case !given:
		said = "no auth header received"
	case !same(user, rest.User) || !same(password, s.Password.Reveal()):
		said = "not authenticated"
	default:
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="Patroni"`)
	text(w, http.StatusUnauthorized, said)
	return false
}

// same compares without telling by its time how much of a secret was right.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// listed says that the request comes from an address on the allow list.
func (s *Server) listed(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	client := from.Addr().Unmap()
	for _, entry := range s.Node.Agent.REST.Allow {
		if within(r.Context(), client, entry) {
			return true
		}
	}
	if !s.Node.Agent.REST.AllowMembers {
		return false
	}
	for _, m := range s.now().State.Members {
		if u, err := url.Parse(m.APIURL); err == nil && u.Hostname() != "" && within(r.Context(), client, u.Hostname()) {
			return true
		}
	}
	return false
}

// within says that client is what entry says: an address, a network, or a name.
func within(ctx context.Context, client netip.Addr, entry string) bool {
	if network, err := netip.ParsePrefix(entry); err == nil {
		return network.Contains(client)
	}
	if a, err := netip.ParseAddr(entry); err == nil {
		return a.Unmap() == client
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", entry) // who can not be found is not the client
	for _, a := range found {
		if a.Unmap() == client {
			return true
		}
	}
	return false
}
