package store

import (
	"crypto/x509"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"howdah/logkey"
	"howdah/observe/probe"
)

// probePort is blackbox_exporter's.
const probePort = "9115"

// jobPing is the job of hosts that are pinged, as dashboards know it.
const jobPing = "ping"

// newProber probes the inventory's hosts.
func (s *Store) newProber() *probe.Prober {
	var hosts []string
	for _, t := range s.Node.Observe.Targets {
		hosts = append(hosts, t.IP)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if ca, err := os.ReadFile(s.Node.TLS.CA); err == nil {
		roots.AppendCertsFromPEM(ca) // pages of ours
	}
	if err := probe.CanPing(); err != nil {
		s.Log.Warn("hosts are not pinged: the group of this process is not in net.ipv4.ping_group_range", logkey.Error, err)
	}
	return probe.New(hosts, roots)
}

// pings are the hosts of the inventory, each once, to be pinged from here.
func (s *Store) pings() []*targetgroup.Group {
	if s.prober == nil || probe.CanPing() != nil {
		return nil
	}
	var all []*targetgroup.Group
	seen := map[string]bool{}
	for _, t := range s.Node.Observe.Targets {
		if t.IP == "" || seen[t.IP] {
			continue
		}
		seen[t.IP] = true
		l := func(s string) model.LabelValue { return model.LabelValue(s) }
		all = append(all, &targetgroup.Group{
			Source: jobPing + "/" + t.IP,
			Targets: []model.LabelSet{{
				model.AddressLabel: l(s.beside(probePort)), model.MetricsPathLabel: "/probe", "__param_module": "icmp", "__param_target": l(t.IP), "instance": l(t.IP),
			}},
			Labels: model.LabelSet{"job": jobPing, "cls": l(t.Cluster), "ins": l(t.Member), "ip": l(t.IP)},
		})
	}
	return all
}
