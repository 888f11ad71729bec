package listen

import (
	"net"
	"path/filepath"
	"strconv"

	"howdah/cluster"
	"howdah/spec"
)

// Stats is the name of the socket of the statistics page.
const Stats = "stats"

// Pool is the name of the socket of the node's own pool.
const Pool = "pool"

// PoolMetrics is the name of the socket where the pools' metrics are.
const PoolMetrics = "pool metrics"

// Name is what the listener of a service is called: demo-primary.
func Name(f spec.Front, s cluster.Service) string { return f.Cluster + "-" + s.Name }

// SocketOf is the unix socket over which the gateway of n gives its listening
// sockets back to a new supervisor.
func SocketOf(n spec.Node) string { return filepath.Join(n.Paths.Run, "gateway.sock") }

// Gateway are the places where the gateway of n listens.
func Gateway(n spec.Node) []Place {
	var all []Place
	for _, f := range n.Gateway.Fronts {
		for _, s := range f.Services {
			all = append(all, Place{Name(f, s), s.IP, s.Port})
		}
	}
	for _, at := range []struct{ name, addr string }{{Pool, n.Pool.Listen}, {Stats, n.Gateway.Listen}, {PoolMetrics, n.Pool.Exporter}} {
		if host, port, err := net.SplitHostPort(at.addr); err == nil {
			if number, err := strconv.Atoi(port); err == nil {
				all = append(all, Place{at.name, host, number})
			}
		}
	}
	return all
}
