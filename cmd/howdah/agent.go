package main

import (
	"context"

	"howdah/ha/agent"
	"howdah/nodefile"
)

func runAgent(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	return agent.Run(ctx, n, logger(n))
}
