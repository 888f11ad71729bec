package main

import (
	"context"
	"path/filepath"
	"time"

	"howdah/lifecycle"
	"howdah/logkey"
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
	return node.Run(ctx, []spec.Node{n}, logger(n))
}

// runMachine runs what host has of the world, in dir.
func runMachine(ctx context.Context, dir, host string, w spec.World) error {
	nodes, err := machine.Take(dir, host, w)
	if err != nil {
		return err
	}
	_ = process.Settle() // before the guards lock what is there; without it all is as before
	whose := spec.Node{} // of several each says its own
	if len(nodes) == 1 {
		whose = nodes[0]
	}
	for _, n := range nodes {
		if n.Observe.Console != "" { // a log is no place for a password
			logger(n).Info("console", logkey.Addr, "https://"+n.Observe.Console, "password_in", n.Observe.Secrets)
		}
	}
	run := filepath.Dir(nodes[0].Paths.Run)
	return node.Run(ctx, nodes, logger(whose), node.Forsaken(run, nodes, logger(whose)), lifecycle.Again(lifecycle.Part{
		Name: "certificates", Grace: time.Second,
		Run: func(ctx context.Context) error { return machine.KeepCertified(ctx, dir, nodes, logger(whose)) },
	}, func(name string, err error, pause time.Duration) {
		logger(whose).Error("part of the supervisor ended", "part", name, logkey.Error, err, "again_in", pause)
	}))
}
