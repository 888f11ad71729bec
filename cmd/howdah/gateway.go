package main

import (
	"context"

	"howdah/access/gateway"
	"howdah/nodefile"
)

func runGateway(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	leave, stop := toLeave()
	defer stop()
	return gateway.Run(ctx, leave, n, logger(n))
}
