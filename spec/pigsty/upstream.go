package pigsty

import (
	"slices"

	"howdah/spec"
)

// upstreams finds the servers that standby clusters follow: pg_upstream of a member
// whose pg_role is primary names an address, here or somewhere else. What such a
// cluster has is a copy, passwords and all.
func (r *reader) upstreams(w *spec.World, servers []*server) {
	for i := range w.Clusters {
		c := &w.Clusters[i]
		if c.Upstream.Host == "" {
			continue
		}
		first := primary(slices.DeleteFunc(slices.Clone(servers), func(s *server) bool { return s.cluster != c.Name }))
		line := first.line("pg_upstream")
		at := slices.IndexFunc(servers, func(s *server) bool {
			return s.host.name == c.Upstream.Host && s.cluster != c.Name
		})
		if at < 0 {
			if slices.ContainsFunc(servers, func(s *server) bool { return s.host.name == c.Upstream.Host }) {
				r.bad(line, "pg_upstream of the primary %s is a member of its own cluster, which can not follow itself", first.name())
			}
			continue // of another inventory, or of nobody's
		}
		up := servers[at]
		c.Upstream.Cluster, c.Upstream.Port = up.cluster, up.int("pg_port")
		j := slices.IndexFunc(w.Clusters, func(o spec.Cluster) bool { return o.Name == up.cluster })
		if j < 0 {
			continue // it has problems of its own
		}
		if a, b := c.Major, w.Clusters[j].Major; a != b {
			r.bad(line, "cluster %s follows %s, and pg_version is %d here and %d there", c.Name, up.cluster, a, b)
		}
		for _, p := range []struct{ secret, parameter string }{
			{spec.SecretSuper, "pg_dbsu_password"}, {spec.SecretReplicate, "pg_replication_password"},
		} {
			if a, b := c.Secrets[p.secret], w.Clusters[j].Secrets[p.secret]; a != "" && a != b {
				r.bad(line, "cluster %s follows %s, and is a copy of it: %s has to be the same for both", c.Name, up.cluster, p.parameter)
			}
		}
	}
	if all := w.Follow(); len(all) < len(w.Clusters) {
		for _, c := range w.Clusters {
			if !slices.ContainsFunc(all, func(o spec.Cluster) bool { return o.Name == c.Name }) {
				r.bad(0, "cluster %s follows %s, and in the end itself", c.Name, c.Upstream.Cluster)
			}
		}
	}
}
