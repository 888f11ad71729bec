package main

import (
	"context"

	"howdah/machine"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/spec"
)

func superviseNode(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	_ = process.Settle() // before the guard locks what is there; without it all is as before
	return node.Run(ctx, n, node.Roles(n), logger(n))
}

// runMachine runs what host has of the world, in dir.
func runMachine(ctx context.Context, dir, host string, w spec.World) error {
	n, err := machine.Take(dir, host, w)
	if err != nil {
		return err
	}
	_ = process.Settle() // before the guard locks what is there; without it all is as before
	return node.Run(ctx, n, node.Roles(n), logger(n))
}
