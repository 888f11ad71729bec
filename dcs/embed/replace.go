package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.uber.org/zap"

	"howdah/logkey"
	"howdah/pki"
	"howdah/problem"
	"howdah/spec"
)

// replaceWithin bounds what the other members are asked. They refuse a change
// before they have been connected to each other for 5 s (etcdserver.HealthInterval).
const (
	replaceWithin = 10 * time.Second
	replacePause  = 250 * time.Millisecond
)

// A member that lost its data must not take up its old name again: it has voted
// and acknowledged things that it no longer knows of. It leaves the cluster and
// joins as a new member, which needs a majority of the others, and gets its data
// from them. Nothing is deleted by it: its directory is empty.

// lost says whether etcd refused to start because the others know this member as
// one with data (etcdserver/bootstrap.go, bootstrapNewClusterNoWAL).
func lost(err error) bool {
	return err != nil && strings.Contains(err.Error(), "has already been bootstrapped")
}

// leaving is the note that a replacement has begun: from there on the member may
// be unknown to the others, and must not found itself anew.
func leaving(c *embed.Config) string { return c.Dir + ".replacing" }

func replacing(c *embed.Config) bool {
	_, err := os.Stat(leaving(c))
	return err == nil
}

// replace makes the others take this member for a new one, and c that of a
// member that joins them. It is harmless to repeat.
func replace(ctx context.Context, c *embed.Config, node spec.Node, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, replaceWithin)
	defer cancel()
	err := os.WriteFile(leaving(c), nil, 0o600)
	if err == nil {
		err = rejoin(ctx, c, node)
	}
	if err != nil {
		return &problem.Error{
			Code: "etcd-data-lost",
			What: "cannot start etcd member " + c.Name,
			Why:  "its data directory " + c.Dir + " is empty, the others know it as a member with data, and a majority of them did not agree to take it for a new one",
			Do:   "put the data back (is its disk mounted?), or start the other members: then it joins them anew by itself",
			Err:  err,
		}
	}
	c.ClusterState = embed.ClusterStateFlagExisting
	log.Warn("etcd member lost its data and joins anew", logkey.Path, c.Dir)
	return nil
}

// others is a client of the other members.
func others(node spec.Node) (*clientv3.Client, error) {
	tls, err := pki.ClientConfig(node.TLS)
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, m := range node.Etcd.Members {
		if m.Name != node.Etcd.Member {
			urls = append(urls, m.Client)
		}
	}
	return clientv3.New(clientv3.Config{Endpoints: urls, TLS: tls, Logger: zap.NewNop()})
}

func rejoin(ctx context.Context, c *embed.Config, node spec.Node) error {
	client, err := others(node)
	if err != nil {
		return err
	}
	defer client.Close()
	now, err := client.MemberList(ctx) // from a majority
	if err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	peer := c.AdvertisePeerUrls[0].String()
	i := slices.IndexFunc(now.Members, func(m *pb.Member) bool { return slices.Contains(m.PeerURLs, peer) })
	switch {
	case i >= 0 && now.Members[i].Name == "":
		joins(c, now.Members) // it was added, and has not started since
		return nil
	case i >= 0:
		if _, err := client.MemberRemove(ctx, now.Members[i].ID); err != nil {
			return fmt.Errorf("remove the member without data: %w", err)
		}
	}
	for {
		// It votes once it has what the others have: until then it can not keep
		// them from a majority.
		added, err := client.MemberAddAsLearner(ctx, []string{peer})
		switch {
		case err == nil:
			joins(c, added.Members)
			return nil
		case !errors.Is(err, rpctypes.ErrUnhealthy) && !errors.Is(err, rpctypes.ErrTooManyLearners) || ctx.Err() != nil:
			return fmt.Errorf("add the new member: %w", err)
		}
		pause(ctx, replacePause)
	}
}

// joins tells c who there is: those and no others, or it does not start
// (membership.ValidateClusterAndAssignIDs). Its own description may know of some who
// have not joined yet. Members are told apart by their addresses.
func joins(c *embed.Config, members []*pb.Member) {
	var all []string
	for _, m := range members {
		name := m.Name
		switch {
		case slices.Contains(m.PeerURLs, c.AdvertisePeerUrls[0].String()):
			name = c.Name
		case name == "":
			name = fmt.Sprintf("%x", m.ID)
		}
		for _, url := range m.PeerURLs {
			all = append(all, name+"="+url)
		}
	}
	c.InitialCluster = strings.Join(all, ",")
}

// promote has a member that learns become one that votes, as soon as its data are
// those of the others, whether or not it joined in this life.
func promote(ctx context.Context, s *etcdserver.EtcdServer, node spec.Node, log *slog.Logger) {
	select {
	case <-s.ReadyNotify():
	case <-s.StopNotify():
		return
	case <-ctx.Done():
		return
	}
	if !s.IsLearner() {
		return
	}
	client, err := others(node)
	if err != nil {
		log.Error("etcd member does not vote", logkey.Error, err)
		return
	}
	defer client.Close()
	for s.IsLearner() && ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.MemberPromote(try, uint64(s.MemberID()))
		cancel()
		if err == nil {
			log.Info("etcd member votes", logkey.Member, node.Etcd.Member)
			return
		}
		pause(ctx, replacePause)
	}
}
