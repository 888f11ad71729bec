package store

import (
	"net/http"
	"net/netip"

	"howdah/logkey"
)

// bounded answers those that come from allow; none: everybody. This machine itself
// may always ask. What it answers tells what the machines do, and queries cost
// something: nobody needs a password, so strangers get nothing.
func (s *Store) bounded(h http.Handler) http.Handler {
	var allow []netip.Prefix
	for _, text := range s.Node.Observe.Allow {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			s.Log.Error("nobody is let in from there", logkey.Addr, text, logkey.Error, err)
			continue
		}
		allow = append(allow, p.Masked())
	}
	if len(s.Node.Observe.Allow) == 0 {
		return h
	}
	own, _ := netip.ParseAddr(s.Node.Address)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		a := from.Addr().Unmap()
		if err == nil && (a.IsLoopback() || a == own) {
			h.ServeHTTP(w, r)
			return
		}
		for _, p := range allow {
			if err == nil && p.Contains(a) {
				h.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "your address may not ask: it is none of the inventory's, and of no network in node_firewall_intranet", http.StatusForbidden)
	})
}
