package main

import (
	"context"

	"howdah/access/vip/hold"
	"howdah/nodefile"
)

// runVIP is the role that holds the virtual address.
func runVIP(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	return hold.Run(ctx, n, logger(n))
}
