package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"howdah/backup/keep"
	"howdah/control"
	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/nodefile"
	"howdah/observe/collect"
	"howdah/observe/collector"
	"howdah/observe/logbook"
	"howdah/observe/logs"
	"howdah/pki"
	"howdah/postgres/kept"
	"howdah/problem"
	"howdah/spec"
)

// runJobs runs what may wait. Each part is on its own: one that fails comes
// again, and takes no other with it.
func runJobs(ctx context.Context, dir string) error {
	n, err := nodefile.Load(dir)
	if err != nil {
		return err
	}
	log := logger(n)
	var parts []lifecycle.Part
	if n.Jobs.Exporter != "" {
		parts = append(parts, exporterJob(n, log))
	}
	if n.Postgres.Data != "" {
		parts = append(parts, lifecycle.Part{Name: "what was put aside", Grace: 3 * time.Second, Run: func(ctx context.Context) error {
			return kept.Tidy(ctx, n.Paths.Dir, log)
		}})
	}
	for _, m := range n.Remotes {
		parts = append(parts, remoteJob(m, log.With("remote", m.Member)))
	}
	if n.Backup.Repo != "" {
		var keeper atomic.Pointer[keep.Keeper]
		parts = append(parts, lifecycle.Part{Name: "backup", Grace: 3 * time.Second, Run: func(ctx context.Context) error {
			k, err := keep.New(n, log)
			if err != nil {
				return err
			}
			k.Rehearse = control.Rehearser(n)
			keeper.Store(k)
			return k.Run(ctx)
		}})
		if n.Jobs.Backups != "" {
			v := built()
			parts = append(parts, told("metrics of backups", n.Jobs.Backups, log, func(ctx context.Context) []byte {
				k := keeper.Load()
				if k == nil {
					return nil // the part above says why
				}
				return k.Metrics(ctx, keep.Build{Version: v.Version, Revision: v.Commit, Go: v.Go})
			}))
		}
	}
	if n.Jobs.Host != "" {
		h := collect.NewHost("/")
		parts = append(parts, told("metrics of the host", n.Jobs.Host, log, h.Metrics))
	}
	var meter logs.Meter
	if n.Logs.Data != "" {
		parts = append(parts, lifecycle.Part{Name: "logs", Grace: 2 * time.Second, Run: func(ctx context.Context) error { return logs.Keep(ctx, n, &meter, log) }})
	}
	for _, to := range n.Logs.Ship {
		parts = append(parts, lifecycle.Part{Name: "logs to a log store", Grace: 2 * time.Second, Run: func(ctx context.Context) error { return logs.Ship(ctx, n, to, &meter, log) }})
	}
	if n.Logs.Listen != "" {
		parts = append(parts, lifecycle.Part{Name: "logs for other machines, and their metrics", Grace: 2 * time.Second, Run: func(ctx context.Context) error {
			peers, err := pki.Open(n.TLS)
			if err != nil {
				return err
			}
			of := logs.Place{Source: logbook.Source{Cluster: n.Cluster, Member: n.Member, IP: n.Host}, Dir: n.Paths.Log, Kept: n.Logs.Data, Lenient: true}
			there, err := control.NewThere(n, socketOf(n), log)
			if err != nil {
				return err
			}
			defer there.Wait()
			mux := http.NewServeMux()
			mux.Handle("/", logs.Handler(of, log))
			there.Handle(ctx, mux)
			return logs.Serve(ctx, n.Logs.Listen, peers.Server(), mux, &meter, log)
		}})
	}
	if len(parts) == 0 {
		return &problem.Error{
			Code: "jobs-elsewhere", What: "cannot run the jobs of " + n.Member,
			Why: "this node has none", Do: "start them on a node that does",
		}
	}
	for i, p := range parts {
		parts[i] = lifecycle.Again(p, func(name string, err error, pause time.Duration) {
			log.Error("job ended", "job", name, logkey.Error, err, "again_in", pause)
		})
	}
	return lifecycle.Run(ctx, parts...)
}

// told serves metrics that tell makes when they are asked for.
func told(name, addr string, log *slog.Logger, tell func(context.Context) []byte) lifecycle.Part {
	return lifecycle.Part{Name: name, Grace: 2 * time.Second, Run: func(ctx context.Context) error {
		return collect.Serve(ctx, addr, collect.Told(tell), log)
	}}
}

// socketOf is the URL of the node's own server, as the superuser reaches it.
func socketOf(n spec.Node) string {
	return (&url.URL{Scheme: "postgres", User: url.User(spec.Superuser), Path: "/postgres", RawQuery: url.Values{
		"host": {n.Paths.Sockets}, "port": {strconv.Itoa(n.Postgres.Port)}, "sslmode": {"disable"},
	}.Encode()}).String()
}

// exporterJob serves the metrics of the node's own server, reached by its
// socket as the superuser, with the collectors that come with us.
func exporterJob(n spec.Node, log *slog.Logger) lifecycle.Part {
	return lifecycle.Part{Name: "exporter", Grace: 2 * time.Second, Run: func(ctx context.Context) error {
		e, err := collect.New(collect.Options{
			URL:      socketOf(n),
			Load:     collector.Shipped,
			Guarded:  true,
			Discover: true, Exclude: []string{"template0", "template1", "postgres"},
			Ahead: true, Connect: time.Second, Build: exporterBuild(), Log: log,
		})
		if err != nil {
			return err
		}
		return lifecycle.Run(ctx, exporterParts(e, n.Jobs.Exporter, "/metrics", log)...)
	}}
}

// remoteJob serves the metrics of a server that is not ours, as howdah pg_exporter does.
func remoteJob(m spec.RemoteServer, log *slog.Logger) lifecycle.Part {
	return lifecycle.Part{Name: "exporter of " + m.Member, Grace: 2 * time.Second, Run: func(ctx context.Context) error {
		urls, err := nodefile.Secrets(spec.Node{Cluster: m.Cluster, Paths: spec.Paths{Secrets: m.URLs}})
		if err != nil {
			return err
		}
		e, err := collect.New(collect.Options{
			URL: urls[m.Member].Reveal(), Load: collector.Shipped, Discover: m.Ask.Discover, Exclude: m.Ask.Exclude, Include: m.Ask.Include,
			Ahead: true, Connect: time.Second, Build: exporterBuild(), Log: log,
		})
		if err != nil {
			return err
		}
		return lifecycle.Run(ctx, exporterParts(e, m.Listen, "/metrics", log)...)
	}}
}
