package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"howdah/api"
	"howdah/control"
	"howdah/ha/agent"
	"howdah/lease"
	"howdah/lifecycle"
	"howdah/node"
	"howdah/node/process"
	"howdah/nodefile"
	"howdah/pki"
	"howdah/spec"
)

func runAgent(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	log := logger(n)
	rest, err := restOf(n, log)
	if err != nil {
		return err
	}
	process.Threads(8) // as many as it comes to use: none is left for the runtime's watcher to make
	leave, stop := toLeave()
	defer stop()
	return agent.Run(ctx, leave, n, log, rest)
}

// toLeave is closed once this process is told to leave what it does to a successor.
func toLeave() (leave chan struct{}, stop func()) {
	left := make(chan os.Signal, 1)
	signal.Notify(left, node.Leave)
	leave = make(chan struct{})
	go func() {
		<-left
		close(leave)
	}()
	return leave, func() { signal.Stop(left) }
}

// restOf is the agent's REST interface.
func restOf(n spec.Node, log *slog.Logger) (agent.Door, error) {
	o := api.Options{
		Node: n, Boot: lease.Now, Log: log,
		Page: func() api.Right {
			p, ok := lease.Read(n.Paths.Page)
			if !ok || p.Role != lease.Primary {
				return api.Right{}
			}
			return api.Right{Epoch: p.Epoch, Deadline: p.Deadline}
		},
	}
	var err error
	if n.TLS.Cert != "" {
		if o.Peers, err = pki.Open(n.TLS); err != nil {
			return nil, err
		}
	}
	if name := n.Agent.REST.Secret; name != "" {
		all, err := nodefile.Secrets(n)
		if err != nil {
			return nil, err
		}
		o.Password = all[name]
	}
	return func(in agent.Inside) lifecycle.Part {
		o.Shown, o.Cluster, o.Agree = in.Shown, control.On(n.Cluster, in.Store, n), in.Agree
		return lifecycle.Part{Name: "api", Run: api.New(o).Run, Grace: 2 * time.Second}
	}, nil
}
