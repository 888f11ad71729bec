package main

import (
	"context"

	"howdah/node"
	"howdah/nodefile"
)

func superviseNode(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	return node.Run(ctx, n, node.Roles(n), logger(n))
}
