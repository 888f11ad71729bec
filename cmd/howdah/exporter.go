package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"howdah/cli"
	"howdah/lifecycle"
	"howdah/logkey"
	"howdah/observe/collect"
	"howdah/observe/collector"
)

// runPgExporter is pg_exporter, the program.
func runPgExporter(ctx context.Context, o cli.Exporter) error {
	log := exporterLog(o)
	path, err := collect.Find(o.Config)
	if err != nil {
		return err
	}
	load := func() ([]collector.Collector, error) { return collect.Load(path, log) }
	if o.DryRun {
		all, err := load()
		if err != nil {
			return err
		}
		for _, c := range all {
			fmt.Printf("%s: %s\n  ttl %s, timeout %s, versions [%d, %d), tags %s\n  exports %s\n",
				c.Branch, cmp.Or(c.Desc, c.Name), c.TTL, c.Timeout, c.Min, c.Max, strings.Join(c.Tags, " "), strings.Join(c.Families(), " "))
		}
		return nil
	}
	e, err := collect.New(collect.Options{
		URL: cmp.Or(o.URL, "postgresql:///?sslmode=disable"), Load: load, Labels: o.Labels, Tags: o.Tags,
		NoCache: o.NoCache, NoIntro: o.NoIntro, Ahead: true, Discover: o.Discover, Exclude: o.Exclude, Include: o.Include,
		Namespace: o.Namespace, Connect: o.Connect, Build: exporterBuild(), Log: log,
	})
	if err != nil {
		return err
	}
	if o.Explain || o.FailFast {
		text, err := e.Explain(ctx)
		if err != nil {
			return err
		}
		if o.Explain {
			fmt.Print(text)
			return nil
		}
	}
	return lifecycle.Run(ctx, exporterParts(e, o.Listen, o.Path, log)...)
}

// exporterParts are an exporter and what makes it answer.
func exporterParts(e *collect.Exporter, listen, path string, log *slog.Logger) []lifecycle.Part {
	reload := make(chan os.Signal, 1)
	return []lifecycle.Part{
		{Name: "exporter", Run: e.Run, Grace: 3 * time.Second},
		{Name: "reload", Grace: time.Second, Run: func(ctx context.Context) error {
			signal.Notify(reload, syscall.SIGHUP, syscall.SIGUSR1)
			defer signal.Stop(reload)
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-reload:
					if err := e.Reload(ctx); err != nil {
						log.Error("collectors not loaded", logkey.Error, err)
					}
				}
			}
		}},
		{Name: "metrics", Grace: 2 * time.Second, Run: func(ctx context.Context) error {
			return collect.Serve(ctx, listen, e.Handler(path), log)
		}},
	}
}

func exporterBuild() collect.Build {
	v := built()
	return collect.Build{Version: v.Version, Revision: v.Commit, Date: v.At, Go: v.Go}
}

func exporterLog(o cli.Exporter) *slog.Logger {
	h := &slog.HandlerOptions{}
	switch strings.ToLower(o.Level) {
	case "debug":
		h.Level = slog.LevelDebug
	case "warn", "warning":
		h.Level = slog.LevelWarn
	case "error":
		h.Level = slog.LevelError
	}
	if o.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, h))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, h))
}
