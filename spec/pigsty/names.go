package pigsty

import (
	"net/netip"
	"slices"
	"strings"

	"howdah/spec"
)

// names says which hosts answer for the names of clusters: those of group infra,
// and all of the short form, where somebody wrote that they shall. (Upstream's
// default is that they do; a name server that nobody asked for is none of ours.)
func (r *reader) names(inv *inventory, servers []*server, w *spec.World) {
	var hosts []*host
	if r.short {
		for _, s := range servers {
			hosts = append(hosts, s.host)
		}
	} else if g := inv.group("infra"); g != nil {
		for _, e := range inv.members(g) {
			hosts = append(hosts, e.host)
		}
	}
	var seen []string
	for _, h := range hosts {
		if slices.Contains(seen, h.name) {
			continue
		}
		seen = append(seen, h.name)
		s := r.scope(inv, h, nil)
		if !s.given("dns_enabled") || !s.bool("dns_enabled") {
			continue
		}
		carries := slices.ContainsFunc(w.Others, func(o spec.Other) bool { return o.Host == h.name }) ||
			slices.ContainsFunc(servers, func(s *server) bool { return s.host == h })
		if !carries {
			r.warn(s.line("dns_enabled"), "host %s answers for no names: it carries nothing else, and this version runs nothing there", h.name)
			continue
		}
		d := spec.Names{Host: h.name, Port: s.int("dns_port")}
		for _, v := range items(s.get("dns_records")) {
			text := oneLine(v.String())
			address, names, _ := strings.Cut(text, " ")
			if _, err := netip.ParseAddr(address); err != nil || names == "" {
				r.warn(v.line, "a record of dns_records is %s, and not an address and its names", quote(text))
				continue
			}
			d.Records = append(d.Records, text)
		}
		w.Names = append(w.Names, d)
	}
	for _, h := range inv.hosts {
		s := r.scope(inv, h, nil)
		if !s.given("dns_hosts_file") || s.text("dns_hosts_file") == "" {
			continue
		}
		carries := slices.ContainsFunc(w.Others, func(o spec.Other) bool { return o.Host == h.name }) ||
			slices.ContainsFunc(servers, func(s *server) bool { return s.host == h })
		if !carries {
			continue // it is all.vars' as a rule
		}
		i := slices.IndexFunc(w.Names, func(d spec.Names) bool { return d.Host == h.name })
		if i < 0 {
			i = len(w.Names)
			w.Names = append(w.Names, spec.Names{Host: h.name})
		}
		w.Names[i].File = s.text("dns_hosts_file")
	}
}
