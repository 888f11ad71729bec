package main

import (
	"context"

	"howdah/playground"
	"howdah/spec"
)

func keepPlayground(ctx context.Context, dir string) error {
	return playground.Keep(ctx, dir, logger(spec.Node{}))
}
