package pigsty

import (
	"net/netip"
	"strconv"
	"time"

	"howdah/spec"
)

// metrics says which hosts keep metrics: those of group infra, where nobody wrote
// that they shall not. Who may ask them is who may come to the machines at all:
// those of the inventory, the admin's, and the networks of node_firewall_intranet.
func (r *reader) metrics(inv *inventory, w *spec.World) {
	g := inv.group("infra")
	if g == nil {
		return
	}
	var hosts []*host
	for _, e := range inv.members(g) {
		hosts = append(hosts, e.host)
	}
	seen := map[string]bool{}
	for i, h := range unique(hosts) {
		s := r.scope(inv, h, nil)
		name := "infra-" + strconv.Itoa(i+1)
		if s.given("infra_seq") {
			name = "infra-" + strconv.Itoa(s.int("infra_seq"))
		}
		if seen[name] {
			r.bad(max(s.line("infra_seq"), h.line), "group infra has two hosts that would be called %s", name)
		}
		seen[name] = true
		if !s.bool("vmetrics_enabled") {
			continue
		}
		m := spec.Metrics{Name: name, Host: h.name, Port: s.int("vmetrics_port")}
		m.Every, _ = time.ParseDuration(s.text("vmetrics_scrape_interval")) // its shape is one
		var from []string
		if s.given("admin_ip") {
			from = append(from, s.text("admin_ip"))
		}
		for _, o := range inv.hosts {
			from = append(from, o.name)
		}
		for _, v := range items(s.get("node_firewall_intranet")) {
			from = append(from, v.String())
		}
		for _, text := range unique(from) {
			p, err := netip.ParsePrefix(text)
			if a, bad := netip.ParseAddr(text); bad == nil {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
			if err == nil { // what is no address is told where it is read as one
				m.Allow = append(m.Allow, p.String())
			}
		}
		w.Metrics = append(w.Metrics, m)
	}
}
