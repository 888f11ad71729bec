package embed

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A logger is etcd's (zap) log, written to ours. Warnings and worse only:
// etcd tells some thirty things about itself at every start.
type logger struct {
	to    *slog.Logger
	quiet atomic.Bool // while stopping, when its listeners complain about being closed
}

func (l *logger) zap() *zap.Logger { return zap.New(&core{logger: l}) }

// core implements zapcore.Core.
type core struct {
	*logger
	with []zapcore.Field
}

func (c *core) Enabled(level zapcore.Level) bool {
	// What ends the process (DPanic and above) is never kept quiet.
	return level >= zapcore.WarnLevel && (!c.quiet.Load() || level > zapcore.ErrorLevel)
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.logger, append(c.with[:len(c.with):len(c.with)], fields...)}
}

// usual is what etcd warns of at every start; it is so on purpose here.
var usual = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true, // Patroni needs it, and our load is small
	"simple token is not cryptographically signed":                                         true, // authentication is by certificate
	"Failed to detect schema version":                                                      true, // a fresh database has none
	"failed to update storage version":                                                     true,
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !usual[e.Message] {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.with {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	attrs := make([]any, 0, 2+2*len(enc.Fields))
	attrs = append(attrs, "said", e.Message)
	for key, value := range enc.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	level := slog.LevelWarn
	if e.Level > zapcore.ErrorLevel {
		level = slog.LevelError // etcd calls much an error that heals by itself
	}
	c.to.Log(context.Background(), level, "etcd", attrs...)
	return nil
}

func (c *core) Sync() error { return nil }
