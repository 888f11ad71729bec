package main

import (
	"log/slog"
	"os"

	"howdah/logkey"
	"howdah/spec"
)

// logger is that of a role, which has a log file of its own: text on a terminal, JSON for programs when
// HOWDAH_LOG is json; HOWDAH_LOG=debug tells everything.
func logger(n spec.Node) *slog.Logger {
	o := &slog.HandlerOptions{}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, o)
	switch os.Getenv("HOWDAH_LOG") {
	case "debug":
		o.Level = slog.LevelDebug
	case "json":
		h = slog.NewJSONHandler(os.Stderr, o)
	}
	log := slog.New(h)
	if n.Member != "" {
		log = log.With(logkey.Cluster, n.Cluster, logkey.Member, n.Member)
	}
	return log
}
