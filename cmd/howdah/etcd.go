package main

import (
	"context"

	"howdah/dcs/embed"
	"howdah/nodefile"
	"howdah/problem"
)

func serveEtcd(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	if n.Etcd.Member == "" {
		return &problem.Error{
			Code: "etcd-elsewhere", What: "cannot serve etcd on " + n.Member,
			Why: "this node carries no member of the store", Do: "start it on a node that does",
		}
	}
	return embed.Run(ctx, n, logger(n))
}
