package pigsty

import (
	"net/netip"
	"net/url"
	"strconv"

	"howdah/spec"
)

// jsonLines is where a VictoriaLogs takes logs.
const jsonLines = "/insert/jsonline"

// logs says who is sent the logs of hosts, where somebody wrote it: groups whose hosts
// have a VictoriaLogs, addresses of such hosts, or URLs, of a Loki too. (Upstream's
// default is group infra; there is no log store of ours to be found there.)
func (r *reader) logs(inv *inventory, w *spec.World) {
	for _, h := range inv.hosts {
		s := r.scope(inv, h, nil)
		if !s.given("vector_log_endpoint") || !s.bool("vector_enabled") {
			continue
		}
		to := spec.LogsTo{Host: h.name}
		add := func(host string) {
			to.URLs = append(to.URLs, "http://"+host+":"+strconv.Itoa(s.int("vlogs_port"))+jsonLines)
		}
		for _, v := range items(s.get("vector_log_endpoint")) {
			text := v.String()
			u, err := url.Parse(text)
			_, other := netip.ParseAddr(text)
			switch g := inv.group(text); {
			case g != nil:
				for _, e := range inv.members(g) {
					add(e.host.name)
				}
			case other == nil:
				add(text)
			case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Path != "" && u.Path != "/":
				if u.User != nil {
					r.bad(v.line, "a log store of vector_log_endpoint has a password in its URL, which is no place for one")
					continue
				}
				to.URLs = append(to.URLs, text)
			default:
				r.find(spec.Problem, v.line, "a log store of vector_log_endpoint is "+quote(text),
					"write a group, an address, or a URL with the path where it takes logs, like http://10.10.10.9:3100/loki/api/v1/push")
			}
		}
		if to.URLs = unique(to.URLs); len(to.URLs) > 0 {
			w.LogsTo = append(w.LogsTo, to)
		}
	}
}
