package embed

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"howdah/problem"
	"howdah/spec"
)

const (
	defaultQuota   = 512 << 20
	defaultCompact = time.Hour
)

// config translates a node's share into etcd's own configuration.
func config(node spec.Node, log *logger) (*embed.Config, error) {
	e := node.Etcd
	i := slices.IndexFunc(e.Members, func(m spec.EtcdMember) bool { return m.Name == e.Member })
	if i < 0 {
		return nil, &problem.Error{
			Code: "etcd-member-unknown",
			What: "cannot start etcd member " + e.Member,
			Why:  "it is not among the members of its own cluster",
			Do:   "set the node up again from its inventory",
		}
	}
	self := e.Members[i]
	client, err := url.Parse(self.Client)
	if err != nil {
		return nil, fmt.Errorf("client address of etcd member %s: %w", self.Name, err)
	}
	peer, err := url.Parse(self.Peer)
	if err != nil {
		return nil, fmt.Errorf("peer address of etcd member %s: %w", self.Name, err)
	}
	var initial []string
	for _, m := range e.Members {
		initial = append(initial, m.Name+"="+m.Peer)
	}

	c := embed.NewConfig()
	c.Name = self.Name
	c.Dir = e.Data
	c.AdvertiseClientUrls, c.ListenClientUrls = []url.URL{*client}, []url.URL{bind(*client, node.Address)}
	c.AdvertisePeerUrls, c.ListenPeerUrls = []url.URL{*peer}, []url.URL{bind(*peer, node.Address)}
	c.InitialCluster = strings.Join(initial, ",")
	c.InitialClusterToken = "howdah"
	c.ClusterState = embed.ClusterStateFlagNew // ignored once there is data
	// At the least the leader is missed after half a second: a stall of the disk or
	// the scheduler shorter than that does not elect. Heartbeats are most of what an
	// idle node does: docs/decisions/2026-11-21-an-idle-store.md.
	c.TickMs, c.ElectionMs = uint(e.Beats().Milliseconds()), uint(e.Misses().Milliseconds())
	c.PreVote = true           // without it a member that comes back unseats a healthy leader
	c.EnableGRPCGateway = true // Patroni and patronictl speak etcd's API through it
	c.QuotaBackendBytes = e.Quota
	if c.QuotaBackendBytes == 0 {
		c.QuotaBackendBytes = defaultQuota
	}
	compact := e.Compact
	if compact == 0 {
		compact = defaultCompact
	}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, compact.String()
	// Our keys are few and small and change about once a second: a short log in
	// memory is enough for a member to catch up.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 10_000, 2_000
	c.WarningApplyDuration = 500 * time.Millisecond
	c.WarningUnaryRequestDuration = time.Second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log.zap())
	c.LogLevel = "warn"
	// Stopping waits for requests that run, so that none reads a closed database.
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.WaitForHandlers(true)}

	if node.TLS.Cert != "" {
		tls := transport.TLSInfo{
			CertFile:       node.TLS.Cert,
			KeyFile:        node.TLS.Key,
			TrustedCAFile:  node.TLS.CA,
			ClientCertAuth: true,
			// Whoever holds a certificate of this cluster is one of us; the
			// address it dials from need not be in it (several interfaces,
			// loopback).
			SkipClientSANVerify: true,
		}
		if client.Scheme == "https" {
			c.ClientTLSInfo = tls
		}
		if peer.Scheme == "https" {
			c.PeerTLSInfo = tls
		}
	}
	return c, nil
}

// bind returns the URL to listen on: etcd wants an address there, not a name.
func bind(u url.URL, address string) url.URL {
	if net.ParseIP(u.Hostname()) == nil && address != "" {
		u.Host = net.JoinHostPort(address, u.Port())
	}
	return u
}
