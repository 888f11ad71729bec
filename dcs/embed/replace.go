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

func rejoin(ctx context.Context, c *embed.Config, node spec.Node) error {
	tls, err := pki.ClientConfig(node.TLS)
	if err != nil {
		return err
	}
	var others []string
	for _, m := range node.Etcd.Members {
		if m.Name != c.Name {
			others = append(others, m.Client)
		}
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: others, TLS: tls, Logger: zap.NewNop()})
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
		return nil // it was added, and has not started since
	case i >= 0:
		if _, err := client.MemberRemove(ctx, now.Members[i].ID); err != nil {
			return fmt.Errorf("remove the member without data: %w", err)
		}
	}
	for {
		_, err := client.MemberAdd(ctx, []string{peer})
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, rpctypes.ErrUnhealthy) || ctx.Err() != nil:
			return fmt.Errorf("add the new member: %w", err)
		}
		pause(ctx, replacePause)
	}
}
